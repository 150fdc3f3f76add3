//! How many settlements per second the file takes, by batch size, with every commit waiting for the disk.
//!
//! `cargo run --release -p cfr-store-sqlite --example commit_rate [folder [settlements [batch size...]]]`
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cfr_billing::audit_log::Act;
use cfr_billing::budget::{NewBudget, ScopeId};
use cfr_billing::identity::{NewTenant, TenantKind};
use cfr_billing::store::{
    Accounts, Boot, CatalogStore, Incarnation, LeaseAsk, LedgerStore, Op, OpenedHold, SettledHold,
};
use cfr_core::chat::{Operation, Usage, UsageSource};
use cfr_core::id::{KeyId, ProductVersionId, RequestId, TenantId, UserId};
use cfr_core::ledger::{CallerIds, LimitPolicy, Scope, UsageRecord};
use cfr_core::money::Currency;
use cfr_core::time::{Clock, Period, SystemClock, TimeZone};
use cfr_store_sqlite::{SqliteOptions, SqliteStore};

/// Settlements per measurement unless another number is named: enough that the tables grow out of the page cache.
const SETTLEMENTS: usize = 60_000;
/// Users that take turns.
const USERS: usize = 20;
/// Batches with one settlement are fewer: each waits for the disk.
const SINGLE_COMMITS: usize = 2_000;
/// What is measured unless other sizes are named.
const BATCH_SIZES: [usize; 5] = [1, 10, 100, 500, 1_000];
/// More than the measurement spends.
const LIMIT_NANOS: i64 = 1_000_000_000_000;

/// One budget for each user and one for the tenant.
struct Books {
    store: SqliteStore,
    node: Incarnation,
    callers: Vec<(CallerIds, Accounts)>,
    clock: SystemClock,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().unwrap_or_else(|| ".".to_owned());
    let settlements = arguments.next().map_or(Ok(SETTLEMENTS), |count| count.parse())?;
    let named = arguments.map(|size| size.parse()).collect::<Result<Vec<usize>, _>>()?;
    let sizes = if named.is_empty() { BATCH_SIZES.to_vec() } else { named };
    let folder = tempfile::tempdir_in(folder)?;
    let books = Books::new(&folder.path().join("books.db")).await?;
    for holds in [false, true] {
        println!("{}", if holds { "hold in one batch, settlement in the next:" } else { "settlements alone:" });
        for &size in &sizes {
            measure(&books, settlements, size, holds).await?;
        }
    }
    let begin = books.clock.uptime();
    let findings = books.store.audit().await?;
    println!("audit: {} findings, {} ms", findings.len(), (books.clock.uptime() - begin).as_millis());
    books.store.close().await?;
    let begin = books.clock.uptime();
    let store = SqliteStore::open(folder.path().join("books.db"), SqliteOptions::default()).await?;
    println!("open an existing file: {} us", (books.clock.uptime() - begin).as_micros());
    Ok(store.close().await?)
}

async fn measure(books: &Books, settlements: usize, size: usize, holds: bool) -> Result<(), Box<dyn Error>> {
    let count = if size == 1 { settlements.min(SINGLE_COMMITS) } else { settlements };
    let batches: Vec<Vec<Op>> = books.batches(count / size, size, holds);
    let mut durations = Vec::with_capacity(batches.len());
    let (begin, cpu) = (books.clock.uptime(), cpu_micros()?);
    for ops in &batches {
        let start = books.clock.uptime();
        books.store.commit(&books.node, ops, books.clock.now()).await?;
        durations.push(books.clock.uptime() - start);
    }
    let rate = per_second(count, books.clock.uptime() - begin);
    let cpu = (cpu_micros()? - cpu) / count as u64;
    durations.sort_unstable();
    let percentile = |percent: usize| durations[(durations.len() - 1) * percent / 100].as_micros();
    let (p50, p99) = (percentile(50), percentile(99));
    println!("  batch {size:>5}: {rate:>7} settlements/s, CPU {cpu:>3} us each, commit p50 {p50} us, p99 {p99} us");
    Ok(())
}

/// The time that all threads of this process spent on a CPU; zero where the system does not say.
fn cpu_micros() -> Result<u64, Box<dyn Error>> {
    const MICROS_PER_TICK: u64 = 10_000;
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else { return Ok(0) };
    let (_, after_name) = stat.rsplit_once(')').ok_or("/proc/self/stat names no program")?;
    let ticks = after_name.split_whitespace().skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(ticks * MICROS_PER_TICK)
}

fn per_second(count: usize, elapsed: Duration) -> u128 {
    count as u128 * 1_000_000 / elapsed.as_micros().max(1)
}

impl Books {
    async fn new(path: &Path) -> Result<Self, Box<dyn Error>> {
        let clock = SystemClock::new();
        let store = SqliteStore::open(path, SqliteOptions::default()).await?;
        let node = store.register("bench", Boot(1), clock.now()).await?;
        let new = NewTenant {
            slug: "bench".into(),
            name: "Bench".into(),
            domain: None,
            kind: TenantKind::Internal,
            users_max: None,
            zone: TimeZone::UTC,
            currency: Currency::EUR,
            settings: Default::default(),
        };
        let tenant = store.create_tenant(&new, &Act::of_system(clock.now())).await?.id;
        let mut books = Self { store, node, callers: Vec::new(), clock };
        let shared = books.account(tenant, Scope::Tenant, tenant.as_u128()).await?;
        for _ in 0..USERS {
            let caller = CallerIds {
                tenant,
                user: Some(UserId::generate(books.clock.now())),
                key: Some(KeyId::generate(books.clock.now())),
                product_version: Some(ProductVersionId::generate(books.clock.now())),
            };
            let user = caller.user.map_or(0, UserId::as_u128);
            let own = books.account(tenant, Scope::User, user).await?;
            books.callers.push((caller, [own, shared].into_iter().collect()));
        }
        Ok(books)
    }

    async fn account(
        &self,
        tenant: TenantId,
        scope: Scope,
        id: u128,
    ) -> Result<cfr_core::id::AccountId, Box<dyn Error>> {
        let new = NewBudget {
            scope,
            scope_id: ScopeId(id),
            tenant: Some(tenant),
            currency: Currency::EUR,
            included_nanos: LIMIT_NANOS,
            policy: LimitPolicy::Hard,
            period: Period::Never,
            zone: TimeZone::UTC,
        };
        let budget = self.store.create_budget(&new, &Act::of_system(self.clock.now())).await?.spec.id;
        let ask = LeaseAsk { budget, min: 0, want: i64::MAX };
        let granted = self.store.acquire(&self.node, &[ask], Duration::ZERO, self.clock.now()).await?;
        Ok(granted.first().ok_or("nothing was granted")?.account)
    }

    fn batches(&self, count: usize, size: usize, holds: bool) -> Vec<Vec<Op>> {
        let mut opened: Vec<SettledHold> = Vec::new();
        let mut batches = Vec::with_capacity(count);
        for _ in 0..count {
            let next: Vec<SettledHold> = (0..size).map(|index| self.settlement(index)).collect();
            let opens = next.iter().filter(|_| holds).map(|hold| Op::Open(Box::new(self.hold(hold))));
            let mut ops: Vec<Op> = opens.collect();
            let due = if holds { std::mem::replace(&mut opened, next) } else { next };
            ops.extend(due.into_iter().map(|hold| Op::Settle(Box::new(hold))));
            batches.push(ops);
        }
        batches
    }

    fn hold(&self, settled: &SettledHold) -> OpenedHold {
        OpenedHold {
            id: settled.id,
            epoch: settled.epoch,
            accounts: settled.accounts.clone(),
            amount: 2_000_000,
            caller: settled.record.caller,
            model: Arc::from("fast"),
            at: settled.record.at,
        }
    }

    fn settlement(&self, index: usize) -> SettledHold {
        let (caller, accounts) = &self.callers[index % self.callers.len()];
        let at = self.clock.now();
        let id = RequestId::generate(at);
        let record = UsageRecord {
            id,
            at,
            caller: *caller,
            operation: Operation::ChatCompletions,
            model_requested: "gpt-4o".into(),
            provider: "openai".into(),
            model_served: "gpt-4o-2024-11-20".into(),
            usage: Usage::text(1_234, 321),
            source: UsageSource::Provider,
            cost_nanos: 500_000,
            price_nanos: 600_000,
            charged_nanos: 600_000,
            overrun_nanos: 0,
            price_version: 0x0123_4567_89ab_cdef,
            fx_e6: 1_160_000,
            margin_bps: 2_000,
            status: 200,
            finish: "stop".into(),
            streamed: true,
            latency_ms: 1_890,
            first_byte_ms: Some(310),
            attempts: Vec::new(),
            upstream_id: Some("chatcmpl-9f8e7d6c5b4a".into()),
            tags: cfr_core::chat::Tags::default(),
            output_tokens_max_applied: None,
        };
        SettledHold {
            id,
            epoch: self.node.epoch,
            accounts: accounts.clone(),
            charged: 600_000,
            record: Box::new(record),
        }
    }
}
