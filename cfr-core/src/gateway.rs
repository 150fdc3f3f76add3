//! The whole request on one screen: [`Gateway::answer`].
//!
//! A call is let in, routed, priced at its worst, held against every budget of the caller, sent, and settled at its true
//! price. Each step is a room of its own; this file is the way through them.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::HeaderValue;

use crate::cache::{CacheOutcome, CachePolicy, ResponseCache};
use crate::chat::Call;
use crate::hook::{PostHook, PreHook, StreamHook, Verdict};
use crate::ledger::{BudgetLedger, Hold, HoldRequest};
use crate::limit::{LimitExceeded, Permit, RateLimiter, RateLimits, RateState};
use crate::money::{FxRate, Money};
use crate::price::PriceTable;
use crate::route::{self, Failure, Model, Plan, Routes, Target, first_success};
use crate::time::{Clock, Timestamp};
use crate::upstream::{Order, Reply, StreamReply, UpstreamError, Upstreams, WholeReply};

mod batch;
mod cached;
mod caller;
mod count;
mod error;
mod open_call;
mod quote;
mod realtime;
mod stored;
mod stream;

pub use batch::AdmittedLine;
pub(crate) use caller::covers;
pub use caller::{Caller, ModelAccess};
pub use count::PromptCount;
pub use error::{BudgetExceeded, GatewayError};
pub use realtime::{RealtimeResponse, RealtimeSession};
pub use stored::{IdSeal, Stored, StoredRequest};
pub use stream::AnswerStream;

use cached::{Caching, Lookup};
use open_call::{Ending, OpenCall};
use quote::Quote;
use stored::Keeper;

/// What waits for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// The upstream call starts while the hold is made durable; no byte of the answer leaves before it is.
    #[default]
    Overlap,
    /// The upstream call starts after the hold is durable.
    Strict,
    /// Nothing waits. A crash may forget the holds of the last moments.
    Relaxed,
}

/// How a gateway behaves.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// What waits for the hold.
    pub durability: Durability,
    /// Whether the last byte of an answer waits until its charge is durable.
    pub ack_settle: bool,
    /// The longest that a request may take; then its upstream call is cut.
    pub hold_max: Duration,
    /// How long to wait for an upstream's status line.
    pub header_timeout: Duration,
    /// How long a stream may be silent. Reasoning models think for minutes.
    pub idle_timeout: Duration,
    /// How often a running stream notes what it delivered, for a charge by evidence after a crash.
    pub checkpoint_every: Duration,
    /// Below this many answer tokens a call is refused rather than shortened to what the budget affords.
    pub output_tokens_min: u64,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            durability: Durability::Overlap,
            ack_settle: true,
            hold_max: Duration::from_secs(3_600),
            header_timeout: Duration::from_secs(600),
            idle_timeout: Duration::from_secs(600),
            checkpoint_every: Duration::from_secs(5),
            output_tokens_min: 256,
        }
    }
}

/// What may change while a gateway runs: one value, swapped whole.
#[derive(Debug, Clone)]
pub struct Offer {
    /// Public models and who answers for them.
    pub routes: Arc<Routes>,
    /// What providers charge.
    pub prices: Arc<PriceTable>,
    /// Rates for the currencies of budgets.
    pub fx: Arc<[FxRate]>,
}

impl Offer {
    fn has_price(&self, target: &Target, at: Timestamp) -> bool {
        target.entry(&self.prices, at).is_some()
    }
}

/// An LLM gateway with hard budgets. Cheap to clone; share it.
#[derive(Debug, Clone)]
pub struct Gateway {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: GatewayConfig,
    offer: ArcSwap<Offer>,
    upstreams: ArcSwap<Upstreams>,
    ledger: Arc<dyn BudgetLedger>,
    limits: Limits,
    caching: Option<Caching>,
    seal: Option<Arc<dyn IdSeal>>,
    clock: Arc<dyn Clock>,
    pre_hooks: Vec<Arc<dyn PreHook>>,
    post_hooks: Vec<Arc<dyn PostHook>>,
    stream_hooks: Vec<Arc<dyn StreamHook>>,
}

/// Who lets requests in. The usual limiter costs no allocation.
#[derive(Debug)]
enum Limits {
    Memory(RateLimits),
    Other(Arc<dyn RateLimiter>),
}

impl Limits {
    async fn admit(&self, caller: &Caller) -> Result<Permit, LimitExceeded> {
        match self {
            _ if caller.limits.is_empty() => Ok(Permit::default()),
            Self::Memory(limits) => limits.admit(&caller.limits),
            Self::Other(limiter) => limiter.admit(&caller.limits).await,
        }
    }
}

/// Puts a [`Gateway`] together.
#[derive(Debug)]
pub struct GatewayBuilder(Inner);

impl GatewayBuilder {
    /// Behaves otherwise than by default.
    #[must_use]
    pub fn config(mut self, config: GatewayConfig) -> Self {
        self.0.config = config;
        self
    }

    /// Adds an upstream under the name that targets use.
    #[must_use]
    pub fn upstream(self, name: impl Into<Arc<str>>, upstream: Arc<dyn crate::Upstream>) -> Self {
        let mut upstreams = Upstreams::clone(&self.0.upstreams.load());
        upstreams.insert(name.into(), upstream);
        self.0.upstreams.store(Arc::new(upstreams));
        self
    }

    /// Adds a hook that runs before planning, after those added before.
    #[must_use]
    pub fn pre_hook(mut self, hook: Arc<dyn PreHook>) -> Self {
        self.0.pre_hooks.push(hook);
        self
    }

    /// Adds a hook that sees the record of every call.
    #[must_use]
    pub fn post_hook(mut self, hook: Arc<dyn PostHook>) -> Self {
        self.0.post_hooks.push(hook);
        self
    }

    /// Adds a hook that sees streamed answers.
    #[must_use]
    pub fn stream_hook(mut self, hook: Arc<dyn StreamHook>) -> Self {
        self.0.stream_hooks.push(hook);
        self
    }

    /// Lets requests in through this limiter; through [`RateLimits`] of its own without one.
    #[must_use]
    pub fn rate_limiter(mut self, limiter: Arc<dyn RateLimiter>) -> Self {
        self.0.limits = Limits::Other(limiter);
        self
    }

    /// Keeps answers here by this policy; without it none is kept.
    #[must_use]
    pub fn response_cache(mut self, answers: Arc<dyn ResponseCache>, policy: CachePolicy) -> Self {
        self.0.caching = Some(Caching { answers, policy });
        self
    }

    /// Makes ids of what providers keep good for their owners alone. Without it providers' own ids pass as they are, which
    /// is for callers who trust each other.
    #[must_use]
    pub fn id_seal(mut self, seal: Arc<dyn IdSeal>) -> Self {
        self.0.seal = Some(seal);
        self
    }

    /// The gateway.
    #[must_use]
    pub fn build(self) -> Gateway {
        Gateway { inner: Arc::new(self.0) }
    }
}

/// A call with whoever makes it: the request type of the [`tower::Service`].
#[derive(Debug, Clone)]
pub struct GatewayRequest {
    /// Who calls.
    pub caller: Arc<Caller>,
    /// What is asked.
    pub call: Call,
}

/// A successful answer in the caller's dialect.
#[derive(Debug)]
#[non_exhaustive]
pub enum Answer {
    /// Complete and settled.
    Whole {
        /// What is known of it.
        head: AnswerHead,
        /// The media type of `body`.
        content_type: HeaderValue,
        /// The body.
        body: Bytes,
    },
    /// To be read as it comes; dropping it settles what was delivered.
    Stream {
        /// What is known of it.
        head: AnswerHead,
        /// Wire bytes in the caller's dialect.
        body: AnswerStream,
    },
}

/// What is known of an answer when its first byte leaves.
#[derive(Debug, Clone)]
pub struct AnswerHead {
    /// Who answers, by the name of its prices.
    pub provider: Arc<str>,
    /// The upstream's name of the model.
    pub model: Arc<str>,
    /// The provider's id of the request.
    pub upstream_id: Option<Box<str>>,
    /// The cap on answer tokens that was set because the caller sent none.
    pub output_tokens_max_applied: Option<u64>,
    /// Where the caller stands with its rate limit.
    pub rate: Option<RateState>,
    /// What was charged; known for a whole answer.
    pub charged: Option<Money>,
    /// What the tightest budget has left beside this call.
    pub available: Money,
    /// What the response cache did; none when it is off for this call.
    pub cache: Option<CacheOutcome>,
    /// Fields of the call that were left out because the provider has no words for them.
    pub dropped: Vec<Box<str>>,
}

impl Gateway {
    /// Begins to put a gateway together over a ledger and what it offers.
    #[must_use]
    pub fn builder(ledger: Arc<dyn BudgetLedger>, offer: Offer, clock: Arc<dyn Clock>) -> GatewayBuilder {
        GatewayBuilder(Inner {
            config: GatewayConfig::default(),
            offer: ArcSwap::from_pointee(offer),
            upstreams: ArcSwap::default(),
            ledger,
            limits: Limits::Memory(RateLimits::new(Arc::clone(&clock))),
            caching: None,
            seal: None,
            clock,
            pre_hooks: Vec::new(),
            post_hooks: Vec::new(),
            stream_hooks: Vec::new(),
        })
    }

    /// What it offers now.
    #[must_use]
    pub fn offer(&self) -> Arc<Offer> {
        self.inner.offer.load_full()
    }

    /// Offers something else from the next request on; running ones keep what they began with.
    pub fn set_offer(&self, offer: Offer) {
        self.inner.offer.store(Arc::new(offer));
    }

    /// Calls these upstreams from the next attempt on: before an offer that names a new one, after one that names an old
    /// one no longer. A call whose upstream is gone goes on to its next target.
    pub fn set_upstreams(&self, upstreams: Upstreams) {
        self.inner.upstreams.store(Arc::new(upstreams));
    }

    /// The ledger behind it.
    #[must_use]
    pub fn ledger(&self) -> &Arc<dyn BudgetLedger> {
        &self.inner.ledger
    }

    /// The models that a caller may use and that have a price, by name.
    #[must_use]
    pub fn models(&self, caller: &Caller) -> Vec<Arc<Model>> {
        let offer = self.inner.offer.load();
        let now = self.inner.clock.now();
        let priced = |target: &Arc<Target>| offer.has_price(target, now);
        let mut models: Vec<_> = offer
            .routes
            .models_of(caller.ids.tenant)
            .filter(|model| caller.models.allows(&model.name) && model.targets.iter().any(priced))
            .cloned()
            .collect();
        models.sort_by(|left, right| left.name.cmp(&right.name));
        models.dedup_by(|later, earlier| later.name == earlier.name);
        models
    }

    /// Answers a call, or says why not. Whatever happens, the hold that was made ends in exactly one settlement.
    ///
    /// # Errors
    /// [`GatewayError`]; nothing is charged for a call that fails before its first byte.
    ///
    /// # Cancel safety
    /// Dropping the future aborts the upstream call and settles what the caller could have had of it.
    pub async fn answer(&self, caller: &Arc<Caller>, call: Call) -> Result<Answer, GatewayError> {
        let gateway = &self.inner;
        let (call, keeper) = gateway.unseal(caller, gateway.run_pre_hooks(caller, call).await?)?;
        let permit = gateway.limits.admit(caller).await?;
        let offer = gateway.offer.load_full();
        let at = gateway.clock.now();
        let plan = gateway.plan(&offer, caller, &call, keeper.as_ref(), at)?;
        let cache_key = match gateway.look_up(&offer, caller, &call).await {
            Lookup::Hit(found) => return OpenCall::replay(gateway, offer, caller, call, found, permit, at).await,
            Lookup::Miss(key) => Some(key),
            Lookup::Off => None,
        };
        let quote = Quote::worst_case(&offer, &plan, caller, &call, &gateway.config, at)?;
        let hold = gateway.hold(caller, &call, &quote).await?;
        // Boxed: it is large, and moves through every future down to the stream's end.
        let mut open = Box::new(OpenCall::begin(gateway, offer, caller, call, quote, hold, permit));
        (open.cache_key, open.keeper) = (cache_key, keeper);
        match open.send_and_commit(&plan).await {
            Ok((target, Reply::Whole(reply))) => open.finish_whole(&target, reply).await,
            Ok((target, Reply::Stream(reply))) => Ok(open.begin_stream(&target, reply)),
            Err(error) => Err(error),
        }
    }
}

impl Inner {
    async fn run_pre_hooks(&self, caller: &Caller, mut call: Call) -> Result<Call, GatewayError> {
        for hook in &self.pre_hooks {
            match hook.before(caller, &call).await {
                Verdict::Allow => {}
                Verdict::Deny(reason) => return Err(GatewayError::DeniedByHook(reason)),
                Verdict::Rewrite(body) => call.rewrite(body)?,
            }
        }
        Ok(call)
    }

    /// The targets that can answer and have a price: one that has none costs nobody the others. Where a call goes on from
    /// an earlier answer, only those that know it.
    fn plan(
        &self,
        offer: &Offer,
        caller: &Caller,
        call: &Call,
        keeper: Option<&Keeper>,
        at: Timestamp,
    ) -> Result<Plan, GatewayError> {
        let name = &*call.envelope.model;
        let unknown = || GatewayError::UnknownModel { model: name.into() };
        let (tenant, uptime) = (caller.ids.tenant, self.clock.uptime());
        let mut plan = route::plan_for(&offer.routes, tenant, name, uptime, rand::random()).ok_or_else(unknown)?;
        if !caller.models.allows(name) {
            return Err(GatewayError::ForbiddenModel { model: name.into() });
        }
        let upstreams = self.upstreams.load();
        let able = |target: &Arc<Target>| {
            upstreams.get(&target.upstream).is_some_and(|upstream| upstream.capabilities().serves(call.operation))
        };
        plan.retain(|target| able(target));
        if plan.is_empty() {
            return Err(unknown());
        }
        if let Some(keeper) = keeper {
            plan.retain(|target| target.upstream == keeper.upstream);
            keeper.must_serve(name, &plan)?;
        }
        plan.retain(|target| offer.has_price(target, at));
        if plan.is_empty() { Err(GatewayError::ModelNotPriced { model: name.into() }) } else { Ok(plan) }
    }

    async fn hold(&self, caller: &Caller, call: &Call, quote: &Quote) -> Result<Hold, GatewayError> {
        let ask = HoldRequest {
            id: call.id,
            path: Arc::clone(&caller.path),
            amount: quote.amount,
            amount_min: quote.amount_min,
            caller: caller.ids,
            model: Arc::clone(&quote.model),
            at: quote.at,
        };
        self.ledger.authorize(ask).await.map_err(|error| quote.explain(error))
    }
}

impl OpenCall {
    /// Sends the call while its hold is made durable, or after, or without waiting, as configured.
    async fn send_and_commit(&mut self, plan: &Plan) -> Result<(Arc<Target>, Reply), GatewayError> {
        let durability = self.gateway.config.durability;
        let committed = self.take_hold_commit();
        if durability == Durability::Strict {
            committed.await.map_err(|error| self.fail(error.into()))?;
            return self.send(plan).await.map_err(|failure| self.fail_upstream(failure));
        }
        if durability == Durability::Relaxed {
            return self.send(plan).await.map_err(|failure| self.fail_upstream(failure));
        }
        enum Broken {
            Commit(GatewayError),
            Upstream(Failure),
        }
        let committed = async { committed.await.map_err(|error| Broken::Commit(error.into())) };
        let sent = async { self.send(plan).await.map_err(Broken::Upstream) };
        match tokio::try_join!(committed, sent) {
            Ok(((), answer)) => Ok(answer),
            Err(Broken::Commit(error)) => Err(self.fail(error)),
            Err(Broken::Upstream(failure)) => Err(self.fail_upstream(failure)),
        }
    }

    /// Tries the targets for as long as the hold lasts.
    async fn send(&mut self, plan: &Plan) -> Result<(Arc<Target>, Reply), Failure> {
        let this = &*self;
        let hold_max = this.gateway.config.hold_max;
        let answered = first_success(plan, |target| async move {
            this.asks(&target);
            let outcome = this.attempt(&target).await;
            match &outcome {
                Ok(_) => target.succeeded(),
                Err(error) => target.failed(error, this.gateway.clock.uptime()),
            }
            outcome.map(|reply| (target, reply))
        });
        let late = |_| Failure { error: UpstreamError::Timeout { after: hold_max }, attempts: Vec::new() };
        let (answer, attempts) = tokio::time::timeout(this.time_left(), answered).await.map_err(late)??;
        self.attempts = attempts;
        Ok(answer)
    }

    /// One attempt. A stream counts as answered when its first event is there: until then another target may try.
    async fn attempt(&self, target: &Arc<Target>) -> Result<Reply, UpstreamError> {
        let Some(upstream) = self.gateway.upstreams.load().get(&target.upstream).cloned() else {
            return Err(UpstreamError::Unreachable { message: "no such upstream".into() });
        };
        let config = &self.gateway.config;
        let order = Order {
            call: &self.call,
            model: &target.model,
            output_tokens_max: self.output_tokens_max,
            timeout: config.header_timeout.min(config.hold_max),
            idle_timeout: config.idle_timeout.min(config.hold_max),
        };
        match upstream.send(order).await? {
            Reply::Stream(reply) => Ok(Reply::Stream(stream::wait_for_first(reply).await?)),
            whole @ Reply::Whole(_) => Ok(whole),
        }
    }

    async fn finish_whole(mut self: Box<Self>, target: &Target, mut reply: WholeReply) -> Result<Answer, GatewayError> {
        self.answered(reply.upstream_id.take(), std::mem::take(&mut reply.dropped));
        self.note(std::mem::take(&mut reply.report));
        let settled = self.close(Ending::Complete)?;
        let head = self.head(target, Some(&settled));
        if self.gateway.config.ack_settle {
            settled.committed.await?;
        }
        self.keep(target, &reply);
        Ok(Answer::Whole { head, content_type: reply.content_type, body: self.sealed(reply.body) })
    }

    fn begin_stream(mut self: Box<Self>, target: &Target, reply: StreamReply) -> Answer {
        self.answered(reply.upstream_id, reply.dropped);
        let head = self.head(target, None);
        Answer::Stream { head, body: AnswerStream::new(self, reply.events) }
    }
}

impl tower::Service<GatewayRequest> for Gateway {
    type Response = Answer;
    type Error = GatewayError;
    type Future = BoxFuture<'static, Result<Answer, GatewayError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), GatewayError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: GatewayRequest) -> Self::Future {
        let gateway = self.clone();
        Box::pin(async move { gateway.answer(&request.caller, request.call).await })
    }
}
