//! The lease protocol on a real store: random schedules of nodes that hold, settle, lose and repeat commits, are cut off,
//! crash, come back, are fenced and reclaimed, in lock-step with the reference. After each step both stores have given the
//! same answer and have the same sums. A schedule is a function of its seed: the message of a failure names it, and
//! `CFR_SEED` plays it alone. `CFR_SCHEDULES` says how many are played.
//!
//! A store that one process owns plays the part of the schedules that one node can: its leases do not expire.

use std::time::Duration;

use cfr_core::id::{AccountId, BudgetId, HoldId, TenantId};
use cfr_core::ledger::LimitPolicy;
use cfr_core::time::{Period, Timestamp};

use super::fixture::{BOOT, Node, TTL, ask, new_tenant, noon, release, top_up};
use super::history::{Random, number_from_env};
use crate::audit_log::Act;
use crate::store::{
    AccountState, AcquireError, Boot, Incarnation, LeaseAsk, LeaseGrant, MemoryStore, Op, OrphanPolicy, Store,
    StoreError,
};

/// Schedules that are played unless the environment says otherwise.
const SCHEDULES: u64 = 12;
/// Steps in one schedule.
const STEPS: u32 = 200;
/// Nodes that share a store.
const NODES: usize = 3;
/// Groups that a node asks for at once.
const WISHES_MAX: usize = 5;
/// Budgets of a schedule: a user's, the tenant's that all share, and one that never denies.
const BUDGETS: [(i64, LimitPolicy, Period); 4] = [
    (900, LimitPolicy::Hard, Period::Never),
    (500, LimitPolicy::Hard, Period::Day),
    (1_500, LimitPolicy::Hard, Period::Never),
    (200, LimitPolicy::Soft, Period::Day),
];
/// How long after its end an expired lease is taken away.
const GRACE: Duration = Duration::from_secs(20);
/// A store's time never goes back, so each schedule begins after the one before.
const SCHEDULE_DAYS_MAX: u64 = 60;
/// Schedules that fit into the calendar one after the other.
const SCHEDULES_MAX: u64 = 20_000;

/// Plays random schedules on the store and on the reference: answers and sums must be the same after every step.
pub async fn random_schedules_of_nodes_agree_with_the_reference(store: &dyn Store) {
    match number_from_env("CFR_SEED") {
        Some(seed) => play(store, seed).await,
        None => {
            for seed in 0..number_from_env("CFR_SCHEDULES").unwrap_or(SCHEDULES) {
                play(store, seed).await;
            }
        }
    }
}

async fn play(store: &dyn Store, seed: u64) {
    let (reference, nodes) =
        if store.exclusive() { (MemoryStore::exclusive(), 1) } else { (MemoryStore::shared(), NODES) };
    let mut sides = [World::begin(store, seed, nodes).await, World::begin(&reference, seed, nodes).await];
    let mut random = Random(seed ^ 0x5eed_0f5c_4ed0_1e55);
    for step in 0..STEPS {
        let event = Event::random(&mut random, nodes);
        let [left, right] = &mut sides;
        let answers = (left.run(&event).await, right.run(&event).await);
        let context = format!("CFR_SEED={seed}, step {step}, {event:?}");
        assert_eq!(answers.0, answers.1, "{context}");
        assert_eq!(left.sums(&context).await, right.sums(&context).await, "{context}");
    }
    for side in &mut sides {
        side.come_to_rest(&format!("CFR_SEED={seed}, at the end")).await;
    }
    assert_eq!(sides[0].sums("").await, sides[1].sums("").await, "CFR_SEED={seed}, at the end");
}

/// What happens on both sides. Nodes, holds and budgets are named by their numbers.
#[derive(Debug, Clone)]
struct Event {
    node: usize,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    Acquire(Wish),
    /// Several asks at once, as of calls that arrive together.
    AcquireAll(Vec<Wish>),
    Hold {
        path: Vec<usize>,
        amount: i64,
    },
    Checkpoint {
        hold: usize,
        percent: i64,
    },
    Settle {
        hold: usize,
        percent: i64,
    },
    Release {
        hold: usize,
    },
    Flush(Fate),
    /// What was written is written again, as by a delayed copy of the message.
    Echo,
    Renew,
    GiveBack {
        budget: usize,
        percent: i64,
    },
    CutOff,
    Heal,
    Crash {
        new_process: bool,
    },
    Fence,
    Reclaim(OrphanPolicy),
    Grant {
        budget: usize,
        amount: i64,
        key: u64,
    },
    Tick {
        seconds: u64,
    },
}

/// Rights on each budget of a path.
#[derive(Debug, Clone)]
struct Wish {
    path: Vec<usize>,
    min: i64,
    want: i64,
}

impl Wish {
    fn random(random: &mut Random, path: Vec<usize>) -> Self {
        Self { path, min: random.amount(80), want: 40 + random.amount(150) }
    }

    fn asks(&self, budgets: &[BudgetId]) -> Vec<LeaseAsk> {
        self.path.iter().map(|&budget| ask(budgets[budget], self.min, self.want)).collect()
    }
}

/// What becomes of a commit.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Delivered,
    /// The store never hears of it.
    Lost,
    /// The node never hears that it happened, and sends it again some time.
    AnswerLost,
    /// It arrives twice.
    Doubled,
}

impl Event {
    fn random(random: &mut Random, nodes: usize) -> Self {
        Self { node: random.index(nodes), what: What::random(random) }
    }
}

impl What {
    fn random(random: &mut Random) -> Self {
        let (path, pick) = (random.path(), random.index(8));
        let percent = random.amount(101);
        match random.below(100) {
            0..11 => Self::Acquire(Wish::random(random, path)),
            11..15 => {
                let mut wishes = vec![Wish::random(random, path)];
                for _ in 0..random.index(WISHES_MAX) {
                    let path = random.path();
                    wishes.push(Wish::random(random, path));
                }
                Self::AcquireAll(wishes)
            }
            15..37 => Self::Hold { path, amount: 1 + random.amount(60) },
            37..42 => Self::Checkpoint { hold: pick, percent },
            42..56 => Self::Settle { hold: pick, percent },
            56..60 => Self::Release { hold: pick },
            60..76 => Self::Flush([Fate::Delivered, Fate::Lost, Fate::AnswerLost, Fate::Doubled][random.index(4)]),
            76..79 => Self::Echo,
            79..83 => Self::Renew,
            83..86 => Self::GiveBack { budget: path[0], percent },
            86..87 => Self::CutOff,
            87..89 => Self::Heal,
            89..91 => Self::Crash { new_process: random.below(2) == 0 },
            91..92 => Self::Fence,
            92..95 => {
                let policies = [OrphanPolicy::Evidence, OrphanPolicy::Release, OrphanPolicy::Suspend];
                Self::Reclaim(policies[random.index(policies.len())])
            }
            95..96 => Self::Grant { budget: path[0], amount: random.amount(150), key: random.below(6) },
            _ => Self::Tick { seconds: [1, 5, 20, 40, 3_600, 30_000][random.index(6)] },
        }
    }
}

/// A store with all its nodes.
struct World<'a> {
    store: &'a dyn Store,
    seed: u64,
    tenant: TenantId,
    budgets: Vec<BudgetId>,
    now: Timestamp,
    holds_made: u64,
    nodes: Vec<Replica>,
}

/// A node, with what only it knows.
#[derive(Debug)]
struct Replica {
    by: Incarnation,
    cut_off: bool,
    /// By budget: the account of its lease, and what is neither spent nor held of it.
    leases: Vec<Option<(AccountId, i64)>>,
    holds: Vec<LiveHold>,
    /// Decided and not known to be written.
    outbox: Vec<Op>,
    written: Vec<Op>,
}

#[derive(Debug, Clone)]
struct LiveHold {
    id: HoldId,
    opener: i64,
    path: Vec<usize>,
    accounts: Vec<AccountId>,
    amount: i64,
}

impl<'a> World<'a> {
    async fn begin(store: &'a dyn Store, seed: u64, nodes: usize) -> Self {
        let days = seed % SCHEDULES_MAX * SCHEDULE_DAYS_MAX;
        let now = noon().checked_add(Duration::from_secs(days * 86_400)).expect("inside the calendar");
        let tenant = store
            .create_tenant(&new_tenant(&format!("schedule-{seed}")), &Act::of_system(now))
            .await
            .expect("it is free")
            .id;
        let mut world =
            Self { store, seed, tenant, budgets: Vec::new(), now, holds_made: 0, nodes: Vec::with_capacity(nodes) };
        for number in 0..nodes {
            let by = store.register(&world.name(number), boot(number), now).await.expect("the store works");
            world.nodes.push(Replica::new(by));
        }
        for (included, policy, period) in BUDGETS {
            let budget = world.as_node(0).budget(included, policy, period).await;
            world.budgets.push(budget);
        }
        world
    }

    fn name(&self, number: usize) -> String {
        format!("schedule-{}-node-{number}", self.seed)
    }

    /// The words of the fixture for a node's current life.
    fn as_node(&self, number: usize) -> Node<'a> {
        Node { store: self.store, by: self.nodes[number].by.clone(), tenant: self.tenant, now: self.now }
    }

    async fn run(&mut self, event: &Event) -> String {
        let number = event.node;
        match &event.what {
            What::Hold { path, amount } => self.hold(number, path, *amount),
            What::Checkpoint { hold, percent } => self.checkpoint(number, *hold, *percent),
            What::Settle { hold, percent } => self.settle(number, *hold, *percent),
            What::Release { hold } => self.release(number, *hold),
            What::CutOff => self.set_cut_off(number, true),
            What::Heal => self.set_cut_off(number, false),
            What::Tick { seconds } => self.tick(*seconds),
            What::Crash { new_process } => self.crash(number, *new_process).await,
            What::Fence => said(self.store.fence(&self.name(number), &Act::of_system(self.now)).await),
            What::Reclaim(policy) => self.reclaim(*policy).await,
            What::Grant { budget, amount, key } => self.grant(*budget, *amount, *key).await,
            _ if self.nodes[number].cut_off => "cut off".into(),
            What::Acquire(wish) => self.acquire(number, wish).await,
            What::AcquireAll(wishes) => self.acquire_all(number, wishes).await,
            What::Flush(fate) => self.flush(number, *fate).await,
            What::Echo => self.commit(number, self.nodes[number].written.clone()).await,
            What::Renew => self.renew(number).await,
            What::GiveBack { budget, percent } => self.give_back(number, *budget, *percent).await,
        }
    }

    async fn acquire(&mut self, number: usize, wish: &Wish) -> String {
        let answer = self.as_node(number).acquire(&wish.asks(&self.budgets)).await;
        match self.answered(number, wish, answer) {
            Ok(said) => said,
            Err(error) => self.refused(number, error).await,
        }
    }

    async fn acquire_all(&mut self, number: usize, wishes: &[Wish]) -> String {
        let asks: Vec<Vec<LeaseAsk>> = wishes.iter().map(|wish| wish.asks(&self.budgets)).collect();
        let groups: Vec<&[LeaseAsk]> = asks.iter().map(Vec::as_slice).collect();
        let answers = self.store.acquire_all(&self.nodes[number].by, &groups, TTL, self.now).await;
        assert_eq!(answers.len(), wishes.len(), "one answer per group");
        let answers = wishes.iter().zip(answers).map(|(wish, answer)| self.answered(number, wish, answer));
        match answers.collect::<Result<Vec<String>, StoreError>>() {
            Ok(said) => said.join("; "),
            Err(error) => self.refused(number, error).await,
        }
    }

    /// Notes what was granted; words for an answer of the store.
    fn answered(
        &mut self,
        number: usize,
        wish: &Wish,
        answer: Result<Vec<LeaseGrant>, AcquireError>,
    ) -> Result<String, StoreError> {
        match answer {
            Ok(grants) => {
                let replica = &mut self.nodes[number];
                for (&budget, grant) in wish.path.iter().zip(&grants) {
                    replica.add_rights(budget, grant.account, grant.granted);
                }
                let said = grants.iter().map(|grant| (grant.granted, grant.room, grant.period));
                Ok(format!("{:?}", said.collect::<Vec<_>>()))
            }
            Err(AcquireError::Denied { budget, room, .. }) => {
                Ok(format!("{:?} has {room}", self.budgets.iter().position(|known| *known == budget)))
            }
            Err(AcquireError::Store(error)) => Err(error),
            Err(error) => Ok(error.to_string()),
        }
    }

    /// Only inside the lease, as the engine does.
    fn hold(&mut self, number: usize, path: &[usize], amount: i64) -> String {
        let node = self.as_node(number);
        let replica = &mut self.nodes[number];
        let Some(accounts) = replica.take_rights(path, amount) else { return "no rights".into() };
        self.holds_made += 1;
        let id = HoldId::from_u128((u128::from(self.seed) << 64) + (1 << 63) + u128::from(self.holds_made));
        replica.outbox.push(node.open(id, &accounts, amount));
        let (opener, path) = (replica.by.epoch, path.to_vec());
        replica.holds.push(LiveHold { id, opener, path, accounts, amount });
        "held".into()
    }

    fn checkpoint(&mut self, number: usize, hold: usize, percent: i64) -> String {
        let Some(hold) = self.nodes[number].holds.get(hold).cloned() else { return String::new() };
        let op = self.as_opener(number, &hold).checkpoint(hold.id, hold.amount * percent / 100); // down
        self.nodes[number].outbox.push(op);
        "noted".into()
    }

    fn settle(&mut self, number: usize, hold: usize, percent: i64) -> String {
        let Some(hold) = self.nodes[number].end(hold) else { return String::new() };
        let charged = hold.amount * percent / 100; // down
        let op = self.as_opener(number, &hold).settle(hold.id, &hold.accounts, charged);
        self.nodes[number].outbox.push(op);
        self.nodes[number].put_back(&hold, hold.amount - charged);
        "settled".into()
    }

    fn release(&mut self, number: usize, hold: usize) -> String {
        let Some(hold) = self.nodes[number].end(hold) else { return String::new() };
        self.nodes[number].outbox.push(release(hold.id));
        self.nodes[number].put_back(&hold, hold.amount);
        "released".into()
    }

    /// The life that made the hold.
    fn as_opener(&self, number: usize, hold: &LiveHold) -> Node<'a> {
        let node = self.as_node(number);
        Node { by: Incarnation { epoch: hold.opener, ..node.by }, ..node }
    }

    async fn flush(&mut self, number: usize, fate: Fate) -> String {
        let batch = self.nodes[number].outbox.clone();
        let mut answer = String::new();
        let times = match fate {
            Fate::Lost => 0,
            Fate::Delivered | Fate::AnswerLost => 1,
            Fate::Doubled => 2,
        };
        for _ in 0..times {
            answer = self.commit(number, batch.clone()).await;
        }
        if matches!(fate, Fate::Delivered | Fate::Doubled) && answer == WRITTEN {
            self.nodes[number].written = std::mem::take(&mut self.nodes[number].outbox);
        }
        answer
    }

    async fn commit(&mut self, number: usize, ops: Vec<Op>) -> String {
        match self.store.commit(&self.nodes[number].by, &ops, self.now).await {
            Ok(()) => WRITTEN.into(),
            Err(error) => self.refused(number, error).await,
        }
    }

    async fn renew(&mut self, number: usize) -> String {
        match self.store.renew(&self.nodes[number].by, TTL, self.now).await {
            Ok(renewal) => format!("{} leases of {} nodes", renewal.accounts.len(), renewal.nodes.min(1)),
            Err(error) => self.refused(number, error).await,
        }
    }

    async fn give_back(&mut self, number: usize, budget: usize, percent: i64) -> String {
        let replica = &mut self.nodes[number];
        let Some((account, rest)) = replica.leases[budget].as_mut() else { return "no rights".into() };
        let amount = *rest * percent / 100; // down
        *rest -= amount;
        let rights = [(*account, amount)];
        match self.store.give_back(&self.nodes[number].by, &rights).await {
            Ok(()) => amount.to_string(),
            Err(error) => self.refused(number, error).await,
        }
    }

    fn set_cut_off(&mut self, number: usize, cut_off: bool) -> String {
        self.nodes[number].cut_off = cut_off;
        String::new()
    }

    fn tick(&mut self, seconds: u64) -> String {
        self.now = self.now.checked_add(Duration::from_secs(seconds)).expect("inside the calendar");
        String::new()
    }

    /// The process is gone with all that it had not written. Another one that comes at once may have to wait for the name.
    async fn crash(&mut self, number: usize, new_process: bool) -> String {
        let other = Boot(BOOT.0 + 1_000 + u128::from(self.holds_made));
        let boot = if new_process { other } else { boot(number) };
        match self.store.register(&self.name(number), boot, self.now).await {
            Ok(by) => {
                self.nodes[number] = Replica::new(by);
                "restarted".into()
            }
            Err(StoreError::NodeInUse { .. }) => "the name is in use".into(),
            Err(error) => error.to_string(),
        }
    }

    async fn reclaim(&mut self, policy: OrphanPolicy) -> String {
        let before = self.now.checked_sub(GRACE).expect("inside the calendar");
        format!("{:?}", self.store.reclaim(before, policy, self.now).await.expect("the store works"))
    }

    async fn grant(&mut self, budget: usize, amount: i64, key: u64) -> String {
        let grant = top_up(self.budgets[budget], amount, &format!("schedule-{}-{key}", self.seed));
        let granted = self.store.grant(&grant, self.now).await;
        granted.map_or_else(|_| "refused".into(), |grant| grant.amount_nanos.to_string())
    }

    /// A node that was declared dead comes back with a new epoch. What it decided before, it still writes.
    async fn refused(&mut self, number: usize, error: StoreError) -> String {
        if !matches!(error, StoreError::Fenced) {
            return format!("refused: {error}");
        }
        match self.store.register(&self.name(number), boot(number), self.now).await {
            Ok(by) => {
                self.nodes[number].by = by;
                self.nodes[number].leases.fill(None);
                "fenced, and back".into()
            }
            Err(StoreError::NodeInUse { .. }) => "fenced, and its name is in use".into(),
            Err(error) => error.to_string(),
        }
    }

    /// The sums of every account, which hold at every moment.
    async fn sums(&self, context: &str) -> Vec<String> {
        let mut sums = Vec::new();
        for (position, &budget) in self.budgets.iter().enumerate() {
            for account in self.store.accounts(budget).await.expect("the store works") {
                let AccountState { seq, policy, period, granted, settled, leased, overrun, overcommit, .. } = account;
                assert!(settled + leased <= granted + overcommit, "{context}: budget {position} is over its limit");
                sums.push(format!("budget {position}, period {seq} {period:?} {policy:?}: granted {granted}, settled {settled}, leased {leased}, overrun {overrun}"));
            }
        }
        sums
    }

    /// Everybody comes back, ends what is open and gives back what is left: then nothing is leased, and the books agree.
    async fn come_to_rest(&mut self, context: &str) {
        for number in 0..self.nodes.len() {
            self.nodes[number].cut_off = false;
            while !self.nodes[number].holds.is_empty() {
                self.release(number, 0);
            }
            self.rest(number, context).await;
        }
        let released = self.reclaim(OrphanPolicy::Release).await;
        let suspended: Vec<Op> = (1..=self.holds_made)
            .map(|made| release(HoldId::from_u128((u128::from(self.seed) << 64) + (1 << 63) + u128::from(made))))
            .collect();
        assert_eq!(self.commit(0, suspended).await, WRITTEN, "{context}");
        self.nodes[0].by = self.store.register(&self.name(0), boot(0), self.now).await.expect("the same process");
        self.reclaim(OrphanPolicy::Release).await;
        for budget in &self.budgets {
            for account in self.store.accounts(*budget).await.expect("the store works") {
                assert_eq!(account.leased, 0, "{context}: rights are stranded ({released}): {account:?}");
            }
        }
        assert_eq!(self.store.audit().await.expect("the store works"), [], "{context}");
    }

    /// Writes what is left, then begins a new life, so that the leases of all before are dead.
    async fn rest(&mut self, number: usize, context: &str) {
        let later = self.now.checked_add(TTL + TTL).expect("inside the calendar");
        self.now = later;
        let written = self.flush(number, Fate::Delivered).await;
        if written != WRITTEN {
            assert_eq!(self.flush(number, Fate::Delivered).await, WRITTEN, "{context}: {written}");
        }
        let by = self.store.register(&self.name(number), boot(number), self.now).await;
        self.nodes[number].by = by.unwrap_or_else(|error| panic!("{context}: {error}"));
    }
}

const WRITTEN: &str = "written";

fn boot(number: usize) -> Boot {
    Boot(BOOT.0 + number as u128)
}

impl Replica {
    fn new(by: Incarnation) -> Self {
        let leases = vec![None; BUDGETS.len()];
        Self { by, cut_off: false, leases, holds: Vec::new(), outbox: Vec::new(), written: Vec::new() }
    }

    fn add_rights(&mut self, budget: usize, account: AccountId, granted: i64) {
        let rest = self.leases[budget].filter(|(known, _)| *known == account).map_or(0, |(_, rest)| rest);
        self.leases[budget] = Some((account, rest + granted));
    }

    /// The accounts of the path, when there are such rights on all of them.
    fn take_rights(&mut self, path: &[usize], amount: i64) -> Option<Vec<AccountId>> {
        let covers = |budget: &usize| self.leases[*budget].filter(|(_, rest)| *rest >= amount);
        let accounts = path.iter().map(|budget| covers(budget).map(|(account, _)| account)).collect();
        if Option::is_some(&accounts) {
            for &budget in path {
                self.leases[budget] = self.leases[budget].map(|(account, rest)| (account, rest - amount));
            }
        }
        accounts
    }

    fn end(&mut self, hold: usize) -> Option<LiveHold> {
        (hold < self.holds.len()).then(|| self.holds.remove(hold))
    }

    fn put_back(&mut self, hold: &LiveHold, amount: i64) {
        for (&budget, &account) in hold.path.iter().zip(&hold.accounts) {
            let epoch = self.by.epoch;
            let lease = self.leases[budget].as_mut();
            if let Some((_, rest)) = lease.filter(|(known, _)| *known == account && hold.opener == epoch) {
                *rest += amount;
            }
        }
    }
}

fn said(answer: Result<(), StoreError>) -> String {
    answer.map_or_else(|error| error.to_string(), |()| String::new())
}
