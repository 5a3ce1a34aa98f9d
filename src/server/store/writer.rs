//! Records as rows.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, LazyLock};

use rusqlite::{CachedStatement, Connection, OptionalExtension, Statement, ToSql, params};

use super::error::StoreError;
use super::letter::{checksum, scope_word};
use super::mailboxes::Mailboxes;
use super::number_or_max;
use crate::server::state::{Change, GroupId, Receipt, Record};
use crate::wire::name::UserName;
use crate::wire::{Letter, Road, Tag};

const ADD_USER: &str = "INSERT INTO users (name) VALUES (?1) ON CONFLICT (name) DO NOTHING";
const FIND_USER: &str = "SELECT id FROM users WHERE name = ?1";
const SET_SEEN: &str = "UPDATE users SET online = ?2, last_seen = ?3 WHERE id = ?1";
const SET_TOKEN: &str = "UPDATE users SET token = ?2, used_token = ?3 WHERE id = ?1";
const ADD_BLOCK: &str = "INSERT INTO blocks (blocker, blocked) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
const DROP_BLOCK: &str = "DELETE FROM blocks WHERE blocker = ?1 AND blocked = ?2";
const ADD_MESSAGE: &str = "
    INSERT INTO messages (id, receiver, number, sender, sent, again, text, crc, session, line, scope, receipt)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
    ON CONFLICT (sender, session, line, receiver) WHERE session IS NOT NULL DO NOTHING";

/// Untagged messages written by one statement, which costs less than one for each.
const ROWS_AT_ONCE: usize = 16;

/// The same for messages without a tag, which cannot be there yet: for one, and for so many.
static ADD_ROW: LazyLock<String> = LazyLock::new(|| add_rows(1));
static ADD_ROWS: LazyLock<String> = LazyLock::new(|| add_rows(ROWS_AT_ONCE));

const CHANGE_MESSAGE: &str = "
    UPDATE messages SET sender = ?2, sent = ?3, again = ?4, text = ?5, crc = ?6, scope = ?7, receipt = ?8
    WHERE id = ?1";
pub(super) const DROP_MESSAGES: &str = "DELETE FROM messages WHERE id BETWEEN ?1 AND ?2";
pub(super) const COPY_DAMAGED: &str = "
    INSERT INTO damaged SELECT receiver, number, sender, sent, again, text, crc, ?2, scope, receipt FROM messages
    WHERE id = ?1";
const DROP_ALL_MESSAGES: &str = "DELETE FROM messages";

/// The row that has a tag, if it was read.
const DROP_READ_TAG: &str = "
    DELETE FROM messages WHERE sender = ?1 AND session = ?2 AND line = ?3 AND receiver = ?4
    AND number <= (SELECT confirmed FROM users WHERE users.id = receiver)";

const SET_CONFIRMED: &str = "UPDATE users SET confirmed = ?2 WHERE id = ?1";
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
pub(super) const SET_META: &str = "
    INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";

/// The row ids of users, as far as they have been needed.
#[derive(Debug, Default)]
pub(super) struct Ids(HashMap<UserName, i64>);

impl Ids {
    pub(super) fn know(&mut self, name: UserName, id: i64) {
        self.0.insert(name, id);
    }

    pub(super) fn find(&mut self, connection: &Connection, name: &UserName) -> rusqlite::Result<Option<i64>> {
        if let Some(&id) = self.0.get(name) {
            return Ok(Some(id));
        }
        let id = connection.prepare_cached(FIND_USER)?.query_row([name.as_str()], |row| row.get(0)).optional()?;
        if let Some(id) = id {
            self.0.insert(name.clone(), id);
        }
        Ok(id)
    }

    pub(super) fn find_or_add(&mut self, connection: &Connection, name: &UserName) -> rusqlite::Result<i64> {
        if let Some(id) = self.find(connection, name)? {
            return Ok(id);
        }
        connection.prepare_cached(ADD_USER)?.execute([name.as_str()])?;
        self.find(connection, name)?.ok_or(rusqlite::Error::QueryReturnedNoRows)
    }

    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}

/// A message as it is written for each of its receivers.
struct Message {
    letter: Arc<Letter>,
    number: i64,
    sender: i64,
    scope: Option<Cow<'static, str>>,
    tag: Option<(i64, i64)>,
}

impl Message {
    fn checksum(&self, to: &UserName) -> i64 {
        let Letter { from, text, sent, road, receipt, .. } = &*self.letter;
        let words = [to.as_str(), from.as_str(), text.as_str()];
        checksum(words, [self.number, *sent, i64::from(*road == Road::Again)], self.scope.as_deref(), *receipt)
    }
}

/// The row of an untagged message.
struct Row {
    row: i64,
    receiver: i64,
    crc: i64,
    number: i64,
    sender: i64,
    scope: Option<Cow<'static, str>>,
    letter: Arc<Letter>,
}

impl Row {
    const COLUMNS: usize = 10;

    /// Puts it in the place of the parameters that begin at `first`.
    fn bind(&self, statement: &mut Statement<'_>, first: usize) -> rusqlite::Result<()> {
        let Self { row, receiver, crc, number, sender, scope, letter } = self;
        let (again, text) = (letter.road == Road::Again, letter.text.as_str());
        let values: [&dyn ToSql; Self::COLUMNS] =
            [row, receiver, number, sender, &letter.sent, &again, &text, crc, scope, &letter.receipt];
        let mut places = (first..).zip(values);
        places.try_for_each(|(place, value)| statement.raw_bind_parameter(place, value))
    }
}

fn add_rows(count: usize) -> String {
    let row = format!("({})", ["?"; Row::COLUMNS].join(", "));
    let rows = vec![row; count].join(", ");
    format!("INSERT INTO messages (id, receiver, number, sender, sent, again, text, crc, scope, receipt) VALUES {rows}")
}

/// Writes records within a transaction, up to [`Writer::finish`]. After a failure its mailboxes are
/// not those of the file.
pub(super) struct Writer<'a> {
    connection: &'a Connection,
    ids: &'a mut Ids,
    mailboxes: &'a mut Mailboxes,
    add_message: CachedStatement<'a>,
    /// Messages, fewer than [`ROWS_AT_ONCE`], that are written before anything else is done with messages.
    gathered: Vec<Row>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        connection: &'a Connection,
        ids: &'a mut Ids,
        mailboxes: &'a mut Mailboxes,
    ) -> rusqlite::Result<Self> {
        let add_message = connection.prepare_cached(ADD_MESSAGE)?;
        Ok(Self { connection, ids, mailboxes, add_message, gathered: Vec::new() })
    }

    fn id(&mut self, user: &UserName) -> rusqlite::Result<i64> {
        self.ids.find_or_add(self.connection, user)
    }

    fn execute(&self, sql: &str, values: impl rusqlite::Params) -> rusqlite::Result<usize> {
        self.connection.prepare_cached(sql)?.execute(values)
    }

    pub(super) fn write(&mut self, record: &Record) -> Result<(), StoreError> {
        match record {
            Record::Message { to, letter, tag } => self.write_message(to, letter, *tag)?,
            Record::Confirmed { user, upto } => {
                if let Some(receiver) = self.ids.find(self.connection, user)?
                    && let Some(last) = self.mailboxes.confirm(receiver, number_or_max(*upto))
                {
                    self.execute(SET_CONFIRMED, [receiver, last])?;
                }
            }
            Record::Receipt { to, by, receipt } => {
                let (sender, reader) = (self.id(to)?, self.id(by)?);
                match receipt {
                    Some(Receipt { texts, sent, seen }) => {
                        self.execute(SET_RECEIPT, params![sender, reader, texts, sent, seen])?
                    }
                    None => self.execute(DROP_RECEIPT, [sender, reader])?,
                };
            }
            Record::Block { by, whom } => {
                let pair = [self.id(by)?, self.id(whom)?];
                self.execute(ADD_BLOCK, pair)?;
            }
            Record::Unblock { by, whom } => {
                if let (Some(by), Some(whom)) =
                    (self.ids.find(self.connection, by)?, self.ids.find(self.connection, whom)?)
                {
                    self.execute(DROP_BLOCK, [by, whom])?;
                }
            }
            Record::Group { group, change } => self.write_group(*group, change)?,
            Record::CameOnline { user, wall } => {
                let id = self.id(user)?;
                self.execute(SET_SEEN, params![id, 1, wall])?;
            }
            Record::WentOffline { user, wall } => {
                let id = self.id(user)?;
                self.execute(SET_SEEN, params![id, 0, wall])?;
            }
            Record::Tokens { user, tokens } => {
                let id = self.id(user)?;
                self.execute(SET_TOKEN, params![id, tokens.latest, tokens.used])?;
            }
            Record::Nothing => {}
            Record::Heartbeat { wall } => {
                self.execute(SET_META, params!["heartbeat", wall])?;
            }
        }
        Ok(())
    }

    fn write_message(&mut self, to: &[UserName], letter: &Letter, tag: Option<Tag>) -> Result<(), StoreError> {
        let again = letter.road == Road::Again;
        let message = Message {
            number: i64::try_from(letter.number).map_err(|_| StoreError::NumberTooBig(letter.number))?,
            sender: self.id(&letter.from)?,
            scope: scope_word(&letter.scope),
            tag: tag.map(|tag| (number_or_max(tag.session), number_or_max(tag.line))),
            letter: Arc::new(Letter { road: if again { Road::Again } else { Road::Mail }, ..letter.clone() }),
        };
        for to in to {
            let receiver = self.id(to)?;
            if self.mailboxes.is_read(receiver, message.number) {
                self.take_back(receiver, message.number)?;
            }
            let crc = message.checksum(to);
            let row = match self.mailboxes.row_of(receiver, message.number) {
                Some(_) if !again => None,
                Some(row) => self.change(row, crc, &message)?,
                None => self.add(receiver, crc, &message)?,
            };
            if let Some(row) = row {
                self.mailboxes.put(receiver, message.number, row, Some(message.letter.clone()));
            }
        }
        Ok(())
    }

    /// Makes room for a message that somebody gives back who has not read it, although its receiver
    /// has confirmed it, or a later one, elsewhere.
    fn take_back(&mut self, receiver: i64, number: i64) -> Result<(), StoreError> {
        let rows = self.mailboxes.revoke(receiver, number - 1);
        self.delete(rows)?;
        self.execute(SET_CONFIRMED, [receiver, number - 1])?;
        Ok(())
    }

    /// Gives a row to a message, unless another has its tag.
    fn add(&mut self, receiver: i64, crc: i64, message: &Message) -> rusqlite::Result<Option<i64>> {
        let row = self.mailboxes.next_row();
        let &Message { ref letter, number, sender, ref scope, tag } = message;
        let Some((session, line)) = tag else {
            let (scope, letter) = (scope.clone(), Arc::clone(letter));
            self.gathered.push(Row { row, receiver, crc, number, sender, scope, letter });
            if self.gathered.len() == ROWS_AT_ONCE {
                self.write_gathered()?;
            }
            return Ok(Some(row));
        };
        self.write_gathered()?;
        let (again, text) = (letter.road == Road::Again, letter.text.as_str());
        let sent = letter.sent;
        let values =
            params![row, receiver, number, sender, sent, again, text, crc, session, line, scope, letter.receipt];
        let mut is_new = self.add_message.execute(values)? == 1;
        if !is_new && self.execute(DROP_READ_TAG, params![sender, session, line, receiver])? == 1 {
            is_new = self.add_message.execute(values)? == 1;
        }
        Ok(is_new.then_some(row))
    }

    fn write_gathered(&mut self) -> rusqlite::Result<()> {
        let is_full = self.gathered.len() == ROWS_AT_ONCE;
        let (sql, at_once) = if is_full { (&ADD_ROWS, ROWS_AT_ONCE) } else { (&ADD_ROW, 1) };
        for rows in self.gathered.chunks(at_once) {
            let mut statement = self.connection.prepare_cached(sql)?;
            for (row, first) in rows.iter().zip((1..).step_by(Row::COLUMNS)) {
                row.bind(&mut statement, first)?;
            }
            statement.raw_execute()?;
        }
        self.gathered.clear();
        Ok(())
    }

    /// Puts a message in the place of what has its number; that keeps its tag.
    fn change(&mut self, row: i64, crc: i64, message: &Message) -> rusqlite::Result<Option<i64>> {
        self.write_gathered()?;
        let Message { letter, sender, scope, .. } = message;
        let (again, text) = (letter.road == Road::Again, letter.text.as_str());
        self.execute(CHANGE_MESSAGE, params![row, sender, letter.sent, again, text, crc, scope, letter.receipt])?;
        Ok(Some(row))
    }

    /// Writes what is left, and deletes the messages that were read if there are too many of them.
    pub(super) fn finish(&mut self) -> Result<(), StoreError> {
        self.write_gathered()?;
        if self.mailboxes.is_sweep_due() { self.sweep() } else { Ok(()) }
    }

    /// Deletes the messages that were read.
    pub(super) fn sweep(&mut self) -> Result<(), StoreError> {
        self.write_gathered()?;
        let rows = self.mailboxes.sweep();
        if self.mailboxes.is_empty() {
            // SQLite gives up the whole table without a look at its rows.
            self.execute(DROP_ALL_MESSAGES, [])?;
            return Ok(());
        }
        self.delete(rows)
    }

    fn delete(&mut self, rows: Vec<RangeInclusive<i64>>) -> Result<(), StoreError> {
        self.write_gathered()?;
        let mut statement = self.connection.prepare_cached(DROP_MESSAGES)?;
        for run in rows {
            statement.execute([run.start(), run.end()])?;
        }
        Ok(())
    }

    /// Changes a group if the change still has its ground; the state decides in the same way.
    fn write_group(&mut self, group: GroupId, change: &Change<UserName>) -> Result<(), StoreError> {
        let id = i64::try_from(group.0).map_err(|_| StoreError::NumberTooBig(group.0))?;
        if let Change::Made { name, owner, .. } = change {
            let owner = self.id(owner)?;
            self.execute(ADD_GROUP, params![id, name.as_str(), owner])?;
        }
        let owner: Option<i64> =
            self.connection.prepare_cached(FIND_OWNER)?.query_row([id], |row| row.get(0)).optional()?;
        let Some(owner) = owner else { return Ok(()) };
        match change {
            Change::Made { members: users, .. } | Change::Added(users) => {
                for user in users {
                    let user = self.id(user)?;
                    self.execute(ADD_MEMBER, [id, user])?;
                }
            }
            Change::Removed(users) => {
                let users: Vec<i64> = users.iter().map(|user| self.id(user)).collect::<Result<_, _>>()?;
                if !users.contains(&owner) {
                    users.iter().try_for_each(|&user| self.execute(DROP_MEMBER, [id, user]).map(drop))?;
                }
            }
            Change::Renamed(name) => {
                self.execute(NAME_GROUP, params![id, name.as_str()])?;
            }
            Change::Owned(user) => {
                let user = self.id(user)?;
                self.execute(OWN_GROUP, [id, user])?;
            }
            Change::Gone => {
                self.execute(DROP_GROUP, [id])?;
            }
        }
        Ok(())
    }
}

pub(super) fn wall_of(record: &Record) -> Option<i64> {
    match record {
        Record::CameOnline { wall, .. } | Record::WentOffline { wall, .. } | Record::Heartbeat { wall } => Some(*wall),
        _ => None,
    }
}
