//! An upstream that does as it is told, a ledger that commits when it is told, and a gateway over both.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cfr_core::chat::{Call, Operation, Usage};
use cfr_core::gateway::{Answer, Caller, Gateway, GatewayBuilder, GatewayConfig, GatewayError, Offer};
use cfr_core::id::{BudgetId, HoldId, TenantId};
use cfr_core::ledger::{
    AuthorizeError, Balance, BudgetLedger, BudgetSpec, Commit, Hold, HoldRequest, LedgerError, LimitPolicy,
    MemoryLedger, ReleaseReason, Scope, Settled, Settlement, UsageRecord,
};
use cfr_core::limit::Limit;
use cfr_core::money::{Currency, FxRate, Margin, Money};
use cfr_core::price::PriceTable;
use cfr_core::route::{Routes, Target};
use cfr_core::time::{Clock, ManualClock, Period, TimeZone, Timestamp};
use cfr_core::upstream::{
    Capabilities, FinishReason, Order, Reply, Report, StreamEvent, StreamReply, TokenCount, Upstream, UpstreamError,
    WholeReply,
};
use http::HeaderValue;
use tokio::sync::{mpsc, oneshot};

/// A model of the bundled table at 0.75 and 4.50 dollars for a million tokens.
pub const MODEL: &str = "gpt-5.4-mini";
/// What each model's upstream is called.
pub const FIRST: &str = "first";
pub const SECOND: &str = "second";

pub type Events = mpsc::UnboundedSender<Result<StreamEvent, UpstreamError>>;

/// What the upstream does with its next call.
pub enum Step {
    Whole {
        usage: Option<Usage>,
        output_bytes: u64,
    },
    /// An answer that says this about itself.
    Says(Report),
    /// The same to the call without this field.
    SaysWithout(&'static str, Report),
    Fail(UpstreamError),
    Stream(mpsc::UnboundedReceiver<Result<StreamEvent, UpstreamError>>),
    Hang,
}

#[derive(Debug, Default)]
pub struct Scripted {
    steps: Mutex<VecDeque<Step>>,
    counts: Mutex<VecDeque<Result<Option<TokenCount>, UpstreamError>>>,
    pub calls: AtomicUsize,
    pub caps: Mutex<Vec<Option<u64>>>,
}

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Step")
    }
}

impl Scripted {
    pub fn then(&self, step: Step) -> &Self {
        self.steps.lock().expect("not poisoned").push_back(step);
        self
    }

    pub fn counts(&self, outcome: Result<Option<TokenCount>, UpstreamError>) {
        self.counts.lock().expect("not poisoned").push_back(outcome);
    }

    pub fn then_stream(&self) -> Events {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.then(Step::Stream(receiver));
        sender
    }
}

#[async_trait]
impl Upstream for Scripted {
    fn capabilities(&self) -> Capabilities {
        Capabilities::TEXT
    }

    async fn send(&self, order: Order<'_>) -> Result<Reply, UpstreamError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.caps.lock().expect("not poisoned").push(order.output_tokens_max);
        let step = self.steps.lock().expect("not poisoned").pop_front().expect("an unexpected call");
        match step {
            Step::Whole { usage, output_bytes } => Ok(whole(Report { usage, output_bytes, ..Report::default() })),
            Step::Says(report) => Ok(whole(report)),
            Step::SaysWithout(field, report) => {
                let Reply::Whole(reply) = whole(report) else { unreachable!("a whole answer") };
                Ok(Reply::Whole(WholeReply { dropped: vec![field.into()], ..reply }))
            }
            Step::Fail(error) => Err(error),
            Step::Hang => std::future::pending().await,
            Step::Stream(receiver) => {
                let events = futures_util::stream::unfold(receiver, async |mut receiver| {
                    receiver.recv().await.map(|event| (event, receiver))
                });
                Ok(Reply::Stream(StreamReply { events: Box::pin(events), upstream_id: None, dropped: Vec::new() }))
            }
        }
    }

    async fn count(&self, _: Order<'_>) -> Result<Option<TokenCount>, UpstreamError> {
        self.counts.lock().expect("not poisoned").pop_front().expect("an unexpected count")
    }
}

fn whole(report: Report) -> Reply {
    Reply::Whole(WholeReply {
        content_type: HeaderValue::from_static("application/json"),
        body: Bytes::from_static(b"{}"),
        report,
        upstream_id: Some("up-1".into()),
        dropped: Vec::new(),
    })
}

/// Commits nothing until told, when told to wait.
#[derive(Debug)]
pub struct Probe {
    pub books: MemoryLedger,
    pub manual: bool,
    waiting: Mutex<Vec<oneshot::Sender<Result<(), LedgerError>>>>,
}

impl Probe {
    fn commit(&self) -> Commit {
        if !self.manual {
            return Commit::done();
        }
        let (sender, commit) = Commit::pending();
        self.waiting.lock().expect("not poisoned").push(sender);
        commit
    }

    /// Decides every commit that waits.
    pub fn decide(&self, outcome: &Result<(), LedgerError>) -> usize {
        let waiting = std::mem::take(&mut *self.waiting.lock().expect("not poisoned"));
        waiting.into_iter().filter_map(|sender| sender.send(outcome.clone()).ok()).count()
    }

    pub fn waiting(&self) -> usize {
        self.waiting.lock().expect("not poisoned").len()
    }
}

#[async_trait]
impl BudgetLedger for Probe {
    async fn authorize(&self, ask: HoldRequest) -> Result<Hold, AuthorizeError> {
        let hold = self.books.authorize(ask).await?;
        Ok(Hold { committed: self.commit(), ..hold })
    }

    async fn extend(&self, hold: HoldId, step: u32, amount: Money) -> Result<Commit, AuthorizeError> {
        self.books.extend(hold, step, amount).await
    }

    fn checkpoint(&self, hold: HoldId, so_far: Settlement) -> Result<(), LedgerError> {
        self.books.checkpoint(hold, so_far)
    }

    fn settle(&self, hold: HoldId, settlement: Settlement) -> Result<Settled, LedgerError> {
        let settled = self.books.settle(hold, settlement)?;
        Ok(Settled { committed: self.commit(), ..settled })
    }

    fn release(&self, hold: HoldId, reason: ReleaseReason) -> Result<Commit, LedgerError> {
        self.books.release(hold, reason)
    }

    async fn balance(&self, budget: BudgetId) -> Result<Balance, LedgerError> {
        self.books.balance(budget).await
    }
}

/// A gateway, and everything around it that a test looks at.
pub struct World {
    pub gateway: Gateway,
    pub ledger: Arc<Probe>,
    pub first: Arc<Scripted>,
    pub second: Arc<Scripted>,
    pub clock: Arc<ManualClock>,
    pub caller: Arc<Caller>,
    pub budget: BudgetId,
}

/// One tenant budget of `nanos` EUR-nanos, no margin, one dollar for a euro, and two targets for [`MODEL`].
pub struct Setup {
    pub nanos: i64,
    pub manual_commits: bool,
    pub config: GatewayConfig,
    pub requests_per_minute: Option<u32>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            nanos: 1_000_000_000,
            manual_commits: false,
            config: GatewayConfig::default(),
            requests_per_minute: None,
        }
    }
}

impl Setup {
    pub fn build(self) -> World {
        self.build_with(|builder| builder)
    }

    pub fn build_with(self, extend: impl FnOnce(GatewayBuilder) -> GatewayBuilder) -> World {
        self.build_with_clock(|builder, _| extend(builder))
    }

    pub fn build_with_clock(self, extend: impl FnOnce(GatewayBuilder, Arc<dyn Clock>) -> GatewayBuilder) -> World {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().expect("valid");
        let clock = Arc::new(ManualClock::new(now));
        let budget = BudgetId::generate(now);
        let books = MemoryLedger::new(Arc::clone(&clock) as Arc<dyn Clock>).with_budget(BudgetSpec {
            id: budget,
            scope: Scope::Tenant,
            currency: Currency::EUR,
            included_nanos: self.nanos,
            policy: LimitPolicy::Hard,
            period: Period::CalendarMonth,
            zone: TimeZone::UTC,
        });
        let ledger = Arc::new(Probe { books, manual: self.manual_commits, waiting: Mutex::default() });
        let (first, second) = (Arc::new(Scripted::default()), Arc::new(Scripted::default()));
        let offer = Offer { routes: routes(), prices: PriceTable::bundled().expect("loads"), fx: parity() };
        let dyn_ledger: Arc<dyn BudgetLedger> = Arc::clone(&ledger) as _;
        let builder = Gateway::builder(dyn_ledger, offer, Arc::clone(&clock) as Arc<dyn Clock>)
            .config(self.config)
            .upstream(FIRST, Arc::clone(&first) as _)
            .upstream(SECOND, Arc::clone(&second) as _);
        let caller = Caller {
            margin: Margin::NONE,
            limits: vec![Limit {
                scope: Scope::Tenant,
                subject: 1,
                requests_per_minute: self.requests_per_minute.and_then(NonZeroU32::new),
                parallel_requests_max: None,
            }],
            ..Caller::new(TenantId::generate(now), [budget], Currency::EUR)
        };
        World {
            gateway: extend(builder, Arc::clone(&clock) as _).build(),
            ledger,
            first,
            second,
            clock,
            caller: Arc::new(caller),
            budget,
        }
    }
}

fn routes() -> Arc<Routes> {
    let second = Target { order: 1, ..Target::new(SECOND, "openai", MODEL) };
    Arc::new(Routes::default().with(MODEL, vec![Target::new(FIRST, "openai", MODEL), second]))
}

fn parity() -> Arc<[FxRate]> {
    Arc::new([FxRate::new(Currency::EUR, 1_000_000).expect("positive")])
}

impl World {
    /// A chat call; `fields` are added to its body.
    pub fn call(&self, fields: &str) -> Call {
        let body = format!(r#"{{"model":"{MODEL}","messages":[{{"role":"user","content":"hello"}}]{fields}}}"#);
        Call::parse(Operation::ChatCompletions, body.into(), self.clock.now()).expect("a good body")
    }

    pub async fn ask(&self, fields: &str) -> Result<Answer, GatewayError> {
        self.gateway.answer(&self.caller, self.call(fields)).await
    }

    pub async fn balance(&self) -> Balance {
        self.ledger.balance(self.budget).await.expect("known")
    }

    /// The only record that there is.
    #[track_caller]
    pub fn record(&self) -> UsageRecord {
        let records = self.ledger.books.records();
        assert_eq!(records.len(), 1, "{records:?}");
        records[0].clone()
    }
}

/// A piece of an answer as OpenAI frames it.
pub fn text(bytes: &'static str) -> Result<StreamEvent, UpstreamError> {
    let report = Report { output_bytes: bytes.len() as u64, ..Report::default() };
    Ok(StreamEvent { bytes: Bytes::from_static(bytes.as_bytes()), report })
}

/// The finish reason.
pub fn finish() -> Result<StreamEvent, UpstreamError> {
    let report = Report { finish: Some(FinishReason::Stop), ..Report::default() };
    Ok(StreamEvent { bytes: Bytes::from_static(b"[finish]"), report })
}

/// The usage, which is not shown.
pub fn usage(usage: Usage) -> Result<StreamEvent, UpstreamError> {
    Ok(StreamEvent { bytes: Bytes::new(), report: Report { usage: Some(usage), ..Report::default() } })
}

pub fn overloaded() -> UpstreamError {
    UpstreamError::Failed {
        status: http::StatusCode::SERVICE_UNAVAILABLE,
        retry_after: Some(Duration::ZERO),
        message: "overloaded".into(),
    }
}
