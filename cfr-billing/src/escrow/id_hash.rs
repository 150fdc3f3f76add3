//! Hashing of ids that are random already.

use std::hash::{BuildHasherDefault, Hasher};

/// A map by id.
pub(super) type IdMap<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<IdHasher>>;

/// An odd number with well mixed bits, the golden ratio in 64 bits: spreads ids that are not random, too.
pub(super) const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Hashes one 128-bit id. The ids are UUIDs of our own making, so nobody chooses them to collide.
#[derive(Debug, Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write_u128(&mut self, id: u128) {
        let [high, low] = halves(id);
        self.0 = (high ^ low).wrapping_mul(SPREAD).rotate_left(26);
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(SPREAD);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The two halves of an id.
#[expect(clippy::cast_possible_truncation, reason = "the low half is what is meant")]
pub(super) const fn halves(id: u128) -> [u64; 2] {
    [(id >> 64) as u64, id as u64]
}
