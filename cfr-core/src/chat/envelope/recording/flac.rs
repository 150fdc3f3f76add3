//! FLAC: the first block says how many samples there are. Silence takes next to no bytes.

use super::{at, micros_of};

/// Where rate, channels, bits and number of samples stand, in 64 bits.
const FIGURES: usize = 18;
const SAMPLES_MASK: u64 = (1 << 36) - 1;
const RATE_SHIFT: u32 = 44;

/// How long the file says that it is; `None` when it is no FLAC file, or does not say.
pub(super) fn micros(bytes: &[u8]) -> Option<u64> {
    let figures = bytes.starts_with(b"fLaC").then(|| at(bytes, FIGURES)).flatten().map(u64::from_be_bytes)?;
    micros_of(figures & SAMPLES_MASK, figures >> RATE_SHIFT).filter(|micros| *micros > 0)
}
