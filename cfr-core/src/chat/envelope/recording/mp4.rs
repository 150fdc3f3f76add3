//! MP4 and M4A: a header says how long the whole is.

use super::{as_usize, at, micros_of};

const BOX_HEADER: usize = 8;
/// Where the ticks per second stand in the header, and behind them how many there are, by its version.
const TICKS_OF_VERSION_0: usize = 12;
const TICKS_OF_VERSION_1: usize = 20;

/// How long the file says that it is; `None` when it is no MP4 file, or does not say.
pub(super) fn micros(bytes: &[u8]) -> Option<u64> {
    if at::<4>(bytes, 4)? != *b"ftyp" {
        return None;
    }
    let header = inside(inside(bytes, *b"moov")?, *b"mvhd")?;
    let [version] = at(header, 0)?;
    let (ticks_at, wide) = if version == 1 { (TICKS_OF_VERSION_1, true) } else { (TICKS_OF_VERSION_0, false) };
    let per_second = u32::from_be_bytes(at(header, ticks_at)?);
    let length = match wide {
        true => u64::from_be_bytes(at(header, ticks_at + 4)?),
        false => u32::from_be_bytes(at(header, ticks_at + 4)?).into(),
    };
    micros_of(length, per_second.into())
}

/// The body of the first box of this kind. A box of 64 bits' length, or up to the end, is not walked over.
fn inside(mut boxes: &[u8], kind: [u8; 4]) -> Option<&[u8]> {
    loop {
        let length = as_usize(u32::from_be_bytes(at(boxes, 0)?));
        if at::<4>(boxes, 4)? == kind {
            return boxes.get(BOX_HEADER..length);
        }
        boxes = boxes.get(length.max(BOX_HEADER)..)?;
    }
}
