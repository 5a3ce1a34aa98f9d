//! Accepts connections: numbers each, has it read, and stays calm when that fails.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use super::ids::ConnId;
use super::outbox;
use super::readers::{Arrival, Readers};
use super::session::Connection;
use crate::clock::Clock;

/// Connections that may wait to be accepted; with the usual 128, ten thousand log-ins at once
/// take a minute of retries.
const BACKLOG_MAX: i32 = 4096;

/// Output that the kernel keeps for one client, in bytes; more waits in the outbox.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// Quiet before the kernel asks whether a peer is still there, between two questions, how many.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(30), Duration::from_secs(10), 3);

/// How long sent bytes may stay unanswered by the peer's kernel.
const UNANSWERED_MAX: Duration = Duration::from_secs(30);

/// Wait after an error of `accept` that a retry would only repeat.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// Tries to find a port that is free on every address when any port will do.
const ANY_PORT_TRIES: usize = 8;

/// Why the server cannot listen.
#[derive(Debug)]
pub enum ListenError {
    /// Somebody else has the port.
    InUse(SocketAddr),
    /// Anything else.
    Failed(SocketAddr, io::Error),
}

/// Opens the line port on every address. Port 0 becomes one free port, the same on all of them.
/// Where `optional` says so, an address that this machine does not have is left out and named.
pub(super) fn bind(
    addresses: &[IpAddr],
    port: u16,
    optional: impl Fn(IpAddr) -> bool,
) -> Result<(Vec<TcpListener>, Vec<String>), ListenError> {
    let port_of = |listener: &TcpListener| listener.local_addr().map(|address| address.port());
    bind_by(addresses, port, optional, listen, port_of)
}

/// The same for sockets of any kind: `open` makes one, for both families if it is told so.
pub(super) fn bind_by<S>(
    addresses: &[IpAddr],
    port: u16,
    optional: impl Fn(IpAddr) -> bool,
    open: impl Fn(SocketAddr, bool) -> io::Result<S>,
    port_of: impl Fn(&S) -> io::Result<u16>,
) -> Result<(Vec<S>, Vec<String>), ListenError> {
    let mut tries = if port == 0 { ANY_PORT_TRIES } else { 1 };
    loop {
        tries -= 1;
        match bind_all(addresses, port, &optional, &open, &port_of) {
            Err(ListenError::InUse(_)) if tries > 0 => {}
            result => return result,
        }
    }
}

fn bind_all<S>(
    addresses: &[IpAddr],
    mut port: u16,
    optional: &impl Fn(IpAddr) -> bool,
    open: &impl Fn(SocketAddr, bool) -> io::Result<S>,
    port_of: &impl Fn(&S) -> io::Result<u16>,
) -> Result<(Vec<S>, Vec<String>), ListenError> {
    let mut sockets = Vec::new();
    let mut notes = Vec::new();
    for &address in addresses {
        // `::` serves IPv4 as well, unless an IPv4 address is asked for by itself.
        let dual = address == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && !addresses.iter().any(IpAddr::is_ipv4);
        let wanted = SocketAddr::new(address, port);
        let socket = match open(wanted, dual) {
            Err(error) if is_missing(&error) && dual => {
                notes.push("no IPv6 on this machine, listening on IPv4 alone".to_owned());
                open(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port), false)
            }
            Err(error) if is_missing(&error) && optional(address) => {
                notes.push(format!("{address} is not available on this machine, left out"));
                continue;
            }
            result => result,
        };
        let socket = socket.map_err(|error| match error.kind() {
            ErrorKind::AddrInUse => ListenError::InUse(wanted),
            _ => ListenError::Failed(wanted, error),
        })?;
        port = port_of(&socket).unwrap_or(port);
        sockets.push(socket);
    }
    Ok((sockets, notes))
}

/// Whether the machine has no such address or no such protocol.
fn is_missing(error: &io::Error) -> bool {
    error.kind() == ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(libc::EAFNOSUPPORT)
}

/// One listening socket. What is set here holds for every connection that it accepts.
fn listen(address: SocketAddr, dual: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!dual)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    let (quiet, between, count) = KEEPALIVE;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(quiet).with_interval(between).with_retries(count))?;
    socket.set_tcp_user_timeout(Some(UNANSWERED_MAX))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG_MAX)?;
    Ok(socket.into())
}

/// What all listeners share.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) readers: Readers,
    /// The line for one connection too many.
    pub(super) full: Vec<u8>,
    /// Connections that fit.
    pub(super) capacity: usize,
    /// Connections there are.
    pub(super) open: Arc<AtomicUsize>,
    /// The next connection's number.
    pub(super) next: Arc<AtomicU64>,
}

/// What happens to a connection at one kind of port.
pub(super) trait Doorman {
    /// Takes it.
    fn admit(&self, stream: TcpStream, peer: IpAddr) -> io::Result<()>;

    /// Says that there is no room for it.
    fn turn_away(&self, stream: &TcpStream);
}

impl Doorman for Door {
    fn admit(&self, stream: TcpStream, peer: IpAddr) -> io::Result<()> {
        admit(stream, peer, self)
    }

    fn turn_away(&self, stream: &TcpStream) {
        turn_away(stream, self);
    }
}

/// Accepts until the other end of `stop` is dropped and the listener is shut down.
pub(super) fn accept(listener: &TcpListener, door: &impl Doorman, clock: Clock, stop: &Receiver<()>) {
    let mut spare = spare_descriptor();
    let mut last_log = i64::MIN;
    let mut log = |error: &dyn std::fmt::Display| {
        let now = clock.now().elapsed;
        if now.saturating_sub(last_log) >= 1000 {
            last_log = now;
            log::warn!("cannot take a connection: {error}");
        }
    };
    loop {
        match listener.accept() {
            _ if stop.try_recv() == Err(crossbeam_channel::TryRecvError::Disconnected) => return,
            Ok((stream, peer)) => {
                if let Err(error) = door.admit(stream, peer.ip().to_canonical()) {
                    log(&error);
                }
            }
            // The client was faster, or a signal came: nothing is wrong with us.
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
            Err(error) => {
                log(&error);
                if spare.take().is_some()
                    && let Ok((stream, _)) = listener.accept()
                {
                    door.turn_away(&stream);
                }
                spare = spare_descriptor();
                if stop.recv_timeout(ACCEPT_BACKOFF) == Err(RecvTimeoutError::Disconnected) {
                    return;
                }
            }
        }
    }
}

/// A descriptor to give up when there is no other, so that a client can be told that we are full.
fn spare_descriptor() -> Option<File> {
    File::open("/dev/null").ok()
}

fn admit(stream: TcpStream, peer: IpAddr, door: &Door) -> io::Result<()> {
    if door.open.fetch_add(1, Ordering::Relaxed) >= door.capacity {
        door.open.fetch_sub(1, Ordering::Relaxed);
        turn_away(&stream, door);
        return Err(io::Error::other(format!("the server is full with {} connections", door.capacity)));
    }
    let conn = ConnId(door.next.fetch_add(1, Ordering::Relaxed));
    let connection = Arc::new(Connection::new(stream, Arc::clone(&door.open)));
    let for_reader = Arc::clone(&connection);
    let reading = door.readers.read(Arrival { conn, peer, connection: for_reader });
    reading.inspect_err(|_| turn_away(&connection.stream, door))
}

/// Says that the server is full, if the socket takes it, and lets the connection go.
fn turn_away(stream: &TcpStream, door: &Door) {
    // Whoever does not get the line finds the connection closed.
    let _ = outbox::send(stream, &door.full);
    let _ = stream.shutdown(std::net::Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::SockRef;

    #[test]
    fn accepted_sockets_inherit_what_the_listener_was_given() {
        let listener = listen("127.0.0.1:0".parse().expect("an address"), false).expect("loopback");
        let _client = TcpStream::connect(listener.local_addr().expect("bound")).expect("loopback");
        let (stream, _) = listener.accept().expect("a connection");
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().expect("an option"));
        assert!(socket.keepalive().expect("an option"));
        assert_eq!(socket.tcp_keepalive_time().expect("an option"), KEEPALIVE.0);
        assert_eq!(socket.tcp_user_timeout().expect("an option"), Some(UNANSWERED_MAX));
        // The kernel doubles what it is asked for.
        assert!((SEND_BUFFER_BYTES..=4 * SEND_BUFFER_BYTES).contains(&socket.send_buffer_size().expect("an option")));
    }

    #[test]
    fn any_port_is_the_same_on_every_address() {
        let both = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        let (listeners, _) = bind(&both, 0, |address| address.is_ipv6()).expect("loopback");
        let ports: Vec<u16> = listeners.iter().map(|listener| listener.local_addr().expect("bound").port()).collect();
        assert!(ports[0] != 0 && ports.iter().all(|&port| port == ports[0]), "{ports:?}");
        let taken = bind(&both[..1], ports[0], |_| false);
        assert!(matches!(taken, Err(ListenError::InUse(at)) if at.port() == ports[0]));
    }
}
