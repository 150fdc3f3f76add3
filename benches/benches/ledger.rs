//! The decision: hold on a path of six budgets, then settle. In memory, as every request pays for it.
#![expect(clippy::expect_used, reason = "a bench whose input is wrong has nothing to measure")]

use std::sync::Arc;

use cfr_core::chat::{Operation, Usage, UsageSource};
use cfr_core::id::{BudgetId, HoldId, RequestId, TenantId};
use cfr_core::ledger::{
    BudgetLedger, BudgetSpec, CallerIds, HoldRequest, LimitPolicy, MemoryLedger, Path, Scope, Settlement, UsageRecord,
};
use cfr_core::money::{Charge, Currency, Money};
use cfr_core::time::{Clock, Period, SystemClock, TimeZone, Timestamp};
use divan::Bencher;
use futures_util::FutureExt as _;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

/// Budgets in the ledger.
const ACCOUNTS: [u32; 2] = [1_000, 1_000_000];
/// What a request holds, in nano-euro.
const HELD_NANOS: i64 = 3_000_000;
/// What it costs in the end.
const CHARGED_NANOS: i64 = 1_000_000;

#[divan::bench(args = ACCOUNTS, sample_size = 2_000, sample_count = 50)]
fn memory_hold_and_settle_on_six_budgets(bencher: Bencher<'_, '_>, accounts: u32) {
    let clock = Arc::new(SystemClock::new());
    let ledger = MemoryLedger::new(clock.clone());
    for number in 0..accounts {
        ledger.add_budget(budget(number));
    }
    hold_and_settle(bencher, accounts, &ledger, clock.now());
}

fn hold_and_settle(bencher: Bencher<'_, '_>, accounts: u32, ledger: &dyn BudgetLedger, now: Timestamp) {
    let mut number = 0_u32;
    let inputs = move || {
        number = number.wrapping_add(1);
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

/// Requests wander over all accounts: a key, a user and a team of their own; a tenant, a product and the platform are
/// shared.
fn path(request: u32, accounts: u32) -> Path {
    let teams = (accounts - SHARED_ACCOUNTS) / 3;
    let team = SHARED_ACCOUNTS + 3 * (request.wrapping_mul(2_654_435_761) % teams);
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
        tag: None,
        output_tokens_max_applied: None,
    }
}
