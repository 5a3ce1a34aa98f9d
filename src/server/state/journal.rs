//! What waits for the disk: one entry per record, in the order in which they were handed out.

use std::collections::{BTreeSet, VecDeque};

use super::groups::Pending;
use super::lines::Fate;
use super::roster::{User, UserId};
use super::unconfirmed::Stored;
use super::{ConnId, Effect, Notice, Record, State};
use crate::wire::{Letter, Refusal, Tag};

/// Records that may wait for the disk before requests are answered "busy".
const RECORDS_MAX: usize = 10_000;

/// Bytes of records that may wait for the disk before requests are answered "busy".
const RECORDS_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Returned messages kept for another try after the disk refused them; more are given up.
const RETRIES_MAX: usize = 10_000;

/// Records on their way.
#[derive(Debug, Default)]
pub(super) struct Journal {
    entries: VecDeque<Entry>,
    /// How many of them stand for something, and what these cost.
    promised: usize,
    bytes: usize,
    /// Mail that was read, and that the disk did not forget: whose.
    unforgotten: BTreeSet<UserId>,
    /// Returned messages that the disk refused, and for whom.
    unreturned: Vec<(UserId, Letter, Stored)>,
    /// Receipts that the store does not hold as they are: whose, and from whom.
    unreceipted: BTreeSet<(UserId, UserId)>,
}

/// What to do when a record is stored, or is not.
#[derive(Debug)]
struct Entry {
    /// Whose output waits for it.
    asker: Option<ConnId>,
    /// The line of our client that asked for it.
    line: Option<(UserId, Tag)>,
    cost: usize,
    promise: Promise,
}

/// What the record means to somebody.
#[derive(Debug)]
pub(super) enum Promise {
    /// Nothing: nobody waits for it.
    Quiet,
    /// The answer to a line that came again while an earlier record waited for the disk.
    Repeat(UserId, Tag),
    /// What was read, up to this number, is forgotten; tried again until it is.
    Forget(UserId, u64),
    /// A text that was not confirmed is back in the mailbox; tried again until it is.
    Return(UserId, Letter, Stored),
    /// A receipt is kept or forgotten: whose, and from whom; tried again until it is.
    Receipt(UserId, UserId),
    /// A message in the mailboxes of `to`, and what the sender is told. Others have perhaps got it
    /// at once: then his line has had an effect, whatever the disk does.
    Message { to: Vec<UserId>, bytes: usize, answer: Option<Notice>, some_have_it: bool },
    /// `by` blocks `whom`, or no longer does.
    Block { by: UserId, whom: UserId, blocked: bool },
    /// A group is not as it was.
    Group(Box<Pending>),
}

impl Promise {
    fn group(&self) -> Option<&Pending> {
        if let Self::Group(pending) = self { Some(pending) } else { None }
    }
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

    /// Whether a text of this mailbox is on neither disk nor screen; newer ones must not overtake it.
    pub(super) fn owes_return(&self, user: UserId) -> bool {
        self.unreturned.iter().any(|(owner, ..)| *owner == user)
    }

    fn push(&mut self, asker: Option<ConnId>, line: Option<(UserId, Tag)>, cost: usize, promise: Promise) {
        self.promised += usize::from(cost > 0);
        self.bytes += cost;
        self.entries.push_back(Entry { asker, line, cost, promise });
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

    /// Deletes from the store what `user` has read; `asker` waits until that is certain.
    pub(super) fn forget_mail(&mut self, user: UserId, asker: Option<ConnId>) {
        let User { name, mailbox, .. } = &self.roster[user];
        let upto = mailbox.confirmed;
        let record = Record::Confirmed { user: name.clone(), upto };
        self.store(record, asker, None, Promise::Forget(user, upto));
    }

    /// Puts a text that was not confirmed into the mailbox of `user`.
    pub(super) fn return_letter(&mut self, user: UserId, letter: Letter, stored: Stored) {
        let to = self.roster[user].name.clone();
        let record = Record::Message { to: vec![to], letter: letter.clone(), tag: None };
        self.store(record, None, None, Promise::Return(user, letter, stored));
    }

    /// The same line has come again before its record was stored. Its answer waits behind those
    /// that this connection waits for already, whatever the order of their records.
    pub(super) fn await_line(&mut self, conn: ConnId, user: UserId, tag: Tag) {
        self.store(Record::Nothing, Some(conn), None, Promise::Repeat(user, tag));
    }

    /// The oldest records are on the disk: everybody gets the answer that waited for it.
    pub(super) fn committed(&mut self, records: usize) {
        for entry in self.journal.take(records) {
            let answer = self.keep_promise(&entry.promise);
            if let Some((user, tag)) = entry.line {
                self.roster[user].lines.done(tag, answer.clone());
            }
            self.release(entry.asker, answer);
        }
    }

    /// The oldest records are not stored: what they stood for is undone, the latest first, and
    /// everybody is told so.
    pub(super) fn store_failed(&mut self, records: usize) {
        let entries = self.journal.take(records);
        for entry in entries.iter().rev() {
            self.undo(&entry.promise);
        }
        if entries.iter().any(|entry| entry.promise.group().is_some()) {
            self.groups.start_over(self.journal.entries.iter().filter_map(|entry| entry.promise.group()));
        }
        for entry in entries {
            if let Some((user, tag)) = entry.line {
                let lines = &mut self.roster[user].lines;
                if matches!(entry.promise, Promise::Message { some_have_it: true, .. }) {
                    lines.done(tag, Some(Notice::Refused(Refusal::DiskFailed)));
                } else {
                    lines.forget(tag);
                }
            }
            let answer = match entry.promise {
                Promise::Message { .. } | Promise::Block { .. } | Promise::Group(_) => {
                    Some(Notice::Refused(Refusal::DiskFailed))
                }
                Promise::Quiet | Promise::Forget(..) | Promise::Receipt(..) => None,
                Promise::Repeat(user, tag) => self.fate(user, tag),
                Promise::Return(user, letter, stored) => {
                    // What the store holds all the same has only lost the mark of a repetition.
                    let is_there = match stored {
                        Stored::No => false,
                        Stored::Yes | Stored::ReadElsewhere => true,
                        Stored::Leaving => letter.number > self.roster[user].mailbox.deleted,
                    };
                    if !is_there && self.journal.unreturned.len() < RETRIES_MAX {
                        self.journal.unreturned.push((user, letter, stored));
                    }
                    None
                }
            };
            self.release(entry.asker, answer);
        }
    }

    fn hold(&mut self, conn: ConnId) {
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.holds += 1;
        }
        self.effects.push(Effect::Hold(conn));
    }

    fn release(&mut self, asker: Option<ConnId>, answer: Option<Notice>) {
        let Some(conn) = asker else { return };
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.holds = session.holds.saturating_sub(1);
        }
        self.effects.push(Effect::Release(conn, answer));
    }

    /// What became of a line whose record came before.
    fn fate(&self, user: UserId, tag: Tag) -> Option<Notice> {
        match self.roster[user].lines.find(tag) {
            Some(Fate::Done(answer)) => answer.clone(),
            _ => Some(Notice::Refused(Refusal::DiskFailed)),
        }
    }

    /// Tries again what the disk refused and nobody was told about.
    pub(super) fn retry_records(&mut self) {
        for (user, letter, stored) in std::mem::take(&mut self.journal.unreturned) {
            if let Some(visit) = self.roster[user].session.and_then(|conn| self.visit(conn)) {
                visit.reading.mark_stale();
            }
            self.return_letter(user, letter, stored);
        }
        for user in std::mem::take(&mut self.journal.unforgotten) {
            self.forget_mail(user, None);
        }
        for (sender, reader) in std::mem::take(&mut self.journal.unreceipted) {
            self.store_receipt(sender, reader);
        }
    }

    /// A record is on the disk. Returns what the asker is told.
    fn keep_promise(&mut self, promise: &Promise) -> Option<Notice> {
        match promise {
            Promise::Quiet | Promise::Receipt(..) => None,
            &Promise::Repeat(user, tag) => self.fate(user, tag),
            &Promise::Forget(user, upto) => {
                let mailbox = &mut self.roster[user].mailbox;
                mailbox.deleted = mailbox.deleted.max(upto);
                None
            }
            &Promise::Return(user, Letter { number, .. }, _) => {
                let mailbox = &mut self.roster[user].mailbox;
                mailbox.deleted = mailbox.deleted.min(number.saturating_sub(1));
                None
            }
            Promise::Message { answer, .. } => answer.clone(),
            &Promise::Block { by, whom, blocked } => {
                let stored = &mut self.roster[by].stored_blocks;
                if blocked {
                    stored.insert(whom)
                } else {
                    stored.remove(&whom)
                };
                let name = self.roster[whom].name.clone();
                Some(if blocked { Notice::Blocked(name) } else { Notice::Unblocked(name) })
            }
            Promise::Group(pending) => Some(self.group_changed(pending)),
        }
    }

    fn undo(&mut self, promise: &Promise) {
        match promise {
            Promise::Quiet | Promise::Repeat(..) | Promise::Return(..) | Promise::Group(_) => {}
            Promise::Forget(user, _) => {
                self.journal.unforgotten.insert(*user);
            }
            &Promise::Receipt(sender, reader) => {
                self.journal.unreceipted.insert((sender, reader));
            }
            Promise::Message { to, bytes, .. } => {
                to.iter().for_each(|&user| self.roster[user].mailbox.forget(1, *bytes));
            }
            &Promise::Block { by, whom, .. } => {
                let blocked = self.is_still_blocked(by, whom);
                self.roster[by].set_blocked(whom, blocked);
            }
        }
    }

    /// What holds when a request has been refused: the latest one on its way, or what the disk has.
    fn is_still_blocked(&self, by: UserId, whom: UserId) -> bool {
        let pending = self.journal.entries.iter().rev().find_map(|entry| match entry.promise {
            Promise::Block { by: other, whom: another, blocked } if (other, another) == (by, whom) => Some(blocked),
            _ => None,
        });
        pending.unwrap_or_else(|| self.roster[by].stored_blocks.contains(&whom))
    }
}
