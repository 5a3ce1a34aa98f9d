//! One thread that writes to all sockets that are full, as they take it.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender, unbounded};
use rustix::event::{PollFd, PollFlags, poll};

use super::hub::Input;
use super::ids::ConnId;
use super::inbox::ToHub;
use super::outbox;
use super::session::Connection;

/// Output that did not fit into a client's socket.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) conn: ConnId,
    pub(super) connection: Arc<Connection>,
    pub(super) bytes: Vec<u8>,
}

/// The hub's end. Unbounded, so that the hub never waits; it hands over one piece per client.
#[derive(Debug)]
pub(super) struct Flusher {
    pieces: Sender<Piece>,
    waker: UnixStream,
}

impl Flusher {
    /// Starts the thread; it ends when this end is dropped.
    pub(super) fn start(hub: ToHub) -> io::Result<Self> {
        let (pieces, received) = unbounded();
        let (waker, woken) = UnixStream::pair()?;
        waker.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        thread::Builder::new().name("flusher".into()).spawn(move || run(&received, &woken, &hub))?;
        Ok(Self { pieces, waker })
    }

    /// Hands over a piece; reported by [`Input::Flushed`].
    pub(super) fn flush(&self, piece: Piece) {
        // A flusher that is gone has been told to go, and a full waker is awake already.
        let _ = self.pieces.send(piece);
        let _ = (&self.waker).write(&[0]);
    }
}

/// A piece and how much of it has been written.
struct Progress {
    piece: Piece,
    written: usize,
}

fn run(pieces: &Receiver<Piece>, woken: &UnixStream, hub: &ToHub) {
    let mut waiting: HashMap<ConnId, Progress> = HashMap::new();
    loop {
        let ready = match wait(woken, &waiting) {
            Ok(ready) => ready,
            Err(error) => {
                log::error!("flusher: poll: {error}");
                return;
            }
        };
        if !drain(woken) {
            return;
        }
        for conn in ready {
            let Some(progress) = waiting.get_mut(&conn) else { continue };
            let Some(ok) = write_on(progress) else { continue };
            waiting.remove(&conn);
            if hub.send(Input::Flushed(conn, ok)).is_err() {
                return;
            }
        }
        for piece in pieces.try_iter() {
            waiting.insert(piece.conn, Progress { piece, written: 0 });
        }
    }
}

/// Sleeps until a socket takes something or a new piece has come.
fn wait(woken: &UnixStream, waiting: &HashMap<ConnId, Progress>) -> io::Result<Vec<ConnId>> {
    let sockets = waiting.values().map(|progress| &progress.piece.connection.stream);
    let mut fds = vec![PollFd::new(woken, PollFlags::IN)];
    fds.extend(sockets.map(|stream| PollFd::new(stream, PollFlags::OUT)));
    loop {
        match poll(&mut fds, None) {
            Ok(_) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let ready = waiting.keys().zip(&fds[1..]).filter(|(_, fd)| !fd.revents().is_empty());
    Ok(ready.map(|(conn, _)| *conn).collect())
}

/// Empties the waker; false once the hub's end is gone.
fn drain(mut woken: &UnixStream) -> bool {
    let mut bytes = [0; 64];
    loop {
        match woken.read(&mut bytes) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
}

/// Writes what the socket takes: `None` if some is left, else whether all could be written.
fn write_on(progress: &mut Progress) -> Option<bool> {
    match outbox::send(&progress.piece.connection.stream, &progress.piece.bytes[progress.written..]) {
        Ok(count) => {
            progress.written += count;
            (progress.written == progress.piece.bytes.len()).then_some(true)
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(_) => Some(false),
    }
}
