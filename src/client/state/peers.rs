//! Connections to other clients, dialled and accepted, until both sides have proven who they are.
//! What follows on a proven one is told in `private`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::handshake::{Acceptor, Dialler, Expected};
use super::private::PeerNotice;
use super::{Effect, State};
use crate::wire::name::UserName;
use crate::wire::peer::{Frame, Hello, Nonce};
use crate::wire::{Purpose, Ticket};

/// Accepted connections on which nothing is proven; then the oldest of them is closed.
pub const UNPROVEN_MAX: usize = 16;

/// How long both sides may take to prove who they are, in milliseconds; then it is closed.
pub const PROOF_MAX: i64 = 5_000;

/// How long the server's word may be behind the one whom it announces, in milliseconds.
pub const ANNOUNCED_MAX: i64 = 3_000;

/// How long a hello waits for what another connection with the same user comes to: one that was
/// dialled from here at the same time, or a session that is just ending. In milliseconds; then the
/// newcomer is taken instead.
pub const OTHER_FIRST_MAX: i64 = 1_000;

/// Between two lines about connections that were refused, in milliseconds; they are counted.
pub const REFUSED_EVERY: i64 = 1_000;

/// Names a connection to another client, and tells who has made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerId {
    /// This client.
    Dialled(u64),
    /// The other one.
    Accepted(u64),
}

/// Something that happened on a connection to another client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerEvent {
    /// It is there, with this address at the other end; the random bytes are for its proof.
    Open(IpAddr, Nonce),
    /// The other side says this.
    Heard(Frame),
    /// The other side says what is no frame, or more than is read before a proof.
    Garbage,
    /// The last text waits behind so many others that it was not taken.
    Full,
    /// It has ended, or could not be had.
    Ended,
}

/// What there is of one connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) stage: Stage,
    /// Where the other side is.
    ip: IpAddr,
    /// When it is closed if nothing has been proven.
    until: i64,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// Dialled, and not yet there.
    Dialling(Introduction),
    /// Dialled: the proof of the other side is awaited.
    Asking(Introduction, Dialler),
    /// Dialled: he has proven who he is, and our answer waits for another connection with him.
    Holding(Introduction, Frame),
    /// Accepted: the first word of the other side is awaited.
    Silent(Nonce),
    /// Its hello is not answered yet.
    Waiting(Waiting),
    /// Its hello was expected: its proof is awaited.
    Answering(Acceptor, Ticket),
    /// Both have proven who they are.
    Proven(Purpose, UserName),
}

/// A hello that is not expected, or comes while there is another connection with the same user.
#[derive(Debug)]
pub(super) struct Waiting {
    nonce: Nonce,
    hello: Hello,
    /// When the other connection has had its time; `None` if it has.
    other_until: Option<i64>,
    /// When it is refused.
    until: i64,
}

impl Stage {
    /// With whom a private session is about to begin.
    fn meeting(&self) -> Option<&UserName> {
        let (purpose, user) = match self {
            Self::Answering(acceptor, _) => (acceptor.hello().purpose, &acceptor.hello().from),
            _ => self.dialled().map(|to| (to.purpose, &to.user))?,
        };
        (purpose == Purpose::Private).then_some(user)
    }

    /// Who has been dialled.
    fn dialled(&self) -> Option<&Introduction> {
        match self {
            Self::Dialling(to) | Self::Asking(to, _) | Self::Holding(to, _) => Some(to),
            _ => None,
        }
    }
}

/// Whom the server has introduced us to.
#[derive(Debug, Clone)]
pub(super) struct Introduction {
    pub(super) user: UserName,
    pub(super) ticket: Ticket,
    pub(super) purpose: Purpose,
}

/// All connections to other clients.
#[derive(Debug, Default)]
pub(super) struct Peers {
    pub(super) links: BTreeMap<PeerId, Link>,
    pub(super) expected: Expected,
    dialled: u64,
    /// Refused since the last line about it, the last of them from there.
    refused: Option<(IpAddr, u32)>,
    /// When there may be another line.
    next_line: i64,
}

impl Peers {
    /// When something has to be closed or told.
    pub(super) fn deadline(&self) -> Option<i64> {
        let links = self.links.values().filter_map(|link| match link.stage {
            Stage::Proven(..) => None,
            Stage::Waiting(ref it) => Some(it.other_until.unwrap_or(it.until).min(it.until).min(link.until)),
            _ => Some(link.until),
        });
        links.chain(self.refused.map(|_| self.next_line)).min()
    }

    /// Whether `user` is being dialled for this purpose.
    pub(super) fn is_dialling(&self, user: &UserName, purpose: Purpose) -> bool {
        let is_it = |to: &Introduction| to.user == *user && to.purpose == purpose;
        self.links.values().filter_map(|link| link.stage.dialled()).any(is_it)
    }

    /// Whether `user` has dialled us for a private session, and his proof is awaited.
    fn is_answering(&self, user: &UserName) -> bool {
        let is_it = |link: &Link| matches!(link.stage, Stage::Answering(..)) && link.stage.meeting() == Some(user);
        self.links.values().any(is_it)
    }

    /// Those with whom a private session is about to begin.
    pub(super) fn meeting(&self) -> impl Iterator<Item = &UserName> {
        self.links.values().filter_map(|link| link.stage.meeting())
    }

    /// Whether a private session with `user`, or with anybody, is about to begin.
    pub(super) fn is_meeting(&self, user: Option<&UserName>) -> bool {
        self.meeting().any(|with| user.is_none_or(|user| user == with))
    }
}

impl State {
    /// Makes a connection to a user whom the server has introduced. What comes of it is told by
    /// `proven` or `not_reached`.
    pub(super) fn dial(&mut self, to: Introduction, at: SocketAddr) -> PeerId {
        self.peers.dialled += 1;
        let peer = PeerId::Dialled(self.peers.dialled);
        let until = self.now.elapsed + PROOF_MAX;
        self.peers.links.insert(peer, Link { stage: Stage::Dialling(to), ip: at.ip(), until });
        self.effects.push(Effect::Dial(peer, at));
        peer
    }

    /// Somebody may connect; perhaps he has already.
    pub(super) fn expect(&mut self, user: UserName, ticket: Ticket, purpose: Purpose) {
        self.peers.expected.add(self.now.elapsed, user, ticket, purpose);
        self.answer_announced();
    }

    pub(super) fn hear_peer(&mut self, peer: PeerId, event: PeerEvent) {
        match event {
            PeerEvent::Open(ip, nonce) => self.peer_is_there(peer, ip, nonce),
            PeerEvent::Heard(frame) => self.hear_frame(peer, frame),
            PeerEvent::Garbage => self.hear_garbage(peer),
            PeerEvent::Full => self.not_taken(peer),
            PeerEvent::Ended => self.peer_has_ended(peer),
        }
        self.go_on_with_lines();
    }

    fn peer_is_there(&mut self, peer: PeerId, ip: IpAddr, nonce: Nonce) {
        let Some(me) = self.user.clone() else { return self.hang_up(peer) };
        match (peer, self.peers.links.get_mut(&peer)) {
            (PeerId::Dialled(_), Some(link)) => {
                let Stage::Dialling(to) = &link.stage else { return };
                let dialler = Dialler::new(to.purpose, me, to.user.clone(), to.ticket, nonce);
                self.effects.push(Effect::Tell(peer, dialler.hello()));
                link.stage = Stage::Asking(to.clone(), dialler);
            }
            (PeerId::Accepted(_), None) => {
                let until = self.now.elapsed + PROOF_MAX;
                self.peers.links.insert(peer, Link { stage: Stage::Silent(nonce), ip, until });
                let is_open = |(id, link): &(&PeerId, &Link)| {
                    matches!(id, PeerId::Accepted(_)) && !matches!(link.stage, Stage::Proven(..))
                };
                let unproven = self.peers.links.iter().filter(is_open);
                if unproven.clone().count() > UNPROVEN_MAX
                    && let Some((&oldest, _)) = unproven.min_by_key(|(id, _)| **id)
                {
                    self.refuse(oldest);
                }
            }
            _ => self.hang_up(peer),
        }
    }

    fn hear_frame(&mut self, peer: PeerId, frame: Frame) {
        let now = self.now.elapsed;
        let Some(link) = self.peers.links.get_mut(&peer) else { return };
        match (&link.stage, frame) {
            (Stage::Asking(to, dialler), frame) => {
                let (to, answer) = (to.clone(), dialler.check(&frame));
                match answer {
                    Some(answer) => self.believe(peer, to, answer),
                    None => self.fail_to_reach(peer, to, frame == Frame::Bye),
                }
            }
            (Stage::Silent(nonce), Frame::Hello(hello)) => {
                let (other_until, until) = (Some(now + OTHER_FIRST_MAX), now + ANNOUNCED_MAX);
                link.stage = Stage::Waiting(Waiting { nonce: *nonce, hello, other_until, until });
                self.answer_announced();
            }
            (Stage::Answering(acceptor, ticket), frame) => {
                let (is_right, hello, ticket) = (acceptor.check(&frame), acceptor.hello().clone(), *ticket);
                if is_right && self.peers.expected.use_up(&hello.from, &ticket) {
                    self.prove(peer, hello.from, hello.purpose);
                } else {
                    self.refuse(peer);
                }
            }
            (Stage::Proven(Purpose::Private, user), frame) => {
                let user = user.clone();
                self.hear_private(peer, user, frame);
            }
            _ => self.hear_garbage(peer),
        }
    }

    /// Who was dialled has proven who he is. If he has dialled us as well and awaits nothing more
    /// there, what he has said there comes first: he would not have answered here before.
    fn believe(&mut self, peer: PeerId, to: Introduction, answer: Frame) {
        if to.purpose == Purpose::Private
            && self.peers.is_answering(&to.user)
            && let Some(link) = self.peers.links.get_mut(&peer)
        {
            link.until = self.now.elapsed + OTHER_FIRST_MAX;
            link.stage = Stage::Holding(to, answer);
            return;
        }
        self.effects.push(Effect::Tell(peer, answer));
        self.prove(peer, to.user, to.purpose);
    }

    /// The answer to `user` need not wait any more.
    fn stop_holding(&mut self, user: &UserName) {
        let held = self.peers.links.iter().find_map(|(peer, link)| match &link.stage {
            Stage::Holding(to, answer) if to.user == *user => Some((*peer, to.purpose, answer.clone())),
            _ => None,
        });
        if let Some((peer, purpose, answer)) = held {
            self.effects.push(Effect::Tell(peer, answer));
            self.prove(peer, user.clone(), purpose);
        }
    }

    fn hear_garbage(&mut self, peer: PeerId) {
        match self.peers.links.get(&peer).map(|link| &link.stage) {
            Some(Stage::Silent(_) | Stage::Waiting(_) | Stage::Answering(..)) => self.refuse(peer),
            Some(_) => self.peer_has_ended(peer),
            None => {}
        }
    }

    /// Answers those who have said a hello that is expected by now.
    pub(super) fn answer_announced(&mut self) {
        let Some(me) = self.user.clone() else { return };
        let waiting = self.peers.links.iter().filter(|(_, link)| matches!(link.stage, Stage::Waiting(_)));
        for peer in waiting.map(|(peer, _)| *peer).collect::<Vec<_>>() {
            self.answer(peer, &me);
        }
    }

    fn answer(&mut self, peer: PeerId, me: &UserName) {
        let Some(Stage::Waiting(it)) = self.peers.links.get(&peer).map(|link| &link.stage) else { return };
        let (hello, nonce, is_private) = (it.hello.clone(), it.nonce, it.hello.purpose == Purpose::Private);
        if is_private && it.other_until.is_some() && self.is_other_first(&hello.from, me) {
            return;
        }
        let Some(ticket) = self.peers.expected.find(self.now.elapsed, &hello, me) else { return };
        if is_private {
            if *me < hello.from {
                self.stop_dialling(&hello.from, Purpose::Private);
            }
            if !self.has_room_for_private(&hello.from) {
                self.effects.push(Effect::Tell(peer, Frame::Bye));
                self.hang_up(peer);
                self.peers.links.remove(&peer);
                return;
            }
        }
        let acceptor = Acceptor::new(hello, ticket, nonce);
        self.effects.push(Effect::Tell(peer, acceptor.proof()));
        if let Some(link) = self.peers.links.get_mut(&peer) {
            link.stage = Stage::Answering(acceptor, ticket);
        }
    }

    /// Whether `user`, who has said hello, is to wait for another connection between the two.
    /// Those who dial each other at once need one: that of the smaller name, who does not answer
    /// meanwhile. And who has a session, or is about to prove that he may have one, cannot begin
    /// one: either he has ended it, which we are about to hear, or he is about to hear of it.
    fn is_other_first(&self, user: &UserName, me: &UserName) -> bool {
        self.has_session(user)
            || self.peers.is_answering(user)
            || (me < user && self.peers.is_dialling(user, Purpose::Private))
    }

    fn prove(&mut self, peer: PeerId, user: UserName, purpose: Purpose) {
        if let Some(link) = self.peers.links.get_mut(&peer) {
            link.stage = Stage::Proven(purpose, user.clone());
        }
        self.effects.push(Effect::Proven(peer, user.clone(), purpose));
        match purpose {
            Purpose::Private => self.private_is_there(peer, user),
            // Whoever works on it says when chunks can be asked for.
            Purpose::File => {}
        }
        // Who was left waiting meanwhile is in the way now, or may come.
        self.answer_announced();
        self.go_on_with_lines();
    }

    /// Closes what has taken too long, and tells what was refused meanwhile.
    pub(super) fn look_after_peers(&mut self) {
        let now = self.now.elapsed;
        for link in self.peers.links.values_mut() {
            if let Stage::Waiting(it) = &mut link.stage {
                it.other_until.take_if(|until| now >= *until);
            }
        }
        self.answer_announced();
        let late = |link: &Link| match &link.stage {
            Stage::Proven(..) => false,
            Stage::Waiting(it) => now >= it.until.min(link.until),
            _ => now >= link.until,
        };
        let late: Vec<PeerId> = self.peers.links.iter().filter(|(_, link)| late(link)).map(|(peer, _)| *peer).collect();
        for peer in late {
            match self.peers.links.get(&peer).map(|link| &link.stage) {
                Some(Stage::Dialling(to) | Stage::Asking(to, _)) => {
                    let to = to.clone();
                    self.fail_to_reach(peer, to, false);
                }
                Some(Stage::Holding(to, _)) => self.stop_holding(&to.user.clone()),
                None => {}
                _ => self.refuse(peer),
            }
        }
        if now >= self.peers.next_line {
            self.tell_refused();
        }
        self.go_on_with_lines();
    }

    fn peer_has_ended(&mut self, peer: PeerId) {
        match self.peers.links.remove(&peer).map(|link| link.stage) {
            Some(Stage::Dialling(to) | Stage::Asking(to, _) | Stage::Holding(to, _)) => {
                return self.fail_to_reach(peer, to, false);
            }
            Some(Stage::Proven(Purpose::Private, user)) => {
                self.private_has_ended(peer, user, false);
                self.hang_up(peer);
                return self.answer_announced();
            }
            Some(Stage::Proven(Purpose::File, _)) => self.file_link_lost(peer),
            // Who leaves before he has proven anything was not refused by us.
            Some(stage) => {
                self.hang_up(peer);
                return self.has_not_met(&stage);
            }
            None => {}
        }
        self.hang_up(peer);
    }

    /// Who was dialled does not answer, is not who he should be, or has no room for one more.
    fn fail_to_reach(&mut self, peer: PeerId, to: Introduction, is_full: bool) {
        self.hang_up(peer);
        self.peers.links.remove(&peer);
        self.answer_announced();
        match to.purpose {
            Purpose::Private => self.private_not_reached(to.user, is_full),
            Purpose::File => self.file_link_lost(peer),
        }
        self.go_on_with_lines();
    }

    /// `user` is there by another connection: those that are being dialled are not needed.
    pub(super) fn stop_dialling(&mut self, user: &UserName, purpose: Purpose) {
        let is_it = |to: &Introduction| to.user == *user && to.purpose == purpose;
        let is_dial = |link: &Link| link.stage.dialled().is_some_and(is_it);
        let dials = self.peers.links.extract_if(.., |_, link| is_dial(link));
        for (peer, _) in dials.collect::<Vec<_>>() {
            self.hang_up(peer);
        }
    }

    /// Closes a connection that nobody has announced.
    fn refuse(&mut self, peer: PeerId) {
        self.hang_up(peer);
        let Some(link) = self.peers.links.remove(&peer) else { return };
        let count = self.peers.refused.map_or(0, |(_, count)| count);
        self.peers.refused = Some((link.ip, count + 1));
        if self.now.elapsed >= self.peers.next_line {
            self.tell_refused();
        }
        self.has_not_met(&link.stage);
    }

    /// An accepted connection is gone without a proof.
    fn has_not_met(&mut self, stage: &Stage) {
        if let Some(user) = stage.meeting() {
            self.stop_holding(user);
            self.answer_announced();
            self.private_has_not_come(user);
        }
    }

    fn tell_refused(&mut self) {
        let Some((from, count)) = self.peers.refused.take() else { return };
        self.peers.next_line = self.now.elapsed + REFUSED_EVERY;
        self.show_peer(PeerNotice::Unannounced { from, count });
    }

    pub(super) fn hang_up(&mut self, peer: PeerId) {
        self.effects.push(Effect::HangUp(peer));
    }
}
