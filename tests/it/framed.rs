//! The framed dialect by real processes and sockets: handshakes, pushes, what dies, moves or is
//! deaf, what is no frame, and that nobody stays connected.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;

use chinwag::wire::framed::{FRAME_BYTES_MAX, encode};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::client;
use crate::crowd::now;
use crate::programs::{ACCOUNTS, House, Program, Server, has_netcat};
use crate::socket::PATIENCE;

/// A framed client made of sockets: it says what it is told to say.
pub(crate) struct Framed {
    server: SocketAddr,
    listener: TcpListener,
    name: String,
    pub(crate) token: String,
}

pub(crate) fn frame(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(text, &mut bytes);
    bytes
}

/// The frames in what a server has said until its end.
pub(crate) fn frames(mut bytes: &[u8]) -> Vec<String> {
    let mut frames = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let (frame, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        frames.push(String::from_utf8(frame.to_vec()).expect("UTF-8"));
        bytes = rest;
    }
    assert_eq!(bytes, b"", "whole frames");
    frames
}

/// What is answered to these bytes; `end` says whether nothing more will be sent.
fn answer(server: SocketAddr, bytes: &[u8], end: bool) -> Vec<String> {
    let mut stream = TcpStream::connect(server).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("an option");
    stream.write_all(bytes).expect("it is connected");
    if end {
        stream.shutdown(Shutdown::Write).expect("it is connected");
    }
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Ok(_) => {}
        // Whoever does not end his side is reset after the answer.
        Err(error) => assert!(error.kind() == ErrorKind::ConnectionReset && !end, "{error}"),
    }
    frames(&all)
}

impl Framed {
    pub(crate) fn log_in(server: &Server, name: &str, password: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        Self::log_in_at(server.framed[0], listener, name, password)
    }

    fn log_in_at(server: SocketAddr, listener: TcpListener, name: &str, password: &str) -> Self {
        let port = listener.local_addr().expect("bound").port().to_string();
        let said = ["LIN", name, password, "127.0.0.1", &port].map(frame).concat();
        let answers = answer(server, &said, false);
        assert_eq!(answers.first().map(String::as_str), Some("LOGIN_OKAY"), "{answers:?}");
        assert_eq!(answers.len(), 2, "{answers:?}");
        let token = answers[1].clone();
        assert!(token.len() >= 10 && token.bytes().all(|byte| byte.is_ascii_hexdigit()));
        Self { server, listener, name: name.to_owned(), token }
    }

    /// A request with the token: `MSG` and `yoda|hi`.
    pub(crate) fn ask(&self, kind: &str, data: &str) -> Vec<String> {
        let text = format!("{kind}|{}|{}|{data}", self.name, self.token);
        answer(self.server, &frame(&text), true)
    }

    /// The next push.
    pub(crate) fn hear(&self) -> String {
        let mut fds = [PollFd::new(&self.listener, PollFlags::IN)];
        let limit = Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
        assert_eq!(poll(&mut fds, Some(&limit)), Ok(1), "nothing is pushed to {}", self.name);
        let (mut stream, _) = self.listener.accept().expect("a push");
        stream.set_read_timeout(Some(PATIENCE)).expect("an option");
        let mut length = [0; 4];
        stream.read_exact(&mut length).expect("a frame");
        let mut text = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut text).expect("a frame");
        String::from_utf8(text).expect("UTF-8")
    }

    fn hear_all<const N: usize>(&self) -> [String; N] {
        std::array::from_fn(|_| self.hear())
    }
}

pub(crate) fn serve(house: &House) -> Server {
    house.serve(&["--framed-port", "0"])
}

/// A framed client program that has logged in.
fn program(state: &TempDir, server: &Server, name: &str, password: &str) -> Program {
    let port = server.framed[0].port().to_string();
    let mut program = Program::spawn(client::program(state.path(), &["framed", "127.0.0.1", &port, "127.0.0.1", "0"]));
    program.type_in(&format!("{name}\n{password}\n"));
    assert_eq!(program.read_line(), format!("Welcome, {name}! Type help for the commands"));
    program
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

#[test]
fn users_of_all_dialects_meet() {
    let house = House::new(ACCOUNTS);
    let server = serve(&house);
    let mut hans = server.client("hans");
    let yoda = Framed::log_in(&server, "yoda", "wise");
    assert_eq!(hans.look(), ["yoda logged in"]);
    let luke = Framed::log_in(&server, "luke", "skywalker");
    assert_eq!(yoda.hear(), "luke has logged on.");
    assert_eq!(hans.look(), ["luke logged in"]);

    hans.send("message yoda a | b");
    assert_eq!(yoda.hear(), "[hans]: a | b");
    assert!(yoda.ask("MSG", "hans|c | d").is_empty());
    assert_eq!(hans.look(), ["yoda: c | d"]);
    assert!(yoda.ask("MSG", "luke|to luke").is_empty());
    assert_eq!(luke.hear(), "[yoda]: to luke");
    assert!(luke.ask("BRD", "to all").is_empty());
    assert_eq!(hans.look(), ["luke: to all"]);
    assert_eq!(yoda.hear(), "[luke]: to all");
    assert!(luke.ask("ONL", "").is_empty());
    assert_eq!(luke.hear(), "Online: hans, yoda");
    assert!(yoda.ask("BLC", "1|hans").is_empty());
    assert_eq!(yoda.hear(), "hans is blocked");
    assert_eq!(hans.ask("message yoda no"), ["Error. yoda has blocked you, nothing sent"]);

    // One lockout for all: two misses there, one here.
    let wrong = ["LIN", "vader", "no", "vader", "no", "vader", "no", "vader", "sithlord"].map(frame).concat();
    let answers = answer(server.framed[0], &wrong, true);
    assert_eq!(answers[..3], ["LOGIN_FAILED|2", "LOGIN_FAILED|1", "JUST_PENNED|60.000"]);
    assert!(answers[3].starts_with("PENNED|59.") || answers[3] == "PENNED|60.000", "{answers:?}");
    assert!(server.script("vader sithlord\n").contains("Account blocked after failed logins"));

    assert!(luke.ask("OUT", "").is_empty());
    assert_eq!(hans.look(), ["luke logged out"]);
    assert_eq!(yoda.hear(), "luke is offline.");
    assert_eq!(luke.ask("HEY", ""), ["Error. You are not logged in here, or not any longer"]);
    server.stop();
    assert_eq!(yoda.hear(), "The server is stopping, goodbye");
}

/// As PROTOCOL.md shows it.
#[test]
fn the_handshake_by_printf_and_netcat() {
    if !has_netcat("the_handshake_by_printf_and_netcat") {
        return;
    }
    let house = House::new(ACCOUNTS);
    let server = serve(&house);
    let ear = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let own = ear.local_addr().expect("bound").port().to_string();
    let printed =
        |texts: &[&str]| texts.iter().map(|text| format!(r"\0\0\0\{:03o}{text}", text.len())).collect::<String>();
    let run = |texts: &[&str]| {
        let port = server.framed[0].port();
        let script = format!("printf '{}' | nc -N 127.0.0.1 {port}", printed(texts));
        let output = Command::new("sh").args(["-c", &script]).output().expect("a shell");
        frames(&output.stdout)
    };
    let answers = run(&["LIN", "hans", "falcon", "127.0.0.1", &own]);
    assert_eq!((&*answers[0], answers.len()), ("LOGIN_OKAY", 2));
    let hans = Framed { server: server.framed[0], listener: ear, name: "hans".to_owned(), token: answers[1].clone() };
    assert!(run(&[&format!("ONL|hans|{}|", hans.token)]).is_empty());
    assert_eq!(hans.hear(), "Nobody else");
}

/// Rows of the kernel's table of TCP connections that are established and have one of these ports.
fn established(ports: &[u16]) -> usize {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| std::fs::read_to_string(path).unwrap_or_default());
    let rows = tables.iter().flat_map(|table| table.lines().skip(1));
    let has_port = |address: &str| {
        let port = address.rsplit(':').next().and_then(|port| u16::from_str_radix(port, 16).ok());
        port.is_some_and(|port| ports.contains(&port))
    };
    rows.filter(|row| {
        let fields: Vec<&str> = row.split_ascii_whitespace().collect();
        fields[3] == "01" && (has_port(fields[1]) || has_port(fields[2]))
    })
    .count()
}

#[test]
fn nobody_stays_connected() {
    let house = House::new(ACCOUNTS);
    let server = serve(&house);
    let port = server.framed[0].port();
    // The control: what is connected is seen.
    let open = TcpStream::connect(server.framed[0]).expect("it listens");
    assert!(established(&[port]) >= 1);
    drop(open);

    let (state, hans) = (folder(), Framed::log_in(&server, "hans", "falcon"));
    let mut yoda = program(&state, &server, "yoda", "wise");
    assert_eq!(hans.hear(), "yoda has logged on.");
    yoda.type_in("message hans hi\nmessage luke later\n");
    assert_eq!(hans.hear(), "[yoda]: hi");
    assert_eq!(yoda.read_line(), "luke is offline (never online yet), message stored");
    assert!(hans.ask("MSG", "yoda|and you").is_empty());
    assert_eq!(yoda.read_line(), "[hans]: and you");

    // The last connection may still be ending. One that lasts would be there for ever.
    let ports = [port, hans.listener.local_addr().expect("bound").port()];
    let limit = now() + PATIENCE;
    while established(&ports) > 0 {
        assert!(now() < limit, "somebody stays connected");
        thread::yield_now();
    }
    yoda.signal(Signal::INT);
    assert_eq!(yoda.end().code, Some(0), "Ctrl-C logs out");
    assert_eq!(hans.hear(), "yoda is offline.");
}

#[test]
fn one_is_killed_one_moves_and_one_is_deaf() {
    let house = House::new(ACCOUNTS);
    let server = serve(&house);
    let mut hans = server.client("hans");
    let states: [TempDir; 3] = std::array::from_fn(|_| folder());
    let killed = program(&states[0], &server, "yoda", "wise");
    let mut moved = program(&states[1], &server, "luke", "skywalker");
    let deaf = Framed::log_in(&server, "vader", "sithlord");
    assert_eq!(hans.look(), ["yoda logged in", "luke logged in", "vader logged in"]);
    assert_eq!(moved.read_line(), "vader has logged on.");

    killed.signal(Signal::KILL);
    assert_eq!(killed.end().signal, Some(Signal::KILL.as_raw()));
    let Framed { listener, token, .. } = deaf;
    drop(listener);
    for name in ["yoda", "vader"] {
        hans.send(&format!("message {name} are you there?"));
        hans.wait_for(&format!("{name} logged out"));
    }
    // The others are not kept waiting, and hear each once.
    let heard = [moved.read_line(), moved.read_line()];
    assert_eq!(heard, ["yoda is offline.", "vader is offline."]);
    // Also the answer to a text that came when its reader had been found dead already.
    hans.look();
    let stale = answer(server.framed[0], &frame(&format!("HEY|vader|{token}|")), true);
    assert_eq!(stale, ["Error. You are not logged in here, or not any longer"]);

    let again = program(&states[2], &server, "luke", "skywalker");
    assert_eq!(moved.read_line(), "Logged in from another place");
    assert_eq!(moved.end().code, Some(6));
    hans.send("message luke at your new place");
    let mut again = again;
    // With its time, if the fate of the last push to the old place was not known yet.
    let said = again.read_line();
    assert!(said.ends_with("[hans]: at your new place") && !said.contains("repeated"), "{said:?}");
    assert_eq!(hans.look(), [""; 0], "luke was here all the time");

    // What could not be pushed has waited.
    let yoda = Framed::log_in(&server, "yoda", "wise");
    assert_eq!(yoda.hear(), "1 message came while you were away");
    assert!(yoda.hear().ends_with("] [hans]: are you there?"));
    again.type_in("logout\n");
    assert_eq!(again.end().code, Some(0));
}

#[test]
fn who_hangs_or_falls_silent_is_logged_out_once_and_delays_nobody() {
    let house = House::new(ACCOUNTS);
    let server = house.serve(&["--framed-port", "0", "--heartbeat-timeout", "3"]);
    let mut hans = server.client("hans");
    // Nobody takes what is pushed to vader, and yoda says nothing any more.
    let _hanging = Framed::log_in(&server, "vader", "sithlord");
    let yoda = Framed::log_in(&server, "yoda", "wise");
    hans.send("message vader are you there?");
    hans.send("message yoda not delayed");
    assert_eq!(yoda.hear(), "[hans]: not delayed");
    hans.wait_for("vader logged out");
    assert_eq!(yoda.hear(), "vader is offline.");
    hans.wait_for("yoda logged out");
    assert_eq!(yoda.hear(), "You timed out: nothing was heard from you for 3 s");
    hans.take_lines();
    assert_eq!(hans.ask("whoelse"), ["Nobody else"], "and nobody hears it again");
    let vader = Framed::log_in(&server, "vader", "sithlord");
    assert_eq!(vader.hear(), "1 message came while you were away");
    assert!(vader.hear().ends_with("[hans]: are you there?"));
}

#[test]
fn what_waits_survives_a_crash() {
    let house = House::new(ACCOUNTS);
    let server = serve(&house);
    let hans = Framed::log_in(&server, "hans", "falcon");
    let yoda = Framed::log_in(&server, "yoda", "wise");
    assert_eq!(hans.hear(), "yoda has logged on.");
    let Framed { listener, .. } = yoda;
    drop(listener);
    assert!(hans.ask("MSG", "yoda|one").is_empty());
    assert_eq!(hans.hear(), "yoda is offline.");
    for text in ["two", "three"] {
        assert!(hans.ask("MSG", &format!("yoda|{text}")).is_empty());
        assert!(hans.hear().ends_with("message stored"));
    }
    server.kill();

    let server = serve(&house);
    assert_eq!(answer(server.framed[0], &frame(&format!("HEY|hans|{}|", hans.token)), true).len(), 1, "no token lasts");
    let yoda = Framed::log_in(&server, "yoda", "wise");
    let [waiting, one, two, three] = yoda.hear_all();
    assert_eq!(waiting, "3 messages came while you were away");
    assert!(one.ends_with("[hans]: one") && two.ends_with("[hans]: two") && three.ends_with("[hans]: three"));
    // What was shown does not come again: the next push comes when that is on its way to the disk.
    assert!(yoda.ask("MSG", "luke|x").is_empty());
    assert!(yoda.hear().ends_with("message stored"));
    server.stop();
    let server = serve(&house);
    let yoda = Framed::log_in(&server, "yoda", "wise");
    assert!(yoda.ask("ONL", "").is_empty());
    assert_eq!(yoda.hear(), "Nobody else");
}

#[test]
fn what_is_no_request_is_answered_with_the_reason() {
    let house = House::new(ACCOUNTS);
    let server = serve(&house);
    let at = server.framed[0];
    let too_long = "Error. No frame, or one of over 65536 bytes; netcat is welcome at the line port";
    assert_eq!(answer(at, b"hans falcon\n", true), [too_long]);
    assert_eq!(answer(at, b"GET / HTTP/1.1\r\n\r\n", false), [too_long]);
    let over = u32::try_from(FRAME_BYTES_MAX + 1).expect("small").to_be_bytes();
    assert_eq!(answer(at, &over, false), [too_long]);
    assert_eq!(answer(at, b"\0\0\0\x05LIN", true), ["Error. The connection ended inside a frame"]);
    assert_eq!(answer(at, b"\0\0", true), ["Error. The connection ended inside a frame"]);
    assert_eq!(answer(at, b"", true), [""; 0]);
    assert_eq!(answer(at, b"\0\0\0\0", true), ["Error. No such request"]);
    assert_eq!(answer(at, b"\0\0\0\x03\xff\xfe\xfd", true), ["Error. The frame is not UTF-8 text"]);
    assert_eq!(answer(at, &frame("MSG|hans|0123456789"), true), ["Error. Fields of the request are missing or wrong"]);
    let not_in = ["Error. You are not logged in here, or not any longer"];
    assert_eq!(answer(at, &frame("BRD|hans|0123456789|hi"), true), not_in);
    assert_eq!(answer(at, &frame("BRD|obiwan|0123456789|hi"), true), not_in);
    assert_eq!(answer(at, &frame("GET|hans|0123456789|yoda"), true), ["FAIL"]);
    // A log-in that ends too early, or listens elsewhere, is none.
    let hans = ["LIN", "hans", "falcon"].map(frame).concat();
    assert_eq!(answer(at, &hans, true)[0], "LOGIN_OKAY");
    let foreign = [hans.clone(), frame("192.0.2.7"), frame("5001")].concat();
    assert_eq!(
        answer(at, &foreign, true)[2],
        "Error. You must listen at the address that you call from, or at localhost"
    );
    let nowhere = [hans.clone(), frame("127.0.0.1"), frame("0")].concat();
    assert_eq!(answer(at, &nowhere, true)[2], "Error. You must listen at an address and a port from 1 to 65535");
    let tries: Vec<u8> = (0..11).flat_map(|_| ["nobody", "x"].map(frame).concat()).collect();
    let answers = answer(at, &[frame("LIN"), tries].concat(), true);
    assert_eq!((answers.len(), &*answers[10]), (11, "Error. Too many tries on one connection"));
    let mut yoda = server.client("yoda");
    assert_eq!(yoda.ask("whoelse"), ["Nobody else"], "nobody has logged in");

    // A frame at the line port is a line that says nothing there.
    let mut bytes = frame("MSG|hans|0123456789|yoda|hi");
    bytes.push(b'\n');
    let said = server.script(&String::from_utf8(bytes).expect("UTF-8"));
    assert!(said.contains("Error. Unknown user"), "{said}");
    assert!(yoda.look().is_empty());
}

#[test]
fn json_is_one_object_per_line() {
    let house = House::new(ACCOUNTS);
    let server = serve(&house);
    let port = server.framed[0].port().to_string();
    let arguments = ["framed", "127.0.0.1", &port, "localhost", "0", "--json"];
    let (state, states) = (folder(), folder());
    let mut yoda = Program::spawn(client::program(state.path(), &arguments));
    yoda.type_in("yoda\nwise\n");
    assert_eq!(yoda.read_line(), r#"{"event":"answer","text":"Welcome, yoda! Type help for the commands"}"#);
    // Up to the time, which is another one every time.
    let heard = |line: String| line.split(r#","came":"20"#).next().map(str::to_owned).expect("a line");
    let mut hans = Program::spawn(client::program(states.path(), &arguments));
    hans.type_in("hans\nfalcon\nmessage yoda \"hi\\\nwhat\ngetaddress yoda\n");
    assert_eq!(heard(yoda.read_line()), r#"{"event":"pushed","text":"hans has logged on.""#);
    assert_eq!(heard(yoda.read_line()), r#"{"event":"said","from":"hans","text":"\"hi\\""#);
    assert!(yoda.read_line().contains("hans wants your address"));
    yoda.type_in("allow hans\n");
    hans.wait_for(r#"{"event":"refused","text":"Invalid command what (try help)"}"#);
    hans.wait_for(r#"{"event":"answer","text":"You may write to yoda privately: private yoda <text>"}"#);
    hans.type_in("private yoda psst\n");
    loop {
        let line = heard(yoda.read_line());
        if line == r#"{"event":"private","from":"hans","text":"psst""# {
            break;
        }
        assert!(line.starts_with(r#"{"event":"#), "{line:?}");
    }
    yoda.type_in("logout\n");
    assert_eq!(yoda.end().code, Some(0));
    hans.type_in("message yoda later\n");
    assert_eq!(hans.leave().code, Some(0));
    let mut yoda = Program::spawn(client::program(state.path(), &arguments));
    yoda.type_in("yoda\nwise\n");
    let ended = yoda.leave();
    let said = ended.stdout.lines().find(|line| line.contains(r#""event":"said""#)).expect("it was stored");
    assert!(said.contains(r#""from":"hans","text":"later","came":"20"#) && said.contains(r#","waited":""#), "{said}");
    assert!(ended.stdout.lines().all(|line| line.starts_with('{') && line.ends_with('}')), "{}", ended.stdout);
}

#[test]
fn scripts_get_their_answers_and_exit_codes() {
    let house = House::new(ACCOUNTS);
    let server = serve(&house);
    let port = server.framed[0].port().to_string();
    let run = |arguments: &[&str], input: &str| {
        let state = folder();
        let mut client = Program::spawn(client::program(state.path(), &[&["framed"], arguments].concat()));
        client.type_in(input);
        client.leave()
    };
    let to = ["127.0.0.1", &port, "localhost", "0"];
    let ended = run(&to, "hans\nfalcon\nmessage yoda hi\nonline\nblock yoda\nwhat\nprivate yoda x\nmessage a|b x\n");
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{}", ended.stdout);
    // What the client refuses by itself need not wait for what the server pushes.
    let pushed = ended.stdout.lines().filter(|line| !line.starts_with("Error. ")).skip(1);
    let answers = ["yoda is offline (never online yet), message stored", "Nobody else", "yoda is blocked"];
    assert_eq!(pushed.collect::<Vec<_>>(), answers, "{}", ended.stdout);
    for line in [
        "Error. Invalid command what (try help)\n",
        "Error. The address of yoda is not known, use getaddress first\n",
        "Error. a|b has a bar in the name, which no frame can hold\n",
    ] {
        assert!(ended.stdout.contains(line), "{line:?} is not in {:?}", ended.stdout);
    }
    let ended = run(&to, "hans\nno\n");
    assert_eq!((ended.code, ended.stderr.contains("tries left: 2")), (Some(4), true), "{}", ended.stderr);
    run(&to, "nobody\nno\n");
    run(&to, "nobody\nno\n");
    assert_eq!(run(&to, "nobody\nno\n").code, Some(5));
    assert_eq!(run(&["127.0.0.1", &port, "192.0.2.7", "0"], "hans\nfalcon\n").code, Some(3), "not our address");
    let held = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let taken = held.local_addr().expect("bound").port().to_string();
    assert_eq!(run(&["127.0.0.1", &port, "127.0.0.1", &taken], "hans\nfalcon\n").code, Some(3));
    let (_nobody, nobody) = client::nobody_listens();
    assert_eq!(run(&["127.0.0.1", &nobody, "127.0.0.1", "0"], "hans\nfalcon\n").code, Some(3));
    let line_port = server.port().to_string();
    assert_eq!(run(&["127.0.0.1", &line_port, "127.0.0.1", "0"], "hans\nfalcon\n").code, Some(3));
    assert_eq!(run(&["127.0.0.1"], "").code, Some(2));
    assert_eq!(run(&to, "hans\n").code, Some(1));
}

#[test]
fn private_texts_pass_the_server_by() {
    let house = House::new(ACCOUNTS);
    let server = serve(&house);
    let states: [TempDir; 2] = std::array::from_fn(|_| folder());
    let mut hans = program(&states[0], &server, "hans", "falcon");
    let mut yoda = program(&states[1], &server, "yoda", "wise");
    assert_eq!(hans.read_line(), "yoda has logged on.");
    hans.type_in("getaddress yoda\n");
    assert_eq!(hans.read_line(), "Request sent to yoda");
    assert_eq!(yoda.read_line(), "hans wants your address, type: allow hans or deny hans");
    yoda.type_in("allow hans\n");
    assert_eq!(yoda.read_line(), "hans is told that you agree");
    assert_eq!(hans.read_line(), "You may write to yoda privately: private yoda <text>");
    server.halt();
    hans.type_in("private yoda past | the server\n");
    assert_eq!(yoda.read_line(), "<hans>: past | the server");
    server.signal(Signal::CONT);
    yoda.signal(Signal::KILL);
    yoda.end();
    hans.type_in("private yoda are you there?\n");
    assert_eq!(hans.read_line(), "Error. yoda is no longer there, use message");
}

#[test]
fn the_framed_system_alone() {
    let house = House::new(ACCOUNTS);
    let server = Server::started(house.command(&["framed", "localhost", "0", "--ephemeral"]));
    assert!(server.addresses.is_empty());
    let hans = Framed::log_in(&server, "hans", "falcon");
    assert!(hans.ask("ONL", "").is_empty());
    assert_eq!(hans.hear(), "Nobody else");
    server.stop();
    assert_eq!(hans.hear(), "The server is stopping, goodbye");
    let ended = house.run(&["framed", "nowhere.invalid", "0"]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
}
