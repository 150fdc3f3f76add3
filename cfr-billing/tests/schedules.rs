//! Random schedules of everything that can happen to a few nodes of one store: requests in every order, lost and late
//! answers, partitions longer than leases, fences, kills, restarts, the end of a day. All of it in virtual time.
//!
//! `CFR_SCHEDULES` says how many schedules are played. A failure names its seed; `CFR_SEED` plays that one alone.
#![allow(clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "this is a test that names its seed")]

#[path = "simulator/random.rs"]
mod random;
mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cfr_billing::audit_log::Act;
use cfr_billing::escrow::{Escrow, EscrowConfig};
use cfr_billing::store::{CatalogStore, LedgerStore, OrphanPolicy};
use cfr_billing::usage::UsageFilter;
use cfr_core::id::{BudgetId, HoldId};
use cfr_core::ledger::{AuthorizeError, BudgetLedger, Commit, HoldRequest, LedgerError, ReleaseReason, UsageRecord};
use cfr_core::time::{Clock, Period};
use random::Random;
use support::cluster::{Cluster, TTL, config};
use support::link::{Link, Weather};
use support::{eur, price};
use tokio::time::{Instant, sleep};

/// Schedules that are played unless the environment says otherwise.
const SCHEDULES: u64 = 60;
/// Steps of one schedule.
const STEPS: u32 = 400;
const PROCESSES_MAX: usize = 6;
const HOLD_MAX: Duration = Duration::from_secs(40);
const GRACE: Duration = Duration::from_secs(20);
/// Longer than anything of a dead node can stay.
const UNTIL_QUIET: Duration = Duration::from_secs(2 * (30 + 40 + 20));
const WEATHERS: [Weather; 3] = [Weather::Cut, Weather::Deaf, Weather::Frozen];

#[test]
fn no_schedule_overspends_charges_twice_or_strands_money() {
    match number_from_env("CFR_SEED") {
        Some(seed) => play(seed),
        None => (0..number_from_env("CFR_SCHEDULES").unwrap_or(SCHEDULES)).for_each(play),
    }
}

fn number_from_env(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not `{text}`")))
}

fn play(seed: u64) {
    println!("CFR_SEED={seed}"); // shown when the schedule fails
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let mut schedule = Schedule::begin(seed).await;
        for _ in 0..STEPS {
            schedule.step().await;
            schedule.assert_within_limits().await;
        }
        schedule.end().await;
    });
}

/// A process, its way to the store, and the calls that run on it.
#[derive(Debug)]
struct Process {
    name: String,
    link: Arc<Link>,
    escrow: Arc<Escrow>,
    open: Vec<Running>,
}

#[derive(Debug)]
struct Running {
    hold: HoldId,
    amount: i64,
    since: Instant,
    raises: u32,
}

/// What a hold was asked for, and how it ended.
#[derive(Debug)]
struct Call {
    path: Vec<BudgetId>,
    price: Option<i64>,
    /// Whether the charge was said to be durable.
    acknowledged: bool,
}

struct Schedule {
    random: Random,
    cluster: Cluster,
    budgets: Vec<BudgetId>,
    processes: Vec<Process>,
    calls: BTreeMap<HoldId, Call>,
    pending: Vec<(HoldId, Commit)>,
    /// Names that were given to processes whose own was taken.
    named: usize,
}

impl Schedule {
    async fn begin(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let cluster = Cluster::starting_at("2026-03-10T23:57:00Z");
        let terms = [(3_000, Period::Never), (900, Period::Never), (1_500, Period::Day), (400, Period::Day)];
        let budgets = terms.map(|(nanos, period)| cluster.budget(nanos, period)).to_vec();
        let mut processes = Vec::new();
        for number in 0..2 + random.position_below(3) {
            processes.push(process(&cluster, &format!("node-{number}"), OrphanPolicy::Evidence).await);
        }
        Self { random, cluster, budgets, processes, calls: BTreeMap::new(), pending: Vec::new(), named: 0 }
    }

    async fn step(&mut self) {
        let at = self.random.position_below(self.processes.len());
        match self.random.below(100) {
            0..32 => self.hold(at).await,
            32..36 => self.hold_together().await,
            36..58 => self.settle_one(at),
            58..62 => self.release_one(at),
            62..67 => self.extend_one(at).await,
            67..90 => sleep(Duration::from_millis(self.random.below(1_500))).await,
            90..92 => sleep(Duration::from_secs(self.random.below(70))).await,
            92..95 => {
                let weather = WEATHERS[self.random.position_below(WEATHERS.len())];
                self.processes[at].link.set(weather);
            }
            95..98 => self.processes[at].link.set(Weather::Fair),
            98 => self.fence(at).await,
            _ => self.restart(at).await,
        }
        self.end_old_calls();
        self.hear_commits().await;
    }

    fn ask(&mut self) -> HoldRequest {
        let first = self.random.position_below(self.budgets.len());
        let second = self.random.position_below(self.budgets.len());
        let mut path = vec![self.budgets[first]];
        path.extend((second != first).then(|| self.budgets[second]));
        let most = 1 + self.random.amount_below(200);
        let least = if self.random.happens(300) { 1 + self.random.amount_below(most) } else { most };
        let ask = HoldRequest { amount_min: eur(least), ..self.cluster.ask(&path, most) };
        self.calls.insert(ask.id, Call { path, price: None, acknowledged: false });
        ask
    }

    async fn hold(&mut self, at: usize) {
        let ask = self.ask();
        let held = self.processes[at].escrow.clone().authorize(ask.clone()).await;
        self.note_hold(at, &ask, held);
    }

    /// Every node at the same moment.
    async fn hold_together(&mut self) {
        let mut tasks = tokio::task::JoinSet::new();
        for at in 0..self.processes.len() {
            let (ask, escrow) = (self.ask(), self.processes[at].escrow.clone());
            tasks.spawn(async move { (at, ask.clone(), escrow.authorize(ask).await) });
        }
        while let Some(done) = tasks.join_next().await {
            let (at, ask, held) = done.expect("no request panics");
            self.note_hold(at, &ask, held);
        }
    }

    fn note_hold(&mut self, at: usize, ask: &HoldRequest, held: Result<cfr_core::ledger::Hold, AuthorizeError>) {
        match held {
            Ok(hold) => {
                let (hold, amount) = (hold.id, hold.amount.nanos());
                assert!((ask.amount_min.nanos()..=ask.amount.nanos()).contains(&amount), "{amount} of {ask:?}");
                self.processes[at].open.push(Running { hold, amount, since: Instant::now(), raises: 0 });
            }
            Err(AuthorizeError::Denied(_) | AuthorizeError::Ledger(LedgerError::Unavailable { .. })) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn take_open(&mut self, at: usize) -> Option<Running> {
        let open = &mut self.processes[at].open;
        if open.is_empty() { None } else { Some(open.swap_remove(self.random.position_below(open.len()))) }
    }

    fn settle_one(&mut self, at: usize) {
        let Some(running) = self.take_open(at) else { return };
        let most = if self.random.happens(150) { 180 } else { 101 };
        let percent = self.random.amount_below(most);
        self.settle(at, &running, running.amount * percent / 100);
    }

    fn settle(&mut self, at: usize, running: &Running, nanos: i64) {
        let settlement = price(running.hold, self.cluster.clock.now(), nanos);
        let settled = self.processes[at].escrow.settle(running.hold, settlement).expect("it is open");
        assert!(settled.charged.nanos() <= nanos && settled.charged.nanos() + settled.overrun.nanos() == nanos);
        self.calls.get_mut(&running.hold).expect("it was asked for").price = Some(nanos);
        self.pending.push((running.hold, settled.committed));
    }

    fn release_one(&mut self, at: usize) {
        if let Some(running) = self.take_open(at) {
            let released = self.processes[at].escrow.release(running.hold, ReleaseReason::Abandoned);
            drop(released.expect("it is open"));
        }
    }

    async fn extend_one(&mut self, at: usize) {
        let Some(mut running) = self.take_open(at) else { return };
        let raise = 1 + self.random.amount_below(100);
        let raised = self.processes[at].escrow.extend(running.hold, running.raises + 1, eur(raise)).await;
        if raised.is_ok() {
            running.raises += 1;
            running.amount += raise;
        }
        self.processes[at].open.push(running);
    }

    /// An operator takes a node for dead, and sometimes starts another process of its name although it lives.
    async fn fence(&mut self, at: usize) {
        let (store, now) = (&self.cluster.store, self.cluster.clock.now());
        let name = self.processes[at].name.clone();
        store.fence(&name, &Act::of_system(now)).await.expect("it registered");
        if self.processes.len() < PROCESSES_MAX && self.random.happens(500) {
            self.processes.push(process(&self.cluster, &name, OrphanPolicy::Release).await);
        }
    }

    /// Kills a process, or ends it well, and starts the next one, under another name when its own was taken.
    async fn restart(&mut self, at: usize) {
        let policy = if self.random.happens(500) { OrphanPolicy::Release } else { OrphanPolicy::Evidence };
        let well = self.random.happens(500);
        while well && let Some(running) = self.take_open(at) {
            self.settle(at, &running, running.amount / 2);
        }
        let old = self.processes.remove(at);
        if well {
            drop(old.escrow.shutdown().await); // it fails when the store is away
        }
        let taken = self.processes.iter().any(|other| other.name == old.name);
        self.named += usize::from(taken);
        let name = if taken { format!("new-{}", self.named) } else { old.name.clone() };
        drop(old);
        self.processes.insert(at, process(&self.cluster, &name, policy).await);
    }

    /// The gateway ends every call before its hold is too old.
    fn end_old_calls(&mut self) {
        for at in 0..self.processes.len() {
            let old = |running: &mut Running| running.since.elapsed() + Duration::from_secs(1) > HOLD_MAX;
            let ended: Vec<_> = self.processes[at].open.extract_if(.., old).collect();
            ended.iter().for_each(|running| self.settle(at, running, running.amount));
        }
    }

    async fn hear_commits(&mut self) {
        tokio::task::yield_now().await;
        for (hold, mut commit) in std::mem::take(&mut self.pending) {
            let answer = tokio::select! {
                biased;
                answer = &mut commit => answer,
                () = std::future::ready(()) => {
                    self.pending.push((hold, commit));
                    continue;
                }
            };
            self.calls.get_mut(&hold).expect("it was asked for").acknowledged = answer.is_ok();
        }
    }

    async fn assert_within_limits(&self) {
        for &budget in &self.budgets {
            for account in self.cluster.store.accounts(budget).await.expect("the store works") {
                assert!(account.settled + account.leased <= account.granted, "{account:?}");
                assert_eq!(account.overcommit, 0);
            }
        }
    }

    /// The weather clears up and every call ends. Then nothing is leased, and the books say what happened.
    async fn end(mut self) {
        for at in 0..self.processes.len() {
            self.processes[at].link.set(Weather::Fair);
            while let Some(running) = self.take_open(at) {
                self.settle(at, &running, running.amount);
            }
        }
        sleep(UNTIL_QUIET).await;
        self.hear_commits().await;
        assert!(self.pending.is_empty(), "every settlement is answered");
        self.assert_within_limits().await;
        self.assert_everything_is_charged_once().await;
        self.cluster.assert_books_agree().await;
        self.assert_nothing_is_stranded().await;
    }

    async fn assert_everything_is_charged_once(&self) {
        let mut charged = BTreeMap::<BudgetId, i64>::new();
        for (&hold, call) in &self.calls {
            let Some(record) = self.record(hold).await else {
                assert!(!call.acknowledged, "{hold} was said to be charged");
                continue;
            };
            assert_eq!(Some(record.charged_nanos + record.overrun_nanos), call.price, "{hold}");
            call.path.iter().for_each(|budget| *charged.entry(*budget).or_default() += record.charged_nanos);
        }
        for (budget, sum) in charged {
            let accounts = self.cluster.store.accounts(budget).await.expect("the store works");
            assert_eq!(accounts.iter().map(|account| account.settled).sum::<i64>(), sum, "{budget}");
        }
    }

    async fn record(&self, hold: HoldId) -> Option<UsageRecord> {
        let filter = UsageFilter { id: Some(hold), ..UsageFilter::default() };
        let found = self.cluster.store.usage(&filter, Default::default()).await.expect("the store works");
        assert!(found.items.len() <= 1);
        found.items.into_iter().next()
    }

    async fn assert_nothing_is_stranded(&self) {
        for &budget in &self.budgets {
            for account in self.cluster.store.accounts(budget).await.expect("the store works") {
                assert_eq!(account.leased, 0, "{account:?}");
            }
            let (granted, settled, _) = self.cluster.booked(budget).await;
            let node = &self.processes[0].escrow;
            let rest = self.cluster.serve(node, budget, granted - settled, granted - settled).await;
            assert_eq!(rest, Some(granted - settled), "the rest of {budget} can be spent");
        }
    }
}

async fn process(cluster: &Cluster, name: &str, orphan_policy: OrphanPolicy) -> Process {
    let link = Link::to(cluster.store.clone());
    let config = EscrowConfig { hold_max: HOLD_MAX, reclaim_grace: GRACE, orphan_policy, ..config(name) };
    assert_eq!(config.lease_ttl, TTL);
    let escrow = Escrow::start(link.clone(), Arc::new(cluster.clock.clone()), config).await.expect("the name is free");
    Process { name: name.to_owned(), link, escrow, open: Vec::new() }
}
