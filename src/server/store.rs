//! The store: an SQLite file, and the thread that is the only one to touch it.
//!
//! What must outlive the process is in one file that anybody can open with `sqlite3`: who blocks
//! whom, who was last seen when, and the messages that wait. The records of all [`Job`]s that the
//! hub has handed over meanwhile are one transaction, so one sync carries them, and nothing is
//! reported as stored before SQLite has said so.
//!
//! A batch that fails leaves nothing behind and the next one is tried as if nothing had happened:
//! service comes back with the space on the disk. The connection is kept all the while. A new one
//! would read the log from its beginning and could take for committed what a failed sync left
//! there; this one still knows where the last good commit ended, and writes over the rest. (Only
//! a crash before the next good commit can still bring such a batch back.)
//!
//! A file is looked over before it is used. A damaged one is refused and left as it is, until the
//! operator asks for what can still be read of it ([`salvage`]).
//!
//! The store decides nothing: it never asks whether a message is allowed, and it shares the clock
//! only to say when it complains. A message is trusted again only if its checksum says so.

mod error;
mod file;
mod jobs;
mod letter;
mod mailboxes;
pub mod salvage;
mod schema;
mod start;
mod writer;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::server::state::{Record, Remembered};
use crate::wire::Letter;
use crate::wire::name::UserName;
pub use error::{OpenError, StoreError};
use file::{beside, claim, open_private};
pub use jobs::{Job, Report, run};
pub use letter::{checksum, read_letter};
use mailboxes::{Entry, Mailboxes};
use schema::{check, examine, set_up};
use start::begin_run;
use writer::{COPY_DAMAGED, DROP_MESSAGES, Ids, Writer, wall_of};

/// Most messages in one page of a mailbox; the rest comes with the next page.
pub const PAGE_MESSAGES_MAX: usize = 512;

/// Most text in one page of a mailbox, in bytes; a single message may be longer.
pub const PAGE_BYTES_MAX: usize = 64 * 1024;

/// The oldest SQLite without a known way to damage a file in WAL mode; an older one is refused.
const SQLITE_OLDEST: i32 = 3_051_003;

/// How long another program may hold the file before a batch fails.
const BUSY_WAIT: Duration = Duration::from_millis(500);

const GET_MESSAGE: &str = "
    SELECT number, name, sent, again, text, crc, scope, receipt FROM messages LEFT JOIN users ON users.id = sender
    WHERE messages.id = ?1";

/// Where the store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In this file, which is created if it is missing.
    File(PathBuf),
    /// In memory, gone at the end.
    Memory,
}

/// How SQLite protects a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Journal {
    /// With a log beside the file: fast, the normal way.
    Wal,
    /// With a copy of what it overwrites: slower, where a log is refused (network folders).
    Truncate,
    /// Not at all: everything is in memory.
    Memory,
}

/// The open store: one connection, used by one thread.
#[derive(Debug)]
pub struct Store {
    // Fields are dropped in this order: the file is closed before its lock is given up.
    connection: Connection,
    _lock: Option<File>,
    journal: Journal,
    id: String,
    ids: Ids,
    /// `None` after a batch that failed, until they are read again.
    mailboxes: Option<Mailboxes>,
    /// The latest wall time heard of, good enough to date a finding.
    wall: i64,
}

impl Store {
    /// Opens or creates the store, locks it, looks it over, upgrades it and reads what an earlier run left.
    ///
    /// `now` is wall time, in milliseconds since 1970.
    pub fn open(place: &Place, now: i64) -> Result<(Self, Remembered), OpenError> {
        if rusqlite::version_number() < SQLITE_OLDEST {
            return Err(OpenError::OldSqlite);
        }
        let (path, connection, lock) = match place {
            Place::File(path) => {
                let (real, lock) = claim(path)?;
                let file = open_private(&real).map_err(|error| OpenError::from_io(path, &error))?;
                // SQLite would take the file for a new one, and throw the log away.
                let is_empty = file.metadata().is_ok_and(|metadata| metadata.len() == 0);
                if is_empty && fs::metadata(beside(&real, "-wal")).is_ok_and(|log| log.len() > 0) {
                    let reason = "it is empty, but not its log".to_owned();
                    return Err(OpenError::Damaged { path: path.clone(), reason });
                }
                let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                (path.as_path(), Connection::open_with_flags(&real, flags), Some(lock))
            }
            Place::Memory => (Path::new("(memory)"), Connection::open_in_memory(), None),
        };
        let refused = |error: rusqlite::Error| OpenError::from_sqlite(path, &error);

        let mut connection = connection.map_err(refused)?;
        connection.busy_timeout(BUSY_WAIT).map_err(refused)?;
        // A file that is refused keeps its log: closing would copy that into the file.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(refused)?;
        let version = check(&connection, path)?;
        examine(&connection, path)?;
        let journal = set_up(&connection).map_err(refused)?;
        let (id, ids, remembered) = begin_run(&mut connection, path, version, now)?;
        let mailboxes = Some(Mailboxes::read(&connection).map_err(refused)?);
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map_err(refused)?;
        Ok((Self { connection, _lock: lock, journal, id, ids, mailboxes, wall: now }, remembered))
    }

    /// How transactions are protected; the start line mentions what is not normal.
    pub fn journal(&self) -> Journal {
        self.journal
    }

    /// The identity of this store, 32 hex digits; a message is known everywhere by it and its number.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Writes a batch, all of it or nothing; it is on the disk when this returns `Ok`.
    pub fn commit(&mut self, records: &[Record]) -> Result<(), StoreError> {
        if records.is_empty() {
            return Ok(());
        }
        let mut mailboxes = self.take_mailboxes()?;
        let Self { connection, ids, .. } = self;
        let mut has_begun = false;
        let result = transact(connection, |transaction| {
            has_begun = true;
            let mut writer = Writer::new(transaction, ids, &mut mailboxes)?;
            records.iter().try_for_each(|record| writer.write(record))?;
            writer.finish()
        });
        match result {
            Ok(()) => {
                self.mailboxes = Some(mailboxes);
                self.wall = records.iter().rev().find_map(wall_of).unwrap_or(self.wall);
            }
            // Another program has the file.
            Err(_) if !has_begun => self.mailboxes = Some(mailboxes),
            // Names that were new in this batch have lost their rows.
            Err(_) => self.ids.forget(),
        }
        result
    }

    fn take_mailboxes(&mut self) -> rusqlite::Result<Mailboxes> {
        match self.mailboxes.take() {
            Some(mailboxes) => Ok(mailboxes),
            None => Mailboxes::read(&self.connection),
        }
    }

    /// The next page of a mailbox: numbers above `after`, oldest first.
    ///
    /// Empty only if nothing is left. Damaged messages are never in it: they are moved to a
    /// table of their own and named in the log.
    pub fn page(&mut self, user: &UserName, after: u64) -> Result<Vec<Letter>, StoreError> {
        let Some(receiver) = self.ids.find(&self.connection, user)? else { return Ok(Vec::new()) };
        let mailboxes = self.take_mailboxes()?;
        let mailboxes = self.mailboxes.insert(mailboxes);
        let mut page = Vec::new();
        let mut bytes = 0;
        let mut damaged = Vec::new();
        for entry in mailboxes.above(receiver, number_or_max(after)) {
            let letter = match &entry.letter {
                Some(letter) => Some(Letter::clone(letter)),
                None => read_row(&self.connection, user, entry.row)?,
            };
            let Some(letter) = letter else {
                damaged.push(entry.clone());
                continue;
            };
            bytes += letter.text.as_str().len();
            if bytes > PAGE_BYTES_MAX && !page.is_empty() {
                break;
            }
            page.push(letter);
            if page.len() == PAGE_MESSAGES_MAX {
                break;
            }
        }
        // Should this fail, the page fails too: a later confirmation of what follows would
        // otherwise delete the damaged messages unseen.
        self.set_aside(user, receiver, &damaged)?;
        Ok(page)
    }

    fn set_aside(&mut self, user: &UserName, receiver: i64, damaged: &[Entry]) -> Result<(), StoreError> {
        if damaged.is_empty() {
            return Ok(());
        }
        let found = self.wall;
        transact(&mut self.connection, |transaction| {
            for &Entry { row, .. } in damaged {
                transaction.prepare_cached(COPY_DAMAGED)?.execute([row, found])?;
                transaction.prepare_cached(DROP_MESSAGES)?.execute([row, row])?;
            }
            Ok(())
        })?;
        for &Entry { row, number, .. } in damaged {
            if let Some(mailboxes) = &mut self.mailboxes {
                mailboxes.remove(receiver, row);
            }
            log::error!("message {number} for {user} is damaged: not delivered, kept in the table \"damaged\"");
        }
        Ok(())
    }

    /// Whether there are messages that were read, and can be deleted when there is time.
    pub fn has_read(&self) -> bool {
        self.mailboxes.as_ref().is_some_and(Mailboxes::has_read)
    }

    /// Deletes the messages that were read.
    pub fn sweep(&mut self) -> Result<(), StoreError> {
        let mut mailboxes = self.take_mailboxes()?;
        let Self { connection, ids, .. } = self;
        transact(connection, |transaction| Writer::new(transaction, ids, &mut mailboxes)?.sweep())?;
        self.mailboxes = Some(mailboxes);
        Ok(())
    }
}

/// A message from the file; `None` if it is damaged or gone.
fn read_row(connection: &Connection, receiver: &UserName, row: i64) -> rusqlite::Result<Option<Letter>> {
    let mut statement = connection.prepare_cached(GET_MESSAGE)?;
    let mut rows = statement.query([row])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let columns = std::array::from_fn(|column| row.get_ref(column).unwrap_or(ValueRef::Null));
    Ok(read_letter(receiver, columns))
}

/// Does `work` in one transaction; after a failure none is open.
fn transact(
    connection: &mut Connection,
    work: impl FnOnce(&Connection) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Dropping a transaction that was not committed rolls it back.
    let result = work(&transaction).and_then(|()| transaction.commit().map_err(StoreError::from));
    if !connection.is_autocommit() {
        // The first rollback failed; without this one every later batch would fail to begin.
        let _ = connection.execute_batch("ROLLBACK");
    }
    result
}

/// Where a number only bounds a range, one beyond SQLite's means all.
fn number_or_max(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
