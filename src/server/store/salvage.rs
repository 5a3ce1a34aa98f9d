//! What can still be read of a damaged store, written into a fresh one.
//!
//! Each table is read from both ends up to the damage, and what is left between is halved again
//! and again in search of what lies behind. A message is kept only if its checksum says so; it
//! comes as perhaps repeated, because a store that has lost its log has forgotten what was read.
//! Numbers may have been lost with the rest, so the fresh store has an identity of its own, and
//! no sessions to resume; receipts that waited are gone. The damaged file is kept beside it.
//!
//! The first page says where the tables begin: if it is lost, the first page of the fresh store takes
//! its place. In a store that the first versions began some tables begin elsewhere, and are not
//! found then. All of this happens to a copy.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Row};

use super::schema::VERSION;
use super::start::GET_META;
use super::{OpenError, Place, Store, StoreError, beside, claim, read_letter};
use crate::server::state::{Change, GroupId, Record};
use crate::wire::name::{GroupName, UserName};
use crate::wire::{Letter, Road};

/// Halves of unreadable parts of one table that are tried.
const PROBES_MAX: usize = 1024;

// Each is swept by its first column; the first parameter says whose rows, and users are nobody's.
const USERS: &str = "SELECT id, name, last_seen, online, confirmed FROM users WHERE ?1 = 0 AND id BETWEEN ?2 AND ?3";
const NAMES: &str = "SELECT id, name FROM users INDEXED BY sqlite_autoindex_users_1 ORDER BY name";
const BLOCKED: &str = "SELECT blocked FROM blocks WHERE blocker = ?1 AND blocked BETWEEN ?2 AND ?3";
const MESSAGES: &str = "
    SELECT id, receiver, number, sender, sent, again, text, crc, scope, receipt FROM messages
    WHERE ?1 = 0 AND id BETWEEN ?2 AND ?3";
const GROUPS: &str = "SELECT id, name, owner FROM groups WHERE ?1 = 0 AND id BETWEEN ?2 AND ?3";
const MEMBERS: &str = "SELECT user FROM members WHERE grp = ?1 AND user BETWEEN ?2 AND ?3";

/// What became of a damaged store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Salvaged {
    /// The store, as the operator named it.
    pub path: PathBuf,
    /// Where the damaged file is now.
    pub aside: PathBuf,
    /// Messages that were kept.
    pub messages: usize,
    /// Blocks that were kept.
    pub blocks: usize,
    /// Groups that were kept.
    pub groups: usize,
    /// Messages that were read but did not fit their checksum: only the damaged file has them.
    pub altered: usize,
    /// Everything could be read.
    pub whole: bool,
}

impl fmt::Display for Salvaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |number: usize| if number == 1 { "" } else { "s" };
        let Self { messages, blocks, groups, altered, .. } = *self;
        write!(f, "{} was damaged: {messages} message{}, ", self.path.display(), plural(messages))?;
        write!(f, "{blocks} block{} and {groups} group{} kept", plural(blocks), plural(groups))?;
        if altered > 0 {
            write!(f, "; {altered} altered message{} left out", plural(altered))?;
        }
        f.write_str(if self.whole { "" } else { "; not all of it can be read" })?;
        write!(f, "; the damaged file is {}", self.aside.display())
    }
}

/// Puts a fresh store with all that can be read in the place of a damaged one.
///
/// `now` is wall time, in milliseconds since 1970. After an error the damaged store is where it was.
pub fn salvage(path: &Path, now: i64) -> Result<Salvaged, OpenError> {
    let refused = |error: io::Error| OpenError::from_io(path, &error);
    let (real, _lock) = claim(path)?;
    let [fresh, copy] = [".salvaged", ".copy"].map(|more| beside(&real, more));
    // What an attempt left that was broken off.
    remove(&fresh).and_then(|()| remove(&copy)).map_err(refused)?;
    // Closed, it is one whole file without a log.
    drop(Store::open(&Place::File(fresh.clone()), now)?);
    duplicate(&real, &copy, |from, to| fs::copy(from, to).map(drop)).map_err(refused)?;
    if let Some(version) = older_version(&copy) {
        remove(&fresh).and_then(|()| remove(&copy)).map_err(refused)?;
        let reason = format!("it has version {version}, and only the server that wrote it can salvage it");
        return Err(OpenError::Damaged { path: path.to_owned(), reason });
    }
    let damaged = open_damaged(&copy).or_else(|_| {
        patch(&copy, &fresh)?;
        open_damaged(&copy).map_err(io::Error::other)
    });
    let (mut store, _) = Store::open(&Place::File(fresh.clone()), now)?;
    let moved = damaged.map_or(Ok(Moved::default()), |damaged| move_rows(&damaged, &mut store));
    drop(store);
    remove(&copy).map_err(refused)?;
    let moved = moved.map_err(|error| OpenError::NotWritable { path: fresh.clone(), reason: error.to_string() })?;
    let Moved { users, messages, blocks, groups, altered, whole } = moved;
    if users == 0 && !whole {
        remove(&fresh).map_err(refused)?;
        let reason = "nothing of it can be read; move it away to begin anew".to_owned();
        return Err(OpenError::Damaged { path: path.to_owned(), reason });
    }
    let aside = replace(&real, &fresh).map_err(refused)?;
    let aside = path.with_file_name(aside.file_name().unwrap_or_default());
    Ok(Salvaged { path: path.to_owned(), aside, messages, blocks, groups, altered, whole })
}

/// What belongs to a store besides the file itself.
const LOGS: [&str; 2] = ["-wal", "-journal"];

fn remove(store: &Path) -> io::Result<()> {
    for more in ["", "-wal", "-journal", "-shm", ".lock"] {
        match fs::remove_file(beside(store, more)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Gives a store and its logs a second name.
fn duplicate(store: &Path, other: &Path, how: impl Fn(&Path, &Path) -> io::Result<()>) -> io::Result<()> {
    how(store, other)?;
    LOGS.iter()
        .map(|log| (beside(store, log), beside(other, log)))
        .filter(|(log, _)| log.exists())
        .try_for_each(|(log, other)| how(&log, &other))
}

/// Keeps the damaged file and its log by new names, and puts the fresh one in its place.
///
/// There is a store by the old name at any moment. A log must not meet a file to which it does
/// not belong, so it goes first.
fn replace(real: &Path, fresh: &Path) -> io::Result<PathBuf> {
    let free = (1u32..).map(|number| beside(real, &format!(".damaged-{number}"))).find(|path| !path.exists());
    let aside = free.ok_or(io::ErrorKind::AlreadyExists)?;
    duplicate(real, &aside, |from, to| fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(drop)))?;
    let folder = File::open(real.parent().unwrap_or(Path::new("/")))?;
    folder.sync_all()?;
    for more in LOGS.iter().chain(&["-shm"]) {
        match fs::remove_file(beside(real, more)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::rename(fresh, real)?;
    folder.sync_all()?;
    remove(fresh)?;
    Ok(aside)
}

/// Gives a store the first page of another one.
fn patch(store: &Path, other: &Path) -> io::Result<()> {
    /// Where the header has the size of the file, and of which change that size was.
    const SIZES: [usize; 2] = [28, 92];
    let mut page = [0; 4096];
    File::open(other)?.read_exact(&mut page)?;
    for at in SIZES {
        // A size that is not of the last change does not count.
        page[at..at + 4].fill(0);
    }
    OpenOptions::new().write(true).open(store)?.write_all_at(&page, 0)
}

/// The version of a store whose tables are not those of this server, as far as it can be read.
fn older_version(copy: &Path) -> Option<i64> {
    let connection = Connection::open_with_flags(copy, OpenFlags::SQLITE_OPEN_READ_WRITE).ok()?;
    let version = connection.pragma_query_value(None, "user_version", |row| row.get(0)).ok()?;
    (1..VERSION).contains(&version).then_some(version)
}

/// Opens a copy of a damaged store so that SQLite looks closely at every page.
fn open_damaged(copy: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(copy, flags)?;
    connection.execute_batch(
        "PRAGMA query_only = ON; PRAGMA writable_schema = ON; PRAGMA cell_size_check = ON; PRAGMA trusted_schema = OFF",
    )?;
    // Fails if the tables cannot be found.
    for sql in [USERS, BLOCKED, MESSAGES] {
        drop(connection.prepare(sql)?);
    }
    Ok(connection)
}

#[derive(Debug, Default)]
struct Moved {
    users: usize,
    messages: usize,
    blocks: usize,
    groups: usize,
    altered: usize,
    whole: bool,
}

fn move_rows(damaged: &Connection, fresh: &mut Store) -> Result<Moved, StoreError> {
    let mut moved = Moved::default();
    let heartbeat = damaged.query_row(GET_META, ["heartbeat"], |row| row.get(0)).unwrap_or(0);
    let (users, whole) = read_users(damaged, heartbeat);
    (moved.users, moved.whole) = (users.len(), whole);
    let mut seen = Vec::new();
    for user in users.values() {
        let records = user.names.iter().zip(user.seen.into_iter().cycle());
        seen.extend(records.map(|(name, wall)| Record::WentOffline { user: name.clone(), wall }));
    }
    fresh.commit(&seen)?;

    let (rows, whole) = sweep(damaged, MESSAGES, 0, |row| read_message(row, &users));
    moved.whole &= whole;
    let mut messages = Vec::new();
    for message in rows.into_values() {
        match message {
            Message::Whole(record) => messages.push(record),
            Message::Altered => moved.altered += 1,
            Message::Read => {}
        }
    }
    moved.messages = messages.len();
    fresh.commit(&messages)?;

    for (&id, user) in &users {
        let (rows, whole) = sweep(damaged, BLOCKED, id, |_| ());
        moved.whole &= whole;
        let mut blocks = Vec::new();
        for whom in rows.keys().filter_map(|id| users.get(id)).flat_map(|user| &user.names) {
            blocks.extend(user.names.iter().map(|by| Record::Block { by: by.clone(), whom: whom.clone() }));
        }
        moved.blocks += blocks.len();
        fresh.commit(&blocks)?;
    }

    let (groups, whole) = sweep(damaged, GROUPS, 0, |row| {
        let name = GroupName::parse(row.get_ref(1).ok()?.as_str().ok()?)?;
        Some((name, row.get::<_, i64>(2).ok()?))
    });
    moved.whole &= whole;
    for (id, group) in groups {
        let (rows, whole) = sweep(damaged, MEMBERS, id, |_| ());
        moved.whole &= whole;
        let name_of = |id: &i64| users.get(id)?.names.first().cloned();
        let Some((name, owner)) = group.and_then(|(name, owner)| Some((name, name_of(&owner)?))) else { continue };
        let members = rows.keys().filter_map(name_of).collect();
        let change = Change::Made { name, owner, members };
        fresh.commit(&[Record::Group { group: GroupId(id.unsigned_abs()), change }])?;
        moved.groups += 1;
    }
    Ok(moved)
}

/// What is left of a row of `users`.
#[derive(Debug, Default)]
struct User {
    /// The name in the table and the one in its index: one of them may be damaged.
    names: BTreeSet<UserName>,
    seen: Option<i64>,
    /// Messages up to this number were read.
    confirmed: i64,
}

fn read_users(damaged: &Connection, heartbeat: i64) -> (BTreeMap<i64, User>, bool) {
    let (mut users, whole) = sweep(damaged, USERS, 0, |row| {
        let online = row.get(3).unwrap_or(0) != 0;
        let seen = row.get(2).unwrap_or(None);
        let seen = if online { seen.max(Some(heartbeat)) } else { seen };
        User { names: read_name(row).into_iter().collect(), seen, confirmed: row.get(4).unwrap_or(0) }
    });
    let named = users.len();
    for order in ["ASC", "DESC"] {
        let mut last: Option<UserName> = None;
        let _ = damaged.prepare(&format!("{NAMES} {order}")).and_then(|mut statement| {
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let (id, name) = (row.get(0)?, read_name(row));
                // Pages that point back to each other would go round for ever.
                if last.as_ref().zip(name.as_ref()).is_some_and(|(a, b)| (order == "ASC") != (a < b)) {
                    break;
                }
                users.entry(id).or_default().names.extend(name.clone());
                last = name.or(last);
            }
            Ok(())
        });
    }
    // What the index has of a lost row is its name alone.
    let whole = whole && users.len() == named;
    (users, whole)
}

fn read_name(row: &Row<'_>) -> Option<UserName> {
    UserName::parse(row.get_ref(1).ok()?.as_str().ok()?).ok()
}

/// What is left of a row of `messages`.
#[derive(Debug)]
enum Message {
    /// All of it.
    Whole(Record),
    /// There are no names with which it fits its checksum.
    Altered,
    /// Nobody needs it any more.
    Read,
}

fn read_message(row: &Row<'_>, users: &BTreeMap<i64, User>) -> Message {
    let user = |column| row.get::<_, i64>(column).ok().and_then(|id| users.get(&id));
    let (Some(receiver), Some(sender)) = (user(1), user(3)) else { return Message::Altered };
    let column = |column| row.get_ref(column).unwrap_or(ValueRef::Null);
    for (to, from) in receiver.names.iter().flat_map(|to| sender.names.iter().map(move |from| (to, from))) {
        let from = ValueRef::Text(from.as_str().as_bytes());
        let columns = [column(2), from, column(4), column(5), column(6), column(7), column(8), column(9)];
        if let Some(letter) = read_letter(to, columns) {
            if i64::try_from(letter.number).is_ok_and(|number| number <= receiver.confirmed) {
                return Message::Read;
            }
            let letter = Letter { road: Road::Again, ..letter };
            return Message::Whole(Record::Message { to: vec![to.clone()], letter, tag: None });
        }
    }
    Message::Altered
}

/// The rows of `sql` by their key, which is the first column, as far as they can be read; and
/// whether those are all.
fn sweep<T>(damaged: &Connection, sql: &str, of: i64, take: impl Fn(&Row<'_>) -> T) -> (BTreeMap<i64, T>, bool) {
    let mut found = BTreeMap::new();
    let mut whole = true;
    let mut holes = VecDeque::from([(i64::MIN, i64::MAX)]);
    for _ in 0..PROBES_MAX {
        let Some(hole) = holes.pop_front() else { break };
        let forwards = read_on(damaged, sql, of, hole, false, |key, row| drop(found.insert(key, take(row))));
        let Err(hole) = forwards else { continue };
        let backwards = read_on(damaged, sql, of, hole, true, |key, row| drop(found.insert(key, take(row))));
        let Err((low, high)) = backwards else { continue };
        if low < high {
            let middle = low.midpoint(high);
            holes.extend([(low, middle), (middle + 1, high)]);
        } else {
            whole = false;
        }
    }
    (found, whole && holes.is_empty())
}

/// Reads the rows with keys from `low` to `high` from one end; the error is what has not been read.
fn read_on(
    damaged: &Connection,
    sql: &str,
    of: i64,
    (mut low, mut high): (i64, i64),
    backwards: bool,
    mut take: impl FnMut(i64, &Row<'_>),
) -> Result<(), (i64, i64)> {
    let order = if backwards { "DESC" } else { "ASC" };
    let mut read = || {
        let mut statement = damaged.prepare_cached(&format!("{sql} ORDER BY 1 {order}"))?;
        let mut rows = statement.query([of, low, high])?;
        while let Some(row) = rows.next()? {
            let key: i64 = row.get(0)?;
            // Pages that point back to each other would go round for ever.
            if key < low || key > high {
                return Err(rusqlite::Error::InvalidQuery);
            }
            take(key, row);
            if key == if backwards { low } else { high } {
                return Ok(());
            }
            *(if backwards { &mut high } else { &mut low }) = if backwards { key - 1 } else { key + 1 };
        }
        Ok(())
    };
    let outcome = read();
    outcome.map_err(|_| (low, high))
}
