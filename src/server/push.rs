//! Pushes to framed clients: one connection for each notice, to the client's own port.
//!
//! The hub keeps a queue per user ([`Posts`]) and hands out the oldest notice of each; the next
//! follows when that one's fate is known. So the order of a user's notices is kept, at most one of
//! his pushes is under way, and a listener that is dead or slow takes up one of the
//! [`THREADS`] for a few seconds and then no more, for its user is logged out.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::hub::Input;
use super::ids::{ConnId, IdMap};
use super::inbox::ToHub;
use super::session::READER_STACK_BYTES;
use super::state::Outcome;
use crate::clock::Clock;

/// Threads that push; more pushes than that wait, one of each user at most.
pub(super) const THREADS: usize = 32;

/// How long a connection may take to come about.
const CONNECT_MAX: Duration = Duration::from_secs(1);

/// How long a push may take from its connection to the client's end of it, in milliseconds; one
/// that takes longer has perhaps not arrived.
const PUSH_MILLIS_MAX: i64 = 2_000;

/// How long the client may take to close before the server ends its side, in milliseconds. The
/// side that closes first keeps the memory of the connection for a minute, and the clients are
/// many; but netcat waits for the server.
const PATIENCE_MILLIS: i64 = 200;

/// Notices that may wait for one user, in bytes; at more he is logged out.
const WAITING_BYTES_MAX: usize = 256 * 1024;

/// How long the last notices of a session may take, in milliseconds.
const LAST_MILLIS_MAX: i64 = 4_000;

/// One notice on its way.
#[derive(Debug)]
pub(super) struct Job {
    conn: ConnId,
    number: Option<u64>,
    address: SocketAddr,
    frame: Arc<[u8]>,
}

/// Starts the threads; each ends when the other end of the channel is gone.
pub(super) fn start(clock: Clock, hub: &ToHub) -> io::Result<Posts> {
    let (jobs, from_hub) = unbounded();
    for _ in 0..THREADS {
        let (from_hub, hub) = (from_hub.clone(), hub.clone());
        let body = move || carry(clock, &from_hub, &hub);
        thread::Builder::new().name("push".into()).stack_size(READER_STACK_BYTES).spawn(body)?;
    }
    Ok(Posts::new(jobs))
}

fn carry(clock: Clock, jobs: &Receiver<Job>, hub: &ToHub) {
    while let Ok(Job { conn, number, address, frame }) = jobs.recv() {
        let outcome = push(clock, address, &frame);
        log::debug!("push to {address} for connection {}: {outcome:?}", conn.0);
        if hub.send(Input::Pushed { conn, number, outcome }).is_err() {
            return;
        }
    }
}

/// Delivers one frame, and waits for the client to take it.
fn push(clock: Clock, address: SocketAddr, frame: &[u8]) -> Outcome {
    let Ok(mut stream) = TcpStream::connect_timeout(&address, CONNECT_MAX) else { return Outcome::Failed };
    let begin = clock.now().elapsed;
    let left = || Duration::from_millis(u64::try_from(begin + PUSH_MILLIS_MAX - clock.now().elapsed).unwrap_or(0));
    // Without the options the frame still goes out; it may only take longer.
    let _ = stream.set_nodelay(true);
    let _ = stream.set_write_timeout(Some(left().max(Duration::from_millis(1))));
    if stream.write_all(frame).is_err() {
        return Outcome::Doubtful;
    }
    let mut patient = true;
    loop {
        let mut wait = left();
        if patient {
            wait = wait.min(Duration::from_millis(PATIENCE_MILLIS.unsigned_abs()));
        }
        if wait.is_zero() {
            return Outcome::Doubtful;
        }
        let _ = stream.set_read_timeout(Some(wait));
        match stream.read(&mut [0; 512]) {
            Ok(0) if ends_well(&stream, left) => return Outcome::Delivered,
            Ok(0) => return Outcome::Doubtful,
            // What a listener says is of no interest.
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if patient && matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                patient = false;
                // Fails only if the connection is gone already, which the next read finds out.
                let _ = stream.shutdown(Shutdown::Write);
            }
            Err(_) => return Outcome::Doubtful,
        }
    }
}

/// The client has sent its end. Whether it has taken all: one that closed before the frame came
/// has sent its end as well, and a reset follows.
fn ends_well(stream: &TcpStream, left: impl Fn() -> Duration) -> bool {
    // Fails only if the reset was faster.
    let _ = stream.shutdown(Shutdown::Write);
    // The kernel knows the other end until that has acknowledged everything, or has reset.
    while stream.peer_addr().is_ok() {
        if left().is_zero() {
            return false;
        }
        thread::park_timeout(Duration::from_millis(1));
    }
    matches!(stream.take_error(), Ok(None))
}

/// The hub's end: what waits for each framed user.
#[derive(Debug)]
pub(super) struct Posts {
    posts: IdMap<Post>,
    jobs: Sender<Job>,
    /// Posts with something to do at the end of the batch.
    touched: Vec<ConnId>,
    /// When sessions that end are given up, in order.
    limits: VecDeque<(i64, ConnId)>,
}

#[derive(Debug)]
struct Post {
    address: SocketAddr,
    queue: VecDeque<Entry>,
    bytes: usize,
    /// A push is under way: the number of its text.
    under_way: Option<Option<u64>>,
    /// The state knows that something waits.
    stalled: bool,
    /// Too much waited, and was dropped.
    flooded: bool,
    /// The session has ended.
    closing: bool,
}

#[derive(Debug)]
enum Entry {
    /// An answer that waits for the disk; what follows waits behind it.
    Place,
    Notice {
        frame: Arc<[u8]>,
        /// That of a text which is to be confirmed.
        number: Option<u64>,
    },
}

/// What the state is to hear at the end of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// Notices wait.
    Stalled(ConnId),
    /// All have arrived.
    Drained(ConnId),
    /// More wait than are kept.
    Overrun(ConnId),
    /// Nothing more will be pushed.
    Closed(ConnId),
}

impl Posts {
    pub(super) fn new(jobs: Sender<Job>) -> Self {
        Self { posts: IdMap::default(), jobs, touched: Vec::new(), limits: VecDeque::new() }
    }

    /// A server without framed clients.
    pub(super) fn none() -> Self {
        Self::new(unbounded().0)
    }

    pub(super) fn open(&mut self, conn: ConnId, address: SocketAddr) {
        let post = Post {
            address,
            queue: VecDeque::new(),
            bytes: 0,
            under_way: None,
            stalled: false,
            flooded: false,
            closing: false,
        };
        self.posts.insert(conn, post);
    }

    pub(super) fn has(&self, conn: ConnId) -> bool {
        self.posts.contains_key(&conn)
    }

    /// Whether something is to be done at the end of the batch.
    pub(super) fn is_touched(&self) -> bool {
        !self.touched.is_empty()
    }

    pub(super) fn deadline(&self) -> Option<i64> {
        self.limits.front().map(|&(at, _)| at)
    }

    /// Appends a notice. Over the limit everything that waits is dropped, and the state hears of it.
    pub(super) fn put(&mut self, conn: ConnId, frame: Arc<[u8]>, number: Option<u64>) {
        let Some(post) = self.posts.get_mut(&conn).filter(|post| !post.flooded || post.closing) else { return };
        post.bytes += frame.len();
        post.queue.push_back(Entry::Notice { frame, number });
        if post.bytes > WAITING_BYTES_MAX && !post.closing {
            post.forget_all();
            post.flooded = true;
        }
        self.touched.push(conn);
    }

    /// Keeps a place for an answer.
    pub(super) fn hold(&mut self, conn: ConnId) {
        if let Some(post) = self.posts.get_mut(&conn) {
            post.queue.push_back(Entry::Place);
        }
    }

    /// Fills the oldest kept place.
    pub(super) fn release(&mut self, conn: ConnId, frame: Option<Arc<[u8]>>) {
        let Some(post) = self.posts.get_mut(&conn) else { return };
        let Some(at) = post.queue.iter().position(|entry| matches!(entry, Entry::Place)) else { return };
        match frame {
            Some(frame) => {
                post.bytes += frame.len();
                post.queue[at] = Entry::Notice { frame, number: None };
            }
            None => drop(post.queue.remove(at)),
        }
        self.touched.push(conn);
    }

    /// The session has ended: its texts are not pushed any more, the state takes them back.
    pub(super) fn close(&mut self, conn: ConnId, now: i64) {
        let Some(post) = self.posts.get_mut(&conn) else { return };
        post.closing = true;
        post.queue.retain(|entry| !matches!(entry, Entry::Notice { number: Some(_), .. }));
        self.limits.push_back((now + LAST_MILLIS_MAX, conn));
        self.touched.push(conn);
    }

    /// A push has come to its end. After one that failed nothing else is tried.
    pub(super) fn reported(&mut self, conn: ConnId, outcome: Outcome) {
        let Some(post) = self.posts.get_mut(&conn) else { return };
        post.under_way = None;
        if outcome != Outcome::Delivered {
            post.forget_all();
        }
        self.touched.push(conn);
    }

    /// The end of a batch: hands out what may go, and tells what the state must hear.
    pub(super) fn send(&mut self) -> Vec<Word> {
        let mut words = Vec::new();
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        for conn in touched {
            let Some(post) = self.posts.get_mut(&conn) else { continue };
            post.send(conn, &self.jobs);
            let waits = post.under_way.is_some() || !post.queue.is_empty();
            if post.closing && !waits {
                self.posts.remove(&conn);
                words.push(Word::Closed(conn));
            } else if post.flooded && !post.closing {
                words.push(Word::Overrun(conn));
            } else if std::mem::replace(&mut post.stalled, waits) != waits {
                words.push(if waits { Word::Stalled(conn) } else { Word::Drained(conn) });
            }
        }
        words
    }

    /// Sessions whose last notices have taken too long, each with the number of the text that was
    /// under way. With `all`, every session.
    pub(super) fn give_up(&mut self, now: i64, all: bool) -> Vec<(ConnId, Option<u64>)> {
        let mut due: Vec<ConnId> = Vec::new();
        while let Some((_, conn)) = self.limits.pop_front_if(|(at, _)| *at <= now) {
            due.push(conn);
        }
        if all {
            due.extend(self.posts.keys());
        }
        due.into_iter().filter_map(|conn| Some((conn, self.posts.remove(&conn)?.under_way.flatten()))).collect()
    }
}

impl Post {
    fn forget_all(&mut self) {
        self.queue.clear();
        self.bytes = 0;
    }

    fn send(&mut self, conn: ConnId, jobs: &Sender<Job>) {
        if self.under_way.is_some() || matches!(self.queue.front(), Some(Entry::Place)) {
            return;
        }
        if let Some(Entry::Notice { frame, number }) = self.queue.pop_front() {
            self.bytes = self.bytes.saturating_sub(frame.len());
            self.under_way = Some(number);
            // Fails only if the threads have gone, at the end of the program.
            let _ = jobs.send(Job { conn, number, address: self.address, frame });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn frame(text: &str) -> Arc<[u8]> {
        text.as_bytes().into()
    }

    fn posts() -> (Posts, Receiver<Job>) {
        let (jobs, from_hub) = unbounded();
        let mut posts = Posts::new(jobs);
        posts.open(ConnId(1), "127.0.0.1:1".parse().expect("an address"));
        (posts, from_hub)
    }

    /// The frames that have been handed out.
    fn handed(jobs: &Receiver<Job>) -> Vec<String> {
        jobs.try_iter().map(|job| String::from_utf8_lossy(&job.frame).into_owned()).collect()
    }

    #[test]
    fn one_push_at_a_time_in_order() {
        let (mut posts, jobs) = posts();
        for text in ["one", "two"] {
            posts.put(ConnId(1), frame(text), None);
        }
        assert_eq!(posts.send(), [Word::Stalled(ConnId(1))]);
        assert_eq!(handed(&jobs), ["one"]);
        posts.reported(ConnId(1), Outcome::Delivered);
        assert_eq!(posts.send(), []);
        assert_eq!(handed(&jobs), ["two"]);
        posts.reported(ConnId(1), Outcome::Delivered);
        assert_eq!(posts.send(), [Word::Drained(ConnId(1))]);
    }

    #[test]
    fn what_follows_a_kept_place_waits_behind_it() {
        let (mut posts, jobs) = posts();
        posts.hold(ConnId(1));
        posts.put(ConnId(1), frame("later"), None);
        posts.send();
        assert_eq!(handed(&jobs), [""; 0]);
        posts.release(ConnId(1), Some(frame("stored")));
        posts.send();
        assert_eq!(handed(&jobs), ["stored"]);
    }

    #[test]
    fn a_session_that_ends_still_gets_its_last_notice_but_no_texts() {
        let (mut posts, jobs) = posts();
        for (text, number) in [("under way", Some(1)), ("a text", Some(2)), ("the last", None)] {
            posts.put(ConnId(1), frame(text), number);
        }
        posts.send();
        posts.close(ConnId(1), 0);
        assert_eq!(posts.send(), []);
        posts.reported(ConnId(1), Outcome::Delivered);
        posts.send();
        assert_eq!(handed(&jobs), ["under way", "the last"]);
        posts.reported(ConnId(1), Outcome::Delivered);
        assert_eq!(posts.send(), [Word::Closed(ConnId(1))]);
        assert!(posts.give_up(LAST_MILLIS_MAX, false).is_empty());
    }

    #[test]
    fn a_last_notice_that_takes_too_long_is_given_up() {
        let (mut posts, _jobs) = posts();
        posts.put(ConnId(1), frame("a text"), Some(7));
        posts.send();
        posts.close(ConnId(1), 5);
        assert_eq!(posts.give_up(4 + LAST_MILLIS_MAX, false), []);
        assert_eq!(posts.give_up(5 + LAST_MILLIS_MAX, false), [(ConnId(1), Some(7))]);
    }

    #[test]
    fn too_much_is_told_and_dropped() {
        let (mut posts, jobs) = posts();
        let large: Arc<[u8]> = vec![b'x'; WAITING_BYTES_MAX / 2].into();
        for _ in 0..3 {
            posts.put(ConnId(1), Arc::clone(&large), Some(1));
        }
        assert_eq!(posts.send(), [Word::Overrun(ConnId(1))]);
        posts.close(ConnId(1), 0);
        posts.put(ConnId(1), frame("too slow"), None);
        posts.send();
        assert_eq!(handed(&jobs), ["too slow"]);
    }

    #[test]
    fn a_push_arrives_when_the_client_closes_in_order() {
        let clock = Clock::start();
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        let reader = thread::spawn(move || {
            let mut all = Vec::new();
            for read_to_end in [false, true] {
                let (mut stream, _) = listener.accept().expect("a push");
                let mut bytes = [0; 5];
                stream.read_exact(&mut bytes).expect("a frame");
                all.push(bytes.to_vec());
                if read_to_end {
                    assert_eq!(stream.read(&mut bytes).expect("an end"), 0, "as netcat waits for it");
                }
            }
            // The third is closed without being read, which is a reset.
            drop(listener.accept().expect("a push"));
            // The fourth finds nobody.
            drop(listener);
            all
        });
        assert_eq!(push(clock, address, b"12345"), Outcome::Delivered);
        assert_eq!(push(clock, address, b"67890"), Outcome::Delivered);
        assert_eq!(push(clock, address, b"abcde"), Outcome::Doubtful);
        assert_eq!(reader.join().expect("no panic"), [b"12345", b"67890"]);
        assert_eq!(push(clock, address, b"fghij"), Outcome::Failed);
    }
}
