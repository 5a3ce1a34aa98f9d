//! Connections to other clients: the hands of what `state/peers.rs` and `state/private.rs` decide.
//!
//! * `peers`: accepts connections. It ends when its listener is shut down.
//! * `peer` and `peer-out`: see [`conversation`]. They end with their connection.
//!
//! What another client sends is bounded at every step, and nothing is read while the mind is busy.

mod conversation;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender, bounded, unbounded};
use socket2::SockRef;

use super::state::{PeerEvent, PeerId};
use crate::wire::Purpose;
use crate::wire::name::UserName;
use crate::wire::peer::{Frame, FrameReader, Nonce};
use conversation::{BYE_MAX, Conversation, Order, Start, Texts};

/// News of other clients that may wait for the mind; then they wait in their sockets.
const NEWS_MAX: usize = 64;

/// Texts of one session that may wait for a reader who takes his time; the next is not taken.
const TEXTS_MAX: usize = 64;

/// How long a full queue is waited for, once until there is room again: a script talks faster than
/// any reader reads.
const FULL_MAX: Duration = Duration::from_secs(1);

/// Pause after a connection that could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the threads report.
#[derive(Debug)]
pub(super) enum PeerNews {
    /// Somebody has connected.
    Accepted(TcpStream, IpAddr),
    /// Who was dialled is there.
    Connected(PeerId, Arc<TcpStream>, IpAddr),
    /// Something else happened.
    Happened(PeerId, PeerEvent),
}

/// A connection for files whose two ends have proven who they are.
#[derive(Debug)]
#[expect(dead_code, reason = "for who serves and fetches files")]
pub(super) struct FileLink {
    /// Names it, and tells who has dialled: [`PeerId::Dialled`] wants chunks, the other end gives.
    pub(super) peer: PeerId,
    /// Who is at the other end.
    pub(super) user: UserName,
    /// The connection; it is shut down when the mind hangs up. Writes wait without limit.
    pub(super) stream: Arc<TcpStream>,
    /// Where its reader stands: first bytes behind the handshake may be in it.
    pub(super) reader: FrameReader,
}

/// Does the work of a connection for files, in the thread of that connection, which ends when it
/// returns.
pub(super) type FileWork = Arc<dyn Fn(FileLink) + Send + Sync>;

/// What is known here of a connection.
struct Link {
    orders: Sender<Order>,
    /// Missing while it is being dialled.
    stream: Option<Arc<TcpStream>>,
    /// Of a private session: its queue, and whether it is closing.
    texts: Option<(Sender<Vec<u8>>, Arc<AtomicBool>)>,
    /// The queue was full, and waiting did not help.
    is_stuck: bool,
}

struct Listener {
    socket: Arc<TcpListener>,
    at: SocketAddr,
    /// Dropped to end the thread.
    _stop: Sender<()>,
}

/// All connections to other clients.
pub(super) struct Peers {
    news: Sender<PeerNews>,
    links: HashMap<PeerId, Link>,
    listener: Option<Listener>,
    accepted: u64,
    files: FileWork,
    /// Every session holds a sender until it has said all.
    talking: (Sender<()>, Receiver<()>),
}

impl Peers {
    /// None yet; and where the news of them will come from.
    pub(super) fn new(files: FileWork) -> (Self, Receiver<PeerNews>) {
        let (news, from_peers) = bounded(NEWS_MAX);
        let talking = bounded(0);
        (Self { news, links: HashMap::new(), listener: None, accepted: 0, files, talking }, from_peers)
    }

    /// Lets others connect at this address, and returns the port.
    pub(super) fn listen(&mut self, mut at: SocketAddr) -> io::Result<u16> {
        at.set_port(0);
        if let Some(listener) = &self.listener
            && listener.at.ip() == at.ip()
        {
            return Ok(listener.at.port());
        }
        self.stop_listening();
        let socket = Arc::new(TcpListener::bind(at)?);
        let at = socket.local_addr()?;
        let (stop, stopped) = bounded(0);
        let (accepting, news) = (Arc::clone(&socket), self.news.clone());
        let run = move || accept(&accepting, &news, &stopped);
        thread::Builder::new().name("peers".into()).spawn(run)?;
        self.listener = Some(Listener { socket, at, _stop: stop });
        Ok(at.port())
    }

    fn stop_listening(&mut self) {
        if let Some(Listener { socket, .. }) = self.listener.take() {
            // Ends a blocked accept; fails only if nobody listens any more.
            let _ = SockRef::from(&*socket).shutdown(Shutdown::Both);
        }
    }

    /// Makes an event of news; nothing of what has been hung up.
    pub(super) fn take(&mut self, news: PeerNews) -> Option<(PeerId, PeerEvent)> {
        match news {
            PeerNews::Accepted(stream, ip) => {
                self.accepted += 1;
                let (peer, stream) = (PeerId::Accepted(self.accepted), Arc::new(stream));
                self.start(peer, Start::Accepted(Arc::clone(&stream))).ok()?;
                self.order(peer, Order::Hear);
                self.links.get_mut(&peer)?.stream = Some(stream);
                Some((peer, opened(ip)))
            }
            PeerNews::Connected(peer, stream, ip) => {
                // Dropped, it is closed: the thread hears that nothing is wanted of it.
                self.links.get_mut(&peer)?.stream = Some(stream);
                Some((peer, opened(ip)))
            }
            PeerNews::Happened(peer, event) => Some((peer, event)),
        }
    }

    /// Connects to another client; what comes of it is news.
    pub(super) fn dial(&mut self, peer: PeerId, at: SocketAddr) -> io::Result<()> {
        self.start(peer, Start::Dial(at))
    }

    fn start(&mut self, peer: PeerId, start: Start) -> io::Result<()> {
        let (orders, from_mind) = unbounded();
        let conversation =
            Conversation { peer, orders: from_mind, news: self.news.clone(), files: Arc::clone(&self.files) };
        thread::Builder::new().name("peer".into()).spawn(move || conversation.run(start))?;
        self.links.insert(peer, Link { orders, stream: None, texts: None, is_stuck: false });
        Ok(())
    }

    fn order(&self, peer: PeerId, order: Order) {
        if let Some(link) = self.links.get(&peer) {
            // The thread has ended if nobody takes it; that is news already.
            let _ = link.orders.send(order);
        }
    }

    /// Says this, and in the handshake also waits for the answer. False if too much waits.
    pub(super) fn tell(&mut self, peer: PeerId, frame: &Frame) -> bool {
        let Some(link) = self.links.get_mut(&peer) else { return true };
        if let Some((texts, _)) = &link.texts {
            let patience = if link.is_stuck { Duration::ZERO } else { FULL_MAX };
            let sent = texts.send_timeout(frame.bytes(), patience);
            // A writer that has ended is news already.
            link.is_stuck = matches!(sent, Err(SendTimeoutError::Timeout(_)));
            return !link.is_stuck;
        }
        self.order(peer, Order::Send(frame.bytes()));
        match frame {
            Frame::Hello(_) | Frame::Proof { .. } => self.order(peer, Order::Hear),
            // Nothing else is wanted: the thread sends it, finds that there are no more orders,
            // and closes.
            Frame::Bye => drop(self.links.remove(&peer)),
            _ => {}
        }
        true
    }

    /// Both sides have proven who they are.
    pub(super) fn proven(&mut self, peer: PeerId, user: UserName, purpose: Purpose) {
        match purpose {
            Purpose::Private => {
                let (texts, queue) = bounded(TEXTS_MAX);
                let closing = Arc::new(AtomicBool::new(false));
                let work = Texts { queue, closing: Arc::clone(&closing), _talking: self.talking.0.clone() };
                self.order(peer, Order::Private(work));
                if let Some(link) = self.links.get_mut(&peer) {
                    link.texts = Some((texts, closing));
                }
            }
            Purpose::File => self.order(peer, Order::Files(user)),
        }
    }

    /// Closes a connection: a private session when all is said, any other at once.
    pub(super) fn hang_up(&mut self, peer: PeerId) {
        let Some(link) = self.links.remove(&peer) else { return };
        match (link.texts, link.stream) {
            (Some((_, closing)), _) => closing.store(true, Ordering::SeqCst),
            // Fails only if the other end was faster.
            (None, Some(stream)) => drop(stream.shutdown(Shutdown::Both)),
            (None, None) => {}
        }
    }

    /// The program ends: closes everything, and lets the sessions say good-bye.
    pub(super) fn close(&mut self) {
        self.stop_listening();
        for peer in self.links.keys().copied().collect::<Vec<_>>() {
            self.hang_up(peer);
        }
        let (own, talking) = std::mem::replace(&mut self.talking, bounded(0));
        drop(own);
        // Nothing is ever sent: all have said all, or it takes too long.
        let _ = talking.recv_timeout(2 * BYE_MAX);
    }
}

fn opened(ip: IpAddr) -> PeerEvent {
    let mut nonce = Nonce::default();
    match getrandom::fill(&mut nonce) {
        Ok(()) => PeerEvent::Open(ip, nonce),
        // Without random bytes nothing can be proven.
        Err(_) => PeerEvent::Ended,
    }
}

fn accept(listener: &TcpListener, news: &Sender<PeerNews>, stopped: &Receiver<()>) {
    loop {
        match listener.accept() {
            Ok((stream, address)) => {
                if news.send(PeerNews::Accepted(stream, address.ip().to_canonical())).is_err() {
                    return;
                }
            }
            // The listener is shut down, or there are no descriptors just now.
            Err(_) if stopped.recv_timeout(ACCEPT_PAUSE) == Err(RecvTimeoutError::Disconnected) => return,
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers() -> Peers {
        Peers::new(Arc::new(drop)).0
    }

    fn address(ip: &str) -> SocketAddr {
        SocketAddr::new(ip.parse().expect("an address"), 4000)
    }

    #[test]
    fn the_port_stays_as_long_as_the_address_does() {
        let mut peers = peers();
        let port = peers.listen(address("127.0.0.1")).expect("loopback");
        assert_ne!(port, 4000, "a free one, not that of the connection to the server");
        assert_eq!(peers.listen(address("127.0.0.1")).expect("loopback"), port);
        drop(TcpStream::connect(("127.0.0.1", port)).expect("somebody listens"));
        let moved = peers.listen(address("127.0.0.2")).expect("loopback");
        drop(TcpStream::connect(("127.0.0.2", moved)).expect("somebody listens"));
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "nobody is left at the old address");
    }

    #[test]
    fn an_address_that_cannot_be_had_leaves_nobody_listening_until_the_next() {
        let mut peers = peers();
        let port = peers.listen(address("127.0.0.1")).expect("loopback");
        // No machine has an address of those that stand in examples.
        peers.listen(address("192.0.2.1")).expect_err("it is not ours");
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "the server is told that nobody listens");
        let again = peers.listen(address("127.0.0.1")).expect("loopback");
        drop(TcpStream::connect(("127.0.0.1", again)).expect("somebody listens"));
    }
}
