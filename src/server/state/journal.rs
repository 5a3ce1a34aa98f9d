//! What waits for the disk: one entry per record, in the order in which they were handed out.

use std::collections::VecDeque;

use super::roster::UserId;
use super::{ConnId, Effect, Notice, Record, State};
use crate::wire::{Ago, Refusal, Tag};

/// Records that may wait for the disk before requests are answered "busy".
const RECORDS_MAX: usize = 10_000;

/// Bytes of records that may wait for the disk before requests are answered "busy".
const RECORDS_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Records kept for another try after the disk refused them; more are given up.
const RETRIES_MAX: usize = 10_000;

/// Records on their way.
#[derive(Debug, Default)]
pub(super) struct Journal {
    entries: VecDeque<Entry>,
    /// How many of them stand for something, and what these cost.
    promised: usize,
    bytes: usize,
    /// Refused by the disk, and not to be given up.
    retries: Vec<Record>,
}

/// What to do when a record is stored, or is not.
#[derive(Debug)]
struct Entry {
    /// Whose output waits for it: the asker, and after a dead link the asker once more.
    askers: Askers,
    /// The line of our client that asked for it.
    line: Option<(UserId, Tag)>,
    cost: usize,
    promise: Promise,
}

/// Mostly one, seldom none, hardly ever more.
type Askers = (Option<ConnId>, Vec<ConnId>);

/// What the record means to somebody.
#[derive(Debug)]
pub(super) enum Promise {
    /// Nothing: nobody waits for it.
    Quiet,
    /// To be tried again until it is stored.
    Retry(Box<Record>),
    /// A message in the mailbox of `to`. `absent`: the sender is told that it waits there.
    Message { to: UserId, bytes: usize, absent: Option<Option<Ago>> },
    /// `by` blocks `whom`.
    Block { by: UserId, whom: UserId },
    /// `by` no longer blocks `whom`.
    Unblock { by: UserId, whom: UserId },
}

impl Journal {
    /// Whether no more requests may be taken that need the disk.
    pub(super) fn is_full(&self) -> bool {
        self.promised >= RECORDS_MAX || self.bytes >= RECORDS_BYTES_MAX
    }

    /// Whether everything has been reported.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn push(&mut self, asker: Option<ConnId>, line: Option<(UserId, Tag)>, cost: usize, promise: Promise) {
        self.promised += usize::from(cost > 0);
        self.bytes += cost;
        self.entries.push_back(Entry { askers: (asker, Vec::new()), line, cost, promise });
    }

    fn take(&mut self, records: usize) -> Vec<Entry> {
        let taken: Vec<Entry> = self.entries.drain(..records.min(self.entries.len())).collect();
        for entry in &taken {
            self.promised -= usize::from(entry.cost > 0);
            self.bytes -= entry.cost;
        }
        taken
    }
}

impl State {
    /// Stores a record; the output of `asker` waits behind it for the answer.
    pub(super) fn store(
        &mut self,
        record: Record,
        asker: Option<ConnId>,
        line: Option<(UserId, Tag)>,
        promise: Promise,
    ) {
        self.journal.push(asker, line, record.cost(), promise);
        self.effects.push(Effect::Store(record));
        if let Some(conn) = asker {
            self.hold(conn);
        }
    }

    /// Stores a record that stands for nothing; if it is lost, nobody was promised anything.
    pub(super) fn store_quietly(&mut self, record: Record) {
        self.journal.push(None, None, 0, Promise::Quiet);
        self.effects.push(Effect::Store(record));
    }

    /// Stores a record that is tried again whenever the disk refuses it.
    pub(super) fn store_retrying(&mut self, record: Record, asker: Option<ConnId>) {
        let promise = Promise::Retry(Box::new(record.clone()));
        self.store(record, asker, None, promise);
    }

    /// The same line has come again before its record was stored: this connection waits too.
    pub(super) fn await_line(&mut self, conn: ConnId, user: UserId, tag: Tag) {
        if let Some(entry) = self.journal.entries.iter_mut().find(|entry| entry.line == Some((user, tag))) {
            entry.askers.1.push(conn);
            self.hold(conn);
        }
    }

    /// The oldest records are on the disk: everybody gets the answer that waited for it.
    pub(super) fn committed(&mut self, records: usize) {
        for entry in self.journal.take(records) {
            let answer = self.answer(&entry.promise);
            if let Some((user, tag)) = entry.line {
                self.roster[user].lines.done(tag, answer.clone());
            }
            self.release(entry.askers, answer);
        }
    }

    /// The oldest records are not stored: what they stood for is undone, the latest first, and
    /// everybody is told so.
    pub(super) fn store_failed(&mut self, records: usize) {
        let mut entries = self.journal.take(records);
        for entry in entries.iter_mut().rev() {
            self.undo(&mut entry.promise);
        }
        for entry in entries {
            if let Some((user, tag)) = entry.line {
                self.roster[user].lines.forget(tag);
            }
            let told = !matches!(entry.promise, Promise::Quiet | Promise::Retry(_));
            let answer = told.then_some(Notice::Refused(Refusal::DiskFailed));
            self.release(entry.askers, answer);
        }
    }

    fn hold(&mut self, conn: ConnId) {
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.holds += 1;
        }
        self.effects.push(Effect::Hold(conn));
    }

    fn release(&mut self, (asker, again): Askers, answer: Option<Notice>) {
        for conn in asker.into_iter().chain(again) {
            if let Some(session) = self.sessions.get_mut(&conn) {
                session.holds = session.holds.saturating_sub(1);
            }
            self.effects.push(Effect::Release(conn, answer.clone()));
        }
    }

    /// Stores again what the disk refused.
    pub(super) fn retry_records(&mut self) {
        for record in std::mem::take(&mut self.journal.retries) {
            self.store_retrying(record, None);
        }
    }

    fn answer(&self, promise: &Promise) -> Option<Notice> {
        match *promise {
            Promise::Quiet | Promise::Retry(_) => None,
            Promise::Message { absent: None, .. } => None,
            Promise::Message { to, absent: Some(seen), .. } => {
                Some(Notice::Stored { to: self.roster[to].name.clone(), seen })
            }
            Promise::Block { whom, .. } => Some(Notice::Blocked(self.roster[whom].name.clone())),
            Promise::Unblock { whom, .. } => Some(Notice::Unblocked(self.roster[whom].name.clone())),
        }
    }

    fn undo(&mut self, promise: &mut Promise) {
        match promise {
            Promise::Quiet => {}
            Promise::Retry(record) => {
                if self.journal.retries.len() < RETRIES_MAX {
                    let nothing = Box::new(Record::Heartbeat { wall: 0 });
                    // Undone latest first; `retry_records` wants the order of the first try.
                    self.journal.retries.insert(0, *std::mem::replace(record, nothing));
                }
            }
            Promise::Message { to, bytes, .. } => self.roster[*to].mailbox.forget(1, *bytes),
            Promise::Block { by, whom } => {
                self.roster[*by].blocks.remove(whom);
            }
            Promise::Unblock { by, whom } => {
                self.roster[*by].blocks.insert(*whom);
            }
        }
    }
}
