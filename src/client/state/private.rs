//! Private sessions: begun, used and ended by either side, straight from client to client.
//!
//! The server only introduces: it is never given a private text, and when a text cannot be
//! delivered its sender is told and may choose `message`. A session is one connection that both
//! sides have proven; it ends with the connection, whatever the server does.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::peers::{Introduction, PeerId};
use super::{Effect, Phase, Shown, State};
use crate::wire::control::Say;
use crate::wire::name::{Text, UserName};
use crate::wire::peer::Frame;
use crate::wire::text::First;
use crate::wire::{Notice, Purpose, Refusal, Request, Ticket, WhyNot};

/// Private sessions of one client; then neither side can begin one more.
pub const SESSIONS_MAX: usize = 64;

/// Private traffic is told to the server no more often, in milliseconds: it keeps the user from
/// being timed out.
pub const ALIVE_EVERY: i64 = 500;

/// What there is to tell about other clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerNotice {
    /// A private text.
    Said {
        /// Who says it.
        from: UserName,
        /// What is said.
        text: Text,
    },
    /// A private session has begun.
    Started {
        /// With whom.
        with: UserName,
        /// It was he who wanted it.
        by_him: bool,
    },
    /// A private session is over.
    Ended {
        /// With whom.
        with: UserName,
        /// Somebody ended it; else the connection is just gone.
        stopped: bool,
    },
    /// Connections that nobody had announced were refused.
    Unannounced {
        /// Where the last of them came from.
        from: IpAddr,
        /// How many there were.
        count: u32,
    },
    /// A private text or session cannot be.
    Hindered(Hindrance),
    /// Others cannot connect, and why.
    NotListening(String),
}

/// Why a private text or session cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hindrance {
    /// There is no session, and no permission to write without one.
    NoSession(Text),
    /// There is a session already.
    AlreadyStarted(UserName),
    /// The other does not answer, or is not who he should be.
    NotThere(UserName),
    /// The other does not read what was sent before.
    NotTaken(UserName),
    /// As many sessions as there may be.
    SessionsFull(UserName),
    /// The other has as many sessions as there may be.
    OtherFull(UserName),
}

impl Hindrance {
    /// A word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::NoSession(_) => "no-session",
            Self::AlreadyStarted(_) => "already-started",
            Self::NotThere(_) => "not-there",
            Self::NotTaken(_) => "not-taken",
            Self::SessionsFull(_) => "sessions-full",
            Self::OtherFull(_) => "other-full",
        }
    }
}

impl fmt::Display for Hindrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSession(user) => write!(f, "No private session with {}, use startprivate", user.as_str()),
            Self::AlreadyStarted(user) => write!(f, "A private session with {user} has already started"),
            Self::NotThere(user) => write!(f, "{user} is no longer there, use message"),
            Self::NotTaken(user) => write!(f, "{user} does not read what you sent before, nothing sent"),
            Self::SessionsFull(user) => {
                write!(f, "No private session with {user}: you have {SESSIONS_MAX}, stop another first")
            }
            Self::OtherFull(user) => write!(f, "{user} has too many private sessions already, use message"),
        }
    }
}

impl fmt::Display for PeerNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Said { from, text } => write!(f, "{}(private): {}", First(from.as_str()), text.as_str()),
            Self::Started { with, by_him: false } => write!(f, "Private session with {with} started"),
            Self::Started { with, by_him: true } => {
                write!(f, "{} started a private session with you", First(with.as_str()))
            }
            Self::Ended { with, stopped: true } => write!(f, "Private session with {with} ended (stopped)"),
            Self::Ended { with, stopped: false } => write!(f, "Private session with {with} ended (gone)"),
            Self::Unannounced { from, count: 1 } => write!(f, "An unannounced connection from {from} was refused"),
            Self::Unannounced { from, count } => {
                write!(f, "{count} unannounced connections were refused, the last from {from}")
            }
            Self::Hindered(why) => write!(f, "Error. {why}"),
            Self::NotListening(why) => write!(f, "Nobody can begin a private session with you: {why}"),
        }
    }
}

/// What the mind knows about private sessions.
#[derive(Debug, Default)]
pub(super) struct Private {
    /// The connection of each.
    sessions: BTreeMap<UserName, PeerId>,
    /// Who lets us write to him, where he was last, and a ticket that has not been used.
    addresses: BTreeMap<UserName, (SocketAddr, Option<Ticket>)>,
    /// Whom the server was asked for a ticket.
    asked: BTreeSet<UserName>,
    /// Who has been asked whether he wants a session.
    requested: BTreeSet<UserName>,
    /// With whom a session is wanted, who is just beginning one himself; where he can be dialled if
    /// that comes to nothing, if that has not been tried.
    wanted: BTreeMap<UserName, Option<(SocketAddr, Ticket)>>,
    /// When the server may be told of private traffic again.
    next_alive: i64,
}

/// What comes of a line that the client carries out itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is carried out.
    Done,
    /// It is being carried out, and is over when that says so.
    Taken,
    /// It waits for what an earlier line has begun.
    Waits,
    /// It waits for a connection that it has asked for.
    Tries,
    /// It is one for the server.
    ForServer,
}

impl State {
    pub(super) fn show_peer(&mut self, notice: PeerNotice) {
        self.put(Shown::Peer(notice, self.now.wall));
    }

    fn hindered(&mut self, why: Hindrance) {
        self.show_peer(PeerNotice::Hindered(why));
    }

    /// Carries out a typed line before which nothing waits for an answer any more. `tried` tells
    /// that it has made a connection already, which has come to nothing.
    pub(super) fn carry_out_private(&mut self, request: Request<'_>, tried: bool) -> Outcome {
        match request {
            Request::StartPrivate { user } => match self.private.sessions.get_key_value(user) {
                Some((user, _)) => {
                    let user = user.clone();
                    self.hindered(Hindrance::AlreadyStarted(user));
                    Outcome::Done
                }
                None => Outcome::ForServer,
            },
            Request::StopPrivate { user } => {
                self.stop_private(user);
                Outcome::Done
            }
            Request::Private { to, text } => self.say_private(to, text, tried),
            _ => Outcome::ForServer,
        }
    }

    fn stop_private(&mut self, user: &str) {
        let Some((user, peer)) = self.private.sessions.remove_entry(user) else {
            return self.hindered(Hindrance::NoSession(Text::harmless(user)));
        };
        self.peers.links.remove(&peer);
        self.part_with(peer);
        self.effects.push(Effect::Partner(user.clone(), false));
        self.show_peer(PeerNotice::Ended { with: user, stopped: true });
        self.tell_alive();
    }

    fn part_with(&mut self, peer: PeerId) {
        self.effects.push(Effect::Tell(peer, Frame::Bye));
        self.hang_up(peer);
    }

    fn say_private(&mut self, to: &str, text: &str, tried: bool) -> Outcome {
        if let Some(&peer) = self.private.sessions.get(to) {
            self.effects.push(Effect::Tell(peer, Frame::Text(text.to_owned())));
            self.tell_alive();
            return Outcome::Done;
        }
        let is_requested = !self.rules.person && self.private.requested.contains(to);
        let Ok(user) = UserName::parse(to) else {
            self.hindered(Hindrance::NoSession(Text::harmless(to)));
            return Outcome::Done;
        };
        if is_requested || self.private.asked.contains(to) || self.peers.is_meeting(Some(&user)) {
            return Outcome::Waits;
        }
        match self.private.addresses.get_mut(to) {
            // What was tried has failed, and why has been said.
            _ if tried => return Outcome::Done,
            None => {
                self.hindered(Hindrance::NoSession(Text::harmless(to)));
                return Outcome::Done;
            }
            Some((at, ticket)) => match ticket.take() {
                Some(ticket) => {
                    let at = *at;
                    self.begin_private(user.clone(), at, ticket);
                }
                None => {
                    self.private.asked.insert(user);
                    if self.phase == Phase::Online {
                        self.say(Say::Dial { user: to, purpose: Purpose::Private });
                    }
                    return Outcome::Tries;
                }
            },
        }
        if self.peers.is_meeting(Some(&user)) { Outcome::Tries } else { Outcome::Done }
    }

    fn begin_private(&mut self, user: UserName, at: SocketAddr, ticket: Ticket) {
        if self.has_session(&user) || self.peers.is_dialling(&user, Purpose::Private) {
            return;
        }
        // He has dialled us, and one connection is enough.
        if self.peers.is_meeting(Some(&user)) {
            self.private.wanted.insert(user, Some((at, ticket)));
            return;
        }
        if self.has_room_for_private(&user) {
            self.dial(Introduction { user, ticket, purpose: Purpose::Private }, at);
        }
    }

    /// Whether one more session can begin; if not, the user is told.
    pub(super) fn has_room_for_private(&mut self, user: &UserName) -> bool {
        let sessions = &self.private.sessions;
        let with: BTreeSet<&UserName> = sessions.keys().chain(self.peers.meeting()).collect();
        let has_room = with.len() < SESSIONS_MAX || with.contains(user);
        if !has_room {
            self.hindered(Hindrance::SessionsFull(user.clone()));
        }
        has_room
    }

    /// What the server says about other clients. Returns what is to be shown of it.
    pub(super) fn hear_of_private(&mut self, notice: Notice) -> Option<Notice> {
        match notice {
            Notice::Peer { user, at, ticket, purpose: Purpose::Private } => {
                self.private.asked.remove(&user);
                self.private.requested.remove(&user);
                self.begin_private(user, at, ticket);
            }
            Notice::NoPeer { user, purpose: Purpose::Private, why } => {
                if self.private.asked.remove(&user) {
                    self.private_is_refused(user, why);
                }
            }
            Notice::Expect { user, ticket, purpose } => self.expect(user, ticket, purpose),
            Notice::Address { user, at, ticket } => {
                let before = self.private.addresses.insert(user.clone(), (at, Some(ticket)));
                if before.is_none_or(|(before, _)| before != at) {
                    return Some(Notice::Address { user, at, ticket });
                }
            }
            Notice::RequestSent(ref user) => {
                if self.is_startprivate() {
                    self.private.requested.insert(user.clone());
                }
                return Some(notice);
            }
            Notice::Declined(ref user) | Notice::Left(ref user) => {
                self.private.requested.remove(user);
                return Some(notice);
            }
            notice => return Some(notice),
        }
        None
    }

    fn private_is_refused(&mut self, user: UserName, why: WhyNot) {
        match why {
            WhyNot::Offline | WhyNot::NoFile => self.hindered(Hindrance::NotThere(user)),
            WhyNot::Blocked => self.show(Notice::Refused(Refusal::Blocked(user))),
            WhyNot::NoPort => self.show(Notice::Refused(Refusal::NoPrivate(user))),
            WhyNot::NotAllowed => {
                self.private.addresses.remove(&user);
                self.hindered(Hindrance::NoSession(Text::harmless(user.as_str())));
            }
        }
    }

    /// Back on the server: what it had not answered is asked again.
    pub(super) fn ask_again_for_private(&mut self) {
        for user in self.private.asked.clone() {
            self.say(Say::Dial { user: user.as_str(), purpose: Purpose::Private });
        }
    }

    /// The server does not know the session any more, nor what was asked in it.
    pub(super) fn forget_requests(&mut self) {
        self.private.requested.clear();
    }

    /// Whether something that was asked for is still to come.
    pub(super) fn awaits_private(&self) -> bool {
        !self.private.asked.is_empty() || !self.private.requested.is_empty() || self.peers.is_meeting(None)
    }

    pub(super) fn has_session(&self, user: &UserName) -> bool {
        self.private.sessions.contains_key(user)
    }

    /// A connection has been proven. If there is a session with the same user, that one is dead
    /// and we have not heard of it.
    pub(super) fn private_is_there(&mut self, peer: PeerId, user: UserName) {
        self.stop_dialling(&user, Purpose::Private);
        self.private.requested.remove(&user);
        self.private.wanted.remove(&user);
        match self.private.sessions.insert(user.clone(), peer) {
            Some(dead) => {
                self.peers.links.remove(&dead);
                self.hang_up(dead);
                self.show_peer(PeerNotice::Ended { with: user.clone(), stopped: false });
            }
            None => self.effects.push(Effect::Partner(user.clone(), true)),
        }
        let by_him = matches!(peer, PeerId::Accepted(_));
        self.show_peer(PeerNotice::Started { with: user, by_him });
    }

    pub(super) fn hear_private(&mut self, peer: PeerId, from: UserName, frame: Frame) {
        match frame {
            Frame::Text(text) => {
                let text = Text::harmless(&text);
                self.show_peer(PeerNotice::Said { from, text });
            }
            frame => {
                self.peers.links.remove(&peer);
                self.hang_up(peer);
                self.private_has_ended(peer, from, frame == Frame::Bye);
                self.answer_announced();
            }
        }
    }

    /// A proven connection is over.
    pub(super) fn private_has_ended(&mut self, peer: PeerId, user: UserName, stopped: bool) {
        // One that was dead has been replaced already.
        if self.private.sessions.get(&user) == Some(&peer) {
            self.private.sessions.remove(&user);
            self.effects.push(Effect::Partner(user.clone(), false));
            self.show_peer(PeerNotice::Ended { with: user, stopped });
        }
    }

    pub(super) fn private_not_reached(&mut self, user: UserName, is_full: bool) {
        if self.has_session(&user) {
            // He has been faster.
        } else if self.peers.is_meeting(Some(&user)) {
            self.private.wanted.insert(user, None);
        } else {
            self.hindered(if is_full { Hindrance::OtherFull(user) } else { Hindrance::NotThere(user) });
        }
    }

    /// He had dialled us, and nothing has come of it: now it is our turn, if that was wanted.
    pub(super) fn private_has_not_come(&mut self, user: &UserName) {
        if self.peers.is_meeting(Some(user)) {
            return;
        }
        let Some((user, place)) = self.private.wanted.remove_entry(user) else { return };
        match place {
            Some((at, ticket)) => self.begin_private(user, at, ticket),
            None => self.private_not_reached(user, false),
        }
    }

    /// The queue of a connection is full.
    pub(super) fn not_taken(&mut self, peer: PeerId) {
        let user = self.private.sessions.iter().find(|(_, known)| **known == peer).map(|(user, _)| user.clone());
        if let Some(user) = user {
            self.hindered(Hindrance::NotTaken(user));
        }
    }

    /// The program ends: so do all sessions, in order.
    pub(super) fn end_private(&mut self) {
        for peer in std::mem::take(&mut self.private.sessions).into_values() {
            self.part_with(peer);
        }
    }

    /// Keeps the user from being timed out for what passes the server by.
    pub(super) fn tell_alive(&mut self) {
        if self.phase == Phase::Online && self.now.elapsed >= self.private.next_alive {
            self.private.next_alive = self.now.elapsed + ALIVE_EVERY;
            self.say(Say::Alive);
        }
    }
}
