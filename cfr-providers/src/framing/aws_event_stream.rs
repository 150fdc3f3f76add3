//! Amazon's binary event stream (providers.md §8.4). All numbers are big-endian:
//!
//! ```text
//! frame bytes u32 │ header bytes u32 │ CRC-32 of these eight │ headers │ payload │ CRC-32 of all before
//! header: name bytes u8 │ name │ type u8 │ value
//! ```

use std::borrow::Cow;

use bytes::BytesMut;

use super::Cut;
use crate::adapter::WireEvent;

/// The largest frame that is taken. The format allows three times as much, and no model says that much at once.
pub const FRAME_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The most bytes of headers that the format allows.
pub const HEADERS_BYTES_MAX: usize = 128 * 1024;

/// The two lengths and their checksum.
const PRELUDE_BYTES: usize = 12;
const CHECKSUM_BYTES: usize = 4;
/// A frame without headers and payload.
const FRAME_BYTES_MIN: usize = PRELUDE_BYTES + CHECKSUM_BYTES;
/// Stands before the name of an event that is a failure. No type of event begins with it.
const FAILURE: u8 = b'!';

/// The type of failure that an event stands for; `None` for an event that is none. Its payload is then JSON with a
/// `message`.
#[must_use]
pub fn failure<'a>(event: &'a WireEvent<'_>) -> Option<&'a [u8]> {
    event.name.strip_prefix(&[FAILURE])
}

/// Cuts a byte stream after its frames. Both checksums of each are checked.
#[derive(Debug, Default)]
pub struct AwsEventStream {
    tail: BytesMut,
}

impl Cut for AwsEventStream {
    fn push(&mut self, chunk: &[u8], events: &mut Vec<WireEvent<'static>>) -> Result<(), Box<str>> {
        self.tail.extend_from_slice(chunk);
        while let Some(lengths) = Lengths::of(&self.tail)?.filter(|lengths| lengths.frame <= self.tail.len()) {
            let frame = self.tail.split_to(lengths.frame);
            events.push(event(&frame, &lengths)?);
        }
        Ok(())
    }

    fn finish(&mut self, _events: &mut Vec<WireEvent<'static>>) -> Result<(), Box<str>> {
        if self.tail.is_empty() { Ok(()) } else { Err("the stream ended inside a frame".into()) }
    }
}

/// How long a frame and its headers are.
struct Lengths {
    frame: usize,
    headers: usize,
}

impl Lengths {
    /// The lengths of the first frame, as soon as they are there.
    fn of(bytes: &[u8]) -> Result<Option<Self>, Box<str>> {
        let Some((prelude, _)) = bytes.split_first_chunk::<PRELUDE_BYTES>() else { return Ok(None) };
        let [frame, headers, checksum] = [0, 4, 8].map(|at| number(prelude, at));
        if crc32fast::hash(&prelude[..8]) != checksum {
            return Err("the lengths of a frame do not match their checksum".into());
        }
        let (frame, headers) = (frame as usize, headers as usize);
        if !(FRAME_BYTES_MIN..=FRAME_BYTES_MAX).contains(&frame) {
            return Err(format!("a frame of {frame} bytes, beyond {FRAME_BYTES_MAX}").into());
        }
        if headers > (frame - FRAME_BYTES_MIN).min(HEADERS_BYTES_MAX) {
            return Err(format!("{headers} bytes of headers in a frame of {frame}").into());
        }
        Ok(Some(Self { frame, headers }))
    }
}

/// Four bytes as a number; callers have made sure that they are there.
fn number(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// The event of a whole frame.
fn event(frame: &[u8], lengths: &Lengths) -> Result<WireEvent<'static>, Box<str>> {
    let (checked, checksum) = frame.split_at(lengths.frame - CHECKSUM_BYTES);
    if crc32fast::hash(checked) != number(checksum, 0) {
        return Err("a frame does not match its checksum".into());
    }
    let (headers, payload) = checked[PRELUDE_BYTES..].split_at(lengths.headers);
    let headers = Headers::read(headers).ok_or("the headers of a frame cannot be read")?;
    Ok(headers.event(payload))
}

/// The headers that say what a frame is.
#[derive(Default)]
struct Headers<'a> {
    message_type: &'a [u8],
    event_type: &'a [u8],
    exception_type: &'a [u8],
    error_code: &'a [u8],
    error_message: &'a [u8],
}

impl<'a> Headers<'a> {
    fn read(mut bytes: &'a [u8]) -> Option<Self> {
        let mut headers = Self::default();
        while !bytes.is_empty() {
            let (name, value);
            (name, value, bytes) = header(bytes)?;
            match name {
                b":message-type" => headers.message_type = value,
                b":event-type" => headers.event_type = value,
                b":exception-type" => headers.exception_type = value,
                b":error-code" => headers.error_code = value,
                b":error-message" => headers.error_message = value,
                _ => {}
            }
        }
        Some(headers)
    }

    fn event(&self, payload: &[u8]) -> WireEvent<'static> {
        match self.message_type {
            b"exception" => failed(self.exception_type, payload.to_vec()),
            b"error" => {
                let message = String::from_utf8_lossy(self.error_message);
                failed(self.error_code, serde_json::json!({ "message": message }).to_string().into_bytes())
            }
            _ => WireEvent { name: Cow::Owned(self.event_type.to_vec()), data: Cow::Owned(payload.to_vec()) },
        }
    }
}

fn failed(kind: &[u8], data: Vec<u8>) -> WireEvent<'static> {
    WireEvent { name: Cow::Owned([&[FAILURE], kind].concat()), data: Cow::Owned(data) }
}

/// The first header's name and value, and the bytes behind it. Values that are no text are skipped: they are empty here.
fn header(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (&name_bytes, bytes) = bytes.split_first()?;
    let (name, bytes) = bytes.split_at_checked(usize::from(name_bytes))?;
    let (&kind, bytes) = bytes.split_first()?;
    let (value_bytes, bytes) = match kind {
        0 | 1 => (0, bytes), // true, false
        2 => (1, bytes),     // i8
        3 => (2, bytes),
        4 => (4, bytes),
        5 | 8 => (8, bytes), // i64, timestamp
        6 | 7 => {
            let (length, bytes) = bytes.split_first_chunk::<2>()?; // bytes, text
            (usize::from(u16::from_be_bytes(*length)), bytes)
        }
        9 => (16, bytes), // uuid
        _ => return None,
    };
    let (value, bytes) = bytes.split_at_checked(value_bytes)?;
    Some((name, if kind == 7 { value } else { b"" }, bytes))
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    type Seen = Vec<(String, String)>;

    fn text_header(name: &str, value: &str) -> Vec<u8> {
        let name_bytes = u8::try_from(name.len()).expect("a short name");
        let value_bytes = u16::try_from(value.len()).expect("a short value");
        [&[name_bytes], name.as_bytes(), &[7], &value_bytes.to_be_bytes(), value.as_bytes()].concat()
    }

    fn raw_frame(headers: &[u8], payload: &[u8]) -> Vec<u8> {
        let length = |bytes: usize| u32::try_from(bytes).expect("a short frame").to_be_bytes();
        let mut frame = [length(headers.len() + payload.len() + FRAME_BYTES_MIN), length(headers.len())].concat();
        frame.extend(crc32fast::hash(&frame).to_be_bytes());
        frame.extend_from_slice(headers);
        frame.extend_from_slice(payload);
        frame.extend(crc32fast::hash(&frame).to_be_bytes());
        frame
    }

    /// A frame as Bedrock sends it.
    pub(crate) fn frame(headers: &[(&str, &str)], payload: &str) -> Vec<u8> {
        let headers: Vec<u8> = headers.iter().flat_map(|(name, value)| text_header(name, value)).collect();
        raw_frame(&headers, payload.as_bytes())
    }

    /// An event as Bedrock sends it.
    pub(crate) fn event_frame(kind: &str, payload: &str) -> Vec<u8> {
        let headers = [(":event-type", kind), (":content-type", "application/json"), (":message-type", "event")];
        frame(&headers, payload)
    }

    /// An exception as Bedrock sends it.
    pub(crate) fn exception_frame(kind: &str, payload: &str) -> Vec<u8> {
        frame(&[(":exception-type", kind), (":message-type", "exception")], payload)
    }

    fn cut<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Seen, Result<(), Box<str>>) {
        let (mut cut, mut events) = (AwsEventStream::default(), Vec::new());
        let mut result = Ok(());
        for piece in pieces {
            result = result.and_then(|()| cut.push(piece, &mut events));
        }
        result = result.and_then(|()| cut.finish(&mut events));
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        (events.iter().map(|event| (text(&event.name), text(&event.data))).collect(), result)
    }

    #[test]
    fn events_exceptions_and_errors_are_told_apart() {
        let wire = [
            event_frame("messageStart", r#"{"role":"assistant"}"#),
            exception_frame("throttlingException", r#"{"message":"slow down"}"#),
            frame(&[(":message-type", "error"), (":error-code", "500"), (":error-message", "a \"bad\" day")], ""),
        ];
        let (seen, result) = cut([&*wire.concat()]);
        let expected = [
            ("messageStart", r#"{"role":"assistant"}"#),
            ("!throttlingException", r#"{"message":"slow down"}"#),
            ("!500", r#"{"message":"a \"bad\" day"}"#),
        ];
        assert_eq!(seen, expected.map(|(name, data)| (name.to_owned(), data.to_owned())));
        assert_eq!(result, Ok(()));
        let event = WireEvent { name: Cow::Borrowed(b"!500"), data: Cow::Borrowed(b"") };
        assert_eq!(failure(&event), Some(&b"500"[..]));
    }

    #[test]
    fn headers_of_every_type_are_skipped() {
        let sizes = [(0, 0), (1, 0), (2, 1), (3, 2), (4, 4), (5, 8), (8, 8), (9, 16)];
        let mut headers: Vec<u8> =
            sizes.iter().flat_map(|(kind, bytes)| [vec![1, b'h', *kind], vec![0xff; *bytes]].concat()).collect();
        headers.extend([1, b'b', 6, 0, 2, 0xff, 0xff]);
        headers.extend(text_header(":event-type", "known"));
        assert_eq!(cut([&*raw_frame(&headers, b"{}")]).0, [("known".to_owned(), "{}".to_owned())]);
        for broken in [&[1, b'h', 10][..], &[5, b'h'], &[1, b'h', 4, 0], &[1, b'h', 7, 0, 9, 0], &[1, b'h']] {
            cut([&*raw_frame(broken, b"{}")]).1.expect_err("headers that end too early or are of no type");
        }
    }

    #[test]
    fn lengths_beyond_the_limits_are_refused_before_their_bytes_come() {
        let prelude = |frame: usize, headers: usize| {
            let mut bytes = [frame, headers].map(|n| u32::try_from(n).expect("a u32").to_be_bytes()).concat();
            bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
            bytes
        };
        let refused = [(0, 0), (15, 0), (16, 1), (FRAME_BYTES_MAX + 1, 0), (FRAME_BYTES_MAX, HEADERS_BYTES_MAX + 1)];
        for (frame, headers) in refused {
            AwsEventStream::default().push(&prelude(frame, headers), &mut Vec::new()).expect_err("beyond a limit");
        }
        AwsEventStream::default().push(&prelude(FRAME_BYTES_MAX, 0), &mut Vec::new()).expect("just within");
    }

    #[test]
    fn a_stream_that_ends_inside_a_frame_says_so() {
        let wire = event_frame("x", "{}");
        for at in 1..wire.len() {
            cut([&wire[..at]]).1.expect_err("half a frame");
        }
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_events(
            events in prop::collection::vec(("[a-zA-Z]{1,12}", "[ -~\u{e4}\u{1F44B}]{0,40}"), 0..6),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let wire: Vec<u8> = events.iter().flat_map(|(kind, payload)| event_frame(kind, payload)).collect();
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
            at.extend([0, wire.len()]);
            at.sort_unstable();
            prop_assert_eq!(cut(at.windows(2).map(|pair| &wire[pair[0]..pair[1]])), (events, Ok(())));
        }

        #[test]
        fn a_flipped_bit_never_passes(
            payload in "[ -~]{0,60}", at in any::<prop::sample::Index>(), bit in 0..8_u32, size in 1..40_usize,
        ) {
            let sound = event_frame("contentBlockDelta", "{}");
            let mut torn = event_frame("contentBlockDelta", &payload);
            let at = at.index(torn.len());
            torn[at] ^= 1 << bit;
            let wire = [sound, torn].concat();
            let (seen, result) = cut(wire.chunks(size));
            prop_assert_eq!(seen.len(), 1, "what came before counts, the torn frame does not");
            prop_assert!(result.is_err());
        }

        #[test]
        fn no_bytes_make_it_panic(wire in prop::collection::vec(any::<u8>(), 0..200)) {
            let (mut cut, mut events) = (AwsEventStream::default(), Vec::new());
            let _ = cut.push(&wire, &mut events);
            prop_assert!(events.is_empty() || wire.len() >= FRAME_BYTES_MIN);
        }

        #[test]
        fn no_headers_make_it_panic(headers in prop::collection::vec(any::<u8>(), 0..80)) {
            let (mut cut, mut events) = (AwsEventStream::default(), Vec::new());
            let result = cut.push(&raw_frame(&headers, b"{}"), &mut events);
            prop_assert_eq!(result.is_ok(), events.len() == 1);
        }
    }
}
