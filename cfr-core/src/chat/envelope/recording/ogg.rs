//! Ogg: pages, each of which says how many samples of its stream have passed.

use super::{at, micros_of};

/// Opus always counts as if it had this rate.
const OPUS_RATE: u64 = 48_000;
const PAGE_HEADER: usize = 27;
/// A position of a page on which nothing ends.
const NO_POSITION: u64 = u64::MAX;
/// Streams in one file, one after another or side by side.
const STREAMS_MAX: usize = 64;

/// How long all streams of the file are together; `None` when it is no Ogg file of sound.
pub(super) fn micros(bytes: &[u8]) -> Option<u64> {
    let mut streams = Vec::new();
    let mut rest = bytes;
    while let Some(page) = Page::read(rest) {
        page.count_in(&mut streams)?;
        rest = rest.get(page.bytes..).unwrap_or_default();
    }
    let micros = streams.iter().map(|stream| micros_of(stream.samples, stream.rate).unwrap_or(u64::MAX));
    (!streams.is_empty()).then(|| micros.fold(0, u64::saturating_add))
}

struct Stream {
    serial: u32,
    rate: u64,
    samples: u64,
}

struct Page<'a> {
    bytes: usize,
    position: u64,
    serial: u32,
    payload: &'a [u8],
}

impl<'a> Page<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        if !bytes.starts_with(b"OggS") {
            return None;
        }
        let position = u64::from_le_bytes(at(bytes, 6)?);
        let serial = u32::from_le_bytes(at(bytes, 14)?);
        let [segments] = at(bytes, PAGE_HEADER - 1)?;
        let start = PAGE_HEADER + usize::from(segments);
        let length = bytes.get(PAGE_HEADER..start)?.iter().map(|length| usize::from(*length)).sum::<usize>();
        let end = bytes.len().min(start + length);
        Some(Self { bytes: start + length, position, serial, payload: bytes.get(start..end)? })
    }

    /// `None` when there are more streams than any recording has.
    fn count_in(&self, streams: &mut Vec<Stream>) -> Option<()> {
        if let Some(rate) = self.rate_of_first() {
            streams.push(Stream { serial: self.serial, rate, samples: 0 });
        }
        let stream = streams.iter_mut().rev().find(|stream| stream.serial == self.serial);
        if let Some(stream) = stream.filter(|_| self.position != NO_POSITION) {
            stream.samples = stream.samples.max(self.position);
        }
        (streams.len() <= STREAMS_MAX).then_some(())
    }

    /// Samples per second, when the page opens a stream of sound.
    fn rate_of_first(&self) -> Option<u64> {
        if self.payload.starts_with(b"OpusHead") {
            return Some(OPUS_RATE);
        }
        self.payload
            .starts_with(b"\x01vorbis")
            .then(|| at(self.payload, 12))?
            .map(|rate| u32::from_le_bytes(rate).into())
    }
}
