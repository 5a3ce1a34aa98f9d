//! The threads that read clients. One is started when a connection comes and no thread waits for
//! it; after its connection it waits for the next one for a moment, because the beginning and the
//! end of a thread cost a third of a log-in.

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::ids::ConnId;
use super::inbox::ToHub;
use super::session::{self, Connection, READER_STACK_BYTES};

/// Threads that may wait for a connection; one more ends with its own.
const WAITING_MAX: usize = 64;

/// How long a thread waits for a connection; then it ends.
const WAIT: Duration = Duration::from_secs(1);

/// A connection that is to be read.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) conn: ConnId,
    pub(super) peer: IpAddr,
    pub(super) connection: Arc<Connection>,
}

/// Gives every connection a thread of its own.
#[derive(Debug)]
pub(super) struct Readers {
    hub: ToHub,
    waiting: Arc<Waiting>,
}

/// Threads without a connection; who came last is the first to get one.
#[derive(Debug, Default)]
struct Waiting(Mutex<Vec<Arc<Seat>>>);

/// Where one thread waits.
#[derive(Debug, Default)]
struct Seat {
    arrival: Mutex<Option<Arrival>>,
    is_taken: Condvar,
}

impl Readers {
    pub(super) fn new(hub: ToHub) -> Self {
        Self { hub, waiting: Arc::default() }
    }

    /// Has a connection read to its end; fails if there is no thread to be had.
    pub(super) fn read(&self, arrival: Arrival) -> io::Result<()> {
        if let Some(seat) = self.waiting.pop() {
            *lock(&seat.arrival) = Some(arrival);
            seat.is_taken.notify_one();
            return Ok(());
        }
        let (hub, waiting) = (self.hub.clone(), Arc::clone(&self.waiting));
        let life = move || {
            let mut arrival = Some(arrival);
            while let Some(Arrival { conn, peer, connection }) = arrival {
                session::read(conn, peer, connection, &hub);
                arrival = waiting.wait();
            }
        };
        thread::Builder::new().name("session".into()).stack_size(READER_STACK_BYTES).spawn(life).map(drop)
    }
}

impl Waiting {
    fn pop(&self) -> Option<Arc<Seat>> {
        lock(&self.0).pop()
    }

    /// Waits for a connection; `None` if there is no seat, or none has come in time.
    fn wait(&self) -> Option<Arrival> {
        let seat = Arc::new(Seat::default());
        {
            let mut seats = lock(&self.0);
            if seats.len() >= WAITING_MAX {
                return None;
            }
            seats.push(Arc::clone(&seat));
        }
        loop {
            let waited = seat.is_taken.wait_timeout_while(lock(&seat.arrival), WAIT, |arrival| arrival.is_none());
            let (mut arrival, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if arrival.is_some() {
                return arrival.take();
            }
            drop(arrival);
            // A seat that has been popped is about to be taken.
            let mut seats = lock(&self.0);
            if let Some(at) = seats.iter().position(|other| Arc::ptr_eq(other, &seat)) {
                seats.remove(at);
                return None;
            }
        }
    }
}

/// What is locked here is whole at any time, so a thread that died with it has broken nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::sync::atomic::AtomicUsize;
    use std::thread::ThreadId;

    use super::*;
    use crate::clock::Clock;
    use crate::server::hub::Input;
    use crate::server::inbox::{Inbox, inbox};

    /// Readers, and connections for them whose other ends are kept here.
    struct Stage {
        listener: TcpListener,
        readers: Readers,
        inbox: Inbox,
        clock: Clock,
    }

    impl Stage {
        fn new() -> Self {
            // More than the test has connections.
            let (hub, inbox) = inbox(1024);
            let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
            Self { listener, readers: Readers::new(hub), inbox, clock: Clock::start() }
        }

        /// Has a new connection read: its other end, and which thread does it.
        fn connect(&self) -> (TcpStream, ThreadId) {
            let ours = TcpStream::connect(self.listener.local_addr().expect("bound")).expect("loopback");
            let (stream, _) = self.listener.accept().expect("loopback");
            let connection = Arc::new(Connection::new(stream, Arc::new(AtomicUsize::new(1))));
            let peer = Ipv4Addr::LOCALHOST.into();
            self.readers.read(Arrival { conn: ConnId(1), peer, connection }).expect("a thread");
            loop {
                if let Some(Input::Opened { reader, .. }) = self.inbox.wait(Duration::from_secs(1)) {
                    return (ours, reader.id());
                }
                assert!(self.clock.now().elapsed < 20_000, "nobody reads it");
            }
        }

        fn waiting(&self) -> usize {
            lock(&self.readers.waiting.0).len()
        }

        /// Whoever has a thread shares in this.
        fn threads(&self) -> usize {
            Arc::strong_count(&self.readers.waiting) - 1
        }

        fn await_that(&self, mut is_so: impl FnMut() -> bool) {
            while !is_so() {
                assert!(self.clock.now().elapsed < 20_000, "it does not come to that");
                thread::yield_now();
            }
        }
    }

    #[test]
    fn a_thread_reads_one_connection_after_the_other_and_ends() {
        let stage = Stage::new();
        let (first, thread) = stage.connect();
        let (second, another) = stage.connect();
        assert_ne!(thread, another, "two connections at a time");
        drop(first);
        stage.await_that(|| stage.waiting() == 1);
        let (third, again) = stage.connect();
        assert_eq!(thread, again);
        assert_eq!((stage.waiting(), stage.threads()), (0, 2));
        drop((second, third));
        stage.await_that(|| stage.threads() == 0);
        assert_eq!(stage.waiting(), 0);
    }

    #[test]
    fn only_so_many_threads_wait() {
        let stage = Stage::new();
        let connections: Vec<_> = (0..=WAITING_MAX).map(|_| stage.connect()).collect();
        assert_eq!(stage.threads(), WAITING_MAX + 1);
        drop(connections);
        let mut most = 0;
        stage.await_that(|| {
            most = most.max(stage.waiting());
            stage.threads() == 0
        });
        assert_eq!(most, WAITING_MAX);
    }
}
