//! Who may come in: names, passwords, the lockout, one session per name, new accounts.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};

use subtle::ConstantTimeEq;

use super::dialogue::{Session, Stage};
use super::roster::UserId;
use super::{ConnId, Effect, Notice, State, Timer};
use crate::wire::Refusal;
use crate::wire::control::Say;
use crate::wire::line;
use crate::wire::name::{PASSWORD_BYTES_MAX, UserName, is_legal_password};

/// Consecutive wrong passwords that lock a name (UNSW 3.1, W4119).
const MISSES_MAX: u8 = 3;

/// Unknown names in a row after which the connection is closed.
const UNKNOWN_NAMES_MAX: u8 = 3;

/// Time to log in, in milliseconds, or the silence limit if that is shorter.
const LOGIN_MILLIS_MAX: i64 = 30_000;

/// Wrong passwords in a row for one name, and the lockout that they bring.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Failures {
    misses: u8,
    /// No log-in before this time, in elapsed milliseconds.
    locked_until: Option<i64>,
}

/// What a try to log in has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Right,
    /// So many tries are left.
    Wrong {
        tries: u8,
    },
    /// That was the third: locked for so long, in milliseconds.
    JustLocked {
        millis: i64,
    },
    /// Locked by an earlier one, for so much longer.
    StillLocked {
        millis: i64,
    },
}

impl Failures {
    /// One more try, with the right password or not; a lockout of `block` milliseconds is due at
    /// the third wrong one.
    pub(super) fn judge(&mut self, right: bool, block: i64, now: i64) -> Verdict {
        match self.locked_until {
            Some(until) if now < until => return Verdict::StillLocked { millis: until - now },
            Some(_) => *self = Self::default(),
            None => {}
        }
        if right {
            *self = Self::default();
            return Verdict::Right;
        }
        self.misses += 1;
        if self.misses < MISSES_MAX {
            return Verdict::Wrong { tries: MISSES_MAX - self.misses };
        }
        self.misses = 0;
        self.locked_until = (block > 0).then_some(now + block);
        Verdict::JustLocked { millis: block }
    }
}

/// Compares two passwords, always as many bytes as one can have, in a time that does not depend on
/// what they are.
fn is_same(kept: &str, typed: &str) -> bool {
    let padded = |word: &str| {
        let mut bytes = [0; PASSWORD_BYTES_MAX];
        bytes.iter_mut().zip(word.bytes()).for_each(|(to, from)| *to = from);
        bytes
    };
    (padded(kept).ct_eq(&padded(typed)) & kept.len().ct_eq(&typed.len())).into()
}

/// Connections that have not logged in: a pool of its own, so that they cannot fill the server.
#[derive(Debug, Default)]
pub(super) struct Lobby {
    by_source: HashMap<IpAddr, BTreeSet<ConnId>>,
    /// The sources, the busiest last: whoever floods the lobby must not make others pay for a scan.
    ranking: BTreeSet<(usize, Reverse<ConnId>, IpAddr)>,
    count: usize,
}

impl Lobby {
    fn enter(&mut self, conn: ConnId, peer: IpAddr) {
        self.change(source(peer), |conns| conns.insert(conn));
    }

    pub(super) fn leave(&mut self, conn: ConnId, peer: IpAddr) {
        self.change(source(peer), |conns| conns.remove(&conn));
    }

    fn change(&mut self, source: IpAddr, change: impl FnOnce(&mut BTreeSet<ConnId>) -> bool) {
        let conns = self.by_source.entry(source).or_default();
        self.ranking.remove(&rank(conns, source));
        let before = conns.len();
        change(conns);
        self.count = self.count + conns.len() - before;
        if conns.is_empty() {
            self.by_source.remove(&source);
        } else {
            self.ranking.insert(rank(conns, source));
        }
    }

    /// The oldest connection of the source that has the most.
    fn victim(&self) -> Option<ConnId> {
        self.ranking.last().map(|(_, Reverse(oldest), _)| *oldest)
    }
}

/// Sorts sources by the number of their connections, and then by the age of the oldest.
fn rank(conns: &BTreeSet<ConnId>, source: IpAddr) -> (usize, Reverse<ConnId>, IpAddr) {
    (conns.len(), Reverse(conns.first().copied().unwrap_or(ConnId(0))), source)
}

/// What counts as one source: an IPv4 address, or the network part that one IPv6 host owns.
pub fn source(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from(network))
        }
        v4 => v4,
    }
}

impl State {
    pub(super) fn open(&mut self, conn: ConnId, peer: IpAddr) {
        let silence = self.now.elapsed + LOGIN_MILLIS_MAX.min(self.rules.timeout);
        self.sessions.insert(conn, Session::new(peer, silence));
        self.lobby.enter(conn, peer);
        if self.stopping {
            return self.part(conn, Some(Notice::Stopping));
        }
        self.timers.insert((silence, Timer::Silence(conn)));
        self.ask(conn, Stage::Name { unknown: 0 });
        if self.lobby.count > self.rules.lobby_max
            && let Some(victim) = self.lobby.victim()
        {
            self.turn_out(victim, Notice::Crowded);
        }
    }

    /// Goes to a stage and sends its prompt.
    fn ask(&mut self, conn: ConnId, stage: Stage) {
        let prompt = if matches!(stage, Stage::Name { .. }) { Notice::AskName } else { Notice::AskPassword };
        if let Some(session) = self.sessions.get_mut(&conn)
            && !matches!(session.stage, Stage::Refused)
        {
            session.stage = stage;
            self.send(conn, prompt);
        }
    }

    pub(super) fn answer_prompt(&mut self, conn: ConnId, line: &[u8]) {
        self.charge_line(conn);
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let Ok(line) = line::text(line) else {
            let again = if matches!(session.stage, Stage::Name { .. }) { Notice::AskName } else { Notice::AskPassword };
            self.refuse(conn, Refusal::NotUtf8);
            return self.send(conn, again);
        };
        match &session.stage {
            Stage::Name { unknown } => {
                let unknown = *unknown;
                self.take_login(conn, unknown, line.trim());
            }
            Stage::Password(user) => {
                let user = *user;
                self.take_password(conn, user, &line);
            }
            Stage::NewPassword(name) => {
                let name = name.clone();
                self.take_new_password(conn, name, &line);
            }
            Stage::Enrolling | Stage::Online(_) | Stage::Leaving(..) | Stage::Refused => {}
        }
    }

    /// What answers the first prompt: our client introduces itself, a person gives a name.
    fn take_login(&mut self, conn: ConnId, unknown: u8, line: &str) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        match Say::parse(line) {
            Ok(Say::Hello) if !session.is_ours => {
                session.is_ours = true;
                self.effects.push(Effect::Adopt(conn));
                self.send(conn, Notice::Hello { store: self.store_name.clone() });
                self.ask(conn, Stage::Name { unknown });
            }
            Ok(Say::Login { name, shown }) if session.is_ours => {
                session.shown = shown;
                self.take_name(conn, unknown, name);
            }
            Ok(Say::Resume { name, token, shown }) if session.is_ours => {
                if !self.resume_session(conn, name, token, shown) {
                    self.refuse_name(conn, unknown, Refusal::BadToken);
                }
            }
            _ => self.take_name(conn, unknown, line),
        }
    }

    /// A name, or `name password` on one line.
    fn take_name(&mut self, conn: ConnId, unknown: u8, line: &str) {
        if line.is_empty() {
            return self.ask(conn, Stage::Name { unknown });
        }
        let (name, password) = match line.split_once(' ') {
            Some((name, password)) => (name, Some(password.trim_start())),
            None => (line, None),
        };
        match self.roster.find(name) {
            Some(user) => match password {
                Some(password) => self.take_password(conn, user, password),
                None => self.ask(conn, Stage::Password(user)),
            },
            None if self.rules.allow_new_users => match self.new_name(name) {
                Ok(name) => match password {
                    Some(password) => self.take_new_password(conn, name, password),
                    None => {
                        self.send(conn, Notice::NewUser(name.clone()));
                        self.ask(conn, Stage::NewPassword(name));
                    }
                },
                Err(refusal) => self.refuse_name(conn, unknown, refusal),
            },
            None => self.refuse_name(conn, unknown, Refusal::UnknownUser),
        }
    }

    fn refuse_name(&mut self, conn: ConnId, unknown: u8, refusal: Refusal) {
        self.refuse(conn, refusal);
        if unknown + 1 >= UNKNOWN_NAMES_MAX {
            self.part(conn, Some(Notice::TooManyNames));
        } else {
            self.ask(conn, Stage::Name { unknown: unknown + 1 });
        }
    }

    fn take_password(&mut self, conn: ConnId, user: UserId, password: &str) {
        if password.is_empty() {
            return self.ask(conn, Stage::Password(user));
        }
        match self.try_password(user, password) {
            Verdict::Right => {}
            Verdict::Wrong { tries } => {
                self.send(conn, Notice::WrongPassword { tries });
                return self.ask(conn, Stage::Password(user));
            }
            Verdict::JustLocked { millis } => {
                return self.part(conn, Some(Notice::JustLocked { seconds: millis / 1000 }));
            }
            Verdict::StillLocked { millis } => {
                let seconds = seconds_left(millis);
                return self.part(conn, Some(Notice::StillLocked { seconds }));
            }
        }
        if self.roster[user].session.is_some() {
            let name = self.roster[user].name.clone();
            let idle = self.idle(user).unwrap_or(0);
            return self.part(conn, Some(Notice::AlreadyOnline { user: name, idle }));
        }
        let shown = self.sessions.get(&conn).map_or(0, |session| session.shown);
        self.arrive(conn, user, shown, None);
    }

    /// Checks a password, in whatever dialect it came, and counts if it is wrong.
    pub(super) fn try_password(&mut self, user: UserId, password: &str) -> Verdict {
        let right = self.is_password(Some(user), password);
        self.judge(user, right)
    }

    /// Counts a password that was right or wrong.
    pub(super) fn judge(&mut self, user: UserId, right: bool) -> Verdict {
        let (block, now) = (self.rules.block, self.now.elapsed);
        self.roster[user].failures.judge(right, block, now)
    }

    /// Whether that is the password of this user. It is never that of nobody, which is found out
    /// in the same way.
    pub(super) fn is_password(&self, user: Option<UserId>, password: &str) -> bool {
        let kept = user.and_then(|user| self.roster[user].password.as_deref());
        is_same(kept.unwrap_or_default(), password) & kept.is_some()
    }

    /// Whether a name may become an account. One that has left Credentials.txt may not: what it
    /// owns is kept for the one who had it, not for the first who asks.
    fn new_name(&self, word: &str) -> Result<UserName, Refusal> {
        let name = UserName::parse(word).map_err(Refusal::BadName)?;
        let taken = self.roster.knows(word) || self.enrolling.values().any(|(other, _)| *other == name);
        if taken { Err(Refusal::NameTaken) } else { Ok(name) }
    }

    fn take_new_password(&mut self, conn: ConnId, name: UserName, password: &str) {
        if password.is_empty() {
            return self.ask(conn, Stage::NewPassword(name));
        }
        // Somebody else may have got the name since it was asked for.
        if self.new_name(name.as_str()).is_err() {
            self.refuse(conn, Refusal::NameTaken);
            return self.ask(conn, Stage::Name { unknown: 0 });
        }
        if !is_legal_password(password) {
            self.refuse(conn, Refusal::BadPassword);
            return self.ask(conn, Stage::NewPassword(name));
        }
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.stage = Stage::Enrolling;
        }
        self.enrolling.insert(conn, (name.clone(), password.to_owned()));
        self.effects.push(Effect::Pause(conn));
        self.effects.push(Effect::Enroll { conn, user: name, password: password.to_owned() });
    }

    /// The account is in the file, or the file could not be written.
    pub(super) fn enrolled(&mut self, conn: ConnId, written: bool) {
        let Some((name, password)) = self.enrolling.remove(&conn) else { return };
        let user = written.then(|| self.roster.admit(name, password));
        let waits = self.sessions.get(&conn).is_some_and(|session| matches!(session.stage, Stage::Enrolling));
        if !waits {
            return;
        }
        match user {
            Some(user) => self.arrive(conn, user, 0, None),
            None => {
                self.refuse(conn, Refusal::NoAccount);
                self.ask(conn, Stage::Name { unknown: 0 });
            }
        }
        self.resume(conn);
    }
}

/// Milliseconds in whole seconds, rounded up: whoever is told "1 s left" must not fail then.
fn seconds_left(millis: i64) -> i64 {
    (millis + 999) / 1000
}
