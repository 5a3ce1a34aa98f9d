//! Connection numbers, and a map that is fast for numbers of ours.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// One connection, numbered by the listener; never used again within a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// A map from connections, or from rows. Their numbers are ours, so no peer can choose them to collide.
pub type IdMap<V, K = ConnId> = HashMap<K, V, BuildHasherDefault<IdHasher>>;

/// Spreads consecutive numbers by one multiplication (Fibonacci hashing).
#[derive(Debug, Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        let mixed = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }

    fn write_i64(&mut self, number: i64) {
        self.write_u64(number.cast_unsigned());
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
