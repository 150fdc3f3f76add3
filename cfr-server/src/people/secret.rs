//! Random texts that somebody presents, and what is kept of them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cfr_billing::people::SecretHash;
use cfr_core::secret::Secret;
use sha2::{Digest as _, Sha256};

/// Random bytes of a session or a one-time token.
const RANDOM_BYTES: usize = 32;
/// Letters of their text: base64url without padding.
const TEXT_LETTERS: usize = 43;

/// A new secret of 256 random bits, and what is kept of it.
#[must_use]
pub fn generate() -> (Secret, SecretHash) {
    let text = URL_SAFE_NO_PAD.encode(rand::random::<[u8; RANDOM_BYTES]>());
    let hash = hash(&text);
    (Secret::new(text), hash)
}

/// What is kept of a presented text, if it can be one of ours.
#[must_use]
pub fn hash_of(text: &str) -> Option<SecretHash> {
    let ours = text.len() == TEXT_LETTERS
        && text.bytes().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, b'-' | b'_'));
    ours.then(|| hash(text))
}

/// SHA-256 is enough for what cannot be guessed.
pub(super) fn hash(text: &str) -> SecretHash {
    SecretHash(Sha256::digest(text.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_presented_hashes_to_what_is_kept() {
        let (text, kept) = generate();
        assert_eq!(hash_of(text.expose()), Some(kept));
        assert_ne!(generate().1, kept);
    }

    #[test]
    fn what_cannot_be_ours_is_not_looked_up() {
        let text = generate().0.expose().to_owned();
        for wrong in
            ["", &text[1..], &format!("{text}a"), &format!("{}\u{e4}", &text[2..]), &format!("{}=", &text[1..])]
        {
            assert_eq!(hash_of(wrong), None, "{wrong}");
        }
    }
}
