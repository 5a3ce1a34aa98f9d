//! Everybody the server knows: the accounts, and names that only the store remembers.

use std::collections::{HashMap, HashSet};
use std::ops::{Index, IndexMut};

use super::RememberedUser;
use super::lines::Lines;
use super::login::Failures;
use super::mailbox::Mailbox;
use super::receipts::Receipts;
use super::tokens::Tokens;
use crate::server::ids::ConnId;
use crate::wire::name::UserName;
use crate::wire::time::Moment;
use crate::wire::{Ago, Notice, Tag};

/// One user's place in the [`Roster`]; never given to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct UserId(usize);

impl UserId {
    /// The one before all others.
    pub(super) const FIRST: Self = Self(0);
}

/// One user.
#[derive(Debug)]
pub(super) struct User {
    pub(super) name: UserName,
    /// `None`: the name has left Credentials.txt. What it owns is kept, but it is invisible.
    pub(super) password: Option<String>,
    /// Where the user is logged in.
    pub(super) session: Option<ConnId>,
    /// Framed sessions that have ended while a push was under way: until its fate is known, nothing
    /// is delivered to another session.
    pub(super) departing: u32,
    /// While online: since when. Else: the last moment online, if there was one.
    pub(super) seen: Option<Moment>,
    /// Whom the user named last.
    named: UserId,
    /// Consecutive wrong passwords, over all connections and dialects.
    pub(super) failures: Failures,
    /// Whom the user blocks, and of that what the disk holds.
    pub(super) blocks: HashSet<UserId>,
    pub(super) stored_blocks: HashSet<UserId>,
    pub(super) mailbox: Mailbox,
    /// What became of his texts while he was away.
    pub(super) receipts: Receipts,
    /// What our client sent and what became of it.
    pub(super) lines: Lines,
    /// What resumes the session of our client.
    pub(super) tokens: Tokens,
}

impl User {
    fn new(name: UserName) -> Self {
        Self {
            name,
            password: None,
            session: None,
            departing: 0,
            seen: None,
            named: UserId::FIRST,
            failures: Failures::default(),
            blocks: HashSet::new(),
            stored_blocks: HashSet::new(),
            mailbox: Mailbox::default(),
            receipts: Receipts::default(),
            lines: Lines::default(),
            tokens: Tokens::default(),
        }
    }

    pub(super) fn set_blocked(&mut self, whom: UserId, blocked: bool) {
        if blocked {
            self.blocks.insert(whom);
        } else {
            self.blocks.remove(&whom);
        }
    }

    /// When the user came or left, as people are told.
    pub(super) fn seen_ago(&self, now: Moment) -> Option<Ago> {
        self.seen.map(|seen| Ago { wall: seen.wall, millis: now.since(seen) })
    }
}

/// All users by name and by number.
#[derive(Debug, Default)]
pub(super) struct Roster {
    users: Vec<User>,
    by_name: HashMap<UserName, UserId>,
}

impl Roster {
    /// The account of that name; names without an account are not found.
    pub(super) fn find(&self, name: &str) -> Option<UserId> {
        let id = *self.by_name.get(name)?;
        self[id].password.is_some().then_some(id)
    }

    /// The same, asked by somebody. Most of the time he means whom he named before, and then
    /// nothing is hashed and looked up.
    pub(super) fn find_for(&mut self, asker: UserId, name: &str) -> Option<UserId> {
        let before = self[asker].named;
        if self[before].name.as_str() == name && self.is_account(before) {
            return Some(before);
        }
        let named = self.find(name)?;
        self[asker].named = named;
        Some(named)
    }

    /// Whether the user has an account; others are invisible.
    pub(super) fn is_account(&self, id: UserId) -> bool {
        self[id].password.is_some()
    }

    /// Whether anything is known of that name, account or not.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// The place of that name, account or not; a new one if need be.
    pub(super) fn id(&mut self, name: &UserName) -> UserId {
        if let Some(&id) = self.by_name.get(name) {
            return id;
        }
        let id = UserId(self.users.len());
        self.users.push(User::new(name.clone()));
        self.by_name.insert(name.clone(), id);
        id
    }

    /// Makes the name an account.
    pub(super) fn admit(&mut self, name: UserName, password: String) -> UserId {
        let id = self.id(&name);
        self[id].password = Some(password);
        id
    }

    /// Takes over what the store knows of a user.
    pub(super) fn remember(&mut self, user: RememberedUser, now: Moment) {
        let id = self.id(&user.name);
        self[id].seen = user.last_seen.map(|wall| now.recall(wall));
        self[id].mailbox = Mailbox::remembered(user.waiting, user.bytes, user.last);
        self[id].tokens = user.tokens;
    }

    /// Takes over that a line of `from` has stored a message for `to`.
    pub(super) fn remember_line(&mut self, from: UserId, tag: Tag, to: UserId, now: Moment) {
        let answer = match self[from].lines.find(tag) {
            None => Notice::Stored { to: self[to].name.clone(), seen: self[to].seen_ago(now) },
            // It was for more than one.
            Some(_) => Notice::Sent,
        };
        self[from].lines.done(tag, Some(answer));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (UserId, &User)> {
        self.users.iter().enumerate().map(|(at, user)| (UserId(at), user))
    }

    pub(super) fn waiting(&self) -> (u64, u64) {
        let counts = self.users.iter().map(|user| u64::from(user.mailbox.count)).filter(|&count| count > 0);
        counts.fold((0, 0), |(messages, users), count| (messages + count, users + 1))
    }

    pub(super) fn hidden(&self) -> u64 {
        self.users.iter().filter(|user| user.password.is_none()).fold(0, |names, _| names + 1)
    }
}

impl Index<UserId> for Roster {
    type Output = User;

    fn index(&self, id: UserId) -> &User {
        &self.users[id.0]
    }
}

impl IndexMut<UserId> for Roster {
    fn index_mut(&mut self, id: UserId) -> &mut User {
        &mut self.users[id.0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_was_named_before_is_found_as_by_everybody_else() {
        let mut roster = Roster::default();
        let names = ["ghost", "hans", "luke", "yoda"];
        // The first of them has no account, and everybody starts as if he had named him.
        roster.id(&UserName::parse(names[0]).expect("legal"));
        for name in &names[1..] {
            roster.admit(UserName::parse(name).expect("legal"), "secret".to_owned());
        }
        let asker = roster.find("hans").expect("an account");
        for name in ["ghost", "nobody", "yoda", "yoda", "yod", "luke", "ghost", "luke", "nobody", "luke", "hans"] {
            assert_eq!(roster.find_for(asker, name), roster.find(name), "{name}");
        }
        roster.admit(UserName::parse("ghost").expect("legal"), "secret".to_owned());
        assert!(roster.find_for(asker, "ghost").is_some());
    }
}
