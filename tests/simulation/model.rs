//! The rules once more, small and without the server's code: what must be said to whom, and what
//! must not.
//!
//! The model hears every event before the server does, and then everything that is written to a
//! client. Answers, prompts and presence it foretells exactly, in their order, per connection
//! ([`Expected`]). A text it follows one by one ([`Text`]): who may get it, in which order, how
//! often, and when it may be lost. What it leaves open is which way a text to a present user
//! takes, over the disk or not; that is the server's choice.
//!
//! A rule has one place: what a line means in `line` and `command`, who is here in `arrive` and
//! `depart`, what the disk holds in `written` and `crash`, what a reader may get in `hear_text`.
//! A further command is an arm in `command`; if it must outlive the process, a [`Fact`]. Texts to
//! groups are a [`Text`] per member. A receipt is an [`Expected`] of the sender, pushed where the
//! text counts as confirmed.

use std::collections::VecDeque;

use chinwag::server::ids::ConnId;
use chinwag::server::state::{Event, Parting, UNCONFIRMED_MAX};
use chinwag::wire::command::{self, ParseError};
use chinwag::wire::control::Say;
use chinwag::wire::name::{self, UserName};
use chinwag::wire::time::Moment;
use chinwag::wire::{Ago, Letter, Notice, Refusal, Request, Road, Tag, line};

use crate::disk::STORE;
use crate::play::Setup;

/// Wrong passwords and unknown names in a row that are too many.
const TRIES: u8 = 3;

/// Time to log in, in milliseconds, unless `<timeout>` is shorter.
const LOGIN_MILLIS_MAX: i64 = 30_000;

/// Between two signs of life in the store, in milliseconds.
const HEARTBEAT: i64 = 10_000;

/// How long netcat may take to read what its end confirms, in milliseconds.
const CONFIRM_MILLIS_MAX: i64 = 10_000;

/// Lines remembered per user.
const LINES_MAX: usize = 256;

/// A user's place in the list; never changes.
type UserId = usize;

/// Everything that is true.
pub(crate) struct Model {
    block: i64,
    timeout: i64,
    hide_blockers: bool,
    lobby_max: usize,
    users: Vec<User>,
    sessions: Vec<Session>,
    /// Facts that no batch holds yet, and those of the batch at the store.
    facts: Vec<Fact>,
    at_store: Vec<Fact>,
    /// What became of requests that need the disk.
    outcomes: Vec<Outcome>,
    next_heartbeat: i64,
    stored_heartbeat: i64,
    /// Counts the texts, to tell their order.
    texts: u64,
    /// The disk refused something that is tried again with the next sign of life.
    retry_due: bool,
    stopping: bool,
    /// Something happens that is not modelled: new accounts, groups, receipts, modes,
    /// addresses.
    is_off: bool,
    trouble: Option<String>,
}

struct User {
    name: UserName,
    password: String,
    conn: Option<ConnId>,
    since: Moment,
    active: i64,
    /// The last moment online, of one who is away.
    seen: Option<Moment>,
    misses: u8,
    locked_until: i64,
    /// Whom this user blocks.
    blocks: Vec<UserId>,
    tokens: Tokens,
    lines: VecDeque<(Tag, Fate)>,
    /// What was written to this user, oldest first.
    texts: Vec<Text>,
    stored: Stored,
}

/// What the disk holds of a user.
#[derive(Default)]
struct Stored {
    online: bool,
    seen: Option<i64>,
    blocks: Vec<UserId>,
    tokens: Tokens,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Tokens {
    latest: Option<u128>,
    used: Option<u128>,
}

/// Something the disk must learn.
#[derive(Clone)]
enum Fact {
    Came(UserId, i64),
    Went(UserId, i64),
    Heartbeat(i64),
    Tokens(UserId, Tokens),
    Block { by: UserId, whom: UserId, blocked: bool, outcome: usize },
    Text { to: UserId, number: u64, outcome: usize },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Open,
    Done,
    Failed,
}

/// What became of a line of our client.
#[derive(Debug, Clone)]
enum Fate {
    /// It waits for the disk, and this is the answer.
    Waits(usize, Notice),
    /// It went to somebody present, perhaps over the disk.
    Sent {
        outcome: usize,
        to: UserId,
        number: u64,
    },
    Done(Option<Notice>),
    /// An earlier run stored it; whether its receiver has got it decides what the server knows.
    Stored {
        to: UserId,
        certain: bool,
    },
}

/// One text on its way to one reader.
struct Text {
    /// Its place in the order of all texts.
    number: u64,
    from: UserId,
    text: Box<str>,
    sent: i64,
    tag: Option<Tag>,
    /// The reader was away, so it must be on the disk before the sender is answered.
    is_mail: bool,
    /// The connection it was meant for; the order of others is not compared with it.
    meant_for: Option<ConnId>,
    /// The last number the server gave it, and whether that was not the first.
    id: u64,
    is_renumbered: bool,
    /// Where it was written last, and whether that was our client.
    written: Option<(ConnId, bool)>,
    /// It may, and does, come once more.
    may_repeat: bool,
    /// Its next coming must, or may, say that it is perhaps a repetition.
    must_say_again: bool,
    may_say_again: bool,
    /// Two connections of its reader hold it; when one breaks, it comes to the other once more.
    is_double: bool,
    /// The reader has it for good, and the disk knows.
    is_confirmed: bool,
    is_forgotten: bool,
    /// It is on the disk.
    is_stored: bool,
    /// It may be lost: a crash took it, or 64 newer ones count for it.
    may_be_lost: bool,
    /// It was refused and must never come.
    is_refused: bool,
    /// How often it was read.
    read: u32,
    /// Which process of our client has shown it, and when.
    shown: Option<(char, u64)>,
}

struct Session {
    id: ConnId,
    is_ours: bool,
    stage: Stage,
    /// When it must have logged in.
    limit: i64,
    /// What our client says it has shown.
    shown: u64,
    expected: VecDeque<Expected>,
    /// The last number of a text.
    last: u64,
    /// Pings without a pong, and whether a pong came since the last ping.
    pings: u32,
    ponged: bool,
    /// Texts to present users that the disk perhaps refused, for which nobody was told so yet.
    refusable: u32,
    /// When its user went.
    left: i64,
    /// The server must close it.
    must_close: bool,
    /// It was taken over: what it is told no longer counts.
    is_void: bool,
    /// Texts written to netcat that a newer one has not yet pushed out.
    ring: VecDeque<u64>,
    /// The token that let it in.
    used: Option<u128>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Name { unknown: u8 },
    Password(UserId),
    Online(UserId),
    Gone(Option<UserId>),
}

/// What a connection must be told next, texts aside.
#[derive(Debug)]
enum Expected {
    This(Notice),
    /// `This`, once the disk has it, or that the disk refused.
    AfterDisk(usize, Notice),
    /// Nothing, or that the disk refused.
    Unless {
        outcome: usize,
        to: UserId,
        number: u64,
    },
    Welcome(UserId),
    /// How many messages wait, if any do.
    Waiting,
    /// A broadcast: from whom, what.
    Broadcast(UserId, Box<str>),
    /// A message was stored before a crash.
    StoredBefore(UserId),
    /// Whatever can follow a message, or nothing.
    Anything,
}

impl Model {
    pub(crate) fn new(setup: &Setup, accounts: &[(UserName, String)], lobby_max: usize) -> Self {
        let user = |(name, password): &(UserName, String)| User {
            name: name.clone(),
            password: password.clone(),
            conn: None,
            since: Moment { elapsed: 0, wall: 0 },
            active: 0,
            seen: None,
            misses: 0,
            locked_until: i64::MIN,
            blocks: Vec::new(),
            tokens: Tokens::default(),
            lines: VecDeque::new(),
            texts: Vec::new(),
            stored: Stored::default(),
        };
        Self {
            block: i64::from(setup.block) * 1000,
            timeout: i64::from(setup.timeout) * 1000,
            hide_blockers: setup.hide_blockers,
            lobby_max,
            users: accounts.iter().map(user).collect(),
            sessions: Vec::new(),
            facts: Vec::new(),
            at_store: Vec::new(),
            outcomes: Vec::new(),
            next_heartbeat: HEARTBEAT,
            stored_heartbeat: 0,
            texts: 0,
            retry_due: false,
            stopping: false,
            is_off: setup.allow_new_users,
            trouble: None,
        }
    }

    /// The first rule that was broken.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    pub(crate) fn fail(&mut self, why: String) {
        if self.trouble.is_none() && !self.is_off {
            self.trouble = Some(why);
        }
    }

    /// Something is about to happen that is not modelled.
    pub(crate) fn turn_off(&mut self) {
        self.is_off = true;
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping
    }

    pub(crate) fn is_online(&self, id: ConnId) -> bool {
        self.user_of(id).is_some()
    }

    /// Who is asked for a password on this connection.
    pub(crate) fn asked_password(&self, id: ConnId) -> Option<&str> {
        match self.session(id)?.stage {
            Stage::Password(user) => Some(&self.users[user].password),
            _ => None,
        }
    }

    /// How long until this user is silent for too long, or free to log in again.
    pub(crate) fn spans(&self, now: i64) -> impl Iterator<Item = i64> {
        let online = self.users.iter().filter(|user| user.conn.is_some()).map(move |user| user.active + self.timeout);
        let locked = self.users.iter().map(|user| user.locked_until);
        online.chain(locked).filter(move |&at| at > now).map(move |at| at - now)
    }

    fn session(&self, id: ConnId) -> Option<&Session> {
        self.sessions.iter().find(|session| session.id == id)
    }

    fn session_mut(&mut self, id: ConnId) -> Option<&mut Session> {
        self.sessions.iter_mut().find(|session| session.id == id)
    }

    fn user_of(&self, id: ConnId) -> Option<UserId> {
        match self.session(id)?.stage {
            Stage::Online(user) => Some(user),
            _ => None,
        }
    }

    fn find(&self, word: &str) -> Option<UserId> {
        self.users.iter().position(|user| user.name.as_str() == word)
    }

    fn name(&self, user: UserId) -> UserName {
        self.users[user].name.clone()
    }

    fn expect(&mut self, id: ConnId, expected: Expected) {
        if let Some(session) = self.session_mut(id) {
            session.expected.push_back(expected);
        }
    }

    fn say(&mut self, id: ConnId, notice: Notice) {
        self.expect(id, Expected::This(notice));
    }

    fn refuse(&mut self, id: ConnId, refusal: Refusal) {
        self.say(id, Notice::Refused(refusal));
    }

    // What happens.

    /// An event on its way to the server.
    pub(crate) fn learn(&mut self, now: Moment, event: &Event<'_>) {
        if self.is_off {
            return;
        }
        match event {
            Event::Opened(id, _) => self.open(now, *id),
            Event::Line(id, line) => match line::text(line) {
                Ok(text) => self.line(now, *id, &text),
                Err(_) => self.fail("the simulation types text".to_owned()),
            },
            Event::EndOfInput(id) => self.part(now, *id, None),
            Event::Closed(id, parting) => self.closed(now, *id, *parting),
            Event::Stop => {
                self.stopping = true;
                let mut ids: Vec<ConnId> = self.sessions.iter().map(|session| session.id).collect();
                ids.sort_unstable();
                ids.into_iter().for_each(|id| self.turn_out(now, id, Notice::Stopping));
            }
            Event::Overlong(_) | Event::Overrun(_) => self.fail("the simulation keeps to the limits".to_owned()),
            Event::Stalled(_) | Event::Drained(_) | Event::Flushed | Event::Tick => {}
            Event::Committed(_) | Event::StoreFailed(_) | Event::Mail(..) | Event::Enrolled(..) => {}
            Event::Asked(..) | Event::Hung(_) | Event::Pushed { .. } => self.fail("nobody is framed here".to_owned()),
        }
    }

    fn open(&mut self, now: Moment, id: ConnId) {
        self.sessions.push(Session {
            id,
            is_ours: false,
            stage: Stage::Name { unknown: 0 },
            limit: now.elapsed + LOGIN_MILLIS_MAX.min(self.timeout),
            shown: 0,
            expected: VecDeque::new(),
            last: 0,
            pings: 0,
            ponged: false,
            refusable: 0,
            left: 0,
            must_close: false,
            is_void: false,
            ring: VecDeque::new(),
            used: None,
        });
        if self.stopping {
            return self.part(now, id, Some(Notice::Stopping));
        }
        self.say(id, Notice::AskName);
        let waiting = |session: &&Session| matches!(session.stage, Stage::Name { .. } | Stage::Password(_));
        // All come from one address, so the oldest goes.
        if self.sessions.iter().filter(waiting).count() > self.lobby_max
            && let Some(oldest) = self.sessions.iter().filter(waiting).map(|session| session.id).min()
        {
            self.turn_out(now, oldest, Notice::Crowded);
        }
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
            if self.is_online(id) {
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
            self.retry_due = false;
        }
    }

    /// When [`Model::tick`] is due.
    pub(crate) fn deadline(&self) -> Option<i64> {
        let limits = self.sessions.iter().filter_map(|session| self.limit(session));
        (!self.is_off).then(|| limits.chain([self.next_heartbeat]).min()).flatten()
    }

    fn limit(&self, session: &Session) -> Option<i64> {
        match session.stage {
            Stage::Name { .. } | Stage::Password(_) => Some(session.limit),
            Stage::Online(user) => Some(self.users[user].active + self.timeout),
            Stage::Gone(_) => None,
        }
    }

    // Logging in.

    fn line(&mut self, now: Moment, id: ConnId, line: &str) {
        let Some(session) = self.session(id) else { return };
        match (session.stage, session.is_ours) {
            (Stage::Online(user), false) => self.command(now, id, user, line, None),
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
        let account = &mut self.users[user];
        let left = account.locked_until.saturating_sub(now.elapsed);
        if password.is_empty() {
            return self.ask_password(id, user);
        }
        if left > 0 {
            let seconds = left / 1000 + i64::from(left % 1000 > 0);
            return self.part(now, id, Some(Notice::StillLocked { seconds }));
        }
        if password != account.password {
            account.misses += 1;
            if account.misses < TRIES {
                let tries = TRIES - account.misses;
                self.say(id, Notice::WrongPassword { tries });
                return self.ask_password(id, user);
            }
            account.misses = 0;
            account.locked_until = now.elapsed + self.block;
            return self.part(now, id, Some(Notice::JustLocked { seconds: self.block / 1000 }));
        }
        account.misses = 0;
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
        if let Some(session) = self.session_mut(old) {
            (session.stage, session.must_close, session.is_void) = (Stage::Gone(Some(user)), true, true);
            session.expected.clear();
        }
        self.users[user].conn = Some(id);
        let shown = self.session(id).map_or(0, |session| session.shown);
        self.confirm(user, old, shown);
        self.free(user, old, false, true);
        self.welcome(id, user, Some(token));
    }

    /// Somebody comes online.
    fn arrive(&mut self, now: Moment, id: ConnId, user: UserId, used: Option<u128>) {
        let account = &mut self.users[user];
        (account.conn, account.since, account.active) = (Some(id), now, now.elapsed);
        (account.misses, account.locked_until) = (0, i64::MIN);
        self.facts.push(Fact::Came(user, now.wall));
        self.welcome(id, user, used);
        self.witness(user, &Notice::Arrived(self.name(user)));
    }

    fn welcome(&mut self, id: ConnId, user: UserId, used: Option<u128>) {
        let Some(session) = self.session_mut(id) else { return };
        (session.stage, session.used) = (Stage::Online(user), used);
        let is_ours = session.is_ours;
        self.expect(id, Expected::Welcome(user));
        if !is_ours {
            self.expect(id, Expected::Waiting);
        }
    }

    /// Somebody goes, in whatever way.
    fn depart(&mut self, now: Moment, user: UserId) {
        let account = &mut self.users[user];
        (account.conn, account.seen) = (None, Some(now));
        self.facts.push(Fact::Went(user, now.wall));
        if !self.stopping {
            self.witness(user, &Notice::Left(self.name(user)));
        }
    }

    /// Who comes or goes is told to all others but those whom he blocks.
    fn witness(&mut self, mover: UserId, notice: &Notice) {
        for other in 0..self.users.len() {
            if let Some(id) = self.users[other].conn
                && other != mover
                && !self.users[mover].blocks.contains(&other)
            {
                self.say(id, notice.clone());
            }
        }
    }

    fn turn_out(&mut self, now: Moment, id: ConnId, last: Notice) {
        if self.session(id).is_some_and(|session| matches!(session.stage, Stage::Name { .. } | Stage::Password(_))) {
            self.say(id, Notice::PromptEnd);
        }
        self.part(now, id, Some(last));
    }

    /// A session ends in order; `last` is its last line.
    fn part(&mut self, now: Moment, id: ConnId, last: Option<Notice>) {
        let Some(session) = self.session_mut(id) else { return };
        let user = match session.stage {
            Stage::Gone(_) => return,
            Stage::Online(user) => Some(user),
            Stage::Name { .. } | Stage::Password(_) => None,
        };
        (session.stage, session.must_close, session.left) = (Stage::Gone(user), true, now.elapsed);
        let is_ours = session.is_ours;
        if let Some(user) = user {
            self.depart(now, user);
            if is_ours {
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
    fn closed(&mut self, now: Moment, id: ConnId, parting: Parting) {
        if let Some(user) = self.user_of(id) {
            self.depart(now, user);
        }
        let Some(at) = self.sessions.iter().position(|session| session.id == id) else { return };
        let session = self.sessions.remove(at);
        if let Stage::Online(user) | Stage::Gone(Some(user)) = session.stage {
            let is_late = now.elapsed - session.left >= CONFIRM_MILLIS_MAX;
            match (parting, session.is_ours) {
                // Who takes too long to read has confirmed nothing, nor does the disk forget.
                (Parting::Clean, false) if is_late || self.retry_due => {}
                (_, true) => self.free(user, id, false, false),
                (Parting::Cut, false) => self.free(user, id, true, false),
                (Parting::Clean, false) => {
                    for text in &mut self.users[user].texts {
                        if text.written == Some((id, false)) {
                            (text.is_confirmed, text.may_repeat) = (true, false);
                            text.is_forgotten = !text.is_renumbered;
                        }
                    }
                }
            }
        }
        let missing = session.expected.iter().find(|expected| !expected.is_optional());
        if let (Some(missing), Parting::Clean, false) = (missing, parting, session.is_void) {
            self.fail(format!("connection {} is closed without {missing:?}", id.0));
        }
    }

    /// What was written to a session that has ended, and not confirmed, comes once more.
    fn free(&mut self, user: UserId, id: ConnId, again: bool, is_taken_over: bool) {
        let now_at = self.users[user].conn;
        // Once a newer session has read a newer text, the order of what comes back is open.
        let elsewhere = |text: &&Text| text.written.is_some_and(|(other, _)| other != id);
        let passed = self.users[user].texts.iter().filter(elsewhere).map(|text| text.number).max().unwrap_or(0);
        for text in &mut self.users[user].texts {
            if text.written.is_some_and(|(written, _)| written == id) && !text.is_confirmed {
                // A user who is back already may have read it from the store meanwhile.
                (text.may_repeat, text.must_say_again) = (true, again && now_at.is_none());
                text.may_say_again |= again;
            }
            text.may_say_again |= again && text.meant_for == Some(id);
            if text.meant_for == Some(id) && (is_taken_over || (now_at.is_none() && text.number > passed)) {
                text.meant_for = now_at;
            }
        }
    }

    /// Our client has shown everything up to this number of what came on this connection.
    fn confirm(&mut self, user: UserId, id: ConnId, number: u64) {
        for text in &mut self.users[user].texts {
            if text.written == Some((id, true)) && text.id <= number {
                (text.is_confirmed, text.may_repeat) = (true, false);
            }
        }
    }

    fn set_tokens(&mut self, user: UserId, tokens: Tokens) {
        if self.users[user].tokens != tokens {
            self.users[user].tokens = tokens;
            self.facts.push(Fact::Tokens(user, tokens));
        }
    }

    // Commands.

    fn ours(&mut self, now: Moment, id: ConnId, user: UserId, line: &str) {
        self.users[user].tokens.used = None;
        match Say::parse(line) {
            Ok(Say::Typed { tag, line }) => self.tagged(now, id, user, line, tag),
            Ok(Say::Seen(number)) => self.confirm(user, id, number),
            Ok(Say::Ping) => {
                if let Some(session) = self.session_mut(id) {
                    (session.pings, session.ponged) = (session.pings + 1, false);
                }
            }
            _ => self.command(now, id, user, line, None),
        }
    }

    /// A line with a tag: carried out once.
    fn tagged(&mut self, now: Moment, id: ConnId, user: UserId, line: &str, tag: Tag) {
        let known = self.users[user].lines.iter().rev().find(|(known, _)| *known == tag).map(|(_, fate)| fate.clone());
        let failed = |outcome: &usize| self.outcomes[*outcome] == Outcome::Failed;
        self.users[user].active = if known.is_some() { now.elapsed } else { self.users[user].active };
        match known {
            Some(Fate::Waits(outcome, answer)) if !failed(&outcome) => {
                self.expect(id, Expected::AfterDisk(outcome, answer));
            }
            Some(Fate::Sent { outcome, to, number }) if !failed(&outcome) => {
                self.expect(id, Expected::Unless { outcome, to, number });
            }
            Some(Fate::Done(answer)) => answer.into_iter().for_each(|answer| self.say(id, answer)),
            Some(Fate::Stored { to, certain: true }) => self.expect(id, Expected::StoredBefore(to)),
            Some(Fate::Stored { .. } | Fate::Sent { .. }) => self.perhaps(now, id, user, line, tag),
            Some(Fate::Waits(..)) | None => self.command(now, id, user, line, Some(tag)),
        }
        if self.is_online(id) {
            self.say(id, Notice::Done(tag));
        }
    }

    fn command(&mut self, now: Moment, id: ConnId, user: UserId, line: &str, tag: Option<Tag>) {
        let request = match command::parse(line) {
            Ok(request) => request,
            Err(ParseError::Empty) => return,
            Err(ParseError::Unknown(word)) => return self.refuse(id, Refusal::InvalidCommand(repeated(word))),
            Err(ParseError::Usage(command)) => {
                self.users[user].active = now.elapsed;
                return self.refuse(id, Refusal::Usage(command));
            }
        };
        self.users[user].active = now.elapsed;
        match request {
            Request::Message { to, text } => self.message(now, id, user, to, text, tag),
            Request::Broadcast { text } => self.broadcast(id, user, text, tag),
            Request::WhoElse => self.list(id, user, |other| other.conn.is_some()),
            Request::WhoElseSince { millis } => self.list(id, user, |other| {
                let gone = other.seen.map(|seen| now.elapsed - seen.elapsed);
                other.conn.is_some() || gone.is_some_and(|gone| gone <= millis)
            }),
            Request::Block { user: word } => self.block(id, user, word, true, tag),
            Request::Unblock { user: word } => self.block(id, user, word, false, tag),
            Request::Status { user: word } => self.status(now, id, user, word),
            Request::Help { topic: None } => self.say(id, Notice::HelpAll),
            Request::Help { topic: Some(word) } => match command::find(word.strip_prefix('/').unwrap_or(word)) {
                Some(command) => {
                    let forms = command::COMMANDS.iter().filter(|form| command::is_form(form, command));
                    [command].into_iter().chain(forms).for_each(|command| self.say(id, Notice::Help(command)));
                }
                None => self.refuse(id, Refusal::InvalidCommand(repeated(word))),
            },
            Request::Logout => self.part(now, id, Some(Notice::Goodbye)),
            Request::Private { .. } => self.refuse(id, Refusal::NeedsClient("private")),
            // Not simulated.
            Request::StartPrivate { .. } | Request::StopPrivate { .. } | Request::GetAddress { .. } => {
                self.is_off = true
            }
            Request::Allow { .. } | Request::Deny { .. } | Request::Register { .. } => self.is_off = true,
            Request::SearchFile { .. } | Request::SearchChunk { .. } | Request::Download { .. } => self.is_off = true,
            // Not modelled: groups, receipts and the modes.
            Request::Receipts { .. } | Request::Group { .. } | Request::InGroup { .. } => self.is_off = true,
            Request::Groups | Request::Enter(_) | Request::Exit => self.is_off = true,
        }
    }

    /// The user of that name, unless it is nobody or the asker.
    fn other(&mut self, id: ConnId, asker: UserId, word: &str, verb: &'static str) -> Option<UserId> {
        let found = self.find(word);
        match found {
            None => self.refuse(id, Refusal::InvalidUser(repeated(word))),
            Some(user) if user == asker => self.refuse(id, Refusal::Yourself(verb)),
            Some(_) => return found,
        }
        None
    }

    fn message(&mut self, now: Moment, id: ConnId, from: UserId, word: &str, text: &str, tag: Option<Tag>) {
        let Some(to) = self.other(id, from, word, "message") else { return };
        // First the block, then whether he is here.
        if self.users[to].blocks.contains(&from) {
            return self.refuse(id, Refusal::Blocked(self.name(to)));
        }
        let twice = |other: &Text| tag.is_some() && other.tag == tag && other.from == from && !other.is_refused;
        if self.users[to].texts.iter().any(|other| twice(other) && !other.may_be_lost) {
            self.fail(format!("the line {tag:?} is carried out twice"));
        }
        let is_mail = self.users[to].conn.is_none();
        let number = self.keep(now, from, to, text, tag, is_mail);
        let outcome = self.outcome();
        self.facts.push(Fact::Text { to, number, outcome });
        let fate = if is_mail {
            let seen = self.users[to].seen.map(|seen| ago(now, seen));
            let answer = Notice::Stored { to: self.name(to), seen };
            self.expect(id, Expected::AfterDisk(outcome, answer.clone()));
            Fate::Waits(outcome, answer)
        } else {
            self.expect(id, Expected::Unless { outcome, to, number });
            Fate::Sent { outcome, to, number }
        };
        self.remember(from, tag, fate);
    }

    fn keep(&mut self, now: Moment, from: UserId, to: UserId, text: &str, tag: Option<Tag>, is_mail: bool) -> u64 {
        self.texts += 1;
        let meant_for = self.users[to].conn;
        self.users[to].texts.push(Text {
            number: self.texts,
            from,
            text: name::Text::harmless(text).as_str().into(),
            sent: now.wall,
            tag,
            is_mail,
            meant_for,
            id: 0,
            is_renumbered: false,
            written: None,
            may_repeat: false,
            must_say_again: false,
            may_say_again: false,
            is_double: false,
            is_confirmed: false,
            is_forgotten: false,
            is_stored: false,
            may_be_lost: false,
            is_refused: false,
            read: 0,
            shown: None,
        });
        self.texts
    }

    /// A line that the server may know from before a crash, or carry out now.
    fn perhaps(&mut self, now: Moment, id: ConnId, user: UserId, line: &str, tag: Tag) {
        self.expect(id, Expected::Anything);
        if let Ok(Request::Message { to, text }) = command::parse(line)
            && let Some(to) = self.find(to).filter(|to| *to != user)
        {
            self.keep(now, user, to, text, None, false);
            if let Some(text) = self.users[to].texts.last_mut() {
                text.may_be_lost = true;
            }
            self.remember(user, Some(tag), Fate::Stored { to, certain: false });
        }
    }

    fn remember(&mut self, user: UserId, tag: Option<Tag>, fate: Fate) {
        let Some(tag) = tag else { return };
        let lines = &mut self.users[user].lines;
        lines.retain(|(known, _)| *known != tag);
        if lines.len() >= LINES_MAX {
            lines.pop_front();
        }
        lines.push_back((tag, fate));
    }

    fn outcome(&mut self) -> usize {
        self.outcomes.push(Outcome::Open);
        self.outcomes.len() - 1
    }

    fn broadcast(&mut self, id: ConnId, from: UserId, text: &str, tag: Option<Tag>) {
        let mut skipped = None;
        for other in 0..self.users.len() {
            let Some(reader) = self.users[other].conn.filter(|_| other != from) else { continue };
            if self.users[other].blocks.contains(&from) {
                skipped = Some(Notice::SomeSkipped);
            } else {
                self.expect(reader, Expected::Broadcast(from, name::Text::harmless(text).as_str().into()));
            }
        }
        if let Some(notice) = &skipped {
            self.say(id, notice.clone());
        }
        self.remember(from, tag, Fate::Done(skipped));
    }

    /// Everybody else who is wanted and not hidden, sorted.
    fn list(&mut self, id: ConnId, asker: UserId, is_wanted: impl Fn(&User) -> bool) {
        let others = self.users.iter().enumerate().filter(|(other, user)| *other != asker && is_wanted(user));
        let seen = others.filter(|(_, user)| !(self.hide_blockers && user.blocks.contains(&asker)));
        let mut names: Vec<UserName> = seen.map(|(_, user)| user.name.clone()).collect();
        names.sort();
        self.say(id, if names.is_empty() { Notice::Nobody } else { Notice::Names(names) });
    }

    fn block(&mut self, id: ConnId, by: UserId, word: &str, blocked: bool, tag: Option<Tag>) {
        let Some(whom) = self.other(id, by, word, if blocked { "block" } else { "unblock" }) else { return };
        let name = self.name(whom);
        let answer = match (self.users[by].blocks.contains(&whom), blocked) {
            (true, true) => return self.refuse(id, Refusal::AlreadyBlocked(name)),
            (false, false) => return self.refuse(id, Refusal::NotBlocked(name)),
            (_, true) => Notice::Blocked(name),
            (_, false) => Notice::Unblocked(name),
        };
        set(&mut self.users[by].blocks, whom, blocked);
        let outcome = self.outcome();
        self.facts.push(Fact::Block { by, whom, blocked, outcome });
        self.expect(id, Expected::AfterDisk(outcome, answer.clone()));
        self.remember(by, tag, Fate::Waits(outcome, answer));
    }

    fn status(&mut self, now: Moment, id: ConnId, asker: UserId, word: &str) {
        let Some(user) = self.find(word) else { return self.refuse(id, Refusal::InvalidUser(repeated(word))) };
        let (name, account) = (self.name(user), &self.users[user]);
        let notice = match (account.conn, account.seen) {
            _ if self.hide_blockers && account.blocks.contains(&asker) => Notice::NeverOnline(name),
            (Some(_), _) => {
                Notice::Online { user: name, since: ago(now, account.since), idle: now.elapsed - account.active }
            }
            (None, Some(seen)) => Notice::Offline { user: name, seen: ago(now, seen) },
            (None, None) => Notice::NeverOnline(name),
        };
        self.say(id, notice);
    }

    // The disk.

    /// All facts so far go to the store as one batch.
    pub(crate) fn hand_over(&mut self) {
        self.at_store = std::mem::take(&mut self.facts);
    }

    /// The batch is on the disk, whether anybody knows it yet or not.
    pub(crate) fn written(&mut self) {
        for fact in &self.at_store {
            match *fact {
                Fact::Came(user, wall) => {
                    (self.users[user].stored.online, self.users[user].stored.seen) = (true, Some(wall));
                }
                Fact::Went(user, wall) => {
                    (self.users[user].stored.online, self.users[user].stored.seen) = (false, Some(wall));
                }
                Fact::Heartbeat(wall) => self.stored_heartbeat = wall,
                Fact::Tokens(user, tokens) => self.users[user].stored.tokens = tokens,
                Fact::Block { by, whom, blocked, .. } => set(&mut self.users[by].stored.blocks, whom, blocked),
                Fact::Text { to, number, .. } => {
                    if let Some(text) = text(&mut self.users[to], number).filter(|text| text.is_mail) {
                        text.is_stored = true;
                    }
                }
            }
        }
    }

    /// The store has said what became of the batch.
    pub(crate) fn reported(&mut self, written: bool) {
        if !written {
            self.retry_due = true;
            // The mark of a repetition may be what was refused.
            for text in self.users.iter_mut().flat_map(|user| &mut user.texts) {
                text.may_say_again |= std::mem::take(&mut text.must_say_again);
            }
        }
        for fact in std::mem::take(&mut self.at_store) {
            match fact {
                Fact::Block { outcome, .. } | Fact::Text { outcome, .. } if written => {
                    self.outcomes[outcome] = Outcome::Done;
                }
                Fact::Block { by, outcome, .. } => {
                    self.outcomes[outcome] = Outcome::Failed;
                    self.users[by].blocks = self.users[by].stored.blocks.clone();
                    for fact in &self.facts {
                        if let Fact::Block { by: other, whom, blocked, .. } = *fact
                            && other == by
                        {
                            set(&mut self.users[by].blocks, whom, blocked);
                        }
                    }
                }
                Fact::Text { to, number, outcome } => {
                    self.outcomes[outcome] = Outcome::Failed;
                    if let Some(text) = text(&mut self.users[to], number) {
                        // One to a present user may have taken the other way.
                        (text.is_refused, text.may_be_lost) = (text.is_mail, true);
                    }
                }
                Fact::Came(..) | Fact::Went(..) | Fact::Heartbeat(_) | Fact::Tokens(..) => {}
            }
        }
    }

    /// A page of mail could not be read.
    pub(crate) fn page_refused(&mut self) {
        self.retry_due = true;
    }

    /// The server has been killed and starts again from the disk.
    pub(crate) fn crash(&mut self, now: Moment) {
        // What netcat had left with and the kernels still held may be lost.
        let is_gone = |session: &&Session| matches!(session.stage, Stage::Gone(_));
        let gone: Vec<ConnId> = self.sessions.iter().filter(is_gone).map(|session| session.id).collect();
        for text in self.users.iter_mut().flat_map(|user| &mut user.texts) {
            text.may_be_lost |= text.written.is_some_and(|(id, is_ours)| !is_ours && gone.contains(&id));
        }
        self.sessions.clear();
        self.facts.clear();
        self.at_store.clear();
        (self.stopping, self.retry_due) = (false, false);
        self.next_heartbeat = now.elapsed + HEARTBEAT;
        let mut lines = Vec::new();
        for (to, user) in self.users.iter_mut().enumerate() {
            let stored = &mut user.stored;
            if std::mem::take(&mut stored.online) {
                stored.seen = stored.seen.max(Some(self.stored_heartbeat));
            }
            (user.conn, user.misses, user.locked_until) = (None, 0, i64::MIN);
            (user.blocks, user.tokens) = (stored.blocks.clone(), stored.tokens);
            user.seen = stored.seen.map(|wall| Moment { elapsed: now.elapsed - (now.wall - wall).max(0), wall });
            user.lines.clear();
            for text in user.texts.iter_mut().filter(|text| !text.is_refused) {
                text.must_say_again = false;
                text.is_refused = text.is_mail && !text.is_stored;
                text.may_be_lost |= !text.is_stored;
                text.may_repeat = text.written.is_some() && !text.is_forgotten;
                text.is_confirmed &= text.is_forgotten;
                if let Some(tag) = text.tag.filter(|_| !text.is_refused) {
                    let certain = text.is_stored && text.written.is_none();
                    lines.push((text.from, tag, Fate::Stored { to, certain }));
                }
            }
        }
        self.stored_heartbeat = now.wall;
        for (from, tag, fate) in lines {
            self.remember(from, Some(tag), fate);
        }
    }

    // What the server says.

    /// The server closes a connection.
    pub(crate) fn closes(&mut self, id: ConnId) {
        if self.session(id).is_some_and(|session| !session.must_close) {
            self.fail(format!("connection {} is closed without a reason", id.0));
        }
    }

    /// A notice stands in the stream of a connection.
    pub(crate) fn hear(&mut self, now: Moment, id: ConnId, notice: &Notice) {
        if self.is_off {
            return;
        }
        let Some(session) = self.session_mut(id) else { return };
        if session.is_void {
            return;
        }
        match notice {
            Notice::Said(letter) if letter.number > 0 => return self.hear_text(id, letter),
            Notice::Pong if session.pings > 0 => {
                (session.pings, session.ponged) = (session.pings - 1, true);
                return;
            }
            _ => {}
        }
        let refused = *notice == Notice::Refused(Refusal::DiskFailed);
        while let Some(expected) = self.session_mut(id).and_then(|session| session.expected.pop_front()) {
            match self.is_met(id, &expected, notice) {
                Ok(true) => return,
                Ok(false) if expected.is_optional() && !(refused && self.is_open(&expected)) => {
                    self.leave_out(id, &expected);
                }
                Ok(false) | Err(_) if refused && self.take_refusable(id) => {
                    if let Some(session) = self.session_mut(id) {
                        session.expected.push_front(expected);
                    }
                    return;
                }
                Ok(false) => {
                    return self.fail(format!("connection {} is told {notice:?} instead of {expected:?}", id.0));
                }
                Err(why) => return self.fail(why),
            }
        }
        if !(refused && self.take_refusable(id)) {
            self.fail(format!("connection {} is told {notice:?} at {} ms, and nothing was due", id.0, now.elapsed));
        }
    }

    fn is_open(&self, expected: &Expected) -> bool {
        matches!(expected, Expected::Unless { outcome, .. } if self.outcomes[*outcome] == Outcome::Open)
    }

    /// Nothing was said about a text to somebody present. If the disk refused it and it is not on
    /// its way, the next refusal may mean this one as well as a later one.
    fn leave_out(&mut self, id: ConnId, expected: &Expected) {
        if let Expected::Unless { outcome, to, number } = *expected
            && self.outcomes[outcome] == Outcome::Failed
            && text(&mut self.users[to], number).is_some_and(|text| text.written.is_none())
            && let Some(session) = self.session_mut(id)
        {
            session.refusable += 1;
        }
    }

    fn take_refusable(&mut self, id: ConnId) -> bool {
        let Some(session) = self.session_mut(id).filter(|session| session.refusable > 0) else { return false };
        session.refusable -= 1;
        true
    }

    fn is_met(&mut self, id: ConnId, expected: &Expected, notice: &Notice) -> Result<bool, String> {
        let refused = Notice::Refused(Refusal::DiskFailed);
        Ok(match expected {
            Expected::This(due) => due == notice,
            Expected::AfterDisk(outcome, due) => match self.outcomes[*outcome] {
                Outcome::Done => due == notice,
                Outcome::Failed => refused == *notice,
                Outcome::Open => return Err(format!("{notice:?} is said before the disk has it")),
            },
            Expected::Unless { .. } => false,
            Expected::Welcome(user) => {
                let Notice::Welcome { user: name, pass } = notice else { return Ok(false) };
                let (is_ours, used) = self.session(id).map_or((false, None), |session| (session.is_ours, session.used));
                self.set_tokens(*user, Tokens { latest: pass.map(|pass| pass.token), used });
                *name == self.users[*user].name && pass.is_some() == is_ours
            }
            Expected::Waiting => matches!(notice, Notice::Waiting { count: 1.. }),
            Expected::Broadcast(from, text) => match notice {
                Notice::Said(letter) => letter.from == self.users[*from].name && letter.text.as_str() == &**text,
                _ => false,
            },
            Expected::StoredBefore(to) => {
                matches!(notice, Notice::Stored { to: name, .. } if *name == self.users[*to].name)
            }
            Expected::Anything => {
                matches!(notice, Notice::Stored { .. } | Notice::Refused(Refusal::DiskFailed | Refusal::Blocked(_)))
            }
        })
    }

    fn hear_text(&mut self, id: ConnId, letter: &Letter) {
        let Some(session) = self.session_mut(id) else { return };
        let (Stage::Online(user) | Stage::Gone(Some(user))) = session.stage else {
            return self.fail("a text comes to nobody".to_owned());
        };
        // It stood behind an answer that waited for the disk, while its reader went.
        let is_late = matches!(session.stage, Stage::Gone(_));
        let (is_ours, rises) = (session.is_ours, session.last < letter.number);
        session.last = letter.number;
        let from = self.find(letter.from.as_str());
        let texts = &self.users[user].texts;
        let is_like =
            |text: &Text| Some(text.from) == from && *text.text == *letter.text.as_str() && text.sent == letter.sent;
        let is_copy = |text: &Text| text.is_double && letter.road == Road::Again;
        let at = texts
            .iter()
            .position(|text| text.id == letter.number && is_like(text))
            .or_else(|| texts.iter().position(|text| text.written.is_none() && !text.is_refused && is_like(text)))
            .or_else(|| texts.iter().position(|text| (text.may_repeat || is_copy(text)) && is_like(text)));
        let what = || format!("{} gets {:?} of {}", self.users[user].name, letter.text.as_str(), letter.from);
        let Some(at) = at else { return self.fail(format!("{}, which is not for him", what())) };
        let text = &texts[at];
        let is_first = text.written.is_none();
        if is_late && !is_first {
            return;
        }
        let is_owed = |text: &Text| {
            let is_comparable = text.meant_for.is_none_or(|meant| meant == id);
            is_comparable && text.written.is_none() && !text.is_refused && !text.may_be_lost
        };
        let why = if text.is_refused {
            "which was refused"
        } else if !rises {
            "with a number that does not rise"
        } else if is_first && !is_late && texts[..at].iter().any(is_owed) {
            "before an older text"
        } else if !is_first && !text.may_repeat && !is_copy(text) {
            "twice"
        } else if is_first && letter.road == Road::Again && !text.may_say_again
            || text.must_say_again && letter.road != Road::Again
        {
            "with a wrong mark"
        } else {
            ""
        };
        if !why.is_empty() {
            return self.fail(format!("{}, {why}", what()));
        }
        let before = self.users[user].texts[at].written.filter(|(other, _)| *other != id);
        let is_double = before.is_some_and(|(other, _)| self.session(other).is_some());
        let text = &mut self.users[user].texts[at];
        text.is_double |= is_double;
        text.is_renumbered |= text.id > 0 && text.id != letter.number;
        (text.id, text.written, text.may_repeat) = (letter.number, Some((id, is_ours)), is_late && is_ours);
        let number = text.number;
        if let Some(session) = self.session_mut(id).filter(|session| !session.is_ours) {
            session.ring.push_back(number);
            let lapsed = if session.ring.len() > UNCONFIRMED_MAX { session.ring.pop_front() } else { None };
            if let Some(lapsed) = lapsed.and_then(|number| self::text(&mut self.users[user], number)) {
                lapsed.may_be_lost = true;
            }
        }
    }

    /// A text was read at the other end. `by`: our client has shown it, in which process, when, and
    /// when that process was told how far others had come.
    pub(crate) fn shown(&mut self, id: ConnId, letter: &Letter, by: Option<(char, u64, u64)>) {
        let Some(Stage::Online(user) | Stage::Gone(Some(user))) = self.session(id).map(|session| session.stage) else {
            return;
        };
        let Some(text) = self.users[user].texts.iter_mut().find(|text| text.id == letter.number && letter.number > 0)
        else {
            return;
        };
        text.read += 1;
        let Some((process, now, told)) = by else { return };
        let is_twice = !text.is_renumbered && text.shown.is_some_and(|(other, then)| other == process || then < told);
        text.shown = Some((process, now));
        if is_twice {
            self.fail(format!("our client shows {:?} twice", letter.text.as_str()));
        }
    }

    /// Everything that can happen at once has happened; `is_slow` are those who do not read.
    pub(crate) fn rest(&mut self, waits: bool, is_slow: impl Fn(ConnId) -> bool) {
        if waits || self.is_off {
            return;
        }
        let late = self.sessions.iter().filter(|session| !is_slow(session.id)).find_map(|session| {
            let missing = session.expected.iter().find(|expected| !expected.is_optional());
            let id = session.id.0;
            match missing {
                Some(missing) => Some(format!("connection {id} waits for {missing:?}")),
                None if session.must_close => Some(format!("connection {id} is not closed")),
                None if session.pings > 0 && !session.ponged => Some(format!("connection {id} waits for a pong")),
                None => None,
            }
        });
        if let Some(late) = late {
            self.fail(late);
        }
    }

    /// The user of this connection has nothing left to wait for.
    pub(crate) fn all_is_shown(&mut self, id: ConnId) {
        let Some(user) = self.user_of(id).filter(|_| !self.retry_due) else { return };
        // An older connection of this user may still take what was written to it.
        let is_elsewhere = |text: &Text| {
            let conn = text.written.map(|(conn, _)| conn).or(text.meant_for);
            conn.is_some_and(|conn| conn != id && self.session(conn).is_some())
        };
        let owed = |text: &&Text| !text.is_refused && !text.may_be_lost && text.read == 0 && !is_elsewhere(text);
        if let Some(text) = self.users[user].texts.iter().find(owed) {
            let what = if text.is_stored { "stored" } else { "accepted" };
            self.fail(format!("{:?} for {} was {what} and is lost", text.text, self.users[user].name));
        }
    }
}

impl Expected {
    /// It may be left out.
    fn is_optional(&self) -> bool {
        matches!(self, Self::Unless { .. } | Self::Waiting | Self::Anything)
    }
}

fn text(user: &mut User, number: u64) -> Option<&mut Text> {
    let at = user.texts.binary_search_by_key(&number, |text| text.number).ok()?;
    Some(&mut user.texts[at])
}

fn set(users: &mut Vec<UserId>, user: UserId, present: bool) {
    users.retain(|other| *other != user);
    if present {
        users.push(user);
    }
}

fn ago(now: Moment, then: Moment) -> Ago {
    Ago { wall: then.wall, millis: (now.elapsed - then.elapsed).max(0) }
}

/// A word as it is repeated in a refusal.
fn repeated(word: &str) -> name::Text {
    name::Text::harmless(&word.chars().take(40).collect::<String>())
}
