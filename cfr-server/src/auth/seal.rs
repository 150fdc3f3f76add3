//! Ids of what providers keep, good for one caller only. The provider's own id stands in front, so that the operator finds
//! it in the provider's log; a proof behind it says for whom and where it was made. Nothing has to be remembered.

use cfr_core::gateway::IdSeal;
use cfr_core::ledger::CallerIds;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::Pepper;

/// What the key of the proofs is made for.
const PURPOSE: &str = "cfr: ids of what providers keep";
/// Bytes of a proof: nobody guesses one of 2^128.
const PROOF_BYTES: usize = 16;
/// Letters of a proof, with the `_` before it.
const PROOF_LETTERS: usize = 1 + 2 * PROOF_BYTES;

/// Proofs under a key that only this operator's servers have.
#[derive(Clone)]
pub struct OwnedIds(Hmac<Sha256>);

impl std::fmt::Debug for OwnedIds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OwnedIds([redacted])")
    }
}

impl OwnedIds {
    /// With a key of their own, made of the pepper: the same on every server that shares it.
    #[must_use]
    pub fn new(pepper: &Pepper) -> Option<Self> {
        Hmac::new_from_slice(&pepper.mac_of(PURPOSE).0).map(Self).ok()
    }

    /// What a user has is the user's, what a service key has is its tenant's. Lengths keep the parts apart.
    fn proof(&self, owner: &CallerIds, upstream: &str, id: &str) -> Hmac<Sha256> {
        let mut proof = self.0.clone();
        proof.update(&owner.tenant.to_bytes());
        proof.update(&[u8::from(owner.user.is_some())]);
        proof.update(&owner.user.map(cfr_core::id::UserId::to_bytes).unwrap_or_default());
        proof.update(&(upstream.len() as u64).to_be_bytes());
        proof.update(upstream.as_bytes());
        proof.update(id.as_bytes());
        proof
    }
}

impl IdSeal for OwnedIds {
    fn seal(&self, owner: &CallerIds, upstream: &str, id: &str) -> Box<str> {
        let proof = self.proof(owner, upstream, id).finalize().into_bytes();
        let letters = proof.iter().take(PROOF_BYTES).map(|byte| format!("{byte:02x}"));
        format!("{id}_{}", letters.collect::<String>()).into()
    }

    fn open<'a>(&self, owner: &CallerIds, upstream: &str, sealed: &'a str) -> Option<&'a str> {
        let (id, letters) = sealed.split_at_checked(sealed.len().checked_sub(PROOF_LETTERS)?)?;
        let proof = bytes_of(letters.strip_prefix('_')?)?;
        self.proof(owner, upstream, id).verify_truncated_left(&proof).is_ok().then_some(id)
    }
}

fn bytes_of(letters: &str) -> Option<[u8; PROOF_BYTES]> {
    let mut bytes = [0; PROOF_BYTES];
    for (byte, pair) in bytes.iter_mut().zip(letters.as_bytes().chunks(2)) {
        let digit = |letter: &u8| char::from(*letter).to_digit(16).filter(|_| !letter.is_ascii_uppercase());
        let [high, low] = pair else { return None };
        *byte = u8::try_from(digit(high)? * 16 + digit(low)?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use cfr_core::id::{KeyId, TenantId, UserId};
    use cfr_core::secret::Secret;

    use super::*;

    const ID: &str = "resp_67ccd2bed1ec8190b14f964abc054267";

    fn ids_under(pepper: &str) -> OwnedIds {
        let pepper = Pepper::new(&Secret::new(pepper.repeat(32))).expect("long enough");
        OwnedIds::new(&pepper).expect("a key")
    }

    fn owner(tenant: u128, user: Option<u128>) -> CallerIds {
        let (tenant, user) = (TenantId::from_u128(tenant), user.map(UserId::from_u128));
        CallerIds { tenant, user, key: None, product_version: None }
    }

    #[test]
    fn an_id_opens_for_its_owner_alone() {
        let (ids, ada) = (ids_under("a"), owner(1, Some(1)));
        let sealed = ids.seal(&ada, "openai", ID);
        assert!(sealed.starts_with(ID) && sealed.len() == ID.len() + PROOF_LETTERS, "{sealed}");
        let other_key = CallerIds { key: Some(KeyId::from_u128(9)), ..ada };
        for same in [ada, other_key] {
            assert_eq!(ids.open(&same, "openai", &sealed), Some(ID));
        }
        for other in [owner(1, Some(2)), owner(2, Some(1)), owner(1, None)] {
            assert_eq!(ids.open(&other, "openai", &sealed), None);
        }
        assert_eq!(ids.open(&ada, "azure", &sealed), None);
        assert_eq!(ids_under("b").open(&ada, "openai", &sealed), None);
    }

    #[test]
    fn what_was_changed_or_made_elsewhere_does_not_open() {
        let (ids, ada) = (ids_under("a"), owner(1, Some(1)));
        let sealed = ids.seal(&ada, "openai", ID);
        let changed = sealed.replacen("67cc", "67cd", 1);
        let upper = format!("{ID}{}", sealed[ID.len()..].to_ascii_uppercase());
        let moved = ids.seal(&ada, "open", &format!("ai{ID}"));
        for text in [
            ID,
            "",
            "_",
            &sealed[1..],
            &sealed[..sealed.len() - 1],
            &changed,
            &upper,
            &moved,
            "\u{e4}".repeat(40).as_str(),
        ] {
            assert_eq!(ids.open(&ada, "openai", text), None, "{text}");
        }
    }
}
