//! Conversations over an open connection. A session holds nothing: each of its responses is a call of its own, which is
//! let in, priced at its worst, held, and settled at its true price. Nothing is asked of the model before its hold is
//! durable.

use std::sync::Arc;
use std::time::Duration;

use super::open_call::{Ending, OpenCall};
use super::quote::Quote;
use super::{Caller, Durability, Gateway, GatewayError, Inner, Offer};
use crate::chat::{Call, EnvelopeError};
use crate::limit::Permit;
use crate::price::Mode;
use crate::route::{Plan, Target, first_success};
use crate::time::Timestamp;
use crate::upstream::{RealtimeOrder, RealtimeSocket, Report, UpstreamError};

/// A conversation with one model of one upstream. It takes a place among the caller's parallel requests for as long as it
/// lasts.
#[derive(Debug)]
pub struct RealtimeSession {
    gateway: Arc<Inner>,
    target: Arc<Target>,
    place: Permit,
}

/// A response that runs, with its hold. Dropping it settles what was delivered.
#[derive(Debug)]
pub struct RealtimeResponse {
    open: Box<OpenCall>,
    checkpoint_due: Duration,
}

impl Gateway {
    /// Connects a caller to a model; `opening` is the call that a first response would be. Nothing is held, and nothing runs
    /// at the provider yet.
    ///
    /// # Errors
    /// As [`Gateway::answer`], before anything is held.
    ///
    /// # Cancel safety
    /// Dropping the future closes what was opened.
    pub async fn connect(
        &self,
        caller: &Arc<Caller>,
        opening: &Call,
        event_bytes_max: usize,
    ) -> Result<(RealtimeSession, Box<dyn RealtimeSocket>), GatewayError> {
        let gateway = &self.inner;
        let place = gateway.limits.admit(caller).await?;
        let plan = gateway.realtime_plan(&gateway.offer.load(), caller, opening, gateway.clock.now())?;
        let connected = first_success(&plan, |target| async move {
            let socket = gateway.dial(&target, event_bytes_max).await;
            match &socket {
                Ok(_) => target.succeeded(),
                Err(error) => target.failed(error, gateway.clock.uptime()),
            }
            socket.map(|socket| (target, socket))
        });
        let failed = |failure: crate::route::Failure| GatewayError::Upstream {
            error: Box::new(failure.error),
            attempts: failure.attempts,
        };
        let ((target, socket), _) = connected.await.map_err(failed)?;
        Ok((RealtimeSession { gateway: Arc::clone(gateway), target, place }, socket))
    }
}

impl Inner {
    /// Who can hold the conversation: the model must be one that is priced for it.
    fn realtime_plan(&self, offer: &Offer, caller: &Caller, call: &Call, at: Timestamp) -> Result<Plan, GatewayError> {
        let mut plan = self.plan(offer, caller, call, None, at)?;
        plan.retain(|target| target.entry(&offer.prices, at).is_some_and(|entry| entry.mode() == Mode::Realtime));
        let other = || EnvelopeError::Field { param: "model", reason: "is no model of the realtime API".into() };
        if plan.is_empty() { Err(other().into()) } else { Ok(plan) }
    }

    async fn dial(&self, target: &Target, event_bytes_max: usize) -> Result<Box<dyn RealtimeSocket>, UpstreamError> {
        let Some(upstream) = self.upstreams.load().get(&target.upstream).cloned() else {
            return Err(UpstreamError::Unreachable { message: "no such upstream".into() });
        };
        let order = RealtimeOrder { model: &target.model, timeout: self.config.header_timeout, event_bytes_max };
        upstream.connect(order).await
    }
}

impl RealtimeSession {
    /// Who answers.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Lets a response in and holds its worst case. When this returns, the hold is durable and the response may be asked
    /// for, with the body and the cap of the answer.
    ///
    /// The place among the parallel requests is given up for a moment and taken again; a session that loses it to another
    /// request, or has no turn in this minute, is refused here and may try again. Whatever else refuses a response, the session
    /// keeps its place.
    ///
    /// # Errors
    /// As [`Gateway::answer`]; nothing is charged then, and the session goes on.
    ///
    /// # Cancel safety
    /// Dropping the future releases what was held.
    pub async fn respond(&mut self, caller: &Arc<Caller>, call: Call) -> Result<RealtimeResponse, GatewayError> {
        let gateway = &self.gateway;
        let call = gateway.run_pre_hooks(caller, call).await?;
        drop(std::mem::take(&mut self.place));
        self.place = gateway.limits.admit(caller).await?;
        let offer = gateway.offer.load_full();
        let at = gateway.clock.now();
        let mut plan = gateway.realtime_plan(&offer, caller, &call, at)?;
        let same = |target: &Target| target.upstream == self.target.upstream && target.model == self.target.model;
        plan.retain(|target| same(target));
        if plan.is_empty() {
            return Err(GatewayError::UnknownModel { model: call.envelope.model });
        }
        let quote = Quote::worst_case(&offer, &plan, caller, &call, &gateway.config, at)?;
        let hold = gateway.hold(caller, &call, &quote).await?;
        let place = std::mem::take(&mut self.place);
        let mut open = Box::new(OpenCall::begin(gateway, offer, caller, call, quote, hold, place));
        let committed = open.take_hold_commit();
        if gateway.config.durability != Durability::Relaxed
            && let Err(error) = committed.await
        {
            self.place = std::mem::take(&mut open.permit);
            return Err(open.fail(error.into()));
        }
        open.asks(&self.target);
        Ok(RealtimeResponse { checkpoint_due: gateway.config.checkpoint_every, open })
    }

    /// Settles a response that came to its end, and waits until that is durable.
    ///
    /// # Errors
    /// When the ledger cannot settle.
    pub async fn complete(&mut self, mut response: RealtimeResponse) -> Result<(), GatewayError> {
        let settled = response.open.close(Ending::Complete)?;
        self.place = std::mem::take(&mut response.open.permit);
        if self.gateway.config.ack_settle {
            settled.committed.await?;
        }
        Ok(())
    }

    /// Settles a response that the provider refused or broke off: what was delivered is charged.
    pub fn fail(&mut self, mut response: RealtimeResponse, error: &UpstreamError) {
        response.open.close_failed(error);
        self.place = std::mem::take(&mut response.open.permit);
    }
}

impl RealtimeResponse {
    /// The call as hooks left it.
    #[must_use]
    pub fn call(&self) -> &Call {
        &self.open.call
    }

    /// The cap on answer tokens that must be set because the caller set none.
    #[must_use]
    pub fn output_tokens_max(&self) -> Option<u64> {
        self.open.output_tokens_max
    }

    /// The provider began to answer, under this id.
    pub fn began(&mut self, id: Option<Box<str>>) {
        self.open.answered(id, Vec::new());
    }

    /// Takes in what a piece of the answer says.
    pub fn note(&mut self, report: Report) {
        self.open.note(report);
        let elapsed = self.open.elapsed();
        if elapsed >= self.checkpoint_due {
            self.checkpoint_due = elapsed + self.open.gateway.config.checkpoint_every;
            self.open.checkpoint();
        }
    }

    /// How long the hold may still last.
    #[must_use]
    pub fn time_left(&self) -> Duration {
        self.open.time_left()
    }
}
