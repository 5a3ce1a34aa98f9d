//! Groups: who owns them, who is in them, who is told.
//!
//! A change holds at once and is told when it is on the disk. There are two books: the groups as
//! people see them now, and as the store has them. When a batch fails, the first is made anew from
//! the second and the changes that are still on their way. A change that has lost its ground
//! then, say the group that it adds to, changes nothing, here and in the store alike.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::dialogue::shown;
use super::journal::Promise;
use super::roster::UserId;
use super::{ConnId, Record, State};
use crate::wire::name::{GroupName, UserName};
use crate::wire::{GroupAct, GroupVerb, Membership, News, Notice, Refusal, Scope, command};

/// Groups of the whole server; then nobody can create one.
pub const GROUPS_MAX: usize = 10_000;

/// Groups that one user may own; then he cannot create one more, nor be given one.
pub const GROUPS_OWNED_MAX: usize = 100;

/// Members of one group, its owner included; an addition that would pass it is refused as a whole.
pub const GROUP_MEMBERS_MAX: usize = 256;

/// Names in one command; with more it is refused as a whole.
pub const GROUP_NAMES_MAX: usize = 64;

/// Groups in one page of a list.
const LIST_GROUPS_MAX: usize = 1000;

/// One group, for ever: the number is never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u64);

/// What becomes of a group; `U` stands for a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change<U> {
    /// It is made, unless the name is taken.
    Made {
        /// Its name.
        name: GroupName,
        /// Who owns it, a member too.
        owner: U,
        /// All members.
        members: Vec<U>,
    },
    /// These become members.
    Added(Vec<U>),
    /// These are no members any more, unless one of them owns it.
    Removed(Vec<U>),
    /// It gets this name, unless that is taken.
    Renamed(GroupName),
    /// This member owns it.
    Owned(U),
    /// It is gone.
    Gone,
}

impl<U> Change<U> {
    fn map<V>(&self, user: impl Fn(&U) -> V) -> Change<V> {
        let all = |users: &[U]| users.iter().map(&user).collect();
        match self {
            Self::Made { name, owner, members } => {
                Change::Made { name: name.clone(), owner: user(owner), members: all(members) }
            }
            Self::Added(users) => Change::Added(all(users)),
            Self::Removed(users) => Change::Removed(all(users)),
            Self::Renamed(name) => Change::Renamed(name.clone()),
            Self::Owned(owner) => Change::Owned(user(owner)),
            Self::Gone => Change::Gone,
        }
    }
}

/// A change on its way to the disk.
#[derive(Debug)]
pub(super) struct Pending {
    group: GroupId,
    change: Change<UserId>,
    /// Who did it, and what he and the others are told once it is stored.
    by: UserId,
    notice: Notice,
    told: Vec<UserId>,
}

#[derive(Debug, Clone)]
struct Group {
    name: GroupName,
    owner: UserId,
    members: BTreeSet<UserId>,
}

/// Groups by number and by name.
#[derive(Debug, Default, Clone)]
struct Book {
    groups: BTreeMap<GroupId, Arc<Group>>,
    by_name: HashMap<GroupName, GroupId>,
}

impl Book {
    fn find(&self, name: &str) -> Option<GroupId> {
        self.by_name.get(name).copied()
    }

    /// Makes a change if it still has its ground. The store decides in the same way.
    fn apply(&mut self, id: GroupId, change: &Change<UserId>) -> bool {
        if let Change::Made { name, .. } | Change::Renamed(name) = change
            && self.by_name.contains_key(name)
        {
            return false;
        }
        if let Change::Made { name, owner, members } = change {
            let members = members.iter().copied().collect();
            self.by_name.insert(name.clone(), id);
            self.groups.insert(id, Arc::new(Group { name: name.clone(), owner: *owner, members }));
            return true;
        }
        let Some(group) = self.groups.get_mut(&id).map(Arc::make_mut) else { return false };
        match change {
            Change::Made { .. } => return false,
            Change::Added(users) => group.members.extend(users),
            Change::Removed(users) if users.contains(&group.owner) => return false,
            Change::Removed(users) => group.members.retain(|member| !users.contains(member)),
            Change::Renamed(name) => {
                self.by_name.remove(&group.name);
                self.by_name.insert(name.clone(), id);
                group.name = name.clone();
            }
            Change::Owned(user) if !group.members.contains(user) => return false,
            Change::Owned(user) => group.owner = *user,
            Change::Gone => {
                self.by_name.remove(&group.name);
                self.groups.remove(&id);
            }
        }
        true
    }
}

/// All groups.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// As people see them.
    now: Book,
    /// As they are on the disk.
    stored: Book,
}

impl Groups {
    /// Takes over a group that the store knows.
    pub(super) fn remember(&mut self, id: GroupId, name: GroupName, owner: UserId, members: Vec<UserId>) {
        let made = Change::Made { name, owner, members };
        self.stored.apply(id, &made);
        self.now.apply(id, &made);
    }

    /// A batch has failed: only these changes are still on their way.
    pub(super) fn start_over<'a>(&mut self, pending: impl Iterator<Item = &'a Pending>) {
        self.now = self.stored.clone();
        for Pending { group, change, .. } in pending {
            self.now.apply(*group, change);
        }
    }
}

impl State {
    /// `group <what> <group> ...`
    pub(super) fn group(&mut self, conn: ConnId, user: UserId, name: &str, act: GroupAct<'_>) {
        if let GroupAct::Create { users } = act {
            return self.create_group(conn, user, name, command::words(users));
        }
        let Some(id) = self.own_group(conn, user, name, needs_owner(act)) else { return };
        match act {
            GroupAct::Create { .. } => {}
            GroupAct::Add { users } => self.add_members(conn, user, id, users),
            GroupAct::Kick { users } => self.kick_members(conn, user, id, users),
            GroupAct::Rename { to } => self.rename_group(conn, user, id, to),
            GroupAct::Owner { user: to } => self.hand_over(conn, user, id, to),
            GroupAct::Members => self.list_members(conn, id),
            GroupAct::Send { text } => self.send_to_group(conn, user, id, text),
            GroupAct::Leave => self.leave_group(conn, user, id),
            GroupAct::Delete => self.change_group(conn, user, id, Change::Gone, News::Deleted),
        }
    }

    /// `/add`, `/kick`, `/rename`, `/members`: on the group last created or used, unless the words
    /// begin with another.
    pub(super) fn in_group(&mut self, conn: ConnId, user: UserId, verb: GroupVerb, words: &str) {
        let (first, rest) = command::first_word(words);
        let names_group = match verb {
            GroupVerb::Members => !first.is_empty(),
            GroupVerb::Rename => !rest.is_empty(),
            GroupVerb::Add | GroupVerb::Kick => {
                let is_mine = self.groups.now.find(first).is_some_and(|id| self.is_member(id, user));
                let is_pair = command::words(rest).count() == 1 && self.roster.find(first).is_none();
                !rest.is_empty() && (is_mine || is_pair)
            }
        };
        let last = self.visit(conn).and_then(|visit| visit.talk.group);
        let last = last.and_then(|id| self.groups.now.groups.get(&id)).map(|group| group.name.clone());
        let (name, words) = match &last {
            _ if names_group => (first, rest),
            Some(last) => (last.as_str(), words),
            None => return self.refuse(conn, Refusal::NoGroupYet),
        };
        let act = match verb {
            GroupVerb::Add => GroupAct::Add { users: words },
            GroupVerb::Kick => GroupAct::Kick { users: words },
            GroupVerb::Rename => GroupAct::Rename { to: words.trim_matches(command::BLANKS) },
            GroupVerb::Members => GroupAct::Members,
        };
        self.group(conn, user, name, act);
    }

    /// Creates a group; whoever is named and cannot be a member is skipped with a line.
    pub(super) fn create_group<'a>(
        &mut self,
        conn: ConnId,
        owner: UserId,
        name: &str,
        users: impl Iterator<Item = &'a str>,
    ) {
        let Some(name) = self.free_name(conn, name) else { return };
        let groups = self.groups.now.groups.len();
        if groups >= GROUPS_MAX {
            return self.refuse(conn, Refusal::GroupsFull { max: GROUPS_MAX });
        }
        if self.groups_of(conn, owner, true).count() >= GROUPS_OWNED_MAX {
            return self.refuse(conn, Refusal::OwnsTooMany { max: GROUPS_OWNED_MAX });
        }
        let Some(mut users) = self.named(conn, users) else { return };
        users.remove(&owner);
        let users = self.without_blockers(conn, owner, users);
        let id = GroupId(self.next_number);
        self.next_number += 1;
        if let Some(visit) = self.visit(conn) {
            visit.talk.group = Some(id);
        }
        let news = News::Created(self.sorted_names(&users));
        let members = users.into_iter().chain([owner]).collect();
        self.change_group(conn, owner, id, Change::Made { name, owner, members }, news);
    }

    fn add_members(&mut self, conn: ConnId, owner: UserId, id: GroupId, words: &str) {
        let Some(users) = self.named(conn, command::words(words)) else { return };
        let Some(group) = self.groups.now.groups.get(&id).cloned() else { return };
        let (old, new): (BTreeSet<_>, BTreeSet<_>) = users.into_iter().partition(|user| group.members.contains(user));
        for user in old {
            let user = self.roster[user].name.clone();
            self.refuse(conn, Refusal::AlreadyMember { group: group.name.clone(), user });
        }
        let users = self.without_blockers(conn, owner, new);
        if group.members.len() + users.len() > GROUP_MEMBERS_MAX {
            let group = group.name.clone();
            return self.refuse(conn, Refusal::GroupFull { group, max: GROUP_MEMBERS_MAX });
        }
        if !users.is_empty() {
            let news = News::Added(self.sorted_names(&users));
            self.change_group(conn, owner, id, Change::Added(users), news);
        }
    }

    fn kick_members(&mut self, conn: ConnId, owner: UserId, id: GroupId, words: &str) {
        let Some(mut users) = self.named(conn, command::words(words)) else { return };
        let Some(group) = self.groups.now.groups.get(&id).cloned() else { return };
        if users.remove(&owner) {
            self.refuse(conn, Refusal::Yourself("kick"));
        }
        let (users, strangers): (Vec<_>, Vec<_>) = users.into_iter().partition(|user| group.members.contains(user));
        for user in strangers {
            let user = self.roster[user].name.clone();
            self.refuse(conn, Refusal::NotInGroup { group: group.name.clone(), user });
        }
        if !users.is_empty() {
            let news = News::Removed(self.sorted_names(&users));
            self.change_group(conn, owner, id, Change::Removed(users), news);
        }
    }

    fn rename_group(&mut self, conn: ConnId, owner: UserId, id: GroupId, word: &str) {
        if let Some(name) = self.free_name(conn, word) {
            self.change_group(conn, owner, id, Change::Renamed(name.clone()), News::Renamed(name));
        }
    }

    fn hand_over(&mut self, conn: ConnId, owner: UserId, id: GroupId, word: &str) {
        let Some(user) = self.roster.find(word) else {
            return self.refuse(conn, Refusal::InvalidUser(shown(word)));
        };
        let name = self.roster[user].name.clone();
        let Some(group) = self.groups.now.groups.get(&id).map(|group| group.name.clone()) else { return };
        if user == owner {
            self.refuse(conn, Refusal::AlreadyOwner(group));
        } else if !self.is_member(id, user) {
            self.refuse(conn, Refusal::NotInGroup { group, user: name });
        } else if self.groups_of(conn, user, true).count() >= GROUPS_OWNED_MAX {
            self.refuse(conn, Refusal::HeOwnsTooMany { user: name, max: GROUPS_OWNED_MAX });
        } else {
            self.change_group(conn, owner, id, Change::Owned(user), News::Owned(name));
        }
    }

    fn leave_group(&mut self, conn: ConnId, user: UserId, id: GroupId) {
        let Some(group) = self.groups.now.groups.get(&id).cloned() else { return };
        let is_alone = !group.members.iter().any(|&other| other != user && self.roster.is_account(other));
        match (group.owner == user, is_alone) {
            (false, _) => self.change_group(conn, user, id, Change::Removed(vec![user]), News::Left),
            (true, true) => self.change_group(conn, user, id, Change::Gone, News::Deleted),
            (true, false) => self.refuse(conn, Refusal::OwnerStays(group.name.clone())),
        }
    }

    fn list_members(&mut self, conn: ConnId, id: GroupId) {
        let Some(group) = self.groups.now.groups.get(&id).cloned() else { return };
        let members: Vec<UserId> = group.members.iter().copied().filter(|&user| self.roster.is_account(user)).collect();
        let owner = self.roster[group.owner].name.clone();
        let members = self.sorted_names(&members);
        self.send(conn, Notice::Members { owner, members });
    }

    /// `groups`
    pub(super) fn list_groups(&mut self, conn: ConnId, user: UserId) {
        let groups = self.groups_of(conn, user, false);
        let mut mine: Vec<Membership> = groups
            .map(|group| Membership {
                group: group.name.clone(),
                owned: group.owner == user,
                members: u32::try_from(group.members.len()).unwrap_or(u32::MAX),
            })
            .collect();
        if mine.is_empty() {
            return self.send(conn, Notice::NoGroups);
        }
        mine.sort_unstable_by(|a, b| a.group.cmp(&b.group));
        let pages = mine.chunks(LIST_GROUPS_MAX).map(|page| Notice::Groups(page.to_vec())).collect();
        self.send_pages(conn, pages);
    }

    fn send_to_group(&mut self, conn: ConnId, from: UserId, id: GroupId, text: &str) {
        let Some(group) = self.groups.now.groups.get(&id).cloned() else { return };
        let others = group.members.iter().copied().filter(|&user| user != from && self.roster.is_account(user));
        let (blockers, to): (Vec<_>, Vec<_>) = others.partition(|&user| self.roster[user].blocks.contains(&from));
        self.publish(conn, from, &to, !blockers.is_empty(), Scope::Group(group.name.clone()), text);
    }

    /// The groups of a user, or only those that he owns. He pays for the search.
    fn groups_of(&mut self, conn: ConnId, user: UserId, owned: bool) -> impl Iterator<Item = &Group> {
        self.charge_receivers(conn, self.groups.now.groups.len());
        let groups = self.groups.now.groups.values().map(|group| &**group);
        groups.filter(move |group| if owned { group.owner == user } else { group.members.contains(&user) })
    }

    /// The group of that name if `user` may speak for it; else he is told why not. It is the group
    /// last used from now on.
    fn own_group(&mut self, conn: ConnId, user: UserId, word: &str, needs_owner: bool) -> Option<GroupId> {
        let Some(id) = self.groups.now.find(word) else {
            self.refuse(conn, Refusal::NoSuchGroup(shown(word)));
            return None;
        };
        let group = self.groups.now.groups.get(&id)?;
        let (is_member, is_owner, name) = (group.members.contains(&user), group.owner == user, group.name.clone());
        if !is_member {
            self.refuse(conn, Refusal::NotMember(name));
            return None;
        }
        if let Some(visit) = self.visit(conn) {
            visit.talk.group = Some(id);
        }
        if needs_owner && !is_owner {
            self.refuse(conn, Refusal::NotOwner(name));
            return None;
        }
        Some(id)
    }

    fn is_member(&self, id: GroupId, user: UserId) -> bool {
        self.groups.now.groups.get(&id).is_some_and(|group| group.members.contains(&user))
    }

    /// A legal name that no group has; else the asker is told.
    pub(super) fn free_name(&mut self, conn: ConnId, word: &str) -> Option<GroupName> {
        let Some(name) = GroupName::parse(word) else {
            self.refuse(conn, Refusal::BadGroupName);
            return None;
        };
        if self.groups.now.find(word).is_some() {
            self.refuse(conn, Refusal::GroupExists(name));
            return None;
        }
        Some(name)
    }

    /// The users of these names; the asker hears of each that nobody has.
    fn named<'a>(&mut self, conn: ConnId, words: impl Iterator<Item = &'a str>) -> Option<BTreeSet<UserId>> {
        let mut words: Vec<&str> = words.take(GROUP_NAMES_MAX + 1).collect();
        if words.len() > GROUP_NAMES_MAX {
            self.refuse(conn, Refusal::NamesFull { max: GROUP_NAMES_MAX });
            return None;
        }
        words.sort_unstable();
        words.dedup();
        let mut users = BTreeSet::new();
        for word in words {
            match self.roster.find(word) {
                Some(user) => users.extend([user]),
                None => self.refuse(conn, Refusal::InvalidUser(shown(word))),
            }
        }
        Some(users)
    }

    /// Nobody is made a member by one whom he has blocked: it would push texts at him.
    fn without_blockers(&mut self, conn: ConnId, by: UserId, users: BTreeSet<UserId>) -> Vec<UserId> {
        let (blockers, users): (Vec<_>, Vec<_>) =
            users.into_iter().partition(|&user| self.roster[user].blocks.contains(&by));
        for name in self.sorted_names(&blockers) {
            self.refuse(conn, Refusal::NotAdded(name));
        }
        users
    }

    pub(super) fn sorted_names(&self, users: &[UserId]) -> Vec<UserName> {
        let mut names: Vec<UserName> = users.iter().map(|&user| self.roster[user].name.clone()).collect();
        names.sort_unstable();
        names
    }

    /// Makes a change and stores it; everybody whom it concerns is told when it is on the disk.
    fn change_group(&mut self, conn: ConnId, by: UserId, id: GroupId, change: Change<UserId>, news: News) {
        if self.journal.is_full() {
            return self.refuse(conn, Refusal::Busy);
        }
        let before = self.groups.now.groups.get(&id).cloned();
        self.groups.now.apply(id, &change);
        let after = self.groups.now.groups.get(&id).cloned();
        // By its old name if it has just got a new one.
        let Some(name) = before.iter().chain(&after).next().map(|group| group.name.clone()) else { return };
        let told: BTreeSet<UserId> = before
            .iter()
            .chain(&after)
            .flat_map(|group| group.members.iter().copied())
            .filter(|&user| user != by)
            .collect();
        let notice = Notice::Group { group: name, by: self.roster[by].name.clone(), news };
        let record = Record::Group { group: id, change: change.map(|&user| self.roster[user].name.clone()) };
        let line = self.line_pending(by);
        let pending = Pending { group: id, change, by, notice, told: told.into_iter().collect() };
        self.store(record, Some(conn), line, Promise::Group(Box::new(pending)));
    }

    /// A change is on the disk. Returns what its author is told.
    pub(super) fn group_changed(&mut self, pending: &Pending) -> Notice {
        let Pending { group, change, by, notice, told } = pending;
        if !self.groups.stored.apply(*group, change) {
            return Notice::Refused(Refusal::DiskFailed);
        }
        let hears = |user: &&UserId| !self.roster[**user].blocks.contains(by);
        let receivers = told.iter().filter(hears).filter_map(|&user| self.roster[user].session).collect();
        self.cast(receivers, notice.clone());
        notice.clone()
    }
}

fn needs_owner(act: GroupAct<'_>) -> bool {
    matches!(
        act,
        GroupAct::Add { .. }
            | GroupAct::Kick { .. }
            | GroupAct::Rename { .. }
            | GroupAct::Owner { .. }
            | GroupAct::Delete
    )
}
