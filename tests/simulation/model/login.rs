//! The rules of coming and going: names, passwords, the pool of those who wait to log in, who hears
//! of it, and how a connection ends.

use std::cmp::Reverse;
use std::net::IpAddr;

use chinwag::server::ids::ConnId;
use chinwag::server::state::Parting;
use chinwag::wire::control::Say;
use chinwag::wire::name;
use chinwag::wire::time::Moment;
use chinwag::wire::{Mode, Notice, Refusal};

use super::modes::Talk;
use super::reach::Rule;
use super::{
    CONFIRM_MILLIS_MAX, Expected, Fact, HEARTBEAT, LOGIN_MILLIS_MAX, Model, Session, Stage, TRIES, Tokens, UserId,
};
use crate::disk::STORE;

/// Wrong passwords in a row for one name, in whatever dialect.
#[derive(Debug, Clone)]
pub(super) struct Failures {
    misses: u8,
    pub(super) locked_until: i64,
}

/// What a password has come to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Verdict {
    Right,
    /// So many tries are left.
    Wrong(u8),
    JustLocked,
    /// For so many milliseconds more.
    Locked(i64),
}

impl Default for Failures {
    fn default() -> Self {
        Self { misses: 0, locked_until: i64::MIN }
    }
}

impl Failures {
    pub(super) fn judge(&mut self, is_right: bool, block: i64, now: i64) -> Verdict {
        let left = self.locked_until.saturating_sub(now);
        if left > 0 {
            return Verdict::Locked(left);
        }
        self.misses = if is_right { 0 } else { self.misses + 1 };
        if is_right {
            return Verdict::Right;
        }
        if self.misses < TRIES {
            return Verdict::Wrong(TRIES - self.misses);
        }
        (self.misses, self.locked_until) = (0, now + block);
        Verdict::JustLocked
    }
}

impl Model {
    pub(super) fn open(&mut self, now: Moment, id: ConnId, peer: IpAddr) {
        let limit = now.elapsed + LOGIN_MILLIS_MAX.min(self.timeout);
        self.sessions.push(Session::new(id, peer, limit));
        if self.stopping {
            return self.part(now, id, Some(Notice::Stopping));
        }
        self.say(id, Notice::AskName);
        if self.sessions.iter().filter(|session| session.is_waiting()).count() > self.lobby_max
            && let Some(oldest) = self.too_many(id)
        {
            self.turn_out(now, oldest, Notice::Crowded);
        }
    }

    /// The oldest connection of the source that has the most of those who wait.
    fn too_many(&mut self, newest: ConnId) -> Option<ConnId> {
        let waiting: Vec<(IpAddr, ConnId)> = self
            .sessions
            .iter()
            .filter(|session| session.is_waiting())
            .map(|session| (source(session.peer), session.id))
            .collect();
        let oldest = |from: IpAddr| waiting.iter().filter(|(other, _)| *other == from).map(|(_, id)| *id).min();
        let count = |from: IpAddr| waiting.iter().filter(|(other, _)| *other == from).count();
        let busiest =
            waiting.iter().map(|(from, _)| *from).max_by_key(|from| (count(*from), Reverse(oldest(*from))))?;
        if self.session(newest).is_some_and(|session| source(session.peer) != busiest) {
            self.reach(Rule::OtherSource);
        }
        oldest(busiest)
    }

    /// The clock has been moved to a moment at which something is due.
    pub(crate) fn tick(&mut self, now: Moment) {
        if self.is_off {
            return;
        }
        let due = |session: &&Session| self.limit(session).is_some_and(|at| at <= now.elapsed);
        let mut ids: Vec<ConnId> = self.sessions.iter().filter(due).map(|session| session.id).collect();
        ids.sort_unstable();
        for id in ids {
            if self.is_framed(id) {
                self.reach(Rule::FellSilent);
                self.part(now, id, Some(Notice::FellSilent { seconds: 30 }));
            } else if self.is_online(id) {
                self.part(now, id, Some(Notice::TimedOut { seconds: self.timeout / 1000 }));
            } else {
                self.turn_out(now, id, Notice::LoginTimedOut);
            }
        }
        if now.elapsed >= self.next_heartbeat {
            self.next_heartbeat = now.elapsed + HEARTBEAT;
            if self.users.iter().any(|user| user.conn.is_some()) {
                self.facts.push(Fact::Heartbeat(now.wall));
            }
            if std::mem::take(&mut self.retry_due) {
                self.last_retry = now.elapsed;
            }
            self.keep_again();
            self.return_again();
        }
    }

    /// When [`Model::tick`] is due.
    pub(crate) fn deadline(&self) -> Option<i64> {
        let limits = self.sessions.iter().filter_map(|session| self.limit(session));
        (!self.is_off).then(|| limits.chain([self.next_heartbeat]).min()).flatten()
    }

    pub(super) fn limit(&self, session: &Session) -> Option<i64> {
        match session.stage {
            Stage::Name { .. } | Stage::Password(_) => Some(session.limit),
            Stage::Online(_) if session.post.is_some() => session.post.map(|post| post.limit()),
            Stage::Online(user) => Some(self.users[user].active + self.timeout),
            Stage::Gone(_) => None,
        }
    }

    pub(super) fn line(&mut self, now: Moment, id: ConnId, line: &str) {
        let Some(session) = self.session(id) else { return };
        match (session.stage, session.is_ours) {
            (Stage::Online(user), false) => self.typed(now, id, user, line, None),
            (Stage::Online(user), true) => self.ours(now, id, user, line),
            (Stage::Name { unknown }, _) => self.login(now, id, unknown, line.trim()),
            (Stage::Password(user), _) => self.password(now, id, user, line),
            (Stage::Gone(_), _) => {}
        }
    }

    fn login(&mut self, now: Moment, id: ConnId, unknown: u8, line: &str) {
        let Some(session) = self.session_mut(id) else { return };
        match Say::parse(line) {
            Ok(Say::Hello) if !session.is_ours => {
                session.is_ours = true;
                self.say(id, Notice::Hello { store: name::Text::harmless(STORE) });
                self.say(id, Notice::AskName);
            }
            Ok(Say::Login { name, shown }) if session.is_ours => {
                session.shown = shown;
                self.named(now, id, unknown, name);
            }
            Ok(Say::Resume { name, token, shown }) if session.is_ours => {
                session.shown = shown;
                self.resume(now, id, unknown, name, token);
            }
            _ => self.named(now, id, unknown, line),
        }
    }

    fn named(&mut self, now: Moment, id: ConnId, unknown: u8, line: &str) {
        let (name, password) = match line.split_once(' ') {
            Some((name, password)) => (name, Some(password.trim_start())),
            None => (line, None),
        };
        match (self.find(name), password) {
            _ if line.is_empty() => self.say(id, Notice::AskName),
            (Some(user), Some(password)) => self.password(now, id, user, password),
            (Some(user), None) => self.ask_password(id, user),
            (None, _) => self.unknown(now, id, unknown, Refusal::UnknownUser),
        }
    }

    fn unknown(&mut self, now: Moment, id: ConnId, before: u8, refusal: Refusal) {
        self.refuse(id, refusal);
        if before + 1 == TRIES {
            return self.part(now, id, Some(Notice::TooManyNames));
        }
        self.say(id, Notice::AskName);
        if let Some(session) = self.session_mut(id) {
            session.stage = Stage::Name { unknown: before + 1 };
        }
    }

    fn ask_password(&mut self, id: ConnId, user: UserId) {
        self.say(id, Notice::AskPassword);
        if let Some(session) = self.session_mut(id) {
            session.stage = Stage::Password(user);
        }
    }

    fn password(&mut self, now: Moment, id: ConnId, user: UserId, password: &str) {
        let (account, block) = (&mut self.users[user], self.block);
        if password.is_empty() {
            return self.ask_password(id, user);
        }
        match account.failures.judge(password == account.password, block, now.elapsed) {
            Verdict::Right => {}
            Verdict::Locked(left) => {
                let seconds = left / 1000 + i64::from(left % 1000 > 0);
                return self.part(now, id, Some(Notice::StillLocked { seconds }));
            }
            Verdict::JustLocked => return self.part(now, id, Some(Notice::JustLocked { seconds: block / 1000 })),
            Verdict::Wrong(tries) => {
                self.say(id, Notice::WrongPassword { tries });
                return self.ask_password(id, user);
            }
        }
        if account.conn.is_some() {
            let (user, idle) = (account.name.clone(), now.elapsed - account.active);
            return self.part(now, id, Some(Notice::AlreadyOnline { user, idle }));
        }
        self.arrive(now, id, user, None);
    }

    fn resume(&mut self, now: Moment, id: ConnId, unknown: u8, name: &str, token: u128) {
        let fits = |user: &UserId| {
            let tokens = self.users[*user].tokens;
            tokens.latest == Some(token) || tokens.used == Some(token)
        };
        let Some(user) = self.find(name).filter(fits) else {
            return self.unknown(now, id, unknown, Refusal::BadToken);
        };
        let Some(old) = self.users[user].conn else { return self.arrive(now, id, user, Some(token)) };
        let mut moved = (Talk::default(), 0);
        if let Some(session) = self.session_mut(old) {
            (session.stage, session.must_close, session.is_void) = (Stage::Gone(Some(user)), true, true);
            session.expected.clear();
            session.told.clear();
            moved = (session.talk.clone(), session.shown_at_first);
        }
        self.users[user].conn = Some(id);
        let shown = self.session(id).map_or(0, |session| session.shown);
        self.confirm(user, old, shown);
        self.move_receipts(user, old, id);
        self.free(user, old, false, true);
        self.welcome(id, user, Some(token), moved);
    }

    /// Somebody comes online.
    fn arrive(&mut self, now: Moment, id: ConnId, user: UserId, used: Option<u128>) {
        self.come_online(now, id, user);
        let shown = self.session(id).map_or(0, |session| session.shown);
        self.welcome(id, user, used, (Talk::default(), shown));
        self.witness(user, &Notice::Arrived(self.name(user)));
    }

    pub(super) fn come_online(&mut self, now: Moment, id: ConnId, user: UserId) {
        let account = &mut self.users[user];
        (account.conn, account.since, account.active) = (Some(id), now, now.elapsed);
        account.failures = Failures::default();
        self.facts.push(Fact::Came(user, now.wall));
    }

    /// A visit begins, or moves to this connection with how it talks and what had been shown before
    /// it began.
    fn welcome(&mut self, id: ConnId, user: UserId, used: Option<u128>, visit: (Talk, u64)) {
        let mode = visit.0.mode();
        self.begin_visit(id, user, used, visit);
        let is_ours = self.session(id).is_some_and(|session| session.is_ours);
        self.expect(id, Expected::Welcome(user));
        if mode != Mode::Command {
            self.reach(Rule::ModeTakenOver);
            self.say(id, Notice::Mode(mode));
        }
        self.expect_meanwhile(id, user);
        if !is_ours {
            self.expect(id, Expected::Waiting);
        }
    }

    pub(super) fn begin_visit(&mut self, id: ConnId, user: UserId, used: Option<u128>, (talk, shown): (Talk, u64)) {
        let Some(session) = self.session_mut(id) else { return };
        (session.stage, session.used) = (Stage::Online(user), used);
        (session.talk, session.shown_at_first) = (talk, shown);
    }

    pub(super) fn go_offline(&mut self, now: Moment, user: UserId) {
        let account = &mut self.users[user];
        (account.conn, account.seen) = (None, Some(now));
        self.facts.push(Fact::Went(user, now.wall));
        self.forget_requests(user);
    }

    /// Somebody goes, in whatever way.
    fn depart(&mut self, now: Moment, user: UserId) {
        self.go_offline(now, user);
        if !self.stopping {
            self.witness(user, &Notice::Left(self.name(user)));
        }
    }

    /// Who comes or goes is told to all others but those whom he blocks.
    pub(super) fn witness(&mut self, mover: UserId, notice: &Notice) {
        for other in 0..self.users.len() {
            if let Some(id) = self.users[other].conn
                && other != mover
                && !self.users[mover].blocks.contains(&other)
            {
                self.say(id, notice.clone());
            }
        }
    }

    pub(super) fn turn_out(&mut self, now: Moment, id: ConnId, last: Notice) {
        if self.session(id).is_some_and(|session| matches!(session.stage, Stage::Name { .. } | Stage::Password(_))) {
            self.say(id, Notice::PromptEnd);
        }
        self.part(now, id, Some(last));
    }

    /// A session ends in order; `last` is its last line.
    pub(super) fn part(&mut self, now: Moment, id: ConnId, last: Option<Notice>) {
        let Some(session) = self.session_mut(id) else { return };
        let user = match session.stage {
            Stage::Gone(_) => return,
            Stage::Online(user) => Some(user),
            Stage::Name { .. } | Stage::Password(_) => None,
        };
        (session.stage, session.must_close, session.left) = (Stage::Gone(user), true, now.elapsed);
        let (is_ours, is_framed) = (session.is_ours, session.post.is_some());
        if let Some(user) = user {
            self.depart(now, user);
            if is_framed {
                // What is on its way may still arrive.
            } else if is_ours {
                self.drop_receipts(user, id);
                self.free(user, id, false, false);
            } else {
                // Until netcat has taken all of it, a newer session may read it as well.
                let texts = self.users[user].texts.iter_mut();
                texts.filter(|text| text.written == Some((id, false))).for_each(|text| text.may_repeat = true);
            }
            if matches!(last, Some(Notice::Goodbye | Notice::TimedOut { .. })) {
                self.set_tokens(user, Tokens::default());
            }
        }
        if let Some(last) = last {
            self.say(id, last);
        }
    }

    /// The connection is gone.
    pub(super) fn closed(&mut self, now: Moment, id: ConnId, parting: Parting) {
        if let Some(user) = self.user_of(id) {
            self.depart(now, user);
        }
        let Some(at) = self.sessions.iter().position(|session| session.id == id) else { return };
        let mut session = self.sessions.remove(at);
        if let Stage::Online(user) | Stage::Gone(Some(user)) = session.stage {
            let is_late = now.elapsed - session.left >= CONFIRM_MILLIS_MAX;
            let confirmed = std::mem::take(&mut session.confirmed);
            if parting == Parting::Cut {
                self.take_back_told(user, confirmed);
            }
            self.drop_receipts(user, id);
            if parting == Parting::Clean && !session.is_ours && session.post.is_none() {
                let texts = self.users[user].texts.iter_mut();
                texts.filter(|text| text.written == Some((id, false))).for_each(|text| text.is_read = true);
            }
            match (parting, session.is_ours) {
                _ if session.post.is_some() => self.return_unpushed(user, id),
                // Who takes too long to read has confirmed nothing, nor does the disk forget.
                (Parting::Clean, false) if is_late || self.retry_due => {}
                (_, true) => self.free(user, id, false, false),
                (Parting::Cut, false) => {
                    if matches!(session.stage, Stage::Gone(_)) {
                        self.set_adrift(user, id);
                    }
                    self.free(user, id, true, false);
                }
                (Parting::Clean, false) => {
                    for text in &mut self.users[user].texts {
                        if text.written == Some((id, false)) {
                            (text.is_confirmed, text.may_repeat) = (true, false);
                            // Who is replaced does not wait for the disk.
                            text.is_forgotten = !text.is_renumbered && !session.is_replaced;
                        }
                    }
                }
            }
        }
        let missing = session.expected.iter().find(|expected| !self.is_optional(expected));
        if let (Some(missing), Parting::Clean, false) = (missing, parting, session.is_void) {
            self.fail(format!("connection {} is closed without {missing:?}", id.0));
        }
    }

    pub(super) fn set_tokens(&mut self, user: UserId, tokens: Tokens) {
        if self.users[user].tokens != tokens {
            self.users[user].tokens = tokens;
            self.facts.push(Fact::Tokens(user, tokens));
        }
    }
}

/// Where a connection comes from: an IPv4 address, or the network of an IPv6 address.
fn source(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
        v4 => v4,
    }
}
