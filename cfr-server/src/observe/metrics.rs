//! Counters for Prometheus. Labels are names from the configuration and the price table, never what callers send.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use cfr_billing::escrow::EscrowStats;
use cfr_billing::store::AuditRule;
use cfr_core::cache::CacheOutcome;
use cfr_core::chat::{Operation, UsageSource};
use cfr_core::gateway::Caller;
use cfr_core::hook::PostHook;
use cfr_core::ledger::UsageRecord;
use cfr_core::money::Currency;
use http::StatusCode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::database::PoolUse;

/// Upper edges of the latency buckets, in seconds: from a cached answer to a model that thinks.
const LATENCY_SECONDS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Response {
    operation: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Surface {
    operation: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Served {
    provider: Arc<str>,
    model: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Tokens {
    provider: Arc<str>,
    model: Arc<str>,
    direction: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Paid {
    currency: Code,
}

/// A currency as a label.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Code(Currency);

impl EncodeLabelValue for Code {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        self.0.code().encode(encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UpstreamFailure {
    upstream: Arc<str>,
    outcome: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Lookup {
    outcome: &'static str,
}

/// What is known of Redis; counted by whoever talks to it.
#[derive(Debug, Clone, Default)]
pub struct RedisMetrics {
    /// 1 while it works.
    pub up: Gauge,
    /// Requests whose limits were checked by this process alone.
    pub local_limits: Counter,
}

impl RedisMetrics {
    fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("redis");
        registry.register("up", "Whether Redis works: 0 also where none is configured", self.up.clone());
        let help = "Requests whose limits this process checked alone, because Redis was away";
        registry.register("local_limits", help, self.local_limits.clone());
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Violated {
    rule: &'static str,
}

/// The rules that the online auditor checks. They are exported from the start: an alarm compares with zero.
const AUDITED_RULES: [AuditRule; 3] = [AuditRule::Limit, AuditRule::Sums, AuditRule::Periods];

/// Everything that is counted. As a [`PostHook`] it sees the record of every call.
pub struct Metrics {
    registry: Registry,
    responses: Family<Response, Counter>,
    latency: Family<Surface, Histogram>,
    first_byte: Family<Surface, Histogram>,
    calls: Family<Served, Counter>,
    tokens: Family<Tokens, Counter>,
    charged: Family<Paid, Counter>,
    cost: Family<Paid, Counter>,
    overrun: Family<Paid, Counter>,
    upstream_failures: Family<UpstreamFailure, Counter>,
    without_usage: Family<Served, Counter>,
    violations: Family<Violated, Counter>,
    lookups: Family<Lookup, Counter>,
    redis: RedisMetrics,
    ledger: Ledger,
}

/// What the ledger engine counts itself, read when metrics are asked for.
#[derive(Debug, Default)]
struct Ledger {
    open_holds: Gauge,
    active_accounts: Gauge,
    queued_ops: Gauge,
    holds: Gauge,
    denials: Gauge,
    settlements: Gauge,
    overruns: Gauge,
    batches: Gauge,
    ops_committed: Gauge,
    commit_errors: Gauge,
    acquires: Gauge,
    recalls: Gauge,
    lent: Gauge,
    nodes: Gauge,
    clock_offset: Gauge,
    connections: Gauge,
    connections_in_use: Gauge,
}

impl Ledger {
    fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("ledger");
        registry.register("open_holds", "Calls whose money is held now", self.open_holds.clone());
        registry.register("active_accounts", "Budgets that this node has rights on now", self.active_accounts.clone());
        registry.register("queued_ops", "Decisions that wait to be written now", self.queued_ops.clone());
        registry.register("holds", "Holds made since the start", self.holds.clone());
        registry.register("denials", "Holds denied since the start", self.denials.clone());
        registry.register("settlements", "Holds settled since the start", self.settlements.clone());
        registry.register("overruns", "Settlements beyond what could be charged", self.overruns.clone());
        registry.register("batches", "Transactions written since the start", self.batches.clone());
        registry.register("ops_committed", "Decisions written since the start", self.ops_committed.clone());
        registry.register("commit_errors", "Transactions that failed and were tried again", self.commit_errors.clone());
        registry.register("acquires", "Times that the store was asked for rights", self.acquires.clone());
        registry.register("recalls", "Times that other nodes were asked for theirs", self.recalls.clone());
        registry.register("lent", "Times that other nodes were given ours", self.lent.clone());
        registry.register("nodes", "Nodes that share the database and are alive", self.nodes.clone());
        registry.register(
            "clock_offset_microseconds",
            "What the clock of the database is ahead of this machine's",
            self.clock_offset.clone(),
        );
        registry.register("connections", "Connections to the database in the pool", self.connections.clone());
        registry.register("connections_in_use", "Those that work now", self.connections_in_use.clone());
    }

    fn update(&self, stats: &EscrowStats, pool: PoolUse) {
        self.clock_offset.set(stats.clock_offset_us);
        for (gauge, value) in [
            (&self.open_holds, stats.open_holds),
            (&self.active_accounts, stats.active_accounts),
            (&self.queued_ops, stats.queued_ops),
            (&self.holds, stats.holds),
            (&self.denials, stats.denials),
            (&self.settlements, stats.settlements),
            (&self.overruns, stats.overruns),
            (&self.batches, stats.batches),
            (&self.ops_committed, stats.ops_committed),
            (&self.commit_errors, stats.commit_errors),
            (&self.acquires, stats.acquires),
            (&self.recalls, stats.recalls),
            (&self.lent, stats.lent),
            (&self.nodes, stats.nodes.into()),
            (&self.connections, pool.open.into()),
            (&self.connections_in_use, pool.in_use.into()),
        ] {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Nothing is counted yet.
    #[must_use]
    pub fn new() -> Self {
        Self::with_redis(RedisMetrics::default())
    }

    /// Nothing is counted yet, but perhaps of Redis.
    #[must_use]
    pub fn with_redis(redis: RedisMetrics) -> Self {
        let histogram = || Histogram::new(LATENCY_SECONDS);
        let mut metrics = Self {
            registry: Registry::with_prefix("cfr"),
            responses: Family::default(),
            latency: Family::new_with_constructor(histogram),
            first_byte: Family::new_with_constructor(histogram),
            calls: Family::default(),
            tokens: Family::default(),
            charged: Family::default(),
            cost: Family::default(),
            overrun: Family::default(),
            upstream_failures: Family::default(),
            without_usage: Family::default(),
            violations: Family::default(),
            lookups: Family::default(),
            redis,
            ledger: Ledger::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("responses", "Answers to calls by operation and HTTP status", self.responses.clone());
        registry.register("call_seconds", "From a call's arrival to its last byte", self.latency.clone());
        registry.register(
            "first_byte_seconds",
            "From a call's arrival to the upstream's first byte",
            self.first_byte.clone(),
        );
        registry.register("calls", "Calls that an upstream answered", self.calls.clone());
        registry.register("tokens", "Tokens by direction, as settled", self.tokens.clone());
        registry.register(
            "charged_nanos",
            "What customers were charged, in billionths of a unit",
            self.charged.clone(),
        );
        registry.register("cost_nanos", "What providers charge, in billionths of a unit", self.cost.clone());
        registry.register(
            "overrun_nanos",
            "Prices beyond what could be charged: the operator's loss",
            self.overrun.clone(),
        );
        registry.register(
            "upstream_failures",
            "Attempts that failed, by upstream and outcome",
            self.upstream_failures.clone(),
        );
        registry.register(
            "answers_without_usage",
            "Complete answers whose provider reported no tokens: they were counted from bytes, or cost nothing",
            self.without_usage.clone(),
        );
        registry.register("cache_lookups", "Calls looked up in the response cache", self.lookups.clone());
        self.redis.register(registry);
        registry.register(
            "ledger_invariant_violation",
            "Places in the books that do not agree, as the online auditor found them",
            self.violations.clone(),
        );
        for rule in AUDITED_RULES {
            drop(self.violations.get_or_create(&Violated { rule: rule.name() }));
        }
        self.ledger.register(registry);
    }

    /// The books break a rule at a place where they did not before.
    pub fn violated(&self, rule: AuditRule) {
        self.violations.get_or_create(&Violated { rule: rule.name() }).inc();
    }

    /// A call was answered, however.
    pub fn answered(&self, operation: Operation, status: StatusCode) {
        self.responses.get_or_create(&Response { operation: operation.name(), status: status.as_u16() }).inc();
    }

    /// A call was looked up in the response cache.
    pub fn looked_up(&self, outcome: CacheOutcome) {
        self.lookups.get_or_create(&Lookup { outcome: cache_word(outcome) }).inc();
    }

    /// Everything in OpenMetrics' text format.
    #[must_use]
    pub fn render(&self, ledger: &EscrowStats, pool: PoolUse) -> String {
        self.ledger.update(ledger, pool);
        let mut page = String::new();
        if text::encode(&mut page, &self.registry).is_err() {
            let _ = page.write_str("# metrics could not be encoded\n");
        }
        page
    }

    fn count_money(&self, caller: &Caller, record: &UsageRecord) {
        let label = Paid { currency: Code(caller.currency) };
        for (family, nanos) in [
            (&self.charged, record.charged_nanos),
            (&self.cost, record.cost_nanos),
            (&self.overrun, record.overrun_nanos),
        ] {
            family.get_or_create(&label).inc_by(u64::try_from(nanos).unwrap_or(0));
        }
    }

    fn count_tokens(&self, record: &UsageRecord) {
        for (direction, tokens) in [("input", record.usage.input_total()), ("output", record.usage.output_total())] {
            let (provider, model) = (Arc::clone(&record.provider), Arc::clone(&record.model_served));
            self.tokens.get_or_create(&Tokens { provider, model, direction }).inc_by(tokens);
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl PostHook for Metrics {
    fn after(&self, caller: &Caller, record: &UsageRecord) {
        let surface = Surface { operation: record.operation.name() };
        self.latency.get_or_create(&surface).observe(seconds(record.latency_ms));
        if let Some(first_byte_ms) = record.first_byte_ms {
            self.first_byte.get_or_create(&surface).observe(seconds(first_byte_ms));
        }
        if record.first_byte_ms.is_some() {
            let (provider, model) = (Arc::clone(&record.provider), Arc::clone(&record.model_served));
            let served = Served { provider, model };
            self.calls.get_or_create(&served).inc();
            if is_without_usage(record) {
                self.without_usage.get_or_create(&served).inc();
            }
            self.count_tokens(record);
        }
        self.count_money(caller, record);
        for attempt in &record.attempts {
            let (upstream, outcome) = (Arc::clone(&attempt.upstream), attempt.outcome.to_string());
            self.upstream_failures.get_or_create(&UpstreamFailure { upstream, outcome }).inc();
        }
    }
}

/// What the response cache did, as metrics and headers say it.
pub(crate) const fn cache_word(outcome: CacheOutcome) -> &'static str {
    match outcome {
        CacheOutcome::Hit => "hit",
        CacheOutcome::Miss => "miss",
    }
}

fn is_without_usage(record: &UsageRecord) -> bool {
    record.status == 200 && (record.source == UsageSource::Estimated || record.usage.is_zero())
}

fn seconds(millis: u32) -> f64 {
    Duration::from_millis(millis.into()).as_secs_f64()
}
