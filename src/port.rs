//! A UDP socket that a thread reads until it is told to end; for both programs.

use std::io::{self, ErrorKind};
use std::net::{Shutdown, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::net::{RecvFlags, recvfrom};
use socket2::SockRef;

use crate::wire::datagram::DATAGRAM_BYTES_MAX;

/// Wait after an error of `recvfrom` that a retry would only repeat.
const RECEIVE_BACKOFF: Duration = Duration::from_millis(50);

/// A socket and its end.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) socket: UdpSocket,
    stopped: AtomicBool,
}

impl Port {
    pub(crate) fn new(socket: UdpSocket) -> Self {
        Self { socket, stopped: AtomicBool::new(false) }
    }

    /// Hands over what comes, until [`Port::stop`], or until `take` wants no more. Addresses of
    /// IPv4 in IPv6 clothes are of IPv4.
    pub(crate) fn read(&self, mut take: impl FnMut(SocketAddr, &[u8]) -> bool) {
        // One byte more than there may be, so that a longer datagram is not taken for its beginning.
        let mut bytes = [0; DATAGRAM_BYTES_MAX + 1];
        loop {
            // Not the one of std, which takes it for granted that there is an address: the end of
            // a socket has none.
            let received = recvfrom(&self.socket, &mut bytes, RecvFlags::empty());
            if self.stopped.load(Ordering::SeqCst) {
                return;
            }
            match received.map_err(io::Error::from) {
                Ok((count, _, from)) => {
                    let Some(from) = from.and_then(|from| SocketAddr::try_from(from).ok()) else { continue };
                    let from = SocketAddr::new(from.ip().to_canonical(), from.port());
                    if !take(from, &bytes[..count]) {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    log::warn!("cannot receive datagrams: {error}");
                    thread::park_timeout(RECEIVE_BACKOFF);
                }
            }
        }
    }

    /// Ends the reader. The kernel says that there is no connection to be shut down, and wakes
    /// whoever reads all the same.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = SockRef::from(&self.socket).shutdown(Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_stop_ends_a_reader_that_waits() {
        let port = Arc::new(Port::new(UdpSocket::bind("127.0.0.1:0").expect("loopback")));
        let (sender, heard) = std::sync::mpsc::channel();
        let reader = {
            let port = Arc::clone(&port);
            thread::spawn(move || port.read(|from, bytes| sender.send((from, bytes.to_vec())).is_ok()))
        };
        let client = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        let (here, there) = (client.local_addr().expect("bound"), port.socket.local_addr().expect("bound"));
        let long = vec![b'x'; 2 * DATAGRAM_BYTES_MAX];
        for datagram in [&b""[..], b"hi", &long] {
            client.send_to(datagram, there).expect("loopback");
            let (from, bytes) = heard.recv_timeout(Duration::from_secs(20)).expect("it is read");
            assert_eq!((from, bytes.len()), (here, datagram.len().min(DATAGRAM_BYTES_MAX + 1)));
        }
        port.stop();
        reader.join().expect("it ends");
    }
}
