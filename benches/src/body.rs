//! Request bodies of a wanted size, and the wishes to the mock provider that they carry.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// The public model that every request asks for.
pub const MODEL: &str = "gpt-4o-mini";
/// The cap on answer tokens that every request carries.
pub const OUTPUT_TOKENS_MAX: u32 = 1_024;

/// How the mock provider shall answer. It travels in the body as the unknown field `mock`, which every proxy passes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// Milliseconds until the first byte.
    #[serde(default)]
    pub delay_ms: u64,
    /// Chunks of a stream.
    #[serde(default)]
    pub chunks: u32,
}

/// A chat request of about `bytes` bytes; streamed, with the usage chunk asked for, when `wish` has chunks.
///
/// # Errors
/// When the wish cannot be written as JSON.
pub fn chat(bytes: usize, wish: Wish) -> Result<String, serde_json::Error> {
    let stream = if wish.chunks > 0 { r#","stream":true,"stream_options":{"include_usage":true}"# } else { "" };
    let head = format!(
        r#"{{"model":"{MODEL}","max_tokens":{OUTPUT_TOKENS_MAX}{stream},"mock":{},"messages":[{{"role":"system","content":"You answer in one sentence."}}"#,
        serde_json::to_string(&wish)?
    );
    let mut body = head;
    let mut turn = 0_u32;
    while body.len() + 2 < bytes || turn == 0 {
        let role = if turn.is_multiple_of(2) { "user" } else { "assistant" };
        let room = bytes.saturating_sub(body.len() + 2 + 32).clamp(16, TURN_BYTES_MAX);
        let _ = write!(body, r#",{{"role":"{role}","content":"{}"}}"#, text(room, turn));
        turn += 1;
    }
    body.push_str("]}");
    Ok(body)
}

/// One message of a long conversation.
const TURN_BYTES_MAX: usize = 2_000;

/// Prose with what prose has: escaped line breaks and quotes, in words that differ from turn to turn.
fn text(bytes: usize, turn: u32) -> String {
    let mut text = String::with_capacity(bytes + 64);
    let mut line = 0_u32;
    while text.len() < bytes {
        let _ = write!(text, r#"In turn {turn} the \"customer\" of line {line} asked for the total of the month.\n"#);
        line += 1;
    }
    let mut end = bytes.min(text.len());
    while text.as_bytes()[end - 1] == b'\\' {
        end -= 1;
    }
    text.truncate(end);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_json_of_about_the_size_asked_for() {
        for bytes in [1_000, 4_000, 100_000] {
            let body = chat(bytes, Wish { delay_ms: 20, chunks: 3 }).expect("wishes are plain numbers");
            serde_json::from_str::<serde_json::Value>(&body).expect("a chat body is JSON");
            assert!(body.len().abs_diff(bytes) <= bytes / 10, "{} for {bytes}", body.len());
        }
    }
}
