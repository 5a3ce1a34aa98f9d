//! What became of a text: delivered, seen. Told to its sender if he is here, else kept for him.
//!
//! A text is written once the batch that sent it has been offered to the socket and nothing of it
//! waits. From netcat nothing more is to be had, so then it counts as seen; our client says itself
//! what it has shown. Waiting receipts are confirmed as mail is: by our client's word, or by the
//! end of netcat's session. They may come twice after a crash, but do not get lost.

use std::collections::BTreeMap;

use super::journal::Promise;
use super::roster::UserId;
use super::unconfirmed::{Got, Unconfirmed};
use super::{ConnId, Notice, Record, State};
use crate::wire::Readers;
use crate::wire::name::UserName;

/// Readers whose receipts may wait for one user; of more he hears only that there were more.
pub const RECEIPTS_MAX: usize = 1000;

/// Receipts of one reader that are kept apart because sessions were told of them at different
/// times; at more, the two oldest become one, and may be told once more.
const PARTS_MAX: usize = 16;

/// Readers named in one receipt; the others are counted.
const READERS_NAMED_MAX: usize = 100;

/// Texts that one reader has seen while their sender was away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// How many.
    pub texts: u32,
    /// When the last of them was sent, in milliseconds since 1970, UTC.
    pub sent: i64,
    /// When it was seen, the same.
    pub seen: i64,
}

impl Receipt {
    fn and(self, more: Self) -> Self {
        let texts = self.texts.saturating_add(more.texts);
        Self { texts, sent: self.sent.max(more.sent), seen: self.seen.max(more.seen) }
    }
}

/// The receipts that wait for one user.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    /// Oldest first.
    by_reader: BTreeMap<UserId, Vec<Part>>,
    /// There were more readers than may wait.
    dropped: bool,
    /// Counts the parts.
    last: u64,
}

/// Receipts that are told together. Two sessions of a user may each confirm what it was told, and
/// no more than that.
#[derive(Debug, Clone, Copy)]
struct Part {
    id: u64,
    receipt: Receipt,
    /// A session was told of it, so nothing is added to it.
    is_told: bool,
}

impl Receipts {
    /// Adds to what waits; `false` if there is no room for one more reader.
    pub(super) fn add(&mut self, reader: UserId, more: Receipt) -> bool {
        if let Some(part) = self.by_reader.get_mut(&reader).and_then(|parts| parts.last_mut())
            && !part.is_told
        {
            part.receipt = part.receipt.and(more);
            return true;
        }
        self.last += 1;
        self.put(reader, Part { id: self.last, receipt: more, is_told: false })
    }

    /// The same for a part; one that waits already stays as it is.
    fn put(&mut self, reader: UserId, part: Part) -> bool {
        if self.by_reader.len() >= RECEIPTS_MAX && !self.by_reader.contains_key(&reader) {
            self.dropped = true;
            return false;
        }
        let parts = self.by_reader.entry(reader).or_default();
        if !parts.iter().any(|other| other.id == part.id) {
            parts.push(part);
        }
        if let [first, second, ..] = parts[..]
            && parts.len() > PARTS_MAX
        {
            self.last += 1;
            let receipt = first.receipt.and(second.receipt);
            parts.splice(..2, [Part { id: self.last, receipt, is_told: true }]);
        }
        true
    }

    /// Takes off what was told; what has come or come back since stays.
    fn confirm(&mut self, reader: UserId, told: &[Part]) {
        let Some(parts) = self.by_reader.get_mut(&reader) else { return };
        parts.retain(|part| !told.iter().any(|other| other.id == part.id));
        if parts.is_empty() {
            self.by_reader.remove(&reader);
        }
    }

    /// All that waits from one reader.
    fn of(&self, reader: UserId) -> Option<Receipt> {
        sum(self.by_reader.get(&reader)?)
    }
}

fn sum(parts: &[Part]) -> Option<Receipt> {
    parts.iter().map(|part| part.receipt).reduce(Receipt::and)
}

/// Waiting receipts of one reader that were sent to their user and are not confirmed.
#[derive(Debug)]
pub(super) struct Told {
    reader: UserId,
    parts: Vec<Part>,
    /// The store holds them.
    stored: bool,
}

/// What became of a text with one reader, to be told at the end of the batch.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Fact {
    sender: UserId,
    seen: bool,
    number: u64,
    reader: UserId,
    sent: i64,
}

/// One receipt in the making: texts of one sender that have the same readers.
struct Line {
    sender: UserId,
    seen: bool,
    readers: Vec<UserId>,
    texts: u32,
    sent: i64,
}

impl State {
    /// Notes that a text was written to `reader`, or `seen` by him.
    pub(super) fn note(&mut self, Got { from, number, sent }: Got, reader: UserId, seen: bool) {
        self.facts.push(Fact { sender: from, seen, number, reader, sent });
    }

    /// Notes which texts have been written to a client by now.
    pub(super) fn note_written(&mut self, conn: ConnId) {
        let batch = self.batch;
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let (is_ours, is_behind) = (session.is_ours, session.is_behind());
        // A push tells by itself that it has arrived.
        if session.post.is_some() {
            return;
        }
        let Some((reader, unconfirmed)) = session.unconfirmed() else { return };
        if is_behind {
            if unconfirmed.awaits_receipt() {
                self.queue(conn);
            }
            return;
        }
        for got in unconfirmed.take_written(batch, is_ours) {
            self.note(got, reader, !is_ours);
        }
    }

    /// The end of a batch: tells senders all that was noted in it, several readers of one text
    /// in one line, several texts with the same readers too.
    pub(super) fn tell_receipts(&mut self) {
        let mut facts = std::mem::take(&mut self.facts);
        facts.sort_unstable();
        let mut lines: Vec<Line> = Vec::new();
        for of_text in facts.chunk_by(|a, b| (a.sender, a.seen, a.number) == (b.sender, b.seen, b.number)) {
            let &Fact { sender, seen, sent, .. } = &of_text[0];
            let readers: Vec<UserId> = of_text.iter().map(|fact| fact.reader).collect();
            match lines.last_mut() {
                Some(line) if (line.sender, line.seen) == (sender, seen) && line.readers == readers => {
                    line.texts += 1;
                    line.sent = line.sent.max(sent);
                }
                _ => lines.push(Line { sender, seen, readers, texts: 1, sent }),
            }
        }
        lines.into_iter().for_each(|line| self.tell_receipt(line));
    }

    fn tell_receipt(&mut self, Line { sender, seen, readers, texts, sent }: Line) {
        if let Some(conn) = self.roster[sender].session {
            let mut names: Vec<UserName> = readers.iter().map(|&reader| self.roster[reader].name.clone()).collect();
            names.sort_unstable();
            let more = names.len().saturating_sub(READERS_NAMED_MAX);
            names.truncate(READERS_NAMED_MAX);
            let readers = Readers { names, more: u32::try_from(more).unwrap_or(u32::MAX), texts };
            self.send(conn, if seen { Notice::Seen(readers) } else { Notice::Delivered(readers) });
        } else if seen {
            let receipt = Receipt { texts, sent, seen: self.now.wall };
            readers.into_iter().for_each(|reader| self.keep_receipt(sender, reader, receipt));
        }
    }

    fn keep_receipt(&mut self, sender: UserId, reader: UserId, receipt: Receipt) {
        if self.roster[sender].receipts.add(reader, receipt) {
            self.store_receipt(sender, reader);
        }
    }

    /// Makes the store hold what waits for `sender` from `reader`; tried again until it does.
    pub(super) fn store_receipt(&mut self, sender: UserId, reader: UserId) {
        let receipt = self.roster[sender].receipts.of(reader);
        let (to, by) = (self.roster[sender].name.clone(), self.roster[reader].name.clone());
        self.store(Record::Receipt { to, by, receipt }, None, None, Promise::Receipt(sender, reader));
    }

    /// A log-in: shows what has waited, or shows again what was sent to a dead connection.
    pub(super) fn show_receipts(&mut self, conn: ConnId, user: UserId) {
        let receipts = &mut self.roster[user].receipts;
        let dropped = std::mem::take(&mut receipts.dropped);
        let waiting = receipts.by_reader.iter_mut().map(|(&reader, parts)| {
            parts.iter_mut().for_each(|part| part.is_told = true);
            Told { reader, parts: parts.clone(), stored: true }
        });
        let waiting: Vec<Told> = waiting.collect();
        let named = waiting.iter().filter_map(|told| Some((self.roster[told.reader].name.clone(), sum(&told.parts)?)));
        let mut named: Vec<(UserName, Receipt)> = named.collect();
        named.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        for (by, Receipt { texts, sent, seen }) in named {
            self.send(conn, Notice::SeenMeanwhile { by, texts, sent, seen });
        }
        if dropped {
            self.send(conn, Notice::ReceiptsDropped { max: RECEIPTS_MAX });
        }
        if let Some(visit) = self.visit(conn) {
            visit.unconfirmed.told = waiting;
        }
    }

    /// `TOLD`: our client has shown what waited from this reader.
    pub(super) fn confirm_receipt(&mut self, conn: ConnId, user: UserId, reader: &str) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let Some(visit) = session.visit() else { return };
        let told = &mut visit.unconfirmed.told;
        if let Some(at) = told.iter().position(|told| self.roster[told.reader].name.as_str() == reader) {
            let Told { reader, parts, .. } = told.swap_remove(at);
            self.forget_receipt(user, reader, &parts);
        }
    }

    /// The end of netcat's session: what was written to it has been read.
    pub(super) fn confirm_receipts(&mut self, user: UserId, told: &mut [Told]) {
        for told in told {
            self.forget_receipt(user, told.reader, &told.parts);
            told.stored = false;
        }
    }

    fn forget_receipt(&mut self, user: UserId, reader: UserId, told: &[Part]) {
        self.roster[user].receipts.confirm(reader, told);
        self.store_receipt(user, reader);
    }

    /// The connection has broken: what the store no longer holds waits once more.
    pub(super) fn give_back_receipts(&mut self, user: UserId, unconfirmed: &mut Unconfirmed) {
        for told in std::mem::take(&mut unconfirmed.told).into_iter().filter(|told| !told.stored) {
            let mut fits = true;
            for part in told.parts {
                fits &= self.roster[user].receipts.put(told.reader, part);
            }
            if fits {
                self.store_receipt(user, told.reader);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_beyond_the_limit_become_one_and_nothing_is_uncounted() {
        let (mut receipts, reader) = (Receipts::default(), UserId::FIRST);
        let one = Receipt { texts: 1, sent: 1, seen: 2 };
        for told in 0..=PARTS_MAX {
            assert!(receipts.add(reader, Receipt { sent: told as i64, ..one }));
            receipts.by_reader.get_mut(&reader).expect("it waits").iter_mut().for_each(|part| part.is_told = true);
        }
        let parts = receipts.by_reader[&reader].clone();
        assert_eq!((parts.len(), parts[0].receipt.texts), (PARTS_MAX, 2));
        let texts = PARTS_MAX as u32 + 1;
        assert_eq!(receipts.of(reader), Some(Receipt { texts, sent: PARTS_MAX as i64, seen: 2 }));
        receipts.confirm(reader, &parts[..PARTS_MAX - 1]);
        assert_eq!(receipts.of(reader).map(|left| left.texts), Some(1));
        receipts.confirm(reader, &parts);
        assert_eq!(receipts.of(reader), None);
    }
}
