//! A lasting connection: the thread that reads it and hands whole lines to the hub.

use std::io::{ErrorKind, Read};
use std::net::{IpAddr, TcpStream};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::hub::Input;
use super::ids::ConnId;
use super::inbox::{HubGone, ToHub};
use crate::wire::line::LINE_BYTES_MAX;

/// Stack of a reader thread, in bytes. Untouched pages cost nothing; with less, a panic that
/// prints its trace would end the process.
pub(super) const READER_STACK_BYTES: usize = 64 * 1024;

/// Read at once from a quiet client, in bytes, on the stack: an idle client costs no more. With
/// twice as many, a reader that wakes the hub would touch a page more.
const SMALL_READ_BYTES: usize = 512;

/// Read at once from a busy client, in bytes, on the heap until the client has been quiet.
const LARGE_READ_BYTES: usize = 16 * 1024;

/// How long a busy client must be quiet before its large buffer is given back.
const QUIET: Duration = Duration::from_secs(1);

/// One client's socket, shared by its reader, the hub and the flusher: one descriptor.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    /// Set by the hub: the reader waits, and TCP makes the client wait.
    held: AtomicBool,
    /// Connections of the whole server; this one is counted until its descriptor is closed.
    open: Arc<AtomicUsize>,
}

impl Connection {
    /// Takes over a socket that has been counted in `open`.
    pub(super) fn new(stream: TcpStream, open: Arc<AtomicUsize>) -> Self {
        Self { stream, held: AtomicBool::new(false), open }
    }

    /// Makes the reader wait before its next read.
    pub(super) fn hold(&self) {
        self.held.store(true, Ordering::Release);
    }

    /// Lets the reader go on; the caller unparks it. Whether it was held.
    pub(super) fn release(&self) -> bool {
        self.held.swap(false, Ordering::Release)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The reader's last word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The peer has sent all it wanted to send.
    Fin,
    /// The connection broke.
    Reset,
}

/// The bytes of one read, up to the last line end in them.
#[derive(Debug)]
pub(super) enum Chunk {
    /// A line or two: travels in the channel itself, without an allocation.
    Small { len: u8, bytes: [u8; Chunk::SMALL_BYTES] },
    /// More.
    Large(Box<[u8]>),
}

impl Chunk {
    const SMALL_BYTES: usize = 119;

    fn new(bytes: &[u8]) -> Self {
        match u8::try_from(bytes.len()) {
            Ok(len) if bytes.len() <= Self::SMALL_BYTES => {
                let mut small = [0; Self::SMALL_BYTES];
                small[..bytes.len()].copy_from_slice(bytes);
                Self::Small { len, bytes: small }
            }
            _ => Self::Large(bytes.into()),
        }
    }
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Small { len, bytes } => &bytes[..usize::from(*len)],
            Self::Large(bytes) => bytes,
        }
    }
}

/// The life of a reader thread: one `Opened`, bytes, one `Ended`.
pub(super) fn read(conn: ConnId, peer: IpAddr, connection: Arc<Connection>, hub: &ToHub) {
    let reader = thread::current();
    let opened = Input::Opened { conn, peer, connection: Arc::clone(&connection), reader };
    if hub.send(opened).is_ok()
        && let Ok(end) = read_to_end(conn, &connection, hub)
    {
        let _ = hub.send(Input::Ended(conn, end));
    }
}

fn read_to_end(conn: ConnId, connection: &Connection, hub: &ToHub) -> Result<End, HubGone> {
    let hand_over = |bytes: &[u8]| hub.send(Input::Bytes(conn, Chunk::new(bytes)));
    let mut stream = &connection.stream;
    let mut small = [0; SMALL_READ_BYTES];
    let mut large = None;
    // The start of a line whose end has not come.
    let mut started: Vec<u8> = Vec::new();
    loop {
        let buffer = large.as_deref_mut().unwrap_or(&mut small[..]);
        let size = buffer.len();
        let bytes = match stream.read(buffer) {
            Ok(0) => {
                if !started.is_empty() {
                    hand_over(&started)?;
                }
                return Ok(End::Fin);
            }
            Ok(count) => &buffer[..count],
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == ErrorKind::WouldBlock && large.is_some() => {
                large = None;
                let _ = stream.set_read_timeout(None);
                continue;
            }
            Err(_) => return Ok(End::Reset),
        };
        match bytes.iter().rposition(|&byte| byte == b'\n') {
            Some(end) if started.is_empty() => {
                hand_over(&bytes[..=end])?;
                started.extend_from_slice(&bytes[end + 1..]);
            }
            Some(end) => {
                started.extend_from_slice(&bytes[..=end]);
                hand_over(&started)?;
                started = bytes[end + 1..].to_vec();
            }
            // Far too long for a line already: the hub will say so and skip the rest.
            None if started.len() + bytes.len() > LINE_BYTES_MAX => {
                started.extend_from_slice(bytes);
                hand_over(&started)?;
                started = Vec::new();
            }
            None => started.extend_from_slice(bytes),
        }
        if bytes.len() == size && large.is_none() && stream.set_read_timeout(Some(QUIET)).is_ok() {
            large = Some(vec![0; LARGE_READ_BYTES]);
        }
        // The hub has more to do than this. If the hub and the clients go first, more has come by the
        // next read, for which the kernel need not wake this thread in the place of one of them.
        if hub.len() > 1 {
            thread::yield_now();
        }
        while connection.held.load(Ordering::Acquire) {
            thread::park();
        }
    }
}
