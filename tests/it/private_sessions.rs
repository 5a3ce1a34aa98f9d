//! Private sessions between real client programs, and a client that others dial who mean no good.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use chinwag::client::state::handshake::Dialler;
use chinwag::client::state::{PROOF_MAX, SESSIONS_MAX, UNPROVEN_MAX};
use chinwag::clock::Clock;
use chinwag::wire::name::UserName;
use chinwag::wire::peer::{Frame, FrameReader, UNPROVEN_BYTES_MAX};
use chinwag::wire::{Notice, Purpose, Ticket, control};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::client::{ACCOUNTS, program};
use crate::netns::{WIRED, Wire};
use crate::programs::{House, Program, Server};
use crate::socket::PATIENCE;

/// The end of a session is to be told within a second; a loaded machine has ten.
const TOLD_MAX: i64 = 10_000;

/// Texts that no queue and no socket buffer takes.
const MANY_TEXTS: usize = 4_000;

/// A client program of this user, logged in.
fn client(server: &Server, state: &TempDir, name: &str) -> Program {
    let mut client = Program::spawn(program(state.path(), &[&server.port().to_string()]));
    let account = ACCOUNTS.lines().find(|line| line.starts_with(name)).expect("an account");
    client.type_in(&format!("{account}\n"));
    client.wait_for(&format!("Welcome to chinwag, {name}! Type help for the commands"));
    // The server knows where others can connect.
    client.type_in("block nobody\n");
    client.wait_for("Error. Invalid user nobody");
    client
}

/// hans has begun a session with luke, and both know it.
fn begin(hans: &mut Program, luke: &mut Program) {
    hans.type_in("startprivate luke\n");
    hans.wait_for("Private session with luke started");
    luke.wait_for("hans started a private session with you");
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

#[test]
fn either_side_begins_talks_and_stops_and_there_can_be_many() {
    let (house, state) = (House::new(ACCOUNTS), folder());
    let server = house.serve(&[]);
    let mut luke = client(&server, &state, "luke");
    let mut yoda = client(&server, &state, "yoda");
    let mut hans = client(&server, &state, "hans");
    begin(&mut hans, &mut luke);
    yoda.type_in("startprivate hans\nprivate hans hm\n");
    hans.wait_for("yoda started a private session with you");
    hans.wait_for("yoda(private): hm");
    hans.type_in("private yoda one\nprivate luke  two  words \nstartprivate luke\nstopprivate yoda\n");
    yoda.wait_for("hans(private): one");
    yoda.wait_for("Private session with hans ended (stopped)");
    luke.wait_for("hans(private):  two  words ");
    hans.wait_for("Error. A private session with luke has already started");
    hans.wait_for("Private session with yoda ended (stopped)");
    luke.type_in("private hans three\nstopprivate hans\nprivate hans four\n");
    hans.wait_for("luke(private): three");
    hans.wait_for("Private session with luke ended (stopped)");
    luke.wait_for("Error. No private session with hans, use startprivate");
}

#[test]
fn who_talks_in_a_script_says_all_of_it() {
    let (house, state) = (House::new(ACCOUNTS), folder());
    let server = house.serve(&[]);
    let mut luke = client(&server, &state, "luke");
    let texts: String = (0..200).map(|number| format!("private luke {number}\n")).collect();
    let mut hans = Program::spawn(program(state.path(), &[&server.port().to_string(), "--json"]));
    hans.type_in(&format!("hans falcon\nstartprivate luke\n{texts}"));
    let left = hans.leave();
    assert_eq!(left.code, Some(0), "{left:?}");
    assert!(left.stdout.contains(r#"{"event":"private-started","user":"luke","by-user":false}"#), "{left:?}");
    assert!(left.stdout.ends_with("{\"event\":\"done\",\"line\":201}\n{\"event\":\"goodbye\"}\n"), "{left:?}");
    luke.wait_for("hans started a private session with you");
    // What the server says comes another way, and may be faster.
    let mut lines = Vec::new();
    while lines.last().is_none_or(|line| line != "Private session with hans ended (stopped)") {
        let line = luke.read_line();
        assert_ne!(line, "");
        if line != "hans logged out" {
            lines.push(line);
        }
    }
    let texts: Vec<String> = (0..200).map(|number| format!("hans(private): {number}")).collect();
    assert_eq!(lines[..lines.len() - 1], texts);
}

#[test]
fn the_end_is_told_at_once_however_the_other_leaves() {
    let (house, state, clock) = (House::new(ACCOUNTS), folder(), Clock::start());
    let server = house.serve(&[]);
    let mut luke = client(&server, &state, "luke");
    for (how, ending) in [("log-out", "stopped"), ("Ctrl-C", "stopped"), ("kill", "gone")] {
        let mut hans = client(&server, &state, "hans");
        begin(&mut hans, &mut luke);
        let since = clock.now().elapsed;
        match how {
            "log-out" => hans.type_in("logout\n"),
            "Ctrl-C" => hans.signal(Signal::INT),
            _ => hans.signal(Signal::KILL),
        }
        luke.wait_for(&format!("Private session with hans ended ({ending})"));
        assert!(clock.now().elapsed - since < TOLD_MAX, "{how}");
        hans.end();
        luke.type_in("private hans hi\n");
        luke.wait_for("Error. No private session with hans, use startprivate");
    }
    // The server stops: both end, in order.
    let mut hans = client(&server, &state, "hans");
    begin(&mut hans, &mut luke);
    server.stop();
    assert_eq!((hans.end().code, luke.end().code), (Some(10), Some(10)));
}

#[test]
fn private_talk_keeps_from_being_timed_out_and_listening_does_not() {
    let (house, state, clock) = (House::new(ACCOUNTS), folder(), Clock::start());
    let server = house.serve_timed("2", &[]);
    let mut luke = client(&server, &state, "luke");
    let mut hans = client(&server, &state, "hans");
    begin(&mut hans, &mut luke);
    let since = clock.now().elapsed;
    while clock.now().elapsed - since < 5_000 {
        hans.type_in("private luke ping\n");
        luke.wait_for("hans(private): ping");
        luke.type_in("private hans pong\n");
        hans.wait_for("luke(private): pong");
    }
    // luke falls silent, and only listens.
    loop {
        hans.type_in("private luke are you there?\n");
        match &*luke.read_line() {
            "hans(private): are you there?" => {}
            "You timed out: no command for 2 s" => break,
            line => panic!("{line:?}"),
        }
    }
    hans.wait_for("Private session with luke ended (stopped)");
    assert_eq!(luke.end().code, Some(7));
}

#[test]
fn a_block_does_not_cut_a_session_but_the_next_one() {
    let (house, state) = (House::new(ACCOUNTS), folder());
    let server = house.serve(&[]);
    let mut luke = client(&server, &state, "luke");
    let mut hans = client(&server, &state, "hans");
    begin(&mut hans, &mut luke);
    luke.type_in("block hans\n");
    luke.wait_for("hans is blocked");
    hans.type_in("private luke still?\nstopprivate luke\nstartprivate luke\nprivate luke hi\n");
    luke.wait_for("hans(private): still?");
    hans.wait_for("Error. luke has blocked you, nothing sent");
    hans.wait_for("Error. No private session with luke, use startprivate");
}

/// The server is killed and does not come back for a while: the session does not need it.
#[test]
fn a_session_outlives_the_server() {
    let (house, state) = (House::new(ACCOUNTS), folder());
    let server = house.serve(&[]);
    let mut luke = client(&server, &state, "luke");
    let mut hans = client(&server, &state, "hans");
    begin(&mut hans, &mut luke);
    server.signal(Signal::KILL);
    for client in [&mut hans, &mut luke] {
        while !client.read_line().starts_with("-- Connection lost") {}
    }
    hans.type_in("private luke are you still there?\n");
    luke.wait_for("hans(private): are you still there?");
    luke.type_in("private hans yes\nstopprivate hans\n");
    hans.wait_for("luke(private): yes");
    hans.wait_for("Private session with luke ended (stopped)");
}

#[test]
fn who_starts_together_has_one_session() {
    let (house, state) = (House::new(ACCOUNTS), folder());
    let server = house.serve(&[]);
    let mut luke = client(&server, &state, "luke");
    let mut hans = client(&server, &state, "hans");
    for round in 0..20 {
        hans.type_in(&format!("startprivate luke\nprivate luke ping {round}\n"));
        luke.type_in(&format!("startprivate hans\nprivate hans pong {round}\n"));
        for (client, text) in
            [(&mut hans, format!("luke(private): pong {round}")), (&mut luke, format!("hans(private): ping {round}"))]
        {
            let mut started = 0;
            loop {
                let line = client.read_line();
                assert_ne!(line, "");
                if line == text {
                    break;
                }
                // Who types later than the other's session begins, hears that it has begun.
                let is_late = line.starts_with("Error. A private session with ");
                started += usize::from(!is_late && line.ends_with(" started") || line.ends_with("with you"));
                assert!(!line.contains("ended") && !line.contains("no longer"), "{line}");
            }
            assert_eq!(started, 1);
        }
        // All that was typed is answered.
        for client in [&mut hans, &mut luke] {
            client.type_in("block nobody\n");
            client.wait_for("Error. Invalid user nobody");
        }
        hans.type_in("stopprivate luke\n");
        hans.wait_for("Private session with luke ended (stopped)");
        luke.wait_for("Private session with hans ended (stopped)");
    }
}

#[test]
fn users_of_netcat_are_told_and_so_are_others() {
    let (house, state) = (House::new(ACCOUNTS), folder());
    let server = house.serve(&[]);
    let mut hans = client(&server, &state, "hans");
    let mut yoda = server.client("yoda");
    hans.type_in("startprivate yoda\n");
    hans.wait_for("Error. yoda cannot take private connections (he is not using the client program)");
    for word in ["startprivate hans", "private hans hi", "stopprivate hans"] {
        yoda.send(word);
        let word = word.split(' ').next().expect("a word");
        yoda.read_until(|all| all.ends_with(format!("Error. {word} needs the client program\n").as_bytes()));
    }
}

#[test]
fn consent_is_asked_for_where_it_is_needed() {
    let (house, state) = (House::new(ACCOUNTS), folder());
    let server = house.serve(&["--ask-private"]);
    let mut luke = client(&server, &state, "luke");
    let mut hans = client(&server, &state, "hans");
    hans.type_in("startprivate luke\n");
    luke.wait_for("hans wants a private session with you, type: allow hans or deny hans");
    luke.type_in("deny hans\n");
    hans.wait_for("luke declined");
    hans.type_in("startprivate luke\n");
    luke.wait_for("hans wants a private session with you, type: allow hans or deny hans");
    luke.type_in("allow hans\n");
    hans.wait_for("Private session with luke started");
    hans.type_in("stopprivate luke\n");
    luke.wait_for("Private session with hans ended (stopped)");

    // An address that was allowed is good until the next, which comes by itself.
    hans.type_in("getaddress luke\n");
    luke.wait_for("hans wants your address, type: allow hans or deny hans");
    luke.type_in("allow hans\n");
    hans.wait_for("You may write to luke privately, type: private luke <text>");
    for round in 0..2 {
        hans.type_in(&format!("private luke one {round}\n"));
        hans.wait_for("Private session with luke started");
        luke.wait_for(&format!("hans(private): one {round}"));
        luke.type_in("stopprivate hans\n");
        hans.wait_for("Private session with luke ended (stopped)");
    }
    luke.type_in("logout\n");
    luke.end();
    hans.wait_for("luke logged out");
    hans.type_in("private luke are you there?\n");
    hans.wait_for("Error. luke is no longer there, use message");
    let mut luke = client(&server, &state, "luke");
    hans.wait_for("You may write to luke privately, type: private luke <text>");
    hans.type_in("private luke two\n");
    luke.wait_for("hans(private): two");
}

/// luke, or another, as the server sees him, with which a test may say what it likes to hans.
struct Stranger {
    name: UserName,
    control: BufReader<TcpStream>,
    lines: u32,
}

impl Stranger {
    fn log_in(server: &Server) -> Self {
        Self::log_in_as(server, "luke", "skywalker")
    }

    fn log_in_as(server: &Server, name: &str, password: &str) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", server.port())).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("an option");
        let user = UserName::parse(name).expect("a name");
        let mut stranger = Self { name: user, control: BufReader::new(stream), lines: 0 };
        stranger.say(&format!("HELLO chinwag/1 line\nLOGIN {name} 0\n{password}"));
        stranger.hear(|notice| matches!(notice, Notice::Welcome { .. }).then_some(()));
        stranger
    }

    fn say(&mut self, line: &str) {
        self.control.get_mut().write_all(format!("{line}\n").as_bytes()).expect("it reads");
    }

    fn hear<T>(&mut self, wanted: impl Fn(Notice) -> Option<T>) -> T {
        loop {
            let mut line = String::new();
            self.control.read_line(&mut line).expect("in time");
            let line = line.trim_end_matches('\n');
            let line = line.strip_prefix("Username: ").unwrap_or(line);
            if let Some(found) = control::decode(line).ok().and_then(&wanted) {
                return found;
            }
        }
    }

    /// Where hans can be dialled, and a ticket for it.
    fn ticket(&mut self) -> (SocketAddr, Ticket) {
        self.lines += 1;
        self.say(&format!("#1.{} startprivate hans", self.lines));
        self.hear(|notice| match notice {
            Notice::Peer { at, ticket, .. } => Some((at, ticket)),
            _ => None,
        })
    }

    /// Says hello to hans.
    fn greet(&mut self) -> (Dialler, TcpStream) {
        let (at, ticket) = self.ticket();
        let hans = UserName::parse("hans").expect("a name");
        let dialler = Dialler::new(Purpose::Private, self.name.clone(), hans, ticket, [7; 16]);
        let mut stream = dial(at);
        stream.write_all(&dialler.hello().bytes()).expect("it reads");
        (dialler, stream)
    }

    /// A session with hans, honestly begun.
    fn begin(&mut self) -> (TcpStream, FrameReader) {
        let (dialler, mut stream) = self.greet();
        let mut reader = FrameReader::default();
        let proof = next(&mut stream, &mut reader).expect("a proof");
        stream.write_all(&dialler.check(&proof).expect("hans has the ticket").bytes()).expect("it reads");
        (stream, reader)
    }
}

fn dial(at: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(at).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("an option");
    stream
}

fn next(stream: &mut TcpStream, reader: &mut FrameReader) -> Option<Frame> {
    let mut bytes = [0; 1024];
    loop {
        if let Some(frame) = reader.next_frame().expect("good frames") {
            return Some(frame);
        }
        let count = stream.read(&mut bytes).expect("in time");
        if count == 0 {
            return None;
        }
        reader.push(&bytes[..count]);
    }
}

/// Waits until the other side has closed, with or without a reset, and has said nothing.
fn is_closed(mut stream: TcpStream) {
    match stream.read(&mut [0; 64]) {
        Ok(0) => {}
        Ok(count) => panic!("{count} bytes"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

/// Reads what hans is told of refused connections, until so many have been counted.
fn refused(hans: &mut Program, mut count: u32) {
    while count > 0 {
        let line = hans.read_line();
        assert_ne!(line, "");
        let Some(words) = line.strip_prefix("-- ") else { continue };
        if !words.contains("unannounced") {
            continue;
        }
        assert!(words.contains("127.0.0.1"), "{words}");
        let more = words.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(1);
        count = count.checked_sub(more).expect("no more than there were");
    }
}

#[test]
fn strangers_are_closed_in_time_and_counted() {
    let (house, state, clock) = (House::new(ACCOUNTS), folder(), Clock::start());
    let server = house.serve(&[]);
    let mut hans = client(&server, &state, "hans");
    let mut luke = Stranger::log_in(&server);
    let (at, ticket) = luke.ticket();
    assert!(at.ip().is_loopback(), "hans listens where the server sees him");
    let name = |word| UserName::parse(word).expect("a name");
    let honest = Dialler::new(Purpose::Private, name("luke"), name("hans"), ticket, [7; 16]);

    // No frame, a frame that is too long, too much in all, an answer that is forged.
    for said in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0, 0, 2, 1], &[0xff; UNPROVEN_BYTES_MAX]] {
        let mut stream = dial(at);
        let _ = stream.write_all(said);
        is_closed(stream);
    }
    let mut stream = dial(at);
    stream.write_all(&honest.hello().bytes()).expect("it reads");
    let mut reader = FrameReader::default();
    assert!(matches!(next(&mut stream, &mut reader), Some(Frame::Proof { .. })));
    stream.write_all(&Frame::Answer { mac: [0; 32] }.bytes()).expect("it reads");
    is_closed(stream);
    refused(&mut hans, 4);

    // A hello byte by byte, without its end; a silent one; one with an unknown ticket.
    let since = clock.now().elapsed;
    let mut slow = dial(at);
    let hello = honest.hello().bytes();
    for byte in &hello[..hello.len() - 1] {
        slow.write_all(&[*byte]).expect("it reads");
    }
    let silent = dial(at);
    let mut unknown = dial(at);
    let other = Ticket { number: ticket.number + 1000, ..ticket };
    let stranger = Dialler::new(Purpose::Private, name("luke"), name("hans"), other, [7; 16]);
    unknown.write_all(&stranger.hello().bytes()).expect("it reads");
    for stream in [unknown, slow, silent] {
        is_closed(stream);
    }
    let took = clock.now().elapsed - since;
    assert!((PROOF_MAX - 100..PROOF_MAX + TOLD_MAX).contains(&took), "{took} ms");
    refused(&mut hans, 3);

    // One more than may prove nothing: the oldest is closed.
    let mut crowd: Vec<TcpStream> = (0..=UNPROVEN_MAX).map(|_| dial(at)).collect();
    is_closed(crowd.remove(0));
    // Who has a ticket gets in all the same; the next oldest is closed for him.
    let (mut session, mut reader) = luke.begin();
    hans.wait_for("luke started a private session with you");
    session.write_all(&Frame::Text("at \x1b[2J last".to_owned()).bytes()).expect("it reads");
    hans.wait_for("luke(private): at \u{241b}[2J last");
    hans.type_in("private luke hi\nwhoelse\nstopprivate luke\n");
    assert_eq!(next(&mut session, &mut reader), Some(Frame::Text("hi".to_owned())));
    assert_eq!(next(&mut session, &mut reader), Some(Frame::Bye));
    assert_eq!(next(&mut session, &mut reader), None);
    hans.wait_for("luke");
}

#[test]
fn who_does_not_read_costs_no_more_than_a_queue() {
    let (house, state) = (House::new(ACCOUNTS), folder());
    let server = house.serve(&[]);
    let mut hans = client(&server, &state, "hans");
    let mut luke = Stranger::log_in(&server);
    let (session, _) = luke.begin();
    hans.wait_for("luke started a private session with you");
    let line = format!("private luke {}\n", "x".repeat(8000));
    let mut sent = 0;
    // Some of these answers come while the next texts are typed.
    let full = "Error. luke does not read what you sent before, nothing sent";
    loop {
        hans.type_in(&line.repeat(50));
        sent += 50;
        assert!(sent <= MANY_TEXTS, "everything is taken");
        hans.type_in("block nobody\n");
        let mut is_full = false;
        loop {
            let heard = hans.read_line();
            is_full |= heard == full;
            if heard == "Error. Invalid user nobody" {
                break;
            }
        }
        if is_full {
            break;
        }
    }
    // Nothing waits for him: not the server's answers, and not the end.
    hans.type_in("logout\n");
    let clock = Clock::start();
    assert_eq!(hans.end().code, Some(0));
    assert!(clock.now().elapsed < TOLD_MAX);
    drop(session);
}

#[test]
fn a_session_in_which_nonsense_is_said_is_over() {
    let (house, state) = (House::new(ACCOUNTS), folder());
    let server = house.serve(&[]);
    let mut hans = client(&server, &state, "hans");
    let mut luke = Stranger::log_in(&server);
    for nonsense in [&b"\xff\xff\xff\xff"[..], b"\0\0\0\x02\x04\xff", &Frame::Answer { mac: [0; 32] }.bytes()] {
        let (mut session, mut reader) = luke.begin();
        hans.wait_for("luke started a private session with you");
        session.write_all(nonsense).expect("it reads");
        hans.wait_for("Private session with luke ended (gone)");
        assert_eq!(next(&mut session, &mut reader), None);
    }
    // A reset is an end like others.
    let (session, _) = luke.begin();
    hans.wait_for("luke started a private session with you");
    socket2::SockRef::from(&session).set_linger(Some(Duration::ZERO)).expect("an option");
    drop(session);
    hans.wait_for("Private session with luke ended (gone)");
}

#[test]
fn one_session_too_many_is_refused_and_both_are_told() {
    let names: Vec<String> = (0..=SESSIONS_MAX).map(|number| format!("u{number}")).collect();
    let accounts: String = names.iter().map(|name| format!("{name} secret\n")).collect();
    let (house, state) = (House::new(format!("{ACCOUNTS}{accounts}")), folder());
    let server = house.serve(&[]);
    let mut hans = client(&server, &state, "hans");
    let mut sessions = Vec::new();
    for name in &names[..SESSIONS_MAX] {
        let mut stranger = Stranger::log_in_as(&server, name, "secret");
        sessions.push((stranger.begin(), stranger));
        hans.wait_for(&format!("{name} started a private session with you"));
    }
    let mut late = Stranger::log_in_as(&server, &names[SESSIONS_MAX], "secret");
    let (_, mut stream) = late.greet();
    let mut reader = FrameReader::default();
    assert_eq!(next(&mut stream, &mut reader), Some(Frame::Bye), "instead of a proof");
    assert_eq!(next(&mut stream, &mut reader), None);
    let refused = format!("you have {SESSIONS_MAX}, stop another first");
    hans.wait_for(&format!("Error. No private session with {}: {refused}", late.name));
    // Our own client says what that means, and hans cannot begin one either.
    let mut luke = client(&server, &state, "luke");
    luke.type_in("startprivate hans\nprivate hans hi\n");
    luke.wait_for("Error. hans has too many private sessions already, use message");
    luke.wait_for("Error. No private session with hans, use startprivate");
    hans.wait_for(&format!("Error. No private session with luke: {refused}"));
    hans.type_in("startprivate luke\n");
    hans.wait_for(&format!("Error. No private session with luke: {refused}"));
    // Those that there are go on, and the next who leaves makes room.
    let ((first, reader), _) = &mut sessions[0];
    hans.type_in("private u0 still here\nstopprivate u0\n");
    assert_eq!(next(first, reader), Some(Frame::Text("still here".to_owned())));
    assert_eq!(next(first, reader), Some(Frame::Bye));
    hans.wait_for("Private session with u0 ended (stopped)");
    begin(&mut hans, &mut luke);
}

/// The machine of luke gets another address while the server is away: he comes back from there,
/// and is dialled there.
#[test]
fn who_comes_back_from_another_address_is_dialled_there() {
    let Some(wire) = Wire::lay("who_comes_back_from_another_address_is_dialled_there") else { return };
    let (house, state) = (House::new(ACCOUNTS), folder());
    let [here, there] = WIRED;
    let serve = || Server::started(wire.at(0, &house.command(&["4000", "60", "120", "--bind", here])));
    let server = serve();
    let log_in = |end, name| {
        let mut client = Program::spawn(wire.at(end, &program(state.path(), &[here, "4000"])));
        let account = ACCOUNTS.lines().find(|line| line.starts_with(name)).expect("an account");
        client.type_in(&format!("{account}\nblock nobody\n"));
        client.wait_for("Error. Invalid user nobody");
        client
    };
    let (mut luke, mut hans) = (log_in(1, "luke"), log_in(0, "hans"));
    begin(&mut hans, &mut luke);
    hans.type_in("stopprivate luke\n");
    luke.wait_for("Private session with hans ended (stopped)");
    server.kill();
    for client in [&mut hans, &mut luke] {
        client.read_up_to("-- Connection lost");
    }
    let moved = "10.77.0.3";
    wire.ip(&["-n", &wire.names[1], "address", "add", &format!("{moved}/24"), "dev", "wire0"]).expect("root may");
    wire.ip(&["-n", &wire.names[1], "address", "delete", &format!("{there}/24"), "dev", "wire0"]).expect("root may");
    // With the last of the old addresses go the new ones of that net.
    let _ = wire.ip(&["-n", &wire.names[1], "address", "add", &format!("{moved}/24"), "dev", "wire0"]);
    let _server = serve();
    for client in [&mut hans, &mut luke] {
        client.read_up_to("-- Connected again");
        client.type_in("block nobody\n");
        client.wait_for("Error. Invalid user nobody");
    }
    begin(&mut hans, &mut luke);
    hans.type_in("private luke found you\n");
    luke.wait_for("hans(private): found you");
    let listens = |end: usize, address: &str| {
        let sockets = std::process::Command::new("ip")
            .args(["netns", "exec", &wire.names[end], "ss", "-Htnl", "src", address])
            .output()
            .expect("ss is where ip is");
        String::from_utf8_lossy(&sockets.stdout).lines().count()
    };
    assert_eq!((listens(1, moved), listens(1, there)), (1, 0), "at the new address alone");
}
