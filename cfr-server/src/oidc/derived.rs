//! The texts of codes and refresh tokens. None is kept: each is the id of a client's session with a proof under a secret
//! that is in no store, so that a copy of the database opens nothing, and the same successor can be given twice.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cfr_billing::oidc::ClientSession;
use cfr_core::id::ClientSessionId;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// What the secret is made for.
pub(super) const PURPOSE: &str = "cfr: codes and refresh tokens of OpenID Connect";

/// Makes and proves codes and refresh tokens.
#[derive(Clone)]
pub(crate) struct Derived(Hmac<Sha256>);

impl std::fmt::Debug for Derived {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Derived([redacted])")
    }
}

/// What somebody presents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Presented {
    /// The session that it names.
    pub(super) session: ClientSessionId,
    /// 0 for a code, else the number of the refresh token.
    pub(super) generation: i64,
    proof: Vec<u8>,
}

impl Derived {
    pub(crate) const fn new(secret: Hmac<Sha256>) -> Self {
        Self(secret)
    }

    /// The text of the code (0) or of a refresh token of a session.
    pub(super) fn text(&self, session: &ClientSession, generation: i64) -> String {
        let proof = self.proof(session, generation).finalize().into_bytes();
        format!("{}.{generation}.{}", session.id, URL_SAFE_NO_PAD.encode(proof))
    }

    /// Whether a presented text was made here for this session.
    pub(super) fn is_ours(&self, presented: &Presented, session: &ClientSession) -> bool {
        presented.session == session.id
            && self.proof(session, presented.generation).verify_slice(&presented.proof).is_ok()
    }

    /// A proof for texts that are no token, over parts that cannot run into each other.
    pub(crate) fn seal(&self, purpose: &str, parts: &[&str]) -> String {
        URL_SAFE_NO_PAD.encode(self.sealing(purpose, parts).finalize().into_bytes())
    }

    /// Whether a seal is over these parts.
    pub(crate) fn is_sealed(&self, purpose: &str, parts: &[&str], seal: &str) -> bool {
        let seal = URL_SAFE_NO_PAD.decode(seal).unwrap_or_default();
        self.sealing(purpose, parts).verify_slice(&seal).is_ok()
    }

    fn sealing(&self, purpose: &str, parts: &[&str]) -> Hmac<Sha256> {
        let mut hmac = self.0.clone();
        for part in std::iter::once(&purpose).chain(parts) {
            hmac.update(&(part.len() as u64).to_be_bytes());
            hmac.update(part.as_bytes());
        }
        hmac
    }

    fn proof(&self, session: &ClientSession, generation: i64) -> Hmac<Sha256> {
        self.sealing("token", &[&session.id.to_string(), &generation.to_string(), &session.salt])
    }
}

impl Presented {
    /// Reads a code or a refresh token; none of what cannot be one.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (session, rest) = text.split_once('.')?;
        let (generation, proof) = rest.split_once('.')?;
        let proof = URL_SAFE_NO_PAD.decode(proof).ok()?;
        Some(Self { session: session.parse().ok()?, generation: generation.parse().ok()?, proof })
    }
}
