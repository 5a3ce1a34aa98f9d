//! Groups: who owns them, who is in them, who is told of what.
//!
//! A change holds at once, for whoever asks, and is told when it is on the disk. If the disk
//! refuses it, what holds is what the disk has and the changes that are still on their way; a
//! change that has lost its ground then is refused too.

use chinwag::server::ids::ConnId;
use chinwag::server::state::GROUP_NAMES_MAX;
use chinwag::wire::command;
use chinwag::wire::name::{GroupName, UserName};
use chinwag::wire::time::Moment;
use chinwag::wire::{GroupAct, GroupVerb, Membership, News, Notice, Refusal, Scope, Tag};

use super::facts::Fact;
use super::reach::Rule;
use super::{Expected, Fate, Model, UserId, ago, repeated};

/// A group's number; never used again.
pub(super) type GroupId = u64;

#[derive(Debug, Clone)]
pub(super) struct Group {
    id: GroupId,
    name: GroupName,
    owner: UserId,
    /// In their order in the list of users.
    members: Vec<UserId>,
}

/// What becomes of a group.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Made(Group),
    Added(Vec<UserId>),
    Removed(Vec<UserId>),
    Renamed(GroupName),
    Owned(UserId),
    Gone,
}

/// A change that the disk must learn, and what is told when it has.
#[derive(Debug, Clone)]
pub(super) struct Changed {
    pub(super) group: GroupId,
    pub(super) change: Change,
    by: UserId,
    /// Who was or has become a member.
    told: Vec<UserId>,
    notice: Notice,
    pub(super) outcome: usize,
}

/// All groups.
#[derive(Debug, Default, Clone)]
pub(super) struct Book(Vec<Group>);

impl Book {
    fn find(&self, name: &str) -> Option<&Group> {
        self.0.iter().find(|group| group.name.as_str() == name)
    }

    fn get(&self, id: GroupId) -> Option<&Group> {
        self.0.iter().find(|group| group.id == id)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Makes a change, unless it has lost its ground.
    pub(super) fn apply(&mut self, id: GroupId, change: &Change) -> bool {
        let is_taken = |name: &GroupName| self.find(name.as_str()).is_some();
        match change {
            Change::Made(group) => {
                let is_free = !is_taken(&group.name);
                self.0.extend(is_free.then(|| group.clone()));
                return is_free;
            }
            Change::Renamed(name) if is_taken(name) => return false,
            _ => {}
        }
        let Some(at) = self.0.iter().position(|group| group.id == id) else { return false };
        let group = &mut self.0[at];
        match change {
            Change::Made(_) => return false,
            Change::Added(users) => {
                group.members.extend(users);
                group.members.sort_unstable();
                group.members.dedup();
            }
            Change::Removed(users) if users.contains(&group.owner) => return false,
            Change::Removed(users) => group.members.retain(|member| !users.contains(member)),
            Change::Renamed(name) => group.name = name.clone(),
            Change::Owned(user) if !group.members.contains(user) => return false,
            Change::Owned(user) => group.owner = *user,
            Change::Gone => drop(self.0.remove(at)),
        }
        true
    }
}

impl Model {
    /// The groups of whoever is at this connection, each with whether it is his.
    pub(crate) fn groups_at(&self, id: ConnId) -> Vec<(String, bool)> {
        let Some(user) = self.user_of(id) else { return Vec::new() };
        let mine = self.groups.0.iter().filter(|group| group.members.contains(&user));
        mine.map(|group| (group.name.as_str().to_owned(), group.owner == user)).collect()
    }

    pub(super) fn group(
        &mut self,
        now: Moment,
        id: ConnId,
        user: UserId,
        name: &str,
        act: GroupAct<'_>,
        tag: Option<Tag>,
    ) {
        if let GroupAct::Create { users } = act {
            return self.create_group(id, user, name, command::words(users), tag);
        }
        let Some(group) = self.group_of(id, user, name, act) else { return };
        match act {
            GroupAct::Create { .. } => {}
            GroupAct::Add { users } => self.add(id, user, &group, users, tag),
            GroupAct::Kick { users } => self.kick(id, user, &group, users, tag),
            GroupAct::Rename { to } => {
                if let Some(name) = self.free_name(id, to) {
                    self.reach(Rule::Renamed);
                    self.change(id, user, &group, Change::Renamed(name.clone()), News::Renamed(name), tag);
                }
            }
            GroupAct::Owner { user: to } => self.hand_over_group(id, user, &group, to, tag),
            GroupAct::Members => {
                let (owner, members) = (self.name(group.owner), self.names(&group.members));
                self.say(id, Notice::Members { owner, members });
            }
            GroupAct::Send { text } => self.send_to_group(now, id, user, &group, text, tag),
            GroupAct::Leave => self.leave(id, user, &group, tag),
            GroupAct::Delete => {
                self.reach(Rule::Deleted);
                self.change(id, user, &group, Change::Gone, News::Deleted, tag);
            }
        }
    }

    /// The group of that name if this user may do that with it.
    fn group_of(&mut self, id: ConnId, user: UserId, name: &str, act: GroupAct<'_>) -> Option<Group> {
        let Some(group) = self.groups.find(name).cloned() else {
            self.refuse(id, Refusal::NoSuchGroup(repeated(name)));
            return None;
        };
        if !group.members.contains(&user) {
            self.reach(Rule::NotMember);
            self.refuse(id, Refusal::NotMember(group.name));
            return None;
        }
        if let Some(session) = self.session_mut(id) {
            session.talk.group = Some(group.id);
        }
        let is_free = matches!(act, GroupAct::Members | GroupAct::Send { .. } | GroupAct::Leave);
        if !is_free && group.owner != user {
            self.reach(Rule::NotOwner);
            self.refuse(id, Refusal::NotOwner(group.name));
            return None;
        }
        Some(group)
    }

    /// A command for the group last used, unless its words begin with another.
    pub(super) fn in_group(
        &mut self,
        now: Moment,
        id: ConnId,
        user: UserId,
        verb: GroupVerb,
        words: &str,
        tag: Option<Tag>,
    ) {
        let (first, rest) = command::first_word(words);
        let count = command::words(words).count();
        let is_named = match verb {
            GroupVerb::Members => count > 0,
            GroupVerb::Rename => count == 2,
            GroupVerb::Add | GroupVerb::Kick => {
                let is_mine = self.groups.find(first).is_some_and(|group| group.members.contains(&user));
                (count > 1 && is_mine) || (count == 2 && self.find(first).is_none())
            }
        };
        let last = self.session(id).and_then(|session| session.talk.group).and_then(|group| self.groups.get(group));
        let last = last.map(|group| group.name.as_str().to_owned());
        let (name, words) = match last {
            _ if is_named => (first.to_owned(), rest),
            Some(last) => {
                self.reach(Rule::LastGroup);
                (last, words)
            }
            None => {
                self.reach(Rule::NoGroupYet);
                return self.refuse(id, Refusal::NoGroupYet);
            }
        };
        let act = match verb {
            GroupVerb::Add => GroupAct::Add { users: words },
            GroupVerb::Kick => GroupAct::Kick { users: words },
            GroupVerb::Rename => GroupAct::Rename { to: words.trim() },
            GroupVerb::Members => GroupAct::Members,
        };
        self.group(now, id, user, &name, act, tag);
    }

    /// Creates a group; who cannot be a member is skipped with a line.
    pub(super) fn create_group<'a>(
        &mut self,
        id: ConnId,
        owner: UserId,
        name: &str,
        words: impl Iterator<Item = &'a str>,
        tag: Option<Tag>,
    ) {
        let Some(name) = self.free_name(id, name) else { return };
        let Some(mut users) = self.listed(id, words) else { return };
        users.retain(|user| *user != owner);
        let users = self.without_blockers(id, owner, users);
        let news = News::Created(self.names(&users));
        let mut members = [&users[..], &[owner]].concat();
        members.sort_unstable();
        let group = Group { id: self.count(), name, owner, members };
        if let Some(session) = self.session_mut(id) {
            session.talk.group = Some(group.id);
        }
        self.reach(Rule::Created);
        self.change(id, owner, &group, Change::Made(group.clone()), news, tag);
    }

    fn add(&mut self, id: ConnId, owner: UserId, group: &Group, words: &str, tag: Option<Tag>) {
        let Some(users) = self.listed(id, command::words(words)) else { return };
        let (old, new): (Vec<_>, Vec<_>) = users.into_iter().partition(|user| group.members.contains(user));
        for user in old {
            self.reach(Rule::NameSkipped);
            let user = self.name(user);
            self.refuse(id, Refusal::AlreadyMember { group: group.name.clone(), user });
        }
        let users = self.without_blockers(id, owner, new);
        if !users.is_empty() {
            self.reach(Rule::Added);
            let news = News::Added(self.names(&users));
            self.change(id, owner, group, Change::Added(users), news, tag);
        }
    }

    fn kick(&mut self, id: ConnId, owner: UserId, group: &Group, words: &str, tag: Option<Tag>) {
        let Some(mut users) = self.listed(id, command::words(words)) else { return };
        if users.contains(&owner) {
            users.retain(|user| *user != owner);
            self.refuse(id, Refusal::Yourself("kick"));
        }
        let (users, strangers): (Vec<_>, Vec<_>) = users.into_iter().partition(|user| group.members.contains(user));
        for user in strangers {
            self.reach(Rule::NameSkipped);
            let user = self.name(user);
            self.refuse(id, Refusal::NotInGroup { group: group.name.clone(), user });
        }
        if !users.is_empty() {
            self.reach(Rule::Kicked);
            let news = News::Removed(self.names(&users));
            self.change(id, owner, group, Change::Removed(users), news, tag);
        }
    }

    fn hand_over_group(&mut self, id: ConnId, owner: UserId, group: &Group, word: &str, tag: Option<Tag>) {
        let name = group.name.clone();
        match self.find(word) {
            None => self.refuse(id, Refusal::InvalidUser(repeated(word))),
            Some(user) if user == owner => self.refuse(id, Refusal::AlreadyOwner(name)),
            Some(user) if !group.members.contains(&user) => {
                let user = self.name(user);
                self.refuse(id, Refusal::NotInGroup { group: name, user });
            }
            Some(user) => {
                self.reach(Rule::HandedOver);
                let news = News::Owned(self.name(user));
                self.change(id, owner, group, Change::Owned(user), news, tag);
            }
        }
    }

    /// The owner stays while others are there; alone he takes the group with him.
    fn leave(&mut self, id: ConnId, user: UserId, group: &Group, tag: Option<Tag>) {
        if group.owner != user {
            self.reach(Rule::LeftGroup);
            self.change(id, user, group, Change::Removed(vec![user]), News::Left, tag);
        } else if group.members == [user] {
            self.change(id, user, group, Change::Gone, News::Deleted, tag);
        } else {
            self.reach(Rule::OwnerStays);
            self.refuse(id, Refusal::OwnerStays(group.name.clone()));
        }
    }

    /// To all other members but those who block the sender.
    fn send_to_group(&mut self, now: Moment, id: ConnId, from: UserId, group: &Group, text: &str, tag: Option<Tag>) {
        let others = group.members.iter().copied().filter(|user| *user != from);
        let (blockers, to): (Vec<_>, Vec<_>) = others.partition(|user| self.users[*user].blocks.contains(&from));
        if !blockers.is_empty() {
            self.reach(Rule::GroupTextSkipped);
            self.say(id, Notice::SomeSkipped);
        }
        let (here, away): (Vec<_>, Vec<_>) = to.iter().copied().partition(|user| self.users[*user].conn.is_some());
        if !here.is_empty() {
            self.reach(Rule::GroupText);
        }
        let mut stored_for = Vec::new();
        for name in self.names(&away) {
            self.reach(Rule::GroupTextStored);
            let seen = self.find(name.as_str()).and_then(|user| self.users[user].seen);
            stored_for.push((name, seen.map(|seen| ago(now, seen))));
        }
        let here = self.names(&here);
        let group = group.name.clone();
        let answer = (!away.is_empty()).then(|| Notice::StoredInGroup { group: group.clone(), here, away: stored_for });
        self.publish(now, id, from, &to, Scope::Group(group), text, answer, tag);
    }

    /// `groups`
    pub(super) fn list_groups(&mut self, id: ConnId, user: UserId) {
        let mine = self.groups.0.iter().filter(|group| group.members.contains(&user));
        let mut mine: Vec<Membership> = mine
            .map(|group| Membership {
                group: group.name.clone(),
                owned: group.owner == user,
                members: u32::try_from(group.members.len()).unwrap_or(u32::MAX),
            })
            .collect();
        mine.sort_unstable_by(|a, b| a.group.as_str().cmp(b.group.as_str()));
        self.say(id, if mine.is_empty() { Notice::NoGroups } else { Notice::Groups(mine) });
    }

    /// A legal name that no group has.
    pub(super) fn free_name(&mut self, id: ConnId, word: &str) -> Option<GroupName> {
        let Some(name) = GroupName::parse(word) else {
            self.refuse(id, Refusal::BadGroupName);
            return None;
        };
        if self.groups.find(word).is_some() {
            self.reach(Rule::NameTaken);
            self.refuse(id, Refusal::GroupExists(name));
            return None;
        }
        Some(name)
    }

    /// The users of a list, in their order; a line for each name that nobody has.
    fn listed<'a>(&mut self, id: ConnId, words: impl Iterator<Item = &'a str>) -> Option<Vec<UserId>> {
        let mut words: Vec<&str> = words.collect();
        if words.len() > GROUP_NAMES_MAX {
            self.refuse(id, Refusal::NamesFull { max: GROUP_NAMES_MAX });
            return None;
        }
        words.sort_unstable();
        words.dedup();
        let mut users = Vec::new();
        for word in words {
            match self.find(word) {
                Some(user) => users.push(user),
                None => {
                    self.reach(Rule::NameSkipped);
                    self.refuse(id, Refusal::InvalidUser(repeated(word)));
                }
            }
        }
        users.sort_unstable();
        Some(users)
    }

    /// Who blocks the one who adds him is not added.
    fn without_blockers(&mut self, id: ConnId, by: UserId, users: Vec<UserId>) -> Vec<UserId> {
        let (blockers, users): (Vec<_>, Vec<_>) =
            users.into_iter().partition(|user| self.users[*user].blocks.contains(&by));
        for name in self.names(&blockers) {
            self.reach(Rule::NameSkipped);
            self.refuse(id, Refusal::NotAdded(name));
        }
        users
    }

    /// The names of these users, sorted.
    pub(super) fn names(&self, users: &[UserId]) -> Vec<UserName> {
        let mut names: Vec<UserName> = users.iter().map(|user| self.name(*user)).collect();
        names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        names
    }

    /// A change holds, and is on its way to the disk.
    fn change(&mut self, id: ConnId, by: UserId, group: &Group, change: Change, news: News, tag: Option<Tag>) {
        self.groups.apply(group.id, &change);
        let after = self.groups.get(group.id).map_or(&[][..], |group| &group.members);
        let mut told = [&group.members, after].concat();
        told.retain(|user| *user != by);
        told.sort_unstable();
        told.dedup();
        let notice = Notice::Group { group: group.name.clone(), by: self.name(by), news };
        let outcome = self.outcome();
        self.expect(id, Expected::AfterDisk(outcome, Some(notice.clone())));
        self.remember(by, tag, Fate::Waits { outcome, answer: Some(notice.clone()), has_effect: false });
        self.facts.push(Fact::Group(Changed { group: group.id, change, by, told, notice, outcome }));
    }

    /// A change is on the disk: whoever is here and does not block its author hears of it.
    pub(super) fn tell_change(&mut self, Changed { by, told, notice, .. }: &Changed) {
        for &user in told {
            let Some(id) = self.users[user].conn else { continue };
            if self.users[user].blocks.contains(by) {
                self.reach(Rule::NewsKept);
            } else {
                self.say(id, notice.clone());
            }
        }
    }

    /// The disk has refused a batch: what it has, and what is still on its way, holds.
    pub(super) fn undo_changes(&mut self) {
        let mut groups = self.stored_groups.clone();
        for fact in self.pending_facts() {
            if let Fact::Group(Changed { group, change, .. }) = fact {
                groups.apply(*group, change);
            }
        }
        self.groups = groups;
    }
}
