//! The client on a real pseudo terminal: typing while others talk, and a terminal left as found.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::thread;
use std::time::Duration;

use expectrl::session::OsSession;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize};
use tempfile::TempDir;

use crate::client::{ACCOUNTS, LOG_IN, converse, nobody_listens, program};
use crate::client_links::Link;
use crate::programs::{House, Server};
use crate::socket::PATIENCE;

const WELCOME: &str = "Welcome to chinwag, hans! Type help for the commands";

/// Keys.
const ENTER: &str = "\r";
pub(crate) const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";
const UP: &str = "\x1b[A";

/// What the editor writes when it is left.
pub(crate) const EDITOR_LEFT: &str = "\x1b[?2004l";

/// A client on a terminal, started by a shell that keeps the terminal when the client has ended.
pub(crate) struct Terminal {
    _session: OsSession,
    pty: File,
    before: Termios,
    /// All that has been written, and how much of it has been looked at.
    pub(crate) shown: String,
    looked: usize,
    bytes: Vec<u8>,
    /// What a person sees of it.
    screen: vt100::Parser,
}

/// Rows and columns of a terminal.
const USUAL: (u16, u16) = (24, 80);

impl Terminal {
    pub(crate) fn start(state: &TempDir, arguments: &[&str]) -> Self {
        Self::run(&program(state.path(), arguments), USUAL)
    }

    fn run(client: &Command, (rows, columns): (u16, u16)) -> Self {
        let mut shell = Command::new("sh");
        // Ctrl-C between two lines of the editor is a signal, for the shell as well.
        let script = "trap : INT; stty sane; echo ready; read go; echo pid=$$; (exec \"$@\"); echo code=$?; read done";
        shell.args(["-c", script, "sh"]).arg(client.get_program()).args(client.get_args());
        for (name, value) in client.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        let session = expectrl::Session::spawn(shell).expect("a pseudo terminal");
        let pty = session.get_process().get_raw_handle().expect("a descriptor");
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&pty, size).expect("a terminal");
        let before = tcgetattr(&pty).expect("a terminal");
        let screen = vt100::Parser::new(rows.try_into().expect("some"), columns.try_into().expect("some"), 0);
        let mut terminal =
            Self { _session: session, pty, before, shown: String::new(), looked: 0, bytes: Vec::new(), screen };
        terminal.wait_for("ready");
        terminal.before = tcgetattr(&terminal.pty).expect("a terminal");
        terminal.type_in("\n");
        terminal.wait_for("pid=");
        terminal
    }

    /// A client that has logged hans in.
    pub(crate) fn logged_in(state: &TempDir, arguments: &[&str]) -> Self {
        let mut terminal = Self::start(state, arguments);
        terminal.log_in();
        terminal
    }

    /// A client that has logged this user in.
    pub(crate) fn logged_in_as(state: &TempDir, arguments: &[&str], account: &str) -> Self {
        let (name, password) = account.split_once(' ').expect("an account");
        let mut terminal = Self::start(state, arguments);
        terminal.wait_for("Username: ");
        terminal.give(name, password);
        terminal.wait_for(&format!("Welcome to chinwag, {name}! Type help for the commands"));
        terminal.wait_for("> ");
        terminal
    }

    fn log_in(&mut self) {
        self.wait_for("Username: ");
        self.log_in_after_prompt();
    }

    fn log_in_after_prompt(&mut self) {
        self.give_name_and_password();
        self.wait_for(WELCOME);
        self.wait_for("> ");
    }

    fn give_name_and_password(&mut self) {
        self.give("hans", "falcon");
    }

    fn give(&mut self, name: &str, password: &str) {
        self.type_in(&format!("{name}\r"));
        self.wait_for("Password: ");
        // A terminal without the editor shows the prompt first and then turns its echo off.
        while tcgetattr(&self.pty).expect("a terminal").local_modes.contains(LocalModes::ECHO) {
            thread::yield_now();
        }
        self.type_in(&format!("{password}\r"));
    }

    /// Begins a line that will not be ended.
    pub(crate) fn begin_line(&mut self) {
        self.type_in("half a li");
        self.wait_for("half a li");
    }

    pub(crate) fn type_in(&mut self, keys: &str) {
        self.pty.write_all(keys.as_bytes()).expect("it is open");
    }

    /// Reads until this has been shown behind what was looked at before; returns what lay between.
    pub(crate) fn wait_for(&mut self, wanted: &str) -> String {
        loop {
            if let Some(at) = self.shown[self.looked..].find(wanted) {
                let between = self.shown[self.looked..self.looked + at].to_owned();
                self.looked += at + wanted.len();
                return between;
            }
            self.read(wanted);
        }
    }

    /// Reads until the screen ends with these lines, or with as many of them as it has room for.
    /// Where a line is broken into rows does not matter, so blanks do not count.
    pub(crate) fn wait_for_screen(&mut self, wanted: &str) {
        let without_blanks = |text: &str| text.split_whitespace().collect::<String>();
        let wanted = &without_blanks(wanted)[..];
        loop {
            let seen = without_blanks(&self.screen.screen().contents());
            if seen.ends_with(wanted) || (wanted.ends_with(&seen) && !seen.is_empty()) {
                return;
            }
            self.read(&format!("{wanted} instead of {seen}"));
        }
    }

    fn read(&mut self, wanted: &str) {
        let mut fds = [PollFd::new(&self.pty, PollFlags::IN)];
        let patience = Timespec { tv_sec: PATIENCE.as_secs().try_into().expect("small"), tv_nsec: 0 };
        let ready = poll(&mut fds, Some(&patience)).expect("a descriptor");
        assert_eq!(ready, 1, "{wanted:?} never came: {:?}", &self.shown[self.looked..]);
        let mut bytes = [0; 4096];
        let count = self.pty.read(&mut bytes).expect("the shell holds the terminal");
        self.screen.process(&bytes[..count]);
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
    pub(crate) fn end(mut self, code: u8) -> String {
        self.wait_for(&format!("code={code}\r\n"));
        let after = tcgetattr(&self.pty).expect("a terminal");
        assert_eq!(format!("{:?}", self.before), format!("{after:?}"), "the terminal is as it was");
        assert!(!self.shown.contains("falcon"), "the password is never seen");
        self.type_in("\n");
        self.shown
    }
}

pub(crate) fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

pub(crate) fn house() -> (House, Server, String) {
    let house = House::new(ACCOUNTS);
    let server = house.serve(&[]);
    let port = server.port().to_string();
    (house, server, port)
}

/// Yoda at netcat.
pub(crate) fn yoda(server: &Server) -> TcpStream {
    let mut stream = TcpStream::connect(server.addresses[0]).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("an option");
    stream.write_all(b"yoda wise\n").expect("it listens");
    stream
}

pub(crate) fn read_until(stream: &mut TcpStream, wanted: &str) {
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
    // Outside the editor Ctrl-D would end nothing.
    terminal.wait_for("> ");
    terminal.type_in(CTRL_D);
    terminal.wait_for("Goodbye");
    terminal.end(0);
}

/// 20 lines a second, each wider than the terminal and with wide characters, while a line that is
/// wider as well is being typed.
#[test]
fn what_is_being_typed_survives_what_comes() {
    // Once with room for everything, once with all that comes scrolling away.
    for rows in [200, 8] {
        let ((_house, server, port), state) = (house(), folder());
        let mut terminal = Terminal::run(&program(state.path(), &[&port, "--color=never", "--no-times"]), (rows, 40));
        terminal.log_in();
        let mut yoda = yoda(&server);
        terminal.wait_for("yoda logged in");
        terminal.type_in("message yoda ");
        let (mut typed, mut come) = (String::new(), String::new());
        let pace = crossbeam_channel::tick(Duration::from_millis(50));
        for number in 0..40 {
            pace.recv().expect("it ticks on");
            let line = format!("number {number} {}.", "\u{4f60}\u{597d}".repeat(12));
            yoda.write_all(format!("message hans {line}\n").as_bytes()).expect("it listens");
            let keys = ["\u{65e5}\u{672c}", "abc "][number % 2];
            terminal.type_in(keys);
            typed += keys;
            come += &format!("yoda: {line}\n");
            terminal.wait_for(&format!("yoda: {line}"));
        }
        terminal.type_in("end");
        terminal.wait_for_screen(&format!("{come}> message yoda {typed}end"));
        terminal.type_in(ENTER);
        read_until(&mut yoda, &format!("hans: {typed}end\n"));
        terminal.type_in("logout\r");
        terminal.end(0);
    }
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
    // What can be chosen from is listed; the line goes on behind it.
    terminal.type_in("who\t");
    terminal.wait_for_screen("whoelse       whoelsesince\n> whoelse");
    terminal.type_in("since 1000\r");
    terminal.wait_for("yoda\r\n");
    terminal.type_in("logout\r");
    terminal.end(0);
}

/// From the prompt of the general mode to a group with a member, a text, its receipts, and back.
#[test]
fn the_prompt_tells_the_mode_and_group_mode_is_a_dialogue() {
    let ((_house, server, port), state) = (house(), folder());
    let mut terminal = Terminal::start(&state, &[&port, "--chat", "--color=never", "--no-times"]);
    terminal.wait_for("Username: ");
    terminal.give_name_and_password();
    terminal.wait_for_screen(
        "Welcome to chinwag, hans! Type help for the commands\n\
         General mode: what you type goes to everybody; /exit leaves, /help lists commands\n\
         general>",
    );
    let mut yoda = yoda(&server);
    terminal.wait_for("yoda logged in");
    terminal.type_in("logout\r");
    terminal.wait_for_screen("general> logout\n[*sent*]\n[seen by yoda]\ngeneral>");
    read_until(&mut yoda, "] hans: logout\n");
    terminal.type_in("/gr\t\t");
    terminal.wait_for_screen("/group   /groups\ngeneral> /group");
    terminal.type_in("\r");
    terminal.wait_for_screen("You are in no group\nCreate a new group? (y/n)\ngroup>");
    terminal.type_in("y\r");
    terminal.wait_for_screen("Name of the new group?\ngroup>");
    terminal.type_in("study\r");
    terminal.wait_for_screen("Its members? (user~user~..., or ~ for nobody yet)\ngroup>");
    terminal.type_in("yoda\r");
    read_until(&mut yoda, "hans created the group study with yoda\n");
    terminal.wait_for_screen("hans created the group study with yoda\ngroup study>");
    terminal.type_in("st\tfirst~draft\r");
    read_until(&mut yoda, "[study/hans] first~draft\n");
    terminal.wait_for_screen("> study~first~draft\n[*sent*]\n[seen by yoda]\ngroup study>");
    yoda.write_all(b"group send study fine\n").expect("it listens");
    terminal.wait_for("[study/yoda] fine");
    terminal.type_in("/kick yo\t\r");
    read_until(&mut yoda, "hans removed yoda from study\n");
    terminal.wait_for_screen("hans removed yoda from study\ngroup study>");
    terminal.type_in("/exit\r");
    terminal.wait_for_screen(
        "General mode: what you type goes to everybody; /exit leaves, /help lists commands\n\
         general>",
    );
    terminal.type_in("/exit\r");
    terminal.wait_for_screen("Command mode: type commands, help lists them\n>");
    terminal.type_in("/direct\r");
    terminal.wait_for_screen("Direct mode: type user~text; /exit leaves, /help lists commands\ndirect>");
    terminal.type_in("yo\tbye\r");
    read_until(&mut yoda, "hans: bye\n");
    terminal.type_in(CTRL_C);
    terminal.wait_for("Goodbye");
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
fn rarer_ends_leave_the_terminal_as_it_was() {
    let ((_house, _server, port), state) = (house(), folder());
    let mut terminal = Terminal::start(&state, &["--color=sometimes", &port]);
    terminal.wait_for("sometimes");
    terminal.end(2);
    let (_socket, nobody) = nobody_listens();
    let mut terminal = Terminal::start(&state, &[&nobody]);
    terminal.wait_for("error: cannot connect");
    terminal.end(3);
    let mut send = program(state.path(), &["send", "127.0.0.1", &port, "--user", "hans", "obi", "hi"]);
    send.env("CHINWAG_PASSWORD", "falcon");
    let mut terminal = Terminal::run(&send, USUAL);
    terminal.wait_for("error: Invalid user obi");
    terminal.end(8);

    // While a line is being typed.
    for (last, error, code) in [
        ("timed-out 120", "logged out after 120 s without a command", 7),
        ("what is this", "the server said what this client does not understand: what is this", 9),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port().to_string();
        let mut terminal = Terminal::start(&state, &[&port]);
        let mut stream = thread::scope(|scope| {
            let server = scope.spawn(|| converse(&listener, &LOG_IN));
            terminal.log_in();
            server.join().expect("it answers")
        });
        terminal.begin_line();
        stream.write_all(format!("{last}\n").as_bytes()).expect("it reads");
        terminal.wait_for(&format!("error: {error}"));
        terminal.end(code);
    }
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
    second.give_name_and_password();
    second.wait_for("hans is already logged in");
    second.end(6);
    terminal.type_in("logout\r");
    terminal.wait_for("Goodbye");
    terminal.end(0);

    // A signal while a line is being typed.
    for signal in [Signal::TERM, Signal::HUP] {
        let mut terminal = log_in();
        terminal.begin_line();
        terminal.signal(signal);
        terminal.wait_for("Goodbye");
        terminal.end(0);
    }

    // The server ends while a line is being typed.
    let mut terminal = Terminal::logged_in(&state, &[&port, "--no-reconnect"]);
    terminal.begin_line();
    server.kill();
    terminal.wait_for("error: the connection broke");
    terminal.end(1);
    let server = house.serve(&[]);
    let mut terminal = Terminal::logged_in(&state, &[&server.port().to_string()]);
    terminal.begin_line();
    server.stop();
    terminal.wait_for("The server is stopping, goodbye");
    terminal.wait_for("error: the server was stopped");
    terminal.end(10);
}

impl Terminal {
    /// Sends a signal to the client: the child of the shell.
    pub(crate) fn signal(&self, signal: Signal) {
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
    terminal.type_in("falcno\r");
    terminal.wait_for("Invalid password, 2 tries left");
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
    terminal.give_name_and_password();
    terminal.wait_for(r#"{"event":"welcome","user":"hans"}"#);
    terminal.type_in("logout\n");
    terminal.wait_for(r#"{"event":"goodbye"}"#);
    terminal.end(0);
}

/// How a line of another user looks.
#[test]
fn colours_times_and_bell_are_as_asked_for() {
    for (variables, options, coloured, timed, rings) in [
        (&[][..], &[][..], true, true, false),
        (&[("NO_COLOR", "1")], &[], false, true, false),
        (&[("NO_COLOR", "")], &["--color=auto", "--bell"], true, true, true),
        (&[("NO_COLOR", "1")], &["--color=always", "--no-times"], true, false, false),
        (&[], &["--color=never", "--no-times", "--bell"], false, false, true),
        (&[("TERM", "dumb")], &[], false, false, false),
        (&[("TERM", "dumb")], &["--color=always"], true, false, false),
    ] {
        let case = format!("{variables:?} {options:?}");
        // A server of its own: what an earlier case had no time to confirm would come as mail.
        let ((_house, server, port), state) = (house(), folder());
        let mut client = program(state.path(), &[&[port.as_str()], options].concat());
        client.envs(variables.iter().copied());
        let mut terminal = Terminal::run(&client, USUAL);
        let is_dumb = variables.contains(&("TERM", "dumb"));
        terminal.wait_for("Username: ");
        terminal.give_name_and_password();
        terminal.wait_for(WELCOME);
        let mut yoda = yoda(&server);
        terminal.wait_for("yoda logged in");
        // Answered after all that waited, such as a text that the log-out before was too fast for.
        terminal.type_in("help help\r");
        terminal.wait_for("for example help block");
        let start = terminal.shown.len();
        yoda.write_all(b"message hans hans!\nlogout\n").expect("it listens");
        terminal.wait_for("yoda logged out");
        read_until(&mut yoda, "Goodbye");
        let written = &terminal.shown[start..];
        assert_eq!(written.contains("\x1b[1;7mhans\x1b[0m!"), coloured, "{case}: {written:?}");
        assert_eq!(has_colour(written), coloured, "{case}: {written:?}");
        assert_eq!(written.contains('\x07'), rings, "{case}: {written:?}");
        assert!(!is_dumb || coloured || !terminal.shown.contains('\x1b'), "{case}: {:?}", terminal.shown);
        let seen = terminal.screen.screen().contents();
        let line = seen.lines().rfind(|line| line.ends_with("yoda: hans!")).unwrap_or_else(|| panic!("{case}: {seen}"));
        let time: String = line.replace("yoda: hans!", "").replace(|c: char| c.is_ascii_digit(), "0");
        assert_eq!(time, if timed { "00:00 " } else { "" }, "{case}");
        terminal.type_in("logout\r");
        terminal.end(0);
    }
}

/// Whether a style is set anywhere.
fn has_colour(written: &str) -> bool {
    written
        .split("\x1b[")
        .skip(1)
        .any(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').starts_with('m'))
}

/// A client with an answer to type while others talk, and the prompt that says who gets it.
#[test]
fn what_is_typed_for_datagrams_survives_what_comes_and_the_prompt_says_who_gets_it() {
    let (house, state) = (House::new(ACCOUNTS), folder());
    let mut server = house.serve(&["--udp-port", "0"]);
    let address: SocketAddr = server.read_note("rendezvous for datagrams on ").parse().expect("an address");
    let port = address.port().to_string();
    let arguments = ["udp", "127.0.0.1", &port, "--name", "anna", "--no-times"];
    let mut anna = Terminal::start(&state, &arguments);
    anna.wait_for("-- You are called anna");
    let bernd = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    bernd.set_read_timeout(Some(PATIENCE)).expect("an option");
    bernd.send_to(b"REG:bernd", address).expect("loopback");
    let mut bytes = [0; 1024];
    let (count, _) = bernd.recv_from(&mut bytes).expect("an answer in time");
    assert_eq!(&bytes[..count], b"LIN:bernd");
    // Commands and known names are completed.
    anna.type_in("$userl\t\r");
    anna.wait_for("bernd");
    anna.type_in("cmd:req\tber\t\r");
    anna.wait_for("-- You talk to bernd");
    anna.wait_for("bernd> ");
    let (count, here) = bernd.recv_from(&mut bytes).expect("a greeting in time");
    assert_eq!(&bytes[..count], b"PTP:anna");
    anna.type_in("half a li");
    anna.wait_for("half a li");
    for n in 0..20 {
        bernd.send_to(format!("MSG:text {n}").as_bytes(), here).expect("loopback");
        anna.wait_for(&format!("text {n}"));
    }
    // Another asks for her: what she types goes there, and the started line is kept.
    let carla = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    carla.set_read_timeout(Some(PATIENCE)).expect("an option");
    carla.send_to(b"PTP:carla", here).expect("loopback");
    anna.wait_for("talks to you");
    anna.wait_for("carla> ");
    anna.wait_for("half a li");
    anna.type_in("ne\r");
    let (count, _) = carla.recv_from(&mut bytes).expect("a text in time");
    assert_eq!(&bytes[..count], b"MSG:half a line");
    anna.type_in(UP);
    anna.wait_for("half a line");
    anna.type_in(UP);
    anna.wait_for("cmd:request bernd");
    // The first empties the line. What is typed before the prompt is there again is lost.
    anna.type_in(CTRL_C);
    anna.wait_for(EDITOR_LEFT);
    anna.wait_for("carla> ");
    anna.type_in(CTRL_C);
    anna.end(0);
    let history = std::fs::read_to_string(state.path().join("chinwag/history-client%20udp")).expect("kept");
    assert_eq!(history, "$userlist \ncmd:request bernd \nhalf a line\n");
}

#[test]
fn what_is_typed_directly_survives_what_comes() {
    let state = folder();
    let mut client = Terminal::start(&state, &["direct", "0", "--no-times"]);
    client.wait_for("on 0.0.0.0:");
    let port = client.wait_for(" ").parse::<u16>().expect("a port");
    client.type_in("too early\r");
    client.wait_for("Error. Nobody is here yet, not sent");
    let mut peer = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    peer.set_read_timeout(Some(PATIENCE)).expect("an option");
    client.wait_for("-- Connected to ");
    client.begin_line();
    for n in 0..20 {
        peer.write_all(format!("text {n}\x1b[2J\n").as_bytes()).expect("it reads");
        client.wait_for(&format!(": text {n}\u{241b}[2J"));
    }
    client.wait_for_screen("peer: text 19\u{241b}[2J > half a li");
    client.type_in("ne\r");
    read_until(&mut peer, "half a line\n");
    // The other side ends while something is being typed.
    client.begin_line();
    drop(peer);
    client.wait_for("-- The other side has ended the talk");
    client.end(0);
    let mut again = Terminal::start(&state, &["direct", "0"]);
    again.wait_for("-- Waiting to be called on ");
    again.wait_for("> ");
    again.type_in(UP);
    again.wait_for("half a line");
    again.type_in(CTRL_C);
    again.wait_for(EDITOR_LEFT);
    again.wait_for("> ");
    again.type_in(":q\r");
    again.end(0);
}
