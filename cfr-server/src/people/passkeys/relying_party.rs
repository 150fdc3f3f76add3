//! What the standard calls the relying party (WebAuthn level 3): it makes challenges, and judges what authenticators answer.
//!
//! Nothing is kept here: the state of a challenge goes out as JSON and comes back with the answer.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cfr_billing::identity::User;
use cfr_billing::people::Passkey;
use cfr_core::id::UserId;
use cfr_core::time::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use url::Url;
use webauthn_rs::prelude::{
    AuthenticationResult, DiscoverableAuthentication, Passkey as Key, PasskeyRegistration, PublicKeyCredential,
    RegisterPublicKeyCredential, Uuid, Webauthn, WebauthnBuilder, WebauthnError,
};

use super::CHALLENGE_LASTS;
use crate::oidc::Issuer;

/// Bytes of an authenticator's id for a key (WebAuthn level 3, §4, credential id).
const ID_BYTES_MAX: usize = 1_023;
/// What authenticators show.
const NAME: &str = "CloudFreedom Router";

/// Makes challenges and judges answers.
#[derive(Debug)]
pub(in crate::people) struct RelyingParty(Webauthn);

/// A challenge: what the browser gets, and what is kept to judge the answer.
#[derive(Debug)]
pub(super) struct Asked {
    /// The argument of `navigator.credentials`, with bytes as base64url.
    pub(super) options: Value,
    /// What is kept.
    pub(super) state: Value,
}

/// Why an answer is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mismatch {
    /// It is of no key that is known, for another challenge or site, or not signed by the key.
    Wrong,
    /// The counter of the key did not grow: somebody has a copy of the key.
    Copied,
}

/// How a key was kept that answered, in the words of RFC 8176.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// By one device that never hands it out.
    Hardware,
    /// By a service that copies it between devices.
    Synchronised,
}

impl Kept {
    pub(super) const fn method(self) -> &'static str {
        match self {
            Self::Hardware => "hwk",
            Self::Synchronised => "swk",
        }
    }
}

impl RelyingParty {
    /// The one at this address; none for an address without a name, to which no browser binds a key.
    pub(in crate::people) fn at(address: &Issuer) -> Option<Self> {
        let origin = Url::parse(address.as_str()).ok()?;
        let party = WebauthnBuilder::new(origin.domain()?, &origin).ok()?;
        party.rp_name(NAME).timeout(CHALLENGE_LASTS).build().ok().map(Self)
    }

    /// Asks for a new key, by an authenticator that has none of these.
    pub(super) fn ask_to_add(&self, user: &User, known: &[Passkey]) -> Result<Asked, WebauthnError> {
        let handle = Uuid::from_u128(user.id.as_u128());
        let known = known.iter().filter_map(|key| id_bytes(&key.id)).collect();
        let (options, state) = self.0.start_passkey_registration(handle, &user.email, &user.name, Some(known))?;
        let mut options = as_json(&options)?;
        // A key that its authenticator finds by itself signs in without a name; one that has no room still is a second factor.
        options["publicKey"]["authenticatorSelection"]["residentKey"] = "preferred".into();
        Ok(Asked { options, state: as_json(&state)? })
    }

    /// The key that an authenticator made.
    pub(super) fn added(
        &self,
        answer: &RegisterPublicKeyCredential,
        state: &Value,
        name: &str,
        now: Timestamp,
    ) -> Result<Passkey, Mismatch> {
        let state = from_json::<PasskeyRegistration>(state)?;
        let key = self.0.finish_passkey_registration(answer, &state).map_err(wrong)?;
        if key.cred_id().len() > ID_BYTES_MAX {
            return Err(Mismatch::Wrong);
        }
        let id = URL_SAFE_NO_PAD.encode(key.cred_id()).into();
        let credential = as_json(&key).map_err(wrong)?;
        Ok(Passkey { id, name: name.into(), credential, created_at: now, used_at: None })
    }

    /// Asks for an answer by one of these keys, or by whichever the authenticator finds for us.
    pub(super) fn ask(&self, keys: &[Passkey]) -> Result<Asked, WebauthnError> {
        let (mut options, state) = self.0.start_discoverable_authentication()?;
        options.mediation = None; // people press a button
        let mut options = as_json(&options)?;
        options["publicKey"]["allowCredentials"] =
            keys.iter().map(|key| json!({ "type": "public-key", "id": key.id })).collect();
        Ok(Asked { options, state: as_json(&state)? })
    }

    /// Judges an answer by the keys of the user who is meant, and notes in the one that answered that it did.
    pub(super) fn judge(
        &self,
        answer: &PublicKeyCredential,
        state: &Value,
        user: UserId,
        keys: &mut [Passkey],
        now: Timestamp,
    ) -> Result<Kept, Mismatch> {
        if owner(answer).is_some_and(|owner| owner != user) {
            return Err(Mismatch::Wrong);
        }
        let id = URL_SAFE_NO_PAD.encode(answer.get_credential_id());
        let kept = keys.iter_mut().find(|key| *key.id == *id).ok_or(Mismatch::Wrong)?;
        let mut key = from_json::<Key>(&kept.credential)?;
        let state = from_json::<DiscoverableAuthentication>(state)?;
        let judged = self.0.finish_discoverable_authentication_v2(answer, state, &key).map_err(mismatch)?;
        key.update_credential(&judged);
        kept.credential = as_json(&key).map_err(wrong)?;
        kept.used_at = Some(now);
        Ok(kept_by(&judged))
    }
}

/// Whose key it is, as the authenticator says; it says nothing of keys that it does not find by itself.
pub(super) fn owner(answer: &PublicKeyCredential) -> Option<UserId> {
    let handle = answer.get_user_unique_id()?;
    Some(UserId::from_u128(Uuid::from_slice(handle).ok()?.as_u128()))
}

fn kept_by(judged: &AuthenticationResult) -> Kept {
    if judged.backup_eligible() { Kept::Synchronised } else { Kept::Hardware }
}

fn id_bytes(id: &Arc<str>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(id.as_bytes()).ok()
}

fn as_json(value: &impl Serialize) -> Result<Value, WebauthnError> {
    Ok(serde_json::to_value(value)?)
}

fn from_json<T: DeserializeOwned>(value: &Value) -> Result<T, Mismatch> {
    T::deserialize(value).map_err(wrong)
}

/// What the library found goes into the log, for who runs the server; who answered learns nothing of it.
fn wrong(why: impl std::fmt::Display) -> Mismatch {
    tracing::info!(%why, "a passkey was refused");
    Mismatch::Wrong
}

fn mismatch(why: WebauthnError) -> Mismatch {
    match why {
        WebauthnError::CredentialPossibleCompromise => Mismatch::Copied,
        why => wrong(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_bound_to_names_and_not_to_numbers() {
        let at = |address| RelyingParty::at(&Issuer::parse(address).expect("an address")).is_some();
        assert!(at("https://ai.example.org") && at("http://localhost:4000"));
        assert!(!at("https://192.0.2.1") && !at("http://[::1]:4000"));
    }
}
