//! What the server answers, and what it tells the members of a room.

use std::net::{SocketAddr, SocketAddrV4};

use super::{Answer, Ask, End, LIST_MILLIS, PEERS_MAX, Question, REFRESH_EVERY, Spelling, State, Talk, To, others};
use crate::wire::name::Text;

impl State {
    pub(super) fn hear_answer(&mut self, answer: Answer) {
        match answer {
            Answer::Registered(_, name) => self.registered(name),
            Answer::Found(_, at) => self.found(at),
            Answer::Left if self.leaving.is_some() => self.end(End::ok()),
            Answer::Left => {}
            Answer::User(name) => {
                let asked = self.answered(|ask| *ask == Ask::Users).is_some();
                self.listed(name, asked, "Nobody is on the server", |state| &mut state.users);
            }
            Answer::Room(name) => {
                let asked = self.answered(|ask| *ask == Ask::Rooms).is_some();
                self.listed(name, asked, "There are no rooms; $roomcreate makes one", |state| &mut state.rooms);
            }
            Answer::RoomCreated(name) => self.room_created(name),
            Answer::NoRoom => {
                if let Some(Question { ask: Ask::JoinRoom(room), .. }) =
                    self.answered(|ask| matches!(ask, Ask::JoinRoom(_)))
                {
                    self.refuse(format!("There is no room {}, or it is full", harmless(&room)));
                }
            }
            Answer::ClearPeers => self.new_list(),
            Answer::Peer(peer) => {
                if let To::Room { peers, .. } = &mut self.to
                    && peers.len() < PEERS_MAX
                    && !peers.contains(&peer)
                {
                    peers.push(peer);
                    self.listing = Some(self.now.elapsed + LIST_MILLIS);
                }
            }
            Answer::RoomLeft => {
                if self.answered(|ask| *ask == Ask::LeaveRoom).is_some_and(|question| !question.quiet) {
                    self.news("You have left the room".to_owned());
                }
            }
            Answer::Groups(names) => self.list_groups(names),
            Answer::GroupCreated(name) => self.group_created(name),
            Answer::Group(place) => self.found_group(place),
        }
        self.leave_at_end();
    }

    fn registered(&mut self, name: Option<String>) {
        let Some(question) = self.answered(|ask| matches!(ask, Ask::Register(..))) else { return };
        let Ask::Register(_, wanted) = question.ask else { return };
        match name {
            Some(name) => {
                if !question.quiet {
                    self.news(format!("You are called {}", harmless(&name)));
                }
                self.name = Some(name);
                self.refresh = Some(self.now.elapsed + REFRESH_EVERY);
            }
            None if question.quiet => {
                self.refresh = None;
                self.news(format!("The server has given the name {wanted} to somebody else; register again"));
            }
            None => self.refuse(format!("The name {wanted} is taken")),
        }
    }

    /// The address of somebody we want to talk to: he is told.
    fn found(&mut self, at: Option<SocketAddr>) {
        let Some(question) = self.answered(|ask| matches!(ask, Ask::Find(..))) else { return };
        let Ask::Find(spelling, wanted) = question.ask else { return };
        let (Some(peer), Some(name)) = (at, self.name.clone()) else {
            let unchanged = if self.to == To::Nobody { "" } else { "; your text goes where it went before" };
            return self.refuse(format!("Nobody is called {}{unchanged}", harmless(&wanted)));
        };
        if peer.is_ipv4() != self.rules.server.is_ipv4() {
            let way = if peer.is_ipv4() { "IPv4" } else { "IPv6" };
            return self.refuse(format!("{wanted} is reached by {way} alone, {peer}: ask the server that way too"));
        }
        self.part();
        // He may have spoken already, in the other spelling.
        let spelling = self.spellings.get(&peer).copied().unwrap_or(spelling);
        self.know(peer, Some(wanted), spelling);
        self.to = To::Peer(peer);
        self.news(format!("You talk to {}", self.described(peer)));
        self.transmit(peer, Talk::Hello(spelling, name).spell());
    }

    /// One line of a list, or that it is empty.
    fn listed(
        &mut self,
        name: Option<String>,
        asked: bool,
        none: &str,
        known: impl Fn(&mut Self) -> &mut std::collections::BTreeSet<String>,
    ) {
        if asked {
            known(self).clear();
        }
        match name {
            Some(name) => {
                self.say(&name);
                if known(self).len() < PEERS_MAX {
                    known(self).insert(name);
                }
            }
            None if asked => self.say(none),
            None => {}
        }
    }

    // Rooms.

    fn room_created(&mut self, name: Option<String>) {
        let Some(Question { ask: Ask::CreateRoom(wanted), .. }) =
            self.answered(|ask| matches!(ask, Ask::CreateRoom(_)))
        else {
            return;
        };
        match name {
            Some(name) => {
                self.news(format!("The room {} is there; $roomjoin {0} joins it", harmless(&name)));
                self.rooms.insert(name);
            }
            None => self.refuse(format!("The room {wanted} exists already")),
        }
    }

    /// The list of peers begins anew. If we have asked to join a room, this is the answer.
    fn new_list(&mut self) {
        if let Some(Question { ask: Ask::JoinRoom(name), .. }) = self.answered(|ask| matches!(ask, Ask::JoinRoom(_))) {
            // The server has taken us out of the room before.
            if !matches!(self.to, To::Room { .. }) {
                self.part();
            }
            self.news(format!("You are in the room {}", harmless(&name)));
            self.told_others = None;
            self.to = To::Room { name, peers: Vec::new() };
        }
        if let To::Room { peers, .. } = &mut self.to {
            peers.clear();
            self.listing = Some(self.now.elapsed + LIST_MILLIS);
        }
    }

    pub(super) fn tell_room(&mut self) {
        let To::Room { name, peers } = &self.to else { return };
        let (name, count) = (harmless(name), peers.len());
        if self.told_others.replace(count) != Some(count) {
            let are = if count > 1 { "are" } else { "is" };
            self.news(format!("{} {are} in the room {name}", others(count)));
        }
    }

    // Groups.

    fn list_groups(&mut self, names: Vec<String>) {
        let asked = self.answered(|ask| *ask == Ask::Groups).is_some();
        if names.is_empty() {
            return self.listed(None, asked, "There are no groups; cmd:create makes one", |state| &mut state.groups);
        }
        for (at, name) in names.into_iter().enumerate() {
            self.listed(Some(name), asked && at == 0, "", |state| &mut state.groups);
        }
    }

    fn group_created(&mut self, name: Option<String>) {
        let Some(Question { ask: Ask::CreateGroup { name: wanted, address, .. }, .. }) =
            self.answered(|ask| matches!(ask, Ask::CreateGroup { .. }))
        else {
            return;
        };
        match name {
            Some(name) => {
                self.news(format!("The group {} is there; cmd:enter {0} enters it", harmless(&name)));
                self.groups.insert(name);
            }
            None => self.refuse(format!("The name {wanted} or the address {address} is in use")),
        }
    }

    fn found_group(&mut self, place: Option<SocketAddrV4>) {
        let Some(Question { ask: Ask::FindGroup(name), .. }) = self.answered(|ask| matches!(ask, Ask::FindGroup(_)))
        else {
            return;
        };
        match place.filter(|place| place.ip().is_multicast()) {
            Some(place) => {
                self.entering = Some((name, place));
                self.effects.push(super::Effect::Enter(place));
            }
            None => self.refuse(format!("There is no group {}", harmless(&name))),
        }
    }

    /// Everybody in the group is told who we are and says who he is; and told once more in words,
    /// as the original client does it.
    pub(super) fn entered(&mut self, own: SocketAddr) {
        let Some((group, place)) = self.entering.take() else { return };
        if let To::Room { .. } = self.to {
            self.part();
        }
        self.news(format!("You are in the group {} at {place}", harmless(&group)));
        self.to = To::Group { name: group, place, own };
        self.members = None;
        let name = self.name.clone().unwrap_or_default();
        let text = format!("Hey there I am {name}");
        self.effects.push(super::Effect::Shout(Talk::Who(name).spell()));
        let hello = Talk::Said { spelling: Spelling::Codes, from: None, text };
        self.effects.push(super::Effect::Shout(hello.spell()));
        self.leave_at_end();
    }
}

fn harmless(text: &str) -> String {
    Text::harmless(text).as_str().to_owned()
}
