//! The Basel systems as real processes: the rendezvous, its clients, and the direct talk, also
//! with the real netcat and between network namespaces.

use std::io::{ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;

use chinwag::wire::datagram::DATAGRAM_BYTES_MAX;
use rustix::process::Signal;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use crate::client::{nobody_listens, program};
use crate::crowd::memory;
use crate::dice::Dice;
use crate::netns::{WIRED, Wire};
use crate::programs::{ACCOUNTS, Ended, House, Program, has_netcat};
use crate::socket::PATIENCE;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

const STARTED: &str = "rendezvous for datagrams on ";

/// A rendezvous on a free port.
struct Hall {
    program: Program,
    address: SocketAddr,
    state: TempDir,
}

impl Hall {
    fn open() -> Self {
        Self::started(command(&["udp", "0"]))
    }

    fn started(command: Command) -> Self {
        let mut program = Program::spawn(command);
        let address = program.read_up_to(STARTED).parse().expect("an address");
        Self { program, address, state: folder() }
    }

    fn client(&self, arguments: &[&str]) -> Program {
        let (ip, port) = (self.address.ip().to_string(), self.address.port().to_string());
        let arguments = [&["udp", "-ip", &ip, "-port", &port], arguments].concat();
        Program::spawn(program(self.state.path(), &arguments))
    }

    /// A client with a name.
    fn guest(&self, name: &str) -> Program {
        let mut client = self.client(&["--name", name]);
        client.wait_for(&format!("-- You are called {name}"));
        client
    }

    fn socket(&self) -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        socket.connect(self.address).expect("loopback");
        socket.set_read_timeout(Some(PATIENCE)).expect("an option");
        socket
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_server"));
    command.args(arguments).env_remove("RUST_LOG");
    command
}

fn ask(socket: &UdpSocket, datagram: &str) -> String {
    socket.send(datagram.as_bytes()).expect("loopback");
    receive(socket)
}

fn receive(socket: &UdpSocket) -> String {
    let mut bytes = [0; DATAGRAM_BYTES_MAX];
    let count = socket.recv(&mut bytes).expect("an answer in time");
    String::from_utf8(bytes[..count].to_vec()).expect("UTF-8")
}

fn leave_well(client: Program) -> Ended {
    let ended = client.leave();
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{}", ended.stdout);
    ended
}

// The server.

#[test]
fn the_rendezvous_starts_in_every_spelling_and_stops() {
    for arguments in [
        &["udp", "0"][..],
        &["udp", "-ip", "localhost", "-port", "0"],
        &["udp", "-p", "0"],
        &["udp", "--port", "0", "--bind", "127.0.0.1"],
    ] {
        let hall = Hall::started(command(arguments));
        assert_eq!(ask(&hall.socket(), "REG:anna"), "LIN:anna", "{arguments:?}");
        hall.program.signal(Signal::TERM);
        let ended = hall.program.end();
        assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{arguments:?}");
    }
    for wrong in [&["udp"][..], &["udp", "x"], &["udp", "1", "-p", "2"], &["udp", "0", "--ip", "::1", "--bind", "::1"]]
    {
        let ended = Program::spawn(command(wrong)).end();
        assert_eq!(ended.code, Some(2), "{wrong:?}");
        assert!(ended.stderr.contains("Usage: "), "{}", ended.stderr);
    }
    let taken = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    let port = taken.local_addr().expect("bound").port().to_string();
    let ended = Program::spawn(command(&["udp", &port])).end();
    assert_eq!((ended.code, &*ended.stdout), (Some(1), ""));
    assert!(ended.stderr.starts_with(&format!("error: UDP port {port} is in use (127.0.0.1:{port})\nhint: ")));
}

#[test]
fn beside_the_line_port_the_rendezvous_lives_and_stops_with_the_server() {
    let house = House::new(ACCOUNTS);
    let mut server = house.serve(&["--udp-port", "0"]);
    let address: SocketAddr = server.read_note(STARTED).parse().expect("an address");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    socket.connect(address).expect("loopback");
    socket.set_read_timeout(Some(PATIENCE)).expect("an option");
    // A name here has nothing to do with the account of that name.
    assert_eq!(ask(&socket, "hi hans"), "hi hans");
    drop(server.client("hans"));
    server.stop();
    let again = UdpSocket::bind(address);
    assert!(again.is_ok(), "the port is free: {again:?}");
}

/// 100,000 datagrams without much sense: the server lives, answers some, and does not grow.
#[test]
fn a_flood_of_datagrams_neither_stops_nor_bloats_the_server() {
    const DATAGRAMS: u64 = 100_000;
    const AT_ONCE: u64 = 50;
    const GROWTH_BYTES_MAX: usize = 8 * 1024 * 1024;
    let hall = Hall::started(command(&["udp", "0", "--debug"]));
    let fence = hall.socket();
    let floods: Vec<UdpSocket> = (0..20).map(|_| hall.socket()).collect();
    for flood in &floods {
        flood.set_nonblocking(true).expect("an option");
    }
    let mut dice = Dice(7);
    let (mut before, mut sent, mut answers, mut received) = (0, 0, 0u64, 0);
    let words = ["REG:", "REQ:", "hi ", "ar ", "ul", "rl", "rc ", "rj ", "rk", "by", "GRP:", "CGR:", "GAC:", "MSG:"];
    for n in 0..DATAGRAMS {
        let mut datagram = words[dice.pick(words.len())].as_bytes().to_vec();
        let length = if dice.roll(100) == 0 { 3000 } else { 12 };
        for _ in 0..dice.roll(length) {
            datagram
                .push(if dice.roll(3) == 0 { dice.roll(256) } else { u64::from(b'a') + dice.roll(4) }.to_le_bytes()[0]);
        }
        sent += datagram.len();
        // What the kernel does not take is lost, as datagrams may be.
        let _ = floods[dice.pick(floods.len())].send(&datagram);
        if n % AT_ONCE == 0 {
            // Its answer comes when all before has been decided.
            assert!(ask(&fence, "GRP:").starts_with("GTA:"));
            for flood in &floods {
                let mut bytes = [0; 2 * DATAGRAM_BYTES_MAX];
                loop {
                    match flood.recv(&mut bytes) {
                        Ok(count) => {
                            assert!(count <= DATAGRAM_BYTES_MAX);
                            (answers, received) = (answers + 1, received + count);
                        }
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        }
        if n == DATAGRAMS / 10 {
            before = memory(hall.program.pid(), "VmRSS");
        }
    }
    let growth = memory(hall.program.pid(), "VmRSS").saturating_sub(before);
    println!(
        "{answers} answers of {received} bytes to {DATAGRAMS} datagrams of {sent} bytes; {growth} bytes of growth"
    );
    assert!(growth < GROWTH_BYTES_MAX, "{growth} bytes more");
    assert!(answers > 0);
    assert_eq!(ask(&fence, "REG:somebody-new"), "LIN:somebody-new");
    // The server has counted too: nothing was dropped on loopback, and most had no meaning.
    hall.program.signal(Signal::TERM);
    let log = hall.program.end().stderr;
    let count = |before: &str, after: &str| {
        let (_, rest) = log.split_once(before).unwrap_or_else(|| panic!("no {before:?} in {log}"));
        rest.split_once(after).and_then(|(count, _)| count.parse::<u64>().ok()).expect("a number")
    };
    let fences = DATAGRAMS / AT_ONCE + 1;
    let (came, out) = (count("datagrams: ", " came, "), count(" without meaning; ", " went out, "));
    println!("the server counted {came} and {out}");
    assert!(came <= DATAGRAMS + fences && count(" came, ", " of them without meaning") > DATAGRAMS / 5);
    assert!(out >= answers && count(" went out, ", " were dropped") == 0);
}

// Clients and the server.

#[test]
fn two_talk_in_both_spellings() {
    let hall = Hall::open();
    let (mut anna, mut bernd) = (hall.guest("Anna"), hall.guest("bernd"));
    let mut taken = hall.client(&["--name", "ANNA"]);
    taken.wait_for("Error. The name ANNA is taken");
    taken.type_in("hello\n");
    taken.wait_for("Error. Nobody gets what you type: cmd:request NAME, $roomjoin ROOM or cmd:enter NAME");
    leave_well(taken);
    anna.type_in("cmd:request nobody\ncmd:request BERND\nhello: two  blanks \n");
    anna.wait_for("Error. Nobody is called nobody");
    let place = anna.read_up_to("-- You talk to BERND ");
    bernd.read_up_to("-- Anna (127.0.0.1:");
    bernd.wait_for("-- What you type goes to Anna");
    bernd.wait_for("Anna: hello: two  blanks ");
    bernd.type_in("hi\x1b[2J\n");
    anna.wait_for("BERND: hi\u{241b}[2J");
    anna.type_in("$poke bernd\nand in words\n");
    assert_eq!(anna.read_up_to("-- You talk to bernd "), place);
    bernd.wait_for("Anna: and in words");
    bernd.type_in("in words too\n");
    anna.wait_for("bernd: in words too");
    // Leaving frees the name.
    anna.type_in(":q\n");
    assert_eq!(anna.end().code, Some(0));
    let mut other = hall.guest("ANNA");
    other.type_in("$userlist\n");
    other.wait_for("ANNA");
    other.wait_for("bernd");
    leave_well(other);
    leave_well(bernd);
}

#[test]
fn three_are_in_a_room_until_they_leave_it() {
    let hall = Hall::open();
    let [mut anna, mut bernd, mut carla] = ["anna", "bernd", "carla"].map(|name| hall.guest(name));
    anna.type_in("$roomcreate lab\n$roomjoin lab\n");
    anna.wait_for("-- Nobody else is in the room lab");
    bernd.type_in("$roomjoin lab\n");
    bernd.wait_for("-- 1 other is in the room lab");
    anna.wait_for("-- 1 other is in the room lab");
    carla.type_in("$roomjoin lab\n");
    for client in [&mut anna, &mut bernd, &mut carla] {
        client.wait_for("-- 2 others are in the room lab");
    }
    anna.type_in("hello both\n");
    bernd.wait_for("anna: hello both");
    carla.wait_for("anna: hello both");
    carla.type_in("$roomleave\nis anybody there?\n");
    carla.wait_for("-- You have left the room");
    carla.read_up_to("Error. Nobody gets what you type");
    bernd.wait_for("-- 1 other is in the room lab");
    leave_well(bernd);
    anna.wait_for("-- Nobody else is in the room lab");
    anna.type_in("hello?\n");
    anna.wait_for("Error. Nobody else is in the room");
    let left = leave_well(carla);
    assert!(!left.stdout.contains("anna"), "{}", left.stdout);
    leave_well(anna);
}

/// Whether groups work on loopback; says so if a test must be skipped.
fn has_multicast(test: &str) -> bool {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
    let joined = socket.join_multicast_v4(&Ipv4Addr::new(239, 77, 0, 1), &Ipv4Addr::LOCALHOST);
    if let Err(error) = &joined {
        println!("skipped {test}: no multicast on loopback: {error}");
    }
    joined.is_ok()
}

/// A port that nobody has now; groups on it are told apart by their addresses.
fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").expect("loopback").local_addr().expect("bound").port()
}

/// What is to be seen when three are in one group: the first has made it.
fn three_in_a_group(mut clients: [Program; 3], address: &str) {
    let port = free_port();
    let [anna, bernd, carla] = &mut clients;
    anna.type_in(&format!("cmd:create lab {address}.1 {port}\ncmd:create study {address}.2 {port}\ncmd:enter lab\n"));
    anna.wait_for(&format!("-- You are in the group lab at {address}.1:{port}"));
    bernd.type_in("cmd:enter LAB\n");
    anna.wait_for("bernd: Hey there I am bernd");
    carla.type_in("cmd:groups\ncmd:enter lab\n");
    carla.wait_for("lab");
    carla.wait_for("study");
    anna.wait_for("carla: Hey there I am carla");
    bernd.wait_for("carla: Hey there I am carla");
    // Carla's question tells her who is there, and them who she is.
    carla.type_in("cmd:members\n");
    let mut members = [carla.read_line(), carla.read_line(), carla.read_line(), carla.read_line(), carla.read_line()];
    members.sort_unstable();
    assert_eq!(members[0], "-- 2 others answered; an answer may be lost", "{members:?}");
    assert!(members[1].starts_with("-- You are in the group lab at "), "{members:?}");
    assert!(members[2].starts_with("anna (") && members[3].starts_with("bernd ("), "{members:?}");
    assert_eq!(members[4], "carla (you)");
    anna.type_in("hello all\n");
    bernd.wait_for("anna: hello all");
    carla.wait_for("anna: hello all");
    bernd.type_in("hello anna\n");
    anna.wait_for("bernd: hello anna");
    carla.wait_for("bernd: hello anna");
    // Out of one group and into another, on the same port.
    carla.type_in("cmd:enter study\nnobody hears this\n");
    carla.wait_for(&format!("-- You are in the group study at {address}.2:{port}"));
    anna.type_in("only bernd\n");
    bernd.wait_for("anna: only bernd");
    anna.type_in("cmd:members\n");
    anna.wait_for("-- 1 other answered; an answer may be lost");
    let [anna, bernd, carla] = clients.map(leave_well);
    for (name, shown) in [("anna", &anna), ("bernd", &bernd)] {
        assert!(!shown.stdout.contains(&format!("\n{name}: ")), "own messages are not shown: {}", shown.stdout);
        assert!(!shown.stdout.contains("nobody hears"), "{}", shown.stdout);
    }
    assert!(!carla.stdout.contains("only bernd"), "{}", carla.stdout);
}

#[test]
fn three_are_in_a_multicast_group_on_one_machine() {
    if !has_multicast("three_are_in_a_multicast_group_on_one_machine") {
        return;
    }
    let hall = Hall::open();
    three_in_a_group(["anna", "bernd", "carla"].map(|name| hall.guest(name)), "239.77.1");
}

#[test]
fn without_a_server_the_client_says_so() {
    let state = folder();
    let silent = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    let port = silent.local_addr().expect("bound").port().to_string();
    let mut client = Program::spawn(program(state.path(), &["udp", "127.0.0.1", &port]));
    client.type_in("cmd:register anna\n");
    client.end_input();
    let ended = client.end();
    assert_eq!(ended.code, Some(3));
    let refusal = format!("Error. No answer from 127.0.0.1:{port}: a datagram was lost, or no server is there\n");
    assert!(ended.stdout.ends_with(&refusal), "{}", ended.stdout);
    assert!(ended.stderr.starts_with(&format!("error: no answer from 127.0.0.1:{port}\nhint: ")), "{}", ended.stderr);
    for wrong in [&["udp"][..], &["udp", "127.0.0.1"], &["udp", "127.0.0.1", "x"], &["udp", "--ip", "::1"]] {
        assert_eq!(Program::spawn(program(state.path(), wrong)).end().code, Some(2), "{wrong:?}");
    }
    let own = silent.local_addr().expect("bound").port().to_string();
    let ended = Program::spawn(program(state.path(), &["udp", "127.0.0.1", "1", "--myport", &own])).end();
    assert_eq!(ended.code, Some(3));
    assert!(ended.stderr.contains("Address already in use"), "{}", ended.stderr);
}

#[test]
fn json_is_one_object_per_line_here_too() {
    let hall = Hall::open();
    let [mut anna, mut bernd] = ["anna", "bernd"].map(|name| {
        let mut client = hall.client(&["--json", "--name", name]);
        client.wait_for(&format!(r#"{{"event":"news","text":"You are called {name}"}}"#));
        client
    });
    anna.type_in("cmd:request bernd\nhi \"there\"\ncmd:what\n$userlist\n");
    let said = bernd.read_up_to(r#"{"event":"said","from":"anna","text":"hi \"there\"","came":""#);
    assert!(said.ends_with(r#"Z"}"#), "{said}");
    anna.read_up_to(r#"{"event":"refused","text":""#);
    anna.wait_for(r#"{"event":"answer","text":"bernd"}"#);
    for client in [anna, bernd] {
        let ended = leave_well(client);
        assert!(ended.stdout.lines().all(|line| line.starts_with('{') && line.ends_with('}')), "{}", ended.stdout);
    }

    let mut direct = Program::spawn(program(hall.state.path(), &["direct", "0", "--json"]));
    let place = direct.read_up_to(r#"{"event":"news","text":"Waiting to be called on "#);
    let port = place.split(" and").next().and_then(|word| word.trim_end_matches("\"}").rsplit(':').next());
    let port: u16 = port.and_then(|port| port.parse().ok()).unwrap_or_else(|| panic!("{place}"));
    let mut peer = std::net::TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    peer.write_all(b"a \x1b\n").expect("it reads");
    direct.read_up_to(r#"{"event":"news","text":"Connected to "#);
    direct.read_up_to("{\"event\":\"said\",\"from\":\"peer\",\"text\":\"a \u{241b}\",\"came\":\"20");
    drop(peer);
    assert_eq!(direct.end().code, Some(0));
}

// Between network namespaces.

#[test]
fn across_network_namespaces_all_of_it_works() {
    let Some(wire) = Wire::lay("across_network_namespaces_all_of_it_works") else { return };
    let [here, _] = WIRED;
    let mut server = Program::spawn(wire.at(0, &command(&["udp", "4001", "--bind", here])));
    assert_eq!(server.read_up_to(STARTED), format!("{here}:4001"));
    let state = folder();
    let guest = |end: usize, name: &str| {
        let client = program(state.path(), &["udp", "--ip", here, "--port", "4001", "--name", name]);
        let mut client = Program::spawn(wire.at(end, &client));
        client.wait_for(&format!("-- You are called {name}"));
        client
    };
    let (mut anna, mut bernd) = (guest(0, "anna"), guest(1, "bernd"));
    anna.type_in("cmd:request bernd\nacross the wire\n");
    anna.read_up_to(&format!("-- You talk to bernd ({}:", WIRED[1]));
    bernd.wait_for("anna: across the wire");
    bernd.type_in("and back\n");
    anna.wait_for("bernd: and back");
    leave_well(anna);
    leave_well(bernd);
    three_in_a_group([guest(0, "anna"), guest(1, "bernd"), guest(1, "carla")], "239.77.2");

    // What is asked from away is answered within its budget: `ul` is two bytes, its answer a list.
    let names: Vec<Program> = (0..20).map(|n| guest(0, &format!("somebody-with-a-name-{n}"))).collect();
    let asked = Program::spawn(wire.at(1, &asking("ul", 200, here))).leave();
    let bytes = asked.stdout.lines().map(str::len).sum::<usize>();
    assert!((500..200 * 2 + 4096).contains(&bytes), "{bytes} bytes for {} of questions: {asked:?}", 200 * 2);
    println!("{bytes} bytes for {} of questions", 200 * 2);
    drop(names);
    server.signal(Signal::TERM);
    assert_eq!(server.end().code, Some(0));
}

/// A shell that sends a datagram so many times and shows what comes within two seconds, a line each.
fn asking(datagram: &str, times: usize, ip: &str) -> Command {
    let mut command = Command::new("bash");
    // Each is a write of its own, and so a datagram of its own.
    let send = format!("exec 3<>/dev/udp/{ip}/4001; for n in $(seq {times}); do printf {datagram} >&3; done");
    let show = format!("timeout 2 cat <&3 | sed 's/{datagram} /\\n{datagram} /g'");
    command.args(["-c", &format!("{send}; {show}")]);
    command
}

// The direct talk.

/// A client that waits to be called, and its port.
fn waiting(state: &TempDir) -> (Program, String) {
    let mut client = Program::spawn(program(state.path(), &["direct", "0"]));
    let place = client.read_up_to("-- Waiting to be called on 0.0.0.0:");
    let port = place.split(' ').next().expect("a port").to_owned();
    (client, port)
}

#[test]
fn two_clients_talk_directly_and_a_third_is_refused() {
    let state = folder();
    let (mut called, port) = waiting(&state);
    let mut caller = Program::spawn(program(state.path(), &["direct", "127.0.0.1", &port]));
    caller.wait_for(&format!("-- Connected to 127.0.0.1:{port}; :q ends the talk"));
    called.read_up_to("-- Connected to ");
    let mut third = Program::spawn(program(state.path(), &["direct", "--ip", "127.0.0.1", "--port", &port]));
    third.wait_for("peer: Error. Somebody else is talking here already, goodbye");
    third.wait_for("-- The other side has ended the talk");
    assert_eq!(third.end().code, Some(0));
    // Both ways at once, in order, whole.
    let lines: String = (0..2000).map(|n| format!("line {n}: gr\u{fc}ezi\n")).collect();
    called.type_in(&lines);
    caller.type_in(&lines);
    for client in [&mut called, &mut caller] {
        for n in 0..2000 {
            let line = loop {
                let line = client.read_line();
                if !line.starts_with("-- ") {
                    break line;
                }
            };
            assert_eq!(line, format!("peer: line {n}: gr\u{fc}ezi"));
        }
    }
    caller.type_in(":q\n");
    called.wait_for("-- The other side has ended the talk");
    assert_eq!(called.end().code, Some(0));
    assert_eq!(caller.end().code, Some(0));
}

#[test]
fn who_finds_nobody_waits_on_his_own_port() {
    let state = folder();
    let (socket, nobody) = nobody_listens();
    let own = free_tcp_port();
    let arguments = ["direct", "-ip", "localhost", "-p", &nobody, "-mp", &own];
    let mut first = Program::spawn(program(state.path(), &arguments));
    first.read_up_to(&format!("-- localhost port {nobody} does not answer: "));
    first.read_up_to(&format!("-- Waiting to be called on 127.0.0.1:{own}"));
    let arguments = ["direct", "-ip", "localhost", "-port", &own, "-myport", &nobody];
    let mut second = Program::spawn(program(state.path(), &arguments));
    second.type_in("last line, without an end");
    second.end_input();
    first.wait_for("peer: last line, without an end");
    first.wait_for("-- The other side has ended the talk");
    assert_eq!((first.end().code, second.end().code), (Some(0), Some(0)));
    drop(socket);
    // A port that is taken is an error.
    let taken = std::net::TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let ended = Program::spawn(program(state.path(), &["direct", &port])).end();
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.starts_with(&format!("error: cannot wait on port {port}: ")), "{}", ended.stderr);
    for wrong in [&["direct"][..], &["direct", "x"], &["direct", "--port", "1"], &["direct", "1", "--myport", "2"]] {
        assert_eq!(Program::spawn(program(state.path(), wrong)).end().code, Some(2), "{wrong:?}");
    }
}

fn free_tcp_port() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").expect("loopback").local_addr().expect("bound").port().to_string()
}

#[test]
fn netcat_can_be_on_either_side() {
    if !has_netcat("netcat_can_be_on_either_side") {
        return;
    }
    let state = folder();
    let (mut called, port) = waiting(&state);
    let mut command = Command::new("nc");
    command.args(["127.0.0.1", &port]);
    let mut netcat = Program::spawn(command);
    netcat.type_in("hello from netcat\nhalf");
    called.wait_for("peer: hello from netcat");
    called.type_in("hello netcat\n");
    assert_eq!(netcat.read_line(), "hello netcat");
    netcat.signal(Signal::TERM);
    called.wait_for("peer: half");
    called.wait_for("-- The other side has ended the talk");
    assert_eq!(called.end().code, Some(0));

    let port = free_tcp_port();
    // It says when it listens, and then waits for one caller.
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec nc -v -l 127.0.0.1 \"$0\" 2>&1", &port]);
    let mut netcat = Program::spawn(shell);
    netcat.read_up_to("Listening on ");
    let mut caller = Program::spawn(program(state.path(), &["direct", "127.0.0.1", &port]));
    caller.type_in("hello netcat\n");
    netcat.wait_for("hello netcat");
    netcat.type_in("hello caller\n");
    caller.wait_for("peer: hello caller");
    caller.type_in(":q\n");
    netcat.end_input();
    assert_eq!((caller.end().code, netcat.end().code), (Some(0), Some(0)));
}

/// One that does not read and never ends: the other leaves all the same.
#[test]
fn a_silent_other_side_keeps_nobody() {
    let state = folder();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    let port = listener.local_addr().expect("bound").port().to_string();
    let mut client = Program::spawn(program(state.path(), &["direct", "127.0.0.1", &port]));
    let (stream, peer) = listener.accept().expect("a caller");
    assert_eq!(peer.ip(), IpAddr::V4(Ipv4Addr::LOCALHOST));
    client.wait_for(&format!("-- Connected to 127.0.0.1:{port}; :q ends the talk"));
    client.type_in("hello\n:q\n");
    assert_eq!(client.end().code, Some(0));
    drop(stream);
}
