//! Calls that were answered before: the same answer again, with a hold, a settlement and a record of its own.

use std::sync::Arc;

use super::open_call::{Ending, OpenCall};
use super::quote::Quote;
use super::{Answer, Caller, Durability, GatewayError, Inner, Offer};
use crate::cache::{CacheKey, CachePolicy, CacheUse, CachedAnswer, ResponseCache};
use crate::chat::Call;
use crate::limit::Permit;
use crate::route::Target;
use crate::time::Timestamp;
use crate::upstream::{FinishReason, WholeReply};

/// The name of the upstream that answers for the cache, where one is needed.
const UPSTREAM: &str = "cache";

/// Answers are kept here, by this policy.
#[derive(Debug)]
pub(super) struct Caching {
    pub(super) answers: Arc<dyn ResponseCache>,
    pub(super) policy: CachePolicy,
}

/// What the cache knows of a call.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "made once per call and taken apart at once")]
pub(super) enum Lookup {
    /// Nothing: it is off for this call.
    Off,
    /// Nothing yet; the answer goes under this key.
    Miss(CacheKey),
    /// The answer.
    Hit(CachedAnswer),
}

impl Inner {
    /// Streams are not looked up: they leave as they come, and are nowhere put together.
    pub(super) async fn look_up(&self, offer: &Offer, caller: &Caller, call: &Call) -> Lookup {
        let Some(Caching { answers, policy }) = &self.caching else { return Lookup::Off };
        let name = &*call.envelope.model;
        // An answer of somebody's own account is not to be sold again.
        if offer.routes.own(caller.ids.tenant, name).is_some() {
            return Lookup::Off;
        }
        let on = !call.envelope.stream && call.cache != CacheUse::Off && policy.covers(caller.ids.tenant, name);
        let model = offer.routes.find(name).filter(|_| on);
        let Some(key) = model.and_then(|model| CacheKey::of(caller.ids.tenant, model, call)) else {
            return Lookup::Off;
        };
        let found = if call.cache == CacheUse::Refresh { None } else { answers.get(&key).await };
        found.map_or(Lookup::Miss(key), Lookup::Hit)
    }

    fn hit_percent(&self) -> u8 {
        self.caching.as_ref().map_or(0, |caching| caching.policy.price_percent)
    }
}

impl OpenCall {
    /// Gives an answer again.
    pub(super) async fn replay(
        gateway: &Arc<Inner>,
        offer: Arc<Offer>,
        caller: &Arc<Caller>,
        call: Call,
        found: CachedAnswer,
        permit: Permit,
        at: Timestamp,
    ) -> Result<Answer, GatewayError> {
        let quote = Quote::of_hit(&offer, caller, &call, found.cost, gateway.hit_percent(), at)?;
        let hold = gateway.hold(caller, &call, &quote).await?;
        let target = Arc::new(Target::new(UPSTREAM, found.provider, found.model));
        let mut open = Box::new(Self::begin(gateway, offer, caller, call, quote, hold, permit));
        open.replays(&target, found.usage, found.finish);
        if gateway.config.durability != Durability::Relaxed {
            open.take_hold_commit().await.map_err(|error| open.fail(error.into()))?;
        }
        let settled = open.close(Ending::Complete)?;
        let head = open.head(&target, Some(&settled));
        if gateway.config.ack_settle {
            settled.committed.await?;
        }
        Ok(Answer::Whole { head, content_type: found.content_type, body: found.body })
    }

    /// Keeps the answer for the next call like this one, when that is wanted and it is all that it could be.
    pub(super) fn keep(&self, target: &Target, reply: &WholeReply) {
        let (Some(key), Some(caching)) = (self.cache_key, &self.gateway.caching) else { return };
        if reply.body.len() > caching.policy.entry_bytes_max || !self.is_worth_keeping() {
            return;
        }
        let Some((usage, cost)) = self.used() else { return };
        let answer = CachedAnswer {
            content_type: reply.content_type.clone(),
            body: reply.body.clone(),
            provider: Arc::clone(&target.provider),
            model: Arc::clone(&target.model),
            usage,
            cost,
            finish: self.report.finish.clone(),
        };
        caching.answers.put(key, answer, caching.policy.keep);
    }

    /// An answer that our own cap may have cut short is not what a caller with more budget gets, and one that its provider
    /// keeps under an id is its caller's alone.
    fn is_worth_keeping(&self) -> bool {
        if self.report.kept_as.is_some() {
            return false;
        }
        let capped_by_us = self.output_tokens_max.is_some();
        match &self.report.finish {
            None | Some(FinishReason::Stop | FinishReason::ToolCalls) => {
                !capped_by_us || self.call.envelope.choices == 1
            }
            Some(FinishReason::Length) => !capped_by_us,
            Some(_) => false,
        }
    }
}
