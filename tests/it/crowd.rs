//! Many clients in the hands of one thread, and what a process costs: the tools of the tests of
//! abuse.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::time::ClockId;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::process::{Pid, Resource, getrlimit, setrlimit};

use crate::socket::PATIENCE;

/// Ends a text, so that texts can be counted.
pub(crate) const MARK: char = '~';

/// What is counted: a welcome has the first, a text may have the second, and where nothing else
/// is asked, the answer that a message is stored has the third.
const MARKS: &[u8] = b"!~(";

/// Every account of a crowd has this password.
pub(crate) const PASSWORD: &str = "pass";

/// Last bytes kept of what a member has read.
const TAIL_BYTES: usize = 128;

/// Members that are read between two looks at what they have read.
const EVENTS_MAX: usize = 256;

/// Members that log in at the same time.
const TOGETHER: usize = 8;

/// The event of the end of a background.
const STOP: u64 = u64::MAX;

/// A reading of the clock, for durations only.
#[allow(clippy::disallowed_methods, reason = "figures are measured, and nothing is decided by them")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Lines of a Credentials.txt: `u0` to `u<count - 1>` and the two who chat while others misbehave.
pub(crate) fn accounts(count: usize) -> String {
    let names = (0..count).map(user).chain(["ping".to_owned(), "pong".to_owned()]);
    names.map(|name| format!("{name} {PASSWORD}\n")).collect()
}

pub(crate) fn user(number: usize) -> String {
    format!("u{number}")
}

/// Raises this process's limit on descriptors as far as it goes; whether `wanted` fit.
pub(crate) fn allow_descriptors(wanted: u64) -> bool {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Refused in some sandboxes; then what there is must do.
    let _ = setrlimit(Resource::Nofile, limit);
    getrlimit(Resource::Nofile).current.is_none_or(|limit| limit >= wanted)
}

/// Many connections that one thread reads.
pub(crate) struct Crowd {
    epoll: OwnedFd,
    pub(crate) members: Vec<Member>,
}

/// One of many connections.
pub(crate) struct Member {
    stream: TcpStream,
    /// How many of the [`MARKS`] have been read.
    pub(crate) marks: usize,
    /// The last that was read.
    tail: Vec<u8>,
    /// The server has ended the connection.
    pub(crate) closed: bool,
}

impl Member {
    /// Sends a line that surely fits into the socket.
    pub(crate) fn say(&mut self, line: &str) {
        // A connection that has been closed shows when it is read.
        let _ = self.stream.write(line.as_bytes());
    }

    /// Sends as much of `bytes` as fits; how much that was.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> usize {
        self.stream.write(bytes).unwrap_or(0)
    }

    /// The last line that was read, without its end.
    pub(crate) fn last_line(&self) -> String {
        let tail = String::from_utf8_lossy(&self.tail);
        tail.trim_end_matches('\n').rsplit('\n').next().unwrap_or_default().to_owned()
    }
}

impl Crowd {
    pub(crate) fn new() -> Self {
        let epoll = epoll::create(CreateFlags::CLOEXEC).expect("a descriptor");
        Self { epoll, members: Vec::new() }
    }

    /// Connects one more.
    pub(crate) fn connect(&mut self, address: SocketAddr) -> &mut Member {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_nonblocking(true).expect("an option");
        stream.set_nodelay(true).expect("an option");
        let data = EventData::new_u64(self.members.len() as u64);
        epoll::add(&self.epoll, &stream, data, EventFlags::IN).expect("a descriptor");
        self.members.push(Member { stream, marks: 0, tail: Vec::new(), closed: false });
        self.members.last_mut().expect("it was put there")
    }

    /// Forgets those whom the server has turned away.
    pub(crate) fn forget_closed(&mut self) {
        self.members.retain(|member| !member.closed);
        for (at, member) in self.members.iter().enumerate() {
            let data = EventData::new_u64(at as u64);
            epoll::modify(&self.epoll, &member.stream, data, EventFlags::IN).expect("it was added");
        }
    }

    /// Logs in `u<first>` and so on, and waits for every welcome.
    pub(crate) fn log_in(address: SocketAddr, first: usize, count: usize) -> Self {
        let mut crowd = Self::new();
        for number in first..first + count {
            crowd.connect(address).say(&format!("{} {PASSWORD}\n", user(number)));
            // Few at a time: a small server has room for few who have not logged in.
            let last = crowd.members.len();
            crowd.read_until(|crowd| last < TOGETHER || crowd.members[last - TOGETHER].marks > 0);
        }
        crowd.read_until(|crowd| crowd.members.iter().all(|member| member.marks > 0));
        crowd
    }

    /// Reads what has come, or the first that comes within `patience`. Whether to go on.
    fn read(&mut self, patience: Option<Duration>) -> bool {
        let timeout = patience.map(|time| Timespec::try_from(time).expect("a short time"));
        let mut events = Vec::with_capacity(EVENTS_MAX);
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("epoll: {error}"),
        }
        let mut bytes = [0; 16 * 1024];
        for event in events {
            let Ok(at) = usize::try_from(event.data.u64()) else { continue };
            let Some(member) = self.members.get_mut(at) else { return false };
            match member.stream.read(&mut bytes) {
                Ok(count) if count > 0 => {
                    let bytes = &bytes[..count];
                    member.marks += bytes.iter().filter(|&&byte| MARKS.contains(&byte)).count();
                    member.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(TAIL_BYTES)..]);
                    let old = member.tail.len().saturating_sub(TAIL_BYTES);
                    member.tail.drain(..old);
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Ok(_) | Err(_) => {
                    member.closed = true;
                    epoll::delete(&self.epoll, &member.stream).expect("it was added");
                    // Fails only if the connection is gone already.
                    let _ = member.stream.shutdown(Shutdown::Both);
                }
            }
        }
        true
    }

    /// Reads until it is enough.
    pub(crate) fn read_until(&mut self, mut enough: impl FnMut(&mut Self) -> bool) {
        let start = now();
        while !enough(self) {
            assert!(start.elapsed() < 3 * PATIENCE, "what the crowd waits for never came");
            self.read(Some(Duration::from_millis(20)));
        }
    }

    /// Reads for so long, whatever comes.
    pub(crate) fn read_for(&mut self, time: Duration) {
        let start = now();
        while let Some(left) = time.checked_sub(start.elapsed()) {
            self.read(Some(left));
        }
    }

    /// Reads in a thread of its own until told to stop.
    pub(crate) fn in_background(mut self) -> Background {
        let (stop, told) = UnixStream::pair().expect("a pair");
        epoll::add(&self.epoll, &told, EventData::new_u64(STOP), EventFlags::IN).expect("a descriptor");
        let thread = thread::spawn(move || {
            while self.read(None) {}
            drop(told);
            self
        });
        Background { stop, thread }
    }
}

/// A crowd that reads by itself.
pub(crate) struct Background {
    stop: UnixStream,
    thread: JoinHandle<Crowd>,
}

impl Background {
    pub(crate) fn end(self) -> Crowd {
        drop(self.stop);
        self.thread.join().expect("it reads")
    }
}

/// A user who talks and reads line by line.
pub(crate) struct Talker {
    stream: BufReader<TcpStream>,
    name: String,
}

impl Talker {
    pub(crate) fn log_in(address: SocketAddr, name: &str) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_nodelay(true).expect("an option");
        stream.set_read_timeout(Some(PATIENCE)).expect("an option");
        let mut talker = Self { stream: BufReader::new(stream), name: name.to_owned() };
        talker.say(&format!("{name} {PASSWORD}"));
        talker.wait_for("Type help for the commands");
        talker
    }

    pub(crate) fn say(&mut self, line: &str) {
        self.stream.get_mut().write_all(format!("{line}\n").as_bytes()).expect("it is connected");
    }

    /// Reads up to a line that ends with `end`, and returns it.
    pub(crate) fn wait_for(&mut self, end: &str) -> String {
        loop {
            let mut line = String::new();
            let count = self.stream.read_line(&mut line).expect("a line in time");
            assert!(count > 0, "{}: the end instead of {end:?}", self.name);
            if line.trim_end_matches('\n').ends_with(end) {
                return line;
            }
        }
    }
}

/// Two who chat while others misbehave.
pub(crate) struct Pair {
    talkers: [Talker; 2],
    pings: usize,
}

impl Pair {
    pub(crate) fn log_in(address: SocketAddr) -> Self {
        Self { talkers: ["ping", "pong"].map(|name| Talker::log_in(address, name)), pings: 0 }
    }

    /// One message, now from the one, then from the other; how long it took.
    pub(crate) fn chat(&mut self) -> Duration {
        self.pings += 1;
        let text = format!("are you there, {}", self.pings);
        let [from, to] = &mut self.talkers;
        let line = format!("message {} {text}", to.name);
        let start = now();
        from.say(&line);
        to.wait_for(&text);
        let time = start.elapsed();
        self.talkers.swap(0, 1);
        time
    }

    /// So many messages; how long each took.
    pub(crate) fn times(&mut self, messages: usize) -> Vec<Duration> {
        (0..messages).map(|_| self.chat()).collect()
    }

    /// What one of the two is answered.
    pub(crate) fn ask(&mut self, line: &str, end: &str) -> String {
        self.talkers[0].say(line);
        self.talkers[0].wait_for(end)
    }
}

/// What 99 in 100 stay below, in seconds.
pub(crate) fn p99(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() * 99 / 100].as_secs_f64()
}

/// What half of them stay below, in seconds.
pub(crate) fn p50(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64()
}

pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Memory of a process in bytes: `VmRSS` now, `VmHWM` at most.
pub(crate) fn memory(pid: Pid, field: &str) -> usize {
    let path = format!("/proc/{}/status", pid.as_raw_nonzero());
    let status = std::fs::read_to_string(path).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    kib.expect("a number of KiB") * 1024
}

/// Processor time that a process has used; to the nanosecond, because the ticks of /proc may show
/// two of 10 ms where there was hardly anything.
pub(crate) fn processor(pid: Pid) -> Duration {
    let pid = nix::unistd::Pid::from_raw(pid.as_raw_nonzero().get());
    let time = ClockId::pid_cpu_clock_id(pid).and_then(ClockId::now);
    time.expect("it runs").into()
}

/// Descriptors that a process has open.
pub(crate) fn descriptors(pid: Pid) -> u64 {
    std::fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero())).expect("it runs").count() as u64
}
