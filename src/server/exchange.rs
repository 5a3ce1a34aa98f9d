//! A framed connection: one request, its answer, the end. A log-in takes some frames more.
//!
//! Each has a short thread, of which there are at most [`EXCHANGES_MAX`]: when all are taken, the
//! oldest connection of the source that has the most gives way. Everything a peer can do takes
//! place before a deadline that does not move, whatever he sends.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use socket2::SockRef;

use super::hub::Input;
use super::ids::ConnId;
use super::inbox::ToHub;
use super::listener::Doorman;
use super::session::READER_STACK_BYTES;
use super::state::{Ask, source};
use crate::clock::Clock;
use crate::wire::framed::{self, Answer, Fault, FrameCutter};

/// Framed connections at a time; the oldest of the busiest source gives way to one more.
pub(super) const EXCHANGES_MAX: usize = 256;

/// Time for a request, from the connection to its last byte, in milliseconds.
const REQUEST_MILLIS_MAX: i64 = 10_000;

/// Time for a log-in, in milliseconds: a person may type name and password meanwhile, and wait
/// for the end of a lockout.
const LOG_IN_MILLIS_MAX: i64 = 120_000;

/// Tries to log in on one connection; then it is closed.
const TRIES_MAX: usize = 10;

/// How long the peer's own end is waited for after ours, in milliseconds.
const LINGER_MILLIS: i64 = 1_000;

/// How long a newcomer waits for the place of the one that gives way.
const GIVE_WAY_MAX: Duration = Duration::from_secs(1);

/// What stands in the frames that a thread hands to the hub.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Frames {
    Request(Vec<u8>),
    LogIn(Vec<u8>, Vec<u8>),
    Listen(Vec<u8>, Vec<u8>),
}

// By hand, so that no log line can ever show a password or a token.
impl std::fmt::Debug for Frames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_ask().fmt(f)
    }
}

impl Frames {
    pub(super) fn as_ask(&self) -> Ask<'_> {
        match self {
            Self::Request(frame) => Ask::Request(frame),
            Self::LogIn(name, password) => Ask::LogIn { name, password },
            Self::Listen(host, port) => Ask::Listen { host, port },
        }
    }
}

impl Doorman for Arc<Counter> {
    fn admit(&self, stream: TcpStream, peer: IpAddr) -> io::Result<()> {
        Counter::admit(self, stream, peer)
    }

    fn turn_away(&self, stream: &TcpStream) {
        turn_away(stream);
    }
}

/// What all framed connections share.
#[derive(Debug)]
pub(super) struct Counter {
    hub: ToHub,
    clock: Clock,
    /// The next connection's number; shared with the line port.
    next: Arc<AtomicU64>,
    open: Mutex<BTreeMap<ConnId, (IpAddr, Arc<TcpStream>)>>,
    freed: Condvar,
}

impl Counter {
    pub(super) fn new(hub: ToHub, clock: Clock, next: Arc<AtomicU64>) -> Self {
        Self { hub, clock, next, open: Mutex::default(), freed: Condvar::new() }
    }

    /// Takes a connection that was accepted.
    fn admit(self: &Arc<Self>, stream: TcpStream, peer: IpAddr) -> io::Result<()> {
        let conn = ConnId(self.next.fetch_add(1, Ordering::Relaxed));
        let stream = Arc::new(stream);
        if !self.enter(conn, peer, &stream) {
            turn_away(&stream);
            return Err(io::Error::other(format!("there are {EXCHANGES_MAX} framed connections")));
        }
        let exchange = Exchange::new(Arc::clone(self), conn, peer, Arc::clone(&stream));
        let body = move || exchange.run();
        let spawned = thread::Builder::new().name("exchange".into()).stack_size(READER_STACK_BYTES).spawn(body);
        spawned.map(drop).inspect_err(|_| {
            turn_away(&stream);
            self.leave(conn);
        })
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<ConnId, (IpAddr, Arc<TcpStream>)>> {
        // Nothing is done under the lock that could leave it half done.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a connection, if need be after another has given way.
    fn enter(&self, conn: ConnId, peer: IpAddr, stream: &Arc<TcpStream>) -> bool {
        let mut open = self.open();
        if open.len() >= EXCHANGES_MAX {
            if let Some((_, oldest)) = victim(&open).and_then(|victim| open.get(&victim)) {
                // Ends its thread; fails only if the peer was faster.
                let _ = oldest.shutdown(Shutdown::Both);
            }
            let is_full = |open: &mut BTreeMap<_, _>| open.len() >= EXCHANGES_MAX;
            let waited = self.freed.wait_timeout_while(open, GIVE_WAY_MAX, is_full);
            open = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let fits = open.len() < EXCHANGES_MAX;
        if fits {
            open.insert(conn, (source(peer), Arc::clone(stream)));
        }
        fits
    }

    fn leave(&self, conn: ConnId) {
        self.open().remove(&conn);
        self.freed.notify_all();
    }
}

/// The oldest connection of the source that has the most.
fn victim(open: &BTreeMap<ConnId, (IpAddr, Arc<TcpStream>)>) -> Option<ConnId> {
    let mut counts: HashMap<IpAddr, usize> = HashMap::new();
    for (source, _) in open.values() {
        *counts.entry(*source).or_default() += 1;
    }
    let most = counts.values().copied().max()?;
    open.iter().find(|(_, (source, _))| counts.get(source) == Some(&most)).map(|(&conn, _)| conn)
}

/// Says that there is no room, if the socket takes it.
fn turn_away(mut stream: &TcpStream) {
    let mut bytes = Vec::new();
    Answer::Refused(Fault::Unavailable).encode(&mut bytes);
    // Whoever does not get it finds the connection closed.
    let _ = stream.set_write_timeout(Some(Duration::from_millis(1)));
    let _ = stream.write_all(&bytes);
    let _ = stream.shutdown(Shutdown::Write);
}

/// Why an exchange ends before its time.
enum Stop {
    /// The peer has done something that he is told.
    Fault(Fault),
    /// There is nobody to be told.
    Gone,
}

/// One connection and what its thread needs.
struct Exchange {
    counter: Arc<Counter>,
    conn: ConnId,
    peer: IpAddr,
    stream: Arc<TcpStream>,
    cutter: FrameCutter,
    /// What was read behind the last frame.
    rest: Vec<u8>,
    /// When all must be over, in elapsed milliseconds.
    until: i64,
    reply: Sender<Answer>,
    answers: Receiver<Answer>,
}

impl Exchange {
    fn new(counter: Arc<Counter>, conn: ConnId, peer: IpAddr, stream: Arc<TcpStream>) -> Self {
        let until = counter.clock.now().elapsed + REQUEST_MILLIS_MAX;
        let (reply, answers) = bounded(1);
        Self { counter, conn, peer, stream, cutter: FrameCutter::default(), rest: Vec::new(), until, reply, answers }
    }

    /// The life of the thread.
    fn run(mut self) {
        log::debug!("framed connection {} from {}", self.conn.0, self.peer);
        match self.talk() {
            Ok(answer) => self.say(answer),
            Err(Stop::Fault(fault)) => self.say(Answer::Refused(fault)),
            Err(Stop::Gone) => {}
        }
        self.end();
        self.counter.leave(self.conn);
    }

    /// Everything up to the last answer.
    fn talk(&mut self) -> Result<Answer, Stop> {
        let first = self.read()?;
        if first != framed::LOG_IN.as_bytes() {
            return self.ask(Frames::Request(first));
        }
        self.until += LOG_IN_MILLIS_MAX - REQUEST_MILLIS_MAX;
        for _ in 0..TRIES_MAX {
            let (name, password) = (self.read()?, self.read()?);
            match self.ask(Frames::LogIn(name, password))? {
                answer @ Answer::LoggedIn { .. } => {
                    self.say(answer);
                    return self.listen().inspect_err(|_| {
                        // A hub that is gone has nothing to forget.
                        let _ = self.counter.hub.send(Input::Hung(self.conn));
                    });
                }
                answer @ Answer::Refused(_) => return Ok(answer),
                answer => self.say(answer),
            }
        }
        Err(Stop::Fault(Fault::TooManyTries))
    }

    /// What follows a right password.
    fn listen(&mut self) -> Result<Answer, Stop> {
        let (host, port) = (self.read()?, self.read()?);
        self.ask(Frames::Listen(host, port))
    }

    fn ask(&self, frames: Frames) -> Result<Answer, Stop> {
        let (conn, peer, reply) = (self.conn, self.peer, self.reply.clone());
        self.counter.hub.send(Input::Asked { conn, peer, frames, reply }).map_err(|_| Stop::Gone)?;
        self.answers.recv_deadline(self.counter.clock.at(self.until)).map_err(|_| Stop::Fault(Fault::Unavailable))
    }

    /// The next frame.
    fn read(&mut self) -> Result<Vec<u8>, Stop> {
        let mut bytes = [0; 4096];
        loop {
            let mut rest = &self.rest[..];
            let frame = self.cutter.next(&mut rest);
            self.rest = rest.to_vec();
            if let Some(frame) = frame {
                return frame.map_err(|_| Stop::Fault(Fault::TooLong));
            }
            let wait = self.wait(self.until).ok_or(Stop::Fault(Fault::TooSlow))?;
            // A socket that takes no time-out is broken, as the read finds out.
            let _ = self.stream.set_read_timeout(Some(wait));
            match (&*self.stream).read(&mut bytes) {
                Ok(0) if self.cutter.is_between() => return Err(Stop::Gone),
                Ok(0) => return Err(Stop::Fault(Fault::CutShort)),
                Ok(count) => self.rest.extend_from_slice(&bytes[..count]),
                Err(error) if is_pause(&error) => {}
                Err(_) => return Err(Stop::Gone),
            }
        }
    }

    fn say(&self, answer: Answer) {
        let mut bytes = Vec::new();
        answer.encode(&mut bytes);
        if !bytes.is_empty() {
            let _ = self.stream.set_nodelay(true);
            let _ = self.stream.set_write_timeout(self.wait(self.until).or(Some(Duration::from_millis(1))));
            // A client that does not wait for its answer has had it.
            let _ = (&*self.stream).write_all(&bytes);
        }
    }

    /// The time that is left, if any is.
    fn wait(&self, until: i64) -> Option<Duration> {
        let left = u64::try_from(until - self.counter.clock.now().elapsed).ok()?;
        (left > 0).then(|| Duration::from_millis(left))
    }

    /// Ends our side and waits for the peer's, so that he gets to read the answer: input that
    /// nobody has read would turn the end into a reset.
    fn end(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
        let until = self.counter.clock.now().elapsed + LINGER_MILLIS;
        let mut bytes = [0; 4096];
        while let Some(wait) = self.wait(until) {
            let _ = self.stream.set_read_timeout(Some(wait));
            match (&*self.stream).read(&mut bytes) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if is_pause(&error) => {}
                Err(_) => return,
            }
        }
        // Netcat waits for the end of its own input; a reset ends it, with the answer shown.
        let _ = SockRef::from(&*self.stream).set_linger(Some(Duration::ZERO));
    }
}

/// Whether a read may be tried again, if there is time.
fn is_pause(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}
