//! The mind of the framed client (Columbia W4119): every request is a connection of its own, and
//! what the server has to say comes to the client's own port.
//!
//! It works with the original server too, as far as that one answers: what only ours says, it does
//! not wait for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use jiff::tz::TimeZone;

use super::complete::Offer;
use super::ending::{Code, End};
use super::told::Told;
use super::{FAREWELL_MAX, Question};
use crate::wire::command::{self, COMMANDS, ParseError};
use crate::wire::framed::{self, Act, Answer, Asked, Fault, Push, Reply};
use crate::wire::line;
use crate::wire::name::Text;
use crate::wire::text::Speller;
use crate::wire::time::Moment;
use crate::wire::{Notice, Refusal, Request};

/// Between two heartbeats, in milliseconds; the server waits for 30 s.
pub const HEARTBEAT_EVERY: i64 = 20_000;

/// How long a push may wait to be displayed before its connection is closed all the same, in
/// milliseconds: the server gives it up after 2 s, and a terminal may be halted for longer.
pub const DISPLAY_MAX: i64 = 1_500;

/// Quiet after which a script has had its answers, in milliseconds: they are pushed, and nothing
/// says which is the last.
pub const QUIET: i64 = 1_000;

/// Users whose addresses are remembered; of more, the first by name is forgotten.
const ADDRESSES_MAX: usize = 1024;

/// Names that are offered for completion.
const NAMES_MAX: usize = 1024;

/// What the original server tells a client that another has replaced.
const ORIGINAL_TAKEN_OVER: &str = "Logged on different location!";

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// The program begins, and listens.
    Start,
    /// It cannot listen, and why.
    NotListening(String),
    /// Somebody typed this, when asked this.
    Typed(Question, &'a [u8]),
    /// Nothing more will be typed.
    EndOfInput,
    /// Ctrl-C on an empty line, or a signal.
    Leave,
    /// Everything shown up to this mark is on the screen.
    Displayed(u64),
    /// Nobody takes the output any more, or it cannot be written, and why.
    OutputClosed(Option<String>),
    /// The oldest request, or log-in, has been answered by these frames; or it failed, and why.
    Answered(Result<Vec<String>, String>),
    /// A frame came to our port; its connection is open until [`Effect::Took`].
    Pushed {
        /// Which connection.
        push: u64,
        /// It came from the machine of the server.
        from_server: bool,
        /// The frame.
        text: &'a str,
    },
    /// What became of the oldest private text.
    Dialled(Result<(), String>),
    /// The time of [`State::deadline`] has come.
    Tick,
}

/// Something to be done. The order of effects is a promise.
#[derive(Clone, PartialEq, Eq)]
pub enum Effect {
    /// Let the next line be typed.
    Ask(Question),
    /// Show this; [`Event::Displayed`] reports the mark.
    Show(u64, Told),
    /// Offer this for completion.
    Offer(Offer),
    /// Log in; [`Event::Answered`] follows.
    LogIn {
        /// Who.
        name: String,
        /// With what.
        password: String,
    },
    /// Send this frame on a connection of its own; [`Event::Answered`] follows.
    Request(String),
    /// Send this frame to another client; [`Event::Dialled`] follows.
    Dial(SocketAddr, String),
    /// Close the connection of a push: it has arrived.
    Took(u64),
    /// Show what is left, then end the program.
    End(End),
}

// By hand, so that no log line can ever show a password or a token.
impl std::fmt::Debug for Effect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ask(question) => write!(f, "Ask({question:?})"),
            Self::Show(mark, told) => write!(f, "Show({mark}, {told:?})"),
            Self::Offer(_) => f.write_str("Offer"),
            Self::LogIn { name, .. } => write!(f, "LogIn({name})"),
            Self::Request(frame) => write!(f, "Request({})", frame.split('|').next().unwrap_or_default()),
            Self::Dial(address, _) => write!(f, "Dial({address})"),
            Self::Took(push) => write!(f, "Took({push})"),
            Self::End(end) => write!(f, "End({end:?})"),
        }
    }
}

/// A request on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Sent {
    Heartbeat,
    LogOut,
    /// `getaddress` of this user.
    Address(String),
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// A name or a password is typed.
    Entering,
    /// The log-in is on its way.
    LoggingIn,
    Online,
    /// A script has typed all; its answers are waited for.
    Draining,
    /// The log-out is on its way, until then; by Ctrl-C or not.
    Leaving(i64, bool),
    Ended,
}

/// A push that is not displayed yet.
#[derive(Debug)]
struct Held {
    push: u64,
    mark: u64,
    until: i64,
}

/// Everything this client knows.
#[derive(Debug)]
pub struct State {
    /// A person types.
    person: bool,
    now: Moment,
    phase: Phase,
    name: String,
    token: String,
    refused: bool,
    sent: VecDeque<Sent>,
    next_heartbeat: i64,
    /// The server could not be reached lately.
    lost: bool,
    /// When something last came, for the end of a script.
    last_news: i64,
    marks: u64,
    held: VecDeque<Held>,
    /// Where others take private texts.
    addresses: BTreeMap<String, SocketAddr>,
    /// To whom private texts are on their way.
    dialling: VecDeque<String>,
    /// Who is here, for completion.
    names: BTreeSet<String>,
    input_ended: bool,
    effects: Vec<Effect>,
}

impl State {
    /// A client that has done nothing yet; `person` says that somebody sits there.
    pub fn new(person: bool) -> Self {
        Self {
            person,
            now: Moment { elapsed: 0, wall: 0 },
            phase: Phase::Entering,
            name: String::new(),
            token: String::new(),
            refused: false,
            sent: VecDeque::new(),
            next_heartbeat: i64::MAX,
            lost: false,
            last_news: 0,
            marks: 0,
            held: VecDeque::new(),
            addresses: BTreeMap::new(),
            dialling: VecDeque::new(),
            names: BTreeSet::new(),
            input_ended: false,
            effects: Vec::new(),
        }
    }

    /// Decides what follows from `event` and appends it to `effects`.
    pub fn handle(&mut self, now: Moment, event: Event<'_>, effects: &mut Vec<Effect>) {
        self.now = now;
        std::mem::swap(&mut self.effects, effects);
        if self.phase != Phase::Ended {
            self.decide(event);
        }
        std::mem::swap(&mut self.effects, effects);
    }

    /// When [`Event::Tick`] is due, in milliseconds of [`Moment::elapsed`].
    pub fn deadline(&self) -> Option<i64> {
        let heartbeat = matches!(self.phase, Phase::Online | Phase::Draining).then_some(self.next_heartbeat);
        let quiet = (self.phase == Phase::Draining && self.is_answered()).then_some(self.last_news + QUIET);
        let leaving = if let Phase::Leaving(until, _) = self.phase { Some(until) } else { None };
        let held = self.held.front().map(|held| held.until);
        [heartbeat, quiet, leaving, held].into_iter().flatten().min()
    }

    fn decide(&mut self, event: Event<'_>) {
        match event {
            Event::Start => self.effects.push(Effect::Ask(Question::Name)),
            Event::NotListening(why) => {
                let hint = "pushes come there: it must be an address of this machine and a free port";
                self.end(End::error(Code::CannotConnect, why, hint));
            }
            Event::Typed(question, line) => self.typed(question, line),
            Event::EndOfInput => self.input_ends(),
            Event::Leave => self.leave(true),
            Event::Displayed(mark) => self.displayed(mark),
            Event::OutputClosed(None) => self.leave(false),
            Event::OutputClosed(Some(why)) => self.end(End::no_output(&why)),
            Event::Answered(answer) => self.answered(answer),
            Event::Pushed { push, from_server, text } => self.pushed(push, from_server, text),
            Event::Dialled(result) => self.dialled(result),
            Event::Tick => self.tick(),
        }
    }

    fn tick(&mut self) {
        let now = self.now.elapsed;
        while let Some(held) = self.held.pop_front_if(|held| held.until <= now) {
            self.effects.push(Effect::Took(held.push));
        }
        match self.phase {
            Phase::Leaving(until, by_interrupt) if now >= until => self.end(End::no_farewell(by_interrupt)),
            Phase::Draining if self.is_answered() && now >= self.last_news + QUIET => self.leave(false),
            Phase::Online | Phase::Draining if now >= self.next_heartbeat => {
                self.next_heartbeat = now + HEARTBEAT_EVERY;
                // One that is still on its way says as much.
                if !self.sent.contains(&Sent::Heartbeat) {
                    self.request(Act::Alive, Sent::Heartbeat);
                }
            }
            _ => {}
        }
    }

    // What is typed.

    fn typed(&mut self, question: Question, line: &[u8]) {
        let Ok(line) = line::text(line) else {
            self.refuse(&Refusal::NotUtf8);
            return self.effects.push(Effect::Ask(question));
        };
        match question {
            Question::Name if line.trim().is_empty() => self.effects.push(Effect::Ask(Question::Name)),
            Question::Name => {
                line.trim().clone_into(&mut self.name);
                self.effects.push(Effect::Ask(Question::Password));
            }
            Question::Password => {
                self.phase = Phase::LoggingIn;
                self.effects.push(Effect::LogIn { name: self.name.clone(), password: line.into_owned() });
            }
            Question::Line => {
                if self.phase == Phase::Online {
                    self.carry_out(&line);
                }
                // A script is read as fast as the server takes it, a person at once.
                if self.phase == Phase::Online && (self.person || self.is_answered()) {
                    self.effects.push(Effect::Ask(Question::Line));
                }
            }
        }
    }

    fn carry_out(&mut self, line: &str) {
        let request = match command::parse(line) {
            Ok(request) => request,
            Err(ParseError::Empty) => return,
            Err(ParseError::Unknown(word)) => return self.refuse(&Refusal::InvalidCommand(Text::harmless(word))),
            Err(ParseError::Usage(command)) => return self.refuse(&Refusal::Usage(command)),
        };
        let sent = match request {
            Request::Message { to: user, .. } | Request::Block { user } | Request::Unblock { user }
                if user.contains('|') =>
            {
                let text = format!("{} has a bar in the name, which no frame can hold", Text::harmless(user).as_str());
                return self.show(Told::Refused(text));
            }
            Request::Private { to, text } => return self.say_privately(to, text),
            Request::Help { topic } => return self.help(topic),
            Request::Logout => return self.leave(false),
            Request::GetAddress { user } => Sent::Address(user.to_owned()),
            _ => Sent::Other,
        };
        if self.frame(Act::Request(request)).is_none() {
            let word = line.split_ascii_whitespace().next().unwrap_or_default();
            let text = format!("{} is for line clients: client <ip> <port>", Text::harmless(word).as_str());
            return self.show(Told::Refused(text));
        }
        self.request(Act::Request(request), sent);
    }

    fn frame(&self, act: Act<'_>) -> Option<String> {
        Asked::Act { user: &self.name, token: &self.token, act }.spell()
    }

    fn request(&mut self, act: Act<'_>, sent: Sent) {
        if let Some(frame) = self.frame(act) {
            self.sent.push_back(sent);
            self.effects.push(Effect::Request(frame));
        }
    }

    fn help(&mut self, topic: Option<&str>) {
        let wanted = |name: &str| topic.is_none_or(|topic| topic.trim_start_matches('/') == name);
        let mut found = false;
        for command in COMMANDS.iter().filter(|command| is_ours(command.name) && wanted(command.name)) {
            found = true;
            let text = format!("{} {} - {}", command.name, command.arguments, command.summary);
            self.show(Told::Answer(text));
        }
        if !found {
            self.refuse(&Refusal::InvalidCommand(Text::harmless(topic.unwrap_or_default())));
        }
    }

    fn say_privately(&mut self, to: &str, text: &str) {
        let shown = Text::harmless(to);
        let Some(&address) = self.addresses.get(to) else {
            let text = format!("The address of {} is not known, use getaddress first", shown.as_str());
            return self.show(Told::Refused(text));
        };
        self.dialling.push_back(to.to_owned());
        self.effects.push(Effect::Dial(address, format!("<{}>: {text}", self.name)));
    }

    fn dialled(&mut self, result: Result<(), String>) {
        let Some(user) = self.dialling.pop_front() else { return };
        self.last_news = self.now.elapsed;
        if result.is_err() {
            self.show(Told::Refused(format!("{} is no longer there, use message", Text::harmless(&user).as_str())));
        }
        self.read_on();
    }

    /// The next line of a script, when all before it has been answered.
    fn read_on(&mut self) {
        if self.phase == Phase::Online && !self.person && self.is_answered() {
            self.effects.push(Effect::Ask(Question::Line));
        }
    }

    fn input_ends(&mut self) {
        self.input_ended = true;
        match self.phase {
            Phase::Entering => self.end(End::input_too_short(self.refused, self.person)),
            Phase::Online if self.person => self.leave(false),
            Phase::Online => {
                self.phase = Phase::Draining;
                self.last_news = self.now.elapsed;
            }
            _ => {}
        }
    }

    fn leave(&mut self, by_interrupt: bool) {
        match self.phase {
            Phase::Entering | Phase::LoggingIn => {
                self.end(if by_interrupt { End::interrupted() } else { End::ok() });
            }
            Phase::Online | Phase::Draining => {
                self.phase = Phase::Leaving(self.now.elapsed + FAREWELL_MAX, by_interrupt);
                self.request(Act::Request(Request::Logout), Sent::LogOut);
            }
            Phase::Leaving(_, true) if by_interrupt => self.end(End::interrupted()),
            Phase::Leaving(until, _) => self.phase = Phase::Leaving(until, by_interrupt),
            Phase::Ended => {}
        }
    }

    // What is answered.

    /// Whether nothing is on its way to the server or to others.
    fn is_answered(&self) -> bool {
        self.sent.is_empty() && self.dialling.is_empty()
    }

    fn answered(&mut self, answer: Result<Vec<String>, String>) {
        if self.phase == Phase::LoggingIn {
            return self.log_in_answered(answer);
        }
        let Some(sent) = self.sent.pop_front() else { return };
        self.last_news = self.now.elapsed;
        match answer {
            Ok(frames) => self.request_answered(&sent, frames.first().map(String::as_str)),
            Err(why) => self.not_reached(&sent, &why),
        }
        self.read_on();
    }

    fn request_answered(&mut self, sent: &Sent, answer: Option<&str>) {
        if std::mem::take(&mut self.lost) {
            self.show(Told::News("The server answers again".to_owned()));
        }
        if *sent == Sent::LogOut {
            return self.end(End::ok());
        }
        match (sent, answer.map(framed::parse_reply)) {
            (_, None) => {}
            (_, Some(Reply::Error(text))) if is_fault(text, Fault::NotLoggedIn) => {
                let error = "the server has ended this session: a push did not arrive here, or nothing was heard";
                let hint = "log in again; what was not shown waits for you";
                self.end(End::error(Code::TimedOut, error, hint));
            }
            (Sent::Address(user), Some(Reply::Okay)) => {
                self.show(Told::Answer(format!("Request sent to {}", Text::harmless(user).as_str())));
            }
            (Sent::Address(user), Some(Reply::Fail)) => {
                self.show(Told::Refused(format!("{} cannot be found", Text::harmless(user).as_str())));
            }
            (_, Some(Reply::Error(text))) => self.show_error(text),
            _ => {}
        }
    }

    fn not_reached(&mut self, sent: &Sent, why: &str) {
        match (sent, self.phase) {
            (Sent::LogOut, Phase::Leaving(_, by_interrupt)) => self.end(End::no_farewell(by_interrupt)),
            // Said once; a heartbeat tries again.
            (Sent::Heartbeat, _) if std::mem::replace(&mut self.lost, true) => {}
            (Sent::Heartbeat, _) => self.show(Told::News(format!("The server cannot be reached ({why}), trying on"))),
            _ => self.show(Told::Refused(format!("Not sent, the server cannot be reached ({why})"))),
        }
    }

    fn log_in_answered(&mut self, answer: Result<Vec<String>, String>) {
        let frames = match answer {
            Ok(frames) => frames,
            Err(why) => return self.end(End::cannot_connect(&why)),
        };
        let Some(first) = frames.first() else { return self.end(End::no_greeting("closed without a word")) };
        match (framed::parse_reply(first), frames.get(1), frames.get(2)) {
            (Reply::LoggedIn, Some(token), None) => self.come_online(token),
            (Reply::LoggedIn, Some(_), Some(error)) => {
                let error = error.trim_start_matches("Error. ");
                let hint = "<my_addr> is the address of this machine as the server sees it";
                self.end(End::error(Code::LoginRefused, Text::harmless(error).as_str(), hint));
            }
            (Reply::WrongPassword { tries }, ..) => {
                let tries = Text::harmless(tries);
                self.try_again(
                    Code::LoginRefused,
                    &format!("Invalid name or password, tries left: {}", tries.as_str()),
                );
            }
            (Reply::JustLocked { seconds } | Reply::StillLocked { seconds }, ..) => {
                let seconds = seconds.parse().map_or(0.0, f64::ceil);
                self.try_again(Code::LoginBlocked, &format!("This name is blocked for {seconds} s"));
            }
            (Reply::Error(text), ..) if text.starts_with("Error. ") => {
                let error = Text::harmless(text.trim_start_matches("Error. "));
                self.end(End::error(Code::LoginRefused, error.as_str(), "try again later"));
            }
            _ => self.end(End::not_understood(first)),
        }
    }

    /// A person types name and password again; a script ends.
    fn try_again(&mut self, code: Code, why: &str) {
        self.refused = true;
        if !self.person || self.input_ended {
            return self.end(End::error(code, why, "check name and password"));
        }
        self.show(Told::Refused(why.to_owned()));
        self.phase = Phase::Entering;
        self.effects.push(Effect::Ask(Question::Name));
    }

    fn come_online(&mut self, token: &str) {
        token.clone_into(&mut self.token);
        self.phase = Phase::Online;
        self.next_heartbeat = self.now.elapsed + HEARTBEAT_EVERY;
        let name = Text::harmless(&self.name);
        self.show(Told::Answer(format!("Welcome, {}! Type help for the commands", name.as_str())));
        self.offer();
        if self.input_ended {
            self.input_ends();
        } else {
            self.effects.push(Effect::Ask(Question::Line));
        }
    }

    // What is pushed.

    fn pushed(&mut self, push: u64, from_server: bool, text: &str) {
        self.last_news = self.now.elapsed;
        match framed::parse_push(text) {
            Push::Address { user, host, port } if from_server => self.learn(user, host, port),
            // Whoever is not the server can say private things alone.
            _ if !from_server && !text.starts_with('<') => {}
            _ => text.lines().for_each(|line| {
                let text = Text::harmless(line).as_str().to_owned();
                self.show(Told::Pushed { text, when: self.now.wall });
            }),
        }
        self.held.push_back(Held { push, mark: self.marks, until: self.now.elapsed + DISPLAY_MAX });
        if from_server {
            self.note_presence(text);
            if let Some(end) = end_by(text) {
                self.end(end);
            }
        }
    }

    /// Remembers where somebody takes private texts.
    fn learn(&mut self, user: &str, host: &str, port: u16) {
        let Ok(ip) = host.parse() else { return };
        if self.addresses.len() >= ADDRESSES_MAX {
            self.addresses.pop_first();
        }
        self.addresses.insert(user.to_owned(), SocketAddr::new(ip, port));
        let user = Text::harmless(user);
        let text = format!("You may write to {user} privately: private {user} <text>", user = user.as_str());
        self.show(Told::Answer(text));
    }

    fn note_presence(&mut self, text: &str) {
        if let Some(name) = text.strip_suffix(" has logged on.") {
            if self.names.len() < NAMES_MAX {
                self.names.insert(name.to_owned());
            }
        } else if let Some(name) = text.strip_suffix(" is offline.") {
            self.names.remove(name);
        } else if let Some(names) = text.strip_prefix("Online: ") {
            self.names.extend(names.split(", ").take(NAMES_MAX).map(str::to_owned));
        } else if let Some((from, _)) = text.strip_prefix('[').and_then(|text| text.split_once("]: ")) {
            if self.names.len() >= NAMES_MAX || !self.names.insert(from.to_owned()) {
                return;
            }
        } else {
            return;
        }
        self.offer();
    }

    fn offer(&mut self) {
        let names: Vec<String> = self.names.iter().cloned().collect();
        let commands = COMMANDS.iter().filter(|command| is_ours(command.name));
        let following = |command: &str| {
            if ["message", "block", "unblock", "getaddress", "allow", "deny", "private"].contains(&command) {
                names.clone()
            } else {
                Vec::new()
            }
        };
        let commands = commands.map(|command| (command.name, following(command.name))).collect();
        self.effects.push(Effect::Offer(Offer { prompt: format!("{}> ", self.name), commands }));
    }

    fn displayed(&mut self, mark: u64) {
        while let Some(held) = self.held.pop_front_if(|held| held.mark <= mark) {
            self.effects.push(Effect::Took(held.push));
        }
    }

    // What is shown.

    fn show(&mut self, told: Told) {
        self.marks += 1;
        self.effects.push(Effect::Show(self.marks, told));
    }

    fn refuse(&mut self, refusal: &Refusal) {
        self.show_error(&words(&Notice::Refused(refusal.clone())));
    }

    fn show_error(&mut self, text: &str) {
        let text = Text::harmless(text.trim_start_matches("Error. ").trim_end());
        self.show(Told::Refused(text.as_str().to_owned()));
    }

    fn end(&mut self, end: End) {
        self.phase = Phase::Ended;
        for held in std::mem::take(&mut self.held) {
            self.effects.push(Effect::Took(held.push));
        }
        self.effects.push(Effect::End(end));
    }
}

/// Commands that this client has.
fn is_ours(name: &str) -> bool {
    ["message", "broadcast", "whoelse", "block", "unblock", "getaddress", "allow", "deny", "private", "help", "logout"]
        .contains(&name)
}

/// The words of a notice of the server.
fn words(notice: &Notice) -> String {
    Speller::new(TimeZone::UTC).spell_push(notice)
}

fn is_fault(text: &str, fault: Fault) -> bool {
    let mut bytes = Vec::new();
    Answer::Refused(fault).encode(&mut bytes);
    bytes.get(4..) == Some(text.as_bytes())
}

/// The end that a push announces, if it announces one. No user's text looks like that: it begins
/// with his name in brackets.
fn end_by(text: &str) -> Option<End> {
    let endings = [Notice::TakenOver, Notice::Stopping, Notice::TooSlow];
    if let Some(notice) = endings.iter().find(|notice| words(notice) == text) {
        return End::by(notice);
    }
    if text == ORIGINAL_TAKEN_OVER {
        return End::by(&Notice::TakenOver);
    }
    let silence = words(&Notice::FellSilent { seconds: 0 });
    let (before, after) = silence.split_once('0')?;
    let seconds = text.strip_prefix(before)?.strip_suffix(after)?.parse().ok()?;
    End::by(&Notice::FellSilent { seconds })
}
