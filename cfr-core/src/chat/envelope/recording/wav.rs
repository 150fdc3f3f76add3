//! WAV: the whole file is taken for samples, so that what it says of their number does not matter.

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
    let format = bytes.get(is_wav.then(|| format_chunk(bytes))??..)?;
    let short = |place| at(format, place).map(u16::from_le_bytes);
    let long = |place| at(format, place).map(u32::from_le_bytes);
    let (kind, channels, rate, per_second, bits) = (short(0)?, short(2)?, long(4)?, long(8)?, short(14)?);
    let kind = if kind == EXTENSIBLE { short(24)? } else { kind };
    let counted = u64::from(rate) * u64::from(channels) * u64::from(bits.div_ceil(8));
    let honest = UNCOMPRESSED.contains(&kind) && counted == u64::from(per_second);
    if honest { micros_of(as_u64(bytes.len()), counted) } else { None }
}

/// Where the body of the only `fmt ` chunk before the samples begins.
fn format_chunk(bytes: &[u8]) -> Option<usize> {
    let (mut place, mut found) = (CHUNKS_START, None);
    loop {
        let body = place + CHUNK_HEADER;
        match &at::<4>(bytes, place)? {
            b"data" => return found,
            b"fmt " if found.is_some() => return None,
            b"fmt " => found = Some(body),
            _ => {}
        }
        let length = as_usize(u32::from_le_bytes(at(bytes, place + 4)?));
        place = body.checked_add(length)?.checked_add(length % 2)?;
    }
}
