//! The keys that sign tokens: made when they are needed, replaced every 90 days, sealed in the store.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cfr_billing::audit_log::Act;
use cfr_billing::oidc::SigningKey;
use cfr_billing::store::{OidcStore, StoreError};
use cfr_core::time::{Clock, Timestamp};
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rsa::pkcs1::EncodeRsaPrivateKey;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::secrets::{Place, Vault, VaultError};

/// The one algorithm that every client must understand (OpenID Connect Core 1.0 §15.1).
pub(super) const ALGORITHM: Algorithm = Algorithm::RS256;
/// Bits of a key.
const KEY_BITS: usize = 2048;
/// How long a key signs. The one before it stays published just as long, which is longer than any token lives.
const SIGNS_FOR: Duration = Duration::from_hours(90 * 24);
/// How long the keys are believed to be the newest.
const KNOWN_FOR: Duration = Duration::from_mins(5);
/// How soon an unknown key is looked for again: anybody can send tokens with invented ones.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Signs tokens, and proves that they were signed here.
#[derive(Debug)]
pub struct SigningKeys {
    store: Arc<dyn OidcStore>,
    vault: Arc<Vault>,
    clock: Arc<dyn Clock>,
    known: Mutex<Option<Arc<Ring>>>,
    /// One key is made at a time: it takes a processor for a while.
    making: tokio::sync::Mutex<()>,
}

/// The published keys, the newest first.
#[derive(Debug)]
struct Ring {
    keys: Vec<OpenKey>,
    /// In uptime.
    read_at: Duration,
}

struct OpenKey {
    kid: Arc<str>,
    created_at: Timestamp,
    private: EncodingKey,
    public: DecodingKey,
    jwk: Jwk,
}

impl std::fmt::Debug for OpenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// Why nothing is signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SigningError {
    /// The private key cannot be sealed or opened.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The keys cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The cryptography refuses.
    #[error("signing failed: {0}")]
    Crypto(Box<str>),
}

/// A token that was not signed here, or not for this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a token of ours")]
pub(crate) struct NotOurs;

impl SigningKeys {
    /// Keys of this store, which this vault seals.
    #[must_use]
    pub fn new(store: Arc<dyn OidcStore>, vault: Arc<Vault>, clock: Arc<dyn Clock>) -> Self {
        Self { store, vault, clock, known: Mutex::default(), making: tokio::sync::Mutex::default() }
    }

    /// Signs claims as a token of this type (`typ`).
    ///
    /// # Errors
    /// When there is no key and none can be made.
    pub(super) async fn sign(
        &self,
        typ: &'static str,
        claims: impl Serialize + Send + 'static,
    ) -> Result<String, SigningError> {
        let ring = self.signing_ring().await?;
        let signed = tokio::task::spawn_blocking(move || {
            let key = ring.keys.first().ok_or_else(|| crypto("no key"))?;
            let header = Header { typ: Some(typ.into()), kid: Some(key.kid.to_string()), ..Header::new(ALGORITHM) };
            jsonwebtoken::encode(&header, &claims, &key.private).map_err(crypto)
        });
        signed.await.map_err(crypto)?
    }

    /// What a token of this type says, if it was signed here for one of these audiences. Its end is not looked at.
    ///
    /// # Errors
    /// [`NotOurs`] inside when it was not; the outer error when the keys cannot be read.
    pub(crate) async fn verify<T: DeserializeOwned>(
        &self,
        token: &str,
        typ: &str,
        issuer: &str,
        audience: Option<&str>,
    ) -> Result<Result<T, NotOurs>, SigningError> {
        let Ok(header) = jsonwebtoken::decode_header(token) else { return Ok(Err(NotOurs)) };
        let (Some(kid), true) = (header.kid.as_deref(), header.typ.as_deref() == Some(typ)) else {
            return Ok(Err(NotOurs));
        };
        let Some((ring, place)) = self.ring_with(kid).await? else { return Ok(Err(NotOurs)) };
        let mut rules = Validation::new(ALGORITHM);
        rules.validate_exp = false; // by our own clock, by whoever asks
        rules.set_issuer(&[issuer]);
        rules.set_required_spec_claims(&["exp", "iss", "sub", "aud"]);
        match audience {
            Some(audience) => rules.set_audience(&[audience]),
            None => rules.validate_aud = false,
        }
        let key = ring.keys.get(place).map(|key| &key.public);
        let claims = key.and_then(|key| jsonwebtoken::decode(token, key, &rules).ok());
        Ok(claims.map(|data| data.claims).ok_or(NotOurs))
    }

    /// What everybody may know of the keys.
    ///
    /// # Errors
    /// When there is no key and none can be made.
    pub(super) async fn published(&self) -> Result<JwkSet, SigningError> {
        let ring = self.signing_ring().await?;
        Ok(JwkSet { keys: ring.keys.iter().map(|key| key.jwk.clone()).collect() })
    }

    /// Replaces the key that signs, whatever its age.
    ///
    /// # Errors
    /// When no key can be made.
    pub async fn rotate(&self) -> Result<(), SigningError> {
        let _one_at_a_time = self.making.lock().await;
        self.make().await?;
        self.read().await.map(drop)
    }

    /// The keys, of which the first may sign now.
    async fn signing_ring(&self) -> Result<Arc<Ring>, SigningError> {
        let ring = self.ring(KNOWN_FOR).await?;
        if self.may_sign(&ring) {
            return Ok(ring);
        }
        let _one_at_a_time = self.making.lock().await;
        let ring = self.read().await?;
        if self.may_sign(&ring) {
            return Ok(ring); // somebody else made it meanwhile
        }
        self.make().await?;
        self.read().await
    }

    fn may_sign(&self, ring: &Ring) -> bool {
        let age = |key: &OpenKey| self.clock.now().duration_since(key.created_at).unsigned_abs();
        ring.keys.first().is_some_and(|key| age(key) < SIGNS_FOR)
    }

    /// The keys and the place of the one with this name among them.
    async fn ring_with(&self, kid: &str) -> Result<Option<(Arc<Ring>, usize)>, SigningError> {
        let place = |ring: Arc<Ring>| Some((Arc::clone(&ring), ring.keys.iter().position(|key| &*key.kid == kid)?));
        match place(self.ring(KNOWN_FOR).await?) {
            Some(found) => Ok(Some(found)),
            None => Ok(place(self.ring(LOOK_AGAIN_AFTER).await?)), // another server may have made it
        }
    }

    /// The keys as they were at most this long ago.
    async fn ring(&self, ago: Duration) -> Result<Arc<Ring>, SigningError> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match known.filter(|ring| self.clock.uptime() < ring.read_at + ago) {
            Some(ring) => Ok(ring),
            None => self.read().await,
        }
    }

    async fn read(&self) -> Result<Arc<Ring>, SigningError> {
        let read_at = self.clock.uptime();
        let mut keys = Vec::new();
        for key in self.store.signing_keys().await? {
            keys.push(self.open(key).await?);
        }
        let ring = Arc::new(Ring { keys, read_at });
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&ring));
        Ok(ring)
    }

    async fn open(&self, key: SigningKey) -> Result<OpenKey, SigningError> {
        let private = self.vault.open(None, place(&key.kid), &key.private).await?;
        let jwk: Jwk = serde_json::from_value(key.public).map_err(crypto)?;
        let public = DecodingKey::from_jwk(&jwk).map_err(crypto)?;
        let private = EncodingKey::from_rsa_der(&private);
        Ok(OpenKey { kid: key.kid, created_at: key.created_at, private, public, jwk })
    }

    async fn make(&self) -> Result<(), SigningError> {
        let seq = self.newest().await?.saturating_add(1);
        let (der, jwk) = tokio::task::spawn_blocking(generate).await.map_err(crypto)??;
        let kid: Arc<str> = jwk.common.key_id.clone().unwrap_or_default().into();
        let private = self.vault.seal(None, place(&kid), &der).await?;
        let now = self.clock.now();
        let public = serde_json::to_value(&jwk).map_err(crypto)?;
        let key = SigningKey { seq, kid, public, private, created_at: now };
        match self.store.add_signing_key(&key, &Act::of_system(now)).await {
            Ok(()) | Err(StoreError::Conflict { .. }) => Ok(()), // another server was faster, and its key is as good
            Err(error) => Err(error.into()),
        }
    }

    async fn newest(&self) -> Result<i64, SigningError> {
        Ok(self.store.signing_keys().await?.first().map_or(0, |key| key.seq))
    }
}

/// A key, and what everybody may know of it. Its name is its thumbprint (RFC 7638).
fn generate() -> Result<(Zeroizing<Vec<u8>>, Jwk), SigningError> {
    let key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, KEY_BITS).map_err(crypto)?;
    let der = Zeroizing::new(key.to_pkcs1_der().map_err(crypto)?.as_bytes().to_vec());
    let mut jwk = Jwk::from_encoding_key(&EncodingKey::from_rsa_der(&der), ALGORITHM).map_err(crypto)?;
    jwk.common.key_id = Some(jwk.thumbprint(ThumbprintHash::SHA256).map_err(crypto)?);
    jwk.common.public_key_use = Some(PublicKeyUse::Signature);
    Ok((der, jwk))
}

/// Where the private part of a key is kept.
pub(crate) fn place(kid: &str) -> Place<'_> {
    Place { table: "signing_keys", row: kid, column: "private" }
}

fn crypto(error: impl ToString) -> SigningError {
    SigningError::Crypto(error.to_string().into())
}
