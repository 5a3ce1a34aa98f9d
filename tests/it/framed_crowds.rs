//! The framed port under senders that are slow, silent or many, and pushes to a machine that is
//! silent: everything has its time, and nobody else is kept waiting.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use chinwag::clock::Clock;
use tempfile::TempDir;

use crate::client;
use crate::crowd::now;
use crate::framed::{Framed, frame, frames, serve};
use crate::netns::{WIRED, Wire};
use crate::programs::{ACCOUNTS, House, Program, Server};
use crate::socket::PATIENCE;

/// Framed connections at a time.
const EXCHANGES_MAX: usize = 256;

/// Time for a request, in milliseconds.
const REQUEST_MILLIS_MAX: i64 = 10_000;

fn threads(server: &Server) -> usize {
    let tasks = format!("/proc/{}/task", server.pid().as_raw_nonzero());
    std::fs::read_dir(tasks).expect("it runs").count()
}

#[test]
fn slow_senders_are_served_and_silent_ones_are_not() {
    let house = House::new(ACCOUNTS);
    let server = serve(&house);
    let silent = TcpStream::connect(server.framed[0]).expect("it listens");
    let mut halted = TcpStream::connect(server.framed[0]).expect("it listens");
    halted.write_all(b"\0\0\0\x03L").expect("it is connected");
    let hans = Framed::log_in(&server, "hans", "falcon");
    let mut slow = TcpStream::connect(server.framed[0]).expect("it listens");
    slow.set_nodelay(true).expect("an option");
    for byte in frame(&format!("ONL|hans|{}|", hans.token)) {
        slow.write_all(&[byte]).expect("it is connected");
    }
    assert_eq!(hans.hear(), "Nobody else");
    for mut stream in [silent, halted] {
        stream.set_read_timeout(Some(PATIENCE)).expect("an option");
        let mut all = Vec::new();
        // The end, or the reset of who does not answer it.
        let _ = stream.read_to_end(&mut all);
        assert_eq!(frames(&all), ["Error. The request took too long"]);
    }
}

#[test]
fn so_many_connections_and_no_more() {
    let house = House::new(ACCOUNTS);
    let server = serve(&house);
    let hans = Framed::log_in(&server, "hans", "falcon");
    let before = threads(&server);
    let idle: Vec<TcpStream> = (0..600).map(|_| TcpStream::connect(server.framed[0]).expect("it listens")).collect();
    // Whoever comes next is served: the oldest of the others gives way.
    for _ in 0..5 {
        assert!(hans.ask("ONL", "").is_empty());
        assert_eq!(hans.hear(), "Nobody else");
        let count = threads(&server);
        assert!(count <= before + EXCHANGES_MAX, "{count} threads, {before} before");
    }
    drop(idle);
}

/// Each says a byte ten times a second, of a frame that would take hours: the deadline does not
/// move for that, and of more than there is room for the oldest are closed.
#[test]
fn many_who_drip_take_no_more_threads_and_no_more_time() {
    let house = House::new(ACCOUNTS);
    let server = serve(&house);
    let hans = Framed::log_in(&server, "hans", "falcon");
    let (before, clock) = (threads(&server), Clock::start());
    let mut dripping: Vec<TcpStream> =
        (0..EXCHANGES_MAX + 50).map(|_| TcpStream::connect(server.framed[0]).expect("it listens")).collect();
    let (mut told, mut most, pace) = (0, 0, crossbeam_channel::tick(Duration::from_millis(100)));
    for stream in &mut dripping {
        stream.write_all(&[0, 0, 0xea, 0x60]).ok();
        stream.set_nonblocking(true).expect("an option");
    }
    while !dripping.is_empty() {
        pace.recv().expect("it ticks on");
        most = most.max(threads(&server));
        dripping.retain_mut(|stream| {
            let mut bytes = [0; 256];
            match stream.read(&mut bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => stream.write_all(b"x").is_ok(),
                Ok(count) if count > 0 => {
                    assert_eq!(frames(&bytes[..count]), ["Error. The request took too long"]);
                    told += 1;
                    false
                }
                _ => false,
            }
        });
        let took = clock.now().elapsed;
        assert!(took < 2 * REQUEST_MILLIS_MAX, "{} still drip after {took} ms", dripping.len());
        if took < REQUEST_MILLIS_MAX / 2 {
            // Whoever has something to say gets in.
            assert!(hans.ask("ONL", "").is_empty());
            assert_eq!(hans.hear(), "Nobody else");
        }
    }
    assert!(most <= before + EXCHANGES_MAX, "{most} threads, {before} before");
    assert!(told > 0, "who was there to the end is told why it was the end");
    let limit = now() + PATIENCE;
    while threads(&server) > before {
        assert!(now() < limit, "threads are left");
        std::thread::yield_now();
    }
    println!("{most} threads at most, {before} before; {told} were told");
}

/// How often it is looked whether a text overtakes one to a silent machine. Pushed one after the
/// other, it never would.
const ROUNDS: usize = 5;

/// The machine of luke does not answer any more, not even with a refusal.
#[test]
fn a_machine_that_is_silent_delays_nobody_and_its_user_is_logged_out_once() {
    let Some(wire) = Wire::lay("a_machine_that_is_silent_delays_nobody_and_its_user_is_logged_out_once") else {
        return;
    };
    let (house, [here, there], clock) = (House::new(ACCOUNTS), WIRED, Clock::start());
    let options = ["4000", "60", "120", "--bind", here, "--framed-port", "5000", "--heartbeat-timeout", "600"];
    let _server = Server::started(wire.at(0, &house.command(&options)));
    let states: [TempDir; 3] = std::array::from_fn(|_| tempfile::tempdir().expect("a folder"));
    let start = |end: usize, address, state: &TempDir, account: &str| {
        let client = client::program(state.path(), &["framed", here, "5000", address, "0"]);
        let mut client = Program::spawn(wire.at(end, &client));
        client.type_in(&format!("{}\n", account.replace(' ', "\n")));
        client
    };
    let mut hans = start(0, here, &states[0], "hans falcon");
    hans.read_up_to("Welcome, ");
    let mut yoda = start(0, here, &states[1], "yoda wise");
    hans.wait_for("yoda has logged on.");
    let neighbour = |change| wire.ip(&["-n", &wire.names[0], "neighbour", change, there, "dev", "wire0"]);
    for round in 1..=ROUNDS {
        let luke = start(1, there, &states[2], "luke skywalker");
        yoda.wait_for("luke has logged on.");
        hans.wait_for("luke has logged on.");
        // What is sent to him from now on goes to a card that nobody has.
        let nobody = ["lladdr", "02:00:00:00:00:01", "nud", "permanent"];
        let replace = ["-n", &wire.names[0], "neighbour", "replace", there, "dev", "wire0"];
        wire.ip(&[&replace[..], &nobody].concat()).expect("root may");
        let since = clock.now().elapsed;
        hans.type_in(&format!("message luke one {round}\nmessage luke two {round}\nmessage yoda round {round}\n"));
        let first = yoda.read_line();
        let overtakes = first == format!("[hans]: round {round}");
        yoda.wait_for(if overtakes { "luke is offline." } else { &first });
        let took = clock.now().elapsed - since;
        println!("round {round}: {}, offline after {took} ms", if overtakes { "overtaken" } else { "not overtaken" });
        hans.wait_for("luke is offline.");
        hans.type_in(&format!("message luke three {round}\n"));
        assert!(hans.read_line().ends_with(", message stored"), "he is away");
        // Nobody hears it twice.
        hans.type_in(&format!("message yoda fence {round}\n"));
        loop {
            let line = yoda.read_line();
            if line == format!("[hans]: fence {round}") {
                break;
            }
            assert!(!overtakes && line == format!("[hans]: round {round}"), "{line:?}");
        }
        neighbour("delete").expect("root may");
        if overtakes {
            // All of it has waited, in its order.
            drop(luke);
            let mut luke = start(1, there, &states[2], "luke skywalker");
            for text in ["one", "two", "three"] {
                let rest = luke.read_up_to("[");
                assert!(rest.ends_with(&format!("] [hans]: {text} {round}")), "{rest:?} instead of {text}");
            }
            return;
        }
    }
    panic!("whoever is pushed to waits for a silent machine");
}
