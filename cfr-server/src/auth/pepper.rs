//! The server's secret under which keys are hashed: without it, a stolen database opens nothing.

use std::io::Write;
use std::path::Path;

use cfr_billing::identity::KeyMac;
use cfr_core::secret::Secret;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};

use super::KeyText;
use crate::files::{create_private, make_private_folder};

/// The file in the data folder that keeps the pepper when the environment names none.
const FILE: &str = "key.pepper";
/// A text that is no key: what it hashes to says which pepper it was.
const FINGERPRINT_OF: &str = "cfr: which pepper is this?";
/// Fewer bytes can be guessed.
const BYTES_MIN: usize = 32;

/// Why there is no pepper.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PepperError {
    /// Too short to be secret.
    #[error("the key pepper has fewer than {BYTES_MIN} bytes")]
    TooShort,
    /// Other processes that share the database hash with one that is not here.
    #[error(
        "the keys in this database are hashed with a pepper that this machine does not have; set CFR_KEY_PEPPER to the \
         content of {FILE} in the data folder of the first server, or copy that file into {folder}"
    )]
    Elsewhere {
        /// Our data folder.
        folder: Box<str>,
    },
    /// Other processes that share the database hash with another one.
    #[error(
        "the keys in this database are hashed with another pepper than that of {place}; set CFR_KEY_PEPPER to the content \
         of {FILE} in the data folder of the first server"
    )]
    Another {
        /// Where ours comes from.
        place: Box<str>,
    },
    /// The file in the data folder cannot be read or written.
    #[error("cannot read or write {path}: {source}")]
    File {
        /// The file.
        path: Box<str>,
        /// Why.
        source: std::io::Error,
    },
}

impl PepperError {
    fn file(path: &Path, source: std::io::Error) -> Self {
        Self::File { path: path.display().to_string().into(), source }
    }
}

/// What processes that share a database compare, instead of the pepper itself.
pub(crate) type Fingerprint = [u8; 32];

/// Hashes keys. HMAC-SHA256 with the key schedule done once.
#[derive(Clone)]
pub struct Pepper(Hmac<Sha256>);

impl std::fmt::Debug for Pepper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pepper([redacted])")
    }
}

impl Pepper {
    /// The pepper with these bytes.
    ///
    /// # Errors
    /// When it is too short.
    pub fn new(secret: &Secret) -> Result<Self, PepperError> {
        let bytes = secret.expose().trim().as_bytes();
        if bytes.len() < BYTES_MIN {
            return Err(PepperError::TooShort);
        }
        Hmac::new_from_slice(bytes).map(Self).map_err(|_| PepperError::TooShort)
    }

    /// The pepper of a data folder, made at the first start and readable by its owner only.
    ///
    /// # Errors
    /// When the file cannot be read or written, or is too short.
    pub fn load_or_create(data: &Path) -> Result<Self, PepperError> {
        if let Some(pepper) = Self::load(data)? {
            return Ok(pepper);
        }
        let path = data.join(FILE);
        let secret = Secret::new(random_hex());
        let written = make_private_folder(data).and_then(|()| create_private(&path));
        written
            .and_then(|mut file| file.write_all(secret.expose().as_bytes()))
            .map_err(|source| PepperError::file(&path, source))?;
        Self::new(&secret)
    }

    /// The pepper of a data folder that has one.
    ///
    /// # Errors
    /// When the file cannot be read, or is too short.
    pub fn load(data: &Path) -> Result<Option<Self>, PepperError> {
        let path = data.join(FILE);
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::new(&Secret::new(text)).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(PepperError::file(&path, error)),
        }
    }

    /// Tells peppers apart without telling what they are.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.mac_of(FINGERPRINT_OF).0
    }

    /// What is stored of a key.
    #[must_use]
    pub fn mac(&self, key: &KeyText) -> KeyMac {
        self.mac_of(key.expose())
    }

    /// A secret of its own for one purpose: the same on every server that shares the pepper.
    pub(super) fn for_purpose(&self, purpose: &'static str) -> Option<Hmac<Sha256>> {
        Hmac::new_from_slice(&self.mac_of(purpose).0).ok()
    }

    /// What is stored of a key of which another gateway kept its SHA-256 only. No text of a key has a space, so that nobody
    /// who knows the SHA-256 can present it as a key.
    pub(super) fn mac_of_digest(&self, digest: &Sha256Digest) -> KeyMac {
        let mut hmac = self.0.clone();
        hmac.update(b"sha256 ");
        hmac.update(&digest.0);
        KeyMac(hmac.finalize().into_bytes().into())
    }

    /// The same of a text that was found to be well formed, without a copy of it.
    pub(super) fn mac_of(&self, text: &str) -> KeyMac {
        let mut hmac = self.0.clone();
        hmac.update(text.as_bytes());
        KeyMac(hmac.finalize().into_bytes().into())
    }
}

/// SHA-256 of a key's text: what LiteLLM keeps of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sha256Digest([u8; 32]);

impl std::fmt::Debug for Sha256Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sha256Digest([redacted])")
    }
}

impl Sha256Digest {
    /// Of a key's text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }

    /// As 64 hexadecimal digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != 32 || !rest.is_empty() {
            return None;
        }
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(pairs) {
            let digit = |letter: u8| char::from(letter).to_digit(16);
            *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
        }
        Some(Self(digest))
    }
}

fn random_hex() -> String {
    rand::random::<[u8; 32]>().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_folder_gives_the_same_pepper_and_keeps_it_private() {
        let folder = tempfile::tempdir().expect("folder");
        let key = KeyText::parse("sk-0123456789abcdef").expect("well formed");
        let first = Pepper::load_or_create(folder.path()).expect("made").mac(&key);
        assert_eq!(Pepper::load_or_create(folder.path()).expect("read").mac(&key), first);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(folder.path().join(FILE)).expect("file").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn another_pepper_gives_another_mac() {
        let key = KeyText::parse("sk-0123456789abcdef").expect("well formed");
        let mac = |text: &str| Pepper::new(&Secret::new(text.repeat(32))).expect("long enough").mac(&key);
        assert_ne!(mac("a"), mac("b"));
        assert!(matches!(Pepper::new(&Secret::new("short")), Err(PepperError::TooShort)));
    }
}
