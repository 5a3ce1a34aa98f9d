//! The UDP clients among themselves and with the rendezvous, all of them pure, over a network that
//! loses, doubles and delays.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use chinwag::client::state::udp;
use chinwag::server::state::rendezvous::{self, Peer, Rendezvous};

use crate::basel_minds::{Datagrams, SERVER, client, moment, spell};
use crate::dice::Dice;

/// A server and clients on a network that loses, doubles and delays.
struct Network {
    dice: Dice,
    /// Of a hundred datagrams, so many are lost, and so many doubled.
    lost: u64,
    doubled: u64,
    /// Each takes less than so many milliseconds.
    delay: u64,
    now: i64,
    server: Rendezvous,
    clients: BTreeMap<SocketAddr, Datagrams>,
    /// What is on its way: when it comes, from where, to where.
    on_the_way: VecDeque<(i64, SocketAddr, SocketAddr, String)>,
}

impl Network {
    fn new(seed: u64, lost: u64, doubled: u64) -> Self {
        const { assert!(udp::DOUBLE_MILLIS >= 2 * 120) };
        let names = ["anna", "bernd", "carla"];
        let clients = names.iter().zip('a'..).map(|(name, letter)| {
            let mut client_ = Datagrams::new();
            let rules = udp::Rules { person: true, server: SERVER, name: Some((*name).to_owned()) };
            client_.state = udp::State::new(rules);
            (client(letter, false), client_)
        });
        let clients = clients.collect();
        let server = Rendezvous::default();
        // Less than half of what the client takes for late.
        let delay = if lost > 0 { 120 } else { 1 };
        Self { dice: Dice(seed), lost, doubled, delay, now: 0, server, clients, on_the_way: VecDeque::new() }
    }

    fn send(&mut self, from: SocketAddr, to: SocketAddr, datagram: &str) {
        let copies = match self.dice.roll(100) {
            roll if roll < self.lost => 0,
            roll if roll < self.lost + self.doubled => 2,
            _ => 1,
        };
        for _ in 0..copies {
            let delay = i64::try_from(self.dice.roll(self.delay)).expect("small");
            self.on_the_way.push_back((self.now + delay, from, to, datagram.to_owned()));
        }
    }

    fn tell(&mut self, at: SocketAddr, event: udp::Event<'_>) {
        let Some(client) = self.clients.get_mut(&at) else { return };
        let mut effects = Vec::new();
        client.state.handle(moment(self.now), event, &mut effects);
        for effect in effects {
            match effect {
                udp::Effect::Transmit(to, datagram) => self.send(at, to, &datagram),
                udp::Effect::Show(told) => {
                    let line = spell(&told);
                    self.clients.get_mut(&at).expect("it is there").seen.push(line);
                }
                _ => {}
            }
        }
    }

    fn type_in(&mut self, letter: char, line: &str) {
        self.tell(client(letter, false), udp::Event::Typed(line.as_bytes()));
    }

    /// Lets time pass, in steps of a millisecond.
    fn pass(&mut self, millis: i64) {
        for _ in 0..millis {
            self.now += 1;
            let (due, later) = std::mem::take(&mut self.on_the_way).into_iter().partition(|(at, ..)| *at <= self.now);
            self.on_the_way = later;
            let due: VecDeque<(i64, SocketAddr, SocketAddr, String)> = due;
            for (_, from, to, datagram) in due {
                if to != SERVER {
                    self.tell(to, udp::Event::Heard(from, datagram.as_bytes()));
                    continue;
                }
                let mut answers = Vec::new();
                let peer = Peer { address: from, via: 0 };
                self.server.handle(self.now, rendezvous::Event::Heard(peer, datagram.as_bytes()), &mut answers);
                answers.iter().for_each(|answer| self.send(SERVER, answer.to.address, &answer.datagram));
            }
            for at in self.clients.keys().copied().collect::<Vec<_>>() {
                if self.clients[&at].state.deadline().is_some_and(|due| due <= self.now) {
                    self.tell(at, udp::Event::Tick);
                }
            }
        }
    }

    /// Whether somebody has been shown a line that begins so, since the last time.
    fn shown(&mut self, letter: char, starts: &[&str]) -> bool {
        let seen = std::mem::take(&mut self.clients.get_mut(&client(letter, false)).expect("it is there").seen);
        seen.iter().any(|line| starts.iter().any(|start| line.starts_with(start)))
    }
}

/// Whatever is lost or comes twice: each question is answered or its silence told, nobody is
/// taken for somebody else, and what comes was sent.
#[test]
fn a_lossy_network_costs_datagrams_and_not_the_truth() {
    let mut silences = 0;
    let mut arrived = 0;
    const SEEDS: u64 = 200;
    for seed in 0..SEEDS {
        let mut net = Network::new(seed, 30, 10);
        for letter in ['a', 'b', 'c'] {
            net.tell(client(letter, false), udp::Event::Start);
        }
        net.pass(4_000);
        for (letter, name) in [('a', "anna"), ('b', "bernd"), ('c', "carla")] {
            while !net.shown(letter, &[&format!("screen< -- You are called {name}")]) {
                silences += 1;
                net.type_in(letter, &format!("cmd:register {name}"));
                net.pass(4_000);
            }
        }
        // Two requests at once: the answers carry no names, and must not be mixed up.
        net.type_in('a', "cmd:request bernd");
        net.type_in('a', "cmd:request nobody");
        net.type_in('a', "cmd:request carla");
        net.pass(15_000);
        let seen = net.clients[&client('a', false)].seen.clone();
        for line in &seen {
            let right = ["-- You talk to bernd (127.0.0.1:2002)", "-- You talk to carla (127.0.0.1:2003)"];
            let told = ["Error. Nobody is called nobody", "Error. No answer from"];
            let line = line.strip_prefix("screen< ").expect("a line");
            let is_true = right.contains(&line) || told.iter().any(|told| line.starts_with(told));
            assert!(is_true, "seed {seed}: {line}");
        }
        assert_eq!(seen.len(), 3, "seed {seed}: each is answered once: {seen:?}");
        net.shown('a', &[]);
        net.type_in('b', "cmd:request anna");
        net.pass(5_000);
        if net.shown('b', &["screen< -- You talk to anna"]) {
            for n in 0..10 {
                net.type_in('b', &format!("line {n}"));
            }
            net.pass(1_000);
            let seen = std::mem::take(&mut net.clients.get_mut(&client('a', false)).expect("it is there").seen);
            let texts = seen.iter().filter(|line| line.contains(": line "));
            arrived += texts.clone().count();
            assert!(
                texts
                    .clone()
                    .all(|line| line.starts_with("screen< bernd") || line.starts_with("screen< 127.0.0.1:2002"))
            );
        }
        // A room is joined by all three; the lists may be incomplete, but name nobody else.
        net.type_in('c', "$roomcreate lab");
        net.pass(4_000);
        for letter in ['a', 'b', 'c'] {
            net.type_in(letter, "$roomjoin lab");
        }
        net.pass(8_000);
    }
    println!("{silences} registrations without an answer, {arrived} of {} texts arrived", 10 * SEEDS);
    // With 30 of 100 lost, three tries fail in 13 of 100 cases; texts are sent once.
    assert!((10..300).contains(&silences), "{silences} registrations without an answer");
    let sent = 10 * usize::try_from(SEEDS).expect("small");
    assert!((sent / 3..sent).contains(&arrived), "{arrived} of {sent} texts arrived");
}

#[test]
fn on_a_good_network_nothing_is_asked_twice() {
    let mut net = Network::new(1, 0, 0);
    for letter in ['a', 'b', 'c'] {
        net.tell(client(letter, false), udp::Event::Start);
    }
    net.pass(1_000);
    net.type_in('a', "$roomcreate lab");
    for letter in ['a', 'b', 'c'] {
        net.type_in(letter, "$roomjoin lab");
        net.pass(1_000);
    }
    // Each joined, and each list has all the others.
    let sent = net.server.counts();
    assert_eq!((sent.heard, sent.senseless), (7, 0));
    net.type_in('b', "hello");
    net.pass(300);
    for letter in ['a', 'c'] {
        assert!(net.shown(letter, &["screen< bernd: hello"]), "{letter}");
    }
    // After an hour all of them are still known, for they say so.
    net.now += 1;
    net.pass(61 * 60 * 1000);
    net.type_in('b', "$userlist");
    net.pass(1_000);
    let seen = &net.clients[&client('b', false)].seen;
    for name in ["anna", "bernd", "carla"] {
        assert!(seen.contains(&format!("screen< {name}")), "{name} is forgotten: {seen:?}");
    }
}
