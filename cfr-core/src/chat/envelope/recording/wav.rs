//! WAV: all that follows the header is taken for samples, so that what the file says of their number does not matter.

use super::{as_usize, at, micros_of};
use crate::chat::envelope::text::as_u64;

/// Samples as they are, as integers or as floats.
const UNCOMPRESSED: [u16; 2] = [1, 3];
/// The true format follows in the extension.
const EXTENSIBLE: u16 = 0xfffe;
const CHUNKS_START: usize = 12;
const CHUNK_HEADER: usize = 8;

/// How long the file is; `None` when it is no WAV file, or compressed, or contradicts itself.
pub(super) fn micros(bytes: &[u8]) -> Option<u64> {
    let is_wav = bytes.starts_with(b"RIFF") && at::<4>(bytes, 8)? == *b"WAVE";
    let (format, samples) = is_wav.then(|| chunks(bytes))??;
    let short = |place| at(format, place).map(u16::from_le_bytes);
    let long = |place| at(format, place).map(u32::from_le_bytes);
    let (kind, channels, rate, per_second, bits) = (short(0)?, short(2)?, long(4)?, long(8)?, short(14)?);
    let kind = if kind == EXTENSIBLE { short(24)? } else { kind };
    let counted = u64::from(rate) * u64::from(channels) * u64::from(bits.div_ceil(8));
    let honest = UNCOMPRESSED.contains(&kind) && counted == u64::from(per_second);
    if honest { micros_of(as_u64(samples.len()), counted) } else { None }
}

/// What begins with the body of the only `fmt ` chunk, and what begins with the samples.
fn chunks(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (mut place, mut found) = (CHUNKS_START, None);
    loop {
        let body = place + CHUNK_HEADER;
        match &at::<4>(bytes, place)? {
            b"data" => return Some((bytes.get(found?..)?, bytes.get(body..)?)),
            b"fmt " if found.is_some() => return None,
            b"fmt " => found = Some(body),
            _ => {}
        }
        let length = as_usize(u32::from_le_bytes(at(bytes, place + 4)?));
        place = body.checked_add(length)?.checked_add(length % 2)?;
    }
}
