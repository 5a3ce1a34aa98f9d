//! The thread of the store: all jobs that wait at once, and order when there is time.

use std::time::Duration;
use std::{fmt, io};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::Store;
use crate::clock::Clock;
use crate::server::credentials::Appender;
use crate::server::state::{ConnId, Record};
use crate::wire::Letter;
use crate::wire::name::UserName;

/// How long nothing comes for the store before it deletes what was read.
const REST: Duration = Duration::from_secs(1);

/// The least time between two complaints in the log, in milliseconds; others are counted.
const COMPLAINT_PAUSE: i64 = 1000;

/// What the hub wants done, in this order: write, read, enrol.
#[derive(Debug, Default)]
pub struct Job {
    /// Stored as a whole or not at all.
    pub records: Vec<Record>,
    /// Pages to read afterwards: whose mailbox, and above which number.
    pub fetches: Vec<(ConnId, UserName, u64)>,
    /// Accounts to append to Credentials.txt: who asks, the name, the password.
    pub enrolments: Vec<(ConnId, UserName, String)>,
}

impl Job {
    /// Takes over all of another job; it comes after this one.
    pub(in crate::server) fn append(&mut self, other: &mut Self) {
        if self.is_empty() {
            return std::mem::swap(self, other);
        }
        let Self { records, fetches, enrolments } = other;
        self.records.append(records);
        self.fetches.append(fetches);
        self.enrolments.append(enrolments);
    }

    pub(in crate::server) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.fetches.is_empty() && self.enrolments.is_empty()
    }

    /// Whether anybody's answer waits for it.
    pub(in crate::server) fn is_awaited(&self) -> bool {
        !self.fetches.is_empty() || !self.enrolments.is_empty() || self.records.iter().any(Record::is_awaited)
    }

    /// The report of a store that does nothing any more.
    pub(in crate::server) fn refused(self) -> Report {
        Report {
            jobs: 1,
            records: self.records.len(),
            stored: false,
            pages: self.fetches.into_iter().map(|(conn, ..)| (conn, None)).collect(),
            enrolled: self.enrolments.into_iter().map(|(conn, ..)| (conn, false)).collect(),
        }
    }
}

/// What became of one or more [`Job`]s that were done together.
#[derive(Debug, Default)]
pub struct Report {
    /// How many jobs.
    pub jobs: usize,
    /// How many records they had.
    pub records: usize,
    /// Whether all of them are on the disk; otherwise none is.
    pub stored: bool,
    /// The pages in the order of the jobs; `None` where reading failed.
    pub pages: Vec<(ConnId, Option<Vec<Letter>>)>,
    /// Whether the accounts are on the disk, in the order of the jobs.
    pub enrolled: Vec<(ConnId, bool)>,
}

/// Does jobs until the hub sends no more, or `report` answers `false`: nobody listens. What has come
/// while the last ones were done is done together, so one sync carries all of it.
///
/// Without `accounts` new users last until the stop, and every enrolment succeeds.
pub fn run(mut store: Store, accounts: Option<Appender>, jobs: Receiver<Job>, report: impl Fn(Report) -> bool) {
    let clock = Clock::start();
    let mut complaints = Complaints::default();
    while let Some(mut job) = next_job(&mut store, &jobs) {
        let mut count = 1;
        for mut next in jobs.try_iter() {
            job.append(&mut next);
            count += 1;
        }
        let Job { records, fetches, enrolments } = job;
        let stored = store.commit(&records);
        if let Err(error) = &stored {
            complaints.say(clock.now().elapsed, format_args!("{} records NOT stored: {error}", records.len()));
        }
        let mut pages = Vec::with_capacity(fetches.len());
        for (conn, user, after) in fetches {
            let page = store.page(&user, after);
            if let Err(error) = &page {
                complaints.say(clock.now().elapsed, format_args!("the mailbox of {user} cannot be read: {error}"));
            }
            pages.push((conn, page.ok()));
        }
        let enrolment = enrol(accounts.as_ref(), &enrolments);
        if let Err(error) = &enrolment {
            let count = enrolments.len();
            complaints.say(clock.now().elapsed, format_args!("{count} new accounts NOT stored: {error}"));
        }
        let enrolled = enrolments.iter().map(|&(conn, ..)| (conn, enrolment.is_ok())).collect();
        if !report(Report { jobs: count, records: records.len(), stored: stored.is_ok(), pages, enrolled }) {
            break;
        }
    }
    tidy(&mut store);
}

/// The next job, or `None` if there will be none; meanwhile what was read is deleted.
fn next_job(store: &mut Store, jobs: &Receiver<Job>) -> Option<Job> {
    if store.has_read() {
        match jobs.recv_timeout(REST) {
            Ok(job) => return Some(job),
            Err(RecvTimeoutError::Timeout) => tidy(store),
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
    jobs.recv().ok()
}

fn tidy(store: &mut Store) {
    if let Err(error) = store.sweep() {
        log::warn!("what was read stays in the store for now: {error}");
    }
}

fn enrol(accounts: Option<&Appender>, enrolments: &[(ConnId, UserName, String)]) -> io::Result<()> {
    match accounts {
        Some(appender) if !enrolments.is_empty() => {
            appender.append_all(enrolments.iter().map(|(_, name, password)| (name, password.as_str())))
        }
        _ => Ok(()),
    }
}

/// Keeps a full disk from filling the log: thousands of batches a second may fail.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    /// From when on the next one is said, on the scale of the caller.
    quiet_until: i64,
    unsaid: u64,
}

impl Complaints {
    /// Whether the complaint was said.
    pub(super) fn say(&mut self, now: i64, complaint: fmt::Arguments<'_>) -> bool {
        if now < self.quiet_until {
            self.unsaid += 1;
            return false;
        }
        match self.unsaid {
            0 => log::error!("{complaint}"),
            unsaid => log::error!("{complaint} (and {unsaid} more complaints since the last one)"),
        }
        *self = Self { quiet_until: now.saturating_add(COMPLAINT_PAUSE), unsaid: 0 };
        true
    }
}
