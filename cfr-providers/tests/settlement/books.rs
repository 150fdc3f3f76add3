//! A gateway over the real ledger in an SQLite file, and what it charged.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cfr_billing::audit_log::Act;
use cfr_billing::budget::NewBudget;
use cfr_billing::budget::ScopeId;
use cfr_billing::escrow::{Escrow, EscrowConfig};
use cfr_billing::identity::{NewTenant, TenantKind};
use cfr_billing::store::{CatalogStore as _, LedgerStore as _};
use cfr_core::chat::{Call, Meter, Usage};
use cfr_core::gateway::{Answer, Caller, Durability, Gateway, GatewayConfig, Offer};
use cfr_core::hook::PostHook;
use cfr_core::id::BudgetId;
use cfr_core::ledger::{Balance, BudgetLedger, LimitPolicy, Scope, UsageRecord};
use cfr_core::money::{Currency, Margin};
use cfr_core::price::{Limits, Mode, OwnPrice, PriceTable, UnitPrice};
use cfr_core::route::{Routes, Target};
use cfr_core::time::{Clock, ManualClock, Period, TimeZone};
use cfr_core::upstream::Upstream;
use cfr_providers::HttpUpstream;
use cfr_providers::adapter::Adapter;
use cfr_providers::sign::Unsigned;
use cfr_store_sqlite::{SqliteOptions, SqliteStore};
use futures_util::StreamExt as _;
use tempfile::TempDir;

use crate::wire::{Script, Scripted};

/// The public model.
pub(crate) const MODEL: &str = "m";
/// Nano-dollars of one prompt token, one that was in a cache, and one answer token.
const INPUT_NANOS: i64 = 2;
const CACHED_NANOS: i64 = 1;
const OUTPUT_NANOS: i64 = 8;
/// More than all calls of a test hold together.
const LIMIT_NANOS: i64 = 1_000_000_000_000;
/// How long a stream may be silent: long enough for a busy machine to bring the next piece.
const IDLE: Duration = Duration::from_millis(300);

/// The books and the gateway of one provider.
pub(crate) struct World {
    _folder: TempDir,
    store: Arc<SqliteStore>,
    escrow: Arc<Escrow>,
    clock: Arc<ManualClock>,
    provider: String,
    upstream: Arc<dyn Upstream>,
    caller: Arc<Caller>,
    budget: BudgetId,
    transport: Scripted,
    records: Arc<Records>,
}

/// What was charged for one call.
#[derive(Debug)]
pub(crate) struct Played {
    /// What the caller got.
    pub(crate) bytes: Bytes,
    /// The error that the caller was told.
    pub(crate) failed: Option<String>,
    /// The record of the call, when one was written.
    pub(crate) record: UsageRecord,
    /// What the budget lost, in nano-dollars.
    pub(crate) charged: i64,
    /// How often a provider was asked.
    pub(crate) requests: usize,
    /// The bytes that were taken of the provider's last answer.
    pub(crate) taken: Vec<u8>,
}

/// Where a caller stops to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listens {
    ToTheEnd,
    /// So many pieces.
    For(usize),
}

#[derive(Debug, Default)]
struct Records(Mutex<Vec<UsageRecord>>);

impl PostHook for Records {
    fn after(&self, _: &Caller, record: &UsageRecord) {
        self.0.lock().expect("not poisoned").push(record.clone());
    }
}

impl World {
    pub(crate) async fn of(provider: &str, adapter: Arc<dyn Adapter>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Arc::new(ManualClock::new("2026-11-21T12:00:00Z".parse().expect("a time")));
        let file = folder.path().join("books.db");
        let store = Arc::new(SqliteStore::open(&file, SqliteOptions::default()).await.expect("opens"));
        let (caller, budget) = customer(&store, &*clock).await;
        let config = EscrowConfig::new("settlement");
        let escrow = Escrow::start(Arc::clone(&store) as _, Arc::clone(&clock) as _, config).await.expect("starts");
        let (transport, records) = (Scripted::default(), Arc::new(Records::default()));
        let upstream = Arc::new(HttpUpstream::new(adapter, Arc::new(Unsigned), Arc::new(transport.clone()) as _));
        let provider = provider.to_owned();
        Self { _folder: folder, store, escrow, clock, provider, upstream, caller, budget, transport, records }
    }

    /// A gateway over the books that knows no failures yet, with so many accounts at the provider.
    fn gateway(&self, accounts: usize) -> Gateway {
        let names: Vec<String> = (0..accounts).map(|account| format!("account-{account}")).collect();
        let offer = offer(&self.provider, &names);
        let books = Arc::clone(&self.escrow) as Arc<dyn BudgetLedger>;
        let config = GatewayConfig { idle_timeout: IDLE, durability: Durability::Relaxed, ..GatewayConfig::default() };
        let gateway = Gateway::builder(books, offer, Arc::clone(&self.clock) as _).config(config);
        let gateway =
            names.iter().fold(gateway, |gateway, name| gateway.upstream(name.as_str(), Arc::clone(&self.upstream)));
        gateway.post_hook(Arc::clone(&self.records) as _).build()
    }

    /// Plays one call to a model with so many accounts, which are answered by the scripts in turn, and waits until nothing
    /// is held.
    pub(crate) async fn play(&self, call: Call, scripts: Vec<Script>, listens: Listens) -> Played {
        let before = self.balance().await;
        assert_eq!(before.held.nanos(), 0);
        let gateway = self.gateway(scripts.len());
        self.transport.plays(scripts);
        let (bytes, failed) = self.answer(&gateway, call, listens).await;
        let after = loop {
            let balance = self.balance().await;
            if balance.held.nanos() == 0 {
                break balance;
            }
            tokio::task::yield_now().await;
        };
        let records = std::mem::take(&mut *self.records.0.lock().expect("not poisoned"));
        let [record] = <[UsageRecord; 1]>::try_from(records).expect("one record for one call");
        let charged = after.settled.nanos() - before.settled.nanos();
        assert_eq!(
            before.available.nanos() - after.available.nanos(),
            charged,
            "all that was not charged is free again"
        );
        let (requests, taken) = (self.transport.requests(), self.transport.taken());
        Played { bytes, failed, record, charged, requests, taken }
    }

    async fn answer(&self, gateway: &Gateway, call: Call, listens: Listens) -> (Bytes, Option<String>) {
        let mut stream = match gateway.answer(&self.caller, call).await {
            Ok(Answer::Whole { body, .. }) => return (body, None),
            Ok(Answer::Stream { body, .. }) => body,
            Ok(other) => panic!("neither whole nor a stream: {other:?}"),
            Err(error) => return (Bytes::new(), Some(error.to_string())),
        };
        let (mut bytes, mut failed, mut pieces) = (BytesMut::new(), None, 0);
        while failed.is_none() && listens != Listens::For(pieces) {
            match stream.next().await {
                Some(Ok(piece)) => bytes.extend_from_slice(&piece),
                Some(Err(error)) => failed = Some(error.to_string()),
                None => break,
            }
            pieces += 1;
        }
        (bytes.freeze(), failed)
    }

    async fn balance(&self) -> Balance {
        self.escrow.balance(self.budget).await.expect("known")
    }

    /// Writes everything, and lets the books check themselves.
    pub(crate) async fn close(self) {
        self.escrow.shutdown().await.expect("written");
        let findings = self.store.audit().await.expect("read");
        assert!(findings.is_empty(), "{findings:?}");
    }
}

/// What a usage costs here, in nano-dollars: computed without the code that is tested.
pub(crate) fn price(usage: &Usage) -> i64 {
    let count = |tokens: u64| i64::try_from(tokens).expect("few");
    let cached = usage.get(Meter::CacheReadTokens);
    count(usage.input_total() - cached) * INPUT_NANOS
        + count(cached) * CACHED_NANOS
        + count(usage.output_total()) * OUTPUT_NANOS
}

async fn customer(store: &SqliteStore, clock: &dyn Clock) -> (Arc<Caller>, BudgetId) {
    let tenant = NewTenant {
        slug: "tenant".into(),
        name: "Tenant".into(),
        domain: None,
        kind: TenantKind::Development,
        users_max: None,
        zone: TimeZone::UTC,
        currency: Currency::USD,
        settings: Default::default(),
    };
    let tenant = store.create_tenant(&tenant, &Act::of_system(clock.now())).await.expect("new");
    let budget = NewBudget {
        scope: Scope::Tenant,
        scope_id: ScopeId(tenant.id.as_u128()),
        tenant: Some(tenant.id),
        currency: Currency::USD,
        included_nanos: LIMIT_NANOS,
        policy: LimitPolicy::Hard,
        period: Period::CalendarMonth,
        zone: TimeZone::UTC,
    };
    let budget = store.create_budget(&budget, &Act::of_system(clock.now())).await.expect("new").spec.id;
    let caller = Caller { margin: Margin::NONE, ..Caller::new(tenant.id, [budget], Currency::USD) };
    (Arc::new(caller), budget)
}

fn offer(provider: &str, accounts: &[String]) -> Offer {
    let nothing = br#"{"schema":"cfr.prices/1","as_of":"2026-11-21","currency":"USD","entries":[]}"#;
    let unit = |nanos: i64| format!("0.{nanos:09}").parse::<UnitPrice>().expect("a price");
    let own = OwnPrice {
        provider: provider.into(),
        model: MODEL.into(),
        mode: Mode::Chat,
        input: unit(INPUT_NANOS),
        output: unit(OUTPUT_NANOS),
        cache_read: Some(unit(CACHED_NANOS)),
        piece: None,
        limits: Limits { max_input_tokens: Some(1_000_000), max_output_tokens: Some(100_000) },
    };
    let prices = PriceTable::from_json(nothing).and_then(|table| table.with_own_prices(&[own])).expect("a table");
    let targets = accounts.iter().map(|account| Target::new(account.as_str(), provider, MODEL)).collect();
    let routes = Routes::default().with(MODEL, targets);
    Offer { routes: Arc::new(routes), prices: Arc::new(prices), fx: Arc::new([]) }
}
