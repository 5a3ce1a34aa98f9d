//! Files in chunks: which bytes a chunk is, sets of chunks, and what they must hash to.

use std::fmt;
use std::ops::Range;

/// Most chunks of one file; more are refused. Also bounds every [`ChunkSet`] to 8 KiB.
pub const CHUNKS_MAX: u32 = 65_536;

/// Most hashes on one control line, so that a line of our client keeps far below its limit; a
/// line with more is not understood.
pub const HASHES_PER_LINE_MAX: usize = 64;

/// Most chunks in one `HAVE`; a line with more is not understood.
pub const CHUNKS_PER_LINE_MAX: usize = 64;

/// Most ranges on one line about a holder; what is left goes on further lines.
pub const RANGES_PER_LINE_MAX: usize = 512;

/// The bytes of `chunk`, perhaps none: every chunk but the last ones is a `chunks`-th of the file,
/// rounded up. There may be more chunks than bytes.
pub fn span(bytes: u64, chunks: u32, chunk: u32) -> Range<u64> {
    let size = bytes.div_ceil(u64::from(chunks.max(1)));
    let at = |chunk: u64| chunk.saturating_mul(size).min(bytes);
    at(u64::from(chunk))..at(u64::from(chunk) + 1)
}

/// A SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Reads 64 hexadecimal digits.
    pub fn parse(word: &str) -> Option<Self> {
        let digits = word.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Some chunks of a file. Numbers from [`CHUNKS_MAX`] on are never in it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ChunkSet {
    /// A bit per chunk; the last word is not 0.
    words: Vec<u64>,
}

impl ChunkSet {
    /// The first `count` chunks.
    pub fn first(count: u32) -> Self {
        let mut set = Self::default();
        if let Some(last) = count.min(CHUNKS_MAX).checked_sub(1) {
            set.insert_range(0, last);
        }
        set
    }

    /// Adds a chunk; false if it was there or cannot be.
    pub fn insert(&mut self, chunk: u32) -> bool {
        if chunk >= CHUNKS_MAX || self.contains(chunk) {
            return false;
        }
        self.insert_range(chunk, chunk);
        true
    }

    /// Adds all from `first` to `last`, both of them chunks that can be.
    fn insert_range(&mut self, first: u32, last: u32) {
        let (begin, end) = (place(first).0, place(last).0);
        if self.words.len() <= end {
            self.words.resize(end + 1, 0);
        }
        for (at, word) in self.words.iter_mut().enumerate().take(end + 1).skip(begin) {
            let from = if at == begin { u64::MAX << place(first).1 } else { u64::MAX };
            let upto = if at == end { u64::MAX >> (63 - place(last).1) } else { u64::MAX };
            *word |= from & upto;
        }
    }

    /// Takes a chunk out; false if it was not there.
    pub fn remove(&mut self, chunk: u32) -> bool {
        let was_there = self.contains(chunk);
        if was_there {
            let (word, bit) = place(chunk);
            self.words[word] &= !(1 << bit);
            self.trim();
        }
        was_there
    }

    /// Adds what is in `other`.
    pub fn add(&mut self, other: &Self) {
        if self.words.len() < other.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word |= other);
    }

    /// What is in one of them.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        let mut set = self.clone();
        set.add(other);
        set
    }

    /// What is in both.
    #[must_use]
    pub fn shared(&self, other: &Self) -> Self {
        let words = self.words.iter().zip(&other.words).map(|(word, other)| word & other).collect();
        let mut set = Self { words };
        set.trim();
        set
    }

    fn trim(&mut self) {
        while self.words.pop_if(|word| *word == 0).is_some() {}
    }

    /// Whether the chunk is in it.
    pub fn contains(&self, chunk: u32) -> bool {
        let (word, bit) = place(chunk);
        self.words.get(word).is_some_and(|word| word >> bit & 1 == 1)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// The chunks, rising.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.ranges(0).flat_map(|(first, last)| first..=last)
    }

    /// First and last of every run of neighbours, rising, from the chunk `from` on.
    pub fn ranges(&self, from: u32) -> impl Iterator<Item = (u32, u32)> + '_ {
        let mut at = from;
        std::iter::from_fn(move || {
            let first = self.next(at, true)?;
            // Behind the last word nothing is in it.
            at = self.next(first, false)?;
            Some((first, at - 1))
        })
    }

    /// The first chunk from `from` on that is in it, or is not.
    fn next(&self, from: u32, is_in: bool) -> Option<u32> {
        let (begin, bit) = place(from);
        let mut mask = u64::MAX << bit;
        for (at, word) in self.words.iter().enumerate().skip(begin) {
            let found = (if is_in { *word } else { !word }) & mask;
            if found != 0 {
                return Some(number(at) + found.trailing_zeros());
            }
            mask = u64::MAX;
        }
        (!is_in).then(|| from.max(number(self.words.len())))
    }

    /// The next at most [`RANGES_PER_LINE_MAX`] runs from the chunk `from` on: what fits on a line.
    /// With the chunk to go on from, if there are more.
    pub fn part(&self, from: u32) -> (Self, Option<u32>) {
        let mut part = Self::default();
        let mut ranges = self.ranges(from);
        for (first, last) in ranges.by_ref().take(RANGES_PER_LINE_MAX) {
            part.insert_range(first, last);
        }
        let next = ranges.next().map(|(first, _)| first);
        (part, next)
    }

    /// What it takes in memory, in bytes, roughly.
    pub fn cost(&self) -> usize {
        8 * self.words.len()
    }

    /// Reads what [`fmt::Display`] writes; `None` if a word is no chunk and no range.
    pub fn parse(words: &str) -> Option<Self> {
        let mut set = Self::default();
        for word in words.split(' ').filter(|word| !word.is_empty()) {
            let (first, last) = word.split_once('-').unwrap_or((word, word));
            let (first, last) = (chunk(first)?, chunk(last)?);
            if first > last {
                return None;
            }
            set.insert_range(first, last);
        }
        Some(set)
    }
}

impl FromIterator<u32> for ChunkSet {
    fn from_iter<I: IntoIterator<Item = u32>>(chunks: I) -> Self {
        let mut set = Self::default();
        chunks.into_iter().for_each(|chunk| {
            set.insert(chunk);
        });
        set
    }
}

/// As `0-2 5`.
impl fmt::Display for ChunkSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.ranges(0).enumerate() {
            f.write_str(if at == 0 { "" } else { " " })?;
            if first == last { write!(f, "{first}")? } else { write!(f, "{first}-{last}")? }
        }
        Ok(())
    }
}

impl fmt::Debug for ChunkSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{self}]")
    }
}

/// The number that a word spells, if a chunk can have it: digits only.
pub fn chunk(word: &str) -> Option<u32> {
    let is_number = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    word.parse().ok().filter(|&chunk| is_number && chunk < CHUNKS_MAX)
}

/// Word and bit of a chunk.
fn place(chunk: u32) -> (usize, u32) {
    (usize::try_from(chunk / 64).unwrap_or(usize::MAX), chunk % 64)
}

/// The first chunk of a word.
fn number(word: usize) -> u32 {
    u32::try_from(word * 64).unwrap_or(CHUNKS_MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn chunks_cover_a_file_without_gaps() {
        assert_eq!(span(10, 4, 0), 0..3);
        assert_eq!(span(10, 4, 3), 9..10);
        assert_eq!(span(2, 5, 1), 1..2);
        assert_eq!(span(2, 5, 4), 2..2);
        assert_eq!(span(0, 3, 2), 0..0);
        assert_eq!(span(u64::MAX, 65_536, 65_535).end, u64::MAX);
    }

    #[test]
    fn a_digest_is_64_digits() {
        let word = "00ff".repeat(16);
        assert_eq!(Digest::parse(&word).map(|digest| digest.to_string()), Some(word.clone()));
        for bad in [&word[1..], "", &word.replace("00", "+0"), &word.replace("ff", "fg")] {
            assert_eq!(Digest::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_set_is_written_in_ranges() {
        let set: ChunkSet = [0, 1, 2, 5, 63, 64, 65_535, 65_536].into_iter().collect();
        assert_eq!(set.to_string(), "0-2 5 63-64 65535");
        assert_eq!(ChunkSet::first(65_536).to_string(), "0-65535");
        assert_eq!(ChunkSet::first(0).to_string(), "");
        for bad in ["65536", "0-65536", "3-2", "-1", "1-", "+1", "a", "1-2-3", "99999999999"] {
            assert_eq!(ChunkSet::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn chunks_of_a_file_follow_each_other(bytes in 0..u64::MAX, chunks in 1..=CHUNKS_MAX, at in 0..CHUNKS_MAX) {
            let at = at % chunks;
            let here = span(bytes, chunks, at);
            prop_assert!(here.start <= here.end && here.end <= bytes);
            prop_assert_eq!(span(bytes, chunks, at + 1).start, here.end);
            prop_assert_eq!((span(bytes, chunks, 0).start, span(bytes, chunks, chunks - 1).end), (0, bytes));
        }

        #[test]
        fn a_set_is_what_was_put_into_it(
            chunks in proptest::collection::vec(0..700u32, 0..60),
            others in proptest::collection::vec(0..700u32, 0..60),
            out in proptest::collection::vec(0..700u32, 0..60),
            from in 0..800u32,
        ) {
            let model = |chunks: &[u32]| chunks.iter().copied().collect::<BTreeSet<u32>>();
            let (mut mine, theirs) = (model(&chunks), model(&others));
            let (mut set, other): (ChunkSet, ChunkSet) = (chunks.into_iter().collect(), others.into_iter().collect());
            let shared: Vec<u32> = mine.intersection(&theirs).copied().collect();
            prop_assert_eq!(set.shared(&other).iter().collect::<Vec<_>>(), shared);
            set.add(&other);
            mine.extend(theirs);
            for chunk in out {
                prop_assert_eq!(set.remove(chunk), mine.remove(&chunk));
                prop_assert!(!set.contains(chunk));
            }
            let listed: Vec<u32> = set.iter().collect();
            prop_assert_eq!(&listed, &mine.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(set.len() as usize, listed.len());
            prop_assert_eq!(set.is_empty(), listed.is_empty());
            prop_assert_eq!(ChunkSet::parse(&set.to_string()), Some(set.clone()));
            let rest: Vec<u32> = set.ranges(from).flat_map(|(first, last)| first..=last).collect();
            prop_assert_eq!(rest, mine.range(from..).copied().collect::<Vec<_>>());
        }

        #[test]
        fn the_lines_of_a_set_add_up(step in 1..9u32, count in 0..CHUNKS_MAX) {
            let set: ChunkSet = (0..count).filter(|chunk| chunk % step != 1).collect();
            let (mut sum, mut from) = (ChunkSet::default(), Some(0));
            while let Some(at) = from {
                let (part, next) = set.part(at);
                prop_assert!(part.ranges(0).count() <= RANGES_PER_LINE_MAX);
                prop_assert!(part.shared(&sum).is_empty());
                sum.add(&part);
                from = next;
            }
            prop_assert_eq!(sum, set);
        }
    }
}
