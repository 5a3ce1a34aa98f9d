//! The mind of the client that talks to one other directly, over TCP and without a server: it
//! calls, or waits to be called; then lines go both ways until either side ends the talk.

use std::net::SocketAddr;

use super::ending::{Code, End};
use super::told::Told;
use crate::wire::line::{LINE_BYTES_MAX, Line, LineCutter, text};
use crate::wire::time::Moment;

/// What ends a talk when it is typed.
pub const QUIT: &str = ":q";

/// What a second caller reads.
pub const BUSY: &str = "Error. Somebody else is talking here already, goodbye";

/// Lines out of a pipe that may wait to be sent; then no more are read.
pub const UNSENT_LINES_MAX: usize = 64;

/// How long the other side's end is awaited after ours, in milliseconds.
pub const FAREWELL_MAX: i64 = 1_000;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// The program begins.
    Start,
    /// The other side has taken our call.
    Connected(SocketAddr),
    /// It has not, and why.
    NotConnected(String),
    /// Others can call here now.
    Listening(Vec<SocketAddr>),
    /// They cannot, and why.
    NotListening(String),
    /// This is the number of somebody who calls.
    Called(u64, SocketAddr),
    /// The other side sent something.
    Heard(&'a [u8]),
    /// The other side sends no more.
    Ended,
    /// The connection broke, and how.
    Broken(String),
    /// One more line is on its way.
    Sent,
    /// All is, and the other side knows that no more will come.
    OutputEnded,
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
    /// Call the other side.
    Connect,
    /// Let others call.
    Listen,
    /// Talk to this caller.
    Adopt(u64),
    /// Tell this caller that he comes too late.
    Refuse(u64),
    /// Send a line; [`Event::Sent`] follows.
    Send(String),
    /// Tell the other side that no more will come; [`Event::OutputEnded`] follows.
    EndOutput,
    /// Let the next line be typed.
    Ask,
    /// Show this.
    Show(Told),
    /// End the program.
    End(End),
}

/// How the program was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// A person types, and may want to leave before anybody is there.
    pub person: bool,
    /// There is somebody to call.
    pub calls: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The other side is called.
    Calling,
    /// Others may call.
    Waiting,
    Talking,
    /// Our side ends: all is being sent, or the other side's end is awaited until then.
    Leaving(Option<i64>),
    Ended,
}

/// Everything this client knows.
#[derive(Debug)]
pub struct State {
    rules: Rules,
    now: Moment,
    phase: Phase,
    lines: LineCutter,
    unsent: usize,
    /// A line is being typed, or may be.
    asked: bool,
    effects: Vec<Effect>,
}

impl State {
    /// A client that has done nothing yet.
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            now: Moment { elapsed: 0, wall: 0 },
            phase: Phase::Calling,
            lines: LineCutter::default(),
            unsent: 0,
            asked: false,
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
        if let Phase::Leaving(until) = self.phase { until } else { None }
    }

    fn decide(&mut self, event: Event<'_>) {
        match event {
            Event::Start => self.start(),
            Event::Connected(peer) => self.talk_to(peer),
            Event::NotConnected(why) => {
                self.news(format!("{why}; waiting to be called"));
                self.wait();
            }
            Event::Listening(at) => {
                let at: Vec<String> = at.iter().map(SocketAddr::to_string).collect();
                self.news(format!("Waiting to be called on {}", at.join(" and ")));
            }
            Event::NotListening(why) => self.end(End::error(Code::Other, why, "another port will do too")),
            Event::Called(call, peer) => self.called(call, peer),
            Event::Heard(bytes) => self.hear(bytes),
            Event::Ended => self.other_side_ends(),
            Event::Broken(why) => self.broken(&why),
            Event::Sent => {
                self.unsent = self.unsent.saturating_sub(1);
                self.ask();
            }
            Event::OutputEnded => self.phase = Phase::Leaving(Some(self.now.elapsed + FAREWELL_MAX)),
            Event::Typed(line) => {
                self.asked = false;
                self.typed(line);
            }
            Event::EndOfInput | Event::Leave => self.leave(),
            Event::Tick => {
                self.flush();
                self.end(End::ok());
            }
            Event::OutputClosed => self.end(End::ok()),
        }
    }

    fn start(&mut self) {
        if self.rules.person {
            self.ask();
        }
        if self.rules.calls { self.effects.push(Effect::Connect) } else { self.wait() }
    }

    fn wait(&mut self) {
        self.phase = Phase::Waiting;
        self.effects.push(Effect::Listen);
    }

    fn called(&mut self, call: u64, peer: SocketAddr) {
        if self.phase == Phase::Waiting {
            self.effects.push(Effect::Adopt(call));
            self.talk_to(peer);
        } else {
            self.effects.push(Effect::Refuse(call));
            self.news(format!("{peer} called too, and was told that somebody else is here"));
        }
    }

    fn talk_to(&mut self, peer: SocketAddr) {
        self.phase = Phase::Talking;
        self.news(format!("Connected to {peer}; {QUIT} ends the talk"));
        self.ask();
    }

    /// Lets the next line be typed, if there is somebody to read it or to be waited for.
    fn ask(&mut self) {
        let ready = if self.rules.person { true } else { self.phase == Phase::Talking };
        if ready && !self.asked && self.unsent < UNSENT_LINES_MAX && !matches!(self.phase, Phase::Leaving(_)) {
            self.asked = true;
            self.effects.push(Effect::Ask);
        }
    }

    fn typed(&mut self, line: &[u8]) {
        match text(line) {
            Ok(line) if line == QUIT => return self.leave(),
            _ if line.len() > LINE_BYTES_MAX => {
                self.refuse(format!("The line is too long (over {LINE_BYTES_MAX} bytes), not sent"));
            }
            Ok(_) if self.phase != Phase::Talking => self.refuse("Nobody is here yet, not sent".to_owned()),
            Ok(line) => {
                self.unsent += 1;
                self.effects.push(Effect::Send(line.into_owned()));
            }
            Err(_) => self.refuse("The line is not UTF-8 text, not sent".to_owned()),
        }
        self.ask();
    }

    fn hear(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        let mut lines = std::mem::take(&mut self.lines);
        while let Some(line) = lines.next(&mut rest) {
            match line {
                Line::Whole(line) => self.show_line(line),
                Line::Overlong => self.refuse(format!("A line of more than {LINE_BYTES_MAX} bytes came, dropped")),
            }
        }
        self.lines = lines;
    }

    fn show_line(&mut self, line: &[u8]) {
        match text(line) {
            Ok(line) => self.effects.push(Effect::Show(Told::said("peer", &line, self.now.wall))),
            Err(_) => self.refuse("A line came that is not UTF-8 text, dropped".to_owned()),
        }
    }

    /// A last line without an end is one too.
    fn flush(&mut self) {
        if let Some(line) = self.lines.finish() {
            self.show_line(&line);
        }
    }

    fn other_side_ends(&mut self) {
        self.flush();
        if self.phase == Phase::Talking {
            self.news("The other side has ended the talk".to_owned());
        }
        self.end(End::ok());
    }

    fn broken(&mut self, why: &str) {
        self.flush();
        if let Phase::Leaving(_) = self.phase {
            return self.end(End::ok());
        }
        self.end(End::error(Code::Other, format!("the connection broke: {why}"), "what was typed last may be lost"));
    }

    fn leave(&mut self) {
        match self.phase {
            Phase::Talking => {
                // How long it takes until all is on its way, the other side decides.
                self.phase = Phase::Leaving(None);
                self.effects.push(Effect::EndOutput);
            }
            Phase::Calling | Phase::Waiting | Phase::Leaving(_) => self.end(End::ok()),
            Phase::Ended => {}
        }
    }

    fn news(&mut self, text: String) {
        self.effects.push(Effect::Show(Told::News(text)));
    }

    fn refuse(&mut self, text: String) {
        self.effects.push(Effect::Show(Told::Refused(text)));
    }

    fn end(&mut self, end: End) {
        self.phase = Phase::Ended;
        self.effects.push(Effect::End(end));
    }
}
