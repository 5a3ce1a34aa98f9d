//! What `src/server/store.rs` promises, in memory: batches that hold or not, pages, a restart.

use std::collections::{BTreeMap, BTreeSet};

use chinwag::server::state::{Change, GroupId, Receipt, Record, Remembered, RememberedUser, Tokens};
use chinwag::wire::name::{GroupName, UserName};
use chinwag::wire::{Letter, Road, Tag};

/// The identity of the simulated store.
pub(crate) const STORE: &str = "mystore";

/// Messages in one page: few, so that there are many pages.
const PAGE_MESSAGES_MAX: usize = 64;

/// A message number is the count of starts above so many bits.
const SEQUENCE_BITS: u32 = 40;

/// What is on the disk.
#[derive(Debug, Default)]
pub(crate) struct Store {
    rows: Vec<Row>,
    blocks: BTreeSet<(UserName, UserName)>,
    groups: Vec<(GroupId, GroupName, UserName, Vec<UserName>)>,
    receipts: BTreeMap<(UserName, UserName), Receipt>,
    starts: u64,
    heartbeat: i64,
}

#[derive(Debug)]
struct Row {
    name: UserName,
    online: bool,
    last_seen: Option<i64>,
    tokens: Tokens,
    letters: BTreeMap<u64, (Letter, Option<Tag>)>,
}

impl Store {
    /// A server starts: whoever was online counts as gone since the last sign of life.
    pub(crate) fn open(&mut self, wall: i64) -> Remembered {
        self.starts += 1;
        let mut remembered = Remembered {
            store: STORE.to_owned(),
            first_number: self.starts << SEQUENCE_BITS,
            blocks: self.blocks.iter().cloned().collect(),
            groups: self.groups.clone(),
            receipts: self.receipts.iter().map(|((to, by), receipt)| (to.clone(), by.clone(), *receipt)).collect(),
            ..Remembered::default()
        };
        for row in &mut self.rows {
            if std::mem::take(&mut row.online) {
                row.last_seen = row.last_seen.max(Some(self.heartbeat));
            }
            let tags = row.letters.values().filter_map(|(letter, tag)| Some((letter.from.clone(), (*tag)?)));
            remembered.tags.extend(tags.map(|(from, tag)| (from, tag, row.name.clone())));
            remembered.users.push(RememberedUser {
                name: row.name.clone(),
                last_seen: row.last_seen,
                waiting: u32::try_from(row.letters.len()).expect("a small mailbox"),
                bytes: row.letters.values().map(|(letter, _)| letter.text.as_str().len()).sum(),
                last: row.letters.keys().next_back().copied().unwrap_or(0),
                tokens: row.tokens,
            });
        }
        remembered.tags.sort_by_key(|(_, tag, _)| *tag);
        self.heartbeat = wall;
        remembered
    }

    pub(crate) fn commit(&mut self, records: &[Record]) {
        records.iter().for_each(|record| self.write(record));
    }

    fn write(&mut self, record: &Record) {
        match record {
            Record::Message { to, letter, tag } => to.iter().for_each(|to| self.add(to, letter, *tag)),
            Record::Receipt { to, by, receipt: Some(receipt) } => {
                self.receipts.insert((to.clone(), by.clone()), *receipt);
            }
            Record::Receipt { to, by, receipt: None } => drop(self.receipts.remove(&(to.clone(), by.clone()))),
            Record::Group { group, change } => self.change(*group, change),
            Record::Confirmed { user, upto } => {
                let row = self.row(user);
                if row.letters.first_key_value().is_some_and(|(first, _)| first <= upto) {
                    row.letters = row.letters.split_off(&(upto + 1));
                }
            }
            Record::Block { by, whom } => drop(self.blocks.insert((by.clone(), whom.clone()))),
            Record::Unblock { by, whom } => drop(self.blocks.remove(&(by.clone(), whom.clone()))),
            Record::Tokens { user, tokens } => self.row(user).tokens = *tokens,
            Record::CameOnline { user, wall } => self.see(user, true, *wall),
            Record::WentOffline { user, wall } => self.see(user, false, *wall),
            Record::Nothing => {}
            Record::Heartbeat { wall } => self.heartbeat = *wall,
        }
    }

    fn see(&mut self, user: &UserName, online: bool, wall: i64) {
        let row = self.row(user);
        (row.online, row.last_seen) = (online, Some(wall));
    }

    /// A number that is there already is only replaced by what comes again; a line is stored once.
    fn add(&mut self, to: &UserName, letter: &Letter, tag: Option<Tag>) {
        let row = self.row(to);
        let is_known =
            tag.is_some() && row.letters.values().any(|(other, known)| *known == tag && other.from == letter.from);
        if let Some((kept, _)) = row.letters.get_mut(&letter.number) {
            if letter.road == Road::Again {
                *kept = letter.clone();
            }
        } else if !is_known {
            row.letters.insert(letter.number, (letter.clone(), tag));
        }
    }

    fn change(&mut self, id: GroupId, change: &Change<UserName>) {
        let is_taken = |name| self.groups.iter().any(|(_, other, ..)| other == name);
        match change {
            Change::Made { name, .. } | Change::Renamed(name) if is_taken(name) => {}
            Change::Made { name, owner, members } => {
                self.groups.push((id, name.clone(), owner.clone(), members.clone()));
            }
            Change::Gone => self.groups.retain(|(group, ..)| *group != id),
            _ => {
                let Some((_, name, owner, members)) = self.groups.iter_mut().find(|(group, ..)| *group == id) else {
                    return;
                };
                match change {
                    Change::Added(users) => {
                        members.extend(users.iter().cloned());
                        members.sort_unstable();
                        members.dedup();
                    }
                    Change::Removed(users) if users.contains(owner) => {}
                    Change::Removed(users) => members.retain(|member| !users.contains(member)),
                    Change::Renamed(fresh) => *name = fresh.clone(),
                    Change::Owned(user) if !members.contains(user) => {}
                    Change::Owned(user) => *owner = user.clone(),
                    Change::Made { .. } | Change::Gone => {}
                }
            }
        }
    }

    /// The next page of a mailbox: numbers above `after`.
    pub(crate) fn page(&mut self, user: &UserName, after: u64) -> Vec<Letter> {
        let letters = self.row(user).letters.range(after + 1..).take(PAGE_MESSAGES_MAX);
        let road = |road| if road == Road::Again { Road::Again } else { Road::Mail };
        letters.map(|(_, (letter, _))| Letter { road: road(letter.road), ..letter.clone() }).collect()
    }

    fn row(&mut self, name: &UserName) -> &mut Row {
        let at = self.rows.iter().position(|row| row.name == *name).unwrap_or_else(|| {
            let name = name.clone();
            self.rows.push(Row {
                name,
                online: false,
                last_seen: None,
                tokens: Tokens::default(),
                letters: BTreeMap::new(),
            });
            self.rows.len() - 1
        });
        &mut self.rows[at]
    }
}
