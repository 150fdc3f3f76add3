//! Signatures of other providers, on their way through a client that knows Google's only.
//!
//! Google's clients keep `thoughtSignature`, base64 that means nothing to them, and send it back. A signature of
//! another provider travels there as base64 of a mark and of JSON, and is taken apart again when it comes back.

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use memchr::memmem;
use serde_json::{Value, json};

use crate::dialog::Seal;

/// What a signature that is not Google's begins with. Three letters are four of base64, so that the mark is seen in it.
const MARK: &str = "cfr:seal:";
/// The same in base64.
const MARK_BASE64: &str = "Y2ZyOnNlYWw6";

/// A signature for a client to keep.
pub(in crate::gemini) fn opaque(seal: &Seal) -> String {
    let object = match seal {
        Seal::Gemini(signature) => return signature.clone(),
        Seal::Anthropic(signature) => json!({"anthropic": signature}),
        Seal::AnthropicRedacted(data) => json!({"anthropic_redacted": data}),
        Seal::OpenAi { id, encrypted } => json!({"openai": id, "encrypted": encrypted}),
    };
    STANDARD.encode(format!("{MARK}{object}"))
}

/// The signature that a client kept. Google's SDKs write either alphabet of base64.
pub(super) fn of_opaque(kept: String) -> Seal {
    let bytes = STANDARD.decode(&kept).or_else(|_| URL_SAFE.decode(&kept)).unwrap_or_default();
    bytes.strip_prefix(MARK.as_bytes()).and_then(foreign).unwrap_or(Seal::Gemini(kept))
}

fn foreign(json: &[u8]) -> Option<Seal> {
    let object: Value = serde_json::from_slice(json).ok()?;
    let text = |name: &str| object.get(name).and_then(Value::as_str).map(str::to_owned);
    text("anthropic")
        .map(Seal::Anthropic)
        .or_else(|| text("anthropic_redacted").map(Seal::AnthropicRedacted))
        .or_else(|| Some(Seal::OpenAi { id: text("openai")?, encrypted: text("encrypted") }))
}

/// Where such signatures stand in a body, without their quotes. A text that only looks like one is none: the quotes in
/// it would be escaped.
pub(in crate::gemini) fn foreign_spans(body: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let finder = memmem::Finder::new(MARK_BASE64).into_owned();
    let starts: Vec<usize> = finder.find_iter(body).filter(|start| is_signature(&body[..*start])).collect();
    starts.into_iter().filter_map(|start| {
        let length = memchr::memchr(b'"', body.get(start..)?)?;
        Some(start..start + length)
    })
}

/// Whether a body up to here ends with the name of the member and the quote that opens its value.
fn is_signature(before: &[u8]) -> bool {
    let Some(name) = before.strip_suffix(b"\"") else { return false };
    let Some(name) = name.trim_ascii_end().strip_suffix(b":") else { return false };
    let name = name.trim_ascii_end();
    name.ends_with(b"\"thoughtSignature\"") || name.ends_with(b"\"thought_signature\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signature_survives_a_client_of_googles() {
        for seal in [
            Seal::Gemini("c2ln".into()),
            Seal::Anthropic("EqQ\u{e4}??>>".into()),
            Seal::AnthropicRedacted("data".into()),
            Seal::OpenAi { id: "rs_1".into(), encrypted: Some("gAAA".into()) },
            Seal::OpenAi { id: "rs_1".into(), encrypted: None },
        ] {
            let kept = opaque(&seal);
            assert_eq!(of_opaque(kept.clone()), seal);
            assert_eq!(of_opaque(kept.replace('+', "-").replace('/', "_")), seal);
        }
        assert_eq!(of_opaque("no base64".into()), Seal::Gemini("no base64".into()));
    }

    #[test]
    fn the_mark_is_seen_in_base64() {
        assert_eq!(STANDARD.encode(MARK), MARK_BASE64);
        let kept = opaque(&Seal::Anthropic("s".into()));
        for name in ["thoughtSignature", "thought_signature"] {
            let body = format!(r#"{{"{name}" : "{kept}","b":"x"}}"#);
            let spans: Vec<_> = foreign_spans(body.as_bytes()).collect();
            assert_eq!(spans.iter().map(|span| &body[span.clone()]).collect::<Vec<_>>(), [kept.as_str()]);
        }
        for text in [kept.clone(), format!(r#"\"thoughtSignature\":\"{kept}\""#)] {
            let body = format!(r#"{{"text":"{text}"}}"#);
            assert_eq!(foreign_spans(body.as_bytes()).count(), 0, "{body}");
        }
    }
}
