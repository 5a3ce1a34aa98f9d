//! The store: an SQLite file, and the thread that is the only one to touch it.
//!
//! What must outlive the process is in one file that anybody can open with `sqlite3`: who blocks
//! whom, who was last seen when, and the messages that wait. The hub hands over one [`Job`] at a
//! time; its records are one transaction, so one sync carries a whole batch, and nothing is
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

pub mod salvage;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crossbeam_channel::Receiver;
use rusqlite::config::DbConfig;
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row, TransactionBehavior, ffi, params};

use crate::clock::Clock;
use crate::server::credentials::Appender;
use crate::server::state::{Change, ConnId, GroupId, Receipt, Record, Remembered, RememberedUser, TokenHash, Tokens};
use crate::wire::name::{GroupName, Text, UserName};
use crate::wire::{Letter, Road, Scope, Tag};

/// Most messages in one page of a mailbox; the rest comes with the next page.
pub const PAGE_MESSAGES_MAX: usize = 64;

/// Most text in one page of a mailbox, in bytes; a single message may be longer.
pub const PAGE_BYTES_MAX: usize = 64 * 1024;

/// The oldest SQLite without a known way to damage a file in WAL mode; an older one is refused.
const SQLITE_OLDEST: i32 = 3_051_003;

/// Marks the file as ours: `chin`.
const APPLICATION_ID: i64 = 0x6368_696e;

/// How long another program may hold the file before a batch fails.
const BUSY_WAIT: Duration = Duration::from_millis(500);

/// A message number is the start counter above so many bits of sequence.
const SEQUENCE_BITS: u32 = 40;

/// Start counters end here, so that every message number is a positive SQLite integer.
const STARTS_END: i64 = 1 << (63 - SEQUENCE_BITS);

/// The least time between two complaints in the log, in milliseconds; others are counted.
const COMPLAINT_PAUSE: i64 = 1000;

/// What brings a file from version `n` to version `n + 1`; only ever added to.
const MIGRATIONS: [&str; 3] = [
    "
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE users (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    last_seen INTEGER,                  -- milliseconds since 1970, UTC
    online INTEGER NOT NULL DEFAULT 0   -- still 1 at a start: the server crashed
);
CREATE TABLE blocks (
    blocker INTEGER NOT NULL REFERENCES users,
    blocked INTEGER NOT NULL REFERENCES users,
    PRIMARY KEY (blocker, blocked)
) WITHOUT ROWID;
CREATE TABLE messages (
    receiver INTEGER NOT NULL REFERENCES users,
    number INTEGER NOT NULL,
    sender INTEGER NOT NULL REFERENCES users,
    sent INTEGER NOT NULL,              -- milliseconds since 1970, UTC
    again INTEGER NOT NULL,             -- 1: the receiver may have seen it already
    text TEXT NOT NULL,
    crc INTEGER NOT NULL,               -- over all of the above, users by name
    PRIMARY KEY (receiver, number)
) WITHOUT ROWID;
CREATE TABLE damaged (                  -- messages whose crc was wrong, for a person to look at
    receiver, number, sender, sent, again, text, crc,
    found INTEGER NOT NULL              -- milliseconds since 1970, UTC
);
",
    "
ALTER TABLE users ADD COLUMN token BLOB;        -- SHA-256 of what resumes the last session
ALTER TABLE users ADD COLUMN used_token BLOB;   -- the same of the token before it, if that may be needed again
ALTER TABLE messages ADD COLUMN session INTEGER;
ALTER TABLE messages ADD COLUMN line INTEGER;   -- with session: the tag that the sender gave it
CREATE UNIQUE INDEX message_tags ON messages (sender, session, line) WHERE session IS NOT NULL;
",
    "
ALTER TABLE messages ADD COLUMN scope TEXT;     -- 'general', or 'group ' and its name; NULL: to one user
ALTER TABLE messages ADD COLUMN receipt INTEGER NOT NULL DEFAULT 0; -- 1: the sender wants to know when it is read
ALTER TABLE damaged ADD COLUMN scope;
ALTER TABLE damaged ADD COLUMN receipt;
DROP INDEX message_tags;                        -- one text may wait for many
CREATE UNIQUE INDEX message_tags ON messages (sender, session, line, receiver) WHERE session IS NOT NULL;
CREATE TABLE receipts (                         -- of texts that were read while their sender was away
    sender INTEGER NOT NULL REFERENCES users,
    reader INTEGER NOT NULL REFERENCES users,
    texts INTEGER NOT NULL,                     -- so many
    sent INTEGER NOT NULL,                      -- the last of them, in milliseconds since 1970, UTC
    seen INTEGER NOT NULL,                      -- the same
    PRIMARY KEY (sender, reader)
) WITHOUT ROWID;
CREATE TABLE groups (
    id INTEGER PRIMARY KEY,                     -- never used again
    name TEXT NOT NULL UNIQUE,
    owner INTEGER NOT NULL REFERENCES users     -- a member too
);
CREATE TABLE members (
    grp INTEGER NOT NULL REFERENCES groups ON DELETE CASCADE,
    user INTEGER NOT NULL REFERENCES users,
    PRIMARY KEY (grp, user)
) WITHOUT ROWID;
",
];

/// The `user_version` of a file that this program writes.
const VERSION: i64 = MIGRATIONS.len() as i64;

const ADD_USER: &str = "INSERT INTO users (name) VALUES (?1) ON CONFLICT (name) DO NOTHING";
const FIND_USER: &str = "SELECT id FROM users WHERE name = ?1";
const SET_SEEN: &str = "UPDATE users SET online = ?2, last_seen = ?3 WHERE id = ?1";
const SET_TOKEN: &str = "UPDATE users SET token = ?2, used_token = ?3 WHERE id = ?1";
const ADD_BLOCK: &str = "INSERT INTO blocks (blocker, blocked) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
const DROP_BLOCK: &str = "DELETE FROM blocks WHERE blocker = ?1 AND blocked = ?2";
const ADD_MESSAGE: &str = "
    INSERT INTO messages (receiver, number, sender, sent, again, text, crc, session, line, scope, receipt)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT DO NOTHING";
/// The same for one that may be there already. It costs SQLite a copy of each page, to undo it alone.
const RETURN_MESSAGE: &str = "
    INSERT INTO messages (receiver, number, sender, sent, again, text, crc, session, line, scope, receipt)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
    ON CONFLICT (receiver, number) DO UPDATE SET (sender, sent, again, text, crc, scope, receipt) =
        (excluded.sender, excluded.sent, excluded.again, excluded.text, excluded.crc, excluded.scope, excluded.receipt)
    ON CONFLICT DO NOTHING";
const DROP_MESSAGES: &str = "DELETE FROM messages WHERE receiver = ?1 AND number <= ?2";
const PAGE: &str = "
    SELECT number, name, sent, again, text, crc, scope, receipt FROM messages LEFT JOIN users ON id = sender
    WHERE receiver = ?1 AND number > ?2 ORDER BY number";
const COPY_DAMAGED: &str = "
    INSERT INTO damaged SELECT receiver, number, sender, sent, again, text, crc, ?3, scope, receipt FROM messages
    WHERE receiver = ?1 AND number = ?2";
const DROP_DAMAGED: &str = "DELETE FROM messages WHERE receiver = ?1 AND number = ?2";
const SET_RECEIPT: &str =
    "INSERT OR REPLACE INTO receipts (sender, reader, texts, sent, seen) VALUES (?1, ?2, ?3, ?4, ?5)";
const DROP_RECEIPT: &str = "DELETE FROM receipts WHERE sender = ?1 AND reader = ?2";
const ADD_GROUP: &str = "INSERT INTO groups (id, name, owner) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
const DROP_GROUP: &str = "DELETE FROM groups WHERE id = ?1";
const NAME_GROUP: &str = "UPDATE OR IGNORE groups SET name = ?2 WHERE id = ?1";
const OWN_GROUP: &str = "
    UPDATE groups SET owner = ?2 WHERE id = ?1 AND EXISTS (SELECT 1 FROM members WHERE grp = ?1 AND user = ?2)";
const FIND_OWNER: &str = "SELECT owner FROM groups WHERE id = ?1";
const ADD_MEMBER: &str = "INSERT INTO members (grp, user) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
const DROP_MEMBER: &str = "DELETE FROM members WHERE grp = ?1 AND user = ?2";
const GET_META: &str = "SELECT value FROM meta WHERE key = ?1";
const SET_META: &str = "
    INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
const CLOSE_CRASHED: &str = "
    UPDATE users SET online = 0, last_seen = max(ifnull(last_seen, 0), ?1) WHERE online <> 0";
const ALL_USERS: &str = "
    SELECT name, last_seen, count(number), ifnull(sum(octet_length(text)), 0), ifnull(max(number), 0), id, token, used_token
    FROM users LEFT JOIN messages ON receiver = id GROUP BY id";
const ALL_TAGS: &str = "
    SELECT sender.name, session, line, receiver.name FROM messages
    JOIN users AS sender ON sender.id = messages.sender JOIN users AS receiver ON receiver.id = messages.receiver
    WHERE session IS NOT NULL ORDER BY session, line";
const ALL_BLOCKS: &str = "
    SELECT blocker.name, blocked.name FROM blocks
    JOIN users AS blocker ON blocker.id = blocks.blocker JOIN users AS blocked ON blocked.id = blocks.blocked";

const ALL_RECEIPTS: &str = "
    SELECT sender.name, reader.name, texts, sent, seen FROM receipts
    JOIN users AS sender ON sender.id = receipts.sender JOIN users AS reader ON reader.id = receipts.reader";

const ALL_GROUPS: &str = "
    SELECT groups.id, groups.name, owner.name, member.name FROM groups
    JOIN users AS owner ON owner.id = groups.owner
    JOIN members ON members.grp = groups.id JOIN users AS member ON member.id = members.user ORDER BY groups.id";

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

/// Why the store cannot be used; one line each, naming the file.
#[derive(Debug)]
pub enum OpenError {
    /// Another server or program has it.
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be created, written or locked.
    NotWritable {
        /// The file.
        path: PathBuf,
        /// What the system or SQLite says.
        reason: String,
    },
    /// It is no database, or a broken one; it was left as it is.
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        reason: String,
    },
    /// It is a database, but not one of this server.
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A newer server wrote it.
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: i64,
    },
    /// This program was built with an SQLite that may damage files.
    OldSqlite,
}

impl OpenError {
    fn from_sqlite(path: &Path, error: &rusqlite::Error) -> Self {
        let path = path.to_owned();
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::InUse { path },
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt | ErrorCode::Unknown) => {
                Self::Damaged { path, reason: reason(error) }
            }
            Some(_) => Self::NotWritable { path, reason: reason(error) },
            // A value of the wrong type, or a missing row: somebody changed the file.
            None => Self::Damaged { path, reason: reason(error) },
        }
    }

    fn from_io(path: &Path, error: &io::Error) -> Self {
        Self::NotWritable { path: path.to_owned(), reason: error.to_string() }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse { path } => write!(f, "{}: in use by another server or program", path.display()),
            Self::NotWritable { path, reason } => write!(f, "{}: not writable: {reason}", path.display()),
            Self::Damaged { path, reason } => write!(f, "{} is damaged ({reason})", path.display()),
            Self::Foreign { path } => write!(f, "{}: the database of another program", path.display()),
            Self::Newer { path, version } => {
                let path = path.display();
                write!(f, "{path}: written by a newer server: version {version}, known up to {VERSION}")
            }
            Self::OldSqlite => write!(f, "SQLite {} may damage files; 3.51.3 or later is needed", rusqlite::version()),
        }
    }
}

impl std::error::Error for OpenError {}

/// Why something could not be stored or read; one line.
#[derive(Debug)]
pub enum StoreError {
    /// SQLite says no.
    Sqlite(rusqlite::Error),
    /// A message number that SQLite cannot hold.
    NumberTooBig(u64),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(error) => f.write_str(&reason(error)),
            Self::NumberTooBig(number) => write!(f, "message number {number} is too big"),
        }
    }
}

impl std::error::Error for StoreError {}

/// One line, with SQLite's own code: the words alone do not tell a failed write from a failed sync.
fn reason(error: &rusqlite::Error) -> String {
    let line = error.to_string().replace(['\n', '\r'], " ");
    match error.sqlite_error() {
        // SQLite calls this an I/O error, and nothing more.
        Some(failure) if failure.extended_code == ffi::SQLITE_IOERR_SHMSIZE => {
            format!("no room for the index of its log, the disk is full (SQLite code {})", failure.extended_code)
        }
        Some(failure) => format!("{line} (SQLite code {})", failure.extended_code),
        None => line,
    }
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
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map_err(refused)?;
        Ok((Self { connection, _lock: lock, journal, id, ids, wall: now }, remembered))
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
        let Self { connection, ids, .. } = self;
        let result =
            transact(connection, |transaction| records.iter().try_for_each(|record| write(transaction, ids, record)));
        match result {
            Ok(()) => self.wall = records.iter().rev().find_map(wall_of).unwrap_or(self.wall),
            // Names that were new in this batch have lost their rows.
            Err(_) => self.ids.forget(),
        }
        result
    }

    /// The next page of a mailbox: numbers above `after`, oldest first.
    ///
    /// Empty only if nothing is left. Damaged messages are never in it: they are moved to a
    /// table of their own and named in the log.
    pub fn page(&mut self, user: &UserName, after: u64) -> Result<Vec<Letter>, StoreError> {
        let Some(receiver) = self.ids.find(&self.connection, user)? else { return Ok(Vec::new()) };
        let mut page = Vec::new();
        let mut bytes = 0;
        let mut damaged = Vec::new();
        {
            let mut statement = self.connection.prepare_cached(PAGE)?;
            let mut rows = statement.query(params![receiver, number_or_max(after)])?;
            while page.len() < PAGE_MESSAGES_MAX
                && let Some(row) = rows.next()?
            {
                let columns = std::array::from_fn(|column| row.get_ref(column).unwrap_or(ValueRef::Null));
                let Some(letter) = read_letter(user, columns) else {
                    damaged.push(row.get::<_, Value>(0)?);
                    continue;
                };
                bytes += letter.text.as_str().len();
                if bytes > PAGE_BYTES_MAX && !page.is_empty() {
                    break;
                }
                page.push(letter);
            }
        }
        // Should this fail, the page fails too: a later confirmation of what follows would
        // otherwise delete the damaged messages unseen.
        self.set_aside(user, receiver, &damaged)?;
        Ok(page)
    }

    fn set_aside(&mut self, user: &UserName, receiver: i64, numbers: &[Value]) -> Result<(), StoreError> {
        if numbers.is_empty() {
            return Ok(());
        }
        let found = self.wall;
        transact(&mut self.connection, |transaction| {
            for number in numbers {
                transaction.prepare_cached(COPY_DAMAGED)?.execute(params![receiver, number, found])?;
                transaction.prepare_cached(DROP_DAMAGED)?.execute(params![receiver, number])?;
            }
            Ok(())
        })?;
        for number in numbers {
            let number = if let Value::Integer(number) = number { number.to_string() } else { format!("{number:?}") };
            log::error!("message {number} for {user} is damaged: not delivered, kept in the table \"damaged\"");
        }
        Ok(())
    }
}

/// The row ids of users, as far as they have been needed.
#[derive(Debug, Default)]
struct Ids(HashMap<UserName, i64>);

impl Ids {
    fn find(&mut self, connection: &Connection, name: &UserName) -> rusqlite::Result<Option<i64>> {
        if let Some(&id) = self.0.get(name) {
            return Ok(Some(id));
        }
        let id = connection.prepare_cached(FIND_USER)?.query_row([name.as_str()], |row| row.get(0)).optional()?;
        if let Some(id) = id {
            self.0.insert(name.clone(), id);
        }
        Ok(id)
    }

    fn find_or_add(&mut self, connection: &Connection, name: &UserName) -> rusqlite::Result<i64> {
        if let Some(id) = self.find(connection, name)? {
            return Ok(id);
        }
        connection.prepare_cached(ADD_USER)?.execute([name.as_str()])?;
        self.find(connection, name)?.ok_or(rusqlite::Error::QueryReturnedNoRows)
    }

    fn forget(&mut self) {
        self.0.clear();
    }
}

/// The same file by every path, so that links do not lead around the lock.
///
/// Absolute, because SQLite would take a name like `file:x` or `:memory:` for something else.
fn real_path(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let Some(name) = path.file_name() else { return Err(error) };
            let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
            Ok(fs::canonicalize(dir)?.join(name))
        }
        result => result,
    }
}

/// A file that belongs to the store and has its name, and more.
fn beside(real: &Path, more: &str) -> PathBuf {
    let mut path = real.as_os_str().to_owned();
    path.push(more);
    path.into()
}

/// Where the store really is, and the lock that makes it ours.
fn claim(path: &Path) -> Result<(PathBuf, File), OpenError> {
    let real = real_path(path).map_err(|error| OpenError::from_io(path, &error))?;
    let lock = lock(&real).map_err(|error| match error {
        TryLockError::WouldBlock => OpenError::InUse { path: path.to_owned() },
        TryLockError::Error(error) => OpenError::from_io(path, &error),
    })?;
    Ok((real, lock))
}

/// Locks a file beside the store: one on the store itself would disturb SQLite's own locks.
fn lock(real: &Path) -> Result<File, TryLockError> {
    let file = open_private(&beside(real, ".lock")).map_err(TryLockError::Error)?;
    file.try_lock()?;
    Ok(file)
}

/// Opens for writing, and creates with no rights for others; SQLite gives its side files the same.
fn open_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Looks before anything is written: is it ours, and what is its version?
fn check(connection: &Connection, path: &Path) -> Result<usize, OpenError> {
    let ask = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let refused = |error| OpenError::from_sqlite(path, &error);
    let version = ask("PRAGMA user_version").map_err(refused)?;
    let tables = ask("SELECT count(*) FROM sqlite_schema").map_err(refused)?;
    let ours = ask("PRAGMA application_id").map_err(refused)? == APPLICATION_ID;
    match usize::try_from(version) {
        Ok(0) if tables == 0 => Ok(0),
        Ok(known) if ours && (1..=MIGRATIONS.len()).contains(&known) => Ok(known),
        Ok(newer) if ours && newer > MIGRATIONS.len() => Err(OpenError::Newer { path: path.to_owned(), version }),
        _ => Err(OpenError::Foreign { path: path.to_owned() }),
    }
}

/// Looks over the whole file, so that damage is refused by name now instead of met under load.
fn examine(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let found: String = connection
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        .map_err(|error| OpenError::from_sqlite(path, &error))?;
    if found == "ok" {
        return Ok(());
    }
    let reason = found.lines().next_back().unwrap_or_default().to_owned();
    Err(OpenError::Damaged { path: path.to_owned(), reason })
}

fn set_up(connection: &Connection) -> rusqlite::Result<Journal> {
    let journal = choose_journal(connection)?;
    // FULL syncs at every commit; with NORMAL a power cut takes back what was acknowledged.
    connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF")?;
    // Else SQLite plans the query for a page anew for every value that is bound to it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // 16 MiB of log: busy mailboxes change the same pages again and again, and only the last
    // state of each is copied into the file.
    connection.execute_batch("PRAGMA wal_autocheckpoint = 4000")?;
    Ok(journal)
}

fn choose_journal(connection: &Connection) -> rusqlite::Result<Journal> {
    let ask = |sql| connection.query_row(sql, [], |row| row.get::<_, String>(0));
    match ask("PRAGMA journal_mode = WAL") {
        Ok(mode) if mode == "wal" => Ok(Journal::Wal),
        Ok(mode) if mode == "memory" => Ok(Journal::Memory),
        Err(error) if matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy)) => Err(error),
        // Refused with an answer or with an error, depending on what the folder lacks.
        _ => ask("PRAGMA journal_mode = TRUNCATE").map(|_| Journal::Truncate),
    }
}

/// The first transaction of a run: upgrade, close what a crash left open, count the start.
fn begin_run(
    connection: &mut Connection,
    path: &Path,
    version: usize,
    now: i64,
) -> Result<(String, Ids, Remembered), OpenError> {
    let refused = |error: rusqlite::Error| OpenError::from_sqlite(path, &error);
    let damaged = |reason: String| OpenError::Damaged { path: path.to_owned(), reason };
    let fresh_id = new_id().map_err(|reason| OpenError::NotWritable { path: path.to_owned(), reason })?;

    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(refused)?;
    upgrade(&transaction, version).map_err(refused)?;
    let heartbeat: i64 = meta(&transaction, "heartbeat").map_err(refused)?.unwrap_or(0);
    transaction.execute(CLOSE_CRASHED, [heartbeat]).map_err(refused)?;
    let (ids, mut remembered) = read_all(&transaction).map_err(refused)?;

    // The counter alone would do, unless somebody has edited it.
    let highest = remembered.users.iter().map(|user| user.last >> SEQUENCE_BITS).max().unwrap_or(0);
    let highest = i64::try_from(highest).unwrap_or(i64::MAX);
    let counted: i64 = meta(&transaction, "starts").map_err(refused)?.unwrap_or(0);
    let starts = counted.max(highest).saturating_add(1);
    if !(1..STARTS_END).contains(&starts) {
        return Err(damaged(format!("the start counter says {counted}")));
    }
    let id = meta(&transaction, "store").map_err(refused)?.unwrap_or(fresh_id);
    remembered.first_number = starts.unsigned_abs() << SEQUENCE_BITS;
    remembered.store.clone_from(&id);

    for (key, value) in
        [("store", Value::Text(id.clone())), ("starts", Value::Integer(starts)), ("heartbeat", Value::Integer(now))]
    {
        transaction.execute(SET_META, params![key, value]).map_err(refused)?;
    }
    transaction.commit().map_err(refused)?;
    Ok((id, ids, remembered))
}

fn upgrade(connection: &Connection, version: usize) -> rusqlite::Result<()> {
    if version == MIGRATIONS.len() {
        return Ok(());
    }
    for migration in &MIGRATIONS[version..] {
        connection.execute_batch(migration)?;
    }
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.pragma_update(None, "user_version", VERSION)
}

fn new_id() -> Result<String, String> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| format!("no random numbers: {error}"))?;
    Ok(format!("{:032x}", u128::from_be_bytes(random)))
}

fn meta<T: rusqlite::types::FromSql>(connection: &Connection, key: &str) -> rusqlite::Result<Option<T>> {
    connection.query_row(GET_META, [key], |row| row.get(0)).optional()
}

fn read_all(connection: &Connection) -> rusqlite::Result<(Ids, Remembered)> {
    let mut ids = Ids::default();
    let mut remembered = Remembered::default();

    let mut statement = connection.prepare(ALL_USERS)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let Some(name) = read_name(row, 0) else { continue };
        // What is not a number here was put there by hand; it must not keep the server from starting.
        let number = |column| row.get_ref(column).ok()?.as_i64().ok();
        ids.0.insert(name.clone(), row.get(5)?);
        remembered.users.push(RememberedUser {
            name,
            last_seen: number(1),
            waiting: number(2).and_then(|count| u32::try_from(count).ok()).unwrap_or(0),
            bytes: number(3).and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0),
            last: number(4).and_then(|last| u64::try_from(last).ok()).unwrap_or(0),
            tokens: Tokens { latest: read_hash(row, 6), used: read_hash(row, 7) },
        });
    }

    let mut statement = connection.prepare(ALL_TAGS)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let number = |column| row.get_ref(column).ok()?.as_i64().ok()?.try_into().ok();
        if let (Some(from), Some(session), Some(line), Some(to)) =
            (read_name(row, 0), number(1), number(2), read_name(row, 3))
        {
            remembered.tags.push((from, Tag { session, line }, to));
        }
    }

    let mut statement = connection.prepare(ALL_GROUPS)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let id = row.get_ref(0)?.as_i64().ok().and_then(|id| u64::try_from(id).ok()).map(GroupId);
        let name = row.get_ref(1)?.as_str().ok().and_then(GroupName::parse);
        let (Some(id), Some(name), Some(owner), Some(member)) = (id, name, read_name(row, 2), read_name(row, 3)) else {
            continue;
        };
        match remembered.groups.last_mut() {
            Some((last, _, _, members)) if *last == id => members.push(member),
            _ => remembered.groups.push((id, name, owner, vec![member])),
        }
    }

    let mut statement = connection.prepare(ALL_RECEIPTS)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let number = |column| row.get_ref(column).ok()?.as_i64().ok();
        let texts = number(2).and_then(|texts| u32::try_from(texts).ok());
        if let (Some(to), Some(by), Some(texts), Some(sent), Some(seen)) =
            (read_name(row, 0), read_name(row, 1), texts, number(3), number(4))
        {
            remembered.receipts.push((to, by, Receipt { texts, sent, seen }));
        }
    }

    let mut statement = connection.prepare(ALL_BLOCKS)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if let (Some(blocker), Some(blocked)) = (read_name(row, 0), read_name(row, 1)) {
            remembered.blocks.push((blocker, blocked));
        }
    }
    Ok((ids, remembered))
}

fn read_hash(row: &Row<'_>, column: usize) -> Option<TokenHash> {
    row.get_ref(column).ok()?.as_blob().ok()?.try_into().ok()
}

fn read_name(row: &Row<'_>, column: usize) -> Option<UserName> {
    let value = row.get_ref(column).ok()?;
    let name = value.as_str().ok().and_then(|name| UserName::parse(name).ok());
    if name.is_none() {
        log::error!("the store has a user who cannot be one, and who is ignored: {value:?}");
    }
    name
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

fn write(connection: &Connection, ids: &mut Ids, record: &Record) -> Result<(), StoreError> {
    match record {
        Record::Message { to, letter, tag } => {
            let sender = ids.find_or_add(connection, &letter.from)?;
            let number = i64::try_from(letter.number).map_err(|_| StoreError::NumberTooBig(letter.number))?;
            let again = letter.road == Road::Again;
            let text = letter.text.as_str();
            let scope = scope_word(&letter.scope);
            let mut statement = connection.prepare_cached(if again { RETURN_MESSAGE } else { ADD_MESSAGE })?;
            for to in to {
                let receiver = ids.find_or_add(connection, to)?;
                let words = [to.as_str(), letter.from.as_str(), text];
                let crc = checksum(words, [number, letter.sent, i64::from(again)], scope.as_deref(), letter.receipt);
                statement.execute(params![
                    receiver,
                    number,
                    sender,
                    letter.sent,
                    again,
                    text,
                    crc,
                    tag.map(|tag| number_or_max(tag.session)),
                    tag.map(|tag| number_or_max(tag.line)),
                    scope,
                    letter.receipt
                ])?;
            }
        }
        Record::Confirmed { user, upto } => {
            if let Some(receiver) = ids.find(connection, user)? {
                connection.prepare_cached(DROP_MESSAGES)?.execute(params![receiver, number_or_max(*upto)])?;
            }
        }
        Record::Receipt { to, by, receipt } => {
            let (sender, reader) = (ids.find_or_add(connection, to)?, ids.find_or_add(connection, by)?);
            match receipt {
                Some(Receipt { texts, sent, seen }) => {
                    let values = params![sender, reader, texts, sent, seen];
                    connection.prepare_cached(SET_RECEIPT)?.execute(values)?
                }
                None => connection.prepare_cached(DROP_RECEIPT)?.execute([sender, reader])?,
            };
        }
        Record::Block { by, whom } => {
            let pair = [ids.find_or_add(connection, by)?, ids.find_or_add(connection, whom)?];
            connection.prepare_cached(ADD_BLOCK)?.execute(pair)?;
        }
        Record::Unblock { by, whom } => {
            if let (Some(by), Some(whom)) = (ids.find(connection, by)?, ids.find(connection, whom)?) {
                connection.prepare_cached(DROP_BLOCK)?.execute([by, whom])?;
            }
        }
        Record::Group { group, change } => write_group(connection, ids, *group, change)?,
        Record::CameOnline { user, wall } => {
            let id = ids.find_or_add(connection, user)?;
            connection.prepare_cached(SET_SEEN)?.execute(params![id, 1, wall])?;
        }
        Record::WentOffline { user, wall } => {
            let id = ids.find_or_add(connection, user)?;
            connection.prepare_cached(SET_SEEN)?.execute(params![id, 0, wall])?;
        }
        Record::Tokens { user, tokens } => {
            let id = ids.find_or_add(connection, user)?;
            connection.prepare_cached(SET_TOKEN)?.execute(params![id, tokens.latest, tokens.used])?;
        }
        Record::Nothing => {}
        Record::Heartbeat { wall } => {
            connection.prepare_cached(SET_META)?.execute(params!["heartbeat", wall])?;
        }
    }
    Ok(())
}

/// Changes a group if the change still has its ground; the state decides in the same way.
fn write_group(
    connection: &Connection,
    ids: &mut Ids,
    group: GroupId,
    change: &Change<UserName>,
) -> Result<(), StoreError> {
    let id = i64::try_from(group.0).map_err(|_| StoreError::NumberTooBig(group.0))?;
    if let Change::Made { name, owner, .. } = change {
        let owner = ids.find_or_add(connection, owner)?;
        connection.prepare_cached(ADD_GROUP)?.execute(params![id, name.as_str(), owner])?;
    }
    let owner: Option<i64> = connection.prepare_cached(FIND_OWNER)?.query_row([id], |row| row.get(0)).optional()?;
    let Some(owner) = owner else { return Ok(()) };
    match change {
        Change::Made { members: users, .. } | Change::Added(users) => {
            let mut statement = connection.prepare_cached(ADD_MEMBER)?;
            for user in users {
                statement.execute([id, ids.find_or_add(connection, user)?])?;
            }
        }
        Change::Removed(users) => {
            let users: Vec<i64> =
                users.iter().map(|user| ids.find_or_add(connection, user)).collect::<Result<_, _>>()?;
            if !users.contains(&owner) {
                let mut statement = connection.prepare_cached(DROP_MEMBER)?;
                users.iter().try_for_each(|&user| statement.execute([id, user]).map(drop))?;
            }
        }
        Change::Renamed(name) => {
            connection.prepare_cached(NAME_GROUP)?.execute(params![id, name.as_str()])?;
        }
        Change::Owned(user) => {
            let user = ids.find_or_add(connection, user)?;
            connection.prepare_cached(OWN_GROUP)?.execute([id, user])?;
        }
        Change::Gone => {
            connection.prepare_cached(DROP_GROUP)?.execute([id])?;
        }
    }
    Ok(())
}

fn wall_of(record: &Record) -> Option<i64> {
    match record {
        Record::CameOnline { wall, .. } | Record::WentOffline { wall, .. } | Record::Heartbeat { wall } => Some(*wall),
        _ => None,
    }
}

/// Where a number only bounds a range, one beyond SQLite's means all.
fn number_or_max(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// What a stored row says, or `None` if it is not what was written.
///
/// The columns are the number, the sender's name, the time in milliseconds since 1970, whether it
/// may be a repetition, the text, the [`checksum`] over all columns, to whom it was said, and whether
/// a receipt is wanted.
pub fn read_letter(receiver: &UserName, columns: [ValueRef<'_>; 8]) -> Option<Letter> {
    let number = |column: usize| columns[column].as_i64().ok();
    let (id, sent, again, crc) = (number(0)?, number(2)?, number(3)?, number(5)?);
    let (sender, text) = (columns[1].as_str().ok()?, columns[4].as_str().ok()?);
    let (scope, receipt) = (columns[6].as_str_or_null().ok()?, number(7)? == 1);
    if crc != checksum([receiver.as_str(), sender, text], [id, sent, again], scope, receipt) {
        return None;
    }
    Some(Letter {
        number: u64::try_from(id).ok()?,
        from: UserName::parse(sender).ok()?,
        text: Text::harmless(text),
        sent,
        road: if again == 1 { Road::Again } else { Road::Mail },
        scope: read_scope(scope)?,
        receipt,
    })
}

fn scope_word(scope: &Scope) -> Option<Cow<'static, str>> {
    match scope {
        Scope::Plain => None,
        Scope::General => Some("general".into()),
        Scope::Group(group) => Some(format!("group {group}").into()),
    }
}

fn read_scope(word: Option<&str>) -> Option<Scope> {
    match word {
        None => Some(Scope::Plain),
        Some("general") => Some(Scope::General),
        Some(word) => GroupName::parse(word.strip_prefix("group ")?).map(Scope::Group),
    }
}

/// The CRC-32 of a message: receiver, sender and text; number, time of sending and repetition; to
/// whom it was said and whether a receipt is wanted.
///
/// Every word goes in behind its length, so that no two messages read the same. What version 2
/// did not know goes in only where it says something, so that old sums hold.
pub fn checksum(words: [&str; 3], numbers: [i64; 3], scope: Option<&str>, receipt: bool) -> i64 {
    let mut hasher = crc32fast::Hasher::new();
    for word in words.into_iter().chain(scope) {
        hasher.update(&(word.len() as u64).to_le_bytes());
        hasher.update(word.as_bytes());
    }
    for number in numbers.into_iter().chain(receipt.then_some(1)) {
        hasher.update(&number.to_le_bytes());
    }
    i64::from(hasher.finalize())
}

/// What the hub wants done, in this order: write, read, enrol.
#[derive(Debug, Default)]
pub struct Job {
    /// One batch, stored as a whole or not at all.
    pub records: Vec<Record>,
    /// Pages to read afterwards: whose mailbox, and above which number.
    pub fetches: Vec<(ConnId, UserName, u64)>,
    /// Accounts to append to Credentials.txt: who asks, the name, the password.
    pub enrolments: Vec<(ConnId, UserName, String)>,
}

impl Job {
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.fetches.is_empty() && self.enrolments.is_empty()
    }

    /// Whether anybody's answer waits for it.
    pub(super) fn is_awaited(&self) -> bool {
        !self.fetches.is_empty() || !self.enrolments.is_empty() || self.records.iter().any(Record::is_awaited)
    }

    /// The report of a store that does nothing any more.
    pub(super) fn refused(self) -> Report {
        Report {
            records: self.records.len(),
            stored: false,
            pages: self.fetches.into_iter().map(|(conn, ..)| (conn, None)).collect(),
            enrolled: self.enrolments.into_iter().map(|(conn, ..)| (conn, false)).collect(),
            spare: Vec::new(),
        }
    }
}

/// What became of a [`Job`].
#[derive(Debug, Default)]
pub struct Report {
    /// How many records the job had.
    pub records: usize,
    /// Whether all of them are on the disk; otherwise none is.
    pub stored: bool,
    /// The pages in the order of the job; `None` where reading failed.
    pub pages: Vec<(ConnId, Option<Vec<Letter>>)>,
    /// Whether the accounts are on the disk, in the order of the job.
    pub enrolled: Vec<(ConnId, bool)>,
    /// The emptied records of the job, for the next one.
    pub spare: Vec<Record>,
}

/// Does jobs until the hub sends no more, or `report` answers `false`: nobody listens.
///
/// Without `accounts` new users last until the stop, and every enrolment succeeds.
pub fn run(mut store: Store, accounts: Option<Appender>, jobs: Receiver<Job>, report: impl Fn(Report) -> bool) {
    let clock = Clock::start();
    let mut complaints = Complaints::default();
    for job in jobs {
        let Job { mut records, fetches, enrolments } = job;
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
        let count = records.len();
        records.clear();
        if !report(Report { records: count, stored: stored.is_ok(), pages, enrolled, spare: records }) {
            return;
        }
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
struct Complaints {
    /// From when on the next one is said, on the scale of the caller.
    quiet_until: i64,
    unsaid: u64,
}

impl Complaints {
    /// Whether the complaint was said.
    fn say(&mut self, now: i64, complaint: fmt::Arguments<'_>) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::{bounded, unbounded};
    use std::collections::BTreeSet;
    use std::os::unix::fs::PermissionsExt;

    const NOW: i64 = 1_700_000_000_000;

    /// A place for a store, gone at the end of the test.
    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn path(&self) -> PathBuf {
            self.0.path().join("chinwag.db")
        }

        fn place(&self) -> Place {
            Place::File(self.path())
        }

        fn open(&self) -> (Store, Remembered) {
            Store::open(&self.place(), NOW).expect("a good file")
        }

        fn refusal(&self) -> OpenError {
            let error = Store::open(&self.place(), NOW).map(|_| ()).expect_err("must be refused");
            let line = error.to_string();
            assert!(line.starts_with(&self.path().display().to_string()) && !line.contains('\n'), "{line}");
            error
        }

        /// The file as `sqlite3` would open it.
        fn raw(&self) -> Connection {
            Connection::open(self.path()).unwrap()
        }
    }

    fn in_memory() -> Store {
        Store::open(&Place::Memory, NOW).unwrap().0
    }

    fn name(word: &str) -> UserName {
        UserName::parse(word).unwrap()
    }

    fn letter(from: &str, number: u64, text: &str) -> Letter {
        let (scope, receipt) = (Scope::Plain, false);
        Letter { number, from: name(from), text: Text::harmless(text), sent: NOW + 7, road: Road::Mail, scope, receipt }
    }

    fn message(to: &str, from: &str, number: u64, text: &str) -> Record {
        Record::Message { to: vec![name(to)], letter: letter(from, number, text), tag: None }
    }

    fn numbers(page: &[Letter]) -> Vec<u64> {
        page.iter().map(|letter| letter.number).collect()
    }

    fn count(connection: &Connection, sql: &str) -> i64 {
        connection.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    fn user<'a>(remembered: &'a Remembered, word: &str) -> &'a RememberedUser {
        remembered.users.iter().find(|user| user.name.as_str() == word).expect("a known user")
    }

    #[test]
    fn tokens_and_tags_are_remembered_and_a_tag_stores_once() {
        let (mut store, _) = Store::open(&Place::Memory, NOW).unwrap();
        let tag = Some(Tag { session: 7, line: 1 });
        let first = Record::Message { to: vec![name("yoda")], letter: letter("hans", 1, "hi"), tag };
        let again = Record::Message { to: vec![name("yoda")], letter: letter("hans", 2, "hi"), tag };
        let token =
            Record::Tokens { user: name("hans"), tokens: Tokens { latest: Some([9; 32]), used: Some([8; 32]) } };
        store.commit(&[first, again, token]).unwrap();
        assert_eq!(store.page(&name("yoda"), 0).unwrap().len(), 1);
        let (_, remembered) = read_all(&store.connection).unwrap();
        assert_eq!(remembered.tags, [(name("hans"), Tag { session: 7, line: 1 }, name("yoda"))]);
        assert_eq!(user(&remembered, "hans").tokens, Tokens { latest: Some([9; 32]), used: Some([8; 32]) });
        store.commit(&[Record::Tokens { user: name("hans"), tokens: Tokens::default() }]).unwrap();
        assert_eq!(user(&read_all(&store.connection).unwrap().1, "hans").tokens, Tokens::default());
    }

    #[test]
    fn all_that_matters_survives_a_restart() {
        let folder = Folder::new();
        let (mut store, remembered) = folder.open();
        assert_eq!((remembered.users.len(), remembered.blocks.len()), (0, 0));
        assert_eq!(store.journal(), Journal::Wal);
        let id = store.id().to_owned();
        assert_eq!(id.len(), 32);
        let returned = Letter { road: Road::Again, ..letter("hans", 8, "perhaps twice") };
        store
            .commit(&[
                message("yoda", "hans", 5, "gr\u{fc}ezi\tdu"),
                Record::Message { to: vec![name("yoda")], letter: returned.clone(), tag: None },
                Record::Message {
                    to: vec![name("yoda")],
                    letter: Letter { road: Road::Live, ..letter("yoda", 9, "me") },
                    tag: None,
                },
                Record::Block { by: name("yoda"), whom: name("vader") },
                Record::Block { by: name("luke"), whom: name("vader") },
                Record::Block { by: name("luke"), whom: name("vader") },
                Record::Unblock { by: name("luke"), whom: name("vader") },
                Record::Unblock { by: name("nobody"), whom: name("vader") },
                Record::CameOnline { user: name("luke"), wall: NOW },
                Record::WentOffline { user: name("luke"), wall: NOW + 60 },
            ])
            .unwrap();
        drop(store);

        let (mut store, remembered) = folder.open();
        assert_eq!(store.id(), id);
        assert_eq!(remembered.blocks, [(name("yoda"), name("vader"))]);
        assert_eq!(user(&remembered, "luke").last_seen, Some(NOW + 60));
        let expected = RememberedUser {
            name: name("yoda"),
            last_seen: None,
            waiting: 3,
            bytes: 10 + 13 + 2,
            last: 9,
            tokens: Tokens::default(),
        };
        assert_eq!(user(&remembered, "yoda"), &expected);
        assert_eq!(user(&remembered, "hans").waiting, 0);
        assert!(!remembered.users.iter().any(|user| user.name.as_str() == "nobody"));
        let page = store.page(&name("yoda"), 0).unwrap();
        assert_eq!(page, [letter("hans", 5, "gr\u{fc}ezi\tdu"), returned, letter("yoda", 9, "me")]);
    }

    #[test]
    fn groups_are_as_their_changes_left_them() {
        let (mut store, _) = Store::open(&Place::Memory, NOW).unwrap();
        let group = |word: &str| GroupName::parse(word).expect("legal");
        let record = |id, change| Record::Group { group: GroupId(id), change };
        let made = |word: &str, owner: &str, members: &[&str]| Change::Made {
            name: group(word),
            owner: name(owner),
            members: members.iter().map(|member| name(member)).collect(),
        };
        store
            .commit(&[
                record(1, made("friends", "hans", &["hans", "luke"])),
                record(2, made("gone", "hans", &["hans"])),
                record(1, Change::Added(vec![name("yoda"), name("luke")])),
                record(1, Change::Removed(vec![name("luke")])),
                record(1, Change::Renamed(group("rebels"))),
                record(1, Change::Owned(name("yoda"))),
                record(2, Change::Gone),
            ])
            .unwrap();
        let expected = vec![(GroupId(1), group("rebels"), name("yoda"), vec![name("hans"), name("yoda")])];
        assert_eq!(read_all(&store.connection).unwrap().1.groups, expected);
        // What has lost its ground changes nothing.
        store
            .commit(&[
                record(3, made("rebels", "luke", &["luke"])),
                record(3, Change::Added(vec![name("r2d2")])),
                record(1, Change::Owned(name("luke"))),
                record(1, Change::Removed(vec![name("yoda"), name("hans")])),
                record(4, made("other", "luke", &["luke"])),
                record(4, Change::Renamed(group("rebels"))),
                record(4, Change::Gone),
            ])
            .unwrap();
        assert_eq!(read_all(&store.connection).unwrap().1.groups, expected);
    }

    #[test]
    fn a_receipt_waits_as_it_was_last_stored() {
        let (mut store, _) = Store::open(&Place::Memory, NOW).unwrap();
        let record = |by, receipt| Record::Receipt { to: name("hans"), by: name(by), receipt };
        let receipt = |texts| Receipt { texts, sent: NOW, seen: NOW + 1 };
        store
            .commit(&[
                record("luke", Some(receipt(1))),
                record("yoda", Some(receipt(2))),
                record("luke", Some(receipt(3))),
                record("yoda", None),
            ])
            .unwrap();
        let (_, remembered) = read_all(&store.connection).unwrap();
        assert_eq!(remembered.receipts, [(name("hans"), name("luke"), receipt(3))]);
    }

    #[test]
    fn one_text_for_many_keeps_where_it_was_said() {
        let mut store = in_memory();
        let tag = Some(Tag { session: 7, line: 1 });
        let group = GroupName::parse("r~:").map(Scope::Group).expect("legal");
        for (number, scope, receipt) in [(1, Scope::General, true), (2, group, false)] {
            let letter = Letter { scope, receipt, ..letter("hans", number, "to all") };
            let record = Record::Message { to: vec![name("yoda"), name("luke")], letter: letter.clone(), tag };
            store.commit(&[record.clone(), record]).unwrap();
            for reader in ["yoda", "luke"] {
                assert_eq!(store.page(&name(reader), number - 1).unwrap(), std::slice::from_ref(&letter));
                store.commit(&[Record::Confirmed { user: name(reader), upto: number }]).unwrap();
            }
        }
    }

    #[test]
    fn a_file_of_version_two_is_upgraded_with_all_it_holds() {
        let folder = Folder::new();
        let old = folder.raw();
        MIGRATIONS[..2].iter().for_each(|migration| old.execute_batch(migration).unwrap());
        old.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
        old.pragma_update(None, "user_version", 2).unwrap();
        // What that version wrote: the sum is a constant, for the formula must not change.
        old.execute_batch(
            "INSERT INTO users (id, name, last_seen) VALUES (1, 'hans', 5), (2, 'yoda', NULL);
             INSERT INTO blocks VALUES (2, 1);
             INSERT INTO messages VALUES (2, 3, 1, 1700000000007, 0, 'hi', 233801347, 7, 1);",
        )
        .unwrap();
        drop(old);

        let (mut store, remembered) = folder.open();
        assert_eq!(remembered.blocks, [(name("yoda"), name("hans"))]);
        assert_eq!(user(&remembered, "hans").last_seen, Some(5));
        assert_eq!(remembered.tags, [(name("hans"), Tag { session: 7, line: 1 }, name("yoda"))]);
        assert_eq!(store.page(&name("yoda"), 0).unwrap(), [letter("hans", 3, "hi")]);
        let tag = Some(Tag { session: 7, line: 1 });
        let again = Record::Message { to: vec![name("yoda"), name("luke")], letter: letter("hans", 4, "hi"), tag };
        store.commit(&[again]).unwrap();
        assert_eq!(numbers(&store.page(&name("yoda"), 0).unwrap()), [3], "the tag is known");
        assert_eq!(numbers(&store.page(&name("luke"), 0).unwrap()), [4]);
        assert_eq!(count(&folder.raw(), "PRAGMA user_version"), VERSION);
    }

    #[test]
    fn pages_are_in_order_bounded_and_complete() {
        let mut store = in_memory();
        let mixed: Vec<u64> = (0..200).map(|index| 1 + (index * 37) % 200).collect();
        let records: Vec<Record> = mixed.iter().map(|&number| message("yoda", "hans", number, "hi")).collect();
        store.commit(&records).unwrap();
        store.commit(&[message("luke", "hans", 201, "not for yoda")]).unwrap();

        let mut seen = Vec::new();
        loop {
            let page = store.page(&name("yoda"), seen.last().copied().unwrap_or(0)).unwrap();
            assert!(page.len() <= PAGE_MESSAGES_MAX);
            if page.is_empty() {
                break;
            }
            seen.extend(numbers(&page));
        }
        assert_eq!(seen, (1..=200).collect::<Vec<u64>>());
        assert_eq!(store.page(&name("stranger"), 0).unwrap(), []);
        assert_eq!(store.page(&name("yoda"), u64::MAX).unwrap(), []);
    }

    #[test]
    fn a_page_of_long_texts_is_short_but_never_empty() {
        let mut store = in_memory();
        let sizes = [PAGE_BYTES_MAX / 2, PAGE_BYTES_MAX / 2, 1, PAGE_BYTES_MAX + 1, 1];
        for (number, size) in (1..).zip(sizes) {
            store.commit(&[message("yoda", "hans", number, &"x".repeat(size))]).unwrap();
        }
        let mut page = |after| numbers(&store.page(&name("yoda"), after).unwrap());
        assert_eq!([page(0), page(2), page(3), page(4)], [vec![1, 2], vec![3], vec![4], vec![5]]);
    }

    #[test]
    fn confirmed_deletes_exactly_what_was_read() {
        let mut store = in_memory();
        let batch: Vec<Record> = (1..=5).map(|number| message("yoda", "hans", number, "hi")).collect();
        store.commit(&batch).unwrap();
        store.commit(&[message("luke", "hans", 6, "hi"), message("luke", "hans", 2, "hi")]).unwrap();
        store
            .commit(&[
                Record::Confirmed { user: name("yoda"), upto: 3 },
                Record::Confirmed { user: name("stranger"), upto: 9 },
            ])
            .unwrap();
        assert_eq!(numbers(&store.page(&name("yoda"), 0).unwrap()), [4, 5]);
        assert_eq!(numbers(&store.page(&name("luke"), 0).unwrap()), [2, 6]);
        store.commit(&[Record::Confirmed { user: name("luke"), upto: u64::MAX }]).unwrap();
        assert_eq!(store.page(&name("luke"), 0).unwrap(), []);
    }

    #[test]
    fn the_same_number_twice_is_one_message() {
        let mut store = in_memory();
        store.commit(&[message("yoda", "hans", 1, "first")]).unwrap();
        store.commit(&[message("yoda", "hans", 1, "second"), message("yoda", "hans", 2, "third")]).unwrap();
        let page = store.page(&name("yoda"), 0).unwrap();
        assert_eq!(page, [letter("hans", 1, "first"), letter("hans", 2, "third")]);
    }

    #[test]
    fn whoever_was_online_at_a_crash_left_at_the_last_heartbeat() {
        let folder = Folder::new();
        let (mut store, _) = folder.open();
        let at = |wall| NOW + wall;
        store
            .commit(&[
                Record::CameOnline { user: name("early"), wall: at(1) },
                Record::CameOnline { user: name("gone"), wall: at(2) },
                Record::WentOffline { user: name("gone"), wall: at(3) },
                Record::Heartbeat { wall: at(10_000) },
                Record::CameOnline { user: name("late"), wall: at(12_000) },
            ])
            .unwrap();
        drop(store);
        for _ in 0..2 {
            let place = folder.place();
            let (_store, remembered) = Store::open(&place, at(50_000)).unwrap();
            let seen = ["early", "gone", "late"].map(|word| user(&remembered, word).last_seen);
            assert_eq!(seen, [Some(at(10_000)), Some(at(3)), Some(at(12_000))]);
        }
    }

    #[test]
    fn a_store_has_one_server_at_a_time() {
        let folder = Folder::new();
        let (store, _) = folder.open();
        assert!(matches!(folder.refusal(), OpenError::InUse { .. }));
        let link = folder.0.path().join("other.db");
        std::os::unix::fs::symlink(folder.path(), &link).unwrap();
        assert!(matches!(Store::open(&Place::File(link), NOW), Err(OpenError::InUse { .. })), "not by a link either");
        drop(store);
        folder.open();
    }

    #[test]
    fn numbers_rise_from_start_to_start() {
        let folder = Folder::new();
        let starts = [(); 3].map(|()| folder.open().1.first_number);
        assert_eq!(starts, [1 << 40, 2 << 40, 3 << 40]);

        // A counter that was set back does not bring back numbers that are in use.
        let (mut store, _) = folder.open();
        store.commit(&[message("yoda", "hans", (9 << 40) + 5, "hi")]).unwrap();
        drop(store);
        folder.raw().execute("UPDATE meta SET value = 1 WHERE key = 'starts'", []).unwrap();
        assert_eq!(folder.open().1.first_number, 10 << 40);

        folder.raw().execute("UPDATE meta SET value = ?1 WHERE key = 'starts'", [STARTS_END - 2]).unwrap();
        assert_eq!(folder.open().1.first_number, ((1 << 23) - 1) << 40);
        assert!(matches!(folder.refusal(), OpenError::Damaged { .. }), "the last number was used");
    }

    #[test]
    fn a_damaged_message_is_kept_but_never_delivered() {
        let changes = [
            "UPDATE messages SET text = 'evil' WHERE number = 2",
            "UPDATE messages SET text = CAST(x'ff' AS TEXT) WHERE number = 2",
            "UPDATE messages SET text = x'6869' WHERE number = 2",
            "UPDATE messages SET sender = (SELECT id FROM users WHERE name = 'luke') WHERE number = 2",
            "UPDATE messages SET sender = 99 WHERE number = 2",
            "UPDATE messages SET sent = sent + 1 WHERE number = 2",
            "UPDATE messages SET sent = 'noon' WHERE number = 2",
            "UPDATE messages SET again = 1 WHERE number = 2",
            "UPDATE messages SET crc = -1 WHERE number = 2",
            "UPDATE messages SET scope = 'general' WHERE number = 2",
            "UPDATE messages SET scope = x'00' WHERE number = 2",
            "UPDATE messages SET receipt = 1 WHERE number = 2",
            "UPDATE messages SET number = 2.5 WHERE number = 2",
            "UPDATE messages SET number = 'two' WHERE number = 2",
            "UPDATE messages SET number = 9, text = 'late' WHERE number = 2",
        ];
        for change in changes {
            let folder = Folder::new();
            let (mut store, _) = folder.open();
            let batch: Vec<Record> = (1..=3).map(|number| message("yoda", "hans", number, "hi")).collect();
            store.commit(&batch).unwrap();
            store.commit(&[message("luke", "hans", 4, "hi")]).unwrap();
            let raw = folder.raw();
            raw.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
            assert_eq!(raw.execute(change, []).unwrap(), 1, "{change}");

            assert_eq!(numbers(&store.page(&name("yoda"), 0).unwrap()), [1, 3], "{change}");
            assert_eq!(numbers(&store.page(&name("luke"), 0).unwrap()), [4], "{change}");
            store.commit(&[Record::Confirmed { user: name("yoda"), upto: u64::MAX }]).unwrap();
            assert_eq!(count(&raw, "SELECT count(*) FROM messages"), 1, "{change}");
            assert_eq!(count(&raw, "SELECT count(*) FROM damaged"), 1, "{change}");
            assert_eq!(count(&raw, "SELECT found FROM damaged"), NOW);
            drop(store);
            let (_store, remembered) = folder.open();
            assert_eq!(user(&remembered, "yoda").waiting, 0, "{change}");
        }
    }

    #[test]
    fn a_page_goes_on_past_damage() {
        let folder = Folder::new();
        let (mut store, _) = folder.open();
        let batch: Vec<Record> = (1..=100).map(|number| message("yoda", "hans", number, "hi")).collect();
        store.commit(&batch).unwrap();
        folder.raw().execute("UPDATE messages SET crc = crc + 1 WHERE number <= 90", []).unwrap();
        assert_eq!(numbers(&store.page(&name("yoda"), 0).unwrap()), (91..=100).collect::<Vec<u64>>());
    }

    #[test]
    fn a_page_fails_rather_than_lose_sight_of_damage() {
        let folder = Folder::new();
        let (mut store, _) = folder.open();
        store.commit(&[message("yoda", "hans", 1, "hi"), message("yoda", "hans", 2, "hi")]).unwrap();
        let raw = folder.raw();
        raw.execute("UPDATE messages SET crc = 0 WHERE number = 1", []).unwrap();
        store.connection.busy_timeout(Duration::ZERO).unwrap();
        raw.execute_batch("BEGIN IMMEDIATE").unwrap();
        assert!(store.page(&name("yoda"), 0).is_err());
        raw.execute_batch("ROLLBACK").unwrap();
        assert_eq!(numbers(&store.page(&name("yoda"), 0).unwrap()), [2]);
        assert_eq!(count(&raw, "SELECT number FROM damaged"), 1);
    }

    #[test]
    fn the_checksum_tells_words_apart() {
        let of = |words| checksum(words, [1, 2, 0], None, false);
        assert_ne!(of(["ab", "c", "d"]), of(["a", "bc", "d"]));
        assert_ne!(of(["a", "b", "cd"]), of(["a", "bc", "d"]));
        let sums = [
            ([1, 2, 0], None, false),
            ([2, 1, 0], None, false),
            ([1, 2, 0], Some("general"), false),
            ([1, 2, 0], None, true),
        ]
        .map(|(numbers, scope, receipt)| checksum(["a", "b", "c"], numbers, scope, receipt));
        assert_eq!(BTreeSet::from(sums).len(), sums.len());
    }

    #[test]
    fn a_failed_batch_leaves_nothing_and_the_next_one_is_tried() {
        for folder in [Some(Folder::new()), None] {
            let place = folder.as_ref().map_or(Place::Memory, Folder::place);
            let (mut store, _) = Store::open(&place, NOW).unwrap();
            store.commit(&[message("yoda", "hans", 1, "before")]).unwrap();
            let pages = count(&store.connection, "PRAGMA page_count");
            count(&store.connection, &format!("PRAGMA max_page_count = {pages}"));

            let mut batch = vec![
                Record::Confirmed { user: name("yoda"), upto: 1 },
                Record::Block { by: name("fresh"), whom: name("yoda") },
            ];
            batch.extend((2..50).map(|number| message("fresh", "hans", number, &"x".repeat(4000))));
            for _ in 0..3 {
                let error = store.commit(&batch).expect_err("there is no room").to_string();
                assert!(error.contains("full") && error.contains("13"), "{error}");
                assert!(store.connection.is_autocommit());
            }
            assert_eq!(numbers(&store.page(&name("yoda"), 0).unwrap()), [1], "not even what came first");
            assert_eq!(store.page(&name("fresh"), 0).unwrap(), []);
            assert_eq!(count(&store.connection, "SELECT count(*) FROM blocks"), 0);
            assert_eq!(count(&store.connection, "SELECT count(*) FROM users"), 2);

            count(&store.connection, "PRAGMA max_page_count = 1000000");
            store.commit(&batch).unwrap();
            assert_eq!(store.page(&name("yoda"), 0).unwrap(), []);
            assert_eq!(store.page(&name("fresh"), 0).unwrap()[0].number, 2);
            if let Some(folder) = &folder {
                drop(store);
                let (_store, remembered) = folder.open();
                assert_eq!(user(&remembered, "fresh").waiting, 48);
            }
        }
    }

    #[test]
    fn a_number_that_does_not_fit_fails_its_batch_only() {
        let mut store = in_memory();
        let error = store.commit(&[message("a", "b", 1, "hi"), message("a", "b", u64::MAX, "hi")]).unwrap_err();
        assert!(matches!(error, StoreError::NumberTooBig(u64::MAX)));
        store.commit(&[message("a", "b", 2, "hi")]).unwrap();
        assert_eq!(numbers(&store.page(&name("a"), 0).unwrap()), [2]);
    }

    #[test]
    fn another_program_can_hold_the_file_only_for_a_while() {
        let folder = Folder::new();
        let (mut store, _) = folder.open();
        store.connection.busy_timeout(Duration::ZERO).unwrap();
        let raw = folder.raw();
        raw.execute_batch("BEGIN IMMEDIATE").unwrap();
        store.commit(&[message("yoda", "hans", 1, "hi")]).unwrap_err();
        raw.execute_batch("ROLLBACK").unwrap();
        store.commit(&[message("yoda", "hans", 2, "hi")]).unwrap();
        raw.execute_batch("BEGIN; SELECT * FROM users").unwrap();
        store.commit(&[message("yoda", "hans", 3, "hi")]).unwrap();
        assert_eq!(numbers(&store.page(&name("yoda"), 0).unwrap()), [2, 3]);
    }

    #[test]
    fn everything_on_the_disk_is_private() {
        let folder = Folder::new();
        let (mut store, _) = folder.open();
        store.commit(&[message("yoda", "hans", 1, "secret")]).unwrap();
        for entry in ["chinwag.db", "chinwag.db-wal", "chinwag.db-shm", "chinwag.db.lock"] {
            let mode = fs::metadata(folder.0.path().join(entry)).expect(entry).permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{entry}");
        }
    }

    #[test]
    fn every_commit_is_synced_and_references_are_checked() {
        let folder = Folder::new();
        let (store, _) = folder.open();
        assert_eq!(count(&store.connection, "PRAGMA synchronous"), 2);
        assert_eq!(count(&store.connection, "PRAGMA foreign_keys"), 1);
        assert_eq!(count(&folder.raw(), "PRAGMA user_version"), VERSION);
    }

    #[test]
    fn a_file_that_is_not_ours_is_left_alone() {
        type Prepare<'a> = &'a dyn Fn(&Path);
        type Check = fn(&OpenError) -> bool;
        let newer: Check = |error| matches!(error, OpenError::Newer { version: 99, .. });
        let foreign: Check = |error| matches!(error, OpenError::Foreign { .. });
        let damaged: Check = |error| matches!(error, OpenError::Damaged { .. });
        let ours = |sql: &'static str| {
            move |path: &Path| {
                Store::open(&Place::File(path.to_owned()), NOW).unwrap();
                Connection::open(path).unwrap().execute_batch(sql).unwrap();
            }
        };
        let theirs = |path: &Path| {
            Connection::open(path).unwrap().execute_batch("CREATE TABLE cats (name); PRAGMA user_version = 1").unwrap();
        };
        let prose = |path: &Path| fs::write(path, "Dear diary, ".repeat(500)).unwrap();
        let cases: [(Prepare<'_>, Check); 5] = [
            (&ours("PRAGMA user_version = 99"), newer),
            (&ours("PRAGMA user_version = -1"), foreign),
            (&ours("PRAGMA application_id = 7"), foreign),
            (&theirs, foreign),
            (&prose, damaged),
        ];
        for (index, (prepare, expected)) in cases.into_iter().enumerate() {
            let folder = Folder::new();
            prepare(&folder.path());
            let before = fs::read(folder.path()).unwrap();
            let error = folder.refusal();
            assert!(expected(&error), "case {index}: {error:?}");
            assert_eq!(fs::read(folder.path()).unwrap(), before, "case {index}");
        }
    }

    #[test]
    fn a_place_that_cannot_be_written_says_why() {
        let folder = Folder::new();
        fs::create_dir(folder.path()).unwrap();
        assert!(matches!(folder.refusal(), OpenError::NotWritable { .. }), "a directory");
        let path = folder.0.path().join("no/such/folder/chinwag.db");
        let error = Store::open(&Place::File(path), NOW).map(|_| ()).unwrap_err();
        assert!(matches!(error, OpenError::NotWritable { .. }), "{error}");
    }

    #[test]
    fn where_no_log_is_possible_there_is_a_slower_way() {
        let folder = Folder::new();
        // Locks made of files: SQLite has no shared memory there, as on many network folders.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let mut connection = Connection::open_with_flags_and_vfs(folder.path(), flags, c"unix-dotfile").unwrap();
        assert_eq!(set_up(&connection).unwrap(), Journal::Truncate);
        begin_run(&mut connection, Path::new("x"), 0, NOW).unwrap();
        assert_eq!(count(&connection, "PRAGMA synchronous"), 2);
    }

    #[test]
    fn memory_is_one_more_place() {
        let (mut store, remembered) = Store::open(&Place::Memory, NOW).unwrap();
        assert_eq!((store.journal(), remembered.first_number), (Journal::Memory, 1 << 40));
        store.commit(&[message("yoda", "hans", 1, "hi"), Record::Block { by: name("a"), whom: name("b") }]).unwrap();
        assert_eq!(store.page(&name("yoda"), 0).unwrap(), [letter("hans", 1, "hi")]);
        assert_ne!(store.id(), in_memory().id());
    }

    #[test]
    fn users_that_cannot_be_are_ignored() {
        let folder = Folder::new();
        let (mut store, _) = folder.open();
        store.commit(&[message("yoda", "hans", 1, "hi"), Record::Block { by: name("a"), whom: name("b") }]).unwrap();
        drop(store);
        folder
            .raw()
            .execute_batch(
                "INSERT INTO users (name) VALUES ('two words'), (x'ff00'), ('');
                 UPDATE users SET name = 'tab\there', last_seen = 'noon' WHERE name = 'a';
                 UPDATE users SET last_seen = 'noon' WHERE name = 'yoda'",
            )
            .unwrap();
        let (_store, remembered) = folder.open();
        assert_eq!(remembered.users.len(), 3);
        assert_eq!((user(&remembered, "yoda").waiting, user(&remembered, "yoda").last_seen), (1, None));
        assert_eq!(remembered.blocks, []);
    }

    /// Runs the thread on `jobs` and gives its reports.
    fn reports(store: Store, accounts: Option<Appender>, jobs: Vec<Job>) -> Vec<Report> {
        let (job_sender, job_receiver) = bounded(jobs.len());
        let (report_sender, report_receiver) = unbounded();
        for job in jobs {
            job_sender.send(job).unwrap();
        }
        drop(job_sender);
        // Returns by itself: the channel of jobs is closed.
        std::thread::spawn(move || run(store, accounts, job_receiver, |report| report_sender.send(report).is_ok()))
            .join()
            .unwrap();
        report_receiver.try_iter().collect()
    }

    #[test]
    fn a_job_is_written_then_read_then_reported() {
        let jobs = vec![
            Job::default(),
            Job {
                records: vec![message("yoda", "hans", 1, "hi"), message("yoda", "hans", 2, "ho")],
                fetches: vec![(ConnId(1), name("yoda"), 0), (ConnId(2), name("yoda"), 1), (ConnId(3), name("luke"), 0)],
                enrolments: vec![(ConnId(3), name("luke"), "secret".to_owned())],
            },
        ];
        let reports = reports(in_memory(), None, jobs);
        assert_eq!(reports.len(), 2);
        assert_eq!((reports[0].records, reports[0].stored), (0, true));
        let report = &reports[1];
        assert_eq!((report.records, report.stored, report.spare.len()), (2, true, 0));
        let expected = [
            (ConnId(1), Some(vec![letter("hans", 1, "hi"), letter("hans", 2, "ho")])),
            (ConnId(2), Some(vec![letter("hans", 2, "ho")])),
            (ConnId(3), Some(vec![])),
        ];
        assert_eq!(report.pages, expected);
        assert_eq!(report.enrolled, [(ConnId(3), true)]);
    }

    #[test]
    fn a_job_that_cannot_be_stored_says_so_and_the_next_one_is_done() {
        let store = in_memory();
        let pages = count(&store.connection, "PRAGMA page_count");
        count(&store.connection, &format!("PRAGMA max_page_count = {pages}"));
        let big = message("yoda", "hans", 1, &"x".repeat(100_000));
        let jobs = vec![
            Job { records: vec![big.clone(), big], fetches: vec![(ConnId(1), name("yoda"), 0)], ..Job::default() },
            Job {
                records: vec![message("yoda", "hans", 2, "small")],
                fetches: vec![(ConnId(1), name("yoda"), 0)],
                ..Job::default()
            },
        ];
        let reports = reports(store, None, jobs);
        assert_eq!((reports[0].records, reports[0].stored), (2, false));
        assert_eq!(reports[0].pages, [(ConnId(1), Some(vec![]))]);
        assert_eq!((reports[1].records, reports[1].stored), (1, true));
        assert_eq!(reports[1].pages, [(ConnId(1), Some(vec![letter("hans", 2, "small")]))]);
    }

    #[test]
    fn accounts_are_in_the_file_before_the_report() {
        let folder = Folder::new();
        let path = folder.0.path().join("Credentials.txt");
        let enrolments = |password: &str| vec![(ConnId(1), name("hans"), password.to_owned())];
        let jobs = vec![
            Job { enrolments: enrolments("good"), ..Job::default() },
            Job { enrolments: enrolments("not good"), ..Job::default() },
        ];
        let reports = reports(in_memory(), Some(Appender::new(path.clone())), jobs);
        assert_eq!([&reports[0].enrolled, &reports[1].enrolled], [&[(ConnId(1), true)], &[(ConnId(1), false)]]);
        assert_eq!(fs::read_to_string(path).unwrap(), "hans good\n");
    }

    #[test]
    fn the_thread_ends_when_nobody_listens() {
        let (job_sender, job_receiver) = bounded(1);
        job_sender.send(Job::default()).unwrap();
        run(in_memory(), None, job_receiver, |_| false);
        assert!(job_sender.send(Job::default()).is_err(), "the channel is closed from the other side");
    }

    #[test]
    fn one_complaint_a_second_is_said() {
        let mut complaints = Complaints::default();
        let said: Vec<bool> =
            [0, 1, 999, 1000, 1001, 5000].map(|now| complaints.say(now, format_args!("test"))).to_vec();
        assert_eq!(said, [true, false, false, true, false, true]);
    }
}
