//! Subtitles out of the segments of a transcript.

use std::fmt::{self, Write};

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

/// A piece of a transcript, with when it was said.
#[derive(Debug, Deserialize)]
pub(super) struct Segment {
    pub(super) start: Millis,
    pub(super) end: Millis,
    pub(super) text: String,
}

/// A moment in thousandths of a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Millis(pub(super) u64);

/// `.srt`: numbered, with a comma before the thousandths.
pub(super) fn srt(segments: &[Segment]) -> String {
    let mut out = String::new();
    for (number, segment) in (1..).zip(segments) {
        let (start, end) = (segment.start.clock(','), segment.end.clock(','));
        let _ = write!(out, "{number}\n{start} --> {end}\n{}\n\n", segment.text.trim());
    }
    out
}

/// `.vtt`.
pub(super) fn vtt(segments: &[Segment]) -> String {
    let mut out = String::from("WEBVTT\n\n");
    for segment in segments {
        let (start, end) = (segment.start.clock('.'), segment.end.clock('.'));
        let text = segment.text.trim().replace("-->", "->"); // the arrow would be read as another time
        let _ = write!(out, "{start} --> {end}\n{text}\n\n");
    }
    out
}

impl Millis {
    fn clock(self, point: char) -> String {
        let (seconds, millis) = (self.0 / 1_000, self.0 % 1_000);
        let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
        format!("{hours:02}:{minutes:02}:{seconds:02}{point}{millis:03}")
    }
}

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seconds;
        impl Visitor<'_> for Seconds {
            type Value = Millis;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of seconds")
            }
            fn visit_u64<E: Error>(self, seconds: u64) -> Result<Millis, E> {
                Ok(Millis(seconds.saturating_mul(1_000)))
            }
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::float_arithmetic,
                reason = "a time of a subtitle, and no money; checked to be in range"
            )]
            fn visit_f64<E: Error>(self, seconds: f64) -> Result<Millis, E> {
                let millis = (seconds * 1_000.0).round().max(0.0);
                if millis < 9e15 { Ok(Millis(millis as u64)) } else { Err(E::custom("out of range")) }
            }
        }
        deserializer.deserialize_any(Seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments() -> Vec<Segment> {
        let json = r#"[{"start":0,"end":1.5,"text":" Hello there."},{"start":3661.0049,"end":3662,"text":"a --> b"}]"#;
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn subtitles_have_numbers_and_commas() {
        let expected = "1\n00:00:00,000 --> 00:00:01,500\nHello there.\n\n\
            2\n01:01:01,005 --> 01:01:02,000\na --> b\n\n";
        assert_eq!(srt(&segments()), expected);
    }

    #[test]
    fn web_subtitles_have_a_title_and_points() {
        let expected = "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nHello there.\n\n\
            01:01:01.005 --> 01:01:02.000\na -> b\n\n";
        assert_eq!(vtt(&segments()), expected);
    }
}
