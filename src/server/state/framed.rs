//! Framed users between connections (Columbia W4119): token, address, heartbeat.
//!
//! Such a user is online as anybody else is, with a session and a visit of his own; only his
//! output is pushed to his own port instead of written to a connection. A push that arrived
//! confirms its text, as our client's word does; one that did not ends the session, and what it
//! carried waits in the mailbox. So every rule holds for him without being said again.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::dialogue::{Session, Stage};
use super::login::{Failures, Verdict};
use super::roster::UserId;
use super::tokens;
use super::{Ask, ConnId, Effect, Notice, Outcome, State, Timer, TokenHash};
use crate::wire::framed::{self, Act, Answer, Asked, Fault, TEXT_BYTES_MAX};
use crate::wire::name::Text;
use crate::wire::{Refusal, Request};

/// Names whose log-ins are counted although they may not exist, so that nobody can tell those from
/// others; beyond that the one that was tried longest ago is forgotten.
const STRANGERS_MAX: usize = 16_384;

/// What makes a session a framed one.
#[derive(Debug)]
pub(super) struct Post {
    /// What every request must bring, hashed; dies with the session.
    token: TokenHash,
    /// The last sign of life, in elapsed milliseconds: any request with the token.
    heard: i64,
    /// Where it listens.
    address: SocketAddr,
}

impl Post {
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// A framed client with the right password, until it has said where it listens.
#[derive(Debug)]
pub(super) struct Entering {
    user: UserId,
    token: TokenHash,
}

/// Log-ins by name, of which those count whose names do not exist.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    /// By the hash of the name, which may be as long as a frame; with the number of the last try.
    failures: HashMap<TokenHash, (Failures, u64)>,
    by_age: BTreeMap<u64, TokenHash>,
    tries: u64,
}

impl Strangers {
    /// One more try of this name.
    fn judge(&mut self, name: TokenHash, block: i64, now: i64) -> Verdict {
        self.tries += 1;
        let (failures, last) = self.failures.entry(name).or_default();
        self.by_age.remove(last);
        *last = self.tries;
        self.by_age.insert(self.tries, name);
        let verdict = failures.judge(false, block, now);
        if self.failures.len() > STRANGERS_MAX
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.failures.remove(&oldest);
        }
        verdict
    }
}

impl State {
    /// What a framed client asks for, on a connection of its own.
    pub(super) fn asked(&mut self, conn: ConnId, peer: IpAddr, ask: Ask<'_>) {
        let answer = match ask {
            _ if self.stopping => Answer::Refused(Fault::Unavailable),
            Ask::LogIn { name, password } => self.try_framed_log_in(conn, name, password),
            Ask::Listen { host, port } => self.listen_for(conn, peer, host, port),
            Ask::Request(frame) => match framed::parse(frame) {
                Ok(Asked::Act { user, token, act }) => self.take_request(user, token, act),
                Ok(Asked::LogIn) => Answer::Nothing,
                Err(fault) => Answer::Refused(fault),
            },
        };
        self.effects.push(Effect::Answer(conn, answer));
    }

    /// A name and a password. A name that does not exist is answered as a wrong password is, at
    /// the same cost, and counted as well.
    fn try_framed_log_in(&mut self, conn: ConnId, name: &[u8], password: &[u8]) -> Answer {
        let (Ok(name), Ok(password)) = (std::str::from_utf8(name), std::str::from_utf8(password)) else {
            return Answer::Refused(Fault::NotUtf8);
        };
        let user = self.roster.find(name);
        let right = self.is_password(user, password);
        // Both names are counted here, so that both cost the same; one also where all dialects look.
        let counted = self.strangers.judge(Sha256::digest(name).into(), self.rules.block, self.now.elapsed);
        let verdict = user.map_or(counted, |user| self.judge(user, right));
        match (verdict, user) {
            (Verdict::Right, Some(user)) => {
                let token = (self.random.0)();
                self.entering.insert(conn, Entering { user, token: tokens::hash(token) });
                Answer::LoggedIn { token }
            }
            (Verdict::Wrong { tries }, _) => Answer::WrongPassword { tries },
            (Verdict::StillLocked { millis }, _) => Answer::StillLocked { millis },
            (Verdict::JustLocked { millis }, _) => Answer::JustLocked { millis },
            (Verdict::Right, None) => Answer::Refused(Fault::NotLoggedIn),
        }
    }

    /// Where the client listens: now the log-in is complete, and replaces any session of the user.
    fn listen_for(&mut self, conn: ConnId, peer: IpAddr, host: &[u8], port: &[u8]) -> Answer {
        let Some(Entering { user, token }) = self.entering.remove(&conn) else {
            return Answer::Refused(Fault::NotLoggedIn);
        };
        let address = match address(peer, host, port) {
            Ok(address) => address,
            Err(fault) => return Answer::Refused(fault),
        };
        let old = self.roster[user].session;
        // Nobody else hears of it: the user was here, and is here.
        self.moving = old.is_some();
        if let Some(old) = old {
            self.replace(old, user);
        }
        self.effects.push(Effect::Listen(conn, address));
        let mut session = Session::new(peer, self.now.elapsed);
        session.post = Some(Post { token, heard: self.now.elapsed, address });
        self.sessions.insert(conn, session);
        self.arrive(conn, user, 0, None);
        self.moving = false;
        self.renew_addresses(conn, user);
        Answer::Nothing
    }

    /// Ends the session of somebody who has come by another. What it has written counts as read
    /// at once, so that it does not come again there.
    fn replace(&mut self, old: ConnId, user: UserId) {
        self.go(old);
        if self.has_mail_to_confirm(old) && (self.confirm_mail(old, user) || self.roster[user].mailbox.is_undeleted()) {
            self.forget_mail(user, None);
        }
        self.say_last(old, Some(Notice::TakenOver));
    }

    /// A request with a token.
    fn take_request(&mut self, name: &str, token: &str, act: Act<'_>) -> Answer {
        let Some((conn, user)) = self.authenticate(name, token) else {
            // Whoever sent this waits for one of two answers.
            let is_get = matches!(act, Act::Request(Request::GetAddress { .. }));
            return if is_get { Answer::Fail } else { Answer::Refused(Fault::NotLoggedIn) };
        };
        match act {
            Act::Alive => {}
            Act::Request(Request::GetAddress { user: word }) => {
                self.touch(conn);
                return self.get_address_framed(conn, user, word);
            }
            Act::Request(Request::Allow { user: word }) => {
                self.touch(conn);
                self.allow(conn, user, word);
            }
            Act::Request(Request::Deny { user: word }) => {
                self.touch(conn);
                self.deny(conn, user, word);
            }
            Act::Request(Request::Message { to, text }) => {
                self.say_flat(conn, text, |state, text| state.carry_out(conn, user, Request::Message { to, text }));
            }
            Act::Request(Request::Broadcast { text }) => {
                self.say_flat(conn, text, |state, text| state.carry_out(conn, user, Request::Broadcast { text }));
            }
            // He knows, and may be gone already.
            Act::Request(Request::Logout) => self.part(conn, None),
            Act::Request(request) => self.carry_out(conn, user, request),
        }
        Answer::Nothing
    }

    /// Says a text as one line, unless it is too long to be shown to everybody.
    fn say_flat(&mut self, conn: ConnId, text: &str, say: impl FnOnce(&mut Self, &str)) {
        let text = framed::flatten(text);
        if Text::harmless(&text).as_str().len() > TEXT_BYTES_MAX {
            self.touch(conn);
            return self.refuse(conn, Refusal::TextTooLong { max: TEXT_BYTES_MAX });
        }
        say(self, &text);
    }

    /// Whose request it is; that is a sign of life. Everybody's token costs the same.
    fn authenticate(&mut self, name: &str, token: &str) -> Option<(ConnId, UserId)> {
        let hash = tokens::hash(u128::from_str_radix(token, 16).unwrap_or_default());
        let user = self.roster.find(name)?;
        let conn = self.roster[user].session?;
        let session = self.sessions.get_mut(&conn)?;
        let post = session.post.as_mut().filter(|post| post.token.ct_eq(&hash).into())?;
        post.heard = self.now.elapsed;
        Some((conn, user))
    }

    pub(super) fn is_framed(&self, conn: ConnId) -> bool {
        self.sessions.get(&conn).is_some_and(|session| session.post.is_some())
    }

    /// Logs out who has given no sign of life.
    pub(super) fn check_heartbeat(&mut self, conn: ConnId) {
        let limit = self.rules.heartbeat_timeout;
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let Some(post) = &session.post else { return };
        let due = post.heard + limit;
        if due > self.now.elapsed {
            session.silence = due;
            self.timers.insert((due, Timer::Silence(conn)));
        } else {
            self.part(conn, Some(Notice::FellSilent { seconds: limit / 1000 }));
        }
    }

    /// What became of a push. One that did not arrive ends the session, at once and for all to
    /// see; the texts that were still to come wait in the mailbox.
    pub(super) fn pushed(&mut self, conn: ConnId, number: Option<u64>, outcome: Outcome) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        if let (Some((user, unconfirmed)), Some(number)) = (session.unconfirmed(), number) {
            match outcome {
                Outcome::Delivered => {
                    let got = unconfirmed.confirm(number);
                    got.into_iter().for_each(|got| self.note(got, user, true));
                    self.forget_read(conn);
                }
                Outcome::Doubtful => unconfirmed.doubt(number),
                Outcome::Failed => {}
            }
            self.queue(conn);
        }
        if outcome != Outcome::Delivered && self.go(conn).is_some() {
            self.say_last(conn, None);
        }
    }

    /// Everything that was sent to a framed client has arrived, also the receipts that had waited.
    pub(super) fn all_pushed(&mut self, conn: ConnId) {
        let Some(session) = self.sessions.get_mut(&conn).filter(|session| session.post.is_some()) else { return };
        let Stage::Online(visit) = &mut session.stage else { return };
        let (user, mut told) = (visit.user, std::mem::take(&mut visit.unconfirmed.told));
        self.confirm_receipts(user, &mut told);
    }
}

/// Where the server may connect to: to the very address that the request came from, or to this
/// machine if it came from there. No name is looked up.
fn address(peer: IpAddr, host: &[u8], port: &[u8]) -> Result<SocketAddr, Fault> {
    let (host, port) = (str::from_utf8(host), str::from_utf8(port));
    let (Ok(host), Ok(port)) = (host, port) else { return Err(Fault::NotUtf8) };
    let peer = peer.to_canonical();
    let ip = match host.parse::<IpAddr>() {
        Ok(ip) => ip.to_canonical(),
        Err(_) if host == "localhost" => peer,
        Err(_) => return Err(Fault::BadAddress),
    };
    let port = port.parse().ok().filter(|&port| port != 0).ok_or(Fault::BadAddress)?;
    let is_own = ip == peer && (host != "localhost" || peer.is_loopback());
    if is_own { Ok(SocketAddr::new(ip, port)) } else { Err(Fault::ForeignAddress) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_connects_only_to_where_a_request_came_from() {
        let check = |peer: &str, host: &str, port: &str| {
            address(peer.parse().expect("an address"), host.as_bytes(), port.as_bytes())
        };
        assert_eq!(check("127.0.0.1", "127.0.0.1", "5001"), Ok("127.0.0.1:5001".parse().expect("an address")));
        assert_eq!(check("::1", "localhost", "5001"), Ok("[::1]:5001".parse().expect("an address")));
        assert_eq!(check("::ffff:192.0.2.7", "192.0.2.7", "1"), Ok("192.0.2.7:1".parse().expect("an address")));
        for (peer, host) in [
            ("127.0.0.1", "192.0.2.7"),
            ("192.0.2.7", "127.0.0.1"),
            ("192.0.2.7", "localhost"),
            ("127.0.0.1", "127.0.0.2"),
            ("127.0.0.1", "0.0.0.0"),
            ("127.0.0.1", "::1"),
        ] {
            assert_eq!(check(peer, host, "5001"), Err(Fault::ForeignAddress), "{peer} {host}");
        }
        for (host, port) in [
            ("example.org", "5001"),
            ("LOCALHOST", "5001"),
            ("", "5001"),
            ("127.0.0.1", "0"),
            ("127.0.0.1", "65536"),
            ("127.0.0.1", "x"),
            ("127.0.0.1 ", "1"),
        ] {
            assert_eq!(check("127.0.0.1", host, port), Err(Fault::BadAddress), "{host} {port}");
        }
    }

    #[test]
    fn strangers_are_counted_like_users_and_bounded() {
        let mut strangers = Strangers::default();
        let name = |number: u64| -> TokenHash { Sha256::digest(number.to_be_bytes()).into() };
        let verdicts: Vec<Verdict> = (0..4).map(|_| strangers.judge(name(0), 60_000, 5)).collect();
        let wanted = [
            Verdict::Wrong { tries: 2 },
            Verdict::Wrong { tries: 1 },
            Verdict::JustLocked { millis: 60_000 },
            Verdict::StillLocked { millis: 60_000 },
        ];
        assert_eq!(verdicts, wanted);
        for number in 1..=2 * STRANGERS_MAX as u64 {
            strangers.judge(name(number), 60_000, 5);
        }
        assert_eq!((strangers.failures.len(), strangers.by_age.len()), (STRANGERS_MAX, STRANGERS_MAX));
        assert_eq!(strangers.judge(name(0), 60_000, 5), Verdict::Wrong { tries: 2 }, "forgotten");
        // Being tried again keeps a name.
        let recent = 2 * STRANGERS_MAX as u64;
        assert_eq!(strangers.judge(name(recent), 60_000, 5), Verdict::Wrong { tries: 1 });
    }
}
