//! Counting a prompt: let in and routed like a call, and free.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Caller, Gateway, GatewayError, Inner};
use crate::chat::Call;
use crate::chat::usage::tokens_estimated;
use crate::limit::RateState;
use crate::route::{Target, first_success};
use crate::upstream::{Order, Retry, TokenCount, UpstreamError};

/// How long to wait for a provider's count. Who asks for one wants to know before a call what the call will say anyway.
const COUNT_TIMEOUT: Duration = Duration::from_secs(30);

/// The tokens of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptCount {
    /// How many.
    pub tokens: u64,
    /// The provider's own answer, where it counted and the caller speaks its dialect.
    pub body: Option<Bytes>,
    /// Whether no provider counted: then it is our own estimate from the text of the call, which is the same for every
    /// model. It is no bound.
    pub estimated: bool,
    /// Where the caller stands with its rate limit.
    pub rate: Option<RateState>,
}

impl Gateway {
    /// Counts the prompt of a call that is not made. Nothing is held and nothing is charged; a provider that has no
    /// counter, or one that does not work, is replaced by an estimate.
    ///
    /// # Errors
    /// Whatever keeps the call itself from being made, its price apart, and a provider's refusal of the call.
    ///
    /// # Cancel safety
    /// Dropping the future aborts the request to the provider.
    pub async fn count(&self, caller: &Caller, call: Call) -> Result<PromptCount, GatewayError> {
        let gateway = &self.inner;
        let (call, keeper) = gateway.unseal(caller, gateway.run_pre_hooks(caller, call).await?)?;
        let permit = gateway.limits.admit(caller).await?;
        let offer = gateway.offer.load_full();
        let plan = gateway.plan(&offer, caller, &call, keeper.as_ref(), gateway.clock.now())?;
        let call = &call;
        let counted = match first_success(&plan, |target| async move { gateway.count_at(&target, call).await }).await {
            Ok((counted, _)) => counted,
            Err(failure) if failure.error.is_the_callers() => {
                return Err(GatewayError::Upstream { error: Box::new(failure.error), attempts: failure.attempts });
            }
            Err(failure) => {
                tracing::warn!(request = %call.id, error = %failure.error, "no provider counted: an estimate is given");
                None
            }
        };
        let estimated = counted.is_none();
        let TokenCount { tokens, body } = counted.unwrap_or_else(|| estimate(call));
        Ok(PromptCount { tokens, body, estimated, rate: permit.rate })
    }
}

impl Inner {
    /// Counters have limits of their own, so that what they say is no word about the target's health.
    async fn count_at(&self, target: &Arc<Target>, call: &Call) -> Result<Option<TokenCount>, UpstreamError> {
        let Some(upstream) = self.upstreams.load().get(&target.upstream).cloned() else { return Ok(None) };
        let timeout = self.config.header_timeout.min(COUNT_TIMEOUT);
        let order = Order { call, model: &target.model, output_tokens_max: None, timeout, idle_timeout: timeout };
        upstream.count(order).await
    }
}

impl UpstreamError {
    /// Whether only the caller can mend it.
    fn is_the_callers(&self) -> bool {
        self.retry() == Retry::Never || matches!(self, Self::Rejected { .. } | Self::Unsupported { .. })
    }
}

/// From the bytes of the call without its pictures.
fn estimate(call: &Call) -> TokenCount {
    let bytes = call.envelope.input.text_tokens.min(call.body.len() as u64);
    TokenCount { tokens: tokens_estimated(bytes), body: None }
}
