//! The mind of the client, played with the lines of a scripted server: no socket, no waiting.
//!
//! Its transcripts are in `tests/transcripts/client`:
//!
//! ```text
//! # What it proves, in our words.
//! client person         the program starts; or `chat`, `pipe`, `no-reconnect` (in a pipe too), `send`
//! link up               the connection is there
//! link up S             and the server of the store S has greeted and asks for the name
//! link fails, link lost   it could not be had; it has ended
//! log in                from `link up S` to the welcome of hans; not checked, see `log_in.txt`
//! server> ask name      a line of the server; `server endless`: one without an end
//! name> hans            somebody types this when asked for a name, `password>` or `line>`
//! input ends, ctrl-c
//! displayed             all that was shown is on the screen; with a line: up to this line
//! output closed         nobody takes the output; with words: why it cannot be written
//! memory S hans 7       an earlier run has shown hans of the store S everything up to 7
//! offered S hans whole a.bin 3 25 aa   and offered this: chunks, bytes, SHA-256; or `part`
//! +20s, +200ms          time passes
//! no port WHY           from now on, nobody else can connect; `port`: they can again
//! in1 from 192.0.2.7    another client connects; in2 and so on
//! in1> hello luke hans private 7 abc   it says who dials whom, what for, with which ticket and secret
//! in1> answer           it proves to have that secret; `forged`: it does not
//! out1 up               who was dialled is there
//! out1> proof abc       it proves to have the secret; `forged`
//! in1> text hi, in1> bye, in1> garbage
//! in1 ends, in1 full    the connection is gone; its last text was not taken
//! file a.bin read 25 aa 01 02 03   it was read: its size, its SHA-256, that of each chunk
//! file a.bin opened 0-1  this is there already; `finished aa`: all of it, and this is its SHA-256
//! file a.bin unread taken, unopened, unfinished, unwritten   that could not be done, and why; `spoiled`
//! out1 linked           chunks can be asked for; then `moved 4096`, `fetched a.bin 0 01`, `refused`, `closed left`
//! ```
//!
//! A SHA-256 of 32 equal bytes is written as one of them, also in what the server says and is told.
//!
//! What follows (checked): `connect`, `disconnect`, `server< line`, `screen< line`, `ask name`,
//! `recall` and `remember` with store, user and number, `here user`, `gone user`, `nobody here`,
//! `in group friends`, `not in group friends`, `mode general` and the like (the prompt),
//! `dial out1 address`, `in1< frame`, `session with luke: in1`, `hang up in1`, `partner luke`, `no partner luke`,
//! `known a.bin`, the work on files (`read a.bin 3`, `fetch a.bin 0 from out1`), `keep offered` with all that later
//! runs shall offer, and `end` with exit code, error and hint.

use std::collections::HashMap;

use chinwag::client::state::handshake::{Acceptor, Dialler};
use chinwag::client::state::sharing::Offered;
use chinwag::client::state::{
    Effect, End, Errand, Event, OUTAGE_MAX, PAUSES, PENDING_MAX, PING_EVERY, PeerEvent, PeerId, Question, Reader,
    Rules, SESSIONS_MAX, SILENCE_MAX, Shown, State, TYPED_BYTES_MAX, Task,
};
use chinwag::wire::name::UserName;
use chinwag::wire::peer::{Frame, Hello};
use chinwag::wire::text::Speller;
use chinwag::wire::time::Moment;
use chinwag::wire::{Purpose, Ticket};
use jiff::tz::TimeZone;

use crate::client_files;
use crate::play::{self, Language, Play, Stage, millis};

#[derive(Debug)]
enum Act {
    Start(Rules),
    LinkUp(Option<String>),
    LinkFails(String),
    LinkLost(String),
    LogIn,
    Hear(String),
    HearEndless,
    Type(Question, String),
    EndInput,
    Interrupt,
    Display(Option<String>),
    CloseOutput(Option<String>),
    Memory(String, u64),
    Offered(String, Offered),
    File(String),
    Pass(i64),
    NoPort(String),
    Port,
    Peer(PeerId, String),
}

/// The language of these plays; what there is to set up stands in their acts.
#[derive(Default)]
struct Runs;

impl Language for Runs {
    type Act = Act;

    const FOLDER: &'static str = "client";

    fn set_up(&mut self, _: &str) -> bool {
        false
    }

    fn act(line: &str) -> Option<Act> {
        if let Some(millis) = millis(line) {
            return Some(Act::Pass(millis));
        }
        if let Some((peer, rest)) = peer_act(line) {
            return Some(Act::Peer(peer, rest.to_owned()));
        }
        // The words that say what is done, and what it is done with.
        let after = |words: &str| {
            let rest = line.strip_prefix(words)?;
            if rest.is_empty() { Some(None) } else { rest.strip_prefix(' ').map(|rest| Some(rest.to_owned())) }
        };
        let word_after = |words: &str| after(words).map(Option::unwrap_or_default);
        None.or_else(|| word_after("client").map(|kind| Act::Start(rules(&kind))))
            .or_else(|| after("link up").map(Act::LinkUp))
            .or_else(|| word_after("link fails").map(Act::LinkFails))
            .or_else(|| word_after("link lost").map(Act::LinkLost))
            .or_else(|| after("log in").map(|_| Act::LogIn))
            .or_else(|| word_after("server>").map(Act::Hear))
            .or_else(|| after("server endless").map(|_| Act::HearEndless))
            .or_else(|| word_after("name>").map(|line| Act::Type(Question::Name, line)))
            .or_else(|| word_after("password>").map(|line| Act::Type(Question::Password, line)))
            .or_else(|| word_after("line>").map(|line| Act::Type(Question::Line, line)))
            .or_else(|| after("input ends").map(|_| Act::EndInput))
            .or_else(|| after("ctrl-c").map(|_| Act::Interrupt))
            .or_else(|| after("displayed").map(Act::Display))
            .or_else(|| after("output closed").map(Act::CloseOutput))
            .or_else(|| word_after("no port").map(Act::NoPort))
            .or_else(|| after("port").map(|_| Act::Port))
            .or_else(|| word_after("file").map(Act::File))
            .or_else(|| {
                let (reader, offered) = client_files::offered(&word_after("offered")?);
                Some(Act::Offered(reader, offered))
            })
            .or_else(|| {
                let words = word_after("memory")?;
                let (reader, number) = words.rsplit_once(' ')?;
                Some(Act::Memory(reader.to_owned(), number.parse().expect("a number")))
            })
    }
}

/// Which connection to another client an act is about.
fn peer_act(line: &str) -> Option<(PeerId, &str)> {
    let end = line.find([' ', '>'])?;
    let (word, rest) = line.split_at(end);
    let number = |prefix| word.strip_prefix(prefix)?.parse().ok();
    let peer = number("in").map(PeerId::Accepted).or_else(|| number("out").map(PeerId::Dialled))?;
    Some((peer, rest.strip_prefix('>').unwrap_or(rest).trim_start()))
}

fn spell_peer(peer: PeerId) -> String {
    match peer {
        PeerId::Accepted(number) => format!("in{number}"),
        PeerId::Dialled(number) => format!("out{number}"),
    }
}

fn spell_frame(frame: &Frame) -> String {
    match frame {
        Frame::Hello(Hello { purpose, from, to, ticket, .. }) => {
            format!("hello {from} {to} {} {ticket}", format!("{purpose:?}").to_lowercase())
        }
        Frame::Proof { .. } => "proof".to_owned(),
        Frame::Answer { .. } => "answer".to_owned(),
        Frame::Text(text) => format!("text {text}"),
        Frame::Bye => "bye".to_owned(),
        frame => format!("{frame:?}"),
    }
}

fn user(word: &str) -> UserName {
    UserName::parse(word).expect("a name")
}

fn rules(kind: &str) -> Rules {
    let [user, password, to, text] = ["hans", "falcon", "yoda", "hi there"].map(str::to_owned);
    let errand = Errand { user, password, task: Task::Send { to, text } };
    match kind {
        "person" => Rules { person: true, reconnect: true, chat: false, errand: None },
        "pipe" => Rules { person: false, reconnect: true, chat: false, errand: None },
        "chat" => Rules { person: true, reconnect: true, chat: true, errand: None },
        "no-reconnect" => Rules { person: false, reconnect: false, chat: false, errand: None },
        "send" => Rules { person: false, reconnect: true, chat: false, errand: Some(errand) },
        "get" => {
            let task = Task::Get { file: "a.bin".to_owned(), chunks: String::new() };
            Rules { person: false, reconnect: true, chat: false, errand: Some(Errand { task, ..errand }) }
        }
        _ => panic!("no such client: {kind}"),
    }
}

/// A client, its clock, its state folder, and what the screen was given.
struct Mind {
    state: State,
    now: i64,
    memory: HashMap<String, u64>,
    offered: HashMap<String, Vec<Offered>>,
    shown: Vec<(u64, String)>,
    seen: Vec<String>,
    port: Result<u16, String>,
    peers: HashMap<PeerId, Peer>,
}

/// The other side of a connection to another client.
#[derive(Default)]
struct Peer {
    /// As it has dialled.
    dialler: Option<Dialler>,
    /// What the client said last.
    last: Option<Frame>,
    hello: Option<Hello>,
}

impl Mind {
    fn new() -> Self {
        let state = State::new(rules("person"), Moment { elapsed: 0, wall: 0 });
        Self {
            state,
            now: 0,
            memory: HashMap::new(),
            offered: HashMap::new(),
            shown: Vec::new(),
            seen: Vec::new(),
            port: Ok(4711),
            peers: HashMap::new(),
        }
    }

    /// Performs an act that is written as in a transcript.
    fn act(&mut self, line: &str) -> Vec<String> {
        self.perform(&Runs::act(line).unwrap_or_else(|| panic!("{line:?} is no act")))
    }

    fn tell(&mut self, event: Event<'_>) {
        let mut effects = Vec::new();
        self.state.handle(Moment { elapsed: self.now, wall: self.now }, event, &mut effects);
        for effect in effects {
            self.carry_out(effect);
        }
    }

    fn hear(&mut self, line: &str) {
        self.tell(Event::Line(client_files::long(line).as_bytes()));
    }

    fn carry_out(&mut self, effect: Effect) {
        let line = match effect {
            Effect::Connect => "connect".to_owned(),
            Effect::Disconnect => "disconnect".to_owned(),
            Effect::Send(line) => format!("server< {}", client_files::short(&line)),
            Effect::Ask(question) => format!("ask {question:?}").to_lowercase(),
            Effect::Present(user, here) => format!("{} {user}", if here { "here" } else { "gone" }),
            Effect::NobodyPresent => "nobody here".to_owned(),
            Effect::Member(group, is_in) => format!("{} {group}", if is_in { "in group" } else { "not in group" }),
            Effect::Mode(mode, group) => {
                let group = group.map_or_else(String::new, |group| format!(" {group}"));
                format!("mode {mode:?}{group}").to_lowercase()
            }
            Effect::End(End { code, error, hint }) => match (&*error, &*hint) {
                ("", _) => format!("end {}", code as u8),
                (_, "") => format!("end {}: {error}", code as u8),
                _ => format!("end {}: {error} ({hint})", code as u8),
            },
            Effect::Show(mark, shown) => return self.show(mark, &shown),
            Effect::Listen => return self.tell(Event::Listening(self.port.clone())),
            Effect::Dial(peer, at) => format!("dial {} {at}", spell_peer(peer)),
            Effect::Tell(peer, frame) => {
                let line = format!("{}< {}", spell_peer(peer), spell_frame(&frame));
                let known = self.peers.entry(peer).or_default();
                if let Frame::Hello(hello) = &frame {
                    known.hello = Some(hello.clone());
                }
                known.last = Some(frame);
                line
            }
            Effect::Proven(peer, user, purpose) => {
                let purpose = if purpose == Purpose::Private { "session" } else { "files" };
                format!("{purpose} with {user}: {}", spell_peer(peer))
            }
            Effect::HangUp(peer) => format!("hang up {}", spell_peer(peer)),
            Effect::Partner(user, true) => format!("partner {user}"),
            Effect::Partner(user, false) => format!("no partner {user}"),
            Effect::Do(chore) => client_files::spell_chore(&chore),
            Effect::Known(file) => format!("known {file}"),
            Effect::RecallOffered(reader) => {
                let offered = self.offered.get(&spell(&reader)).cloned().unwrap_or_default();
                return self.tell(Event::Offered(offered));
            }
            Effect::KeepOffered(reader, offered) => {
                let line = client_files::spell_offered(&offered);
                self.offered.insert(spell(&reader), offered);
                line
            }
            Effect::Remember(reader, number) => {
                self.memory.insert(spell(&reader), number);
                format!("remember {} {number}", spell(&reader))
            }
            Effect::Recall(reader) => {
                let number = self.memory.get(&spell(&reader)).copied().unwrap_or_default();
                self.seen.push(format!("recall {} {number}", spell(&reader)));
                return self.tell(Event::Recalled(number));
            }
        };
        self.seen.push(line);
    }

    fn show(&mut self, mark: u64, shown: &Shown) {
        let text = match shown {
            Shown::Notice(notice, _) => {
                let mut bytes = Vec::new();
                Speller::new(TimeZone::UTC).spell(notice, &mut bytes);
                String::from_utf8(bytes).expect("UTF-8")
            }
            Shown::Done(line) => format!("(line {line} is done)"),
            Shown::Lost(why) => format!("(connection lost: {why})"),
            Shown::Back(millis) => format!("(connected again after {millis} ms)"),
            Shown::PasswordAgain => "(log in again)".to_owned(),
            Shown::Peer(notice, _) => notice.to_string(),
            Shown::Files(report, _) => client_files::short(&report.to_string()),
        };
        for line in text.lines() {
            self.shown.push((mark, line.to_owned()));
            self.seen.push(format!("screen< {line}"));
        }
    }

    fn log_in(&mut self) {
        self.perform(&Act::LinkUp(Some("S".to_owned())));
        self.tell(Event::Typed(Question::Name, b"hans falcon"));
        self.hear("ask password");
        self.hear("welcome hans 5 a");
        self.seen.clear();
    }

    /// Another client does something.
    fn peer(&mut self, peer: PeerId, act: &str) {
        if let Some(event) = client_files::of_link(peer, act) {
            return self.tell(Event::Files(event));
        }
        let known = self.peers.entry(peer).or_default();
        let words: Vec<&str> = act.split(' ').collect();
        let event = match &words[..] {
            ["from", ip] => PeerEvent::Open(ip.parse().expect("an address"), [1; 16]),
            ["up"] => PeerEvent::Open([127, 0, 0, 1].into(), [2; 16]),
            ["ends"] => PeerEvent::Ended,
            ["full"] => PeerEvent::Full,
            ["garbage"] => PeerEvent::Garbage,
            ["bye"] => PeerEvent::Heard(Frame::Bye),
            ["forged"] => PeerEvent::Heard(match &known.last {
                Some(Frame::Hello(_)) => Frame::Proof { nonce: [4; 16], mac: [5; 32] },
                _ => Frame::Answer { mac: [5; 32] },
            }),
            ["hello", from, to, purpose, number, secret] => {
                let secret = u128::from_str_radix(secret, 16).expect("a secret");
                let ticket = Ticket { number: number.parse().expect("a number"), secret };
                let purpose = if *purpose == "file" { Purpose::File } else { Purpose::Private };
                let dialler = Dialler::new(purpose, user(from), user(to), ticket, [3; 16]);
                let hello = dialler.hello();
                known.dialler = Some(dialler);
                PeerEvent::Heard(hello)
            }
            ["answer"] => {
                let (dialler, proof) =
                    (known.dialler.as_ref().expect("a hello"), known.last.as_ref().expect("a proof"));
                PeerEvent::Heard(dialler.check(proof).expect("the proof is right"))
            }
            ["proof", secret] => {
                let hello = known.hello.clone().expect("a hello");
                let secret = u128::from_str_radix(secret, 16).expect("a secret");
                let ticket = Ticket { number: hello.ticket, secret };
                PeerEvent::Heard(Acceptor::new(hello, ticket, [4; 16]).proof())
            }
            ["text", ..] => PeerEvent::Heard(Frame::Text(act["text ".len()..].to_owned())),
            _ => panic!("what does another client do? {act}"),
        };
        self.tell(Event::Peer(peer, event));
    }

    /// Moves the clock, stopping wherever the mind wants to be woken.
    fn pass(&mut self, millis: i64) {
        let end = self.now + millis;
        while let Some(at) = self.state.deadline().filter(|&at| at <= end) {
            self.now = at;
            self.tell(Event::Tick);
        }
        self.now = end;
    }
}

impl Stage<Act> for Mind {
    fn perform(&mut self, act: &Act) -> Vec<String> {
        match act {
            Act::Start(rules) => {
                let wall = self.now;
                self.state = State::new(rules.clone(), Moment { elapsed: self.now, wall });
                self.tell(Event::Start);
            }
            Act::LinkUp(store) => {
                self.tell(Event::Connected);
                if let Some(store) = store {
                    self.hear(&format!("Username: hello chinwag/1 {store}"));
                    self.hear("ask name");
                }
            }
            Act::LinkFails(why) => self.tell(Event::NotConnected(why.clone())),
            Act::LinkLost(how) => self.tell(Event::Lost(how.clone())),
            Act::LogIn => self.log_in(),
            Act::Hear(line) => self.hear(line),
            Act::HearEndless => self.tell(Event::Overlong),
            Act::Type(question, line) => self.tell(Event::Typed(*question, line.as_bytes())),
            Act::EndInput => self.tell(Event::EndOfInput),
            Act::Interrupt => self.tell(Event::Leave),
            Act::Display(line) => {
                let is_last = |(_, shown): &&(u64, String)| line.as_ref().is_none_or(|line| line == shown);
                let &(mark, _) = self.shown.iter().rev().find(is_last).expect("it was shown");
                self.tell(Event::Displayed(mark));
            }
            Act::CloseOutput(why) => self.tell(Event::OutputClosed(why.clone())),
            Act::Memory(reader, number) => drop(self.memory.insert(reader.clone(), *number)),
            Act::Offered(reader, offered) => {
                self.offered.entry(reader.clone()).or_default().push(offered.clone());
            }
            Act::File(act) => self.tell(Event::Files(client_files::of_file(act))),
            Act::Pass(millis) => self.pass(*millis),
            Act::NoPort(why) => self.port = Err(why.clone()),
            Act::Port => self.port = Ok(4711),
            Act::Peer(peer, act) => self.peer(*peer, act),
        }
        fold(std::mem::take(&mut self.seen))
    }
}

fn spell(reader: &Reader) -> String {
    format!("{} {}", reader.store, reader.user)
}

/// Says once what follows itself many times.
fn fold(lines: Vec<String>) -> Vec<String> {
    let alike = lines.chunk_by(|a, b| a == b);
    let spell = |same: &[String]| match same {
        [line] => line.clone(),
        _ => format!("{}, {} times", same[0], same.len()),
    };
    alike.map(spell).collect()
}

macro_rules! transcripts {
    ($($name:ident)*) => {
        mod transcripts {
            $(#[test] fn $name() { super::play_one(stringify!($name)); })*
        }
        const ALL: &[&str] = &[$(stringify!($name)),*];
    };
}

transcripts! {
    another_store
    confirm
    confirm_receipts
    confirm_while_the_link_is_down
    end_of_pipe
    ends_after_log_in
    ends_before_log_in
    files_again
    files_again_get
    files_again_part
    files_again_typed
    files_at_once
    files_download
    files_holders_fail
    files_outage
    files_outage_other
    files_register
    files_resume
    groups
    input_ends_before_log_in
    leave
    log_in
    log_out_answer_lost
    logout_in_a_pipe
    modes
    modes_in_a_pipe
    no_reconnect
    outage
    output_closed
    password_asked_twice
    private_accept
    private_address
    private_at_once
    private_both_dial
    private_consent
    private_ends
    private_in_a_pipe
    private_listener
    private_outage
    private_start
    resend
    resume_changes_mode
    resume_in_a_mode
    send
    silent_link
    token_refused
    who_is_here
}

fn play_one(name: &str) {
    Play::<Runs>::load(name).perform(&mut Mind::new(), |line| Some(line.to_owned()), true);
}

#[test]
fn every_transcript_is_played() {
    let mut names = play::names::<Runs>();
    names.sort_unstable();
    assert_eq!(names, ALL);
}

#[test]
fn in_a_pipe_the_lines_are_what_is_needed() {
    let mut mind = Mind::new();
    mind.act("client pipe");
    mind.act("log in");
    // As many lines as may be without an answer were asked for at the welcome; one more per answer.
    for number in 1..=PENDING_MAX {
        assert_eq!(mind.act("line> whoelse"), [format!("server< #5.{number} whoelse")]);
    }
    mind.act("server> nobody");
    assert_eq!(mind.act("server> done 5.1"), ["screen< (line 1 is done)", "ask line"]);
    assert_eq!(mind.act("line>  \t"), ["ask line"], "blanks are nothing");
    let long = "x".repeat(TYPED_BYTES_MAX + 1);
    let refused = format!("screen< Error. The line is too long (over {TYPED_BYTES_MAX} bytes), dropped");
    assert_eq!(mind.act(&format!("line> {long}")), [refused, "ask line".to_owned()]);
    mind.tell(Event::Typed(Question::Line, b"\xc3("));
    assert_eq!(mind.seen.split_off(0), ["screen< Error. The line is not UTF-8 text, dropped", "ask line"]);
    assert_eq!(mind.act(&format!("line> {}", &long[1..])), [format!("server< #5.65 {}", &long[1..])]);
}

#[test]
fn tries_to_connect_are_spaced_out_and_end() {
    let mut mind = Mind::new();
    mind.act("client pipe");
    mind.act("log in");
    assert_eq!(mind.act("link lost reset"), ["screen< (connection lost: reset)"]);
    let mut pause = PAUSES.0;
    let mut last = Vec::new();
    while last.is_empty() {
        assert_eq!(mind.state.deadline(), Some(mind.now + pause));
        assert_eq!(mind.act(&format!("+{pause}ms")), ["connect"]);
        last = mind.act("link fails refused");
        pause = (pause * 2).min(PAUSES.1);
    }
    assert!(last[0].starts_with("end 1: the connection could not be had back for "), "{last:?}");
    assert!((OUTAGE_MAX..OUTAGE_MAX + PAUSES.1).contains(&mind.now), "{}", mind.now);
}

/// `number` begins a session with hans; what comes of it.
fn comes(mind: &mut Mind, number: usize) -> Vec<String> {
    mind.act(&format!("server> expect u{number} {number} abc private"));
    mind.act(&format!("in{number} from 127.0.0.1"));
    mind.act(&format!("in{number}> hello u{number} hans private {number} abc"))
}

#[test]
fn nobody_has_more_sessions_than_there_may_be() {
    let mut mind = Mind::new();
    mind.act("client person");
    mind.act("log in");
    for number in 1..SESSIONS_MAX {
        assert_eq!(comes(&mut mind, number), [format!("in{number}< proof")]);
        mind.act(&format!("in{number}> answer"));
    }
    // One that is about to begin counts, whoever begins it.
    mind.act("line> startprivate luke");
    assert_eq!(mind.act("server> peer luke 127.0.0.1 40000 7 abc private"), ["dial out1 127.0.0.1:40000"]);
    let full = |user: &str| {
        let why = format!("you have {SESSIONS_MAX}, stop another first");
        format!("screen< Error. No private session with {user}: {why}")
    };
    assert_eq!(comes(&mut mind, 100), [&*full("u100"), "in100< bye", "hang up in100"]);
    mind.act("out1 up");
    mind.act("out1> proof abc");
    assert_eq!(comes(&mut mind, 101), [&*full("u101"), "in101< bye", "hang up in101"]);
    assert_eq!(mind.act("server> peer yoda 127.0.0.1 40000 8 abc private"), [full("yoda")]);
    // With whom there is one, there may be a new one.
    assert_eq!(mind.act("in1> bye").len(), 3);
    assert_eq!(comes(&mut mind, 102), ["in102< proof"]);
    assert_eq!(comes(&mut mind, 103), [&*full("u103"), "in103< bye", "hang up in103"]);
    mind.act("in102 ends");
    assert_eq!(comes(&mut mind, 104), ["in104< proof"]);
    mind.act("in104> answer");
    assert!(mind.act("in104> text hi").contains(&"screen< u104(private): hi".to_owned()));
}

/// `silent_link.txt` shows that this is how long it takes.
#[test]
fn a_silent_link_is_found_dead_within_a_minute() {
    const { assert!(PING_EVERY + SILENCE_MAX < 60_000) };
}
