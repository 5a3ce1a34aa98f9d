//! The hub's hand on one socket: what is to be written, in order, and sent without blocking.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::net::TcpStream;
use std::ops::Range;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::SockRef;

/// Output that may wait for one client, in bytes; at more, the client is cut off.
const OUTPUT_BYTES_MAX: usize = 256 * 1024;

/// Output that may wait behind an answer that waits for the disk, in bytes; at more, the client
/// is cut off. Larger, because the client can do nothing about it.
const HELD_BYTES_MAX: usize = 1024 * 1024;

/// Output that may wait before no more commands are taken from the client, in bytes: so nobody
/// is cut off for the answers to his own questions.
const OUTPUT_BYTES_PATIENT: usize = 64 * 1024;

/// Bytes handed to the flusher at a time, up to the next line end.
const PIECE_BYTES: usize = 32 * 1024;

/// One client's output: first in, first out.
///
/// A *fast* client's output of a batch lies in the hub's arena, and only the places are noted
/// here. A *slow* client's output is copied and waits for the flusher. What stands behind an
/// answer that waits for the disk is copied too.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Where this batch's output lies in the arena: the first place, and further ones.
    first: Range<usize>,
    more: Vec<Range<usize>>,
    /// Their bytes together.
    noted: usize,
    /// Output behind what the flusher has.
    queue: VecDeque<u8>,
    /// Bytes that the flusher has.
    flushing: usize,
    /// Kept places and what stands behind them.
    held: VecDeque<Held>,
    held_bytes: usize,
}

#[derive(Debug)]
enum Held {
    /// An answer that waits for the disk.
    Place,
    Bytes(Vec<u8>),
}

/// What became of a batch's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// The socket took everything.
    All,
    /// The socket is full: the client is slow now.
    Part,
    /// The connection is broken.
    Broken,
}

impl Outbox {
    /// Appends what lies in the arena at `place`.
    pub(super) fn push(&mut self, place: Range<usize>, arena: &[u8]) {
        if !self.held.is_empty() {
            self.held_bytes += place.len();
            match self.held.back_mut() {
                Some(Held::Bytes(bytes)) => bytes.extend_from_slice(&arena[place]),
                _ => self.held.push_back(Held::Bytes(arena[place].to_vec())),
            }
        } else if self.is_slow() {
            self.queue.extend(&arena[place]);
        } else {
            self.note(place);
        }
    }

    fn note(&mut self, place: Range<usize>) {
        self.noted += place.len();
        let last = self.more.last_mut().unwrap_or(&mut self.first);
        if last.end == place.start {
            last.end = place.end;
        } else if self.first.is_empty() {
            self.first = place;
        } else {
            self.more.push(place);
        }
    }

    /// Keeps a place for an answer.
    pub(super) fn hold(&mut self) {
        self.held.push_back(Held::Place);
    }

    /// Fills the oldest kept place with what lies in the arena at `place`; what stood behind it
    /// follows, up to the next kept place.
    pub(super) fn release(&mut self, place: Range<usize>, arena: &mut Vec<u8>) {
        if !matches!(self.held.front(), Some(Held::Place)) {
            return;
        }
        self.held.pop_front();
        let start = place.start;
        if let Some(Held::Bytes(bytes)) = self.held.front() {
            debug_assert_eq!(place.end, arena.len(), "the answer was spelled last");
            self.held_bytes -= bytes.len();
            arena.extend_from_slice(bytes);
            self.held.pop_front();
        }
        let place = start..arena.len();
        if self.is_slow() {
            self.queue.extend(&arena[place]);
        } else {
            self.note(place);
        }
    }

    /// Sends this batch's output; what the socket does not take waits in the queue.
    pub(super) fn send(&mut self, stream: &TcpStream, arena: &[u8]) -> Sent {
        if self.first.is_empty() {
            return Sent::All;
        }
        let total = std::mem::take(&mut self.noted);
        let sent = if self.more.is_empty() {
            send(stream, &arena[self.first.clone()])
        } else {
            let places = std::iter::once(&self.first).chain(&self.more);
            let slices: Vec<IoSlice<'_>> = places.map(|place| IoSlice::new(&arena[place.clone()])).collect();
            // More slices than the kernel takes at once are a short write like any other.
            let slices = &slices[..slices.len().min(SLICES_MAX)];
            again(|| SockRef::from(stream).send_vectored_with_flags(slices, libc::MSG_DONTWAIT))
        };
        let result = match sent {
            Ok(count) if count == total => Sent::All,
            Ok(count) => {
                self.keep_behind(count, arena);
                Sent::Part
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.keep_behind(0, arena);
                Sent::Part
            }
            Err(_) => Sent::Broken,
        };
        self.first = 0..0;
        // A busy client keeps the room for its places, an idle one none.
        self.more.clear();
        if total < PIECE_BYTES {
            self.more.shrink_to(8);
        }
        result
    }

    /// Copies this batch's output behind the first `sent` bytes of it.
    fn keep_behind(&mut self, sent: usize, arena: &[u8]) {
        let mut skip = sent;
        for place in std::iter::once(&self.first).chain(&self.more) {
            let skipped = skip.min(place.len());
            skip -= skipped;
            self.queue.extend(&arena[place.start + skipped..place.end]);
        }
    }

    /// The next piece for the flusher, which has none of this client's now. It ends with a line,
    /// so that a last line can follow whatever happens to the rest.
    pub(super) fn next_piece(&mut self) -> Option<Vec<u8>> {
        self.flushing = 0;
        if self.queue.is_empty() {
            return None;
        }
        let from = PIECE_BYTES.min(self.queue.len());
        let line_end = self.queue.range(from - 1..).position(|&byte| byte == b'\n');
        let end = line_end.map_or(self.queue.len(), |at| from + at);
        let piece: Vec<u8> = self.queue.drain(..end).collect();
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
        self.flushing = piece.len();
        Some(piece)
    }

    /// Forgets all that waits here; what the flusher has is not called back.
    pub(super) fn discard(&mut self) {
        *self = Self { flushing: self.flushing, ..Self::default() };
    }

    /// Whether the flusher has output of this client, or is to get some.
    pub(super) fn is_slow(&self) -> bool {
        self.flushing > 0 || !self.queue.is_empty()
    }

    /// Whether everything has been written.
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_empty() && self.held.is_empty() && !self.is_slow()
    }

    /// Bytes that the socket has not taken.
    fn unwritten(&self) -> usize {
        self.queue.len() + self.flushing
    }

    /// Whether more waits than is kept for one client.
    pub(super) fn is_over_limit(&self) -> bool {
        self.unwritten() > OUTPUT_BYTES_MAX || self.held_bytes > HELD_BYTES_MAX
    }

    /// Whether so little waits that the client may ask for more.
    pub(super) fn is_patient(&self) -> bool {
        self.noted + self.unwritten() + self.held_bytes <= OUTPUT_BYTES_PATIENT
    }
}

/// Slices in one call of the kernel (IOV_MAX).
const SLICES_MAX: usize = 1024;

/// Writes what the socket takes at once, on a socket that otherwise blocks.
pub(super) fn send(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    again(|| SockRef::from(stream).send_with_flags(bytes, libc::MSG_DONTWAIT))
}

/// Whether the kernel has sent all it was given, so that closing throws nothing away. From now on
/// `poll` finds the socket writable only then; no more output is to follow.
pub(super) fn is_sent(stream: &TcpStream) -> bool {
    // Where the option fails, or poll does, the connection is gone and nothing is left to wait for.
    let _ = SockRef::from(stream).set_tcp_notsent_lowat(1);
    let mut fds = [PollFd::new(stream, PollFlags::OUT)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    !matches!(poll(&mut fds, Some(&now)), Ok(0))
}

fn again(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;

    /// What a peer reads of what `fill` put into an outbox; the flusher's part included.
    fn written(fill: impl FnOnce(&mut Outbox, &mut Vec<u8>)) -> Vec<u8> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let mut peer = TcpStream::connect(listener.local_addr().expect("bound")).expect("loopback");
        let (stream, _) = listener.accept().expect("loopback");
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            peer.read_to_end(&mut all).map(|_| all)
        });
        let (mut outbox, mut arena) = (Outbox::default(), Vec::new());
        fill(&mut outbox, &mut arena);
        assert_ne!(outbox.send(&stream, &arena), Sent::Broken);
        while let Some(piece) = outbox.next_piece() {
            std::io::Write::write_all(&mut &stream, &piece).expect("the peer reads");
        }
        assert!(outbox.is_empty());
        drop(stream);
        reader.join().expect("no panic").expect("loopback")
    }

    fn add(outbox: &mut Outbox, arena: &mut Vec<u8>, text: &[u8]) {
        let start = arena.len();
        arena.extend_from_slice(text);
        outbox.push(start..arena.len(), arena);
    }

    #[test]
    fn scattered_places_keep_their_order() {
        let all = written(|outbox, arena| {
            add(outbox, arena, b"one\n");
            arena.extend_from_slice(b"of another client\n");
            add(outbox, arena, b"two\n");
            add(outbox, arena, b"three\n");
        });
        assert_eq!(all, b"one\ntwo\nthree\n");
    }

    #[test]
    fn what_follows_a_kept_place_waits_behind_it() {
        let all = written(|outbox, arena| {
            add(outbox, arena, b"one\n");
            outbox.hold();
            add(outbox, arena, b"four\n");
            outbox.hold();
            add(outbox, arena, b"six\n");
            assert_eq!((outbox.held_bytes, outbox.noted), (9, 4));
            for answer in [&b"two\nthree\n"[..], &b""[..]] {
                let start = arena.len();
                arena.extend_from_slice(answer);
                outbox.release(start..arena.len(), arena);
            }
        });
        assert_eq!(all, b"one\ntwo\nthree\nfour\nsix\n");
    }

    #[test]
    fn a_full_socket_leaves_the_rest_in_pieces_of_whole_lines() {
        let line = [&[b'x'; 999][..], b"\n"].concat();
        let all = written(|outbox, arena| {
            for _ in 0..20_000 {
                add(outbox, arena, &line);
            }
        });
        assert_eq!(all.len(), 20_000_000);
        assert!(all.chunks(1000).all(|chunk| chunk == line));
    }

    #[test]
    fn discarding_leaves_nothing_but_what_the_flusher_has() {
        let mut outbox = Outbox::default();
        outbox.queue.extend(b"one\n");
        assert_eq!(outbox.next_piece().as_deref(), Some(&b"one\n"[..]));
        outbox.queue.extend(b"two\n");
        outbox.hold();
        outbox.discard();
        assert_eq!((outbox.unwritten(), outbox.is_empty()), (4, false));
        assert_eq!(outbox.next_piece(), None);
        assert!(outbox.is_empty());
    }
}
