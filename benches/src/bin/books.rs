//! The ledger over real stores, one figure beside the other: SQLite and Postgres, one engine and several, shallow paths
//! and deep ones.
//!
//! `cargo run --release -p cfr-benches --bin books` prints Markdown for `RESULTS.md`; `--quick` takes short rounds. It
//! starts a private Postgres (package `postgresql`) with `fsync` on the same machine, and ends it. The engines, the database
//! and the load share all cores.
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::env;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cfr_benches::Failure;
use cfr_benches::books::measure::{Engines, Latencies, Throughput};
use cfr_benches::books::workload::{Population, Spender, open_periods, spenders};
use cfr_benches::table::{grouped, markdown};
use cfr_billing::escrow::EscrowConfig;
use cfr_billing::store::{LedgerStore, MemoryStore, Store};
use cfr_core::time::{Clock as _, SystemClock};
use cfr_store_postgres::{PostgresOptions, PostgresStore};
use cfr_store_sqlite::{SqliteOptions, SqliteStore};
use cfr_testbed::Postgres;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Tenants unless their number is what varies.
const TENANTS: usize = 20;
/// Budgets on a path unless their number is what varies: user, tenant, product.
const DEPTH: usize = 3;
/// Users of one tenant unless their number is what varies. They take turns.
const USERS: usize = 20;
/// Clients of all engines together.
const CLIENTS: usize = 512;
/// Requests per second that many nodes share.
const SHARED_RATE: u32 = 1_000;
/// Rights that nobody used for this long go back, where users come seldom: as servers that share a store have it.
const IDLE_AFTER: Duration = Duration::from_secs(2);
/// How long a call takes in the open loop.
const CALL: Duration = Duration::from_millis(500);

/// How long and how much.
#[derive(Debug, Clone, Copy)]
struct Scale {
    round: Duration,
    cold: usize,
    /// Users of each tenant who come so seldom that their rights went back meanwhile.
    seldom: usize,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let scale = match env::args().nth(1).as_deref() {
        None => Scale { round: Duration::from_secs(8), cold: 100, seldom: 2_000 },
        Some("--quick") => Scale { round: Duration::from_secs(1), cold: 5, seldom: 100 },
        Some(_) => return Err("usage: books [--quick]".into()),
    };
    let postgres = Postgres::start().await;
    let bench = Bench { scale, postgres };
    bench.replicas().await?;
    bench.paths_and_tenants().await?;
    bench.cold_accounts().await?;
    bench.seldom_users().await?;
    bench.arrivals().await?;
    bench.many_nodes().await
}

struct Bench {
    scale: Scale,
    postgres: Postgres,
}

impl Bench {
    /// Handles of one fresh Postgres database, as many as there are replicas.
    async fn postgres(&self, replicas: usize) -> Result<Vec<Arc<PostgresStore>>, Failure> {
        let url = self.postgres.database().await;
        let mut stores = Vec::with_capacity(replicas);
        for _ in 0..replicas {
            stores.push(Arc::new(PostgresStore::open(&url, PostgresOptions::default()).await?));
        }
        Ok(stores)
    }

    async fn closed_loop(
        &self,
        stores: Vec<Arc<dyn Store>>,
        tenants: usize,
        depth: usize,
    ) -> Result<Throughput, Failure> {
        let first = stores.first().ok_or("no store")?;
        let spenders = all_spenders(&**first, tenants, depth).await?;
        let clients = CLIENTS / stores.len();
        let engines = Engines::start(stores.into_iter().map(|store| store as Arc<dyn LedgerStore>).collect()).await?;
        engines.closed_loop(&spenders, clients, self.scale.round / 4).await?; // warm
        let measured = engines.closed_loop(&spenders, clients, self.scale.round).await?;
        engines.shutdown().await?;
        Ok(measured)
    }

    async fn replicas(&self) -> Result<(), Failure> {
        println!("### Engines that share one set of books\n");
        let mut rows = Vec::new();
        let folder = tempfile::tempdir()?;
        let measured = self.closed_loop(vec![sqlite(folder.path()).await?], TENANTS, DEPTH).await?;
        rows.push(row("SQLite, 1 engine".to_owned(), &measured));
        for replicas in [1, 2, 4] {
            let stores = self.postgres(replicas).await?;
            let shared = stores.iter().map(|store| Arc::clone(store) as _).collect();
            let measured = self.closed_loop(shared, TENANTS, DEPTH).await?;
            rows.push(row(format!("Postgres, {replicas} engines"), &measured));
        }
        println!("{}", markdown(&HEAD, &rows));
        Ok(())
    }

    async fn paths_and_tenants(&self) -> Result<(), Failure> {
        println!("### Deeper paths and more tenants, two engines over Postgres\n");
        let mut rows = Vec::new();
        for (tenants, depth) in [(1, 1), (1, 3), (1, 6), (100, 3), (1_000, 3)] {
            let stores = self.postgres(2).await?;
            let shared = stores.iter().map(|store| Arc::clone(store) as _).collect();
            let measured = self.closed_loop(shared, tenants, depth).await?;
            rows.push(row(format!("{tenants} tenants, paths of {depth}"), &measured));
        }
        println!("{}", markdown(&HEAD, &rows));
        Ok(())
    }

    async fn cold_accounts(&self) -> Result<(), Failure> {
        println!("### The first hold on budgets that nobody used before, one after the other\n");
        let mut rows = Vec::new();
        let folder = tempfile::tempdir()?;
        for (name, store) in [("SQLite", sqlite(folder.path()).await?), ("Postgres", first(self.postgres(1).await?)?)] {
            let spenders = all_spenders(&*store, self.scale.cold, DEPTH).await?;
            let engines = Engines::start(vec![store as _]).await?;
            for temperature in ["cold", "warm"] {
                let (waits, measured) = engines.one_by_one(&spenders).await?;
                rows.push(latency_row(format!("{name}, {temperature}"), &waits, &measured));
            }
            engines.shutdown().await?;
        }
        println!("{}", markdown(&LATENCY_HEAD, &rows));
        Ok(())
    }

    /// Everybody comes so seldom that their rights went back meanwhile: each request asks for its user's.
    async fn seldom_users(&self) -> Result<(), Failure> {
        println!("### Many users who seldom come, over Postgres\n");
        let mut rows = Vec::new();
        for replicas in [1, 2] {
            let stores = self.postgres(replicas).await?;
            let store = Arc::clone(stores.first().ok_or("no store")?);
            let population = Population { tenants: TENANTS, users: self.scale.seldom, depth: DEPTH };
            let spenders: Arc<[Spender]> = spenders(&*store, population, SystemClock::new().now()).await?.into();
            open_periods(&*store, &spenders, SystemClock::new().now()).await?;
            let shared = stores.into_iter().map(|store| store as _).collect();
            let engines =
                Engines::start_with(shared, |config| EscrowConfig { idle_after: Some(IDLE_AFTER), ..config }).await?;
            let clients = CLIENTS / replicas;
            engines.everybody_in_turn(&spenders, clients, self.scale.round / 4).await?; // warm
            let measured = engines.everybody_in_turn(&spenders, clients, self.scale.round).await?;
            let users = grouped(spenders.len() as u64);
            rows.push(seldom_row(format!("{replicas} engines, {users} users"), &measured));
            engines.shutdown().await?;
        }
        println!("{}", markdown(&SELDOM_HEAD, &rows));
        Ok(())
    }

    async fn arrivals(&self) -> Result<(), Failure> {
        println!("### Calls of {} ms that arrive at a fixed rate\n", CALL.as_millis());
        let mut rows = Vec::new();
        let folder = tempfile::tempdir()?;
        for (name, store) in [("SQLite", sqlite(folder.path()).await?), ("Postgres", first(self.postgres(1).await?)?)] {
            let spenders = all_spenders(&*store, TENANTS, DEPTH).await?;
            let engines = Engines::start(vec![store as _]).await?;
            for rate in [1_000, 5_000] {
                let (waits, measured) = engines.open_loop(&spenders, rate, CALL, self.scale.round).await?;
                rows.push(latency_row(format!("{name}, {rate} per second"), &waits, &measured));
            }
            engines.shutdown().await?;
        }
        println!("{}", markdown(&LATENCY_HEAD, &rows));
        Ok(())
    }

    /// What many nodes ask of one store, whatever store that is: it answers at once.
    async fn many_nodes(&self) -> Result<(), Failure> {
        println!("### One hot tenant, {SHARED_RATE} requests per second over many nodes\n");
        let mut rows = Vec::new();
        for nodes in [1, 10, 100] {
            let store = Arc::new(MemoryStore::shared());
            let spenders = all_spenders(&*store, 1, DEPTH).await?;
            let engines = Engines::start((0..nodes).map(|_| Arc::clone(&store) as _).collect()).await?;
            engines.open_loop(&spenders, SHARED_RATE, CALL, self.scale.round / 4).await?; // warm
            let (_, measured) = engines.open_loop(&spenders, SHARED_RATE, CALL, self.scale.round).await?;
            rows.push(row(format!("{nodes} nodes"), &measured));
            engines.shutdown().await?;
        }
        println!("{}", markdown(&HEAD, &rows));
        Ok(())
    }
}

async fn sqlite(folder: &Path) -> Result<Arc<dyn Store>, Failure> {
    Ok(Arc::new(SqliteStore::open(folder.join("books.db"), SqliteOptions::default()).await?))
}

fn first(stores: Vec<Arc<PostgresStore>>) -> Result<Arc<dyn Store>, Failure> {
    Ok(stores.into_iter().next().ok_or("no store")?)
}

async fn all_spenders(store: &dyn Store, tenants: usize, depth: usize) -> Result<Arc<[Spender]>, Failure> {
    let population = Population { tenants, users: USERS, depth };
    Ok(spenders(store, population, SystemClock::new().now()).await?.into())
}

const HEAD: [&str; 6] = [
    "",
    "held and settled per second",
    "transactions per second",
    "requests per transaction",
    "asks for rights per 1 000 requests",
    "steps per commit",
];

fn row(name: String, measured: &Throughput) -> Vec<String> {
    let calls = measured.calls;
    vec![
        name,
        grouped(measured.rate()),
        grouped(per_second(measured)),
        hundredths(measured.requests, calls.transactions()),
        hundredths(calls.asks * 1_000, measured.requests),
        hundredths(calls.ops, calls.commits),
    ]
}

const SELDOM_HEAD: [&str; 6] = [
    "",
    "held and settled per second",
    "transactions per second",
    "transactions per 100 requests",
    "asks for rights per 100 requests",
    "asks per transaction that answers them",
];

fn seldom_row(name: String, measured: &Throughput) -> Vec<String> {
    let calls = measured.calls;
    vec![
        name,
        grouped(measured.rate()),
        grouped(per_second(measured)),
        hundredths(calls.transactions() * 100, measured.requests),
        hundredths(calls.asks * 100, measured.requests),
        hundredths(calls.asks, calls.acquires),
    ]
}

const LATENCY_HEAD: [&str; 5] =
    ["", "until the hold is durable, p50", "p99", "transactions per second", "transactions per 100 requests"];

fn latency_row(name: String, waits: &Latencies, measured: &Throughput) -> Vec<String> {
    let micros = |percent| format!("{} µs", grouped(waits.percentile(percent)));
    let transactions = measured.calls.transactions();
    vec![name, micros(50), micros(99), grouped(per_second(measured)), hundredths(transactions * 100, measured.requests)]
}

fn per_second(measured: &Throughput) -> u64 {
    let micros = measured.elapsed.as_micros().max(1);
    u64::try_from(u128::from(measured.calls.transactions()) * 1_000_000 / micros).unwrap_or(u64::MAX)
}

/// A quotient with two decimals.
fn hundredths(whole: u64, part: u64) -> String {
    (whole * 100)
        .checked_div(part)
        .map_or_else(|| "–".to_owned(), |quotient| format!("{}.{:02}", quotient / 100, quotient % 100))
}
