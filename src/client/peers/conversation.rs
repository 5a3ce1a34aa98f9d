//! The threads of one connection to another client.
//!
//! * `peer` dials, carries the handshake between the mind and the other side, and then reads a
//!   private session, or does the work of a connection for files. It ends with the connection.
//! * `peer-out` writes the texts of a private session. It ends when the session is over and that
//!   is said, at the latest [`BYE_MAX`] later, and then cuts the connection.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use socket2::{SockRef, TcpKeepalive};

use super::{FileLink, FileWork, PeerNews};
use crate::client::state::{PROOF_MAX, PeerEvent, PeerId};
use crate::wire::name::UserName;
use crate::wire::peer::{FrameReader, UNPROVEN_BYTES_MAX};

/// How long the end of a session may take; then the connection is cut.
pub(super) const BYE_MAX: Duration = Duration::from_secs(1);

/// Read of a private session at once, in bytes.
const READ_BYTES: usize = 16 * 1024;

/// Another client whose machine is gone is noticed after so long a silence, so many questions in
/// such a distance; while it is sent something, after the last.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(30), Duration::from_secs(10), 3);
const UNANSWERED_MAX: Duration = Duration::from_secs(30);

/// How a connection comes to be.
#[derive(Debug)]
pub(super) enum Start {
    Dial(SocketAddr),
    Accepted(Arc<TcpStream>),
}

/// What the mind wants of a connection.
#[derive(Debug)]
pub(super) enum Order {
    /// Send bytes of the handshake.
    Send(Vec<u8>),
    /// Wait for a frame of the handshake.
    Hear,
    /// It is a private session now.
    Private(Texts),
    /// It is for files now, with this user.
    Files(UserName),
}

/// The texts of a session, for who writes them.
#[derive(Debug)]
pub(super) struct Texts {
    /// Frames; closed when all is said.
    pub(super) queue: Receiver<Vec<u8>>,
    /// Set when the session ends: who does not read now is not waited for.
    pub(super) closing: Arc<AtomicBool>,
    /// Dropped when all is written.
    pub(super) _talking: Sender<()>,
}

/// One connection.
pub(super) struct Conversation {
    pub(super) peer: PeerId,
    pub(super) orders: Receiver<Order>,
    pub(super) news: Sender<PeerNews>,
    pub(super) files: FileWork,
}

impl Conversation {
    pub(super) fn run(self, start: Start) {
        if let Ok(stream) = self.begin(start) {
            // Whatever goes wrong is the end, and that is told below.
            let _ = self.obey(&stream);
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.tell(PeerEvent::Ended);
    }

    fn tell(&self, event: PeerEvent) -> bool {
        self.news.send(PeerNews::Happened(self.peer, event)).is_ok()
    }

    fn begin(&self, start: Start) -> io::Result<Arc<TcpStream>> {
        let stream = match start {
            Start::Accepted(stream) => stream,
            Start::Dial(at) => {
                let limit = Duration::from_millis(u64::try_from(PROOF_MAX).unwrap_or_default());
                let stream = Arc::new(TcpStream::connect_timeout(&at, limit)?);
                let connected = PeerNews::Connected(self.peer, Arc::clone(&stream), at.ip());
                self.news.send(connected).map_err(io::Error::other)?;
                stream
            }
        };
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&*stream);
        let (quiet, between, count) = KEEPALIVE;
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(quiet).with_interval(between).with_retries(count))?;
        socket.set_tcp_user_timeout(Some(UNANSWERED_MAX))?;
        Ok(stream)
    }

    /// Does what the mind wants until it wants nothing more.
    fn obey(&self, stream: &Arc<TcpStream>) -> io::Result<()> {
        let mut reader = FrameReader::default();
        let mut unread = UNPROVEN_BYTES_MAX;
        while let Ok(order) = self.orders.recv() {
            match order {
                // The handshake is far smaller than the buffer of a socket.
                Order::Send(bytes) => (&**stream).write_all(&bytes)?,
                Order::Hear => {
                    let heard = hear_unproven(stream, &mut reader, &mut unread)?;
                    let is_garbage = heard == PeerEvent::Garbage;
                    if !self.tell(heard) || is_garbage {
                        break;
                    }
                }
                Order::Private(texts) => {
                    reader.proven();
                    return self.talk(stream, reader, texts);
                }
                Order::Files(user) => {
                    reader.proven();
                    (self.files)(FileLink { peer: self.peer, user, stream: Arc::clone(stream), reader });
                    break;
                }
            }
        }
        Ok(())
    }

    /// A private session, to its end.
    fn talk(&self, stream: &Arc<TcpStream>, mut reader: FrameReader, texts: Texts) -> io::Result<()> {
        let (reading, read) = bounded(0);
        let writing = Arc::clone(stream);
        thread::Builder::new().name("peer-out".into()).spawn(move || write_texts(&writing, &texts, &read))?;
        let ended = self.read_texts(stream, &mut reader);
        drop(reading);
        ended
    }

    fn read_texts(&self, mut stream: &TcpStream, reader: &mut FrameReader) -> io::Result<()> {
        let mut bytes = vec![0; READ_BYTES];
        loop {
            loop {
                match reader.next_frame() {
                    // At the end of the program nobody listens. It is read all the same: to close
                    // over unread bytes would take our last words back.
                    Ok(Some(frame)) => drop(self.tell(PeerEvent::Heard(frame))),
                    Ok(None) => break,
                    Err(_) => {
                        self.tell(PeerEvent::Garbage);
                        return Ok(());
                    }
                }
            }
            let count = read(&mut stream, &mut bytes)?;
            if count == 0 {
                return Ok(());
            }
            reader.push(&bytes[..count]);
        }
    }
}

/// One frame of who has not proven anything; `unread` bytes of him may still be read.
fn hear_unproven(mut stream: &TcpStream, reader: &mut FrameReader, unread: &mut usize) -> io::Result<PeerEvent> {
    loop {
        match reader.next_frame() {
            Ok(Some(frame)) => return Ok(PeerEvent::Heard(frame)),
            Ok(None) if *unread > 0 => {}
            _ => return Ok(PeerEvent::Garbage),
        }
        let mut bytes = [0; UNPROVEN_BYTES_MAX];
        let count = read(&mut stream, &mut bytes[..*unread])?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        *unread -= count;
        reader.push(&bytes[..count]);
    }
}

fn read(stream: &mut &TcpStream, bytes: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(bytes) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Writes all that is said, then closes: the other side reads to the end, and closes too.
fn write_texts(stream: &TcpStream, texts: &Texts, read: &Receiver<()>) {
    // Only to look whether the session is closing.
    let _ = stream.set_write_timeout(Some(BYE_MAX));
    while let Ok(bytes) = texts.queue.recv() {
        if write(stream, &bytes, &texts.closing).is_err() {
            break;
        }
    }
    // Each fails only if the other end was faster. Nothing is ever sent: the reader is at its end,
    // or it takes too long.
    let _ = stream.shutdown(Shutdown::Write);
    let _ = read.recv_timeout(BYE_MAX);
    let _ = stream.shutdown(Shutdown::Both);
}

fn write(mut stream: &TcpStream, mut bytes: &[u8], closing: &AtomicBool) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock && !closing.load(Ordering::SeqCst) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
