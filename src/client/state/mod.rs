//! The mind of the client: what to send, show, ask, resend and confirm, and how it all ends.
//!
//! [`State::handle`] takes the time and one [`Event`] and appends [`Effect`]s; `drive` carries
//! them out in their order. No socket, thread, file or clock is known here, so every rule can
//! be played from a few scripted lines of a server.

pub mod complete;
pub mod direct;
pub mod download;
mod ending;
mod files;
pub mod framed;
pub mod handshake;
mod login;
mod modes;
mod peers;
mod private;
pub mod sharing;
mod talk;
pub mod told;
pub mod udp;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

pub use ending::{Code, End};

use crate::wire::control::{self, Say};
use crate::wire::name::{FileName, GroupName, UserName};
use crate::wire::peer::Frame;
use crate::wire::time::Moment;
use crate::wire::{self, Mode, Notice, Pass, Purpose};
use modes::Talk;
use peers::Peers;
pub use peers::{ANNOUNCED_MAX, OTHER_FIRST_MAX, PROOF_MAX, PeerEvent, PeerId, REFUSED_EVERY, UNPROVEN_MAX};
use private::Private;
pub use private::{ALIVE_EVERY, Hindrance, PeerNotice, SESSIONS_MAX};
use sharing::{Chore, Offered, Report, Sharing};
use talk::Pending;
pub use talk::{PENDING_MAX, TYPED_BYTES_MAX};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// The program begins.
    Start,
    /// The connection that was asked for is there.
    Connected,
    /// It could not be had, and why.
    NotConnected(String),
    /// A line of the server, its LF removed.
    Line(&'a [u8]),
    /// The server sent a line over the limit.
    Overlong,
    /// The connection has ended, and how.
    Lost(String),
    /// The highest number that an earlier run has shown, as [`Effect::Recall`] wanted to know.
    Recalled(u64),
    /// Somebody typed this, when asked this.
    Typed(Question, &'a [u8]),
    /// Nothing more will be typed.
    EndOfInput,
    /// Ctrl-C on an empty line, or a signal: leave soon.
    Leave,
    /// Everything shown up to this mark is on the screen.
    Displayed(u64),
    /// Nobody takes the output any more, or it cannot be written, and why.
    OutputClosed(Option<String>),
    /// Other clients can connect to this port; or they cannot, and why.
    Listening(Result<u16, String>),
    /// Something happened on a connection to another client.
    Peer(PeerId, PeerEvent),
    /// What an earlier run has offered, as [`Effect::RecallOffered`] wanted to know.
    Offered(Vec<Offered>),
    /// Something happened to a file, or on a connection for files.
    Files(sharing::Event),
    /// The time of [`State::deadline`] has come.
    Tick,
}

/// Something to be done. The order of effects is a promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Open a connection: [`Event::Connected`] or [`Event::NotConnected`] follows.
    Connect,
    /// Close it; nothing more is heard of it.
    Disconnect,
    /// Send a line.
    Send(String),
    /// Look up what was shown to this user of this store: [`Event::Recalled`] follows.
    Recall(Reader),
    /// Keep that everything up to this number has been shown.
    Remember(Reader, u64),
    /// Let the next line be typed. Asked of a person, it makes what was asked before void: the
    /// editor puts the line aside. An answer to that may be on its way all the same.
    Ask(Question),
    /// Show this; [`Event::Displayed`] reports the mark.
    Show(u64, Shown),
    /// Offer this user for completion, or no more.
    Present(UserName, bool),
    /// Nobody is known to be here.
    NobodyPresent,
    /// Offer this group for completion, or no more.
    Member(GroupName, bool),
    /// What lines mean from now on; in group mode also the group last used.
    Mode(Mode, Option<GroupName>),
    /// Let other clients connect, at the address that this one has on the connection to the
    /// server: [`Event::Listening`] follows.
    Listen,
    /// Connect to another client.
    Dial(PeerId, SocketAddr),
    /// Say this to it; in the handshake also wait for its answer.
    Tell(PeerId, Frame),
    /// Both sides have proven who they are: the connection is a private session from now on, or
    /// one for files. That is a matter of [`crate::client`] alone.
    Proven(PeerId, UserName, Purpose),
    /// Close it when all is said. What still comes is heard; [`PeerEvent::Ended`] may follow.
    HangUp(PeerId),
    /// Offer this user for completion where a private session is meant, or no more.
    Partner(UserName, bool),
    /// Work on a file: an [`Event::Files`] may follow.
    Do(Chore),
    /// Offer this file for completion.
    Known(FileName),
    /// Look up which files of this folder this user of this store has offered:
    /// [`Event::Offered`] follows.
    RecallOffered(Reader),
    /// Keep that he offers these.
    KeepOffered(Reader, Vec<Offered>),
    /// Show what is left, then end the program.
    End(End),
}

/// Whose numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reader {
    /// The identity of the server's store.
    pub store: String,
    /// The user as he is called there.
    pub user: String,
}

/// What a line is typed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// The name to log in with.
    Name,
    /// The password; it must not be seen or kept.
    Password,
    /// What to do next.
    Line,
}

/// One thing for the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// What the server tells, and when it came, in milliseconds since 1970.
    Notice(Notice, i64),
    /// All answers to this typed line have been shown; counted from 1 over the whole run.
    Done(u64),
    /// The connection is lost, and why; the client tries to get it back.
    Lost(String),
    /// It is back, after so many milliseconds.
    Back(i64),
    /// The session could not be resumed: the password is needed again.
    PasswordAgain,
    /// What happens between this client and others, and when, in milliseconds since 1970.
    Peer(PeerNotice, i64),
    /// What happens to files, and when, in milliseconds since 1970.
    Files(Report, i64),
}

/// How the program was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// A person types: lines one at a time, a refused log-in may be tried again.
    pub person: bool,
    /// Get a lost connection back.
    pub reconnect: bool,
    /// Start in general mode.
    pub chat: bool,
    /// `client send` or `client get`: one thing and out.
    pub errand: Option<Errand>,
}

/// What `client send` and `client get` are for.
#[derive(Clone, PartialEq, Eq)]
pub struct Errand {
    /// Who does it.
    pub user: String,
    /// His password.
    pub password: String,
    /// What is done.
    pub task: Task,
}

/// One thing to do, and out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// `client send`.
    Send {
        /// Who gets it.
        to: String,
        /// What is said.
        text: String,
    },
    /// `client get`.
    Get {
        /// Which file.
        file: String,
        /// Numbers of chunks, or nothing for all.
        chunks: String,
    },
}

// By hand, so that no log line can ever show a password.
impl std::fmt::Debug for Errand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Errand").field("user", &self.user).field("task", &self.task).finish_non_exhaustive()
    }
}

/// Between two pings, in milliseconds.
pub const PING_EVERY: i64 = 20_000;

/// Silence of the server after a question or a ping that makes the link dead, in milliseconds.
pub const SILENCE_MAX: i64 = 20_000;

/// First and longest pause before a new try to connect, in milliseconds.
pub const PAUSES: (i64, i64) = (200, 10_000);

/// How long a lost connection is sought, in milliseconds.
pub const OUTAGE_MAX: i64 = 300_000;

/// How long the answer to a log-out is awaited, in milliseconds.
pub const FAREWELL_MAX: i64 = 5_000;

/// Longest name of a store, in bytes; another server is none of ours.
const STORE_BYTES_MAX: usize = 64;

/// Everything the client knows and decides.
#[derive(Debug)]
pub struct State {
    rules: Rules,
    phase: Phase,
    now: Moment,
    effects: Vec<Effect>,

    // The link.
    /// Something is awaited from the server since then.
    waiting_since: Option<i64>,
    next_ping: Option<i64>,
    /// Since when the connection is lost, and why.
    outage: Option<(i64, String)>,
    pause: i64,

    // Who we are there.
    store: String,
    name: String,
    /// Typed together with the name, for the question that comes next.
    password: Option<String>,
    user: Option<UserName>,
    pass: Option<Pass>,
    refused: bool,

    // What the session is like there.
    talk: Talk,
    /// Back after an outage: until the server has said all, and the mode that it has told.
    returning: Option<Mode>,
    /// Since the last answered line: a question of group mode, and whether a refusal or the news
    /// of a group tell more of the group last used than the words of the line.
    question: Option<wire::Question>,
    group_is_settled: bool,

    // What was typed.
    /// The name or the password is asked for.
    asking: Option<Question>,
    /// Lines that are asked for and have not come.
    asked: usize,
    pending: VecDeque<Pending>,
    /// Lines tagged in this session, and lines of this run.
    tagged: u64,
    counted: u64,
    input_ended: bool,
    /// The typed line that ended it, 0 if none did.
    log_out_count: u64,
    /// All that came before the end of the input has been asked for, and has come.
    fenced: Fence,
    /// A log-out was asked for by other means than a typed line: until when, and is it Ctrl-C?
    leaving: Option<(i64, bool)>,

    // What was shown.
    /// Marks given to the screen.
    marks: u64,
    /// Marks and numbers that are on their way to the screen.
    on_the_way: VecDeque<(u64, u64)>,
    /// Marks of receipts that had waited, and whose they are.
    receipts_on_the_way: VecDeque<(u64, UserName)>,
    /// Those shown in this run, by reader.
    receipts: BTreeMap<UserName, Notice>,
    /// The highest number that was given to the screen, and that has been displayed.
    taken: u64,
    displayed: u64,
    /// The highest number that the server was told.
    told: u64,
    present: BTreeSet<UserName>,
    groups: BTreeSet<GroupName>,
    /// The names that come are the first page of a list.
    first_page: bool,
    errand_end: Option<End>,

    // Other clients.
    peers: Peers,
    private: Private,
    sharing: Sharing,
    /// The session in which the server was told of our files.
    told_in: Option<u64>,
}

/// Whether all that the server had to say before a ping has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fence {
    None,
    Asked,
    Passed,
}

/// How far the connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// A connection is being made.
    Connecting,
    /// The first line is awaited.
    Greeting,
    /// The server asks for a name, and so does the client.
    Name,
    /// The numbers of the user are being looked up, to log in or to resume.
    Recalling,
    /// A name, a token or a password was sent.
    Trying {
        /// It was a token.
        token: bool,
    },
    /// The server asks for a password, and so does the client.
    Password,
    /// Logged in.
    Online,
    /// Between two tries to connect; the next one is due then.
    Pausing(i64),
    /// Nothing will happen any more.
    Ended,
}

impl State {
    /// A client that has done nothing yet.
    pub fn new(rules: Rules, now: Moment) -> Self {
        let has_bar = rules.errand.as_ref().is_some_and(|errand| matches!(errand.task, Task::Get { .. }));
        // The hour of the start is chance enough for ties between holders.
        let sharing = Sharing::new(now.wall.unsigned_abs(), has_bar);
        Self {
            rules,
            phase: Phase::Connecting,
            now,
            effects: Vec::new(),
            waiting_since: None,
            next_ping: None,
            outage: None,
            pause: PAUSES.0,
            store: String::new(),
            name: String::new(),
            password: None,
            user: None,
            pass: None,
            refused: false,
            talk: Talk::default(),
            returning: None,
            question: None,
            group_is_settled: false,
            asking: None,
            asked: 0,
            pending: VecDeque::new(),
            tagged: 0,
            counted: 0,
            input_ended: false,
            log_out_count: 0,
            fenced: Fence::None,
            leaving: None,
            marks: 0,
            on_the_way: VecDeque::new(),
            receipts_on_the_way: VecDeque::new(),
            receipts: BTreeMap::new(),
            taken: 0,
            displayed: 0,
            told: 0,
            present: BTreeSet::new(),
            groups: BTreeSet::new(),
            first_page: true,
            errand_end: None,
            peers: Peers::default(),
            private: Private::default(),
            sharing,
            told_in: None,
        }
    }

    /// Decides what follows from `event` and appends it to `effects`.
    pub fn handle(&mut self, now: Moment, event: Event<'_>, effects: &mut Vec<Effect>) {
        self.now = now;
        std::mem::swap(&mut self.effects, effects);
        // What was shown at the very end must not be shown again either.
        if self.phase != Phase::Ended || matches!(event, Event::Displayed(_)) {
            self.decide(event);
        }
        std::mem::swap(&mut self.effects, effects);
    }

    /// When [`Event::Tick`] is due, in milliseconds of [`Moment::elapsed`].
    pub fn deadline(&self) -> Option<i64> {
        let pause = if let Phase::Pausing(until) = self.phase { Some(until) } else { None };
        let silence = self.waiting_since.map(|since| since + SILENCE_MAX);
        let leaving = self.leaving.map(|(until, _)| until);
        [pause, silence, leaving, self.next_ping, self.peers.deadline(), self.sharing.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    fn decide(&mut self, event: Event<'_>) {
        match event {
            Event::Start => self.effects.push(Effect::Connect),
            Event::Connected => self.greet(),
            Event::NotConnected(why) => self.not_connected(why),
            Event::Line(line) => self.hear(line),
            Event::Overlong => self.end(End::not_understood("a line without end")),
            Event::Lost(why) => self.lost(why),
            Event::Recalled(number) => self.recalled(number),
            Event::Typed(question, line) => self.typed(question, line),
            Event::EndOfInput => self.input_ends(),
            Event::Leave => self.leave(),
            Event::Displayed(mark) => self.displayed(mark),
            Event::OutputClosed(None) => self.end(End::ok()),
            Event::OutputClosed(Some(why)) => self.end(End::no_output(&why)),
            Event::Listening(Ok(port)) => self.say(Say::Port(port)),
            Event::Listening(Err(why)) => {
                // The server may still know the port of before.
                self.say(Say::Port(0));
                self.show_peer(PeerNotice::NotListening(why));
            }
            Event::Peer(peer, event) => self.hear_peer(peer, event),
            Event::Offered(offered) => self.hear_of_sharing(sharing::Event::Recalled(offered)),
            Event::Files(event) => self.hear_of_sharing(event),
            Event::Tick => self.tick(),
        }
    }

    fn tick(&mut self) {
        let now = self.now.elapsed;
        if let Some((until, by_interrupt)) = self.leaving
            && now >= until
        {
            return self.end(End::no_farewell(by_interrupt));
        }
        if self.waiting_since.is_some_and(|since| now >= since + SILENCE_MAX) {
            self.effects.push(Effect::Disconnect);
            return self.lost(format!("no answer for {} s", SILENCE_MAX / 1000));
        }
        if self.next_ping.is_some_and(|at| now >= at) {
            self.next_ping = Some(now + PING_EVERY);
            self.waiting_since.get_or_insert(now);
            self.say(Say::Ping);
        }
        if matches!(self.phase, Phase::Pausing(until) if now >= until) {
            self.phase = Phase::Connecting;
            self.effects.push(Effect::Connect);
        }
        self.look_after_peers();
        self.hear_of_sharing(sharing::Event::Tick);
    }

    fn hear(&mut self, line: &[u8]) {
        if matches!(self.phase, Phase::Connecting | Phase::Pausing(_)) {
            return;
        }
        self.waiting_since = None;
        let Ok(line) = std::str::from_utf8(line) else {
            return self.end(End::not_understood("bytes that are not text"));
        };
        if self.phase == Phase::Greeting {
            return self.hear_greeting(line);
        }
        let Ok(notice) = control::decode(line) else { return self.end(End::not_understood(line)) };
        if let Some(end) = End::by(&notice) {
            return self.server_ends(notice, end);
        }
        if self.phase == Phase::Online { self.hear_online(notice) } else { self.hear_before(notice) }
    }

    /// The server has said why it closes.
    fn server_ends(&mut self, notice: Notice, end: End) {
        let full = matches!(notice, Notice::Full | Notice::Crowded);
        if full && self.outage.is_some() {
            self.effects.push(Effect::Disconnect);
            return self.lost("no room on the server".to_owned());
        }
        if self.rules.errand.is_some() && notice == Notice::Goodbye {
            let end = self.errand_end.take().unwrap_or_else(End::ok);
            return self.end(end);
        }
        self.show(notice);
        self.end(end);
    }

    fn not_connected(&mut self, why: String) {
        if self.outage.is_some() {
            self.lost(why);
        } else {
            self.end(End::cannot_connect(&why));
        }
    }

    /// The link is dead: begins an outage, or goes on with one.
    fn lost(&mut self, why: String) {
        let was_greeting = self.phase == Phase::Greeting;
        self.hear_of_sharing(sharing::Event::Lost);
        (self.waiting_since, self.next_ping, self.returning) = (None, None, None);
        if self.user.is_none() && self.outage.is_none() {
            let end = if was_greeting { End::no_greeting(&why) } else { End::broken(&why) };
            return self.end(end);
        }
        if let Some((_, by_interrupt)) = self.leaving {
            return self.end(End::no_farewell(by_interrupt));
        }
        if !self.rules.reconnect {
            return self.end(End::broken(&why));
        }
        let now = self.now.elapsed;
        if self.outage.is_none() {
            self.pause = PAUSES.0;
            self.outage = Some((now, String::new()));
            self.put(Shown::Lost(why.clone()));
        }
        if let Some((since, last)) = &mut self.outage {
            *last = why;
            if now - *since >= OUTAGE_MAX {
                let end = End::given_up(now - *since, last);
                return self.end(end);
            }
        }
        self.phase = Phase::Pausing(now + self.pause);
        self.pause = (self.pause * 2).min(PAUSES.1);
    }

    fn end(&mut self, end: End) {
        self.phase = Phase::Ended;
        self.end_private();
        (self.waiting_since, self.next_ping, self.leaving) = (None, None, None);
        self.effects.push(Effect::End(end));
    }

    /// Sends something that is answered.
    fn say_and_wait(&mut self, say: Say<'_>) {
        self.waiting_since = Some(self.now.elapsed);
        self.say(say);
    }

    fn say(&mut self, say: Say<'_>) {
        self.effects.push(Effect::Send(say.spell()));
    }

    fn show(&mut self, notice: Notice) {
        self.put(Shown::Notice(notice, self.now.wall));
    }

    fn put(&mut self, shown: Shown) {
        self.marks += 1;
        self.effects.push(Effect::Show(self.marks, shown));
    }

    fn reader(&self) -> Reader {
        let user = self.user.as_ref().map_or(self.name.as_str(), UserName::as_str);
        Reader { store: self.store.clone(), user: user.to_owned() }
    }
}
