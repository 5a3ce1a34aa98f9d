//! The mind of the server: every rule, and nothing that touches the world.
//!
//! [`State::handle`] takes the time and one [`Event`] and appends [`Effect`]s; the hub carries
//! them out in their order. The state owns no socket, thread, channel, file or clock, which is
//! why every rule can be played in microseconds from a transcript.

mod blocks;
mod dialogue;
mod framed;
mod groups;
mod introductions;
mod journal;
mod lines;
mod login;
mod mailbox;
mod modes;
mod presence;
mod receipts;
pub mod rendezvous;
mod roster;
mod tokens;
mod tracker;
mod unconfirmed;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};

pub use crate::server::ids::ConnId;
pub use groups::{Change, GROUP_MEMBERS_MAX, GROUP_NAMES_MAX, GROUPS_MAX, GROUPS_OWNED_MAX, GroupId};
pub use introductions::REQUESTS_MAX;
pub use login::source;
pub use mailbox::{MAILBOX_BYTES_MAX, MAILBOX_MESSAGES_MAX};
pub use presence::CROWD_MIN;
pub use receipts::{RECEIPTS_MAX, Receipt};
pub use tokens::Tokens;
pub use tracker::{CHUNKS_OF_ONE_USER_MAX, CHUNKS_TOTAL_MAX, FILES_MAX, FILES_OF_ONE_USER_MAX, HOLDINGS_BYTES_MAX};
pub use unconfirmed::UNCONFIRMED_MAX;

use crate::server::ids::IdMap;
use crate::wire::framed::Answer;
use crate::wire::name::{GroupName, Text, UserName};
use crate::wire::time::Moment;
use crate::wire::{Letter, Notice, Tag};
use dialogue::Session;
use framed::Strangers;
use groups::Groups;
use introductions::Introductions;
use journal::Journal;
use login::Lobby;
use presence::Move;
use receipts::Fact;
use roster::{Roster, UserId};
use tracker::Tracker;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// A connection was accepted from this address.
    Opened(ConnId, IpAddr),
    /// A line arrived, its LF removed.
    Line(ConnId, &'a [u8]),
    /// A line over the limit was dropped.
    Overlong(ConnId),
    /// The peer will send no more but may still read.
    EndOfInput(ConnId),
    /// The connection is gone; the last word about it.
    Closed(ConnId, Parting),
    /// The socket takes no more for now: output waits.
    Stalled(ConnId),
    /// All output that waited has been written.
    Drained(ConnId),
    /// More output waits than the limit allows.
    Overrun(ConnId),
    /// All that was sent so far has been offered to the sockets: the end of a batch. Its records
    /// go to the store together with those that follow from this.
    Flushed,
    /// The oldest so many records are on the disk.
    Committed(usize),
    /// The oldest so many records could not be stored, none of them.
    StoreFailed(usize),
    /// The page that this connection waits for, oldest first; `None` if it could not be read.
    Mail(ConnId, Option<Vec<Letter>>),
    /// A new account was written to Credentials.txt, or not.
    Enrolled(ConnId, bool),
    /// A framed client asks something, on a connection of its own; [`Effect::Answer`] follows.
    Asked(ConnId, IpAddr, Ask<'a>),
    /// The connection on which somebody asked is gone.
    Hung(ConnId),
    /// What became of the oldest push to a framed client; `number` is that of its text, if it had
    /// one that is to be confirmed.
    Pushed {
        /// To whom.
        conn: ConnId,
        /// Which text.
        number: Option<u64>,
        /// How it went.
        outcome: Outcome,
    },
    /// The server must stop.
    Stop,
    /// The time of [`State::deadline`] has come.
    Tick,
}

/// What stands in the frames of a framed client.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ask<'a> {
    /// The first frame of a connection, if it is no log-in.
    Request(&'a [u8]),
    /// A try to log in: the second and third frame, and two more for every further try.
    LogIn {
        /// A name, perhaps.
        name: &'a [u8],
        /// A password, perhaps.
        password: &'a [u8],
    },
    /// What follows a right password: where the client listens.
    Listen {
        /// An address, perhaps.
        host: &'a [u8],
        /// A port, perhaps.
        port: &'a [u8],
    },
}

// By hand, so that no log line can ever show a password or a token.
impl std::fmt::Debug for Ask<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Request(_) => "Request",
            Self::LogIn { .. } => "LogIn",
            Self::Listen { .. } => "Listen",
        })
    }
}

/// What became of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The client has read it: it closed the connection in order.
    Delivered,
    /// It was written, but the client did not close in order or in time.
    Doubtful,
    /// It could not be written.
    Failed,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parting {
    /// In order, as far as the kernel knows: everything written was taken.
    Clean,
    /// By a reset, a failed write or a link that went silent: the last texts may be lost.
    Cut,
}

/// Something to be done. The order of effects is a promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Tell one connection.
    Send(ConnId, Notice),
    /// Tell many connections the same.
    Cast(Vec<ConnId>, Notice),
    /// Tell many connections the same several things.
    CastAll(Vec<ConnId>, Vec<Notice>),
    /// Write to the store; reported by [`Event::Committed`] in the same order.
    Store(Record),
    /// Keep a place in this connection's output for an answer that waits for the disk: all that
    /// follows for this connection waits behind it.
    Hold(ConnId),
    /// Fill the oldest place kept for this connection, with an answer or with nothing.
    Release(ConnId, Option<Notice>),
    /// Read the next page of a mailbox: messages with a number above `after`.
    Fetch {
        /// Who waits for it.
        conn: ConnId,
        /// Whose mailbox.
        user: UserName,
        /// The highest number already read.
        after: u64,
    },
    /// Append an account to Credentials.txt; reported by [`Event::Enrolled`].
    Enroll {
        /// Who asks.
        conn: ConnId,
        /// The new name.
        user: UserName,
        /// The password as typed.
        password: String,
    },
    /// Our client is at the other end: control lines from now on.
    Adopt(ConnId),
    /// Answer a framed client on the connection on which it asked, and close that; after
    /// [`Answer::WrongPassword`] and the like it may try again, and after [`Answer::LoggedIn`] it
    /// has to say where it listens.
    Answer(ConnId, Answer),
    /// A framed client has logged in: what is sent to this connection is pushed to that address,
    /// in order, one frame for each notice; [`Event::Pushed`] tells what became of each.
    Listen(ConnId, SocketAddr),
    /// Take no more lines from this connection until [`Effect::Resume`].
    Pause(ConnId),
    /// Take lines again.
    Resume(ConnId),
    /// Write what waits, then close.
    Close {
        /// Which connection.
        conn: ConnId,
        /// Texts are unconfirmed: a reset within a second still counts as [`Parting::Cut`].
        watch: bool,
    },
}

/// Something that must outlive the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// Keeps a message until all of `to` have got it.
    Message {
        /// Whose mailboxes.
        to: Vec<UserName>,
        /// What waits there.
        letter: Letter,
        /// What the sender's client calls it, so that sending it twice stores it once.
        tag: Option<Tag>,
    },
    /// Forgets what waits for `user`, up to and including this number.
    Confirmed {
        /// Whose mailbox.
        user: UserName,
        /// The highest number that was read.
        upto: u64,
    },
    /// Keeps what waits for `to` of the texts that `by` has seen, or forgets it.
    Receipt {
        /// Who sent them.
        to: UserName,
        /// Who saw them.
        by: UserName,
        /// All of it, not only what is new.
        receipt: Option<Receipt>,
    },
    /// `by` blocks `whom`.
    Block {
        /// Who blocks.
        by: UserName,
        /// Who is blocked.
        whom: UserName,
    },
    /// `by` takes the block of `whom` back.
    Unblock {
        /// Who blocked.
        by: UserName,
        /// Who was blocked.
        whom: UserName,
    },
    /// A group is not as it was.
    Group {
        /// Which one.
        group: GroupId,
        /// What has become of it.
        change: Change<UserName>,
    },
    /// What resumes the last session of `user`.
    Tokens {
        /// Whose session.
        user: UserName,
        /// The tokens as hashes.
        tokens: Tokens,
    },
    /// `user` is online from now on; after a crash the last heartbeat counts as his end.
    CameOnline {
        /// Who.
        user: UserName,
        /// When, in milliseconds since 1970, UTC.
        wall: i64,
    },
    /// `user` was online until now.
    WentOffline {
        /// Who.
        user: UserName,
        /// When, in milliseconds since 1970, UTC.
        wall: i64,
    },
    /// Only keeps the place of an answer among the others.
    Nothing,
    /// The server was alive at this time.
    Heartbeat {
        /// When, in milliseconds since 1970, UTC.
        wall: i64,
    },
}

impl Record {
    /// Whether somebody's answer waits for this record; the others may be stored a little later.
    pub fn is_awaited(&self) -> bool {
        !matches!(self, Self::CameOnline { .. } | Self::WentOffline { .. } | Self::Heartbeat { .. })
    }

    /// What the record costs in memory until it is stored, in bytes, roughly.
    pub fn cost(&self) -> usize {
        match self {
            Self::Message { to, letter, .. } => 64 * to.len() + letter.text.as_str().len(),
            Self::Group { change: Change::Made { members, .. }, .. } => 64 * members.len(),
            _ => 64,
        }
    }
}

/// What an earlier run left, as the store read it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remembered {
    /// Every name the store knows.
    pub users: Vec<RememberedUser>,
    /// Who blocks whom.
    pub blocks: Vec<(UserName, UserName)>,
    /// Every group: its number, name, owner and members.
    pub groups: Vec<(GroupId, GroupName, UserName, Vec<UserName>)>,
    /// Receipts that wait: for whom, and from whom.
    pub receipts: Vec<(UserName, UserName, Receipt)>,
    /// Messages that wait, by what their senders' clients call them: from, tag, to.
    pub tags: Vec<(UserName, Tag, UserName)>,
    /// The identity of the store, to which message numbers belong.
    pub store: String,
    /// The first message number of this run, above all numbers ever used.
    pub first_number: u64,
}

/// SHA-256 of a token.
pub type TokenHash = [u8; 32];

/// One user as an earlier run left him.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RememberedUser {
    /// Who.
    pub name: UserName,
    /// Until when he was online, in milliseconds since 1970, UTC.
    pub last_seen: Option<i64>,
    /// How many messages wait for him.
    pub waiting: u32,
    /// Their texts together, in bytes.
    pub bytes: usize,
    /// The highest number that waits, 0 if none does.
    pub last: u64,
    /// What resumes his last session.
    pub tokens: Tokens,
}

/// What the operator chose.
#[derive(Debug, Clone)]
pub struct Rules {
    /// How long three wrong passwords lock a name, in milliseconds; 0: not at all.
    pub block: i64,
    /// How long a user may be silent, in milliseconds.
    pub timeout: i64,
    /// How long a framed client may give no sign of life, in milliseconds.
    pub heartbeat_timeout: i64,
    /// Unknown names may become accounts (UNSW 2021).
    pub allow_new_users: bool,
    /// Users who block the asker are hidden from his lists (UNSW 2021).
    pub hide_blockers: bool,
    /// A private session needs the consent of the other (UNSW 2021).
    pub ask_private: bool,
    /// How many messages may wait for one user.
    pub mailbox_max: u32,
    /// How many connections may wait to log in.
    pub lobby_max: usize,
}

/// Between two heartbeats of the store, in milliseconds.
const HEARTBEAT: i64 = 10_000;

/// Everything the server knows and decides.
#[derive(Debug)]
pub struct State {
    rules: Rules,
    roster: Roster,
    groups: Groups,
    introductions: Introductions,
    tracker: Tracker,
    sessions: IdMap<Session>,
    lobby: Lobby,
    /// New accounts on their way to Credentials.txt.
    enrolling: HashMap<ConnId, (UserName, String)>,
    /// Framed clients that have the right password and have still to say where they listen.
    entering: IdMap<framed::Entering>,
    /// Wrong log-ins of names that do not exist, in the framed dialect.
    strangers: Strangers,
    /// Somebody moves from one session to another, which nobody else hears of.
    moving: bool,
    /// Who is here, in the order of the lists.
    online: BTreeMap<UserName, UserId>,
    journal: Journal,
    timers: BTreeSet<(i64, Timer)>,
    /// Comings and goings that a crowd is still to be told of.
    moves: Vec<Move>,
    /// Connections whose mailbox or list has another page.
    unfinished: Vec<ConnId>,
    /// Connections whose mailbox could not be read; tried again at the next heartbeat.
    unread: Vec<ConnId>,
    next_number: u64,
    /// The identity of the store, for our client.
    store_name: Text,
    /// Where tokens come from.
    random: Random,
    /// Our client's name for the line in hand.
    tag: Option<Tag>,
    /// Texts of the line in hand bring receipts.
    receipt: bool,
    /// What became of texts in this batch.
    facts: Vec<Fact>,
    /// Counts the batches of the hub: what an earlier one sent has been offered to the socket.
    batch: u32,
    stopping: bool,
    now: Moment,
    /// The effects of the event in hand; the caller's buffer while an event is handled.
    effects: Vec<Effect>,
}

/// A source of numbers that nobody can guess; a test brings its own.
struct Random(Box<dyn FnMut() -> u128 + Send>);

impl std::fmt::Debug for Random {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Random")
    }
}

/// What a point in time is kept for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// The session may have been silent for too long.
    Silence(ConnId),
    /// The session has paid for its commands.
    Resume(ConnId),
    /// Comings and goings have been gathered for long enough.
    Moves,
    /// The store notes that the server is alive.
    Heartbeat,
}

impl State {
    /// A server with these accounts and what an earlier run left; `start` is the first moment.
    pub fn new(
        rules: Rules,
        accounts: impl IntoIterator<Item = (UserName, String)>,
        remembered: Remembered,
        start: Moment,
        random: impl FnMut() -> u128 + Send + 'static,
    ) -> Self {
        let mut roster = Roster::default();
        for (name, password) in accounts {
            roster.admit(name, password);
        }
        for user in remembered.users {
            roster.remember(user, start);
        }
        for (from, tag, to) in remembered.tags {
            let (from, to) = (roster.id(&from), roster.id(&to));
            roster.remember_line(from, tag, to, start);
        }
        for (to, by, receipt) in remembered.receipts {
            let (to, by) = (roster.id(&to), roster.id(&by));
            roster[to].receipts.add(by, receipt);
        }
        for (by, whom) in remembered.blocks {
            let (by, whom) = (roster.id(&by), roster.id(&whom));
            roster[by].blocks.insert(whom);
            roster[by].stored_blocks.insert(whom);
        }
        let mut groups = Groups::default();
        for (group, name, owner, members) in remembered.groups {
            let owner = roster.id(&owner);
            groups.remember(group, name, owner, members.iter().map(|member| roster.id(member)).collect());
        }
        Self {
            rules,
            roster,
            groups,
            introductions: Introductions::default(),
            tracker: Tracker::default(),
            sessions: IdMap::default(),
            lobby: Lobby::default(),
            enrolling: HashMap::new(),
            entering: IdMap::default(),
            strangers: Strangers::default(),
            moving: false,
            online: BTreeMap::new(),
            journal: Journal::default(),
            timers: BTreeSet::from([(start.elapsed + HEARTBEAT, Timer::Heartbeat)]),
            moves: Vec::new(),
            unfinished: Vec::new(),
            unread: Vec::new(),
            next_number: remembered.first_number,
            store_name: Text::harmless(&remembered.store),
            random: Random(Box::new(random)),
            tag: None,
            receipt: false,
            facts: Vec::new(),
            batch: 0,
            stopping: false,
            now: start,
            effects: Vec::new(),
        }
    }

    /// Decides what follows from `event` and appends it to `effects`.
    pub fn handle(&mut self, now: Moment, event: Event<'_>, effects: &mut Vec<Effect>) {
        self.now = now;
        std::mem::swap(&mut self.effects, effects);
        self.decide(event);
        std::mem::swap(&mut self.effects, effects);
    }

    /// When [`Event::Tick`] is due, in milliseconds of [`Moment::elapsed`].
    pub fn deadline(&self) -> Option<i64> {
        self.timers.first().map(|&(at, _)| at)
    }

    /// After [`Event::Stop`]: whether every connection is gone and every record reported.
    pub fn is_settled(&self) -> bool {
        self.sessions.is_empty() && self.journal.is_empty()
    }

    /// How many messages wait, for how many users: for the start line.
    pub fn waiting(&self) -> (u64, u64) {
        self.roster.waiting()
    }

    /// How many names have messages, blocks or a past here but no account: for the start line.
    pub fn hidden_names(&self) -> u64 {
        self.roster.hidden()
    }

    fn decide(&mut self, event: Event<'_>) {
        match event {
            Event::Opened(conn, peer) => self.open(conn, peer),
            Event::Line(conn, line) => self.hear(conn, line),
            Event::Overlong(conn) => self.refuse_overlong(conn),
            Event::EndOfInput(conn) => self.part(conn, None),
            Event::Closed(conn, parting) => self.close(conn, parting),
            Event::Stalled(conn) => self.set_stalled(conn, true),
            Event::Drained(conn) => self.set_stalled(conn, false),
            Event::Overrun(conn) => self.cut_off(conn),
            Event::Flushed => self.turn_pages(),
            Event::Committed(records) => self.committed(records),
            Event::StoreFailed(records) => self.store_failed(records),
            Event::Mail(conn, page) => self.deliver_page(conn, page),
            Event::Enrolled(conn, written) => self.enrolled(conn, written),
            Event::Asked(conn, peer, ask) => self.asked(conn, peer, ask),
            Event::Hung(conn) => drop(self.entering.remove(&conn)),
            Event::Pushed { conn, number, outcome } => self.pushed(conn, number, outcome),
            Event::Stop => self.stop(),
            Event::Tick => self.tick(),
        }
    }

    fn tick(&mut self) {
        while let Some(&(at, timer)) = self.timers.first() {
            if at > self.now.elapsed {
                return;
            }
            self.timers.pop_first();
            match timer {
                Timer::Silence(conn) => self.check_silence(conn),
                Timer::Resume(conn) => self.resume(conn),
                Timer::Moves => self.tell_moves(),
                Timer::Heartbeat => self.heartbeat(),
            }
        }
    }

    fn heartbeat(&mut self) {
        self.timers.insert((self.now.elapsed + HEARTBEAT, Timer::Heartbeat));
        self.retry_records();
        if !self.online.is_empty() {
            self.store_quietly(Record::Heartbeat { wall: self.now.wall });
        }
        self.unfinished.append(&mut self.unread);
    }

    fn stop(&mut self) {
        self.stopping = true;
        let mut conns: Vec<ConnId> = self.sessions.keys().copied().collect();
        conns.sort_unstable();
        for conn in conns {
            self.turn_out(conn, Notice::Stopping);
        }
    }

    fn send(&mut self, conn: ConnId, notice: Notice) {
        self.effects.push(Effect::Send(conn, notice));
    }

    fn cast(&mut self, receivers: Vec<ConnId>, notice: Notice) {
        if !receivers.is_empty() {
            self.effects.push(Effect::Cast(receivers, notice));
        }
    }
}
