//! MP3: frame after frame, each of which says how many samples it holds.

use super::{at, micros_of};

/// Bits per millisecond by index, of MPEG-1 and of its successors for lower rates.
const KILOBITS_1: [u64; 15] = [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
const KILOBITS_2: [u64; 15] = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];
const RATES_1: [u64; 3] = [44_100, 48_000, 32_000];
/// A tag of a fixed length that may follow the last frame.
const TAG_BYTES: usize = 128;

/// How long the file is; `None` when it is anything but frames, with or without a tag before and after them.
pub(super) fn micros(bytes: &[u8]) -> Option<u64> {
    let mut rest = bytes.get(tag_before(bytes)?..)?;
    let (mut micros, mut frames) = (0_u64, 0_u32);
    while let Some(frame) = frame(rest) {
        micros = micros.checked_add(frame.micros)?;
        frames += 1;
        rest = rest.get(frame.bytes..).unwrap_or_default(); // the last one may be cut
    }
    let tag_after = rest.len() == TAG_BYTES && rest.starts_with(b"TAG");
    (frames > 1 && (rest.is_empty() || tag_after)).then_some(micros)
}

/// The length of the tag before the frames, whose bytes have seven bits each.
fn tag_before(bytes: &[u8]) -> Option<usize> {
    if !bytes.starts_with(b"ID3") {
        return Some(0);
    }
    let length = at::<4>(bytes, 6)?.iter().fold(0, |length, byte| length << 7 | usize::from(byte & 0x7f));
    Some(10 + length)
}

struct Frame {
    bytes: usize,
    micros: u64,
}

fn frame(bytes: &[u8]) -> Option<Frame> {
    let [0xff, kind, rates, _] = at::<4>(bytes, 0)? else { return None };
    let is_layer_3 = kind & 0b1110_0110 == 0b1110_0010;
    let (kilobits, divisor, samples) = match kind >> 3 & 0b11 {
        0b11 => (&KILOBITS_1, 1, 1_152),
        0b10 => (&KILOBITS_2, 2, 576),
        0b00 => (&KILOBITS_2, 4, 576),
        _ => return None,
    };
    let kilobits = *kilobits.get(usize::from(rates >> 4)).filter(|kilobits| is_layer_3 && **kilobits > 0)?;
    let rate = RATES_1.get(usize::from(rates >> 2 & 0b11))? / divisor;
    let length = samples / 8 * kilobits * 1_000 / rate + u64::from(rates >> 1 & 1);
    Some(Frame { bytes: usize::try_from(length).ok()?, micros: micros_of(samples, rate)? })
}
