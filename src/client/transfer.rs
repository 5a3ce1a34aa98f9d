//! Chunks on a connection whose other end has proved who it is: one thread that serves, or one
//! that fetches.
//!
//! Bytes of files never pass the mind. A chunk goes from the disk into the socket by the kernel
//! alone; what comes is hashed and written where the chunk belongs, and nowhere else. Whether the
//! hash is the right one is for the mind to say.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::sendfile;
use sha2::{Digest as _, Sha256};
use socket2::SockRef;

use super::files::Stored;
use super::state::PeerId;
use super::state::download::Why;
use super::state::sharing::Event;
use crate::clock::Clock;
use crate::wire::chunks::Digest;
use crate::wire::name::FileName;
use crate::wire::peer::{Frame, FrameReader, NoChunk};

/// Read from a holder at once, in bytes.
const RECEIVE_BYTES: usize = 256 * 1024;

/// Read at once where frames are expected, in bytes.
const FRAME_BYTES: usize = 4 * 1024;

/// Chunks up to this size are sent together with what is said before them, in bytes.
const SMALL_BYTES: u64 = 32 * 1024;

/// Given to the kernel to send at once, in bytes.
const SEND_BYTES: u64 = 8 << 20;

/// Somebody who fetches and takes nothing for so long is cut off.
const TAKE_MAX: Duration = Duration::from_secs(30);

/// Somebody who fetches and asks for nothing for so long is cut off.
const ASK_MAX: Duration = Duration::from_secs(60);

/// Between two reports on a chunk that comes slowly, in milliseconds.
const REPORT_EVERY: i64 = 100;

/// What this client gives to others.
#[derive(Debug, Default)]
pub(super) struct Shares(Mutex<BTreeMap<FileName, Arc<Stored>>>);

impl Shares {
    pub(super) fn get(&self, file: &FileName) -> Option<Arc<Stored>> {
        self.lock().get(file).cloned()
    }

    pub(super) fn insert(&self, stored: Arc<Stored>) {
        self.lock().insert(stored.manifest.file.clone(), stored);
    }

    pub(super) fn remove(&self, file: &FileName) -> Option<Arc<Stored>> {
        self.lock().remove(file)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<FileName, Arc<Stored>>> {
        // Nothing that holds the lock can panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers what the other end wants, one after the other, until it has enough. `early` has what it
/// has sent behind its proof; `spoiled` hears of files that are not what they were.
pub(super) fn serve(
    stream: &TcpStream,
    early: FrameReader,
    shares: &Shares,
    spoiled: impl Fn(FileName),
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ASK_MAX))?;
    stream.set_write_timeout(Some(TAKE_MAX))?;
    let mut incoming = Incoming::new(stream, early, 0);
    let mut out = Vec::new();
    while let Some(frame) = incoming.frame()? {
        let Frame::Want { file, chunk } = frame else { break };
        let stored = shares.get(&file).filter(|stored| stored.has(chunk));
        let stored = match stored {
            Some(stored) if !stored.is_unchanged() => {
                spoiled(file);
                None
            }
            stored => stored,
        };
        out.clear();
        match stored {
            Some(stored) => send_chunk(stream, &stored, chunk, &mut out)?,
            None => {
                Frame::No { chunk, why: NoChunk::Missing }.encode(&mut out);
                (&mut &*stream).write_all(&out)?;
            }
        }
    }
    Ok(())
}

fn send_chunk(mut stream: &TcpStream, stored: &Stored, chunk: u32, out: &mut Vec<u8>) -> io::Result<()> {
    let Range { start, end } = stored.manifest.place(chunk);
    Frame::Chunk { chunk, bytes: end - start }.encode(out);
    if end - start <= SMALL_BYTES {
        let head = out.len();
        out.resize(head + usize::try_from(end - start).unwrap_or(0), 0);
        std::os::unix::fs::FileExt::read_exact_at(&stored.file, &mut out[head..], start)?;
        return stream.write_all(out);
    }
    stream.write_all(out)?;
    let mut at = start;
    while at < end {
        let count = usize::try_from((end - at).min(SEND_BYTES)).unwrap_or(usize::MAX);
        match sendfile(stream, &stored.file, Some(&mut at), count) {
            // The file has become shorter: the chunk cannot be had any more.
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// A connection on which chunks are fetched. The mind's side of it.
#[derive(Debug)]
pub(super) struct Source {
    stream: Arc<TcpStream>,
    due: Arc<Mutex<VecDeque<Due>>>,
}

/// A chunk that was asked for.
#[derive(Debug)]
struct Due {
    chunk: u32,
    stored: Arc<Stored>,
}

impl Source {
    pub(super) fn new(stream: Arc<TcpStream>) -> Self {
        Self { stream, due: Arc::default() }
    }

    /// Asks for a chunk. Never waits: who does not read his few questions is given up.
    pub(super) fn ask(&self, chunk: u32, stored: Arc<Stored>) {
        let mut frame = Vec::new();
        Frame::Want { file: stored.manifest.file.clone(), chunk }.encode(&mut frame);
        lock(&self.due).push_back(Due { chunk, stored });
        let sent = SockRef::from(&*self.stream).send_with_flags(&frame, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
        if sent.ok() != Some(frame.len()) {
            self.hang_up();
        }
    }

    /// Ends the connection; its thread reports that.
    pub(super) fn hang_up(&self) {
        // Fails only if the other end was faster.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// What the thread does for the connection: it reads what comes until the end, which it
    /// reports last. Nothing is written after that.
    pub(super) fn reader(&self, peer: PeerId, early: FrameReader, clock: Clock) -> Fetcher {
        Fetcher { stream: Arc::clone(&self.stream), due: Arc::clone(&self.due), peer, early, clock }
    }
}

/// The thread's side of a [`Source`].
#[derive(Debug)]
pub(super) struct Fetcher {
    stream: Arc<TcpStream>,
    due: Arc<Mutex<VecDeque<Due>>>,
    peer: PeerId,
    early: FrameReader,
    clock: Clock,
}

impl Fetcher {
    pub(super) fn run(mut self, report: impl Fn(Event)) {
        let early = std::mem::take(&mut self.early);
        let stream = Arc::clone(&self.stream);
        let mut incoming = Incoming::new(&stream, early, RECEIVE_BYTES);
        let why = loop {
            match self.take_one(&mut incoming, &report) {
                Ok(()) => {}
                Err(why) => break why,
            }
        };
        let _ = stream.shutdown(Shutdown::Both);
        report(Event::Closed(self.peer, why));
    }

    fn take_one(&self, incoming: &mut Incoming<'_>, report: &impl Fn(Event)) -> Result<(), Why> {
        let frame = match incoming.frame() {
            Ok(Some(frame)) => frame,
            Err(error) if error.kind() == ErrorKind::InvalidData => return Err(Why::Lied),
            Ok(None) | Err(_) => return Err(Why::Left),
        };
        let due = lock(&self.due).pop_front();
        match (frame, due) {
            (Frame::Chunk { chunk, bytes }, Some(due))
                if chunk == due.chunk && bytes == due.stored.manifest.size(chunk) =>
            {
                self.take_chunk(&due, incoming, report)
            }
            (Frame::No { chunk, .. }, Some(due)) if chunk == due.chunk => {
                report(Event::Refused(self.peer));
                Ok(())
            }
            _ => Err(Why::Lied),
        }
    }

    fn take_chunk(&self, due: &Due, incoming: &mut Incoming<'_>, report: &impl Fn(Event)) -> Result<(), Why> {
        let Range { start, end } = due.stored.manifest.place(due.chunk);
        let mut hash = Sha256::new();
        let (mut at, mut told, mut told_at) = (start, start, self.clock.now().elapsed);
        while at < end {
            let most = usize::try_from(end - at).unwrap_or(usize::MAX);
            let bytes = match incoming.some(most) {
                Ok([]) | Err(_) => return Err(Why::Left),
                Ok(bytes) => bytes,
            };
            if let Err(error) = due.stored.write(at, bytes) {
                report(Event::NotWritten(due.stored.manifest.file.clone(), error.into()));
                return Err(Why::Done);
            }
            hash.update(bytes);
            at += bytes.len() as u64;
            let now = self.clock.now().elapsed;
            if now >= told_at + REPORT_EVERY || at == end {
                report(Event::Moved(self.peer, at - told));
                (told, told_at) = (at, now);
            }
        }
        let file = due.stored.manifest.file.clone();
        let hash = Digest(hash.finalize().into());
        report(Event::Fetched(self.peer, file, due.chunk, hash));
        Ok(())
    }
}

fn lock(due: &Mutex<VecDeque<Due>>) -> MutexGuard<'_, VecDeque<Due>> {
    // Nothing that holds the lock can panic half-way.
    due.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Frames, and raw bytes between them.
struct Incoming<'a> {
    stream: &'a TcpStream,
    frames: FrameReader,
    raw: Vec<u8>,
}

impl<'a> Incoming<'a> {
    fn new(stream: &'a TcpStream, frames: FrameReader, raw: usize) -> Self {
        Self { stream, frames, raw: vec![0; raw] }
    }

    /// The next frame; nothing at the end. A frame that is none of ours is invalid data.
    fn frame(&mut self) -> io::Result<Option<Frame>> {
        let mut bytes = [0; FRAME_BYTES];
        loop {
            if let Some(frame) = self.frames.next_frame().map_err(|_| ErrorKind::InvalidData)? {
                return Ok(Some(frame));
            }
            match read(self.stream, &mut bytes)? {
                0 => return Ok(None),
                count => self.frames.push(&bytes[..count]),
            }
        }
    }

    /// Some raw bytes, at most so many; none at the end.
    fn some(&mut self, most: usize) -> io::Result<&[u8]> {
        if !self.frames.is_empty() {
            return Ok(self.frames.take(most));
        }
        let most = most.min(self.raw.len());
        let count = read(self.stream, &mut self.raw[..most])?;
        Ok(&self.raw[..count])
    }
}

fn read(mut stream: &TcpStream, bytes: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(bytes) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use crossbeam_channel::{Receiver, unbounded};

    use super::*;
    use crate::client::files::Folder;

    const BYTES: usize = 300_000;
    const CHUNKS: u32 = 10;

    const PEER: PeerId = PeerId::Dialled(1);

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let ours = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        (ours, listener.accept().expect("somebody connects").0)
    }

    /// Two folders: a file in one, the place for it in the other.
    struct Pair {
        _places: [tempfile::TempDir; 2],
        bytes: Vec<u8>,
        from: Arc<Stored>,
        to: Arc<Stored>,
    }

    impl Pair {
        fn new() -> Self {
            let places = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
            let bytes: Vec<u8> = (0..BYTES).map(|at| ((at * at) >> 5) as u8).collect();
            std::fs::write(places[0].path().join("a.bin"), &bytes).expect("written");
            let [from, to] = [0, 1].map(|at: usize| Folder::open(places[at].path()).expect("there"));
            let file = FileName::parse("a.bin").expect("a name");
            let from = Arc::new(from.read(&file, CHUNKS).expect("read"));
            let to = Arc::new(to.open_part(&from.manifest, true).expect("opened"));
            Self { _places: places, bytes, from, to }
        }
    }

    /// Somebody who is asked for the first three chunks; what is heard of him.
    fn asked(pair: &Pair, serve: impl FnOnce(TcpStream) + Send + 'static) -> Receiver<Event> {
        let (ours, theirs) = pair_of_threads(serve);
        let source = Source::new(Arc::new(ours));
        let (sender, reports) = unbounded();
        let fetcher = source.reader(PEER, FrameReader::default(), Clock::start());
        (0..3).for_each(|chunk| source.ask(chunk, Arc::clone(&pair.to)));
        std::thread::spawn(move || fetcher.run(|report| drop(sender.send(report))));
        drop(theirs);
        reports
    }

    fn pair_of_threads(serve: impl FnOnce(TcpStream) + Send + 'static) -> (TcpStream, std::thread::JoinHandle<()>) {
        let (ours, theirs) = pair();
        (ours, std::thread::spawn(move || serve(theirs)))
    }

    /// The chunks that came with the right hash, and how it ended.
    fn outcome(pair: &Pair, reports: &Receiver<Event>) -> (Vec<u32>, Why) {
        let mut right = Vec::new();
        loop {
            match reports.recv_timeout(Duration::from_secs(60)).expect("it ends") {
                Event::Fetched(_, _, chunk, hash) => {
                    assert_eq!(hash, pair.from.manifest.hashes[chunk as usize]);
                    right.push(chunk);
                }
                Event::Closed(_, why) => return (right, why),
                _ => {}
            }
        }
    }

    fn frame(frame: &Frame) -> Vec<u8> {
        frame.bytes()
    }

    #[test]
    fn chunks_come_as_they_are() {
        let pair = Pair::new();
        let shares = Shares::default();
        shares.insert(Arc::clone(&pair.from));
        let (ours, server) = pair_of_threads(move |stream| drop(serve(&stream, FrameReader::default(), &shares, drop)));
        let source = Source::new(Arc::new(ours));
        let (sender, reports) = unbounded();
        let fetcher = source.reader(PEER, FrameReader::default(), Clock::start());
        let thread = std::thread::spawn(move || fetcher.run(|report| drop(sender.send(report))));
        // All at once, and backwards.
        (0..CHUNKS).rev().for_each(|chunk| source.ask(chunk, Arc::clone(&pair.to)));
        let mut moved = 0;
        for wanted in (0..CHUNKS).rev() {
            loop {
                match reports.recv().expect("it goes on") {
                    Event::Moved(_, bytes) => moved += bytes,
                    Event::Fetched(_, file, chunk, hash) => {
                        assert_eq!((file.as_str(), chunk), ("a.bin", wanted));
                        assert_eq!(hash, pair.from.manifest.hashes[chunk as usize]);
                        break;
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        source.hang_up();
        thread.join().expect("no panic");
        server.join().expect("no panic");
        assert_eq!(moved, BYTES as u64);
        let mut copy = vec![0; BYTES];
        std::os::unix::fs::FileExt::read_exact_at(&pair.to.file, &mut copy, 0).expect("all there");
        assert!(copy == pair.bytes);
    }

    #[test]
    fn what_is_not_shared_is_refused() {
        let pair = Pair::new();
        let reports = asked(&pair, |stream| drop(serve(&stream, FrameReader::default(), &Shares::default(), drop)));
        for _ in 0..3 {
            let report = reports.recv().expect("an answer");
            assert!(matches!(report, Event::Refused(_)), "{report:?}");
        }
    }

    #[test]
    fn who_sends_anything_else_is_a_liar() {
        let place =
            |chunk: u32| chunk as usize * BYTES / CHUNKS as usize..(chunk as usize + 1) * BYTES / CHUNKS as usize;
        let size = place(0).len() as u64;
        let lies: [(&str, Vec<Vec<u8>>, usize); 8] = [
            ("another chunk", vec![frame(&Frame::Chunk { chunk: 1, bytes: size })], 0),
            ("a chunk that is too short", vec![frame(&Frame::Chunk { chunk: 0, bytes: size - 1 })], 0),
            ("one that is too long", vec![frame(&Frame::Chunk { chunk: 0, bytes: u64::MAX })], 0),
            ("a refusal of another chunk", vec![frame(&Frame::No { chunk: 2, why: NoChunk::Busy })], 0),
            ("another frame", vec![frame(&Frame::Bye)], 0),
            ("no frame", vec![b"HTTP/1.1 200 OK".to_vec()], 0),
            ("more bytes", vec![frame(&Frame::Chunk { chunk: 0, bytes: size }), vec![], b"more than that".to_vec()], 1),
            (
                "a chunk twice",
                vec![
                    frame(&Frame::Chunk { chunk: 0, bytes: size }),
                    vec![],
                    frame(&Frame::Chunk { chunk: 0, bytes: size }),
                ],
                1,
            ),
        ];
        for (lie, parts, right) in lies {
            let pair = Pair::new();
            let bytes = pair.bytes[place(0)].to_vec();
            let reports = asked(&pair, move |mut stream| {
                for part in parts {
                    // Nothing stands for the bytes of the chunk.
                    let part = if part.is_empty() { &bytes } else { &part };
                    let _ = stream.write_all(part);
                }
                // Closed from the other side, or it hangs here.
                let _ = stream.read(&mut [0; 1000]);
                let _ = stream.read(&mut [0; 1000]);
            });
            assert_eq!(outcome(&pair, &reports), ((0..right as u32).collect(), Why::Lied), "{lie}");
        }
    }

    #[test]
    fn who_leaves_in_the_middle_has_left() {
        let pair = Pair::new();
        let reports = asked(&pair, |mut stream| {
            let _ = stream.read(&mut [0; 1000]);
            let head = frame(&Frame::Chunk { chunk: 0, bytes: BYTES as u64 / u64::from(CHUNKS) });
            let _ = stream.write_all(&[head, vec![7; 100]].concat());
        });
        assert_eq!(outcome(&pair, &reports), (vec![], Why::Left));
    }

    #[test]
    fn who_never_reads_his_questions_is_given_up() {
        let pair = Pair::new();
        let (ours, theirs) = super::tests::pair();
        SockRef::from(&theirs).set_recv_buffer_size(4096).expect("an option");
        let source = Source::new(Arc::new(ours));
        let (sender, reports) = unbounded();
        let fetcher = source.reader(PEER, FrameReader::default(), Clock::start());
        let thread = std::thread::spawn(move || fetcher.run(|report| drop(sender.send(report))));
        while reports.is_empty() {
            source.ask(0, Arc::clone(&pair.to));
        }
        thread.join().expect("no panic");
        assert_eq!(outcome(&pair, &reports).1, Why::Left);
    }
}
