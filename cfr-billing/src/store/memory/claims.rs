//! [`ClaimStore`] over a map by subject and name.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use cfr_core::id::RequestId;
use cfr_core::time::Timestamp;

use super::MemoryStore;
use crate::store::StoreError;
use crate::store::claims::{Claim, ClaimStore, Claimed, KeptAnswer};

#[derive(Debug, Default)]
pub(super) struct Claims(HashMap<(Arc<str>, Arc<str>), Kept>);

/// A claim, and the answer once there is one.
type Kept = (Claim, Option<KeptAnswer>);

impl Claims {
    /// The claim, if its request still has the name.
    fn of(&mut self, claim: &Claim) -> Option<&mut (Claim, Option<KeptAnswer>)> {
        self.0.get_mut(&place(claim)).filter(|(known, _)| known.request == claim.request)
    }
}

fn place(claim: &Claim) -> (Arc<str>, Arc<str>) {
    (Arc::clone(&claim.subject), Arc::clone(&claim.key))
}

#[async_trait]
impl ClaimStore for MemoryStore {
    async fn claim_request(&self, claim: &Claim, instead_of: Option<RequestId>) -> Result<Claimed, StoreError> {
        let claims = &mut self.state().claims.0;
        let known = claims.get(&place(claim)).filter(|(known, answer)| {
            known.until > claim.at && !(answer.is_none() && instead_of == Some(known.request))
        });
        Ok(match known {
            Some((known, _)) if known.digest != claim.digest => Claimed::Other,
            Some((_, Some(answer))) => Claimed::Answered(answer.clone()),
            Some((known, None)) => Claimed::Running { request: known.request, since: known.at },
            None => {
                claims.insert(place(claim), (claim.clone(), None));
                Claimed::New
            }
        })
    }

    async fn answer_request(&self, claim: &Claim, answer: &KeptAnswer) -> Result<(), StoreError> {
        if let Some((_, kept)) = self.state().claims.of(claim) {
            *kept = Some(answer.clone());
        }
        Ok(())
    }

    async fn forget_request(&self, claim: &Claim) -> Result<(), StoreError> {
        let claims = &mut self.state().claims;
        if claims.of(claim).is_some_and(|(_, answer)| answer.is_none()) {
            claims.0.remove(&place(claim));
        }
        Ok(())
    }

    async fn forget_requests(&self, now: Timestamp) -> Result<u64, StoreError> {
        let claims = &mut self.state().claims.0;
        let before = claims.len();
        claims.retain(|_, (claim, _)| claim.until > now);
        Ok(before.saturating_sub(claims.len()) as u64)
    }
}
