//! The rules once more, small and without the server's code: what must be said to whom, and what
//! must not.
//!
//! The model hears every event before the server does, and then everything that is written to a
//! client. Answers, prompts, presence and the news of groups it foretells exactly, in their order,
//! per connection ([`Expected`]). A text it follows one by one (`texts.rs`): who may get it, in
//! which order, how often, and when it may be lost. Receipts it counts, per sender and reader
//! (`receipts.rs`). What it leaves open is which way a text to a present user takes, over the disk
//! or not; that is the server's choice, and the model is told of it ([`Model::chose`]).
//!
//! A rule has one place: who is here in `login.rs`, what a line means in `commands.rs` and
//! `modes.rs`, who is in a group and hears of it in `groups.rs`, what the disk holds in `facts.rs`,
//! requests and pushes of framed users in `framed.rs`, who may know their addresses in `addresses.rs`.
//! `reach.rs` counts which rules a seed has come to.

mod addresses;
mod commands;
mod facts;
mod framed;
mod groups;
mod login;
mod modes;
mod reach;
mod receipts;
mod texts;

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};

use chinwag::server::ids::ConnId;
use chinwag::server::state::{Event, MAILBOX_MESSAGES_MAX};
use chinwag::wire::name::{self, UserName};
use chinwag::wire::time::Moment;
use chinwag::wire::{Ago, Notice, Refusal, Tag, line};

use crate::play::Setup;
use addresses::Addresses;
use commands::Choice;
use facts::Fact;
use framed::{Desk, Post};
use groups::Book;
use login::Failures;
use modes::{Belief, Talk};
pub(crate) use reach::{RULES, Reached};
pub(crate) use receipts::Behind;
use receipts::{Due, Told, Waiting};
use texts::Text;

/// Wrong passwords and unknown names in a row that are too many.
const TRIES: u8 = 3;

/// Time to log in, in milliseconds, unless `<timeout>` is shorter.
const LOGIN_MILLIS_MAX: i64 = 30_000;

/// Between two signs of life in the store, in milliseconds.
const HEARTBEAT: i64 = 10_000;

/// How long netcat may take to read what its end confirms, in milliseconds.
const CONFIRM_MILLIS_MAX: i64 = 10_000;

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
    /// The groups as people see them, and as the disk has them.
    groups: Book,
    stored_groups: Book,
    /// Facts that the store does not have yet, and those of which it has not said what became of them.
    facts: Vec<Fact>,
    at_store: VecDeque<Vec<Fact>>,
    /// So many of the first are of batches of the hub that are over.
    whole: usize,
    /// Changes at the store that had lost their ground, by their outcomes.
    groundless: BTreeSet<usize>,
    /// What became of requests that need the disk.
    outcomes: Vec<Outcome>,
    /// A text whose way is not yet known.
    choice: Option<Choice>,
    /// Texts that our client has shown, whose senders are told at the end of the batch.
    seen: Vec<receipts::Seen>,
    /// Receipts that the disk refused to keep or forget: whose, from whom, and whether it is only
    /// perhaps so.
    unkept: Vec<(UserId, UserId, bool)>,
    /// Texts that it refused to take back: whose.
    unreturned: Vec<(UserId, u64)>,
    /// Framed clients between their requests, and who may know where they listen.
    desk: Desk,
    addresses: Addresses,
    next_heartbeat: i64,
    stored_heartbeat: i64,
    /// Tags of sessions below this are of an earlier run of the server.
    first_of_run: u64,
    /// Counts the texts, to tell their order; also groups and receipts.
    counted: u64,
    /// What somebody at our client took his line for, by its tag.
    beliefs: Vec<Belief>,
    /// The disk refused something that is tried again with the next sign of life.
    retry_due: bool,
    /// The same until that has been done.
    owes: bool,
    /// Texts that were read after one that came back, until the disk has forgotten them.
    uncovered: Vec<(UserId, u64)>,
    /// When it was last tried again.
    last_retry: i64,
    stopping: bool,
    /// Something happens that is not modelled: new accounts, small mailboxes, talk between clients.
    is_off: bool,
    reached: Reached,
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
    failures: Failures,
    /// Whom this user blocks.
    blocks: Vec<UserId>,
    tokens: Tokens,
    /// Every line that had an effect, however long ago.
    lines: Vec<(Tag, Fate)>,
    /// What was written to this user, oldest first.
    texts: Vec<Text>,
    /// Of these, what was sent with a wish for receipts and is not yet told: as written, as shown.
    unwritten: Vec<(u64, ConnId)>,
    unseen: Vec<(u64, ConnId)>,
    /// What others have seen of this user while he was away.
    waiting: Vec<Waiting>,
    stored: Stored,
}

/// What the disk holds of a user.
#[derive(Default)]
struct Stored {
    online: bool,
    seen: Option<i64>,
    blocks: Vec<UserId>,
    tokens: Tokens,
    waiting: Vec<Waiting>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Tokens {
    latest: Option<u128>,
    used: Option<u128>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Open,
    Done,
    Failed,
    /// It reached the disk, but what it was to change was no longer there.
    Groundless,
}

/// What became of a line of our client.
#[derive(Debug, Clone)]
enum Fate {
    /// It waits for the disk, and this is the answer. If the disk refuses it is carried out again,
    /// unless it has had an effect all the same.
    Waits {
        outcome: usize,
        answer: Option<Notice>,
        has_effect: bool,
    },
    Done(Option<Notice>),
}

struct Session {
    id: ConnId,
    peer: IpAddr,
    is_ours: bool,
    stage: Stage,
    /// When it must have logged in.
    limit: i64,
    /// What our client says it has shown, and what it said when this visit began.
    shown: u64,
    shown_at_first: u64,
    expected: VecDeque<Expected>,
    talk: Talk,
    /// Receipts on their way to it, and those that had waited and are not confirmed.
    due: Vec<Due>,
    told: Vec<Told>,
    /// Those that netcat's end has confirmed; a break takes that back.
    confirmed: Vec<Told>,
    /// The last number of a text.
    last: u64,
    /// Pings without a pong, and whether a pong came since the last ping.
    pings: u32,
    ponged: bool,
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
    /// It is a framed one.
    post: Option<Post>,
    /// A framed log-in has replaced it.
    is_replaced: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Name { unknown: u8 },
    Password(UserId),
    Online(UserId),
    Gone(Option<UserId>),
}

/// What a connection must be told next, texts and receipts aside.
#[derive(Debug)]
enum Expected {
    This(Notice),
    /// This or nothing, once the disk has it; or that the disk refused.
    AfterDisk(usize, Option<Notice>),
    /// The answer to a text whose way is not yet known.
    Choice,
    Welcome(UserId),
    /// How many messages wait, if any do.
    Waiting,
    /// What this reader has seen meanwhile.
    Meanwhile(Told),
    /// Where a user listens.
    Address(UserId, SocketAddr),
    /// A broadcast: from whom, what.
    Broadcast(UserId, Box<str>),
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
            failures: Failures::default(),
            blocks: Vec::new(),
            tokens: Tokens::default(),
            lines: Vec::new(),
            texts: Vec::new(),
            unwritten: Vec::new(),
            unseen: Vec::new(),
            waiting: Vec::new(),
            stored: Stored::default(),
        };
        Self {
            block: i64::from(setup.block) * 1000,
            timeout: i64::from(setup.timeout) * 1000,
            hide_blockers: setup.hide_blockers,
            lobby_max,
            users: accounts.iter().map(user).collect(),
            sessions: Vec::new(),
            groups: Book::default(),
            stored_groups: Book::default(),
            facts: Vec::new(),
            at_store: VecDeque::new(),
            whole: 0,
            groundless: BTreeSet::new(),
            outcomes: Vec::new(),
            choice: None,
            seen: Vec::new(),
            unkept: Vec::new(),
            unreturned: Vec::new(),
            desk: Desk::default(),
            addresses: Addresses::default(),
            next_heartbeat: HEARTBEAT,
            stored_heartbeat: 0,
            first_of_run: 0,
            counted: 0,
            beliefs: Vec::new(),
            retry_due: false,
            owes: false,
            uncovered: Vec::new(),
            last_retry: i64::MIN,
            stopping: false,
            is_off: setup.allow_new_users || setup.mailbox_max < MAILBOX_MESSAGES_MAX,
            reached: Reached::default(),
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

    /// Which rules it has come to.
    pub(crate) fn reached(&self) -> Reached {
        self.reached
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
        let online = self.sessions.iter().filter_map(|session| self.limit(session));
        let locked = self.users.iter().map(|user| user.failures.locked_until);
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

    /// Counts on: numbers that are never used again.
    fn count(&mut self) -> u64 {
        self.counted += 1;
        self.counted
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
            Event::Opened(id, peer) => self.open(now, *id, *peer),
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
            Event::Mail(id, Some(page)) => self.read_before(*id, page),
            Event::Overlong(_) | Event::Overrun(_) => self.fail("the simulation keeps to the limits".to_owned()),
            Event::Drained(id) => self.all_pushed(*id),
            Event::Stalled(id) => self.is_behind(*id),
            Event::Flushed | Event::Tick => {}
            Event::Committed(_) | Event::StoreFailed(_) | Event::Mail(..) | Event::Enrolled(..) => {}
            Event::Asked(id, peer, ask) => self.asked(now, *id, *peer, *ask),
            Event::Hung(id) => self.hung(*id),
            Event::Pushed { conn, number, outcome } => self.pushed(now, *conn, *number, *outcome),
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
            Notice::Delivered(readers) => return self.hear_receipt(id, readers, false),
            Notice::Seen(readers) => return self.hear_receipt(id, readers, true),
            Notice::Pong if session.pings > 0 => {
                (session.pings, session.ponged) = (session.pings - 1, true);
                return;
            }
            _ => {}
        }
        while let Some(expected) = self.session_mut(id).and_then(|session| session.expected.pop_front()) {
            match self.is_met(id, &expected, notice) {
                Ok(true) => return,
                Ok(false) if self.is_optional(&expected) => self.leave_out(id, &expected),
                Ok(false) => {
                    return self.fail(format!("connection {} is told {notice:?} instead of {expected:?}", id.0));
                }
                Err(why) => return self.fail(why),
            }
        }
        self.fail(format!("connection {} is told {notice:?} at {} ms, and nothing was due", id.0, now.elapsed));
    }

    fn is_met(&mut self, id: ConnId, expected: &Expected, notice: &Notice) -> Result<bool, String> {
        Ok(match expected {
            Expected::This(due) => due == notice,
            Expected::AfterDisk(outcome, due) => match self.outcomes[*outcome] {
                Outcome::Done => due.as_ref() == Some(notice),
                Outcome::Failed | Outcome::Groundless => *notice == Notice::Refused(Refusal::DiskFailed),
                Outcome::Open => return Err(format!("{notice:?} is said before the disk has it")),
            },
            Expected::Choice => false,
            Expected::Welcome(user) => {
                let Notice::Welcome { user: name, pass } = notice else { return Ok(false) };
                let (is_ours, used) = self.session(id).map_or((false, None), |session| (session.is_ours, session.used));
                self.set_tokens(*user, Tokens { latest: pass.map(|pass| pass.token), used });
                *name == self.users[*user].name && pass.is_some() == is_ours
            }
            Expected::Waiting => matches!(notice, Notice::Waiting { count: 1.. }),
            Expected::Meanwhile(told) => {
                let told = told.clone();
                self.hear_meanwhile(id, &told, notice)?
            }
            Expected::Address(of, due) => match notice {
                Notice::Address { user, at, .. } => *user == self.users[*of].name && at == due,
                _ => false,
            },
            Expected::Broadcast(from, text) => match notice {
                Notice::Said(letter) => letter.from == self.users[*from].name && letter.text.as_str() == &**text,
                _ => false,
            },
        })
    }

    /// Whether nothing need be said of it.
    fn is_optional(&self, expected: &Expected) -> bool {
        match expected {
            Expected::Waiting => true,
            Expected::AfterDisk(outcome, None) => self.outcomes[*outcome] == Outcome::Done,
            Expected::Meanwhile(told) => told.is_optional(),
            _ => false,
        }
    }

    /// Nothing was said of it.
    fn leave_out(&mut self, id: ConnId, expected: &Expected) {
        if let Expected::Meanwhile(told) = expected {
            self.nothing_meanwhile(id, told);
        }
    }

    /// Everything that can happen at once has happened; `is_slow` are those who do not read.
    pub(crate) fn rest(&mut self, waits: bool, is_slow: impl Fn(ConnId) -> bool) {
        if waits || self.is_off {
            return;
        }
        self.forget_pushed();
        self.forget_read();
        let late = self.sessions.iter().filter(|session| !is_slow(session.id)).find_map(|session| {
            let missing = session.expected.iter().find(|expected| !self.is_optional(expected));
            let id = session.id.0;
            match missing {
                Some(missing) => Some(format!("connection {id} waits for {missing:?}")),
                None if session.must_close => Some(format!("connection {id} is not closed")),
                None if session.pings > 0 && !session.ponged && !self.waits_for_another(session) => {
                    Some(format!("connection {id} waits for a pong"))
                }
                None => self.untold(session),
            }
        });
        if let Some(late) = late {
            self.fail(late);
        }
    }
}

impl Session {
    fn new(id: ConnId, peer: IpAddr, limit: i64) -> Self {
        Self {
            id,
            peer,
            is_ours: false,
            stage: Stage::Name { unknown: 0 },
            limit,
            shown: 0,
            shown_at_first: 0,
            expected: VecDeque::new(),
            talk: Talk::default(),
            due: Vec::new(),
            told: Vec::new(),
            confirmed: Vec::new(),
            last: 0,
            pings: 0,
            ponged: false,
            left: 0,
            must_close: false,
            is_void: false,
            ring: VecDeque::new(),
            used: None,
            post: None,
            is_replaced: false,
        }
    }

    /// It waits to log in.
    fn is_waiting(&self) -> bool {
        matches!(self.stage, Stage::Name { .. } | Stage::Password(_))
    }
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
