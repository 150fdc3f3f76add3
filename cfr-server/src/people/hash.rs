//! Passwords as they are kept: argon2id in a PHC string. Hashes of PocketBase and others (bcrypt) are understood, and replaced
//! at the next sign-in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use cfr_core::secret::Secret;
use tokio::sync::Semaphore;

/// Memory of one hash: 19 MiB, as OWASP recommends for two passes.
const MEMORY_KIB: u32 = 19_456;
/// Passes over that memory.
const PASSES: u32 = 2;
/// Lanes.
const LANES: u32 = 1;
/// Hashes that are made at the same time: people who sign in must not starve the calls that the server is for.
const HASHES_AT_ONCE: usize = 2;
/// Hashes that wait for their turn. More than this take longer than anybody waits.
const HASHES_WAITING_MAX: usize = 64;
/// How hashes of bcrypt begin.
const BCRYPT: [&str; 3] = ["$2a$", "$2b$", "$2y$"];
/// What nobody's password is compared with: an argon2id hash of our parameters whose password nobody knows.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5IGhhcyBpdA$aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaY";

/// Why a password was not hashed or compared.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum HashError {
    /// Too many wait already.
    #[error("too many people sign in at this moment")]
    Busy,
    /// It cannot be done at all.
    #[error("a password cannot be hashed: {reason}")]
    Broken {
        /// For the log.
        reason: Box<str>,
    },
}

impl HashError {
    fn broken(reason: impl ToString) -> Self {
        Self::Broken { reason: reason.to_string().into() }
    }
}

/// What came of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    /// Another password.
    No,
    /// The password.
    Yes,
    /// The password, kept in a way that is not ours any more: hash it anew.
    Outdated,
}

impl Match {
    /// Whether it is the password.
    #[must_use]
    pub const fn is_match(self) -> bool {
        !matches!(self, Self::No)
    }
}

/// Hashes and compares passwords, a few at a time.
#[derive(Debug)]
pub struct Hasher {
    turns: Arc<Semaphore>,
    places: Arc<Semaphore>,
    made: AtomicU64,
}

impl Default for Hasher {
    fn default() -> Self {
        Self {
            turns: Arc::new(Semaphore::new(HASHES_AT_ONCE)),
            places: Arc::new(Semaphore::new(HASHES_AT_ONCE + HASHES_WAITING_MAX)),
            made: AtomicU64::new(0),
        }
    }
}

impl Hasher {
    /// Hashes a password that was [prepared](super::password::prepare).
    ///
    /// # Errors
    /// When too many wait, or it cannot be hashed.
    pub async fn hash(&self, password: &Secret) -> Result<Arc<str>, HashError> {
        let password = password.clone();
        self.work(move || hash(&password)).await
    }

    /// Compares a password with what is kept. Where nothing is kept, it takes the same time and is no match.
    ///
    /// # Errors
    /// When too many wait.
    pub async fn compare(&self, password: &Secret, kept: Option<Arc<str>>) -> Result<Match, HashError> {
        let password = password.clone();
        self.work(move || Ok(compare(&password, kept.as_deref()))).await
    }

    /// Comparisons and hashes so far: what tests count to see that nobody is answered with less work.
    pub fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// Works on a thread that may block. Work that has begun goes on when nobody waits for it any more, and keeps its turn.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, HashError> + Send + 'static,
    ) -> Result<T, HashError> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| HashError::Busy)?;
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(HashError::broken)?;
        self.made.fetch_add(1, Ordering::Relaxed);
        let done = tokio::task::spawn_blocking(move || {
            let _held = (place, turn);
            work()
        });
        done.await.map_err(HashError::broken)?
    }
}

fn argon2() -> Result<Argon2<'static>, HashError> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(HashError::broken)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn hash(password: &Secret) -> Result<Arc<str>, HashError> {
    let hash = argon2()?.hash_password(password.expose().as_bytes()).map_err(HashError::broken)?;
    Ok(hash.to_string().into())
}

fn compare(password: &Secret, kept: Option<&str>) -> Match {
    let bytes = password.expose().as_bytes();
    match kept {
        None => {
            let _never = matches_argon2(bytes, NOBODY);
            Match::No
        }
        Some(kept) if BCRYPT.iter().any(|version| kept.starts_with(version)) => {
            if bcrypt::verify(bytes, kept).unwrap_or(false) { Match::Outdated } else { Match::No }
        }
        Some(kept) => matches_argon2(bytes, kept),
    }
}

fn matches_argon2(password: &[u8], kept: &str) -> Match {
    let Ok(kept) = PasswordHash::new(kept) else { return Match::No };
    if Argon2::default().verify_password(password, &kept).is_err() {
        return Match::No;
    }
    if is_current(&kept) { Match::Yes } else { Match::Outdated }
}

fn is_current(kept: &PasswordHash) -> bool {
    let Ok(params) = Params::try_from(kept) else { return false };
    let cost = (params.m_cost(), params.t_cost(), params.p_cost());
    kept.algorithm.as_str() == Algorithm::Argon2id.as_str() && cost == (MEMORY_KIB, PASSES, LANES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text)
    }

    async fn check(password: &str, kept: Option<&str>, expected: Match) {
        let found = Hasher::default().compare(&secret(password), kept.map(Arc::from)).await;
        assert_eq!(found.ok(), Some(expected), "{kept:?}");
    }

    #[tokio::test]
    async fn a_password_matches_its_own_hash_only() {
        let hasher = Hasher::default();
        let kept = hasher.hash(&secret("correct horse battery")).await.expect("a hash");
        assert!(kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{kept}");
        assert_ne!(hasher.hash(&secret("correct horse battery")).await.expect("a hash"), kept, "salted");
        check("correct horse battery", Some(&kept), Match::Yes).await;
        check("correct horse batterz", Some(&kept), Match::No).await;
    }

    #[tokio::test]
    async fn hashes_of_bcrypt_and_of_other_parameters_match_and_are_outdated() {
        let bcrypt = bcrypt::hash("Tr0ub4dor&3", 4).expect("a hash");
        check("Tr0ub4dor&3", Some(&bcrypt), Match::Outdated).await;
        check("Tr0ub4dor&3", Some(&bcrypt.replacen("$2b$", "$2a$", 1)), Match::Outdated).await;
        check("another", Some(&bcrypt), Match::No).await;
        let params = Params::new(8, 1, 1, None).expect("cheap");
        let cheap = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let cheap = cheap.hash_password(b"Tr0ub4dor&3").expect("a hash").to_string();
        check("Tr0ub4dor&3", Some(&cheap), Match::Outdated).await;
    }

    #[tokio::test]
    async fn nobody_and_nonsense_are_compared_and_never_match() {
        for kept in [None, Some(NOBODY), Some(""), Some("$argon2id$broken"), Some("$2b$nonsense")] {
            check("anything", kept, Match::No).await;
        }
        assert!(PasswordHash::new(NOBODY).is_ok_and(|nobody| is_current(&nobody)), "as much work as a real one");
        let hasher = Hasher::default();
        let _ = hasher.compare(&secret("x"), None).await;
        assert_eq!(hasher.made(), 1);
    }
}
