//! Where UDP clients find each other: names and their addresses, rooms, and a register of
//! multicast groups. A world of its own beside the accounts of the line port; both spellings
//! share one name book.
//!
//! What is said between clients never comes here. Nothing proves who sent a datagram, so every
//! table is bounded, what falls silent is forgotten, and `budget` keeps answers from flooding
//! whoever is named as the sender. Answers are never answered, see [`crate::wire::datagram`].

mod budget;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, SocketAddrV4};

pub use budget::{DEBT_BYTES_MAX, HEADER_BYTES, REFILL_MILLIS, SOURCES_MAX};

use super::login::source;
use crate::wire::datagram::{Answer, Ask, Spelling, group_name, group_place, group_tables, room_name, user_name};
use crate::wire::name::UserName;
use budget::Budget;

/// Clients with a name or in a room. At the limit a name counts as taken, a room as unknown.
pub const GUESTS_MAX: usize = 4096;

/// The same for the clients of one source that is not this machine.
pub const SOURCE_GUESTS_MAX: usize = 256;

/// Rooms. At the limit a new one is refused as if its name existed.
pub const ROOMS_MAX: usize = 256;

/// Members of a room. At the limit the room is refused as if there were none.
pub const MEMBERS_MAX: usize = 64;

/// Multicast groups. At the limit a new one is refused as if its name existed.
pub const GROUPS_MAX: usize = 256;

/// Rooms, and groups, of one source that is not this machine.
pub const SOURCE_ROOMS_MAX: usize = 16;

/// Silence after which a client loses its name and its room, and an empty room its place, in
/// milliseconds. The original clients have no sign of life, so this must outlast a talk.
pub const SILENCE_MAX: i64 = 60 * 60 * 1000;

/// Time after which a group that nobody asks for is forgotten, in milliseconds: what is said in
/// it passes the server by.
pub const GROUP_SILENCE_MAX: i64 = 12 * 60 * 60 * 1000;

/// Between two looks for what has fallen silent, in milliseconds.
const SWEEP_EVERY: i64 = 30_000;

/// Until a list of peers that the budget refused is tried again, in milliseconds.
const RETRY_EVERY: i64 = 5_000;

/// An answer that reads like its question could go round for ever between two servers, if
/// somebody forged the first: the same client gets it again only after this time, in milliseconds.
const ECHO_MILLIS: i64 = 1_000;

/// "There are none" and "you are in no room" read like their questions too; so often one of them
/// is said in a second.
const ECHOES_MAX: u32 = 20;

/// A client: its address, and which of our sockets it talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    /// Where its datagrams come from.
    pub address: SocketAddr,
    /// The number of the socket; what goes to it must come from there.
    pub via: usize,
}

/// Something that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A datagram came.
    Heard(Peer, &'a [u8]),
    /// The time of [`Rendezvous::deadline`] has come.
    Tick,
}

/// A datagram to be sent. Their order is a promise, as far as UDP keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// To whom.
    pub to: Peer,
    /// Its bytes.
    pub datagram: String,
}

/// What happened to how many datagrams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Came.
    pub heard: u64,
    /// Of these, had no meaning.
    pub senseless: u64,
    /// Went out.
    pub sent: u64,
    /// Did not, because too much had gone there.
    pub dropped: u64,
}

/// Somebody with a name, in a room, or both.
#[derive(Debug)]
struct Guest {
    name: Option<UserName>,
    room: Option<UserName>,
    heard: i64,
    /// When it was told its name in a way that reads like the question.
    echoed: Option<i64>,
}

#[derive(Debug)]
struct Room {
    /// As its maker spelled it.
    name: UserName,
    /// In the order in which they came.
    members: Vec<Peer>,
    /// Who has not got the last list.
    late: BTreeSet<Peer>,
    maker: IpAddr,
    used: i64,
}

#[derive(Debug)]
struct Group {
    name: UserName,
    place: SocketAddrV4,
    maker: IpAddr,
    used: i64,
}

/// All that the server knows of UDP clients. The keys of names are in small letters, for names
/// are told apart without regard to case.
#[derive(Debug, Default)]
pub struct Rendezvous {
    now: i64,
    guests: BTreeMap<Peer, Guest>,
    names: BTreeMap<String, Peer>,
    rooms: BTreeMap<String, Room>,
    groups: BTreeMap<String, Group>,
    /// Clients by source.
    sources: BTreeMap<IpAddr, usize>,
    budget: Budget,
    counts: Counts,
    swept: i64,
    /// When, and how often since then, something was said that reads like its question.
    echoes: (i64, u32),
    effects: Vec<Transmit>,
}

fn key(name: &UserName) -> String {
    name.as_str().to_ascii_lowercase()
}

fn spelled(name: &UserName) -> Option<String> {
    Some(name.as_str().to_owned())
}

impl Rendezvous {
    /// Decides what follows from `event`, at this monotonic time in milliseconds, and appends it
    /// to `effects`.
    pub fn handle(&mut self, now: i64, event: Event<'_>, effects: &mut Vec<Transmit>) {
        self.now = now;
        std::mem::swap(&mut self.effects, effects);
        match event {
            Event::Heard(peer, datagram) => self.hear(peer, datagram),
            Event::Tick => self.tick(),
        }
        std::mem::swap(&mut self.effects, effects);
    }

    /// When [`Event::Tick`] is due, in the same time.
    pub fn deadline(&self) -> Option<i64> {
        if self.rooms.values().any(|room| !room.late.is_empty()) {
            return Some(self.swept + RETRY_EVERY);
        }
        let idle = self.guests.is_empty() && self.rooms.is_empty() && self.groups.is_empty() && self.budget.is_empty();
        (!idle).then_some(self.swept + SWEEP_EVERY)
    }

    /// What happened to how many datagrams so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Entries in all tables together; each limit is a constant of its own.
    pub fn entries(&self) -> usize {
        self.guests.len() + self.names.len() + self.rooms.len() + self.groups.len() + self.budget.len()
    }

    fn hear(&mut self, peer: Peer, datagram: &[u8]) {
        if self.deadline().is_none() {
            // Nothing was there to be swept.
            self.swept = self.now;
        }
        self.counts.heard += 1;
        self.budget.came(self.now, peer.address.ip(), datagram.len());
        let Some(ask) = Ask::parse(datagram) else {
            self.counts.senseless += 1;
            return;
        };
        if let Some(guest) = self.guests.get_mut(&peer) {
            guest.heard = self.now;
        }
        match ask {
            Ask::Register(spelling, name) => self.register(peer, spelling, &name),
            Ask::Find(spelling, name) => {
                let found = self.names.get(&name.to_ascii_lowercase()).map(|peer| peer.address);
                self.answer(peer, &Answer::Found(spelling, found));
            }
            Ask::Leave => self.leave(peer),
            Ask::Users => self.list_users(peer),
            Ask::Rooms => self.list_rooms(peer),
            Ask::CreateRoom(name) => self.create_room(peer, &name),
            Ask::JoinRoom(name) => self.join_room(peer, &name),
            Ask::LeaveRoom => self.leave_room(peer),
            Ask::Groups => {
                let tables = group_tables(self.groups.values().map(|group| group.name.as_str()));
                tables.iter().for_each(|table| self.answer(peer, table));
            }
            Ask::CreateGroup { name, address, port } => self.create_group(peer, &name, &address, &port),
            Ask::FindGroup(name) => {
                let group = self.groups.get_mut(&name.to_ascii_lowercase());
                let place = group.map(|group| {
                    group.used = self.now;
                    group.place
                });
                self.answer(peer, &Answer::Group(place));
            }
        }
    }

    // Sending.

    fn answer(&mut self, to: Peer, answer: &Answer) {
        self.send(to, std::slice::from_ref(answer));
    }

    /// Sends all of these or, if that is too much for whoever is there, nothing.
    fn send(&mut self, to: Peer, answers: &[Answer]) -> bool {
        let datagrams: Vec<String> = answers.iter().map(Answer::spell).collect();
        let bytes = datagrams.iter().map(String::len).sum();
        let may = self.budget.spend(self.now, to.address.ip(), bytes, datagrams.len());
        let count = if may { &mut self.counts.sent } else { &mut self.counts.dropped };
        *count += datagrams.len() as u64;
        if may {
            self.effects.extend(datagrams.into_iter().map(|datagram| Transmit { to, datagram }));
        }
        may
    }

    /// Whether what reads like its question may be said once more in this second.
    fn may_echo(&mut self) -> bool {
        let (since, count) = self.echoes;
        self.echoes = if self.now - since >= 1000 { (self.now, 1) } else { (since, count + 1) };
        self.echoes.1 <= ECHOES_MAX
    }

    // Names.

    fn register(&mut self, peer: Peer, spelling: Spelling, word: &str) {
        let Some(name) = self.take_name(peer, word) else {
            return self.answer(peer, &Answer::Registered(spelling, None));
        };
        if let Some(guest) = self.guests.get_mut(&peer)
            && spelling == Spelling::Words
        {
            let again = guest.echoed.is_some_and(|at| self.now - at < ECHO_MILLIS);
            if again {
                return;
            }
            guest.echoed = Some(self.now);
        }
        self.answer(peer, &Answer::Registered(spelling, spelled(&name)));
    }

    /// Gives a name to a client, instead of the one it had.
    fn take_name(&mut self, peer: Peer, word: &str) -> Option<UserName> {
        let name = user_name(word).ok()?;
        if self.names.get(&key(&name)).is_some_and(|owner| *owner != peer) || !self.admit(peer) {
            return None;
        }
        let guest = self.guests.get_mut(&peer)?;
        let old = guest.name.replace(name.clone());
        if old.as_ref() != Some(&name) {
            guest.echoed = None;
        }
        if let Some(old) = old {
            self.names.remove(&key(&old));
        }
        self.names.insert(key(&name), peer);
        Some(name)
    }

    /// Makes room for a client that may be new.
    fn admit(&mut self, peer: Peer) -> bool {
        if self.guests.contains_key(&peer) {
            return true;
        }
        let ip = peer.address.ip();
        let neighbours = self.sources.get(&source(ip)).copied().unwrap_or(0);
        if self.guests.len() >= GUESTS_MAX || (!ip.is_loopback() && neighbours >= SOURCE_GUESTS_MAX) {
            return false;
        }
        self.sources.insert(source(ip), neighbours + 1);
        self.guests.insert(peer, Guest { name: None, room: None, heard: self.now, echoed: None });
        true
    }

    /// Forgets a client, its name and its place in a room.
    fn forget(&mut self, peer: Peer) {
        self.quit_room(peer);
        let Some(guest) = self.guests.remove(&peer) else { return };
        if let Some(name) = guest.name {
            self.names.remove(&key(&name));
        }
        let ip = source(peer.address.ip());
        if let Some(count) = self.sources.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                self.sources.remove(&ip);
            }
        }
    }

    /// `by` reads like its answer too: only who was here gets one.
    fn leave(&mut self, peer: Peer) {
        if self.guests.contains_key(&peer) {
            self.forget(peer);
            self.answer(peer, &Answer::Left);
        }
    }

    fn list_users(&mut self, peer: Peer) {
        let names = self.names.values().filter_map(|owner| self.guests.get(owner)?.name.as_ref());
        let users: Vec<Answer> = names.map(|name| Answer::User(spelled(name))).collect();
        self.list(peer, &users, &Answer::User(None));
    }

    /// A datagram each, as many as may go; `none` if there are none.
    fn list(&mut self, peer: Peer, all: &[Answer], none: &Answer) {
        if all.is_empty() && self.may_echo() {
            self.answer(peer, none);
        }
        all.iter().for_each(|one| self.answer(peer, one));
    }

    // Rooms.

    fn list_rooms(&mut self, peer: Peer) {
        let rooms: Vec<Answer> = self.rooms.values().map(|room| Answer::Room(spelled(&room.name))).collect();
        self.list(peer, &rooms, &Answer::Room(None));
    }

    fn create_room(&mut self, peer: Peer, word: &str) {
        let maker = source(peer.address.ip());
        let made = self.rooms.values().filter(|room| room.maker == maker).count();
        let name = room_name(word).ok().filter(|name| {
            let free = made < SOURCE_ROOMS_MAX || maker.is_loopback();
            free && self.rooms.len() < ROOMS_MAX && !self.rooms.contains_key(&key(name))
        });
        if let Some(name) = &name {
            let (members, late, used) = (Vec::new(), BTreeSet::new(), self.now);
            self.rooms.insert(key(name), Room { name: name.clone(), members, late, maker, used });
        }
        self.answer(peer, &Answer::RoomCreated(name.as_ref().and_then(spelled)));
    }

    /// Puts a client into a room and out of the one before. All members get the new list; who is
    /// in the room already gets it alone.
    fn join_room(&mut self, peer: Peer, word: &str) {
        let Some(name) = self.enter_room(peer, &word.to_ascii_lowercase()) else {
            return self.answer(peer, &Answer::NoRoom);
        };
        let is_new = self.guests.get(&peer).is_some_and(|guest| guest.room.as_ref() != Some(&name));
        if !is_new {
            self.tell_members(&name, Some(peer));
            return;
        }
        self.quit_room(peer);
        if let Some(guest) = self.guests.get_mut(&peer) {
            guest.room = Some(name.clone());
        }
        if let Some(room) = self.rooms.get_mut(&key(&name)) {
            room.members.push(peer);
        }
        self.tell_members(&name, None);
    }

    /// The room called so, if there is a place in it for this client.
    fn enter_room(&mut self, peer: Peer, key: &str) -> Option<UserName> {
        let room = self.rooms.get_mut(key)?;
        if room.members.len() >= MEMBERS_MAX && !room.members.contains(&peer) {
            return None;
        }
        room.used = self.now;
        let name = room.name.clone();
        self.admit(peer).then_some(name)
    }

    /// Who leaves gets an empty list as well: the original clients do not know `rk`. Who has left
    /// already may have lost the answer, but it reads like its question.
    fn leave_room(&mut self, peer: Peer) {
        if self.quit_room(peer) {
            self.send(peer, &[Answer::ClearPeers, Answer::RoomLeft]);
        } else if self.guests.contains_key(&peer) && self.may_echo() {
            self.answer(peer, &Answer::RoomLeft);
        }
    }

    /// Takes a client out of its room, if it is in one, and tells the others.
    fn quit_room(&mut self, peer: Peer) -> bool {
        let Some(name) = self.guests.get_mut(&peer).and_then(|guest| guest.room.take()) else { return false };
        if let Some(room) = self.rooms.get_mut(&key(&name)) {
            room.members.retain(|member| *member != peer);
            room.late.remove(&peer);
            room.used = self.now;
        }
        self.tell_members(&name, None);
        true
    }

    /// Sends the list of peers to one member of a room, or to all.
    fn tell_members(&mut self, name: &UserName, to: Option<Peer>) {
        let Some(room) = self.rooms.get(&key(name)) else { return };
        let members = room.members.clone();
        for &member in members.iter().filter(|member| to.is_none_or(|to| to == **member)) {
            let others = members.iter().filter(|other| **other != member).map(|other| Answer::Peer(other.address));
            let list: Vec<Answer> = std::iter::once(Answer::ClearPeers).chain(others).collect();
            let told = self.send(member, &list);
            if let Some(room) = self.rooms.get_mut(&key(name)) {
                if told {
                    room.late.remove(&member);
                } else {
                    room.late.insert(member);
                }
            }
        }
    }

    // Multicast groups.

    /// Refused if the name or the address is in use; the port may be.
    fn create_group(&mut self, peer: Peer, name: &str, address: &str, port: &str) {
        let maker = source(peer.address.ip());
        let made = self.groups.values().filter(|group| group.maker == maker).count();
        let free = self.groups.len() < GROUPS_MAX && (made < SOURCE_ROOMS_MAX || maker.is_loopback());
        let wanted = group_name(name).ok().zip(group_place(address, port).ok()).filter(|(name, place)| {
            free && !self.groups.contains_key(&key(name))
                && self.groups.values().all(|group| group.place.ip() != place.ip())
        });
        let answer = Answer::GroupCreated(wanted.as_ref().and_then(|(name, _)| spelled(name)));
        if let Some((name, place)) = wanted {
            self.groups.insert(key(&name), Group { name, place, maker, used: self.now });
        }
        self.answer(peer, &answer);
    }

    // Time.

    fn tick(&mut self) {
        self.swept = self.now;
        let silent = |since: i64| self.now - since >= SILENCE_MAX;
        let gone: Vec<Peer> =
            self.guests.iter().filter(|(_, guest)| silent(guest.heard)).map(|(peer, _)| *peer).collect();
        gone.into_iter().for_each(|peer| self.forget(peer));
        let now = self.now;
        self.rooms.retain(|_, room| !room.members.is_empty() || now - room.used < SILENCE_MAX);
        self.groups.retain(|_, group| now - group.used < GROUP_SILENCE_MAX);
        self.budget.sweep(now);
        let late = self.rooms.values().flat_map(|room| room.late.iter().map(|peer| (room.name.clone(), *peer)));
        for (room, peer) in late.collect::<Vec<_>>() {
            self.tell_members(&room, Some(peer));
        }
    }
}
