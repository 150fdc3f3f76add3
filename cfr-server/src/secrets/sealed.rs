//! The text that stands for a secret: `v1.<master key>.<data key>.<nonce>.<sealed>`, nonce and sealed in base64.
//!
//! The data key is what opens it. The master key is the one under which the data key was then, for people who look at
//! backups: after a rotation another one wraps it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cfr_core::id::DataKeyId;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use zeroize::Zeroizing;

/// The format, and what it is sealed with.
const VERSION: &str = "v1";
/// Bytes of a nonce. Random ones of this size never meet.
const NONCE_BYTES: usize = 24;
/// The longest secret: a private key with its certificates fits.
pub const PLAIN_BYTES_MAX: usize = 64 * 1024;

/// Where a secret is kept. It opens nowhere else.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The table.
    pub table: &'static str,
    /// The id of the row.
    pub row: &'a str,
    /// The column.
    pub column: &'static str,
}

impl Place<'_> {
    /// What is authenticated beside the secret. The row comes last: only its text is not ours.
    fn aad(&self) -> Vec<u8> {
        format!("{VERSION}\0{}\0{}\0{}", self.table, self.column, self.row).into_bytes()
    }
}

/// A key that seals and opens. It is wiped from memory when it is dropped.
pub(super) struct Cipher(XChaCha20Poly1305);

impl std::fmt::Debug for Cipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cipher([redacted])")
    }
}

impl Cipher {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self(XChaCha20Poly1305::new(key.into()))
    }

    /// `<nonce>.<sealed>`; none for what is far too long.
    pub(super) fn seal(&self, place: Place<'_>, plain: &[u8]) -> Option<String> {
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let payload = Payload { msg: plain, aad: &place.aad() };
        let sealed = self.0.encrypt(&nonce.into(), payload).ok()?;
        Some(format!("{}.{}", URL_SAFE_NO_PAD.encode(nonce), URL_SAFE_NO_PAD.encode(sealed)))
    }

    /// What was sealed for this place with this key; none for anything else.
    pub(super) fn open(&self, place: Place<'_>, text: &str) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, sealed) = text.split_once('.')?;
        let nonce: [u8; NONCE_BYTES] = URL_SAFE_NO_PAD.decode(nonce).ok()?.try_into().ok()?;
        let sealed = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let payload = Payload { msg: &sealed, aad: &place.aad() };
        self.0.decrypt(&nonce.into(), payload).ok().map(Zeroizing::new)
    }
}

/// The text of a sealed secret, given `<nonce>.<sealed>`.
pub(super) fn format(master: &str, key: DataKeyId, sealed: &str) -> String {
    format!("{VERSION}.{master}.{key}.{sealed}")
}

/// The data key of such a text, and `<nonce>.<sealed>`.
pub(super) fn parse(text: &str) -> Option<(DataKeyId, &str)> {
    let (version, rest) = text.split_once('.')?;
    let (_master, rest) = rest.split_once('.')?;
    let (key, sealed) = rest.split_once('.')?;
    Some((key.parse().ok()?, sealed)).filter(|_| version == VERSION)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place<'_> = Place { table: "things", row: "thing_1", column: "secret" };

    #[test]
    fn a_secret_opens_with_its_key_at_its_place_and_nowhere_else() {
        let cipher = Cipher::new(&[7; 32]);
        let sealed = cipher.seal(PLACE, b"hunter2").expect("short");
        assert_eq!(cipher.open(PLACE, &sealed).expect("the same").as_slice(), b"hunter2");
        assert_ne!(cipher.seal(PLACE, b"hunter2").expect("short"), sealed, "nonces are fresh");
        for place in [
            Place { row: "thing_2", ..PLACE },
            Place { column: "other", ..PLACE },
            Place { table: "others", ..PLACE },
            Place { table: "things\0secret\0thing_1", column: "", row: "" },
        ] {
            assert!(cipher.open(place, &sealed).is_none(), "{place:?}");
        }
        assert!(Cipher::new(&[8; 32]).open(PLACE, &sealed).is_none());
    }

    #[test]
    fn no_changed_letter_opens() {
        let cipher = Cipher::new(&[7; 32]);
        let sealed = cipher.seal(PLACE, b"hunter2").expect("short");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).expect("ASCII");
            assert!(cipher.open(PLACE, &changed).is_none(), "{changed}");
            assert!(cipher.open(PLACE, &sealed[..at]).is_none());
        }
    }

    #[test]
    fn a_text_of_another_version_is_not_understood() {
        let id = DataKeyId::from_u128(5);
        let text = format("0123456789abcdef", id, "bm9uY2U.c2VhbGVk");
        assert_eq!(parse(&text), Some((id, "bm9uY2U.c2VhbGVk")));
        for other in [&text.replace("v1", "v2"), "", "v1", "v1.a.b.c.d", "sk-plain"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
