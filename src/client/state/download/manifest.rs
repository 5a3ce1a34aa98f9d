//! What a file consists of, as its first owner has told the server.

use std::ops::Range;

use crate::wire::chunks::{Digest, span};
use crate::wire::name::FileName;

/// A file in chunks, each with its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The name of the file.
    pub file: FileName,
    /// Its size.
    pub bytes: u64,
    /// The hash of the whole.
    pub digest: Digest,
    /// The hash of every chunk; never empty.
    pub hashes: Vec<Digest>,
}

impl Manifest {
    /// How many chunks there are.
    pub fn chunks(&self) -> u32 {
        u32::try_from(self.hashes.len()).unwrap_or(u32::MAX)
    }

    /// Where a chunk begins and ends. All are alike but for the last ones, which may be short or
    /// empty.
    pub fn place(&self, chunk: u32) -> Range<u64> {
        span(self.bytes, self.chunks(), chunk)
    }

    /// The size of a chunk.
    pub fn size(&self, chunk: u32) -> u64 {
        let place = self.place(chunk);
        place.end - place.start
    }
}
