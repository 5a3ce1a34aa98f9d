//! The client on a real pseudo terminal: typing while others talk, and a terminal left as found.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use expectrl::session::OsSession;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{LocalModes, Termios, tcgetattr};
use tempfile::TempDir;

use crate::client::{ACCOUNTS, program};
use crate::client_links::Link;
use crate::programs::{House, Server};
use crate::socket::PATIENCE;

const WELCOME: &str = "Welcome to chinwag, hans! Type help for the commands";

/// Keys.
const ENTER: &str = "\r";
const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";
const UP: &str = "\x1b[A";

/// What the editor writes when it is left.
const EDITOR_LEFT: &str = "\x1b[?2004l";

/// A client on a terminal, started by a shell that keeps the terminal when the client has ended.
struct Terminal {
    _session: OsSession,
    pty: File,
    before: Termios,
    /// All that has been shown, and how much of it has been looked at.
    shown: String,
    looked: usize,
    bytes: Vec<u8>,
}

impl Terminal {
    fn start(state: &TempDir, arguments: &[&str]) -> Self {
        let client = program(state.path(), arguments);
        let mut shell = Command::new("sh");
        let script = "stty sane; echo ready; read go; echo pid=$$; (exec \"$@\"); echo code=$?; read done";
        shell.args(["-c", script, "sh"]).arg(client.get_program()).args(client.get_args());
        for (name, value) in client.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        let session = expectrl::Session::spawn(shell).expect("a pseudo terminal");
        let pty = session.get_process().get_raw_handle().expect("a descriptor");
        let before = tcgetattr(&pty).expect("a terminal");
        let mut terminal = Self { _session: session, pty, before, shown: String::new(), looked: 0, bytes: Vec::new() };
        terminal.wait_for("ready");
        terminal.before = tcgetattr(&terminal.pty).expect("a terminal");
        terminal.type_in("\n");
        terminal.wait_for("pid=");
        terminal
    }

    /// A client that has logged hans in.
    fn logged_in(state: &TempDir, arguments: &[&str]) -> Self {
        let mut terminal = Self::start(state, arguments);
        terminal.log_in();
        terminal
    }

    fn log_in(&mut self) {
        self.wait_for("Username: ");
        self.type_in("hans\r");
        self.wait_for("Password: ");
        self.type_in("falcon\r");
        self.wait_for(WELCOME);
        self.wait_for("> ");
    }

    fn type_in(&mut self, keys: &str) {
        self.pty.write_all(keys.as_bytes()).expect("it is open");
    }

    /// Reads until this has been shown behind what was looked at before; returns what lay between.
    fn wait_for(&mut self, wanted: &str) -> String {
        loop {
            if let Some(at) = self.shown[self.looked..].find(wanted) {
                let between = self.shown[self.looked..self.looked + at].to_owned();
                self.looked += at + wanted.len();
                return between;
            }
            self.read(wanted);
        }
    }

    fn read(&mut self, wanted: &str) {
        let mut fds = [PollFd::new(&self.pty, PollFlags::IN)];
        let patience = Timespec { tv_sec: PATIENCE.as_secs().try_into().expect("small"), tv_nsec: 0 };
        let ready = poll(&mut fds, Some(&patience)).expect("a descriptor");
        assert_eq!(ready, 1, "{wanted:?} never came: {:?}", &self.shown[self.looked..]);
        let mut bytes = [0; 4096];
        let count = self.pty.read(&mut bytes).expect("the shell holds the terminal");
        self.bytes.extend_from_slice(&bytes[..count]);
        let whole = match std::str::from_utf8(&self.bytes) {
            Ok(text) => text.len(),
            Err(error) => error.valid_up_to(),
        };
        let rest = self.bytes.split_off(whole);
        self.shown.push_str(std::str::from_utf8(&self.bytes).expect("valid up to here"));
        self.bytes = rest;
    }

    /// Waits for the end of the client; the terminal must be as it was.
    fn end(mut self, code: u8) -> String {
        self.wait_for(&format!("code={code}\r\n"));
        let after = tcgetattr(&self.pty).expect("a terminal");
        assert_eq!(format!("{:?}", self.before), format!("{after:?}"), "the terminal is as it was");
        assert!(!self.shown.contains("falcon"), "the password is never seen");
        self.type_in("\n");
        self.shown
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn house() -> (House, Server, String) {
    let house = House::new(ACCOUNTS);
    let server = house.serve(&[]);
    let port = server.port().to_string();
    (house, server, port)
}

/// Yoda at netcat.
fn yoda(server: &Server) -> TcpStream {
    let mut stream = TcpStream::connect(server.addresses[0]).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("an option");
    stream.write_all(b"yoda wise\n").expect("it listens");
    stream
}

fn read_until(stream: &mut TcpStream, wanted: &str) {
    let mut all = Vec::new();
    let mut bytes = [0; 4096];
    while !String::from_utf8_lossy(&all).contains(wanted) {
        let count = stream.read(&mut bytes).expect("an answer in time");
        assert_ne!(count, 0, "{wanted:?} never came: {}", String::from_utf8_lossy(&all));
        all.extend_from_slice(&bytes[..count]);
    }
}

#[test]
fn a_password_is_not_seen_and_not_kept_and_the_history_is_private() {
    let ((_house, _server, port), state) = (house(), folder());
    let mut terminal = Terminal::logged_in(&state, &[&port]);
    let modes = tcgetattr(&terminal.pty).expect("a terminal").local_modes;
    assert!(!modes.contains(LocalModes::ECHO), "the editor is at work");
    terminal.type_in("whoelse\r");
    terminal.wait_for("Nobody else");
    terminal.type_in("logout\r");
    terminal.wait_for("Goodbye");
    terminal.end(0);
    let history = state.path().join("chinwag/history-hans");
    assert_eq!(std::fs::read_to_string(&history).expect("kept"), "whoelse\nlogout\n");
    assert_eq!(history.metadata().expect("there").permissions().mode() & 0o777, 0o600);
    assert_eq!(state.path().join("chinwag").metadata().expect("there").permissions().mode() & 0o777, 0o700);
    // The next run has it; the prompts for name and password have not.
    let mut terminal = Terminal::start(&state, &[&port]);
    terminal.wait_for("Username: ");
    terminal.type_in(UP);
    terminal.log_in_after_prompt();
    terminal.type_in(UP);
    terminal.wait_for("logout");
    terminal.type_in(UP);
    terminal.wait_for("whoelse");
    terminal.type_in(ENTER);
    terminal.wait_for("Nobody else");
    terminal.type_in(CTRL_D);
    terminal.wait_for("Goodbye");
    terminal.end(0);
}

impl Terminal {
    fn log_in_after_prompt(&mut self) {
        self.type_in("hans\r");
        self.wait_for("Password: ");
        self.type_in("falcon\r");
        self.wait_for(WELCOME);
        self.wait_for("> ");
    }
}

#[test]
fn what_is_being_typed_survives_what_comes() {
    let ((_house, server, port), state) = (house(), folder());
    let mut terminal = Terminal::logged_in(&state, &[&port, "--color=never"]);
    let mut yoda = yoda(&server);
    terminal.wait_for("yoda logged in");
    // Longer than a row, and with wide characters.
    let half = format!("message yoda {} \u{65e5}\u{672c}\u{8a9e}", "x".repeat(90));
    terminal.type_in(&half);
    terminal.wait_for("\u{8a9e}");
    for number in 0..20 {
        yoda.write_all(format!("message hans number {number} \u{4f60}\u{597d}\n").as_bytes()).expect("it listens");
    }
    for number in 0..20 {
        terminal.wait_for(&format!("yoda: number {number} \u{4f60}\u{597d}"));
    }
    terminal.wait_for(&half);
    terminal.type_in(" end\r");
    read_until(&mut yoda, &format!("hans: {} end\n", &half["message yoda ".len()..]));
    terminal.type_in("logout\r");
    terminal.end(0);
}

#[test]
fn the_tab_key_completes_commands_and_users_who_are_here() {
    let ((_house, server, port), state) = (house(), folder());
    let mut terminal = Terminal::logged_in(&state, &[&port]);
    let mut yoda = yoda(&server);
    terminal.wait_for("yoda logged in");
    terminal.type_in("mes\tyo\thi\r");
    read_until(&mut yoda, "hans: hi\n");
    // Nothing to choose from for who has left.
    drop(yoda);
    terminal.wait_for("yoda logged out");
    terminal.type_in("status yo\tx\r");
    terminal.wait_for("Invalid user yox");
    terminal.type_in("/he\tbl\t\r");
    terminal.wait_for("for example block vader");
    terminal.type_in("logout\r");
    terminal.end(0);
}

#[test]
fn ctrl_c_clears_the_line_first_and_then_logs_out() {
    let ((_house, _server, port), state) = (house(), folder());
    let mut terminal = Terminal::logged_in(&state, &[&port]);
    terminal.type_in("message nobody oops");
    terminal.wait_for("oops");
    terminal.type_in(CTRL_C);
    // Keys that come together with Ctrl-C go with the line: wait until the editor starts anew.
    terminal.wait_for(EDITOR_LEFT);
    terminal.wait_for("> ");
    terminal.type_in("whoelse\r");
    terminal.wait_for("Nobody else");
    terminal.wait_for("> ");
    terminal.type_in(CTRL_C);
    terminal.wait_for("Goodbye");
    let shown = terminal.end(0);
    assert!(!shown.contains("Invalid"), "{shown:?}");
}

#[test]
fn every_end_leaves_the_terminal_as_it_was() {
    let ((house, server, port), state) = (house(), folder());
    let start = || Terminal::start(&state, &[&port]);
    let log_in = || Terminal::logged_in(&state, &[&port]);

    let mut terminal = start();
    terminal.wait_for("Username: ");
    terminal.type_in(CTRL_D);
    terminal.end(0);
    let mut terminal = start();
    terminal.wait_for("Username: ");
    terminal.type_in("luke\r");
    terminal.wait_for("Password: ");
    terminal.type_in(CTRL_C);
    terminal.end(130);
    let mut terminal = start();
    for _ in 0..3 {
        terminal.wait_for("Username: ");
        terminal.type_in("obi\r");
        terminal.wait_for("Error. Unknown user");
    }
    terminal.wait_for("Three unknown names, goodbye");
    terminal.end(4);
    let mut terminal = start();
    terminal.wait_for("Username: ");
    terminal.type_in("luke\r");
    for tries in ["2 tries left", "1 try left", "Account blocked"] {
        terminal.wait_for("Password: ");
        terminal.type_in("nonsense\r");
        terminal.wait_for(tries);
    }
    terminal.end(5);

    let mut terminal = log_in();
    let mut second = start();
    second.wait_for("Username: ");
    second.log_in_refused();
    second.wait_for("hans is already logged in");
    second.end(6);
    terminal.type_in("logout\r");
    terminal.wait_for("Goodbye");
    terminal.end(0);

    // A signal while a line is being typed.
    for signal in [Signal::TERM, Signal::HUP] {
        let mut terminal = log_in();
        terminal.type_in("half a li");
        terminal.wait_for("half a li");
        terminal.signal(signal);
        terminal.wait_for("Goodbye");
        terminal.end(0);
    }

    // The server ends while a line is being typed.
    let mut terminal = Terminal::logged_in(&state, &[&port, "--no-reconnect"]);
    terminal.type_in("half a li");
    terminal.wait_for("half a li");
    server.kill();
    terminal.wait_for("error: the connection broke");
    terminal.end(1);
    let server = house.serve(&[]);
    let mut terminal = Terminal::logged_in(&state, &[&server.port().to_string()]);
    terminal.type_in("half a li");
    terminal.wait_for("half a li");
    server.stop();
    terminal.wait_for("The server is stopping, goodbye");
    terminal.wait_for("error: the server was stopped");
    terminal.end(10);
}

impl Terminal {
    fn log_in_refused(&mut self) {
        self.type_in("hans\r");
        self.wait_for("Password: ");
        self.type_in("falcon\r");
    }

    /// Sends a signal to the client: the child of the shell.
    fn signal(&self, signal: Signal) {
        let at = self.shown.find("pid=").expect("the shell said it") + 4;
        let shell: String = self.shown[at..].chars().take_while(char::is_ascii_digit).collect();
        let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).expect("a shell");
        let child = children.trim().parse().ok().and_then(Pid::from_raw).expect("one child");
        kill_process(child, signal).expect("it runs");
    }
}

#[test]
fn a_started_line_survives_a_lost_link_and_the_question_for_the_password() {
    let ((_first_house, first, _), state) = (house(), folder());
    let (_second_house, second, _) = house();
    let link = Link::new(first.addresses[0], 1, 0);
    let mut terminal = Terminal::logged_in(&state, &[&link.port()]);
    terminal.type_in("status yo");
    terminal.wait_for("status yo");
    link.move_to(second.addresses[0]);
    first.kill();
    terminal.wait_for("-- Connection lost (");
    terminal.wait_for("The server does not know this session any more, log in again");
    terminal.wait_for("Password: ");
    terminal.type_in("falcon\r");
    terminal.wait_for("-- Connected again after ");
    terminal.wait_for("> status yo");
    terminal.type_in("da\r");
    terminal.wait_for("yoda has never been online");
    terminal.type_in("logout\r");
    terminal.end(0);
    let history = std::fs::read_to_string(state.path().join("chinwag/history-hans")).expect("kept");
    assert_eq!(history, "status yoda\nlogout\n");
}

#[test]
fn a_dumb_terminal_gets_plain_lines_and_no_echo_of_the_password() {
    let ((_house, _server, port), state) = (house(), folder());
    let mut terminal = Terminal::start(&state, &[&port, "--json"]);
    terminal.wait_for("Username: ");
    terminal.type_in("hans\n");
    terminal.wait_for("Password: ");
    while tcgetattr(&terminal.pty).expect("a terminal").local_modes.contains(LocalModes::ECHO) {
        std::thread::yield_now();
    }
    terminal.type_in("falcon\n");
    terminal.wait_for(r#"{"event":"welcome","user":"hans"}"#);
    terminal.type_in("logout\n");
    terminal.wait_for(r#"{"event":"goodbye"}"#);
    terminal.end(0);
}
