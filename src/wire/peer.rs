//! What two clients say to each other directly: frames, cut from bytes and made of them.
//!
//! A frame is a length in four bytes (big-endian, of what follows), a byte for its kind, and a
//! body. Behind a [`Frame::Chunk`] stand as many raw bytes as it says, which are no frames: who
//! takes the chunk takes them with [`FrameReader::take`], and the rest from the socket.

use super::name::{FileName, UserName};
use super::{Purpose, Ticket};

/// Longest frame of a proven connection, its kind and body, in bytes; a longer one ends it.
pub const FRAME_BYTES_MAX: usize = 16 * 1024;

/// Most bytes of all frames before the other side has proven who it is; more end the connection.
pub const UNPROVEN_BYTES_MAX: usize = 512;

/// Longest private text, in bytes: what is typed is a line, and a line is not longer.
pub const TEXT_BYTES_MAX: usize = 8 * 1024;

/// The version of this language. Another one is not answered.
pub const VERSION: u8 = 1;

/// Random bytes that one side adds to the proofs of both, so that no proof fits twice.
pub type Nonce = [u8; 16];

/// An HMAC-SHA256 with the secret of a ticket.
pub type Mac = [u8; 32];

/// Length and kind in front of every body.
const HEAD_BYTES: usize = 5;

/// The first words of who has dialled: who he says he is, and which ticket he has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// What the connection is for.
    pub purpose: Purpose,
    /// Who dials.
    pub from: UserName,
    /// Who is dialled.
    pub to: UserName,
    /// The number of the ticket.
    pub ticket: u64,
    /// Of the dialler.
    pub nonce: Nonce,
}

impl Hello {
    /// The hello of `from` who has this ticket for `to`.
    pub fn new(purpose: Purpose, from: UserName, to: UserName, ticket: &Ticket, nonce: Nonce) -> Self {
        Self { purpose, from, to, ticket: ticket.number, nonce }
    }

    /// Every field in its order, as the proofs cover them.
    pub fn fields(&self) -> [Vec<u8>; 6] {
        [
            vec![VERSION],
            vec![spell_purpose(self.purpose)],
            self.from.as_str().into(),
            self.to.as_str().into(),
            self.ticket.to_be_bytes().into(),
            self.nonce.into(),
        ]
    }
}

/// One thing that is said.
#[allow(missing_docs, reason = "the line of a variant speaks of its fields too")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// The dialler's first.
    Hello(Hello),
    /// The acceptor's answer: he has the ticket.
    Proof { nonce: Nonce, mac: Mac },
    /// The dialler's answer to that: so has he. From here on, the purpose decides what is said.
    Answer { mac: Mac },
    /// A private text, as typed.
    Text(String),
    /// The private session is over.
    Bye,
    /// Wants one chunk of a file. Several may be under way.
    Want { file: FileName, chunk: u32 },
    /// The chunk: so many raw bytes follow.
    Chunk { chunk: u32, bytes: u64 },
    /// There is no such chunk to be had here.
    No { chunk: u32, why: NoChunk },
}

/// Why a chunk is not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoChunk {
    /// The file or this part of it is not here.
    Missing,
    /// It could not be read.
    Unreadable,
    /// Too much is asked for at once.
    Busy,
}

/// Bytes that are no frame: the connection is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadFrame;

const REASONS: [NoChunk; 3] = [NoChunk::Missing, NoChunk::Unreadable, NoChunk::Busy];

impl Frame {
    fn kind(&self) -> u8 {
        match self {
            Self::Hello(_) => 1,
            Self::Proof { .. } => 2,
            Self::Answer { .. } => 3,
            Self::Text(_) => 4,
            Self::Bye => 5,
            Self::Want { .. } => 6,
            Self::Chunk { .. } => 7,
            Self::No { .. } => 8,
        }
    }

    /// Appends the frame. Nothing that this program makes is longer than a frame may be.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend([0, 0, 0, 0, self.kind()]);
        match self {
            Self::Hello(hello) => {
                out.extend([VERSION, spell_purpose(hello.purpose)]);
                for name in [&hello.from, &hello.to] {
                    // A name is never longer than 32 bytes.
                    out.push(u8::try_from(name.as_str().len()).unwrap_or(u8::MAX));
                    out.extend_from_slice(name.as_str().as_bytes());
                }
                out.extend(hello.ticket.to_be_bytes());
                out.extend(hello.nonce);
            }
            Self::Proof { nonce, mac } => {
                out.extend(nonce);
                out.extend(mac);
            }
            Self::Answer { mac } => out.extend(mac),
            Self::Text(text) => out.extend_from_slice(text.as_bytes()),
            Self::Bye => {}
            Self::Want { file, chunk } => {
                out.extend(chunk.to_be_bytes());
                out.extend_from_slice(file.as_str().as_bytes());
            }
            Self::Chunk { chunk, bytes } => {
                out.extend(chunk.to_be_bytes());
                out.extend(bytes.to_be_bytes());
            }
            Self::No { chunk, why } => {
                out.extend(chunk.to_be_bytes());
                out.push(REASONS.iter().position(|known| known == why).map_or(0, |at| at as u8));
            }
        }
        let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
        out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }

    /// The frame alone, as bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }

    /// Reads a kind and the whole of its body.
    fn decode(kind: u8, body: &[u8]) -> Option<Self> {
        let mut body = Body(body);
        let frame = match kind {
            1 => Self::Hello(body.hello()?),
            2 => Self::Proof { nonce: body.array()?, mac: body.array()? },
            3 => Self::Answer { mac: body.array()? },
            4 => Self::Text(body.text(TEXT_BYTES_MAX)?.to_owned()),
            5 => Self::Bye,
            6 => Self::Want { chunk: body.u32()?, file: FileName::parse(body.text(usize::MAX)?)? },
            7 => Self::Chunk { chunk: body.u32()?, bytes: u64::from_be_bytes(body.array()?) },
            8 => Self::No { chunk: body.u32()?, why: *REASONS.get(usize::from(body.byte()?))? },
            _ => return None,
        };
        body.0.is_empty().then_some(frame)
    }
}

fn spell_purpose(purpose: Purpose) -> u8 {
    match purpose {
        Purpose::Private => 1,
        Purpose::File => 2,
    }
}

/// What is left of a body.
struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// All that is left, if it is a text of at most so many bytes.
    fn text(&mut self, max: usize) -> Option<&'a str> {
        let text = std::str::from_utf8(std::mem::take(&mut self.0)).ok()?;
        (text.len() <= max).then_some(text)
    }

    fn name(&mut self) -> Option<UserName> {
        let length = self.byte()?;
        UserName::parse(std::str::from_utf8(self.take(length.into())?).ok()?).ok()
    }

    fn hello(&mut self) -> Option<Hello> {
        if self.byte()? != VERSION {
            return None;
        }
        let purpose = self.byte()?;
        let purpose = [Purpose::Private, Purpose::File].into_iter().find(|known| spell_purpose(*known) == purpose)?;
        let (from, to) = (self.name()?, self.name()?);
        Some(Hello { purpose, from, to, ticket: u64::from_be_bytes(self.array()?), nonce: self.array()? })
    }
}

/// Cuts frames from bytes, however they arrive. Holds at most one frame beyond what it was given
/// last, and no memory for one before its bytes have come.
#[derive(Debug)]
pub struct FrameReader {
    bytes: Vec<u8>,
    /// Where what is not yet taken begins.
    start: usize,
    frame_max: usize,
    broken: bool,
}

impl Default for FrameReader {
    /// Of a connection on which nothing is proven yet.
    fn default() -> Self {
        Self { bytes: Vec::new(), start: 0, frame_max: UNPROVEN_BYTES_MAX, broken: false }
    }
}

impl FrameReader {
    /// The other side has proven who it is: longer frames are welcome.
    pub fn proven(&mut self) {
        self.frame_max = FRAME_BYTES_MAX;
    }

    /// Adds bytes as they came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.start);
        self.start = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// How many bytes wait to be taken.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next frame; `None` until more bytes have come. After a bad one there is no next.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, BadFrame> {
        let frame = if self.broken { Err(BadFrame) } else { self.cut() };
        self.broken = frame.is_err();
        frame
    }

    fn cut(&mut self) -> Result<Option<Frame>, BadFrame> {
        let waiting = &self.bytes[self.start..];
        let Some((length, rest)) = waiting.split_first_chunk() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length == 0 || length > self.frame_max {
            return Err(BadFrame);
        }
        let Some((&kind, body)) = rest.get(..length).and_then(<[u8]>::split_first) else { return Ok(None) };
        let frame = Frame::decode(kind, body).ok_or(BadFrame)?;
        self.start += HEAD_BYTES + body.len();
        Ok(Some(frame))
    }

    /// At most `max` of the raw bytes that wait: the beginning of a chunk.
    pub fn take(&mut self, max: usize) -> &[u8] {
        let (start, end) = (self.start, self.start + self.len().min(max));
        self.start = end;
        &self.bytes[start..end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> UserName {
        UserName::parse(name).expect("a name")
    }

    fn every_frame() -> Vec<Frame> {
        let ticket = Ticket { number: 7, secret: 0xabc };
        let file = FileName::parse("a.bin").expect("a name");
        vec![
            Frame::Hello(Hello::new(Purpose::File, name("hans"), name("~!#"), &ticket, [1; 16])),
            Frame::Proof { nonce: [2; 16], mac: [3; 32] },
            Frame::Answer { mac: [4; 32] },
            Frame::Text("gr\u{fc}ezi \x1b[2J".to_owned()),
            Frame::Text(String::new()),
            Frame::Bye,
            Frame::Want { file, chunk: 65_535 },
            Frame::Chunk { chunk: 3, bytes: 0 },
            Frame::No { chunk: 3, why: NoChunk::Busy },
        ]
    }

    #[test]
    fn a_frame_survives_the_way_however_it_is_cut() {
        let mut bytes = Vec::new();
        every_frame().iter().for_each(|frame| frame.encode(&mut bytes));
        for size in [1, 2, 7, bytes.len()] {
            let mut reader = FrameReader::default();
            let mut frames = Vec::new();
            for part in bytes.chunks(size) {
                reader.push(part);
                while let Some(frame) = reader.next_frame().expect("good frames") {
                    frames.push(frame);
                }
            }
            assert_eq!(frames, every_frame());
            assert!(reader.is_empty());
        }
    }

    #[test]
    fn a_frame_is_as_it_is_documented() {
        let frames = every_frame();
        let text = [&[0, 0, 0, 13, 4][..], "gr\u{fc}ezi \x1b[2J".as_bytes()].concat();
        assert_eq!(frames[3].bytes(), text);
        assert_eq!(frames[5].bytes(), [0, 0, 0, 1, 5]);
        assert_eq!(frames[6].bytes(), b"\0\0\0\x0a\x06\0\0\xff\xffa.bin");
        assert_eq!(&frames[0].bytes()[..17], b"\0\0\0\x24\x01\x01\x02\x04hans\x03~!#\0");
    }

    #[test]
    fn what_is_too_long_is_refused_before_it_has_come() {
        for (is_proven, max) in [(false, UNPROVEN_BYTES_MAX), (true, FRAME_BYTES_MAX)] {
            for (length, result) in [(max, Ok(None)), (max + 1, Err(BadFrame)), (0, Err(BadFrame))] {
                let mut reader = FrameReader::default();
                if is_proven {
                    reader.proven();
                }
                reader.push(&u32::try_from(length).expect("small").to_be_bytes());
                assert_eq!(reader.next_frame(), result, "{length} of {max}");
            }
        }
    }

    #[test]
    fn behind_a_bad_frame_there_is_none() {
        for bad in [&b"\0\0\0\x01\x09"[..], b"\0\0\0\x02\x05x", b"\0\0\0\x02\x04\xff", b"\0\0\0\x01\0"] {
            let mut reader = FrameReader::default();
            reader.push(bad);
            reader.push(&Frame::Bye.bytes());
            assert_eq!(reader.next_frame(), Err(BadFrame), "{bad:?}");
            assert_eq!(reader.next_frame(), Err(BadFrame), "{bad:?}");
        }
    }

    #[test]
    fn raw_bytes_are_taken_as_they_came() {
        let mut reader = FrameReader::default();
        reader.push(&[Frame::Chunk { chunk: 0, bytes: 5 }.bytes(), b"he".to_vec()].concat());
        assert_eq!(reader.next_frame(), Ok(Some(Frame::Chunk { chunk: 0, bytes: 5 })));
        assert_eq!(reader.take(5), b"he");
        reader.push(&[b"llo".to_vec(), Frame::Bye.bytes()].concat());
        assert_eq!(reader.take(3), b"llo");
        assert_eq!(reader.next_frame(), Ok(Some(Frame::Bye)));
    }
}
