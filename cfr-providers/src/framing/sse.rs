//! Server-sent events: `\n`, `\r\n` and `\r` end a line, an empty line ends a frame.
//!
//! Two steps. [`Blocks`] cuts what the network brings into blocks of whole frames; a network chunk that ends with a
//! frame is its own block, not copied. [`frames`] walks over the frames of a block and borrows from it.

use std::borrow::Cow;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use memchr::{memchr2, memrchr2_iter};

use crate::adapter::WireEvent;

/// The largest frame that is taken: an image of the largest size fits.
pub const SSE_EVENT_BYTES_MAX: usize = 32 * 1024 * 1024;

/// A frame is larger than [`SSE_EVENT_BYTES_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of the stream is larger than {SSE_EVENT_BYTES_MAX} bytes")]
pub struct FrameTooLarge;

/// Cuts a byte stream after its last whole frame and keeps the rest for later.
#[derive(Debug, Default)]
pub struct Blocks {
    tail: BytesMut,
}

impl Blocks {
    /// Takes the next bytes; returns all whole frames that are there now, possibly none.
    ///
    /// # Errors
    /// When a frame is beyond the limit.
    pub fn push(&mut self, chunk: Bytes) -> Result<Bytes, FrameTooLarge> {
        let block = if self.tail.is_empty() { self.cut_chunk(chunk) } else { self.cut_tail(&chunk) };
        if self.tail.len() > SSE_EVENT_BYTES_MAX { Err(FrameTooLarge) } else { Ok(block) }
    }

    /// The bytes after the last whole frame, when nothing more will come.
    pub fn finish(&mut self) -> Bytes {
        self.tail.split().freeze()
    }

    fn cut_chunk(&mut self, mut chunk: Bytes) -> Bytes {
        let end = last_frame_end(&chunk, 0);
        self.tail.extend_from_slice(&chunk[end..]);
        chunk.truncate(end);
        chunk
    }

    fn cut_tail(&mut self, chunk: &Bytes) -> Bytes {
        let searched = self.tail.len().saturating_sub(1); // a `\r` at its end was waited upon
        self.tail.extend_from_slice(chunk);
        let end = last_frame_end(&self.tail, searched);
        self.tail.split_to(end).freeze()
    }
}

/// Where the last frame that is complete ends, when no frame ends before `searched`; 0 when there is none.
///
/// A frame ends with two line ends in a row. A `\r` at the very end is waited upon after a `\n`, for it is half of a
/// `\r\n` that the network tore apart.
fn last_frame_end(bytes: &[u8], searched: usize) -> usize {
    for second in memrchr2_iter(b'\n', b'\r', &bytes[searched..]).map(|at| at + searched) {
        let Some(first) = second.checked_sub(1) else { return 0 };
        let next = bytes.get(second + 1);
        match (bytes[first], bytes[second]) {
            (b'\n', b'\n') => return second + 1,
            (b'\n' | b'\r', b'\r') if next == Some(&b'\n') => return second + 2,
            (b'\n', b'\r') if next.is_none() => {}
            (b'\n' | b'\r', b'\r') => return second + 1,
            _ => {}
        }
    }
    0
}

/// A frame's place in its block, and the event in it; comments carry none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Where its bytes stand, empty line included.
    pub range: Range<usize>,
    /// What it carries.
    pub event: Option<WireEvent<'a>>,
}

/// The frames of a block, in order. Bytes after the last empty line are a frame too: the end of a stream may be one.
pub fn frames(block: &[u8]) -> impl Iterator<Item = Frame<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let frame = (at < block.len()).then(|| next_frame(block, at))?;
        at = frame.range.end;
        Some(frame)
    })
}

fn next_frame(block: &[u8], start: usize) -> Frame<'_> {
    let mut at = start;
    let mut fields = Fields::default();
    while at < block.len() {
        let (line, next) = next_line(block, at);
        at = next;
        if !line.is_empty() {
            fields.take(line);
        } else if !fields.is_empty() {
            break;
        }
    }
    Frame { range: start..at, event: fields.into_event() }
}

/// A line without its end, and where the next one begins.
fn next_line(block: &[u8], start: usize) -> (&[u8], usize) {
    let rest = &block[start..];
    let Some(length) = memchr2(b'\n', b'\r', rest) else { return (rest, block.len()) };
    let end = if rest[length..].starts_with(b"\r\n") { 2 } else { 1 };
    (&rest[..length], start + length + end)
}

/// The fields of one frame as they are read.
#[derive(Default)]
struct Fields<'a> {
    any: bool,
    name: &'a [u8],
    data: Option<Cow<'a, [u8]>>,
}

impl<'a> Fields<'a> {
    const fn is_empty(&self) -> bool {
        !self.any
    }

    fn take(&mut self, line: &'a [u8]) {
        self.any = true;
        let line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
        if let Some(data) = value_of(line, b"data") {
            self.add_data(data);
        } else if let Some(name) = value_of(line, b"event") {
            self.name = name;
        }
    }

    fn add_data(&mut self, line: &'a [u8]) {
        match &mut self.data {
            None => self.data = Some(Cow::Borrowed(line)),
            Some(data) => {
                let data = data.to_mut();
                data.push(b'\n');
                data.extend_from_slice(line);
            }
        }
    }

    fn into_event(self) -> Option<WireEvent<'a>> {
        self.data.map(|data| WireEvent { name: Cow::Borrowed(self.name), data })
    }
}

/// The value of `field: value`, with the one optional blank taken off.
fn value_of<'a>(line: &'a [u8], field: &[u8]) -> Option<&'a [u8]> {
    let value = line.strip_prefix(field)?.strip_prefix(b":")?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Seen = Vec<(Vec<u8>, Vec<u8>)>;

    fn events_in_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Seen, Vec<u8>) {
        let (mut blocks, mut seen, mut forwarded) = (Blocks::default(), Seen::new(), Vec::new());
        let mut take = |block: Bytes| {
            forwarded.extend_from_slice(&block);
            seen.extend(frames(&block).filter_map(|frame| frame.event).map(|e| (e.name.to_vec(), e.data.into_owned())));
        };
        for piece in pieces {
            take(blocks.push(Bytes::copy_from_slice(piece)).unwrap());
        }
        take(blocks.finish());
        (seen, forwarded)
    }

    #[track_caller]
    fn check(wire: &str, expected: &[(&str, &str)]) {
        let (seen, forwarded) = events_in_pieces([wire.as_bytes()]);
        let seen: Vec<_> = seen.iter().map(|(n, d)| (str::from_utf8(n).unwrap(), str::from_utf8(d).unwrap())).collect();
        assert_eq!(seen, expected);
        assert_eq!(forwarded, wire.as_bytes());
        for at in 0..=wire.len() {
            let (left, right) = wire.as_bytes().split_at(at);
            let torn: Vec<_> = events_in_pieces([left, right]).0;
            assert_eq!(torn.len(), expected.len(), "torn at {at}: {torn:?}");
            assert!(torn.iter().zip(expected).all(|(a, b)| a.1 == b.1.as_bytes()), "torn at {at}");
        }
    }

    #[test]
    fn all_three_line_ends_end_a_line() {
        check("data: a\n\ndata: b\r\n\r\ndata: c\r\rdata: d\n\r\n", &[("", "a"), ("", "b"), ("", "c"), ("", "d")]);
    }

    #[test]
    fn data_lines_are_joined_and_one_blank_is_optional() {
        check("data:a\ndata:  b\ndata\n\n", &[("", "a\n b")]);
    }

    #[test]
    fn comments_and_unknown_fields_are_no_events() {
        check(": hi\n\n:\r\n\r\nid: 7\nretry: 3\n\nevent: x\ndata: y\n\n", &[("x", "y")]);
    }

    #[test]
    fn the_end_of_the_stream_ends_the_last_frame() {
        check("data: a\n\ndata: b", &[("", "a"), ("", "b")]);
        check("data: a\r\n\r\ndata: b\r\n", &[("", "a"), ("", "b")]);
    }

    #[test]
    fn characters_torn_by_the_network_are_whole_again() {
        check("data: \u{1F44B} \u{2014}\n\n", &[("", "\u{1F44B} \u{2014}")]);
    }

    #[test]
    fn a_chunk_of_whole_frames_is_not_copied() {
        let chunk = Bytes::from_static(b"data: a\n\ndata: b\n\n");
        let block = Blocks::default().push(chunk.clone()).unwrap();
        assert_eq!((block.as_ptr(), block.len()), (chunk.as_ptr(), chunk.len()));
    }

    #[test]
    fn a_frame_without_end_is_refused_at_the_limit() {
        let mut blocks = Blocks::default();
        let piece = Bytes::from(vec![b'x'; SSE_EVENT_BYTES_MAX / 4]);
        for _ in 0..4 {
            assert_eq!(blocks.push(piece.clone()), Ok(Bytes::new()));
        }
        assert_eq!(blocks.push(piece), Err(FrameTooLarge));
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_events(
            lines in prop::collection::vec(("(data: ?|event: ?|: |id:)", "[a-z\u{e4}\u{1F44B} ]{0,6}", "(\n|\r\n|\r)(\n|\r\n|\r)?"), 0..12),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let wire: String = lines.iter().map(|(field, value, end)| format!("{field}{value}{end}")).collect();
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
            at.extend([0, wire.len()]);
            at.sort_unstable();
            let pieces = at.windows(2).map(|pair| &wire.as_bytes()[pair[0]..pair[1]]);
            prop_assert_eq!(events_in_pieces(pieces), events_in_pieces([wire.as_bytes()]));
        }
    }
}
