//! What there is to tell of files, and how it is worded.

use std::collections::BTreeMap;
use std::fmt;

use crate::client::state::download::{Progress, Why};
use crate::wire::chunks::{ChunkSet, Digest};
use crate::wire::name::{FileName, UserName};

/// Files that are named when they are offered again; of more it is said how many they are.
const NAMED_MAX: usize = 5;

/// Why a file of this client cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// There is none of that name.
    NoSuchFile,
    /// A folder, a link or something else that is no plain file.
    NotPlain,
    /// It has changed while it was read.
    Changed,
    /// It is not what it was when it was registered.
    Differs,
    /// Another client is fetching it into the same folder.
    InUse,
    /// It is there already, byte for byte.
    HaveAll,
    /// There is another file of that name.
    Taken,
    /// It is larger than what is free.
    NoRoom {
        /// The size of the file.
        bytes: u64,
        /// What is free.
        room: u64,
    },
    /// Nothing more fits.
    DiskFull,
    /// Its chunks are right, but their whole is not what was registered.
    WrongDigest,
    /// What the system says.
    Disk(String),
}

/// Something to be told to the user about files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// A file cannot be registered or fetched.
    Failed(FileName, Trouble),
    /// What earlier runs have offered is offered again.
    Again(Vec<FileName>),
    /// A file is not offered any more.
    Withdrawn(FileName, Trouble),
    /// It is being registered or fetched already.
    UnderWay(FileName),
    /// So many are under way; another has to wait.
    TooMany(usize),
    /// These chunks of a file were asked for, and are there.
    HaveChunks(FileName, ChunkSet),
    /// How far a download is.
    Progress(Progress),
    /// So much is there; told often, to whom a bar is shown.
    Moved {
        /// Bytes of this download that have come.
        bytes: u64,
        /// Bytes that it fetches.
        of: u64,
    },
    /// A holder has failed and gets no more to do.
    Dropped(UserName, Why),
    /// The file is there as a whole, with this hash.
    Here(Fetched, Digest),
    /// Chunks that were asked for, and that nobody gives.
    Gaps(FileName, ChunkSet),
    /// The download is at its end, the file is not whole.
    Part {
        /// What has come.
        fetched: Fetched,
        /// How many chunks are there.
        have: u32,
        /// How many the file has.
        of: u32,
    },
}

/// What a download has brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Of which file.
    pub file: FileName,
    /// How many bytes.
    pub bytes: u64,
    /// In how many milliseconds.
    pub millis: i64,
    /// How many chunks came from whom.
    pub from: BTreeMap<UserName, u32>,
}

impl Trouble {
    /// A word for programs.
    pub fn word(&self) -> &'static str {
        match self {
            Self::NoSuchFile => "no-such-file",
            Self::NotPlain => "not-plain",
            Self::Changed => "changed",
            Self::Differs => "differs",
            Self::InUse => "in-use",
            Self::HaveAll => "have-all",
            Self::Taken => "taken",
            Self::NoRoom { .. } => "no-room",
            Self::DiskFull => "disk-full",
            Self::WrongDigest => "wrong-digest",
            Self::Disk(_) => "disk",
        }
    }
}

/// The end of a sentence that begins with the name of the file.
impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchFile => f.write_str("no such file"),
            Self::NotPlain => f.write_str("not a plain file"),
            Self::Changed => f.write_str("the file changed while it was read"),
            Self::Differs => f.write_str("it has changed"),
            Self::InUse => f.write_str("another client is fetching it into this folder"),
            Self::HaveAll => f.write_str("you already have it"),
            Self::Taken => f.write_str("another file of that name is there, and stays as it is"),
            Self::NoRoom { bytes, room } => write!(f, "it takes {}, {} are free", Size(*bytes), Size(*room)),
            Self::DiskFull => f.write_str("the disk is full; what has come stays for the next download"),
            Self::WrongDigest => f.write_str("every chunk is right, but not the whole: it was registered wrongly"),
            Self::Disk(error) => write!(f, "the disk says: {error}"),
        }
    }
}

/// One line for people; what went wrong begins with `Error.`
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(file, trouble) => write!(f, "Error. {file}: {trouble}"),
            Self::Again(files) => {
                f.write_str("Offered again: ")?;
                list(f, files.iter().take(NAMED_MAX))?;
                match files.len().saturating_sub(NAMED_MAX) {
                    0 => Ok(()),
                    more => write!(f, " and {more} more"),
                }
            }
            Self::Withdrawn(file, trouble) => write!(f, "{file} is no longer offered: {trouble}"),
            Self::UnderWay(file) => write!(f, "Error. {file}: it is under way already"),
            Self::TooMany(max) => write!(f, "Error. {max} files are under way, wait for one of them"),
            Self::HaveChunks(file, chunks) => write!(f, "{file}: {}: you already have {}", Named(chunks), it(chunks)),
            Self::Progress(Progress { file, percent, rate, left, from, .. }) => {
                write!(f, "{file}: {percent} %, {}/s, {} left, from ", Size(*rate), Time(*left))?;
                list(f, from.iter())
            }
            Self::Moved { bytes, of } => write!(f, "{} of {}", Size(*bytes), Size(*of)),
            Self::Dropped(user, why) => write!(f, "{user} {}", reason(*why)),
            Self::Here(fetched, digest) => write!(f, "{fetched}, SHA-256 {digest}"),
            Self::Gaps(file, chunks) => write!(f, "Error. {file}: {}: no online holder", Named(chunks)),
            Self::Part { fetched, have, of } if fetched.from.is_empty() => {
                write!(f, "{}: {have} of {of} chunks are here", fetched.file)
            }
            Self::Part { fetched, have, of } => write!(f, "{fetched}, {have} of {of} chunks are here"),
        }
    }
}

impl fmt::Display for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, bytes, millis, from } = self;
        let rate = bytes.saturating_mul(1000) / u64::try_from(*millis).unwrap_or(0).max(1);
        write!(f, "{file}: {} in {} ({}/s)", Size(*bytes), Time(*millis), Size(rate))?;
        if !from.is_empty() {
            f.write_str(", chunks: ")?;
            list(f, from.iter().map(|(user, chunks)| format!("{chunks} from {user}")))?;
        }
        Ok(())
    }
}

fn reason(why: Why) -> &'static str {
    match why {
        Why::Done => "is not needed any more",
        Why::Unreachable => "cannot be reached for chunks",
        Why::Left => "stopped sending: the connection ended",
        Why::Stalled => "stopped sending: nothing came for 10 s",
        Why::Lied => "sent wrong bytes and is not asked again",
    }
}

fn it(chunks: &ChunkSet) -> &'static str {
    if chunks.len() == 1 { "it" } else { "them" }
}

fn list<T: fmt::Display>(f: &mut fmt::Formatter<'_>, items: impl Iterator<Item = T>) -> fmt::Result {
    for (at, item) in items.enumerate() {
        write!(f, "{}{item}", if at == 0 { "" } else { ", " })?;
    }
    Ok(())
}

/// `chunk 3` or `chunks 3-5 8`.
struct Named<'a>(&'a ChunkSet);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", if self.0.len() == 1 { "chunk" } else { "chunks" }, self.0)
    }
}

/// Bytes with three digits and a unit.
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        if self.0 < 1024 {
            return write!(f, "{} bytes", self.0);
        }
        let (mut whole, mut rest, mut unit) = (self.0, 0, 0);
        while whole >= 1024 {
            (rest, whole, unit) = (whole % 1024, whole / 1024, unit + 1);
        }
        let unit = UNITS[unit - 1];
        match whole {
            0..10 => write!(f, "{whole}.{:02} {unit}", rest * 100 / 1024),
            10..100 => write!(f, "{whole}.{} {unit}", rest * 10 / 1024),
            _ => write!(f, "{whole} {unit}"),
        }
    }
}

/// Milliseconds as people say them.
struct Time(i64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1000;
        match seconds {
            0..10 => write!(f, "{seconds}.{} s", self.0 % 1000 / 100),
            10..120 => write!(f, "{seconds} s"),
            120..7200 => write!(f, "{} min", seconds / 60),
            _ => write!(f, "{} h", seconds / 3600),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> UserName {
        UserName::parse(name).expect("a name")
    }

    #[test]
    fn sizes_and_times_are_short() {
        let sizes =
            [0, 1023, 1024, 1536, 15_000, 1 << 20, 1_073_741_824, u64::MAX].map(|bytes| Size(bytes).to_string());
        let wanted = ["0 bytes", "1023 bytes", "1.00 KiB", "1.50 KiB", "14.6 KiB", "1.00 MiB", "1.00 GiB", "15.9 EiB"];
        assert_eq!(sizes, wanted);
        let times = [0, 940, 9999, 10_000, 119_999, 120_000, 7_200_000].map(|millis| Time(millis).to_string());
        assert_eq!(times, ["0.0 s", "0.9 s", "9.9 s", "10 s", "119 s", "2 min", "2 h"]);
    }

    #[test]
    fn reports_are_sentences() {
        let file = FileName::parse("a.bin").expect("a name");
        let from = BTreeMap::from([(name("hans"), 6), (name("luke"), 4)]);
        let fetched = Fetched { file: file.clone(), bytes: 3 << 20, millis: 1500, from };
        let gaps: ChunkSet = [3].into_iter().collect();
        let progress = Progress {
            file: file.clone(),
            percent: 40,
            bytes: 4 << 20,
            rate: 2 << 20,
            left: 3200,
            from: vec![name("hans"), name("luke")],
        };
        for (report, line) in [
            (Report::Failed(file.clone(), Trouble::NoSuchFile), "Error. a.bin: no such file"),
            (Report::Again(vec![file.clone(), file.clone()]), "Offered again: a.bin, a.bin"),
            (Report::Again(vec![file.clone(); 7]), "Offered again: a.bin, a.bin, a.bin, a.bin, a.bin and 2 more"),
            (Report::Withdrawn(file.clone(), Trouble::Differs), "a.bin is no longer offered: it has changed"),
            (Report::HaveChunks(file.clone(), gaps.clone()), "a.bin: chunk 3: you already have it"),
            (Report::Progress(progress), "a.bin: 40 %, 2.00 MiB/s, 3.2 s left, from hans, luke"),
            (Report::Gaps(file, gaps), "Error. a.bin: chunk 3: no online holder"),
            (
                Report::Part { fetched, have: 9, of: 10 },
                "a.bin: 3.00 MiB in 1.5 s (2.00 MiB/s), chunks: 6 from hans, 4 from luke, \
                 9 of 10 chunks are here",
            ),
            (Report::Dropped(name("luke"), Why::Lied), "luke sent wrong bytes and is not asked again"),
        ] {
            assert_eq!(report.to_string(), line);
        }
    }
}
