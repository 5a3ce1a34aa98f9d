//! The mind of the client of the Basel systems: names, rooms and groups by way of a rendezvous
//! server, and talk straight to the others, all by datagrams.
//!
//! A datagram may be lost, late or doubled. So there is one question to the server at a time; it
//! is repeated where a repetition does no harm, and silence is told. What is said to others is
//! sent once, as their programs do it: nobody confirms anything.

mod answers;
mod commands;
mod others;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{SocketAddr, SocketAddrV4};

use super::complete::Offer;
use super::ending::{Code, End};
use super::told::Told;
use crate::wire::datagram::{Answer, Ask, DATAGRAM_BYTES_MAX, Spelling, Talk};
use crate::wire::name::Text;
use crate::wire::time::Moment;
pub use commands::COMMANDS;

/// How often a question is sent before its silence is told; one that a repetition could change
/// is sent once.
pub const TRIES_MAX: u32 = 3;

/// How long an answer is awaited before the next try, in milliseconds.
pub const TRY_MILLIS: i64 = 1_000;

/// How much later than itself a datagram may come a second time, in milliseconds.
pub const DOUBLE_MILLIS: i64 = 250;

/// Questions that may wait for the answer of another; more are refused.
pub const QUESTIONS_MAX: usize = 16;

/// Between two signs of life, in milliseconds: the server forgets who is silent.
pub const REFRESH_EVERY: i64 = 10 * 60 * 1000;

/// How long the members of a group may take to say that they are there, in milliseconds.
pub const MEMBERS_MILLIS: i64 = 2_000;

/// Between two times that we say so ourselves, in milliseconds, however often we are asked.
pub const HERE_EVERY: i64 = 1_000;

/// Silence of the server after which a list of peers is complete, in milliseconds.
pub const LIST_MILLIS: i64 = 200;

/// How long the answer to our goodbye is awaited, in milliseconds.
pub const FAREWELL_MAX: i64 = 1_000;

/// Addresses whose names are known, and peers in a room; more are not kept.
pub const PEERS_MAX: usize = 1024;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// The program begins.
    Start,
    /// A datagram came to our own port.
    Heard(SocketAddr, &'a [u8]),
    /// A datagram came to the group that we are in.
    GroupHeard(SocketAddr, &'a [u8]),
    /// We are in the group that we wanted to enter, and send to it from this address.
    Entered(SocketAddr),
    /// We are not, and why.
    NotEntered(String),
    /// A datagram could not be sent, and why.
    Unsent(String),
    /// Somebody typed this.
    Typed(&'a [u8]),
    /// Nothing more will be typed.
    EndOfInput,
    /// Ctrl-C on an empty line, or a signal.
    Leave,
    /// Nobody takes what is shown any more.
    OutputClosed,
    /// The time of [`State::deadline`] has come.
    Tick,
}

/// Something to be done. The order of effects is a promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Send a datagram.
    Transmit(SocketAddr, String),
    /// Enter a multicast group, out of the one before: [`Event::Entered`] or
    /// [`Event::NotEntered`] follows.
    Enter(SocketAddrV4),
    /// Leave the group.
    LeaveGroup,
    /// Send a datagram to the group.
    Shout(String),
    /// Let the next line be typed, or the one that is being typed be so under another prompt.
    Ask,
    /// Offer this with the Tab key, under this prompt.
    Offer(Offer),
    /// Show this.
    Show(Told),
    /// End the program.
    End(End),
}

/// How the program was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// A person types: lines are taken while answers are awaited.
    pub person: bool,
    /// Where the server is.
    pub server: SocketAddr,
    /// A name to be registered at once.
    pub name: Option<String>,
}

/// Who gets what is typed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum To {
    Nobody,
    Peer(SocketAddr),
    Room { name: String, peers: Vec<SocketAddr> },
    Group { name: String, place: SocketAddrV4, own: SocketAddr },
}

/// A question to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Question {
    ask: Ask,
    /// Its answer is of no interest to the user.
    quiet: bool,
}

/// The question whose answer is awaited.
#[derive(Debug)]
struct Awaited {
    question: Question,
    tries: u32,
    due: i64,
}

/// Everything this client knows.
#[derive(Debug)]
pub struct State {
    rules: Rules,
    now: Moment,
    effects: Vec<Effect>,
    ended: bool,

    // The server.
    awaited: Option<Awaited>,
    questions: VecDeque<Question>,
    /// What was answered last, and until when another answer to it may come.
    last: Option<(Ask, i64)>,
    /// It has answered something; it has not answered something.
    has_answered: bool,
    was_silent: bool,
    name: Option<String>,
    /// When the name is registered anew.
    refresh: Option<i64>,

    // The others.
    to: To,
    names: BTreeMap<SocketAddr, String>,
    spellings: BTreeMap<SocketAddr, Spelling>,
    entering: Option<(String, SocketAddrV4)>,
    /// Until when a list of peers comes, and of how many others was told last.
    listing: Option<i64>,
    told_others: Option<usize>,
    /// Until when members are heard, and who has been.
    members: Option<i64>,
    heard: BTreeSet<SocketAddr>,
    /// When we said last that we are here, and when we have to again.
    said_here: Option<i64>,
    owe_here: Option<i64>,

    // The user.
    asked: bool,
    input_ended: bool,
    leaving: Option<i64>,
    offer: Offer,
    users: BTreeSet<String>,
    rooms: BTreeSet<String>,
    groups: BTreeSet<String>,
}

impl State {
    /// A client that has done nothing yet.
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            now: Moment { elapsed: 0, wall: 0 },
            effects: Vec::new(),
            ended: false,
            awaited: None,
            questions: VecDeque::new(),
            last: None,
            has_answered: false,
            was_silent: false,
            name: None,
            refresh: None,
            to: To::Nobody,
            names: BTreeMap::new(),
            spellings: BTreeMap::new(),
            entering: None,
            listing: None,
            told_others: None,
            members: None,
            heard: BTreeSet::new(),
            said_here: None,
            owe_here: None,
            asked: false,
            input_ended: false,
            leaving: None,
            offer: Offer::default(),
            users: BTreeSet::new(),
            rooms: BTreeSet::new(),
            groups: BTreeSet::new(),
        }
    }

    /// Decides what follows from `event` and appends it to `effects`.
    pub fn handle(&mut self, now: Moment, event: Event<'_>, effects: &mut Vec<Effect>) {
        if self.ended {
            return;
        }
        self.now = now;
        std::mem::swap(&mut self.effects, effects);
        self.decide(event);
        if !self.ended {
            self.ask_next();
            self.offer();
            self.ask_user();
        }
        std::mem::swap(&mut self.effects, effects);
    }

    /// When [`Event::Tick`] is due, in milliseconds of [`Moment::elapsed`].
    pub fn deadline(&self) -> Option<i64> {
        if self.ended {
            return None;
        }
        let question = match &self.awaited {
            Some(awaited) => Some(awaited.due),
            None => self.next_may_go(),
        };
        [question, self.refresh, self.listing, self.members, self.owe_here, self.leaving].into_iter().flatten().min()
    }

    fn decide(&mut self, event: Event<'_>) {
        match event {
            Event::Start => self.start(),
            Event::Heard(from, bytes) if from == self.rules.server => {
                if let Some(answer) = Answer::parse(bytes) {
                    self.hear_answer(answer);
                }
            }
            Event::Heard(from, bytes) => {
                if let Some(talk) = Talk::parse(bytes) {
                    self.hear_talk(from, talk);
                }
            }
            Event::GroupHeard(from, bytes) => {
                if let Some(talk) = Talk::parse(bytes) {
                    self.hear_group(from, talk);
                }
            }
            Event::Entered(own) => self.entered(own),
            Event::NotEntered(why) => {
                self.entering = None;
                self.refuse(format!("The group cannot be entered: {why}"));
            }
            Event::Unsent(why) => self.refuse(format!("Not sent: {why}")),
            Event::Typed(line) => {
                self.asked = false;
                self.typed(line);
            }
            Event::EndOfInput => {
                self.input_ended = true;
                if self.is_idle() {
                    self.leave();
                }
            }
            Event::Leave if self.leaving.is_some() => self.end(End::ok()),
            Event::Leave => self.leave(),
            Event::OutputClosed => self.end(End::ok()),
            Event::Tick => self.tick(),
        }
    }

    fn start(&mut self) {
        self.news(format!("The server is {}; cmd:help lists the commands", self.rules.server));
        match self.rules.name.take() {
            Some(name) => self.register(&name),
            None => self.news("Choose a name with cmd:register NAME".to_owned()),
        }
    }

    // The server.

    /// Asks as soon as nothing else is asked.
    fn ask(&mut self, ask: Ask) {
        self.enqueue(Question { ask, quiet: false });
    }

    fn ask_quietly(&mut self, ask: Ask) {
        self.enqueue(Question { ask, quiet: true });
    }

    fn enqueue(&mut self, question: Question) {
        if self.questions.len() < QUESTIONS_MAX {
            self.questions.push_back(question);
        } else {
            self.refuse("Too many questions wait for the server's answer, wait a little".to_owned());
        }
    }

    /// When the next question may go: an answer names no question, so a late one to the last could
    /// be taken for the answer to another of its kind.
    fn next_may_go(&self) -> Option<i64> {
        let next = &self.questions.front()?.ask;
        let of_same_kind = |last: &Ask| std::mem::discriminant(last) == std::mem::discriminant(next);
        self.last
            .as_ref()
            .map_or(Some(i64::MIN), |(last, until)| Some(if of_same_kind(last) { *until } else { i64::MIN }))
    }

    fn ask_next(&mut self) {
        if self.awaited.is_some() || self.next_may_go().is_some_and(|at| self.now.elapsed < at) {
            return;
        }
        if let Some(question) = self.questions.pop_front() {
            self.transmit(self.rules.server, question.ask.spell());
            self.awaited = Some(Awaited { question, tries: 1, due: self.now.elapsed + TRY_MILLIS });
        }
        self.leave_at_end();
    }

    /// Takes the awaited question if this answers it.
    fn answered(&mut self, answers: impl Fn(&Ask) -> bool) -> Option<Question> {
        self.has_answered = true;
        let awaited = self.awaited.take_if(|awaited| answers(&awaited.question.ask))?;
        // Every try may have an answer of its own, and the network may double one.
        let late = if awaited.tries > 1 { TRY_MILLIS } else { DOUBLE_MILLIS };
        self.last = Some((awaited.question.ask.clone(), self.now.elapsed + late));
        Some(awaited.question)
    }

    /// The answer has not come in time: once more, or it is told.
    fn try_again(&mut self) {
        let Some(mut awaited) = self.awaited.take_if(|awaited| awaited.due <= self.now.elapsed) else { return };
        if awaited.tries >= TRIES_MAX {
            self.last = Some((awaited.question.ask.clone(), self.now.elapsed + TRY_MILLIS));
            if awaited.question.quiet {
                return;
            }
            self.was_silent = true;
            let once =
                if is_repeatable(&awaited.question.ask) { "" } else { "; look whether it was done all the same" };
            let server = self.rules.server;
            self.refuse(format!("No answer from {server}: a datagram was lost, or no server is there{once}"));
            return;
        }
        if is_repeatable(&awaited.question.ask) {
            self.transmit(self.rules.server, awaited.question.ask.spell());
        }
        (awaited.tries, awaited.due) = (awaited.tries + 1, self.now.elapsed + TRY_MILLIS);
        self.awaited = Some(awaited);
    }

    // Time.

    fn tick(&mut self) {
        let now = self.now.elapsed;
        let due = |at: &mut i64| *at <= now;
        if self.leaving.is_some_and(|at| at <= now) {
            return self.end(End::ok());
        }
        self.try_again();
        if self.refresh.is_some_and(|at| at <= now)
            && let Some(name) = self.name.clone()
        {
            self.refresh = Some(now + REFRESH_EVERY);
            self.ask_quietly(Ask::Register(Spelling::Codes, name));
        }
        if self.listing.take_if(due).is_some() {
            self.tell_room();
        }
        if self.owe_here.take_if(due).is_some() {
            self.say_here();
        }
        if self.members.take_if(due).is_some() {
            let count = self.heard.len();
            self.news(format!("{} answered; an answer may be lost", others(count)));
        }
    }

    // The end.

    /// Nothing is awaited that a line could have asked for.
    fn is_idle(&self) -> bool {
        self.awaited.is_none()
            && self.questions.is_empty()
            && self.members.is_none()
            && self.entering.is_none()
            && self.listing.is_none()
    }

    /// The end of the input ends the program once everything that was typed is answered.
    fn leave_at_end(&mut self) {
        if self.input_ended && self.leaving.is_none() && self.is_idle() {
            self.leave();
        }
    }

    fn leave(&mut self) {
        if matches!(self.to, To::Group { .. }) {
            self.effects.push(Effect::LeaveGroup);
        }
        if self.was_silent && !self.has_answered {
            let hint = "is the server running, and on this address and UDP port?";
            let error = format!("no answer from {}", self.rules.server);
            return self.end(End::error(Code::CannotConnect, error, hint));
        }
        if !self.has_answered {
            return self.end(End::ok());
        }
        self.leaving = Some(self.now.elapsed + FAREWELL_MAX);
        self.transmit(self.rules.server, Ask::Leave.spell());
    }

    fn end(&mut self, end: End) {
        self.ended = true;
        self.effects.push(Effect::End(end));
    }

    // The user.

    fn ask_user(&mut self) {
        let wants = self.rules.person || self.is_idle();
        if wants && !self.asked && !self.input_ended && self.leaving.is_none() {
            self.asked = true;
            self.effects.push(Effect::Ask);
        }
    }

    /// Tells what the Tab key offers, and the prompt, when they have changed.
    fn offer(&mut self) {
        let prompt = match &self.to {
            To::Nobody => "> ".to_owned(),
            To::Peer(peer) => format!("{}> ", self.called(*peer)),
            To::Room { name, .. } => format!("room {}> ", Text::harmless(name).as_str()),
            To::Group { name, .. } => format!("group {}> ", Text::harmless(name).as_str()),
        };
        let offer = Offer { prompt, commands: self.completions() };
        if offer != self.offer {
            let is_other_prompt = offer.prompt != self.offer.prompt;
            self.offer = offer.clone();
            self.effects.push(Effect::Offer(offer));
            if is_other_prompt && self.asked && self.rules.person {
                self.effects.push(Effect::Ask);
            }
        }
    }

    fn transmit(&mut self, to: SocketAddr, datagram: String) {
        self.effects.push(Effect::Transmit(to, datagram));
    }

    fn news(&mut self, text: String) {
        self.effects.push(Effect::Show(Told::News(text)));
    }

    fn say(&mut self, text: &str) {
        self.effects.push(Effect::Show(Told::Answer(Text::harmless(text).as_str().to_owned())));
    }

    fn refuse(&mut self, text: String) {
        self.effects.push(Effect::Show(Told::Refused(text)));
    }
}

/// Whether it does no harm to ask twice: what is created twice is refused the second time.
fn is_repeatable(ask: &Ask) -> bool {
    !matches!(ask, Ask::CreateRoom(_) | Ask::CreateGroup { .. })
}

/// So many others, in words.
fn others(count: usize) -> String {
    match count {
        0 => "Nobody else".to_owned(),
        1 => "1 other".to_owned(),
        _ => format!("{count} others"),
    }
}
