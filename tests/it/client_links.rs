//! The client over links that break: every message exactly once, through a thousand cuts, and
//! through a server that is killed and started again.

use std::io::{BufRead, BufReader, Cursor, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::Signal;
use socket2::SockRef;
use tempfile::TempDir;

use crate::client::program;
use crate::dice::Dice;
use crate::programs::{House, Program};
use crate::socket::PATIENCE;

/// Pairs of clients; each of them behind a link of its own.
const PAIRS: usize = 10;

/// Cuts of every link: 1,000 together.
const CUTS: usize = 50;

/// Messages that one client may be ahead of the other.
const AHEAD_MAX: usize = 100;

/// A link to a server that cuts connections after some bytes, sometimes with a reset.
pub(crate) struct Link {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    /// Where the server is now.
    server: Mutex<SocketAddr>,
    dice: Mutex<Dice>,
    cuts: AtomicUsize,
    cuts_max: usize,
    stopped: AtomicBool,
}

impl Link {
    pub(crate) fn new(server: SocketAddr, seed: u64, cuts_max: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared {
            server: Mutex::new(server),
            dice: Mutex::new(Dice(seed)),
            cuts: AtomicUsize::new(0),
            cuts_max,
            stopped: AtomicBool::new(false),
        });
        let thread = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || accept(&listener, &shared))
        };
        Self { address, shared, thread: Some(thread) }
    }

    pub(crate) fn port(&self) -> String {
        self.address.port().to_string()
    }

    /// New connections go to this server.
    pub(crate) fn move_to(&self, server: SocketAddr) {
        *self.shared.server.lock().expect("not poisoned") = server;
    }

    fn cuts(&self) -> usize {
        self.shared.cuts.load(Ordering::SeqCst)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the accepting thread.
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut first = true;
    while let Ok((client, _)) = listener.accept() {
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        let server = *shared.server.lock().expect("not poisoned");
        // A server that is just away: the client hears an end without a word.
        let Ok(server) = TcpStream::connect(server) else { continue };
        let life = {
            let mut dice = shared.dice.lock().expect("not poisoned");
            let at_once = if dice.roll(5) == 0 { 300 } else { 4000 };
            // The log-in with the password must succeed; from then on anything may break.
            let log_in = if std::mem::take(&mut first) { 1000 } else { 0 };
            log_in + 1 + dice.pick(at_once)
        };
        let wire = Arc::new(Wire { client, server, left: Mutex::new(life), shared: Arc::clone(shared) });
        for up in [true, false] {
            let wire = Arc::clone(&wire);
            thread::spawn(move || wire.carry(up));
        }
    }
}

/// One connection through a link.
struct Wire {
    client: TcpStream,
    server: TcpStream,
    /// Bytes until the cut, both ways together.
    left: Mutex<usize>,
    shared: Arc<Shared>,
}

impl Wire {
    fn carry(&self, up: bool) {
        let (mut from, mut to) = if up { (&self.client, &self.server) } else { (&self.server, &self.client) };
        let mut bytes = [0; 2048];
        loop {
            let count = match from.read(&mut bytes) {
                Ok(0) => break drop(to.shutdown(Shutdown::Write)),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => break self.close(),
            };
            let mut left = self.left.lock().expect("not poisoned");
            if *left == 0 {
                break;
            }
            let spared = self.shared.cuts.load(Ordering::SeqCst) >= self.shared.cuts_max;
            let pass = if spared { count } else { count.min(*left) };
            if to.write_all(&bytes[..pass]).is_err() {
                break self.close();
            }
            if !spared {
                *left -= pass;
                if *left == 0 {
                    self.shared.cuts.fetch_add(1, Ordering::SeqCst);
                    break self.cut();
                }
            }
        }
    }

    /// Cuts both connections: sometimes with a reset, which may destroy what is on its way.
    fn cut(&self) {
        let sides = self.shared.dice.lock().expect("not poisoned").roll(4);
        for (stream, reset) in [(&self.client, sides & 1 == 1), (&self.server, sides & 2 == 2)] {
            if reset {
                let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
            }
        }
        self.close();
    }

    fn close(&self) {
        for stream in [&self.client, &self.server] {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Reads the lines of a client as they come.
fn lines_of(client: &mut Program) -> Receiver<String> {
    let (sender, receiver) = channel();
    let read = Cursor::new(client.stdout.buffer().to_vec());
    let mut out = BufReader::new(read.chain(client.stdout.get_ref().try_clone().expect("a descriptor")));
    thread::spawn(move || {
        let mut line = String::new();
        while out.read_line(&mut line).is_ok_and(|count| count > 0) {
            if sender.send(line.trim_end().to_owned()).is_err() {
                return;
            }
            line.clear();
        }
    });
    receiver
}

struct Stage {
    house: House,
    state: TempDir,
}

impl Stage {
    fn new() -> Self {
        let accounts: String = (0..PAIRS).flat_map(|n| [format!("a{n} pw\n"), format!("b{n} pw\n")]).collect();
        Self { house: House::new(accounts), state: tempfile::tempdir().expect("a folder") }
    }

    fn client(&self, port: &str, name: &str) -> Program {
        let mut client = Program::spawn(program(self.state.path(), &[port]));
        client.type_in(&format!("{name} pw\n"));
        client.wait_for(&format!("Welcome to chinwag, {name}! Type help for the commands"));
        client
    }
}

/// One client writes to another until both links have had their cuts; every second one in direct
/// mode.
fn converse(stage: &Stage, server: SocketAddr, pair: usize) {
    let seed = 0x5eed + pair as u64 * 2;
    let links = [Link::new(server, seed, CUTS), Link::new(server, seed + 1, CUTS)];
    let mut reader = stage.client(&links[1].port(), &format!("b{pair}"));
    let mut writer = stage.client(&links[0].port(), &format!("a{pair}"));
    let (heard, answers) = (lines_of(&mut reader), lines_of(&mut writer));
    let begin = format!("a{pair}: ");
    let (mut sent, mut shown) = (0, 0);
    let is_direct = pair % 2 == 1;
    if is_direct {
        writer.type_in("/direct\n");
    }
    let is_text = |line: &str| line.starts_with(&begin) || line.contains(&format!("] {begin}"));
    let check = |line: String, shown: &mut usize| {
        if is_text(&line) {
            *shown += 1;
            assert!(line.ends_with(&format!(": m{shown}")), "pair {pair}: {line:?} instead of m{shown}");
        }
    };
    while links.iter().any(|link| link.cuts() < CUTS) {
        sent += 1;
        let line = if is_direct { format!("b{pair}~m{sent}\n") } else { format!("message b{pair} m{sent}\n") };
        writer.type_in(&line);
        heard.try_iter().for_each(|line| check(line, &mut shown));
        while shown + AHEAD_MAX < sent {
            let line = heard.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("pair {pair}: m{} is lost", shown + 1));
            check(line, &mut shown);
        }
    }
    writer.end_input();
    let answers: Vec<String> = answers.iter().collect();
    assert_eq!(answers.last().map(String::as_str), Some("Goodbye"), "pair {pair}: {answers:?}");
    assert!(!answers.iter().any(|line| line.starts_with("Error.")), "pair {pair}: {answers:?}");
    let modes = answers.iter().filter(|line| line.contains(" mode: ")).count();
    assert_eq!(modes, usize::from(is_direct), "pair {pair}: {answers:?}");
    while shown < sent {
        let line = heard.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("pair {pair}: m{} is lost", shown + 1));
        check(line, &mut shown);
    }
    reader.end_input();
    heard.iter().for_each(|line| check(line, &mut shown));
    assert_eq!(shown, sent, "pair {pair}");
    for client in [reader, writer] {
        let left = client.leave();
        assert_eq!((left.code, left.stderr.as_str()), (Some(0), ""));
    }
}

fn assert_back(client: &mut Program) {
    let line = client.read_line();
    assert!(line.starts_with("-- Connected again after "), "{line}");
}

#[test]
fn a_thousand_cuts_neither_lose_nor_repeat_a_message() {
    let stage = Stage::new();
    let server = stage.house.serve(&[]);
    let address = server.addresses[0];
    thread::scope(|scope| {
        for pair in 0..PAIRS {
            let stage = &stage;
            scope.spawn(move || converse(stage, address, pair));
        }
    });
}

#[test]
fn a_server_killed_and_started_again_is_found_again() {
    let stage = Stage::new();
    let server = stage.house.serve(&[]);
    let link = Link::new(server.addresses[0], 1, 0);
    let mut client = stage.client(&link.port(), "a0");
    client.type_in("message b0 one\nmessage b0 two\n");
    client.wait_for("b0 is offline (never online yet), message stored");
    client.wait_for("b0 is offline (never online yet), message stored");
    server.kill();
    assert!(client.read_line().starts_with("-- Connection lost ("));
    client.type_in("message b0 three\n");
    let server = stage.house.serve(&[]);
    link.move_to(server.addresses[0]);
    assert_back(&mut client);
    client.wait_for("b0 is offline (never online yet), message stored");
    assert_eq!(client.leave().code, Some(0));
    let left = stage.client(&server.port().to_string(), "b0").leave();
    let texts: Vec<&str> =
        left.stdout.lines().filter_map(|line| line.split_once("] a0: ").map(|(_, text)| text)).collect();
    assert_eq!(texts, ["one", "two", "three"]);
}

#[test]
fn a_mode_outlives_a_killed_server() {
    let stage = Stage::new();
    let server = stage.house.serve(&[]);
    let link = Link::new(server.addresses[0], 1, 0);
    let mut client = stage.client(&link.port(), "a0");
    client.type_in("/group\ny\nfriends\nb0\nfriends~one\n");
    let answers: Vec<String> = (0..7).map(|_| client.read_line()).collect();
    assert!(answers[0].starts_with("Group mode: ") && answers[6].starts_with("Sent to friends: "), "{answers:?}");
    server.kill();
    assert!(client.read_line().starts_with("-- Connection lost ("));
    client.type_in("friends~two\n/members\n/exit\n");
    let server = stage.house.serve(&[]);
    link.move_to(server.addresses[0]);
    assert_back(&mut client);
    assert!(client.read_line().starts_with("Sent to friends: stored for b0 "));
    assert_eq!(
        [(); 3].map(|()| client.read_line()),
        ["a0 (owner)", "b0", "Command mode: type commands, help lists them"]
    );
    let left = client.leave();
    assert_eq!((left.stdout.as_str(), left.code), ("Goodbye\n", Some(0)));
    let left = stage.client(&server.port().to_string(), "b0").leave();
    let texts: Vec<&str> =
        left.stdout.lines().filter_map(|line| line.split_once("] [friends/a0] ").map(|(_, text)| text)).collect();
    assert_eq!(texts, ["one", "two"]);
}

/// Nothing is closed and nothing refused: the server just does not answer any more. At the end of
/// the input there is a ping at once, which saves the 20 s until the next one is due;
/// `silent_link.txt` shows both.
#[test]
fn a_server_that_falls_silent_is_noticed_and_found_again() {
    let stage = Stage::new();
    let server = stage.house.serve(&[]);
    let mut client = stage.client(&server.port().to_string(), "a0");
    server.halt();
    client.end_input();
    client.stdout.get_ref().set_read_timeout(Some(2 * PATIENCE)).expect("an option");
    assert_eq!(client.read_line(), "-- Connection lost (no answer for 20 s), trying to get it back");
    server.signal(Signal::CONT);
    assert_back(&mut client);
    let ended = client.end();
    assert_eq!((ended.stdout.as_str(), ended.code), ("Goodbye\n", Some(0)), "{}", ended.stderr);
}
