//! Recorded bodies as frames of JSON, so that what they say of usage can be changed in every dialect.

use bytes::Bytes;
use serde_json::Value;

/// Where dialects say what was used.
const USAGE: [&str; 2] = ["usage", "usageMetadata"];
/// The same where it stands among other members.
const COUNTERS: [&str; 2] = ["prompt_eval_count", "eval_count"];

/// How the frames of a body are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// One JSON.
    Whole,
    /// Server-sent events.
    Events,
    /// A JSON on each line.
    Lines,
    /// Amazon's binary frames.
    Binary,
}

/// What becomes of the usage in a body.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rewrite {
    /// It is not there.
    Leave,
    /// Every quantity is this one.
    Set(u64),
}

impl Framing {
    pub(crate) fn of(content_type: &str) -> Self {
        match content_type.split(';').next().unwrap_or_default().trim() {
            "text/event-stream" => Self::Events,
            "application/x-ndjson" => Self::Lines,
            "application/vnd.amazon.eventstream" => Self::Binary,
            _ => Self::Whole,
        }
    }

    /// Where frames end, the end of the body included.
    pub(crate) fn ends(self, body: &[u8]) -> Vec<usize> {
        let after = |patterns: &[&[u8]]| -> Vec<usize> {
            let ends = (1..body.len()).filter(|end| patterns.iter().any(|pattern| body[..*end].ends_with(pattern)));
            ends.chain([body.len()]).collect()
        };
        match self {
            Self::Whole => vec![body.len()],
            Self::Events => after(&[b"\n\n", b"\n\r\n"]),
            Self::Lines => after(&[b"\n"]),
            Self::Binary => binary_ends(body),
        }
    }

    /// What each frame says that is there to its end.
    pub(crate) fn values(self, body: &[u8]) -> Vec<Value> {
        let read = |text: &[u8]| serde_json::from_slice(text).ok();
        match self {
            Self::Whole => read(body).into_iter().collect(),
            Self::Lines => body.split(|byte| *byte == b'\n').filter_map(read).collect(),
            Self::Events => {
                let lines = body.split(|byte| *byte == b'\n');
                lines.filter_map(|line| read(line.strip_prefix(b"data:")?)).collect()
            }
            Self::Binary => {
                let ends: Vec<usize> = binary_ends(body).into_iter().filter(|end| *end <= body.len()).collect();
                let starts = std::iter::once(0).chain(ends.iter().copied());
                starts.zip(&ends).filter_map(|(start, end)| read(payload(&body[start..*end]))).collect()
            }
        }
    }

    /// The body with another usage.
    pub(crate) fn rewritten(self, body: &[u8], rewrite: Rewrite) -> Bytes {
        let ends = self.ends(body);
        let starts = std::iter::once(0).chain(ends.iter().copied());
        starts.zip(&ends).flat_map(|(start, end)| self.frame(&body[start..*end], rewrite)).collect()
    }

    fn frame(self, frame: &[u8], rewrite: Rewrite) -> Vec<u8> {
        match self {
            Self::Whole => json(frame, rewrite),
            Self::Lines => [json(frame.trim_ascii(), rewrite), b"\n".to_vec()].concat(),
            Self::Events => {
                let lines =
                    frame.split_inclusive(|byte| *byte == b'\n').map(|line| match line.strip_prefix(b"data: ") {
                        Some(data) => [b"data: ".to_vec(), json(data.trim_ascii(), rewrite), b"\n".to_vec()].concat(),
                        None => line.to_vec(),
                    });
                lines.flatten().collect()
            }
            Self::Binary => binary(frame, rewrite),
        }
    }
}

/// What is no JSON stays.
fn json(text: &[u8], rewrite: Rewrite) -> Vec<u8> {
    let Ok(mut value) = serde_json::from_slice::<Value>(text) else { return text.to_vec() };
    change(&mut value, rewrite);
    value.to_string().into()
}

fn change(value: &mut Value, rewrite: Rewrite) {
    match value {
        Value::Object(object) => {
            if let Rewrite::Leave = rewrite {
                object.retain(|name, _| !USAGE.contains(&&**name) && !COUNTERS.contains(&&**name));
            }
            for (name, value) in object {
                match rewrite {
                    Rewrite::Set(quantity) if USAGE.contains(&&**name) || COUNTERS.contains(&&**name) => {
                        set(value, quantity);
                    }
                    _ => change(value, rewrite),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|entry| change(entry, rewrite)),
        _ => {}
    }
}

fn set(value: &mut Value, quantity: u64) {
    match value {
        Value::Number(_) => *value = quantity.into(),
        Value::Object(object) => object.values_mut().for_each(|member| set(member, quantity)),
        Value::Array(list) => list.iter_mut().for_each(|entry| set(entry, quantity)),
        _ => {}
    }
}

const PRELUDE_BYTES: usize = 12;
const CHECKSUM_BYTES: usize = 4;

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |number, byte| (number << 8) | usize::from(*byte))
}

fn binary_ends(body: &[u8]) -> Vec<usize> {
    let next = |start: &usize| Some(start + number(body.get(*start..start + 4)?));
    std::iter::successors(Some(0), next).skip(1).collect()
}

/// The frame with another payload.
fn binary(frame: &[u8], rewrite: Rewrite) -> Vec<u8> {
    binary_frame(headers(frame), &json(payload(frame), rewrite))
}

fn headers(frame: &[u8]) -> &[u8] {
    &frame[PRELUDE_BYTES..PRELUDE_BYTES + number(&frame[4..8])]
}

fn payload(frame: &[u8]) -> &[u8] {
    &frame[PRELUDE_BYTES + headers(frame).len()..frame.len() - CHECKSUM_BYTES]
}

/// A frame with the checksums that belong to it.
fn binary_frame(headers: &[u8], payload: &[u8]) -> Vec<u8> {
    let word = |length: usize| u32::try_from(length).expect("a short frame").to_be_bytes();
    let whole = PRELUDE_BYTES + headers.len() + payload.len() + CHECKSUM_BYTES;
    let mut out = [word(whole), word(headers.len())].concat();
    out.extend(crc32fast::hash(&out).to_be_bytes());
    out.extend([headers, payload].concat());
    out.extend(crc32fast::hash(&out).to_be_bytes());
    out
}

/// How Amazon says in a stream that it has failed.
pub(crate) fn exception(kind: &str, payload: &[u8]) -> Vec<u8> {
    const TEXT: u8 = 7;
    let header = |name: &str, value: &str| {
        let lengths = (u8::try_from(name.len()).expect("short"), u16::try_from(value.len()).expect("short"));
        [&[lengths.0], name.as_bytes(), &[TEXT], &lengths.1.to_be_bytes(), value.as_bytes()].concat()
    };
    let headers = [
        header(":exception-type", kind),
        header(":content-type", "application/json"),
        header(":message-type", "exception"),
    ];
    binary_frame(&headers.concat(), payload)
}
