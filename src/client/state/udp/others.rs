//! What the others say, to us alone or to the group.

use std::net::SocketAddr;

use super::{Effect, HERE_EVERY, PEERS_MAX, Spelling, State, Talk, To, Told};
use crate::wire::name::Text;

impl State {
    pub(super) fn hear_talk(&mut self, from: SocketAddr, talk: Talk) {
        match talk {
            Talk::Hello(spelling, name) => {
                self.know(from, Some(name), spelling);
                self.greeted(from, spelling);
            }
            Talk::Said { text, .. } if text.is_empty() => {}
            Talk::Said { spelling, from: name, text } => {
                self.know(from, name.clone(), spelling);
                let name = name.unwrap_or_else(|| self.called(from));
                self.effects.push(Effect::Show(Told::said(&name, &text, self.now.wall)));
                if self.to == To::Nobody {
                    self.adopt(from);
                }
            }
            // Only a group is asked who is in it.
            Talk::Who(_) | Talk::Here(_) => {}
        }
    }

    /// Somebody has asked for our address. In the spelling of `cmd:request` that makes him the one
    /// we talk to, unless we are in a room or a group; in the other only if we talk to nobody.
    fn greeted(&mut self, from: SocketAddr, spelling: Spelling) {
        let described = self.described(from);
        match (&self.to, spelling) {
            (To::Peer(peer), _) if *peer == from => self.news(format!("{described} talks to you")),
            (To::Nobody, _) | (To::Peer(_), Spelling::Codes) => {
                self.news(format!("{described} talks to you"));
                self.adopt(from);
            }
            _ => {
                let name = self.called(from);
                self.news(format!("{described} wants to talk to you; cmd:request {name} answers"));
            }
        }
    }

    fn adopt(&mut self, peer: SocketAddr) {
        self.to = To::Peer(peer);
        self.news(format!("What you type goes to {}", self.called(peer)));
    }

    pub(super) fn hear_group(&mut self, from: SocketAddr, talk: Talk) {
        // What we send to the group comes back to us.
        let To::Group { own, .. } = &self.to else { return };
        if from == *own {
            return;
        }
        match talk {
            Talk::Said { text, .. } if text.is_empty() => {}
            Talk::Said { from: name, text, .. } => {
                let name = name.unwrap_or_else(|| self.called(from));
                self.effects.push(Effect::Show(Told::said(&name, &text, self.now.wall)));
            }
            Talk::Who(name) => {
                self.know(from, Some(name), Spelling::Codes);
                let at = self.said_here.map_or(self.now.elapsed, |at| at + HERE_EVERY);
                if at <= self.now.elapsed {
                    self.say_here();
                } else {
                    self.owe_here = Some(at);
                }
            }
            Talk::Here(name) => {
                self.know(from, Some(name), Spelling::Codes);
                if self.members.is_some() && self.heard.len() < PEERS_MAX && self.heard.insert(from) {
                    let member = self.described(from);
                    self.say(&member);
                }
            }
            Talk::Hello(..) => {}
        }
    }

    /// Tells the group that we are in it.
    pub(super) fn say_here(&mut self) {
        if let (To::Group { .. }, Some(name)) = (&self.to, &self.name) {
            let here = Talk::Here(name.clone()).spell();
            self.effects.push(Effect::Shout(here));
            self.said_here = Some(self.now.elapsed);
            self.owe_here = None;
        }
    }

    /// Keeps who is there, and how he spells.
    pub(super) fn know(&mut self, peer: SocketAddr, name: Option<String>, spelling: Spelling) {
        if self.names.len() >= PEERS_MAX || self.spellings.len() >= PEERS_MAX {
            let kept = if let To::Peer(peer) = self.to { Some(peer) } else { None };
            self.names.retain(|peer, _| Some(*peer) == kept);
            self.spellings.retain(|peer, _| Some(*peer) == kept);
        }
        self.spellings.insert(peer, spelling);
        if let Some(name) = name {
            self.names.insert(peer, name.clone());
            if self.users.len() < PEERS_MAX {
                self.users.insert(name);
            }
        }
    }

    /// The name of somebody, or his address if he has not said it.
    pub(super) fn called(&self, peer: SocketAddr) -> String {
        self.names.get(&peer).map_or_else(|| peer.to_string(), |name| Text::harmless(name).as_str().to_owned())
    }

    /// Both.
    pub(super) fn described(&self, peer: SocketAddr) -> String {
        match self.names.get(&peer) {
            Some(name) => format!("{} ({peer})", Text::harmless(name).as_str()),
            None => peer.to_string(),
        }
    }
}
