//! The client program out of a pipe: what it prints, how it ends, what it remembers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;

use rustix::process::Signal;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use crate::programs::{Ended, House, Program, has_ipv6};
use crate::socket::PATIENCE;

pub(crate) const ACCOUNTS: &str = "hans falcon\nyoda wise\nluke skywalker\n";

/// A client program with this state folder.
pub(crate) fn program(state: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_client"));
    command.args(arguments).env("XDG_STATE_HOME", state).env("TZ", "UTC").env("TERM", "xterm");
    for name in ["NO_COLOR", "CHINWAG_PASSWORD", "RUST_LOG"] {
        command.env_remove(name);
    }
    command
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// Runs the client to its end over this input.
fn run(state: &TempDir, arguments: &[&str], input: &str) -> Ended {
    let mut client = Program::spawn(program(state.path(), arguments));
    client.type_in(input);
    client.leave()
}

/// A port that is bound but on which nobody listens, so that nobody else can take it meanwhile.
pub(crate) fn nobody_listens() -> (Socket, String) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("loopback");
    let address = socket.local_addr().expect("bound").as_socket().expect("an address");
    (socket, address.port().to_string())
}

/// What answers the lines with which hans logs in.
pub(crate) const LOG_IN: [&str; 3] = ["hello chinwag/1 S\nask name", "ask password", "welcome hans 5 a"];

/// Answers a client line by line, as a server would; the connection is left open.
pub(crate) fn converse(listener: &TcpListener, answers: &[&str]) -> TcpStream {
    let (mut stream, _) = listener.accept().expect("a client");
    stream.set_read_timeout(Some(PATIENCE)).expect("an option");
    let mut lines = BufReader::new(stream.try_clone().expect("a descriptor")).lines();
    for answer in answers {
        lines.next().expect("a line").expect("in time");
        stream.write_all(format!("{answer}\n").as_bytes()).expect("it reads");
    }
    stream
}

/// A server that sends this to everybody, greets as ours does if need be, and closes.
fn pretender(lines: &'static [u8]) -> (SocketAddr, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let serve = move || {
        let (mut stream, _) = listener.accept().expect("a client");
        stream.set_read_timeout(Some(PATIENCE)).expect("an option");
        let _ = stream.write_all(lines).and_then(|()| stream.shutdown(Shutdown::Write));
        let _ = stream.read_to_end(&mut Vec::new());
    };
    (address, thread::spawn(serve))
}

#[test]
fn a_script_gets_one_line_per_event_and_no_prompts() {
    let (house, state) = (House::new(ACCOUNTS), folder());
    let server = house.serve(&[]);
    let port = server.port().to_string();
    let left = run(&state, &[&port], "hans\nfalcon\nmessage yoda hi\nwhoelse\nmessage yoda two  spaces\n\nfoo");
    let lines: Vec<&str> = left.stdout.lines().collect();
    assert_eq!(lines[0], "Welcome to chinwag, hans! Type help for the commands");
    assert_eq!(lines[1], "yoda is offline (never online yet), message stored");
    assert_eq!(lines[2], "Nobody else");
    assert_eq!(lines[4..], ["Error. Invalid command foo (try help)", "Goodbye"]);
    assert_eq!((left.code, left.stderr.as_str()), (Some(0), ""));
    // Shown once, wherever the next visit is made from: the server heard that it was shown.
    for (folder, count) in [(&state, 2), (&state, 0), (&folder(), 0)] {
        let left = run(folder, &["127.0.0.1", &port], "yoda wise\n");
        let said = left.stdout.lines().filter(|line| line.contains("] hans: ")).count();
        assert_eq!((left.code, said), (Some(0), count), "{left:?}");
    }
}

#[test]
fn json_is_one_object_per_line() {
    let (house, state) = (House::new(ACCOUNTS), folder());
    let server = house.serve(&[]);
    let port = server.port().to_string();
    let left = run(&state, &[&port, "--json"], "hans falcon\nmessage yoda \"hi\\\"\nwhoelse\nnonsense\n");
    let lines: Vec<&str> = left.stdout.lines().collect();
    assert_eq!(
        lines,
        [
            r#"{"event":"welcome","user":"hans"}"#,
            r#"{"event":"stored","to":"yoda"}"#,
            r#"{"event":"done","line":1}"#,
            r#"{"event":"nobody"}"#,
            r#"{"event":"done","line":2}"#,
            r#"{"event":"refused","reason":"invalid-command","text":"Invalid command nonsense (try help)"}"#,
            r#"{"event":"done","line":3}"#,
            r#"{"event":"goodbye"}"#,
        ]
    );
    let left = run(&state, &["--json", &port], "yoda wise\n");
    let said = left.stdout.lines().find(|line| line.contains(r#""event":"said""#)).expect("it was stored");
    assert!(said.contains(r#""from":"hans","text":"\"hi\\\"","sent":"20"#), "{said}");
    assert!(said.ends_with(r#"Z","road":"mail"}"#), "{said}");
}

#[test]
fn a_script_chats_in_a_mode_and_gets_its_receipts_later() {
    let (house, state) = (House::new(ACCOUNTS), folder());
    let server = house.serve(&[]);
    let port = server.port().to_string();
    let left =
        run(&state, &[&port, "--chat"], "hans falcon\nlogout\n//x\n/group\ny\nfriends\nyoda~luke\nfriends~a~b\n");
    let lines: Vec<&str> = left.stdout.lines().collect();
    let wanted = [
        "General mode: what you type goes to everybody; /exit leaves, /help lists commands",
        "[*sent*]",
        "[*sent*]",
        "Group mode: type group~text; /exit leaves, /help lists commands",
        "You are in no group",
        "Create a new group? (y/n)",
        "Name of the new group?",
        "Its members? (user~user~..., or ~ for nobody yet)",
        "hans created the group friends with luke, yoda",
        "Sent to friends: stored for luke (never online yet), yoda (never online yet)",
        "Goodbye",
    ];
    assert_eq!(lines[1..], wanted, "{}", left.stderr);
    assert_eq!(left.code, Some(0));
    let left = run(&state, &[&port], "yoda wise\n");
    assert!(left.stdout.contains("] [friends/hans] a~b\n"), "{}", left.stdout);
    // A one-shot message leaves the receipt to who can read it; then it is shown once.
    let send = ["send", "127.0.0.1", &port, "--user", "hans", "luke", "the lab is open"];
    let mut send = program(state.path(), &send);
    send.env("CHINWAG_PASSWORD", "falcon");
    let left = Program::spawn(send).leave();
    assert_eq!((left.code, left.stdout.as_str()), (Some(0), "luke is offline (never online yet), message stored\n"));
    for count in [1, 0] {
        let left = run(&state, &[&port, "--json"], "hans falcon\n");
        let seen =
            left.stdout.lines().filter(|line| line.contains(r#"{"event":"seen-meanwhile","user":"yoda","texts":1,"#));
        assert_eq!((left.code, seen.count()), (Some(0), count), "{}", left.stdout);
    }
}

/// However it is called, it is one server: clients over IPv4 and IPv6 and netcat meet.
#[test]
fn clients_of_both_families_meet() {
    if !has_ipv6("clients_of_both_families_meet") {
        return;
    }
    let (house, state) = (House::new(ACCOUNTS), folder());
    let server = house.serve(&[]);
    let port = server.port().to_string();
    let mut luke = server.client("luke");
    let pairs = [[&["127.0.0.1"][..], &["::1"]], [&["-4", "localhost"], &["[::1]"]], [&["localhost"], &["-6", "::1"]]];
    for (round, [one, other]) in pairs.into_iter().enumerate() {
        let mut clients = [(one, "hans falcon\n"), (other, "yoda wise\n")].map(|(arguments, login)| {
            let mut client = Program::spawn(program(state.path(), &[arguments, &[&port]].concat()));
            client.type_in(login);
            assert!(client.read_line().starts_with("Welcome"), "{arguments:?}");
            client
        });
        let [hans, yoda] = &mut clients;
        yoda.type_in("broadcast hello all\n");
        hans.wait_for("yoda: hello all");
        hans.type_in(&format!("message yoda hi\nmessage luke round {round}\n"));
        yoda.wait_for("hans: hi");
        luke.wait_for(&format!("hans: round {round}"));
        for client in clients {
            assert_eq!(client.leave().code, Some(0));
        }
    }
    // A family in which the name has no address.
    for arguments in [["-6", "127.0.0.1"], ["-4", "::1"]] {
        let left = run(&state, &[&arguments[..], &[&port]].concat(), "");
        assert_eq!(left.code, Some(3));
        assert!(left.stderr.contains(": the name has no such address\n"), "{}", left.stderr);
    }
}

#[test]
fn two_users_share_a_state_folder() {
    let (house, state) = (House::new(ACCOUNTS), folder());
    let server = house.serve(&[]);
    let port = server.port().to_string();
    let mut clients = ["hans falcon\n", "yoda wise\n"].map(|login| {
        let mut client = Program::spawn(program(state.path(), &[&port]));
        client.type_in(login);
        assert!(client.read_line().starts_with("Welcome"));
        client
    });
    assert_eq!(clients[0].read_line(), "yoda logged in");
    for number in 0..20 {
        clients[0].type_in(&format!("message yoda {number}\n"));
        clients[1].type_in(&format!("message hans {number}\n"));
        assert_eq!(clients[0].read_line(), format!("yoda: {number}"));
        assert_eq!(clients[1].read_line(), format!("hans: {number}"));
    }
    let [hans, yoda] = clients;
    let left = yoda.leave();
    assert_eq!((left.code, left.stdout.as_str()), (Some(0), "Goodbye\n"), "{}", left.stderr);
    assert_eq!(hans.leave().stdout, "yoda logged out\nGoodbye\n");
    // Nothing comes again to either.
    for login in ["hans falcon\n", "yoda wise\n"] {
        assert_eq!(run(&state, &[&port], login).stdout.lines().count(), 2, "{login}");
    }
}

#[test]
fn every_way_to_end_has_its_code_and_says_why() {
    let (house, state) = (House::new(ACCOUNTS), folder());
    let server = house.serve(&[]);
    let port = server.port().to_string();
    let code = |input: &str| {
        let left = run(&state, &[&port], input);
        let said = left.stderr.starts_with("error: ") && left.stderr.contains("\nhint: ");
        assert!(said || left.code == Some(0), "{left:?}");
        left.code
    };
    assert_eq!(code("hans falcon\nlogout\nwhoelse\n"), Some(0));
    assert_eq!(code(""), Some(1));
    assert_eq!(code("hans\n"), Some(1));
    assert_eq!(code("obi\nwan\nkenobi\n"), Some(4));
    assert_eq!(code("hans\nwrong\n"), Some(4));
    let mut hans = Program::spawn(program(state.path(), &[&port]));
    hans.type_in("hans falcon\n");
    hans.read_line();
    assert_eq!(code("hans falcon\n"), Some(6));
    assert_eq!(code("luke\na\nb\nc\n"), Some(5));
    assert_eq!(code("luke skywalker\n"), Some(5));
    server.stop();
    hans.wait_for("The server is stopping, goodbye");
    let left = hans.leave();
    assert_eq!(left.code, Some(10), "{left:?}");
    assert!(left.stderr.starts_with("error: "), "{left:?}");
    // Nobody listens there any more.
    assert_eq!(code("hans falcon\n"), Some(3));
    assert_eq!(run(&state, &["--color=sometimes", &port], "").code, Some(2));
    assert_eq!(run(&state, &[], "").code, Some(2));
    let (address, thread) = pretender(b"220 mail.example.org ESMTP\r\n");
    assert_eq!(run(&state, &[&address.port().to_string()], "").code, Some(9));
    thread.join().expect("it served");
    let (address, thread) = pretender(b"Username: \nError. The server is full, try again later\n");
    assert_eq!(run(&state, &[&address.port().to_string()], "").code, Some(1));
    thread.join().expect("it served");
    let (address, thread) = pretender(b"hello chinwag/1 S\nask name\nask password\ngarbage\n");
    assert_eq!(run(&state, &[&address.port().to_string()], "hans falcon\n").code, Some(9));
    thread.join().expect("it served");
}

#[test]
fn a_silent_user_is_logged_out_with_a_code_of_its_own() {
    let state = folder();
    let (address, thread) = pretender(b"hello chinwag/1 S\nask name\nask password\nwelcome hans 1 0a\ntimed-out 1\n");
    let left = run(&state, &[&address.port().to_string()], "hans falcon\n");
    assert!(left.stdout.ends_with("You timed out: no command for 1 s\n"), "{left:?}");
    assert_eq!(left.code, Some(7));
    thread.join().expect("it served");
}

#[test]
fn what_comes_with_the_goodbye_is_shown_once() {
    let state = folder();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port().to_string();
    for count in [1, 0] {
        let left = thread::scope(|scope| {
            scope.spawn(|| {
                let mut stream = converse(&listener, &LOG_IN);
                let _ = stream.write_all(b"said 7 live 0 yoda hi\ngoodbye\n");
                let _ = stream.read_to_end(&mut Vec::new());
            });
            run(&state, &[&port], "hans falcon\n")
        });
        assert_eq!((left.stdout.matches("yoda: hi\n").count(), left.code), (count, Some(0)), "{left:?}");
    }
}

#[test]
fn a_signal_logs_out() {
    let (house, state) = (House::new(ACCOUNTS), folder());
    let server = house.serve(&[]);
    let port = server.port().to_string();
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut hans = Program::spawn(program(state.path(), &[&port]));
        hans.type_in("hans falcon\n");
        hans.read_line();
        hans.signal(signal);
        hans.wait_for("Goodbye");
        assert_eq!(hans.leave().code, Some(0));
    }
}

#[test]
fn an_errand_is_one_message() {
    let (house, state) = (House::new(ACCOUNTS), folder());
    let server = house.serve(&[]);
    let port = server.port().to_string();
    let send = |password: Option<&str>, more: &[&str], to: &str| {
        let base = ["send", "127.0.0.1", &port, "--user", "hans", to, "the lab is open"];
        let mut command = program(state.path(), &[&base[..], more].concat());
        if let Some(password) = password {
            command.env("CHINWAG_PASSWORD", password);
        }
        Program::spawn(command).leave()
    };
    let left = send(Some("falcon"), &[], "yoda");
    assert_eq!(left.stdout, "yoda is offline (never online yet), message stored\n");
    assert_eq!((left.code, left.stderr.as_str()), (Some(0), ""));
    let left = send(Some("falcon"), &["--json"], "yoda");
    assert_eq!((left.code, left.stdout.as_str()), (Some(0), "{\"event\":\"stored\",\"to\":\"yoda\"}\n"));
    let left = send(Some("falcon"), &[], "obi");
    assert_eq!((left.code, left.stdout.as_str()), (Some(8), ""));
    assert!(left.stderr.starts_with("error: Invalid user obi\nhint: "), "{left:?}");
    assert_eq!(send(Some("wrong"), &[], "yoda").code, Some(4));
    assert_eq!(send(None, &[], "yoda").code, Some(2));
    let file = state.path().join("password");
    std::fs::write(&file, "falcon\n").expect("a file");
    let file = file.to_str().expect("UTF-8");
    assert_eq!(send(None, &["--password-file", file], "yoda").code, Some(0));
    assert_eq!(run(&state, &[&port], "yoda wise\nblock hans\n").code, Some(0));
    assert_eq!(send(Some("falcon"), &[], "yoda").code, Some(8));
    let mut hans = Program::spawn(program(state.path(), &[&port]));
    hans.type_in("hans falcon\n");
    hans.read_line();
    assert_eq!(send(Some("falcon"), &[], "luke").code, Some(6));
}
