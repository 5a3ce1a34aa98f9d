//! The minds of the two clients without a line port, played: no socket, no waiting.
//!
//! The transcripts of `client udp` are in `tests/transcripts/udp`:
//!
//! ```text
//! # What it proves, in our words.
//! client person         the program starts; `client pipe`; with a name behind it: it is registered
//! typed> hello          somebody types this
//! input ends, ctrl-c
//! server> LIN:anna      a datagram comes from the server
//! b> PTP:bernd          one comes from another client
//! group b> MSG:hi       one comes to the group; `group a`: our own comes back
//! entered, not entered why, unsent why
//! +1s, +200ms           time passes
//! ```
//!
//! What follows (checked): `server< REG:anna`, `b< PTP:anna`, `group< MSG:hi`, `enter place`,
//! `leave group`, `prompt words`, `ask`, `screen< line`, and `end` with code, error and hint.
//!
//! Those of `client direct` are in `tests/transcripts/direct`:
//!
//! ```text
//! client person calls   the program starts; `pipe` instead, `waits` instead
//! connected, not connected why, listening, not listening why
//! called 7              somebody calls
//! peer> hello           the other side sends a line; `peer>> hel`: without its end
//! peer ends, broken why, sent, output ended
//! typed> hello, input ends, ctrl-c, output closed
//! ```
//!
//! What follows: `connect`, `listen`, `adopt 7`, `refuse 7`, `peer< hello`, `end output`, `ask`,
//! `screen< line`, `end`.

use std::net::{Ipv4Addr, SocketAddr};

use chinwag::client::state::told::Told;
use chinwag::client::state::{End, direct, udp};
use chinwag::wire::datagram::DATAGRAM_BYTES_MAX;
use chinwag::wire::line::LINE_BYTES_MAX;
use chinwag::wire::time::Moment;

use crate::play::{self, Language, Play, Stage, millis};

pub(crate) fn moment(now: i64) -> Moment {
    Moment { elapsed: now, wall: now }
}

pub(crate) fn spell(told: &Told) -> String {
    match told {
        Told::Said { from, text, .. } => format!("screen< {}: {}", from.as_str(), text.as_str()),
        Told::Pushed { text, .. } => format!("screen< {text}"),
        Told::News(text) => format!("screen< -- {text}"),
        Told::Answer(text) => format!("screen< {text}"),
        Told::Refused(text) => format!("screen< Error. {text}"),
    }
}

fn spell_end(End { code, error, hint }: &End) -> String {
    match (&**error, &**hint) {
        ("", _) => format!("end {}", *code as u8),
        (_, "") => format!("end {}: {error}", *code as u8),
        _ => format!("end {}: {error} ({hint})", *code as u8),
    }
}

/// The words behind `start` and a blank, or nothing behind it.
fn after<'a>(line: &'a str, start: &str) -> Option<&'a str> {
    let rest = line.strip_prefix(start)?;
    if rest.is_empty() { Some("") } else { rest.strip_prefix(' ') }
}

// Datagrams.

pub(crate) const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 4000);

/// Another client; in a group it sends from another port.
pub(crate) fn client(name: char, in_group: bool) -> SocketAddr {
    let port = 2001 + u16::from(u8::try_from(name).expect("a small letter") - b'a');
    (Ipv4Addr::LOCALHOST, if in_group { port + 1000 } else { port }).into()
}

enum UdpAct {
    Start { person: bool, name: Option<String> },
    Heard(SocketAddr, String),
    GroupHeard(char, String),
    Entered,
    NotEntered(String),
    Unsent(String),
    Typed(String),
    EndInput,
    Interrupt,
    Pass(i64),
}

#[derive(Default)]
struct Udp;

impl Language for Udp {
    type Act = UdpAct;

    const FOLDER: &'static str = "udp";

    fn set_up(&mut self, _: &str) -> bool {
        false
    }

    fn act(line: &str) -> Option<UdpAct> {
        let name = |name: &str| Some(name.to_owned()).filter(|name| !name.is_empty());
        let from = |line: &str| {
            let (name, datagram) = line.split_once("> ").or_else(|| line.strip_suffix('>').map(|name| (name, "")))?;
            let mut chars = name.chars();
            let client = chars.next().filter(|_| chars.next().is_none())?;
            Some((client, datagram.to_owned()))
        };
        (after(line, "client person").map(|word| UdpAct::Start { person: true, name: name(word) }))
            .or_else(|| after(line, "client pipe").map(|word| UdpAct::Start { person: false, name: name(word) }))
            .or_else(|| after(line, "server>").map(|datagram| UdpAct::Heard(SERVER, datagram.to_owned())))
            .or_else(|| after(line, "typed>").map(|line| UdpAct::Typed(line.to_owned())))
            .or_else(|| after(line, "group").and_then(from).map(|(name, datagram)| UdpAct::GroupHeard(name, datagram)))
            .or_else(|| after(line, "entered").map(|_| UdpAct::Entered))
            .or_else(|| after(line, "not entered").map(|why| UdpAct::NotEntered(why.to_owned())))
            .or_else(|| after(line, "unsent").map(|why| UdpAct::Unsent(why.to_owned())))
            .or_else(|| after(line, "input ends").map(|_| UdpAct::EndInput))
            .or_else(|| after(line, "ctrl-c").map(|_| UdpAct::Interrupt))
            .or_else(|| millis(line).map(UdpAct::Pass))
            .or_else(|| from(line).map(|(name, datagram)| UdpAct::Heard(client(name, false), datagram)))
    }
}

/// A client and its clock.
pub(crate) struct Datagrams {
    pub(crate) state: udp::State,
    now: i64,
    prompt: String,
    pub(crate) seen: Vec<String>,
}

impl Datagrams {
    pub(crate) fn new() -> Self {
        let rules = udp::Rules { person: true, server: SERVER, name: None };
        Self { state: udp::State::new(rules), now: 0, prompt: String::new(), seen: Vec::new() }
    }

    fn tell(&mut self, event: udp::Event<'_>) {
        let mut effects = Vec::new();
        self.state.handle(moment(self.now), event, &mut effects);
        for effect in effects {
            let line = match effect {
                udp::Effect::Transmit(SERVER, datagram) => format!("server< {datagram}"),
                udp::Effect::Transmit(to, datagram) => {
                    let name = ('a'..='z').find(|&name| client(name, false) == to).expect("a client of the play");
                    format!("{name}< {datagram}")
                }
                udp::Effect::Shout(datagram) => format!("group< {datagram}"),
                udp::Effect::Enter(place) => format!("enter {place}"),
                udp::Effect::LeaveGroup => "leave group".to_owned(),
                udp::Effect::Ask => "ask".to_owned(),
                udp::Effect::Offer(offer) => {
                    if self.prompt == offer.prompt {
                        continue;
                    }
                    self.prompt.clone_from(&offer.prompt);
                    format!("prompt {}", offer.prompt.trim_end())
                }
                udp::Effect::Show(told) => spell(&told),
                udp::Effect::End(end) => spell_end(&end),
            };
            self.seen.push(line);
        }
    }

    fn act(&mut self, line: &str) -> Vec<String> {
        self.perform(&Udp::act(line).unwrap_or_else(|| panic!("{line:?} is no act")))
    }
}

impl Stage<UdpAct> for Datagrams {
    fn perform(&mut self, act: &UdpAct) -> Vec<String> {
        match act {
            UdpAct::Start { person, name } => {
                let rules = udp::Rules { person: *person, server: SERVER, name: name.clone() };
                (self.state, self.prompt) = (udp::State::new(rules), String::new());
                self.tell(udp::Event::Start);
            }
            UdpAct::Heard(from, datagram) => self.tell(udp::Event::Heard(*from, datagram.as_bytes())),
            UdpAct::GroupHeard(name, datagram) => {
                self.tell(udp::Event::GroupHeard(client(*name, true), datagram.as_bytes()));
            }
            UdpAct::Entered => self.tell(udp::Event::Entered(client('a', true))),
            UdpAct::NotEntered(why) => self.tell(udp::Event::NotEntered(why.clone())),
            UdpAct::Unsent(why) => self.tell(udp::Event::Unsent(why.clone())),
            UdpAct::Typed(line) => self.tell(udp::Event::Typed(line.as_bytes())),
            UdpAct::EndInput => self.tell(udp::Event::EndOfInput),
            UdpAct::Interrupt => self.tell(udp::Event::Leave),
            UdpAct::Pass(millis) => {
                let end = self.now + millis;
                while let Some(at) = self.state.deadline().filter(|&at| at <= end) {
                    self.now = self.now.max(at);
                    self.tell(udp::Event::Tick);
                    assert!(self.state.deadline().is_none_or(|next| next > at), "time goes on");
                }
                self.now = end;
            }
        }
        std::mem::take(&mut self.seen)
    }
}

// TCP.

enum DirectAct {
    Start(direct::Rules),
    Connected,
    NotConnected(String),
    Listening,
    NotListening(String),
    Called(u64),
    Heard(String),
    Ended,
    Broken(String),
    Sent,
    OutputEnded,
    Typed(String),
    EndInput,
    Interrupt,
    CloseOutput,
    Pass(i64),
}

#[derive(Default)]
struct Direct;

impl Language for Direct {
    type Act = DirectAct;

    const FOLDER: &'static str = "direct";

    fn set_up(&mut self, _: &str) -> bool {
        false
    }

    fn act(line: &str) -> Option<DirectAct> {
        let after = |start| after(line, start);
        let words = |start| after(start).map(str::to_owned);
        (after("client").map(|words| {
            let (who, what) = words.split_once(' ').expect("two words");
            DirectAct::Start(direct::Rules { person: who == "person", calls: what == "calls" })
        }))
        .or_else(|| after("connected").map(|_| DirectAct::Connected))
        .or_else(|| words("not connected").map(DirectAct::NotConnected))
        .or_else(|| after("listening").map(|_| DirectAct::Listening))
        .or_else(|| words("not listening").map(DirectAct::NotListening))
        .or_else(|| after("called").map(|call| DirectAct::Called(call.parse().expect("a number"))))
        .or_else(|| words("peer>").map(|line| DirectAct::Heard(line + "\n")))
        .or_else(|| words("peer>>").map(DirectAct::Heard))
        .or_else(|| after("peer ends").map(|_| DirectAct::Ended))
        .or_else(|| words("broken").map(DirectAct::Broken))
        .or_else(|| after("sent").map(|_| DirectAct::Sent))
        .or_else(|| after("output ended").map(|_| DirectAct::OutputEnded))
        .or_else(|| words("typed>").map(DirectAct::Typed))
        .or_else(|| after("input ends").map(|_| DirectAct::EndInput))
        .or_else(|| after("ctrl-c").map(|_| DirectAct::Interrupt))
        .or_else(|| after("output closed").map(|_| DirectAct::CloseOutput))
        .or_else(|| millis(line).map(DirectAct::Pass))
    }
}

struct Talk {
    state: direct::State,
    now: i64,
}

impl Talk {
    fn new() -> Self {
        Self { state: direct::State::new(direct::Rules { person: true, calls: true }), now: 0 }
    }

    fn tell(&mut self, event: direct::Event<'_>) -> Vec<String> {
        let mut effects = Vec::new();
        self.state.handle(moment(self.now), event, &mut effects);
        let spell = |effect: &direct::Effect| match effect {
            direct::Effect::Connect => "connect".to_owned(),
            direct::Effect::Listen => "listen".to_owned(),
            direct::Effect::Adopt(call) => format!("adopt {call}"),
            direct::Effect::Refuse(call) => format!("refuse {call}"),
            direct::Effect::Send(line) => format!("peer< {line}"),
            direct::Effect::EndOutput => "end output".to_owned(),
            direct::Effect::Ask => "ask".to_owned(),
            direct::Effect::Show(told) => spell(told),
            direct::Effect::End(end) => spell_end(end),
        };
        effects.iter().map(spell).collect()
    }
}

impl Stage<DirectAct> for Talk {
    fn perform(&mut self, act: &DirectAct) -> Vec<String> {
        let peer = |port: u64| SocketAddr::from((Ipv4Addr::LOCALHOST, 2000 + u16::try_from(port).expect("small")));
        let event = match act {
            DirectAct::Start(rules) => {
                self.state = direct::State::new(*rules);
                direct::Event::Start
            }
            DirectAct::Connected => direct::Event::Connected(peer(1)),
            DirectAct::NotConnected(why) => direct::Event::NotConnected(why.clone()),
            DirectAct::Listening => direct::Event::Listening(vec![peer(0)]),
            DirectAct::NotListening(why) => direct::Event::NotListening(why.clone()),
            DirectAct::Called(call) => direct::Event::Called(*call, peer(*call)),
            DirectAct::Heard(bytes) => direct::Event::Heard(bytes.as_bytes()),
            DirectAct::Ended => direct::Event::Ended,
            DirectAct::Broken(why) => direct::Event::Broken(why.clone()),
            DirectAct::Sent => direct::Event::Sent,
            DirectAct::OutputEnded => direct::Event::OutputEnded,
            DirectAct::Typed(line) => direct::Event::Typed(line.as_bytes()),
            DirectAct::EndInput => direct::Event::EndOfInput,
            DirectAct::Interrupt => direct::Event::Leave,
            DirectAct::CloseOutput => direct::Event::OutputClosed,
            DirectAct::Pass(millis) => {
                let end = self.now + millis;
                let due = self.state.deadline().is_some_and(|at| at <= end);
                self.now = self.state.deadline().filter(|_| due).unwrap_or(end);
                if !due {
                    return Vec::new();
                }
                direct::Event::Tick
            }
        };
        self.tell(event)
    }
}

macro_rules! transcripts {
    (udp { $($udp:ident)* } direct { $($direct:ident)* }) => {
        mod udp_transcripts {
            $(#[test] fn $udp() {
                super::Play::<super::Udp>::load(stringify!($udp)).perform(
                    &mut super::Datagrams::new(), |line| Some(line.to_owned()), true);
            })*
        }
        mod direct_transcripts {
            $(#[test] fn $direct() {
                super::Play::<super::Direct>::load(stringify!($direct)).perform(
                    &mut super::Talk::new(), |line| Some(line.to_owned()), true);
            })*
        }
        const UDP: &[&str] = &[$(stringify!($udp)),*];
        const DIRECT: &[&str] = &[$(stringify!($direct)),*];
    };
}

transcripts! {
    udp {
        groups
        leave
        lists
        lost
        names
        pipe
        poke
        request
        rooms
    }
    direct {
        called
        calls
        pipe
        refused
    }
}

#[test]
fn every_transcript_is_played() {
    for (mut names, all) in [(play::names::<Udp>(), UDP), (play::names::<Direct>(), DIRECT)] {
        names.sort_unstable();
        assert_eq!(names, all);
    }
}

#[test]
fn what_does_not_fit_into_a_datagram_is_not_sent() {
    let mut anna = Datagrams::new();
    anna.act("client person anna");
    anna.act("server> LIN:anna");
    anna.act("b> PTP:bernd");
    let longest = "x".repeat(DATAGRAM_BYTES_MAX - "MSG:".len());
    assert_eq!(anna.act(&format!("typed> {longest}")), [&format!("b< MSG:{longest}"), "ask"]);
    let refused = "screen< Error. Not sent: 1 bytes more than go into one datagram";
    assert_eq!(anna.act(&format!("typed> {longest}x")), [refused, "ask"]);
    anna.tell(udp::Event::Typed(b"\xc3("));
    assert_eq!(anna.seen.split_off(0), ["screen< Error. The line is not UTF-8 text, not sent", "ask"]);
}

#[test]
fn what_a_stranger_sends_takes_bounded_room_and_is_harmless() {
    let mut anna = Datagrams::new();
    anna.act("client person anna");
    anna.act("server> LIN:anna");
    for n in 0..20_000u32 {
        let [_, a, b, c] = n.to_be_bytes();
        let from = SocketAddr::from(([10, a, b, c], 4000));
        for datagram in
            [format!("pk n{n}"), format!("msg m{n}> \u{1b}[2J"), "\u{0}".to_owned(), format!("rj 10.{a}.{b}.{c} 1")]
        {
            anna.tell(udp::Event::Heard(from, datagram.as_bytes()));
        }
    }
    assert!(anna.seen.iter().all(|line| !line.contains('\u{1b}')));
    let entries = format!("{:?}", anna.state).len();
    // A thousand names, each with its address and its spelling.
    assert!(entries < 400_000, "{entries} characters to tell it all");
}

#[test]
fn an_endless_line_and_one_that_is_no_text_are_dropped_and_told() {
    let mut talk = Talk::new();
    talk.tell(direct::Event::Start);
    talk.tell(direct::Event::Connected(client('b', false)));
    let endless = vec![b'x'; 3 * LINE_BYTES_MAX];
    let told = format!("screen< Error. A line of more than {LINE_BYTES_MAX} bytes came, dropped");
    assert_eq!(talk.tell(direct::Event::Heard(&endless)), [told]);
    let rest = b"yyy\n\xff\xfe\xfd \xc3(\nfine\x07\n";
    let dropped = "screen< Error. A line came that is not UTF-8 text, dropped";
    assert_eq!(talk.tell(direct::Event::Heard(rest)), [dropped, "screen< peer: fine\u{2407}"]);
    let long = "x".repeat(LINE_BYTES_MAX + 1);
    let refused = talk.tell(direct::Event::Typed(long.as_bytes()));
    assert!(refused[0].starts_with("screen< Error. The line is too long"), "{refused:?}");
}
