//! The text of an API key: `cfr_live_`, 30 random digits and 6 digits of checksum, all base 62.
//!
//! 178 random bits need no slow hash. The checksum finds typing errors without a look-up and lets secret scanners tell a
//! real key from a look-alike. Keys of other gateways (`sk-…`) that were imported have no checksum.

use axum::http::HeaderMap;
use cfr_billing::identity::KeyKind;
use cfr_core::secret::Secret;
use http::header::AUTHORIZATION;

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// 30 digits of base 62 hold 178 bits.
const RANDOM_DIGITS: usize = 30;
/// 6 digits of base 62 hold more than 32 bits.
const CHECKSUM_DIGITS: usize = 6;
/// What every key of ours begins with.
const OURS: &str = "cfr_";
/// Characters of a key that are shown to recognise it: `cfr_live_` and three digits.
const PREFIX_SHOWN: usize = 12;
/// Imported keys shorter than this can be guessed.
const FOREIGN_BYTES_MIN: usize = 16;
/// No gateway's keys are longer.
const FOREIGN_BYTES_MAX: usize = 256;

/// A key's text that is well formed.
#[derive(Debug, Clone)]
pub struct KeyText(Secret);

impl KeyText {
    /// A new random key.
    #[must_use]
    pub fn generate(kind: KeyKind) -> Self {
        let mut text = format!("{OURS}{}_", kind_word(kind));
        for _ in 0..RANDOM_DIGITS {
            text.push(char::from(BASE62[rand::random_range(0..BASE62.len())]));
        }
        let sum = checksum(&text).map(char::from);
        text.extend(sum);
        Self(Secret::new(text))
    }

    /// Accepts keys of ours whose checksum is right, and keys of others that are long enough.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        is_well_formed(text).then(|| Self(Secret::new(text)))
    }

    /// The text itself, to show it once or to hash it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// The first characters, to recognise the key.
    #[must_use]
    pub fn prefix(&self) -> &str {
        let shown = PREFIX_SHOWN.min(self.expose().len() / 3);
        &self.expose()[..shown]
    }

    /// The last four characters, to recognise the key.
    #[must_use]
    pub fn last4(&self) -> &str {
        let text = self.expose();
        &text[text.len().saturating_sub(4)..]
    }
}

/// The word for a kind of key inside its text.
#[must_use]
pub const fn kind_word(kind: KeyKind) -> &'static str {
    match kind {
        KeyKind::Test => "test",
        KeyKind::Service => "svc",
        KeyKind::Admin => "adm",
        _ => "live",
    }
}

/// Headers in which clients of Anthropic, of Gemini, of Azure and of LiteLLM send their key.
const KEY_HEADERS: [&str; 4] = ["x-api-key", "x-goog-api-key", "api-key", "x-litellm-api-key"];

/// The key that a request presents: `Authorization: Bearer …`, else in a header of its own.
#[must_use]
pub fn presented(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    let bare = || KEY_HEADERS.iter().find_map(|name| headers.get(*name)?.to_str().ok());
    bearer.or_else(|| bare().map(str::trim))
}

/// Whether [`KeyText::parse`] takes the text; copies nothing.
pub(super) fn is_well_formed(text: &str) -> bool {
    if text.starts_with(OURS) { is_ours(text) } else { is_foreign(text) }
}

fn is_ours(text: &str) -> bool {
    let Some(rest) = ["live_", "test_", "svc_", "adm_"].iter().find_map(|word| text[OURS.len()..].strip_prefix(word))
    else {
        return false;
    };
    rest.len() == RANDOM_DIGITS + CHECKSUM_DIGITS && rest.bytes().all(|byte| byte.is_ascii_alphanumeric()) && {
        let (signed, sum) = text.split_at(text.len() - CHECKSUM_DIGITS);
        checksum(signed) == sum.as_bytes()
    }
}

/// Whether it may be a key of another gateway.
pub(super) fn is_foreign(text: &str) -> bool {
    (FOREIGN_BYTES_MIN..=FOREIGN_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn checksum(text: &str) -> [u8; CHECKSUM_DIGITS] {
    let mut rest = crc32fast::hash(text.as_bytes()) as usize;
    let mut digits = [0_u8; CHECKSUM_DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[rest % BASE62.len()];
        rest /= BASE62.len();
    }
    digits
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_generated_key_has_the_published_shape_and_parses() {
        for kind in [KeyKind::Live, KeyKind::Test, KeyKind::Service, KeyKind::Admin] {
            let key = KeyText::generate(kind);
            let word = format!("cfr_{}_", kind_word(kind));
            assert!(key.expose().starts_with(&word) && key.expose().len() == word.len() + 36);
            assert_eq!(
                KeyText::parse(key.expose()).map(|parsed| parsed.expose().to_owned()),
                Some(key.expose().to_owned())
            );
            assert_eq!(format!("{key:?}"), "KeyText([redacted])");
        }
    }

    #[test]
    fn one_wrong_character_is_found_without_a_look_up() {
        let key = KeyText::generate(KeyKind::Live).expose().to_owned();
        for place in 4..key.len() {
            let mut wrong = key.clone().into_bytes();
            wrong[place] = if wrong[place] == b'x' { b'y' } else { b'x' };
            assert!(KeyText::parse(std::str::from_utf8(&wrong).expect("ascii")).is_none(), "place {place}");
        }
    }

    #[test]
    fn keys_of_other_gateways_need_no_checksum_but_length() {
        assert!(KeyText::parse(&format!("sk-{}", "0f".repeat(32))).is_some());
        assert!(KeyText::parse("sk-short").is_none());
        assert!(KeyText::parse("sk-with a space inside").is_none());
        assert!(KeyText::parse("cfr_live_").is_none());
        assert!(KeyText::parse("cfr_ö").is_none());
    }

    #[test]
    fn a_key_comes_as_bearer_or_in_a_header_of_its_own() {
        let mut headers = HeaderMap::new();
        assert_eq!(presented(&headers), None);
        headers.insert("x-goog-api-key", HeaderValue::from_static("c"));
        assert_eq!(presented(&headers), Some("c"));
        headers.insert("x-api-key", HeaderValue::from_static("b"));
        assert_eq!(presented(&headers), Some("b"));
        headers.insert(AUTHORIZATION, HeaderValue::from_static("bearer a"));
        assert_eq!(presented(&headers), Some("a"));
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Basic a"));
        assert_eq!(presented(&headers), Some("b"));
    }
}
