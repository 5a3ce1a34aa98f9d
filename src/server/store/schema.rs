//! The tables, what brings an older file up to them, and what a file must be like to be used.

use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode};

use super::Journal;
use super::error::OpenError;

/// Marks the file as ours: `chin`.
pub(super) const APPLICATION_ID: i64 = 0x6368_696e;

/// What brings a file from version `n` to version `n + 1`; only ever added to.
pub(super) const MIGRATIONS: [&str; 4] = [
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
    "
ALTER TABLE users ADD COLUMN confirmed INTEGER NOT NULL DEFAULT 0; -- messages up to this number were read
ALTER TABLE messages RENAME TO mailboxes;
DROP INDEX message_tags;
CREATE TABLE messages (                         -- in the order in which they were written
    id INTEGER PRIMARY KEY,
    receiver INTEGER NOT NULL,                  -- of users; a reference would be looked up for each
    number INTEGER NOT NULL,                    -- rises with every text; many may read one text
    sender INTEGER NOT NULL,                    -- the same
    sent INTEGER NOT NULL,                      -- milliseconds since 1970, UTC
    again INTEGER NOT NULL,                     -- 1: the receiver may have seen it already
    text TEXT NOT NULL,
    crc INTEGER NOT NULL,                       -- over all but the tag, users by name
    session INTEGER,
    line INTEGER,                               -- with session: the tag that the sender gave it
    scope TEXT,                                 -- 'general', or 'group ' and its name; NULL: to one user
    receipt INTEGER NOT NULL                    -- 1: the sender wants to know when it is read
);
INSERT INTO messages (receiver, number, sender, sent, again, text, crc, session, line, scope, receipt)
    SELECT receiver, number, sender, sent, again, text, crc, session, line, scope, receipt FROM mailboxes
    ORDER BY number;
DROP TABLE mailboxes;
CREATE UNIQUE INDEX message_tags ON messages (sender, session, line, receiver) WHERE session IS NOT NULL;
CREATE VIEW waiting AS                          -- for a person who looks inside
    SELECT receiver.name AS receiver, sender.name AS sender, datetime(sent / 1000, 'unixepoch') AS sent, scope, text
    FROM messages JOIN users AS receiver ON receiver.id = receiver JOIN users AS sender ON sender.id = sender
    WHERE number > receiver.confirmed;
",
];

/// The `user_version` of a file that this program writes.
pub(super) const VERSION: i64 = MIGRATIONS.len() as i64;

/// Looks before anything is written: is it ours, and what is its version?
pub(super) fn check(connection: &Connection, path: &Path) -> Result<usize, OpenError> {
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
pub(super) fn examine(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let found: String = connection
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        .map_err(|error| OpenError::from_sqlite(path, &error))?;
    if found == "ok" {
        return Ok(());
    }
    let reason = found.lines().next_back().unwrap_or_default().to_owned();
    Err(OpenError::Damaged { path: path.to_owned(), reason })
}

pub(super) fn set_up(connection: &Connection) -> rusqlite::Result<Journal> {
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

pub(super) fn upgrade(connection: &Connection, version: usize) -> rusqlite::Result<()> {
    if version == MIGRATIONS.len() {
        return Ok(());
    }
    for migration in &MIGRATIONS[version..] {
        connection.execute_batch(migration)?;
    }
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.pragma_update(None, "user_version", VERSION)
}
