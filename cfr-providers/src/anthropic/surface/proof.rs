//! Proofs of other providers in the place of Anthropic's signature (providers.md §14): clients send back what they got, so
//! that a proof finds its way to the provider that gave it. Nobody else gets to see it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::dialog::Seal;

/// How every signature begins that is not Anthropic's.
const PREFIX: &str = "cfr1.";

/// What a signature proves.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// The thought that it stands on, if anything.
    Thought(Option<Seal>),
    /// The words or the call before the block that it stands on.
    Before(Seal),
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Sealed {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gemini: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    openai: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    encrypted: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    before: bool,
}

impl Sealed {
    fn of(seal: &Seal) -> Self {
        match seal {
            Seal::Gemini(proof) => Self { gemini: Some(proof.clone()), ..Self::default() },
            Seal::OpenAi { id, encrypted } => {
                Self { openai: Some(id.clone()), encrypted: encrypted.clone(), ..Self::default() }
            }
            _ => Self::default(),
        }
    }

    fn seal(self) -> Option<Seal> {
        let encrypted = self.encrypted;
        let openai = self.openai.map(|id| Seal::OpenAi { id, encrypted });
        self.gemini.map(Seal::Gemini).or(openai)
    }

    fn signature(&self) -> String {
        let json = serde_json::to_vec(self).unwrap_or_default();
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(json))
    }
}

/// The block that a thought with its proof is.
pub(super) fn thought(text: &str, seal: Option<&Seal>) -> Value {
    match seal {
        Some(Seal::AnthropicRedacted(data)) => json!({"type": "redacted_thinking", "data": data}),
        seal => json!({"type": "thinking", "thinking": text, "signature": signature(seal)}),
    }
}

/// The block that carries the proof of the words or the call before it.
pub(super) fn before(seal: &Seal) -> Value {
    let signature = Sealed { before: true, ..Sealed::of(seal) }.signature();
    json!({"type": "thinking", "thinking": "", "signature": signature})
}

/// The signature of a thought. Clients expect one, also where the provider gives none.
pub(super) fn signature(seal: Option<&Seal>) -> String {
    match seal {
        Some(Seal::Anthropic(signature)) => signature.clone(),
        Some(seal) => Sealed::of(seal).signature(),
        None => Sealed::default().signature(),
    }
}

/// What a signature proves that a client sent back.
pub(super) fn read(signature: String) -> Proof {
    let Some(sealed) = signature.strip_prefix(PREFIX) else {
        return Proof::Thought(Some(signature).filter(|signature| !signature.is_empty()).map(Seal::Anthropic));
    };
    let json = URL_SAFE_NO_PAD.decode(sealed).unwrap_or_default();
    let sealed: Sealed = serde_json::from_slice(&json).unwrap_or_default();
    match (sealed.before, sealed.seal()) {
        (true, Some(seal)) => Proof::Before(seal),
        (_, seal) => Proof::Thought(seal),
    }
}

/// The body without thoughts of other providers, which Anthropic would refuse; `None` where there are none.
pub(in crate::anthropic) fn strip_foreign(body: &Bytes) -> Option<Bytes> {
    memchr::memmem::find(body, format!("\"{PREFIX}").as_bytes())?;
    let mut value: Value = serde_json::from_slice(body).ok()?;
    let mut stripped = false;
    let messages = value.get_mut("messages").and_then(Value::as_array_mut)?;
    for content in messages.iter_mut().filter_map(|message| message.get_mut("content")?.as_array_mut()) {
        let blocks = content.len();
        content.retain(|block| !is_foreign(block));
        stripped |= content.len() < blocks;
    }
    // A turn of nothing but such thoughts is as good as none.
    messages
        .retain(|message| message.get("content").and_then(Value::as_array).is_none_or(|content| !content.is_empty()));
    stripped.then(|| value.to_string().into())
}

fn is_foreign(block: &Value) -> bool {
    let signature = block.get("signature").and_then(Value::as_str);
    block.get("type").and_then(Value::as_str) == Some("thinking")
        && signature.is_some_and(|signature| signature.starts_with(PREFIX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_comes_back_as_it_went() {
        let openai = Seal::OpenAi { id: "rs_1".into(), encrypted: Some("e".into()) };
        for seal in [Seal::Gemini("c2ln".into()), openai, Seal::Anthropic("EqQB==".into())] {
            assert_eq!(read(signature(Some(&seal))), Proof::Thought(Some(seal)));
        }
        assert_eq!(read(signature(None)), Proof::Thought(None));
        assert_eq!(read(String::new()), Proof::Thought(None));
        let seal = Seal::Gemini("c2ln".into());
        let block = before(&seal);
        assert_eq!(read(block["signature"].as_str().unwrap().into()), Proof::Before(seal));
    }

    #[test]
    fn a_broken_proof_proves_nothing() {
        for broken in ["cfr1.", "cfr1.?", "cfr1.e30x"] {
            assert_eq!(read(broken.into()), Proof::Thought(None));
        }
    }

    #[test]
    fn anthropic_does_not_see_the_thoughts_of_others() {
        let seal = Seal::Gemini("c2ln".into());
        let (foreign, own) = (thought("x", Some(&seal)), thought("y", Some(&Seal::Anthropic("EqQB".into()))));
        let turns = |first: &[&Value], second: &[&Value]| {
            let (first, second) = (first.to_vec(), second.to_vec());
            let mut messages = vec![json!({"role": "assistant", "content": first})];
            if !second.is_empty() {
                messages.push(json!({"role": "assistant", "content": second}));
            }
            Bytes::from(json!({"model": "m", "messages": messages, "max_tokens": 1}).to_string())
        };
        assert_eq!(strip_foreign(&turns(&[&foreign, &own], &[&foreign])), Some(turns(&[&own], &[])));
        assert_eq!(strip_foreign(&turns(&[&own], &[])), None);
        let said = Bytes::from_static(br#"{"messages":[{"role":"user","content":"\"cfr1."}]}"#);
        assert_eq!(strip_foreign(&said), None);
    }
}
