//! Proofs of other providers inside reasoning items: a client of Responses keeps such an item with its
//! `encrypted_content`, whatever that is, and sends it back.

use crate::dialog::Seal;

/// Begins the encrypted content that is ours; OpenAI's own never does.
const OURS: &str = "cfr.";

/// What a proof proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proven {
    /// The thought in its own item.
    Thought,
    /// The words or the call in the item before.
    Before,
}

/// The encrypted content that carries a proof.
pub(super) fn written(seal: &Seal, proven: Proven) -> Option<String> {
    let (vendor, proof) = match seal {
        Seal::OpenAi { encrypted, .. } => return encrypted.clone(),
        Seal::Anthropic(signature) => ("anthropic", signature),
        Seal::AnthropicRedacted(data) => ("redacted", data),
        Seal::Gemini(signature) => ("gemini", signature),
    };
    let place = if proven == Proven::Before { "before" } else { "thought" };
    Some(format!("{OURS}{place}.{vendor}.{proof}"))
}

/// The proof that an encrypted content carries, in an item with this id.
pub(super) fn read(id: &str, encrypted: String) -> (Seal, Proven) {
    let ours = encrypted.strip_prefix(OURS).and_then(parts);
    ours.unwrap_or_else(|| (Seal::OpenAi { id: id.to_owned(), encrypted: Some(encrypted) }, Proven::Thought))
}

fn parts(ours: &str) -> Option<(Seal, Proven)> {
    let (place, rest) = ours.split_once('.')?;
    let (vendor, proof) = rest.split_once('.')?;
    let proof = proof.to_owned();
    let seal = match vendor {
        "anthropic" => Seal::Anthropic(proof),
        "redacted" => Seal::AnthropicRedacted(proof),
        "gemini" => Seal::Gemini(proof),
        _ => return None,
    };
    Some((seal, if place == "before" { Proven::Before } else { Proven::Thought }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_comes_back_as_it_went() {
        for seal in [
            Seal::Anthropic("sig.with.dots".into()),
            Seal::AnthropicRedacted("data".into()),
            Seal::Gemini("c2ln".into()),
            Seal::OpenAi { id: "rs_1".into(), encrypted: Some("gAAAA".into()) },
        ] {
            let encrypted = written(&seal, Proven::Thought).unwrap();
            assert_eq!(read("rs_1", encrypted), (seal, Proven::Thought));
        }
        let encrypted = written(&Seal::Gemini("c2ln".into()), Proven::Before).unwrap();
        assert_eq!(read("rs_1", encrypted), (Seal::Gemini("c2ln".into()), Proven::Before));
    }
}
