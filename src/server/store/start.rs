//! The first transaction of a run, and what earlier runs left.

use std::path::Path;

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

use super::error::OpenError;
use super::letter::read_letter;
use super::schema::upgrade;
use super::writer::{COPY_DAMAGED, Ids, SET_META};
use crate::server::state::{GroupId, Receipt, Remembered, RememberedUser, TokenHash, Tokens};
use crate::wire::Tag;
use crate::wire::name::{GroupName, UserName};

/// A message number is the start counter above so many bits of sequence.
const SEQUENCE_BITS: u32 = 40;

/// Start counters end here, so that every message number is a positive SQLite integer.
pub(super) const STARTS_END: i64 = 1 << (63 - SEQUENCE_BITS);

/// How far users have read, where nobody can have read so far yet: their mail comes again then.
const DOUBT_CONFIRMED: &str = "
    UPDATE users SET confirmed = 0 WHERE typeof(confirmed) <> 'integer' OR confirmed >> ?2 > ?1";

/// What was read, as far as the file tells.
const ALL_READ: &str = "
    SELECT messages.id, receiver.name, number, sender.name, sent, again, text, crc, scope, receipt FROM messages
    JOIN users AS receiver ON receiver.id = messages.receiver LEFT JOIN users AS sender ON sender.id = messages.sender
    WHERE number <= receiver.confirmed";
const DROP_READ: &str = "
    DELETE FROM messages WHERE number <= (SELECT confirmed FROM users WHERE users.id = receiver)";
pub(super) const GET_META: &str = "SELECT value FROM meta WHERE key = ?1";
const CLOSE_CRASHED: &str = "
    UPDATE users SET online = 0, last_seen = max(ifnull(last_seen, 0), ?1) WHERE online <> 0";
const ALL_USERS: &str = "
    SELECT name, last_seen, count, bytes, last, id, token, used_token FROM users LEFT JOIN (
        SELECT receiver, count(*) AS count, sum(octet_length(text)) AS bytes,
            max(CASE WHEN typeof(number) = 'integer' THEN number END) AS last
        FROM messages GROUP BY receiver
    ) ON receiver = id";
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

/// The first transaction of a run: upgrade, close what a crash left open, count the start.
pub(super) fn begin_run(
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
    let counted: i64 = meta(&transaction, "starts").map_err(refused)?.unwrap_or(0);
    transaction.execute(DOUBT_CONFIRMED, params![counted, SEQUENCE_BITS]).map_err(refused)?;
    drop_read(&transaction, now).map_err(refused)?;
    let heartbeat: i64 = meta(&transaction, "heartbeat").map_err(refused)?.unwrap_or(0);
    transaction.execute(CLOSE_CRASHED, [heartbeat]).map_err(refused)?;
    let (ids, mut remembered) = read_all(&transaction).map_err(refused)?;

    // The counter alone would do, unless somebody has edited it.
    let highest = remembered.users.iter().map(|user| user.last >> SEQUENCE_BITS).max().unwrap_or(0);
    let highest = i64::try_from(highest).unwrap_or(i64::MAX);
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

/// Deletes what was read before the last run ended. That is what its number says, so it is looked
/// at once more: a damaged one goes where it can be found.
fn drop_read(connection: &Connection, now: i64) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(ALL_READ)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let column = |column| row.get_ref(column).unwrap_or(ValueRef::Null);
        let columns = std::array::from_fn(|at| column(at + 2));
        if read_name(row, 1).is_some_and(|receiver| read_letter(&receiver, columns).is_none()) {
            let id: i64 = row.get(0)?;
            connection.execute(COPY_DAMAGED, [id, now])?;
            log::error!("a message that was read, or is damaged, is kept in the table \"damaged\": row {id}");
        }
    }
    connection.execute(DROP_READ, []).map(drop)
}

fn new_id() -> Result<String, String> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| format!("no random numbers: {error}"))?;
    Ok(format!("{:032x}", u128::from_be_bytes(random)))
}

fn meta<T: rusqlite::types::FromSql>(connection: &Connection, key: &str) -> rusqlite::Result<Option<T>> {
    connection.query_row(GET_META, [key], |row| row.get(0)).optional()
}

pub(super) fn read_all(connection: &Connection) -> rusqlite::Result<(Ids, Remembered)> {
    let mut ids = Ids::default();
    let mut remembered = Remembered::default();

    let mut statement = connection.prepare(ALL_USERS)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let Some(name) = read_name(row, 0) else { continue };
        // What is not a number here was put there by hand; it must not keep the server from starting.
        let number = |column| row.get_ref(column).ok()?.as_i64().ok();
        ids.know(name.clone(), row.get(5)?);
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
