//! The master key: 32 bytes that are in no database.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use cfr_core::secret::Secret;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::VaultError;
use super::sealed::Cipher;
use crate::files::{create_private, make_private_folder};

/// The variable that holds the master key, or several.
pub(crate) const VARIABLE: &str = "CFR_MASTER_KEY";
/// The variable that names a file with them.
pub(crate) const FILE_VARIABLE: &str = "CFR_MASTER_KEY_FILE";
/// The file in the data folder that keeps the master key when nobody says where it is.
pub(super) const FILE: &str = "master.key";
/// A text that is no secret: what it hashes to says which key it was.
const FINGERPRINT_OF: &[u8] = b"cfr: which master key is this?";
/// Bytes of a fingerprint that make an id.
const ID_BYTES: usize = 8;
/// Different bytes that 32 random ones have: fewer than this once in 10^16 times.
const DIFFERENT_BYTES_MIN: usize = 16;
/// Keys that are given at once: a new one, and old ones until all is wrapped anew.
const KEYS_MAX: usize = 8;

/// Where master keys come from.
#[derive(Debug, Clone)]
pub enum MasterKeySource {
    /// The environment.
    Variable(Secret),
    /// A file that the operator keeps. It is read again when a key is missing.
    File(PathBuf),
    /// The data folder, where a key is made when one is needed for the first time.
    Folder(PathBuf),
    /// The data folder, where none is made: other servers could not read what it seals.
    SharedFolder(PathBuf),
}

/// A key that wraps data keys.
#[derive(Debug)]
pub struct MasterKey {
    id: Box<str>,
    cipher: Cipher,
}

impl MasterKey {
    /// A fresh key as text.
    #[must_use]
    pub fn generate() -> Secret {
        Secret::new(hex(&*Zeroizing::new(rand::random::<[u8; 32]>())))
    }

    /// 64 hexadecimal digits, or base64 of 32 bytes.
    ///
    /// # Errors
    /// What is wrong with anything else, also when it was clearly not made by chance.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let bytes = bytes_of(text.trim()).ok_or("a master key is 32 bytes as 64 hexadecimal digits or in base64")?;
        if bytes.iter().collect::<BTreeSet<_>>().len() < DIFFERENT_BYTES_MIN {
            return Err("a master key that is not random protects nothing");
        }
        let mut fingerprint =
            <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(&*bytes).map_err(|_| "not a master key")?;
        fingerprint.update(FINGERPRINT_OF);
        let id = hex(&fingerprint.finalize().into_bytes()[..ID_BYTES]).into();
        Ok(Self { id, cipher: Cipher::new(&bytes) })
    }

    /// Tells keys apart without telling what they are.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(super) const fn cipher(&self) -> &Cipher {
        &self.cipher
    }
}

/// All master keys that are here: the first one wraps, each of them unwraps.
#[derive(Debug)]
pub(super) struct MasterKeys(Vec<MasterKey>);

impl MasterKeys {
    /// The keys of a source; none where nobody gave any.
    pub(super) fn read(source: &MasterKeySource) -> Result<Option<Self>, VaultError> {
        let text = match source {
            MasterKeySource::Variable(secret) => Zeroizing::new(secret.expose().to_owned()),
            MasterKeySource::File(path) => read_file(path)?,
            MasterKeySource::Folder(data) | MasterKeySource::SharedFolder(data) => match read_file(&data.join(FILE)) {
                Err(VaultError::File { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(None),
                read => read?,
            },
        };
        Self::parse(&text, &source.place()).map(Some)
    }

    /// Makes the key of a data folder, readable by its owner only.
    pub(super) fn create(data: &Path) -> Result<Self, VaultError> {
        let path = data.join(FILE);
        let text = MasterKey::generate();
        let made = make_private_folder(data).and_then(|()| create_private(&path));
        let written = made.and_then(|mut file| {
            file.write_all(text.expose().as_bytes())?;
            file.write_all(b"\n")?;
            file.sync_all()
        });
        written.map_err(|source| file_error(&path, source))?;
        tracing::info!(file = %path.display(), "made a master key; keep a copy apart from the database's");
        Self::parse(text.expose(), &path.display().to_string())
    }

    /// One or more, divided by commas, spaces or line ends.
    fn parse(text: &str, place: &str) -> Result<Self, VaultError> {
        let bad = |what| VaultError::BadMasterKey { place: place.into(), what };
        let words = text.split([',', ' ', '\t', '\r', '\n']).filter(|word| !word.is_empty());
        let keys = words.map(|word| MasterKey::parse(word).map_err(bad)).collect::<Result<Vec<_>, _>>()?;
        match keys.len() {
            0 => Err(bad("there is no master key in it")),
            1..=KEYS_MAX => Ok(Self(keys)),
            _ => Err(bad("more than eight master keys")),
        }
    }

    /// The one that wraps.
    pub(super) fn first(&self) -> Option<&MasterKey> {
        self.0.first()
    }

    /// The one with this id.
    pub(super) fn find(&self, id: &str) -> Option<&MasterKey> {
        self.0.iter().find(|key| key.id() == id)
    }

    pub(super) fn ids(&self) -> Vec<String> {
        self.0.iter().map(|key| key.id().to_owned()).collect()
    }
}

impl MasterKeySource {
    /// Where an operator looks for the keys.
    pub(super) fn place(&self) -> String {
        match self {
            Self::Variable(_) => VARIABLE.into(),
            Self::File(path) => path.display().to_string(),
            Self::Folder(data) | Self::SharedFolder(data) => data.join(FILE).display().to_string(),
        }
    }
}

fn read_file(path: &Path) -> Result<Zeroizing<String>, VaultError> {
    std::fs::read_to_string(path).map(Zeroizing::new).map_err(|source| file_error(path, source))
}

fn file_error(path: &Path, source: std::io::Error) -> VaultError {
    VaultError::File { path: path.display().to_string().into(), source }
}

fn bytes_of(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let bytes = match text.len() {
        64 => from_hex(text)?,
        _ => {
            let decode = |alphabet| GeneralPurpose::new(alphabet, lenient).decode(text).ok();
            Zeroizing::new(decode(&STANDARD).or_else(|| decode(&URL_SAFE))?)
        }
    };
    <[u8; 32]>::try_from(bytes.as_slice()).ok().map(Zeroizing::new)
}

fn from_hex(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let digits = text.bytes().map(|byte| char::from(byte).to_digit(16)).collect::<Option<Vec<_>>>()?;
    let (pairs, _) = digits.as_chunks::<2>();
    pairs.iter().map(|[high, low]| u8::try_from(high * 16 + low).ok()).collect::<Option<Vec<_>>>().map(Zeroizing::new)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_in_hexadecimal_and_in_base64() {
        let bytes: Vec<u8> = (200..232).collect();
        let id = |text: &str| MasterKey::parse(text).map(|key| key.id().to_owned());
        let expected = id(&hex(&bytes)).expect("64 digits");
        assert_eq!(expected.len(), 16);
        for text in [
            hex(&bytes).to_uppercase(),
            base64::engine::general_purpose::STANDARD.encode(&bytes),
            base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&bytes),
        ] {
            assert_eq!(id(&format!("{text}\n")).as_deref(), Ok(&*expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_key_or_not_random_is_refused_and_not_repeated() {
        let weak = "07".repeat(32);
        for text in ["", "short", &"g".repeat(64), &weak, &"a".repeat(65), "correct horse battery staple"] {
            let source = MasterKeySource::Variable(Secret::new(text));
            let refused = MasterKeys::read(&source).expect_err(text).to_string();
            assert!(refused.starts_with("CFR_MASTER_KEY: ") && refused.contains("secrets new-key"), "{refused}");
            assert!(text.is_empty() || !refused.contains(text), "{refused}");
        }
    }

    #[test]
    fn the_first_of_several_keys_wraps_and_all_are_known() {
        let (new, old) = (MasterKey::generate(), MasterKey::generate());
        let source = MasterKeySource::Variable(Secret::new(format!("{},{}\n", new.expose(), old.expose())));
        let keys = MasterKeys::read(&source).expect("good").expect("given");
        let id = |text: &Secret| MasterKey::parse(text.expose()).expect("good").id().to_owned();
        assert_eq!(keys.first().map(MasterKey::id), Some(&*id(&new)));
        assert!(keys.find(&id(&old)).is_some() && keys.find("0000000000000000").is_none());
    }

    #[test]
    fn the_key_of_a_folder_is_made_once_and_for_its_owner_alone() {
        let folder = tempfile::tempdir().expect("folder");
        let source = MasterKeySource::Folder(folder.path().into());
        assert!(MasterKeys::read(&source).expect("readable").is_none());
        let made = MasterKeys::create(folder.path()).expect("made");
        assert_eq!(MasterKeys::read(&source).expect("readable").expect("there").ids(), made.ids());
        MasterKeys::create(folder.path()).expect_err("the first one stays");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(folder.path().join(FILE)).expect("file").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }
}
