//! Which row of the store holds which message: an index in memory.
//!
//! New messages are written one behind the other, whoever they are for: so a batch fills a few
//! pages of the file, where a table in the order of mailboxes would change one page for each
//! receiver. What is missing then is the way from a receiver to his rows, and that is here: a
//! number and a row for each message, and the message itself as long as there is room. Nothing
//! here decides anything, and all of it can be read again from the file.
//!
//! For the same reason a message that was read is not deleted at once. That its number is not
//! above what its receiver has confirmed says enough; its row goes when there is time.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;

use rusqlite::Connection;

use crate::server::ids::IdMap;
use crate::wire::Letter;

/// Bytes of messages that are kept in memory; at more all of them are forgotten, and mailboxes
/// are read from the file.
const LETTER_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What a message takes in memory besides its text, about, in bytes.
const LETTER_BYTES: usize = 200;

/// Rows that may wait for their deletion, and one more for each message that is not read; at more
/// they are deleted with the next batch.
const READ_ROWS_MAX: usize = 128 * 1024;

/// Whose mailbox has the rows that are nobody's.
const NOBODY: i64 = 0;

const ALL_ROWS: &str = "SELECT id, receiver, number FROM messages";
const ALL_CONFIRMED: &str = "SELECT id, confirmed FROM users WHERE typeof(confirmed) = 'integer'";

/// The mailboxes of all users, by the rows of these.
#[derive(Debug, Default)]
pub(super) struct Mailboxes {
    boxes: IdMap<Mailbox, i64>,
    /// The highest row that was ever used.
    last_row: i64,
    /// Messages that are not read, and rows of messages that are.
    waiting: usize,
    read: usize,
    /// What the messages in memory take.
    letter_bytes: usize,
}

#[derive(Debug, Default)]
struct Mailbox {
    /// What has been read goes up to this number.
    confirmed: i64,
    /// What has not, in the order of the numbers.
    waiting: VecDeque<Entry>,
    /// The rows of what has.
    read: Vec<i64>,
}

/// One message that waits.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// Its number; `i64::MAX` if somebody has put something else in its place.
    pub(super) number: i64,
    pub(super) row: i64,
    /// The message, if it is in memory.
    pub(super) letter: Option<Arc<Letter>>,
}

impl Mailboxes {
    /// What the file holds.
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let mut mailboxes = Self::default();
        let mut statement = connection.prepare(ALL_CONFIRMED)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            mailboxes.boxes.entry(row.get(0)?).or_default().confirmed = row.get(1)?;
        }
        let mut statement = connection.prepare(ALL_ROWS)?;
        let mut rows = statement.query([])?;
        while let Some(columns) = rows.next()? {
            let row = columns.get(0)?;
            mailboxes.last_row = mailboxes.last_row.max(row);
            // What is not a number was put there by hand; who reads the message will see that.
            let integer = |column| columns.get_ref(column).ok()?.as_i64().ok();
            let (receiver, number) = (integer(1).unwrap_or(NOBODY), integer(2).unwrap_or(i64::MAX));
            if mailboxes.is_read(receiver, number) {
                mailboxes.of(receiver).read.push(row);
                mailboxes.read += 1;
            } else {
                mailboxes.put(receiver, number, row, None);
            }
        }
        Ok(mailboxes)
    }

    fn of(&mut self, receiver: i64) -> &mut Mailbox {
        self.boxes.entry(receiver).or_default()
    }

    /// A row for a new message.
    pub(super) fn next_row(&mut self) -> i64 {
        // Beyond the last row there is nothing to be had, and the message is refused.
        self.last_row = self.last_row.saturating_add(1);
        self.last_row
    }

    /// Whether a message with this number would count as read.
    pub(super) fn is_read(&self, receiver: i64, number: i64) -> bool {
        self.boxes.get(&receiver).is_some_and(|mailbox| number <= mailbox.confirmed)
    }

    /// The row of a message that waits.
    pub(super) fn row_of(&self, receiver: i64, number: i64) -> Option<i64> {
        let waiting = &self.boxes.get(&receiver)?.waiting;
        waiting.back().filter(|last| last.number >= number)?;
        let at = waiting.binary_search_by_key(&number, |entry| entry.number).ok()?;
        Some(waiting[at].row)
    }

    /// A message waits from now on, or is now a different one.
    pub(super) fn put(&mut self, receiver: i64, number: i64, row: i64, letter: Option<Arc<Letter>>) {
        let bytes = letter.as_deref().map_or(0, size);
        if self.letter_bytes + bytes > LETTER_BYTES_MAX {
            self.forget_letters();
        }
        self.letter_bytes += bytes;
        let waiting = &mut self.of(receiver).waiting;
        // Nearly always the last place.
        let at = match waiting.back() {
            Some(last) if last.number >= number => waiting.partition_point(|entry| entry.number < number),
            _ => waiting.len(),
        };
        match waiting.get_mut(at) {
            Some(entry) if entry.row == row => {
                let old = std::mem::replace(&mut entry.letter, letter);
                self.letter_bytes = self.letter_bytes.saturating_sub(old.as_deref().map_or(0, size));
            }
            _ => {
                waiting.insert(at, Entry { number, row, letter });
                self.waiting += 1;
            }
        }
    }

    fn forget_letters(&mut self) {
        self.boxes.values_mut().flat_map(|mailbox| &mut mailbox.waiting).for_each(|entry| entry.letter = None);
        self.letter_bytes = 0;
    }

    /// What waits above a number, in the order of the numbers.
    pub(super) fn above(&self, receiver: i64, number: i64) -> impl Iterator<Item = &Entry> {
        let waiting = self.boxes.get(&receiver).map(|mailbox| &mailbox.waiting);
        let from = move |waiting: &VecDeque<Entry>| waiting.partition_point(|entry| entry.number <= number);
        waiting.into_iter().flat_map(move |waiting| waiting.range(from(waiting)..))
    }

    /// The receiver has read everything up to a number; gives the highest that is new.
    pub(super) fn confirm(&mut self, receiver: i64, upto: i64) -> Option<i64> {
        let mailbox = self.boxes.get_mut(&receiver)?;
        let mut last = None;
        while let Some(Entry { number, row, letter }) = mailbox.waiting.pop_front_if(|entry| entry.number <= upto) {
            self.letter_bytes = self.letter_bytes.saturating_sub(letter.as_deref().map_or(0, size));
            self.waiting -= 1;
            self.read += 1;
            mailbox.read.push(row);
            last = Some(number);
        }
        mailbox.confirmed = mailbox.confirmed.max(last?);
        last
    }

    /// Nothing is read any more beyond a number: the rows to delete for that.
    pub(super) fn revoke(&mut self, receiver: i64, upto: i64) -> Vec<RangeInclusive<i64>> {
        let mailbox = self.of(receiver);
        mailbox.confirmed = upto;
        let rows = std::mem::take(&mut mailbox.read);
        self.read -= rows.len();
        runs(rows)
    }

    /// A row is gone.
    pub(super) fn remove(&mut self, receiver: i64, row: i64) {
        let waiting = &mut self.of(receiver).waiting;
        if let Some(at) = waiting.iter().position(|entry| entry.row == row) {
            waiting.remove(at);
            self.waiting -= 1;
        }
    }

    /// Whether nothing waits for anybody.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Whether there are rows of messages that were read.
    pub(super) fn has_read(&self) -> bool {
        self.read > 0
    }

    /// Whether there are so many of them that they should go.
    pub(super) fn is_sweep_due(&self) -> bool {
        self.read > READ_ROWS_MAX + self.waiting
    }

    /// The rows of all that was read, to delete.
    pub(super) fn sweep(&mut self) -> Vec<RangeInclusive<i64>> {
        self.read = 0;
        runs(self.boxes.values_mut().flat_map(|mailbox| std::mem::take(&mut mailbox.read)).collect())
    }
}

fn size(letter: &Letter) -> usize {
    LETTER_BYTES + letter.text.as_str().len()
}

/// Rows that follow each other, together.
fn runs(mut rows: Vec<i64>) -> Vec<RangeInclusive<i64>> {
    rows.sort_unstable();
    rows.chunk_by(|a, b| a + 1 == *b).filter_map(|run| Some(*run.first()?..=*run.last()?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::name::{Text, UserName};
    use crate::wire::{Road, Scope};

    fn letter(number: u64, bytes: usize) -> Arc<Letter> {
        let (from, text) = (UserName::parse("hans").expect("a name"), Text::harmless(&"x".repeat(bytes)));
        Arc::new(Letter { number, from, text, sent: 0, road: Road::Mail, scope: Scope::Plain, receipt: false })
    }

    fn numbers(mailboxes: &Mailboxes, receiver: i64) -> Vec<i64> {
        mailboxes.above(receiver, 0).map(|entry| entry.number).collect()
    }

    #[test]
    fn what_was_read_is_deleted_in_runs() {
        let mut mailboxes = Mailboxes::default();
        for number in 1..=9 {
            let row = mailboxes.next_row();
            mailboxes.put(if number == 5 { 2 } else { 1 }, number, row, None);
        }
        assert_eq!((mailboxes.confirm(1, 7), mailboxes.confirm(1, 7), mailboxes.confirm(3, 7)), (Some(7), None, None));
        assert_eq!((numbers(&mailboxes, 1), numbers(&mailboxes, 2)), (vec![8, 9], vec![5]));
        assert!(mailboxes.is_read(1, 5) && !mailboxes.is_read(1, 8) && !mailboxes.is_read(2, 5));
        assert_eq!(mailboxes.sweep(), [1..=4, 6..=7]);
        assert!(mailboxes.is_read(1, 5) && !mailboxes.has_read());
    }

    #[test]
    fn a_mailbox_is_in_order_whatever_comes() {
        let mut mailboxes = Mailboxes::default();
        for number in [5, 9, 7, 1, 7] {
            let row = mailboxes.row_of(1, number).unwrap_or_else(|| mailboxes.next_row());
            mailboxes.put(1, number, row, None);
        }
        assert_eq!(numbers(&mailboxes, 1), [1, 5, 7, 9]);
        assert_eq!((mailboxes.row_of(1, 7), mailboxes.row_of(1, 8), mailboxes.row_of(2, 7)), (Some(3), None, None));
        mailboxes.confirm(1, 5);
        assert_eq!(mailboxes.revoke(1, 0), [1..=1, 4..=4]);
        assert!(!mailboxes.is_read(1, 1));
    }

    #[test]
    fn rows_of_read_messages_do_not_pile_up() {
        let mut mailboxes = Mailboxes::default();
        let mut number = 0;
        let mut read = |mailboxes: &mut Mailboxes, count| {
            for _ in 0..count {
                number += 1;
                let row = mailboxes.next_row();
                mailboxes.put(1, number, row, None);
            }
            mailboxes.confirm(1, number);
        };
        read(&mut mailboxes, READ_ROWS_MAX);
        assert!(!mailboxes.is_sweep_due());
        read(&mut mailboxes, 1);
        assert!(mailboxes.is_sweep_due());
        // The more there is to keep, the rarer.
        let row = mailboxes.next_row();
        mailboxes.put(2, i64::MAX, row, None);
        assert!(!mailboxes.is_sweep_due());
    }

    #[test]
    fn messages_in_memory_have_a_limit() {
        let mut mailboxes = Mailboxes::default();
        let in_memory = |mailboxes: &Mailboxes| mailboxes.above(1, 0).filter(|entry| entry.letter.is_some()).count();
        let most = LETTER_BYTES_MAX / (LETTER_BYTES + 60_000);
        for number in 1..=most {
            let row = mailboxes.next_row();
            mailboxes.put(1, number as i64, row, Some(letter(number as u64, 60_000)));
        }
        assert_eq!(in_memory(&mailboxes), most);
        mailboxes.put(1, 1, 1, Some(letter(1, 10)));
        assert_eq!(in_memory(&mailboxes), most, "one is shorter now");
        let row = mailboxes.next_row();
        mailboxes.put(1, 1_000_000, row, Some(letter(1_000_000, 60_000)));
        assert_eq!((in_memory(&mailboxes), mailboxes.letter_bytes), (most + 1, most * 60_200 + 10 + 200));
        let row = mailboxes.next_row();
        mailboxes.put(1, 1_000_001, row, Some(letter(1_000_001, 60_000)));
        assert_eq!((in_memory(&mailboxes), mailboxes.letter_bytes), (1, 60_200));
        assert_eq!(numbers(&mailboxes, 1).len(), most + 2);
    }
}
