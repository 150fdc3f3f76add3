//! One JSON value per line.

use std::borrow::Cow;

use bytes::{Buf, BytesMut};
use memchr::memchr;

use super::Cut;
use crate::adapter::WireEvent;

/// The largest line that is taken.
pub const LINE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Cuts a byte stream after its lines.
#[derive(Debug, Default)]
pub struct JsonLines {
    tail: BytesMut,
}

impl Cut for JsonLines {
    fn push(&mut self, chunk: &[u8], events: &mut Vec<WireEvent<'static>>) -> Result<(), Box<str>> {
        let mut searched = self.tail.len();
        self.tail.extend_from_slice(chunk);
        while let Some(end) = memchr(b'\n', &self.tail[searched..]).map(|at| at + searched) {
            let line = self.tail.split_to(end);
            self.tail.advance(1);
            searched = 0;
            events.extend(event(&line));
        }
        if self.tail.len() > LINE_BYTES_MAX {
            return Err(format!("a line of the stream is larger than {LINE_BYTES_MAX} bytes").into());
        }
        Ok(())
    }

    /// A last line may end with the stream.
    fn finish(&mut self, events: &mut Vec<WireEvent<'static>>) -> Result<(), Box<str>> {
        let line = self.tail.split();
        events.extend(event(&line));
        Ok(())
    }
}

fn event(line: &[u8]) -> Option<WireEvent<'static>> {
    let data = line.trim_ascii();
    (!data.is_empty()).then(|| WireEvent { name: Cow::Borrowed(b""), data: Cow::Owned(data.to_vec()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_the_same_however_the_network_tears_them() {
        let text = b"{\"a\":1}\r\n\n{\"b\":\"\xc3\xa4\"}\n{\"c\":3}";
        for size in 1..=text.len() {
            let (mut lines, mut events) = (JsonLines::default(), Vec::new());
            text.chunks(size).for_each(|chunk| lines.push(chunk, &mut events).expect("short lines"));
            lines.finish(&mut events).expect("a last line");
            let texts: Vec<&[u8]> = events.iter().map(|event| &*event.data).collect();
            assert_eq!(texts, [&b"{\"a\":1}"[..], b"{\"b\":\"\xc3\xa4\"}", b"{\"c\":3}"], "in pieces of {size}");
        }
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut lines = JsonLines::default();
        lines.push(&vec![b'x'; LINE_BYTES_MAX + 1], &mut Vec::new()).expect_err("beyond the limit");
    }
}
