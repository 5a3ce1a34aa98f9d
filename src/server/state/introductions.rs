//! Who may learn whose address, with or without consent; and the tickets by which two clients
//! know each other.
//!
//! The server hands the same ticket to both sides and forgets it: what they do with it is not its
//! business, and a later block does not cut what stands (W4119). Permissions and requests live in
//! memory only.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;

use super::dialogue::shown;
use super::roster::UserId;
use super::tracker::Head;
use super::{ConnId, State};
use crate::wire::control::Say;
use crate::wire::framed::Answer;
use crate::wire::name::UserName;
use crate::wire::{Notice, Purpose, Refusal, Request, Ticket, WhyNot};

/// Requests that may wait for the answer of one user; the next asker is told to come later.
pub const REQUESTS_MAX: usize = 64;

/// What was asked and not answered, and who may learn whose address.
#[derive(Debug, Default)]
pub(super) struct Introductions {
    /// By the user who was asked, then by the one who asks.
    requests: HashMap<UserId, BTreeMap<UserId, Wish>>,
    /// Whom a user has asked.
    asked: HashMap<UserId, BTreeSet<UserId>>,
    /// Who has allowed whom.
    allowed: BTreeSet<(UserId, UserId)>,
    /// The same, from who is allowed to who has allowed it.
    allowed_by: BTreeSet<(UserId, UserId)>,
}

/// What may be asked of a user.
#[derive(Debug, Clone, Copy)]
enum Question {
    /// That one may know his address.
    Address,
    /// One private session.
    Session,
}

/// What one user wants of another.
#[derive(Debug, Default)]
struct Wish {
    address: bool,
    session: bool,
    /// Who asked has left since, so the request is void; kept to say so.
    is_gone: bool,
}

impl Introductions {
    /// Whether `user` lets `reader` know his address.
    fn allows(&self, user: UserId, reader: UserId) -> bool {
        self.allowed.contains(&(user, reader))
    }

    /// What `reader` asked of `user`, which is no longer open.
    fn take(&mut self, user: UserId, reader: UserId) -> Option<Wish> {
        let requests = self.requests.get_mut(&user)?;
        let wish = requests.remove(&reader);
        if requests.is_empty() {
            self.requests.remove(&user);
        }
        if let Some(asked) = self.asked.get_mut(&reader) {
            asked.remove(&user);
            if asked.is_empty() {
                self.asked.remove(&reader);
            }
        }
        wish
    }

    /// Makes room for one more request to `user`; false if there is none.
    fn make_room(&mut self, user: UserId) -> bool {
        let Some(requests) = self.requests.get(&user).filter(|requests| requests.len() >= REQUESTS_MAX) else {
            return true;
        };
        let void = requests.iter().find(|(_, wish)| wish.is_gone).map(|(&reader, _)| reader);
        void.is_some_and(|reader| self.take(user, reader).is_some())
    }

    /// Everybody whom `user` may be told of, or who may be told of him.
    fn readers(&self, user: UserId) -> Vec<UserId> {
        Self::of(&self.allowed, user)
    }

    fn of(pairs: &BTreeSet<(UserId, UserId)>, user: UserId) -> Vec<UserId> {
        pairs.range((user, UserId::FIRST)..).take_while(|(one, _)| *one == user).map(|&(_, other)| other).collect()
    }
}

impl State {
    /// A line of our client about other clients or files.
    pub(super) fn hear_between_clients(&mut self, conn: ConnId, user: UserId, say: Say<'_>) {
        self.charge_line(conn);
        // What the program says for itself is no activity.
        if !matches!(say, Say::Port(_) | Say::Holders(_) | Say::Withdraw(_)) {
            self.touch(conn);
        }
        match say {
            Say::Port(port) => self.set_port(conn, user, port),
            Say::Dial { user: word, purpose } => self.dial(conn, user, word, purpose),
            Say::Register { file, chunks, bytes, digest, part } => {
                self.register(conn, user, file, Head { chunks, bytes, digest }, part);
            }
            Say::ChunkHash { first, hashes } => self.take_hashes(conn, user, first, hashes),
            Say::Want(file) => self.want(conn, user, file),
            Say::Holders(file) => self.holders(conn, user, file),
            Say::Have { file, chunks } => self.have(user, file, chunks),
            Say::Withdraw(file) => self.withdraw(conn, user, file),
            _ => {}
        }
    }

    /// A command about private sessions or files. Netcat has no ears for them, but for searches.
    pub(super) fn between_clients(&mut self, conn: ConnId, user: UserId, request: Request<'_>) {
        let is_ours = self.sessions.get(&conn).is_some_and(|session| session.is_ours);
        match request {
            Request::SearchFile { file } => self.search_file(conn, user, file),
            Request::SearchChunk { file, chunks } => self.search_chunk(conn, user, file, chunks),
            Request::StartPrivate { user: word } if is_ours => self.start_private(conn, user, word),
            Request::GetAddress { user: word } if is_ours => self.get_address(conn, user, word),
            Request::Allow { user: word } if is_ours => self.allow(conn, user, word),
            Request::Deny { user: word } if is_ours => self.deny(conn, user, word),
            Request::StartPrivate { .. } => self.refuse(conn, Refusal::NeedsClient("startprivate")),
            Request::GetAddress { .. } => self.refuse(conn, Refusal::NeedsClient("getaddress")),
            Request::Allow { .. } => self.refuse(conn, Refusal::NeedsClient("allow")),
            Request::Deny { .. } => self.refuse(conn, Refusal::NeedsClient("deny")),
            Request::StopPrivate { .. } => self.refuse(conn, Refusal::NeedsClient("stopprivate")),
            Request::Register { .. } => self.refuse(conn, Refusal::NeedsClient("register")),
            Request::Download { .. } => self.refuse(conn, Refusal::NeedsClient("download")),
            _ => self.refuse(conn, Refusal::NeedsClient("private")),
        }
    }

    /// `startprivate <user>`: without asking, or with `--ask-private` (UNSW 2019, 2021).
    fn start_private(&mut self, conn: ConnId, asker: UserId, word: &str) {
        let Some(user) = self.target(conn, asker, word, "start a private session with") else { return };
        let name = self.roster[user].name.clone();
        if self.roster[user].blocks.contains(&asker) {
            return self.refuse(conn, Refusal::Blocked(name));
        }
        if self.roster[user].session.is_none() {
            return self.refuse(conn, Refusal::Offline(name));
        }
        let Some(at) = self.address(asker, user) else {
            return self.refuse(conn, Refusal::NoPrivate(name));
        };
        if self.rules.ask_private {
            self.ask_for(conn, asker, user, Question::Session);
        } else {
            self.charge_ticket(conn);
            self.introduce(asker, user, at, Purpose::Private);
        }
    }

    /// `getaddress <user>`: who is unknown, away or refuses is not told apart (W4119).
    fn get_address(&mut self, conn: ConnId, asker: UserId, word: &str) {
        let found = self.roster.find(word);
        if found == Some(asker) {
            return self.refuse(conn, Refusal::Yourself("ask"));
        }
        let reachable = found.filter(|&user| !self.roster[user].blocks.contains(&asker));
        let Some((user, at)) = reachable.and_then(|user| Some((user, self.address(asker, user)?))) else {
            return self.refuse(conn, Refusal::CannotBeFound(shown(word)));
        };
        if self.introductions.allows(user, asker) {
            self.charge_ticket(conn);
            self.give_address(asker, user, at);
        } else {
            self.ask_for(conn, asker, user, Question::Address);
        }
    }

    /// The same for a framed client, whose user is told by the answer. He reaches framed users alone.
    pub(super) fn get_address_framed(&mut self, conn: ConnId, asker: UserId, word: &str) -> Answer {
        let found = self.roster.find(word).filter(|&user| user != asker && !self.roster[user].blocks.contains(&asker));
        let Some((user, at)) = found.and_then(|user| Some((user, self.address(asker, user)?))) else {
            return Answer::Fail;
        };
        if self.introductions.allows(user, asker) {
            self.give_address(asker, user, at);
            return Answer::Okay;
        }
        if self.ask_for(conn, asker, user, Question::Address) { Answer::Okay } else { Answer::Fail }
    }

    /// Asks `user` for a session, or for his address. Asking twice is one request. False if too
    /// many have asked.
    fn ask_for(&mut self, conn: ConnId, asker: UserId, user: UserId, question: Question) -> bool {
        let known = self.introductions.requests.get(&user).is_some_and(|requests| requests.contains_key(&asker));
        let (name, asker_name) = (self.roster[user].name.clone(), self.roster[asker].name.clone());
        if !known && !self.introductions.make_room(user) {
            self.refuse(conn, Refusal::RequestsFull { user: name, max: REQUESTS_MAX });
            return false;
        }
        let wish = self.introductions.requests.entry(user).or_default().entry(asker).or_default();
        if wish.is_gone {
            *wish = Wish::default();
        }
        let (asked, question) = match question {
            Question::Session => (&mut wish.session, Notice::AsksPrivate(asker_name)),
            Question::Address => (&mut wish.address, Notice::AsksAddress(asker_name)),
        };
        let is_new = !std::mem::replace(asked, true);
        self.introductions.asked.entry(asker).or_default().insert(user);
        if is_new {
            self.tell(user, question);
        }
        // A framed client has an answer of its own for this.
        if !self.is_framed(conn) {
            self.send(conn, Notice::RequestSent(name));
        }
        true
    }

    /// `allow <user>`: all he asked for. That he may know the address holds from now on.
    pub(super) fn allow(&mut self, conn: ConnId, user: UserId, word: &str) {
        let Some((reader, wish)) = self.answered(conn, user, word) else { return };
        let Some(at) = self.address(reader, user) else { return };
        if wish.address {
            self.introductions.allowed.insert((user, reader));
            self.introductions.allowed_by.insert((reader, user));
            self.give_address(reader, user, at);
        }
        if wish.session {
            self.introduce(reader, user, at, Purpose::Private);
        }
        let answer = Notice::Allowed(self.roster[reader].name.clone());
        self.line_done(user, Some(answer.clone()));
        self.send(conn, answer);
    }

    /// `deny <user>`
    pub(super) fn deny(&mut self, conn: ConnId, user: UserId, word: &str) {
        let Some((reader, _)) = self.answered(conn, user, word) else { return };
        self.tell(reader, Notice::Declined(self.roster[user].name.clone()));
        let answer = Notice::Denied(self.roster[reader].name.clone());
        self.line_done(user, Some(answer.clone()));
        self.send(conn, answer);
    }

    /// Who asked, by the name that `word` is, and for what; if nobody did, `conn` is told.
    fn answered(&mut self, conn: ConnId, user: UserId, word: &str) -> Option<(UserId, Wish)> {
        let reader = self.roster.find(word);
        let Some((reader, wish)) = reader.and_then(|reader| Some((reader, self.introductions.take(user, reader)?)))
        else {
            self.refuse(conn, Refusal::NoRequest(shown(word)));
            return None;
        };
        if wish.is_gone {
            self.refuse(conn, Refusal::RequesterGone(self.roster[reader].name.clone()));
            return None;
        }
        Some((reader, wish))
    }

    /// `PORT`: where the user can be dialled from now on. Those whom he has allowed get the new
    /// address, and he gets the addresses of those who have allowed him.
    fn set_port(&mut self, conn: ConnId, user: UserId, port: u16) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let ip = session.peer.to_canonical();
        let Some(visit) = session.visit() else { return };
        // With port 0 it cannot be dialled any more.
        visit.listens = (port != 0).then(|| SocketAddr::new(ip, port));
        if visit.listens.is_some() {
            self.renew_addresses(conn, user);
        }
    }

    /// A user can be reached at a new place: those whom he has allowed learn it, and he learns
    /// where those are who have allowed him.
    pub(super) fn renew_addresses(&mut self, conn: ConnId, user: UserId) {
        for reader in self.introductions.readers(user) {
            if self.address(user, reader).is_some()
                && let Some(at) = self.address(reader, user)
            {
                self.charge_ticket(conn);
                self.give_address(reader, user, at);
            }
        }
        for host in Introductions::of(&self.introductions.allowed_by, user) {
            if let Some(at) = self.address(user, host) {
                self.charge_ticket(conn);
                self.give_address(user, host, at);
            }
        }
    }

    /// `DIAL`: one more ticket, for what is allowed already.
    fn dial(&mut self, conn: ConnId, asker: UserId, word: &str, purpose: Purpose) {
        let Ok(name) = UserName::parse(word) else {
            return self.refuse(conn, Refusal::InvalidUser(shown(word)));
        };
        let why = match self.may_dial(asker, word, purpose) {
            Ok((user, at)) => {
                self.charge_ticket(conn);
                return self.introduce(asker, user, at, purpose);
            }
            Err(why) => why,
        };
        self.send(conn, Notice::NoPeer { user: name, purpose, why });
    }

    fn may_dial(&self, asker: UserId, word: &str, purpose: Purpose) -> Result<(UserId, SocketAddr), WhyNot> {
        let user = self.roster.find(word).filter(|&user| self.roster[user].session.is_some()).ok_or(WhyNot::Offline)?;
        if self.roster[user].blocks.contains(&asker) {
            return Err(WhyNot::Blocked);
        }
        match purpose {
            _ if user == asker => return Err(WhyNot::NotAllowed),
            Purpose::Private if !self.introductions.allows(user, asker) => return Err(WhyNot::NotAllowed),
            Purpose::File if !self.tracker.has_any(user) => return Err(WhyNot::NoFile),
            Purpose::Private | Purpose::File => {}
        }
        self.address(asker, user).map(|at| (user, at)).ok_or(WhyNot::NoPort)
    }

    /// Where `user` can be dialled by `reader`, if he is here and has said so. Line clients reach
    /// line clients, framed ones framed ones: what they say to each other is not the same.
    fn address(&self, reader: UserId, user: UserId) -> Option<SocketAddr> {
        let of = |user: UserId| self.roster[user].session.and_then(|conn| self.sessions.get(&conn));
        let (reader, user) = (of(reader)?, of(user)?);
        match (&reader.post, &user.post) {
            (None, None) => user.online()?.listens,
            (Some(_), Some(post)) => Some(post.address()),
            _ => None,
        }
    }

    /// Where a line client can be dialled, if it is here and has said so.
    pub(super) fn line_address(&self, user: UserId) -> Option<SocketAddr> {
        let conn = self.roster[user].session?;
        self.sessions.get(&conn)?.online()?.listens
    }

    /// Gives `dialler` a ticket for `user`, and the same to him.
    fn introduce(&mut self, dialler: UserId, user: UserId, at: SocketAddr, purpose: Purpose) {
        let ticket = self.expect(dialler, user, purpose);
        let name = self.roster[user].name.clone();
        self.tell(dialler, Notice::Peer { user: name, at, ticket, purpose });
    }

    /// Tells `reader` where `user` can be dialled, now and later.
    fn give_address(&mut self, reader: UserId, user: UserId, at: SocketAddr) {
        let ticket = self.expect(reader, user, Purpose::Private);
        let name = self.roster[user].name.clone();
        self.tell(reader, Notice::Address { user: name, at, ticket });
    }

    /// Prepares `user` for the dialler, before that one can know.
    fn expect(&mut self, dialler: UserId, user: UserId, purpose: Purpose) -> Ticket {
        let ticket = Ticket { number: self.next_number, secret: (self.random.0)() };
        self.next_number += 1;
        let name = self.roster[dialler].name.clone();
        self.tell(user, Notice::Expect { user: name, ticket, purpose });
        ticket
    }

    fn tell(&mut self, user: UserId, notice: Notice) {
        if let Some(conn) = self.roster[user].session {
            self.send(conn, notice);
        }
    }

    /// A user has left: nobody can answer what he was asked, and what he asked is void.
    pub(super) fn forget_requests(&mut self, user: UserId) {
        let askers: Vec<UserId> =
            self.introductions.requests.get(&user).into_iter().flat_map(BTreeMap::keys).copied().collect();
        for asker in askers {
            self.introductions.take(user, asker);
        }
        for asked in self.introductions.asked.get(&user).into_iter().flatten() {
            let wish = self.introductions.requests.get_mut(asked).and_then(|requests| requests.get_mut(&user));
            if let Some(wish) = wish {
                wish.is_gone = true;
            }
        }
    }

    /// `by` blocks `whom`: what was allowed or asked between them is over.
    pub(super) fn distrust(&mut self, by: UserId, whom: UserId) {
        self.introductions.allowed.remove(&(by, whom));
        self.introductions.allowed_by.remove(&(whom, by));
        self.introductions.take(by, whom);
    }
}
