//! Drives engines: as fast as they go, at a fixed rate, and on budgets that nobody used before.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cfr_billing::escrow::{Escrow, EscrowConfig};
use cfr_billing::store::LedgerStore;
use cfr_core::ledger::BudgetLedger;
use cfr_core::time::{Clock, SystemClock};
use tokio::task::JoinSet;

use super::counted::{Calls, Counted};
use super::workload::Spender;
use crate::Failure;

/// Steps through the spenders so that clients meet on shared budgets and not in step.
const STRIDE: usize = 7;

/// Engines over one store, each with a count of its own.
#[derive(Debug)]
pub struct Engines {
    nodes: Vec<(Arc<Escrow>, Arc<Counted>)>,
    clock: Arc<SystemClock>,
}

/// What a closed loop achieved.
#[derive(Debug, Clone, Copy)]
pub struct Throughput {
    /// Requests that were held and settled, both durable.
    pub requests: u64,
    /// How long that took.
    pub elapsed: Duration,
    /// What the engines asked of the store meanwhile.
    pub calls: Calls,
}

impl Throughput {
    /// Requests per second.
    #[must_use]
    pub fn rate(&self) -> u64 {
        let micros = self.elapsed.as_micros().max(1);
        u64::try_from(u128::from(self.requests) * 1_000_000 / micros).unwrap_or(u64::MAX)
    }
}

/// Latencies in microseconds, sorted.
#[derive(Debug, Default)]
pub struct Latencies(Vec<u64>);

impl Latencies {
    fn new(mut micros: Vec<u64>) -> Self {
        micros.sort_unstable();
        Self(micros)
    }

    /// The value below which this many percent lie.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> u64 {
        self.0.get(self.0.len().saturating_sub(1) * percent / 100).copied().unwrap_or(0)
    }
}

impl Engines {
    /// Starts one engine per store handle.
    ///
    /// # Errors
    /// When a store cannot be written.
    pub async fn start(stores: Vec<Arc<dyn LedgerStore>>) -> Result<Self, Failure> {
        Self::start_with(stores, |config| config).await
    }

    /// The same with other settings than the defaults.
    ///
    /// # Errors
    /// When a store cannot be written.
    pub async fn start_with(
        stores: Vec<Arc<dyn LedgerStore>>,
        settings: fn(EscrowConfig) -> EscrowConfig,
    ) -> Result<Self, Failure> {
        let clock = Arc::new(SystemClock::new());
        let mut nodes = Vec::with_capacity(stores.len());
        for (number, store) in stores.into_iter().enumerate() {
            let counted = Arc::new(Counted::new(store));
            let config = settings(EscrowConfig::new(format!("bench-{number}")));
            nodes.push((Escrow::start(Arc::clone(&counted) as _, Arc::clone(&clock) as _, config).await?, counted));
        }
        Ok(Self { nodes, clock })
    }

    /// Ends them in good order.
    ///
    /// # Errors
    /// When not everything could be written.
    pub async fn shutdown(self) -> Result<(), Failure> {
        for (escrow, _) in self.nodes {
            escrow.shutdown().await?;
        }
        Ok(())
    }

    fn calls(&self) -> Calls {
        self.nodes.iter().map(|(_, counted)| counted.calls()).fold(Calls::default(), |sum, calls| Calls {
            acquires: sum.acquires + calls.acquires,
            asks: sum.asks + calls.asks,
            commits: sum.commits + calls.commits,
            ops: sum.ops + calls.ops,
            returns: sum.returns + calls.returns,
            others: sum.others + calls.others,
        })
    }

    /// `clients` per engine hold and settle without a pause for `duration`, each step waiting until it is durable.
    ///
    /// # Errors
    /// When a request is refused.
    pub async fn closed_loop(
        &self,
        spenders: &Arc<[Spender]>,
        clients: usize,
        duration: Duration,
    ) -> Result<Throughput, Failure> {
        let turns = |engine: usize, client: usize| (engine + client..).step_by(STRIDE);
        self.in_turns(spenders, clients, duration, turns).await
    }

    /// The same, but each request is of the spender who has waited longest: nobody comes twice before everybody came.
    ///
    /// # Errors
    /// When a request is refused.
    pub async fn everybody_in_turn(
        &self,
        spenders: &Arc<[Spender]>,
        clients: usize,
        duration: Duration,
    ) -> Result<Throughput, Failure> {
        let last = Arc::new(AtomicUsize::new(0));
        let turns = move |_, _| {
            let last = Arc::clone(&last);
            std::iter::repeat_with(move || last.fetch_add(1, Ordering::Relaxed) * STRIDE)
        };
        self.in_turns(spenders, clients, duration, turns).await
    }

    async fn in_turns<T: Iterator<Item = usize> + Send + 'static>(
        &self,
        spenders: &Arc<[Spender]>,
        clients: usize,
        duration: Duration,
        turns: impl Fn(usize, usize) -> T,
    ) -> Result<Throughput, Failure> {
        let (before, begin) = (self.calls(), self.clock.uptime());
        let end = begin + duration;
        let mut tasks = JoinSet::new();
        for (number, (escrow, _)) in self.nodes.iter().enumerate() {
            for client in 0..clients {
                let (escrow, clock, spenders) = (Arc::clone(escrow), Arc::clone(&self.clock), Arc::clone(spenders));
                let turns = turns(number, client);
                tasks.spawn(async move { client_loop(&escrow, &clock, &spenders, turns, end).await });
            }
        }
        let mut requests = 0;
        while let Some(done) = tasks.join_next().await {
            requests += done??;
        }
        Ok(Throughput { requests, elapsed: self.clock.uptime() - begin, calls: self.calls() - before })
    }

    /// Requests arrive `rate` times per second for `duration`, at the engines in turns, and each lasts `call`. Returns how
    /// long each waited until its hold was durable.
    ///
    /// # Errors
    /// When a request is refused.
    pub async fn open_loop(
        &self,
        spenders: &Arc<[Spender]>,
        rate: u32,
        call: Duration,
        duration: Duration,
    ) -> Result<(Latencies, Throughput), Failure> {
        let (before, begin) = (self.calls(), self.clock.uptime());
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
        let mut tasks = JoinSet::new();
        let mut waits = Vec::new();
        let mut number = 0;
        while self.clock.uptime() < begin + duration {
            ticks.tick().await;
            let spender = spenders.get(number % spenders.len()).ok_or("no spender")?.clone();
            let (escrow, _) = self.nodes.get(number % self.nodes.len()).ok_or("no engine")?;
            let (escrow, clock) = (Arc::clone(escrow), Arc::clone(&self.clock));
            tasks.spawn(async move { one_call(&escrow, &clock, &spender, call).await });
            number += 1;
            while let Some(done) = tasks.try_join_next() {
                waits.push(done??);
            }
        }
        while let Some(done) = tasks.join_next().await {
            waits.push(done??);
        }
        let requests = waits.len() as u64;
        let throughput = Throughput { requests, elapsed: self.clock.uptime() - begin, calls: self.calls() - before };
        Ok((Latencies::new(waits), throughput))
    }

    /// The first request of each spender, one after the other: how long until its hold is durable.
    ///
    /// # Errors
    /// When a request is refused.
    pub async fn one_by_one(&self, spenders: &[Spender]) -> Result<(Latencies, Throughput), Failure> {
        let (escrow, _) = self.nodes.first().ok_or("no engine")?;
        let (before, begin) = (self.calls(), self.clock.uptime());
        let mut waits = Vec::with_capacity(spenders.len());
        for spender in spenders {
            waits.push(one_call(escrow, &self.clock, spender, Duration::ZERO).await?);
        }
        let requests = waits.len() as u64;
        let throughput = Throughput { requests, elapsed: self.clock.uptime() - begin, calls: self.calls() - before };
        Ok((Latencies::new(waits), throughput))
    }
}

async fn client_loop(
    escrow: &Escrow,
    clock: &SystemClock,
    spenders: &[Spender],
    turns: impl Iterator<Item = usize>,
    end: Duration,
) -> Result<u64, Failure> {
    let mut requests = 0;
    for turn in turns {
        if clock.uptime() >= end {
            break;
        }
        let spender = spenders.get(turn % spenders.len()).ok_or("no spender")?;
        one_call(escrow, clock, spender, Duration::ZERO).await?;
        requests += 1;
    }
    Ok(requests)
}

/// Holds, waits for that to be durable, takes `call`, settles, waits for that. Returns the first wait in microseconds.
async fn one_call(escrow: &Escrow, clock: &SystemClock, spender: &Spender, call: Duration) -> Result<u64, Failure> {
    let begin = clock.uptime();
    let hold = escrow.authorize(spender.ask(clock.now())).await?;
    hold.committed.await?;
    let wait = clock.uptime() - begin;
    if !call.is_zero() {
        tokio::time::sleep(call).await;
    }
    let settled = escrow.settle(hold.id, spender.settlement(hold.id, clock.now()))?;
    settled.committed.await?;
    Ok(u64::try_from(wait.as_micros()).unwrap_or(u64::MAX))
}
