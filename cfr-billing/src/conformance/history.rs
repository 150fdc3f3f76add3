//! Random histories in lock-step with the reference. A history is a function of its seed: the message of a failure names
//! it, and `CFR_SEED` plays it alone. `CFR_STORE_SEQUENCES` says how many are played.

use std::time::Duration;

use cfr_core::id::{AccountId, BudgetId, HoldId};
use cfr_core::ledger::LimitPolicy;
use cfr_core::time::{Period, Timestamp};

use super::fixture::{BOOT, Node, ask, new_tenant, noon, release, top_up};
use crate::audit_log::Act;
use crate::store::{AccountState, AcquireError, MemoryStore, Op, OrphanPolicy, Store};

/// Histories that are played unless the environment says otherwise.
const SEQUENCES: u64 = 20;
/// Steps in one history.
const STEPS: u32 = 120;
/// Budgets of a history.
const BUDGETS: [(i64, LimitPolicy, Period); 4] = [
    (400, LimitPolicy::Hard, Period::Day),
    (1_000, LimitPolicy::Hard, Period::Never),
    (300, LimitPolicy::Soft, Period::Day),
    (0, LimitPolicy::Unlimited, Period::Never),
];

/// A store's time never goes back, so each history begins after the one before: its ticks add up to less than this.
const HISTORY_DAYS_MAX: u64 = 100;
/// Histories that fit into the calendar one after the other.
const HISTORIES_MAX: u64 = 10_000;

/// Plays random histories on the store and on the reference: answers and accounts must be the same after every step.
pub async fn random_histories_agree_with_the_reference(store: &dyn Store) {
    match number_from_env("CFR_SEED") {
        Some(seed) => play(store, seed).await,
        None => {
            for seed in 0..number_from_env("CFR_STORE_SEQUENCES").unwrap_or(SEQUENCES) {
                play(store, seed).await;
            }
        }
    }
}

pub(super) fn number_from_env(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not `{text}`")))
}

pub(super) async fn play(store: &dyn Store, seed: u64) {
    let reference = if store.exclusive() { MemoryStore::exclusive() } else { MemoryStore::shared() };
    let node = format!("node-{seed}");
    let mut sides = [Side::begin(store, &node, seed).await, Side::begin(&reference, &node, seed).await];
    let mut random = Random(seed);
    let mut script = Script::default();
    for step in 0..STEPS {
        let command = script.next(&mut random);
        let [left, right] = &mut sides;
        let answers = (left.run(&command).await, right.run(&command).await);
        let context = format!("CFR_SEED={seed}, step {step}, {command:?}");
        assert_eq!(answers.0, answers.1, "{context}");
        assert_eq!(left.accounts().await, right.accounts().await, "{context}");
    }
    for side in &sides {
        side.node.assert_books_agree().await;
    }
}

fn beginning(seed: u64) -> Timestamp {
    let days = seed % HISTORIES_MAX * HISTORY_DAYS_MAX;
    noon().checked_add(Duration::from_secs(days * 86_400)).expect("inside the calendar")
}

/// What happens on both sides. Holds are named by their number, budgets by their position.
#[derive(Debug, Clone)]
enum Command {
    Acquire { path: Vec<usize>, min: i64, want: i64 },
    Open { hold: usize, path: Vec<usize>, amount: i64 },
    Checkpoint { hold: usize, charged: i64 },
    Settle { hold: usize, percent: i64 },
    Release { hold: usize },
    Repeat,
    GiveBack { budget: usize, amount: i64 },
    Grant { budget: usize, amount: i64, key: u64 },
    Restart { policy: OrphanPolicy },
    Tick { hours: u64 },
}

#[derive(Debug, Default)]
struct Script {
    holds: usize,
    keys: u64,
}

impl Script {
    fn next(&mut self, random: &mut Random) -> Command {
        let path = random.path();
        let hold = random.index(self.holds.max(1));
        match random.below(100) {
            0..20 => Command::Acquire { path, min: random.amount(150), want: 150 + random.amount(300) },
            20..45 => {
                self.holds += 1;
                Command::Open { hold: self.holds - 1, path, amount: random.amount(120) }
            }
            45..52 => Command::Checkpoint { hold, charged: random.amount(60) },
            52..72 => Command::Settle { hold, percent: random.amount(101) },
            72..78 => Command::Release { hold },
            78..84 => Command::Repeat,
            84..88 => Command::GiveBack { budget: path[0], amount: random.amount(200) },
            88..93 => {
                self.keys += 1;
                Command::Grant { budget: path[0], amount: random.amount(200) - 50, key: random.below(self.keys) }
            }
            93..95 => {
                let policies = [OrphanPolicy::Release, OrphanPolicy::Evidence, OrphanPolicy::Suspend];
                Command::Restart { policy: policies[random.index(policies.len())] }
            }
            _ => Command::Tick { hours: random.below(20) },
        }
    }
}

/// One store, with what a node would know about it.
struct Side<'a> {
    node: Node<'a>,
    seed: u64,
    budgets: Vec<BudgetId>,
    /// The newest account of each budget that this life has a lease on, and what is left of the lease.
    leases: Vec<Option<(AccountId, i64)>>,
    holds: Vec<Option<SideHold>>,
    last: Vec<Op>,
}

#[derive(Clone)]
struct SideHold {
    id: HoldId,
    opener: i64,
    accounts: Vec<AccountId>,
    path: Vec<usize>,
    amount: i64,
    ended: bool,
}

impl<'a> Side<'a> {
    async fn begin(store: &'a dyn Store, name: &str, seed: u64) -> Self {
        let now = beginning(seed);
        let by = store.register(name, BOOT, now).await.expect("the store works");
        let tenant = store
            .create_tenant(&new_tenant(&format!("tenant-{seed}")), &Act::of_system(now))
            .await
            .expect("the slug is free")
            .id;
        let node = Node { store, by, tenant, now };
        let mut budgets = Vec::new();
        for (included, policy, period) in BUDGETS {
            budgets.push(node.budget(included, policy, period).await);
        }
        Self { node, seed, budgets, leases: vec![None; BUDGETS.len()], holds: Vec::new(), last: Vec::new() }
    }

    async fn run(&mut self, command: &Command) -> String {
        match command {
            Command::Acquire { path, min, want } => self.acquire(path, *min, *want).await,
            Command::Open { hold, path, amount } => self.open(*hold, path, *amount).await,
            Command::Checkpoint { hold, charged } => match self.open_hold(*hold) {
                Some(hold) => self.commit(vec![self.node.checkpoint(hold.id, (*charged).min(hold.amount))]).await,
                None => String::new(),
            },
            Command::Settle { hold, percent } => self.settle(*hold, *percent).await,
            Command::Release { hold } => self.release(*hold).await,
            Command::Repeat => self.commit(self.last.clone()).await,
            Command::GiveBack { budget, amount } => self.give_back(*budget, *amount).await,
            Command::Grant { budget, amount, key } => {
                let grant = top_up(self.budgets[*budget], *amount, &format!("grant-{}-{key}", self.seed));
                let granted = self.node.store.grant(&grant, self.node.now).await;
                granted.map_or("refused".into(), |grant| grant.amount_nanos.to_string())
            }
            Command::Restart { policy } => self.restart(*policy).await,
            Command::Tick { hours } => {
                self.node = self.node.later(Duration::from_secs(hours * 3_600));
                String::new()
            }
        }
    }

    async fn acquire(&mut self, path: &[usize], min: i64, want: i64) -> String {
        let asks: Vec<_> = path.iter().map(|&budget| ask(self.budgets[budget], min, want)).collect();
        match self.node.acquire(&asks).await {
            Ok(grants) => {
                for (&budget, grant) in path.iter().zip(&grants) {
                    let rest = self.leases[budget]
                        .filter(|(account, _)| *account == grant.account)
                        .map_or(0, |(_, rest)| rest);
                    self.leases[budget] = Some((grant.account, rest + grant.granted));
                }
                format!("{:?}", grants.iter().map(|grant| (grant.granted, grant.period)).collect::<Vec<_>>())
            }
            Err(AcquireError::Denied { budget, room, .. }) => {
                format!("{:?} has {room}", self.budgets.iter().position(|known| *known == budget))
            }
            Err(error) => format!("{error}"),
        }
    }

    /// Only inside the lease, as the engine does.
    async fn open(&mut self, number: usize, path: &[usize], amount: i64) -> String {
        self.holds.resize(number + 1, None);
        let leases: Option<Vec<_>> =
            path.iter().map(|&budget| self.leases[budget].filter(|(_, rest)| *rest >= amount)).collect();
        let Some(leases) = leases else { return "no lease".into() };
        for &budget in path {
            self.leases[budget] = self.leases[budget].map(|(account, rest)| (account, rest - amount));
        }
        let id = HoldId::from_u128((u128::from(self.seed) << 64) + number as u128 + 1);
        let accounts: Vec<_> = leases.into_iter().map(|(account, _)| account).collect();
        let op = self.node.open(id, &accounts, amount);
        let opener = self.node.by.epoch;
        self.holds[number] = Some(SideHold { id, opener, accounts, path: path.to_vec(), amount, ended: false });
        self.commit(vec![op]).await
    }

    async fn settle(&mut self, number: usize, percent: i64) -> String {
        let Some(hold) = self.end(number) else { return String::new() };
        let charged = hold.amount * percent / 100; // down
        self.put_back(&hold, hold.amount - charged);
        let opener =
            Node { by: crate::store::Incarnation { epoch: hold.opener, ..self.node.by.clone() }, ..self.node.clone() };
        self.commit(vec![opener.settle(hold.id, &hold.accounts, charged)]).await
    }

    async fn release(&mut self, number: usize) -> String {
        let Some(hold) = self.end(number) else { return String::new() };
        self.put_back(&hold, hold.amount);
        self.commit(vec![release(hold.id)]).await
    }

    async fn give_back(&mut self, budget: usize, amount: i64) -> String {
        let Some((account, rest)) = self.leases[budget] else { return "no lease".into() };
        let amount = amount.min(rest);
        self.leases[budget] = Some((account, rest - amount));
        self.node.store.give_back(&self.node.by, &[(account, amount)]).await.expect("the store works");
        amount.to_string()
    }

    /// The node dies and comes back; what it held is resolved.
    async fn restart(&mut self, policy: OrphanPolicy) -> String {
        self.node = self.node.restarted().await;
        self.leases.fill(None);
        // No lease ends before the history begins: only the last life of this node is dead.
        let found = self.node.store.reclaim(noon(), policy, self.node.now).await.expect("the store works");
        // A suspended hold may still end; all others are resolved.
        for hold in self.holds.iter_mut().flatten() {
            hold.ended |= policy != OrphanPolicy::Suspend;
        }
        format!("{found:?}")
    }

    fn open_hold(&self, number: usize) -> Option<SideHold> {
        self.holds.get(number).cloned().flatten().filter(|hold| !hold.ended)
    }

    fn end(&mut self, number: usize) -> Option<SideHold> {
        let hold = self.holds.get_mut(number)?.as_mut().filter(|hold| !hold.ended)?;
        hold.ended = true;
        Some(hold.clone())
    }

    fn put_back(&mut self, hold: &SideHold, amount: i64) {
        for (&budget, &account) in hold.path.iter().zip(&hold.accounts) {
            let same = |(current, _): &(AccountId, i64)| *current == account && hold.opener == self.node.by.epoch;
            if let Some((_, rest)) = self.leases[budget].as_mut().filter(|lease| same(lease)) {
                *rest += amount;
            }
        }
    }

    async fn commit(&mut self, ops: Vec<Op>) -> String {
        self.node.commit(&ops).await;
        self.last = ops;
        String::new()
    }

    /// Everything about every account that does not depend on how the store numbers them.
    async fn accounts(&self) -> Vec<String> {
        let mut accounts = Vec::new();
        for (position, &budget) in self.budgets.iter().enumerate() {
            for account in self.node.store.accounts(budget).await.expect("the store works") {
                let AccountState { seq, policy, period, granted, settled, leased, overrun, .. } = account;
                accounts.push(format!("budget {position}, period {seq} {period:?} {policy:?}: granted {granted}, settled {settled}, leased {leased}, overrun {overrun}"));
            }
        }
        accounts
    }
}

/// The same numbers for the same seed on every machine (SplitMix64).
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(super) fn index(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).expect("below a usize")
    }

    pub(super) fn amount(&mut self, bound: u64) -> i64 {
        i64::try_from(self.below(bound)).expect("small")
    }

    /// Some of the budgets, at least one, in order.
    pub(super) fn path(&mut self) -> Vec<usize> {
        let chosen = 1 + self.below((1 << BUDGETS.len()) - 1);
        (0..BUDGETS.len()).filter(|position| chosen & (1 << position) != 0).collect()
    }
}
