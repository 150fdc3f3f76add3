//! Where a history comes from.

use std::ops::Range;

/// The same numbers for the same seed on every machine and with every version of every crate (SplitMix64).
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("below a usize")
    }

    pub(super) fn within(&mut self, range: Range<i64>) -> i64 {
        let width = usize::try_from(range.end - range.start).expect("a range that is not empty");
        range.start + i64::try_from(self.below(width)).expect("within an i64")
    }

    /// One to all of `0..count`, each once, in any order.
    pub(super) fn some_of(&mut self, count: usize) -> Vec<usize> {
        let mut positions: Vec<_> = (0..count).collect();
        for end in (1..positions.len()).rev() {
            positions.swap(end, self.below(end + 1));
        }
        positions.truncate(1 + self.below(count));
        positions
    }
}
