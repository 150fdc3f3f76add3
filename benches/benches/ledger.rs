//! The decision: hold on a path of six budgets, then settle. In memory, as every request pays for it.
#![expect(clippy::expect_used, reason = "a bench whose input is wrong has nothing to measure")]

use std::sync::Arc;

use cfr_billing::escrow::{Escrow, EscrowConfig};
use cfr_billing::store::memory::MemoryStore;
use cfr_core::chat::{Operation, Usage, UsageSource};
use cfr_core::id::{BudgetId, HoldId, RequestId, TenantId};
use cfr_core::ledger::{
    BudgetLedger, BudgetSpec, CallerIds, HoldRequest, LimitPolicy, MemoryLedger, Path, Scope, Settlement, UsageRecord,
};
use cfr_core::money::{Charge, Currency, Money};
use cfr_core::time::{Clock, Period, SystemClock, TimeZone, Timestamp};
use divan::Bencher;
use futures_util::FutureExt as _;
use tokio::runtime::Builder;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

/// Decisions per sample; the committer has caught up before each.
const SAMPLE: u32 = 1_000;
const SAMPLES: u32 = 50;
/// Requests whose budgets are open before the clock starts.
const WARM: u32 = 20_000;
/// What a request holds, in nano-euro.
const HELD_NANOS: i64 = 3_000_000;
/// What it costs in the end.
const CHARGED_NANOS: i64 = 1_000_000;

/// The reference ledger, for comparison; it is written to be read.
#[divan::bench(sample_size = SAMPLE, sample_count = SAMPLES)]
fn memory_ledger_on_a_thousand_accounts(bencher: Bencher<'_, '_>) {
    let clock = Arc::new(SystemClock::new());
    let ledger = MemoryLedger::new(clock.clone());
    (0..1_000).for_each(|number| ledger.add_budget(budget(number)));
    hold_and_settle(bencher, 1_000, &ledger, clock.now(), || ());
}

/// The engine of the gateway, with its committer at work on another core.
#[divan::bench(args = [1_000, 1_000_000], sample_size = SAMPLE, sample_count = SAMPLES)]
fn escrow(bencher: Bencher<'_, '_>, accounts: u32) {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let store = MemoryStore::exclusive();
    (0..accounts).for_each(|number| store.add_budget(budget(number), clock.now()));
    let config = EscrowConfig::new("bench");
    let escrow = runtime.block_on(Escrow::start(Arc::new(store), clock.clone(), config)).expect("an empty store");
    hold_and_settle(bencher, accounts, &*escrow, clock.now(), || {
        runtime.block_on(escrow.flush()).expect("a store that works");
    });
}

/// Holds and settles on paths of six. `catch_up` runs before each sample, outside of the measurement.
fn hold_and_settle(
    bencher: Bencher<'_, '_>,
    accounts: u32,
    ledger: &dyn BudgetLedger,
    now: Timestamp,
    catch_up: impl Fn(),
) {
    for number in 1..=WARM {
        let (ask, settlement) = request(number, accounts, now);
        let id = ask.id;
        drop(block_on(ledger.authorize(ask)).expect("there is money"));
        drop(ledger.settle(id, settlement).expect("an open hold"));
    }
    catch_up();
    let mut number = WARM;
    let inputs = || {
        number += 1;
        if number.is_multiple_of(SAMPLE) {
            catch_up();
        }
        request(number, accounts, now)
    };
    bencher.with_inputs(inputs).bench_local_values(|(ask, settlement)| {
        let id = ask.id;
        let hold = ledger.authorize(ask).now_or_never().expect("decided in memory").expect("there is money");
        let settled = ledger.settle(id, settlement).expect("an open hold");
        (hold, settled)
    });
}

fn budget(number: u32) -> BudgetSpec {
    BudgetSpec {
        id: budget_id(number),
        scope: Scope::Key,
        currency: Currency::EUR,
        included_nanos: i64::MAX / 4,
        policy: LimitPolicy::Hard,
        period: Period::Never,
        zone: TimeZone::UTC,
    }
}

fn budget_id(number: u32) -> BudgetId {
    BudgetId::from_u128(u128::from(number) + 1)
}

/// Waits for a first use of a budget, which asks the store.
fn block_on<T>(task: impl Future<Output = T>) -> T {
    Builder::new_current_thread().enable_time().build().expect("a runtime").block_on(task)
}

/// Requests wander over all accounts, and every `WARM` requests over the same ones: a key, a user and a team of their own; a tenant, a product and the platform are
/// shared.
fn path(request: u32, accounts: u32) -> Path {
    let teams = (accounts - SHARED_ACCOUNTS) / 3;
    let team = SHARED_ACCOUNTS + 3 * ((request % WARM).wrapping_mul(2_654_435_761) % teams);
    [team + 2, team + 1, team, 10 + request % 90, 1 + request % 3, 0].map(budget_id).as_slice().into()
}

/// The first accounts: the platform, three products, tenants.
const SHARED_ACCOUNTS: u32 = 100;

fn request(number: u32, accounts: u32, now: Timestamp) -> (HoldRequest, Settlement) {
    let id = HoldId::from_u128(u128::from(number));
    let caller = CallerIds { tenant: TenantId::from_u128(1), user: None, key: None, product_version: None };
    let amount = Money::from_nanos(HELD_NANOS, Currency::EUR);
    let model: Arc<str> = "gpt-4o-mini".into();
    let path = path(number, accounts);
    let ask = HoldRequest { id, path, amount, amount_min: amount, caller, model: model.clone(), at: now };
    let price = Money::from_nanos(CHARGED_NANOS, Currency::EUR);
    let charge = Charge { cost: price, margin: Money::zero(Currency::EUR), price };
    (ask, Settlement { charge, record: Box::new(record(id, caller, model, now)) })
}

fn record(id: RequestId, caller: CallerIds, model: Arc<str>, at: Timestamp) -> UsageRecord {
    UsageRecord {
        id,
        at,
        caller,
        operation: Operation::ChatCompletions,
        model_requested: model.clone(),
        provider: "openai".into(),
        model_served: model,
        usage: Usage::text(120, 160),
        source: UsageSource::Provider,
        cost_nanos: CHARGED_NANOS,
        price_nanos: CHARGED_NANOS,
        charged_nanos: 0,
        overrun_nanos: 0,
        price_version: 1,
        fx_e6: 1_000_000,
        margin_bps: 0,
        status: 200,
        finish: "stop".into(),
        streamed: false,
        latency_ms: 800,
        first_byte_ms: Some(200),
        attempts: Vec::new(),
        upstream_id: None,
        tags: cfr_core::chat::Tags::default(),
        output_tokens_max_applied: None,
    }
}
