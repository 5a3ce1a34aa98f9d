//! The rules of the rendezvous, played on the pure state: who asks, what goes to whom.
//!
//! Its transcripts are in `tests/transcripts/rendezvous`:
//!
//! ```text
//! # What it proves, in our words.
//! clients on loopback   the setup; or `clients away`, each from an address of its own
//! a> REG:anna           the client `a` sends a datagram; `\n` and `\xff` are bytes
//! a< LIN:anna           what the server sends to `a` (checked)
//! +1h, +20ms            time passes
//! ```
//!
//! The first client of a play is `127.0.0.1:2001` or `192.0.2.1:2001`, the second the next one.

use std::net::{Ipv4Addr, SocketAddr};

use chinwag::server::state::rendezvous::{
    DEBT_BYTES_MAX, Event, GROUPS_MAX, GUESTS_MAX, MEMBERS_MAX, Peer, REFILL_MILLIS, ROOMS_MAX, Rendezvous,
    SILENCE_MAX, SOURCE_GUESTS_MAX, SOURCE_ROOMS_MAX, SOURCES_MAX, Transmit,
};

use crate::dice::Dice;
use crate::play::{self, Language, Play, Stage, millis};

enum Act {
    Send(char, Vec<u8>),
    Pass(i64),
}

#[derive(Default)]
struct Clients {
    away: bool,
}

impl Language for Clients {
    type Act = Act;

    const FOLDER: &'static str = "rendezvous";

    fn set_up(&mut self, line: &str) -> bool {
        let place = line.strip_prefix("clients ");
        self.away |= place == Some("away");
        place.is_some()
    }

    fn act(line: &str) -> Option<Act> {
        if line.starts_with('+') {
            let hours = line.strip_suffix('h').map(|line| format!("{line}s"));
            return Some(Act::Pass(hours.map_or_else(|| millis(line), |line| Some(3600 * millis(&line)?))?));
        }
        let (name, datagram) = line.split_once("> ").or_else(|| line.split_once('>'))?;
        let mut chars = name.chars();
        let client = chars.next().filter(|_| chars.next().is_none())?;
        Some(Act::Send(client, unescaped(datagram)))
    }
}

/// `\n`, `\r` and `\xff` stand for bytes.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        let (byte, length) = match after.as_bytes()[0] {
            b'n' => (b'\n', 1),
            b'r' => (b'\r', 1),
            _ => (u8::from_str_radix(&after[1..3], 16).expect("two digits"), 3),
        };
        bytes.push(byte);
        rest = &after[length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// A server and the clock.
struct Hall {
    state: Rendezvous,
    now: i64,
    away: bool,
}

impl Hall {
    fn new(away: bool) -> Self {
        Self { state: Rendezvous::default(), now: 0, away }
    }

    fn peer(&self, client: char) -> Peer {
        let number = u8::try_from(client).expect("a small letter") - b'a';
        let port = 2001 + u16::from(number);
        let ip = if self.away { Ipv4Addr::new(192, 0, 2, 1 + number) } else { Ipv4Addr::LOCALHOST };
        Peer { address: (ip, port).into(), via: 0 }
    }

    fn hear(&mut self, peer: Peer, datagram: &[u8]) -> Vec<Transmit> {
        let mut effects = Vec::new();
        self.state.handle(self.now, Event::Heard(peer, datagram), &mut effects);
        effects
    }

    fn pass(&mut self, millis: i64) -> Vec<Transmit> {
        let end = self.now + millis;
        let mut effects = Vec::new();
        while let Some(at) = self.state.deadline().filter(|&at| at <= end) {
            self.now = at;
            self.state.handle(at, Event::Tick, &mut effects);
            assert!(self.state.deadline().is_none_or(|next| next > at), "time goes on");
        }
        self.now = end;
        effects
    }
}

impl Stage<Act> for Hall {
    fn perform(&mut self, act: &Act) -> Vec<String> {
        let effects = match act {
            Act::Send(client, datagram) => self.hear(self.peer(*client), datagram),
            Act::Pass(millis) => self.pass(*millis),
        };
        let spell = |Transmit { to, datagram }: &Transmit| {
            let client = ('a'..='z').find(|&client| self.peer(client) == *to).expect("a client of the play");
            format!("{client}< {datagram}")
        };
        effects.iter().map(spell).collect()
    }
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
    budget
    groups
    groups_refused
    names
    names_expire
    nonsense
    rooms
    rooms_leave
    rooms_expire
    users
}

fn play_one(name: &str) {
    let play = Play::<Clients>::load(name);
    play.perform(&mut Hall::new(play.setup.away), |line| Some(line.to_owned()), true);
}

#[test]
fn every_transcript_is_played() {
    let mut names = play::names::<Clients>();
    names.sort_unstable();
    let mut all = ALL.to_vec();
    all.sort_unstable();
    assert_eq!(names, all);
}

/// A client somewhere.
fn peer(ip: impl Into<std::net::IpAddr>, port: u16) -> Peer {
    Peer { address: SocketAddr::new(ip.into(), port), via: 0 }
}

fn bytes(effects: &[Transmit], to: Peer) -> usize {
    effects.iter().filter(|transmit| transmit.to == to).map(|transmit| transmit.datagram.len()).sum()
}

/// A datagram that means something, or nearly.
fn some_datagram(dice: &mut Dice) -> Vec<u8> {
    let names: Vec<String> = (0..40).map(|n| format!("name-number-{n}")).collect();
    let name = names[dice.pick(names.len())].clone();
    let datagram = match dice.roll(14) {
        0 => format!("REG:{name}"),
        1 => format!("hi {name}"),
        2 => format!("REQ:{name}"),
        3 => format!("ar {name}"),
        4 => "ul".to_owned(),
        5 => "rl".to_owned(),
        6 => format!("rc {name}"),
        7 | 8 => format!("rj {name}"),
        9 => "rk".to_owned(),
        10 => "by".to_owned(),
        11 => "GRP:".to_owned(),
        12 => format!("CGR:{name}_239.0.0.{}_5000", dice.roll(256)),
        _ => format!("GAC:{name}"),
    };
    let mut bytes = datagram.into_bytes();
    if dice.roll(4) == 0 {
        let at = dice.pick(bytes.len());
        bytes[at] = dice.roll(256).to_le_bytes()[0];
    }
    bytes
}

/// Whoever seems to ask gets in no minute more than 4 KiB more than he sent, whatever is asked in
/// his name and in that of others: 100,000 datagrams over ten minutes from 200 forged addresses.
#[test]
fn nobody_is_flooded_in_anothers_name() {
    const MINUTE: i64 = 60_000;
    let mut hall = Hall::new(true);
    let mut dice = Dice(8);
    let victims: Vec<Peer> = (0..200).map(|n| peer([192, 0, 2, n], 4000)).collect();
    // What went to and came from everybody, second by second.
    let mut surplus = vec![vec![0i64; 601]; victims.len()];
    for n in 0..100_000i64 {
        hall.now = n * 600_000 / 100_000;
        // Half of them in the name of a few.
        let from = if dice.roll(2) == 0 { dice.pick(5) } else { dice.pick(victims.len()) };
        let datagram = some_datagram(&mut dice);
        let mut effects = hall.hear(victims[from], &datagram);
        if hall.state.deadline().is_some_and(|at| at <= hall.now) {
            hall.state.handle(hall.now, Event::Tick, &mut effects);
        }
        let second = usize::try_from(hall.now / 1000).expect("small");
        surplus[from][second] -= i64::try_from(datagram.len()).expect("small");
        for transmit in &effects {
            let to = victims.iter().position(|victim| *victim == transmit.to).expect("a client");
            surplus[to][second] += i64::try_from(transmit.datagram.len()).expect("small");
        }
    }
    let seconds = usize::try_from(MINUTE / 1000).expect("small");
    for (victim, surplus) in surplus.iter().enumerate() {
        let worst = surplus.windows(seconds).map(|minute| minute.iter().sum::<i64>()).max();
        assert!(worst <= Some(2 * DEBT_BYTES_MAX), "{victim}: {worst:?} bytes more in a minute than came");
    }
    let counts = hall.state.counts();
    println!("{counts:?}");
    assert!(counts.dropped > counts.sent && counts.sent > 10_000, "the budget was needed: {counts:?}");
    assert_eq!((2 * DEBT_BYTES_MAX, REFILL_MILLIS), (4096, MINUTE));
}

/// The same from everywhere: 100,000 datagrams, each from another address.
#[test]
fn forged_addresses_without_end_take_bounded_room() {
    let mut hall = Hall::new(true);
    let mut dice = Dice(9);
    let (mut most, mut sent, mut came) = (0, 0, 0);
    for n in 0..100_000u32 {
        let [_, a, b, c] = n.to_be_bytes();
        let from = peer([10, a, b, c], 4000);
        let name = format!("{n:x}");
        let datagram = match dice.roll(4) {
            0 => format!("REG:{name}").into_bytes(),
            1 => format!("rc {name}").into_bytes(),
            2 => format!("CGR:{name}_239.{a}.{b}.{c}_5000").into_bytes(),
            _ => some_datagram(&mut dice),
        };
        hall.now = i64::from(n) / 10;
        came += datagram.len();
        sent += hall.hear(from, &datagram).iter().map(|transmit| transmit.datagram.len()).sum::<usize>();
        most = most.max(hall.state.entries());
    }
    println!("{most} entries at most, {sent} bytes for {came}");
    let limit = 2 * GUESTS_MAX + ROOMS_MAX + GROUPS_MAX + SOURCES_MAX;
    assert!(most <= limit, "{most} entries, {limit} allowed");
    assert!(sent <= came, "{sent} bytes for {came}");
    hall.pass(13 * SILENCE_MAX);
    assert_eq!((hall.state.entries(), hall.state.deadline()), (0, None), "all of it is forgotten");
}

#[test]
fn one_source_cannot_take_all_names_rooms_and_groups() {
    let mut hall = Hall::new(true);
    let mut ask = |port: u16, ip: [u8; 4], datagram: &str| {
        hall.now += 60_000;
        hall.hear(peer(ip, port), datagram.as_bytes()).iter().map(|to| to.datagram.clone()).collect::<Vec<_>>()
    };
    let far = [192, 0, 2, 7];
    for n in 0..SOURCE_ROOMS_MAX {
        assert_eq!(ask(1, far, &format!("rc r{n}")), [format!("rc r{n}")]);
        assert_eq!(ask(1, far, &format!("CGR:g{n}_239.0.0.{n}_5000")), [format!("GCR:g{n}")]);
    }
    assert_eq!(ask(1, far, "rc more"), ["rc"]);
    assert_eq!(ask(1, far, "CGR:more_239.1.0.1_5000"), ["GCR:"]);
    assert_eq!(ask(1, [192, 0, 2, 8], "rc more"), ["rc more"]);
    let mut hall = Hall::new(true);
    let mut ask = |port: usize, ip: [u8; 4]| {
        hall.now += 1000;
        let port = u16::try_from(port).expect("a port");
        hall.hear(peer(ip, port), format!("REG:n{port}").as_bytes())[0].datagram.clone()
    };
    for n in 1..=SOURCE_GUESTS_MAX {
        assert_eq!(ask(n, far), format!("LIN:n{n}"));
    }
    assert_eq!(ask(999, far), "LIN:");
    assert_eq!(ask(999, [192, 0, 2, 8]), "LIN:n999");
}

#[test]
fn a_room_a_book_and_a_register_have_an_end() {
    let mut hall = Hall::new(false);
    let mut ask = |port: usize, datagram: &str| {
        let asker = peer(Ipv4Addr::LOCALHOST, u16::try_from(port).expect("a port"));
        let effects = hall.hear(asker, datagram.as_bytes());
        effects.iter().find(|to| to.to == asker).expect("an answer").datagram.clone()
    };
    for n in 0..ROOMS_MAX {
        assert_eq!(ask(1, &format!("rc r{n}")), format!("rc r{n}"));
    }
    assert_eq!(ask(1, "rc more"), "rc");
    for n in 0..GROUPS_MAX {
        let place = format!("239.0.{}.{}", n / 256, n % 256);
        assert_eq!(ask(1, &format!("CGR:g{n}_{place}_5000")), format!("GCR:g{n}"));
    }
    assert_eq!(ask(1, "CGR:more_239.1.0.1_5000"), "GCR:");
    for n in 1..=MEMBERS_MAX {
        assert_eq!(ask(n, "rj r7"), "rj __clear_peers__");
    }
    assert_eq!(ask(MEMBERS_MAX + 1, "rj r7"), "rj", "the room is full");
    assert_eq!(ask(MEMBERS_MAX, "rj r7"), "rj __clear_peers__", "who is in may ask again");
    for n in 1..=GUESTS_MAX {
        assert_eq!(ask(n, &format!("REG:n{n}")), format!("LIN:n{n}"));
    }
    assert_eq!(ask(GUESTS_MAX + 1, "REG:more"), "LIN:");
    assert_eq!(ask(GUESTS_MAX + 1, "rj r1"), "rj");
    assert_eq!(ask(7, "REG:other"), "LIN:other", "who is known may change his name");
}

/// Somebody forges one datagram from a server to another. Whatever it is, they do not go on.
#[test]
fn two_servers_do_not_talk_to_each_other() {
    let (a, b) = (peer([192, 0, 2, 1], 4000), peer([192, 0, 2, 2], 4000));
    let (lo_a, lo_b) = (peer(Ipv4Addr::LOCALHOST, 4000), peer(Ipv4Addr::LOCALHOST, 4001));
    for (a, b) in [(a, b), (lo_a, lo_b)] {
        for first in ["hi x", "REG:x", "ar x", "REQ:x", "ul", "rl", "rc x", "rj x", "rk", "by", "GRP:", "GAC:x"] {
            let mut servers = [Hall::new(true), Hall::new(true)];
            // The forged one; then whatever each says goes to the other.
            let mut on_the_way = vec![(1, first.to_owned())];
            let mut count = 0;
            while let Some((to, datagram)) = on_the_way.pop() {
                count += 1;
                assert!(count < 100, "{first} goes round for ever");
                let effects = servers[to].hear(if to == 1 { a } else { b }, datagram.as_bytes());
                on_the_way.extend(effects.into_iter().map(|transmit| (1 - to, transmit.datagram)));
            }
        }
    }
}

/// What a list costs is paid by who asks for it, not by who is on it.
#[test]
fn a_long_list_for_somebody_away_stops_at_his_budget() {
    let mut hall = Hall::new(false);
    for n in 0..200 {
        hall.hear(peer(Ipv4Addr::LOCALHOST, 3000 + n), format!("REG:somebody-{n}").as_bytes());
    }
    let away = peer([192, 0, 2, 7], 4000);
    let first = hall.hear(away, b"ul");
    let limit = usize::try_from(DEBT_BYTES_MAX).expect("small");
    assert!((limit / 3..=limit).contains(&bytes(&first, away)), "{} datagrams", first.len());
    assert_eq!(hall.hear(away, b"ul"), []);
    assert!(hall.state.counts().dropped > 300);
    let near = peer(Ipv4Addr::LOCALHOST, 4000);
    assert_eq!(hall.hear(near, b"ul").len(), 200);
}
