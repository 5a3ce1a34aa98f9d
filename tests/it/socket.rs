//! The stage with a real server: clients are TCP connections, as netcat makes them.
//!
//! Nothing waits for a while: after each act every client asks for something that only it can
//! get, and all that came before the answer is what the act caused.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use chinwag::server::store::Place;
use chinwag::server::{self, Config, Running};
use tempfile::TempDir;

use crate::play::{ACCOUNTS, Act, Setup, Stage};

/// A server that says nothing for so long is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Sockets {
    server: Option<Running>,
    address: SocketAddr,
    clients: BTreeMap<char, Client>,
    _folder: TempDir,
}

impl Sockets {
    pub(crate) fn new(setup: &Setup) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let credentials = folder.path().join("Credentials.txt");
        let accounts: String = ACCOUNTS.iter().map(|(name, password)| format!("{name} {password}\n")).collect();
        std::fs::write(&credentials, accounts).expect("a file");
        let server = server::start(&Config {
            port: Some(0),
            framed_port: None,
            heartbeat_timeout: 30,
            block: setup.block,
            timeout: setup.timeout,
            bind: Vec::new(),
            data: Place::File(folder.path().join("chinwag.db")),
            credentials,
            allow_new_users: setup.allow_new_users,
            salvage: false,
            hide_blockers: setup.hide_blockers,
            udp_port: None,
            ask_private: setup.ask_private,
            mailbox_max: setup.mailbox_max,
        })
        .expect("the server starts");
        let address = server.addresses[0];
        Self { server: Some(server), address, clients: BTreeMap::new(), _folder: folder }
    }

    fn client(&mut self, name: char) -> &mut Client {
        self.clients.entry(name).or_insert_with(|| {
            let mut client = Client::connect(self.address);
            client.read_until_prompt();
            client
        })
    }

    /// Brings in all that the server has to say to anybody.
    fn fence(&mut self) {
        self.clients.values_mut().for_each(Client::fence);
    }
}

impl Stage for Sockets {
    fn perform(&mut self, act: &Act) -> Vec<String> {
        match act {
            Act::Send(name, line) => {
                let client = self.client(*name);
                client.send(line);
                if !client.welcome {
                    client.read_until_prompt();
                }
                // The actor first: once it has its answer, everybody else's part is on its way.
                self.client(*name).fence();
            }
            Act::EndOfInput(name) => {
                let client = self.client(*name);
                let _ = client.stream.shutdown(Shutdown::Write);
                client.read_to_end();
            }
            Act::Stop => {
                self.server.as_ref().expect("it runs").stopper().stop();
                self.clients.values_mut().for_each(Client::read_to_end);
                self.server.take().expect("it runs").wait().expect("it stops in order");
            }
            other => panic!("{other:?} does not fit a socket"),
        }
        self.fence();
        let mut seen = Vec::new();
        for (name, client) in &mut self.clients {
            seen.extend(client.take_lines().into_iter().map(|line| format!("{name}< {line}")));
            if client.closed {
                seen.push(format!("{name} closed"));
            }
        }
        self.clients.retain(|_, client| !client.closed);
        seen
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stopper().stop();
        }
    }
}

/// A connection that behaves as netcat does, and what has come over it.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    received: Vec<u8>,
    pub(crate) welcome: bool,
    pub(crate) closed: bool,
    fences: u64,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).expect("the server listens"))
    }

    /// `None` if nobody listens.
    pub(crate) fn try_connect(address: SocketAddr) -> Option<Self> {
        TcpStream::connect(address).ok().map(Self::new)
    }

    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("an option");
        stream.set_write_timeout(Some(PATIENCE)).expect("an option");
        Self { stream, received: Vec::new(), welcome: false, closed: false, fences: 0 }
    }

    /// Answers both prompts; what is shown from the welcome on is still to be taken.
    pub(crate) fn log_in(&mut self, name: &str, password: &str) {
        for answer in [name, password] {
            self.read_until_prompt();
            self.received.clear();
            self.send(answer);
        }
        self.read_until_prompt();
        assert!(self.welcome, "{name}: {}", String::from_utf8_lossy(&self.received));
    }

    pub(crate) fn send(&mut self, line: &str) {
        // One write, so that the line is one read as well; a closed connection shows at the read.
        let _ = self.stream.write_all(format!("{line}\n").as_bytes());
    }

    /// Reads until the text so far satisfies `enough`, or to the end.
    pub(crate) fn read_until(&mut self, enough: impl Fn(&[u8]) -> bool) {
        let mut bytes = [0; 4096];
        while !self.closed && !enough(&self.received) {
            match self.stream.read(&mut bytes) {
                Ok(0) => self.closed = true,
                Ok(count) => self.received.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => self.closed = true,
                // With a time-out, a read is not taken up again by itself after the process was halted.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&self.received)),
            }
        }
    }

    pub(crate) fn read_to_end(&mut self) {
        self.read_until(|_| false);
    }

    /// Before log-in every answer ends with a prompt, a welcome, or the end.
    fn read_until_prompt(&mut self) {
        let before = self.received.len();
        self.read_until(|all| {
            let new = &all[before..];
            new.ends_with(b"Username: ") || new.ends_with(b"Password: ") || contains(new, b"Welcome")
        });
        self.welcome = contains(&self.received, b"Welcome");
    }

    /// Asks for help on something that is no command, in every mode; whatever came before is in.
    pub(crate) fn fence(&mut self) {
        if !self.welcome || self.closed {
            return;
        }
        self.fences += 1;
        let number = self.fences;
        self.send(&format!("/help fence{number}"));
        let answer = format!("Error. Invalid command fence{number} (try help)\n");
        self.read_until(|all| find(all, answer.as_bytes()).is_some());
        if let Some(at) = find(&self.received, answer.as_bytes()) {
            self.received.drain(at..at + answer.len());
        }
    }

    /// The same without a last line that has no end: the server may have been killed within it.
    pub(crate) fn take_whole_lines(&mut self) -> Vec<String> {
        let end = self.received.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        self.received.truncate(end);
        self.take_lines()
    }

    pub(crate) fn take_lines(&mut self) -> Vec<String> {
        let text = String::from_utf8(std::mem::take(&mut self.received)).expect("UTF-8");
        // Prompts have no line end; in the script each is a line of its own.
        let text = if self.welcome && !text.contains("Welcome") { text } else { separate_prompts(&text) };
        text.lines().filter(|line| !line.is_empty()).map(|line| line.trim_end().to_owned()).collect()
    }
}

fn separate_prompts(text: &str) -> String {
    let (before, after) = text.split_at(text.find("Welcome").unwrap_or(text.len()));
    before.replace("Username: ", "Username: \n").replace("Password: ", "Password: \n") + after
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    find(bytes, part).is_some()
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

/// Makes lines comparable that speak of real time, and drops what sockets cannot show.
pub(crate) fn without_time(line: &str) -> Option<String> {
    if line.starts_with("store ") {
        return None;
    }
    let is_digit = |c: char| c.is_ascii_digit();
    // Dates and lengths of time are the only numbers with these neighbours.
    let line = line.replace(is_digit, "0");
    let times = ["00/00/00 00:00:00", "0 s ago", "for 0 s"];
    let rubbed = times.iter().fold(line, |line, time| line.replace(time, "TIME"));
    Some(rubbed)
}
