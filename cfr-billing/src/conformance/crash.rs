//! A workload that comes by every durable write of a ledger, and what must hold wherever it was cut off.
//!
//! A test of a store runs [`work`] in a process of its own and ends that process, or the database, in the middle. Then it
//! opens the store again and calls [`check`]. What was under way and what was acknowledged is in a [`Transcript`] that the
//! workload writes with its own `fsync`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use cfr_core::id::{AccountId, BatchId, BudgetId, HoldId, TenantId};
use cfr_core::ledger::{BudgetLedger, HoldRequest, LimitPolicy, Settlement, UsageRecord};
use cfr_core::money::{Charge, Currency, Money};
use cfr_core::time::{ManualClock, Period, Timestamp};

use super::batches;
use super::fixture::{
    BOOT, DAY, Node, TTL, ask, blank_record, caller, new_tenant, new_user, noon, release, top_up, user_budget,
};
use crate::audit_log::Act;
use crate::batch::{Batch, BatchState, Owner};
use crate::budget::NewBudget;
use crate::escrow::{Escrow, EscrowConfig};
use crate::store::{
    AcquireError, Incarnation, LeaseAsk, LedgerStore, Op, OrphanPolicy, PAGE_ROWS_MAX, PageRequest, Store, StoreError,
};
use crate::usage::UsageFilter;

/// The node that dies.
const NODE: &str = "node-1";
/// What is charged when the store works again.
const NEXT_CHARGE: i64 = 7;
/// The workload ends before this day.
const DAYS: u32 = 3;

/// What was about to happen, and up to where it was acknowledged. Every line is on the disk before the next step.
#[derive(Debug)]
pub struct Transcript(File);

impl Transcript {
    /// A new, empty file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn create(path: &Path) -> io::Result<Self> {
        File::create_new(path).map(Self)
    }

    fn note(&mut self, line: &str) -> Result<(), StoreError> {
        writeln!(self.0, "{line}").and_then(|()| self.0.sync_all()).map_err(StoreError::unavailable)
    }
}

/// What a transcript says.
#[derive(Debug, Default)]
struct Told {
    tenants: Vec<TenantId>,
    budgets: Vec<BudgetId>,
    holds: BTreeSet<HoldId>,
    grants: BTreeMap<String, Intent<(BudgetId, i64)>>,
    evidence: BTreeMap<HoldId, i64>,
    charges: BTreeMap<HoldId, Intent<ToldCharge>>,
    /// Batches, each with how far it was to come last.
    batches: BTreeMap<BatchId, Vec<Intent<BatchState>>>,
}

#[derive(Debug, Clone)]
struct ToldCharge {
    epoch: i64,
    accounts: Vec<AccountId>,
    charged: i64,
}

#[derive(Debug)]
struct Intent<T> {
    what: T,
    acknowledged: bool,
}

impl<T> Intent<T> {
    const fn of(what: T, acknowledged: bool) -> Self {
        Self { what, acknowledged }
    }
}

impl Told {
    fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).expect("the transcript is there");
        let lines: Vec<&str> = text.lines().collect();
        let acknowledged = lines.iter().rposition(|line| *line == "done").unwrap_or(0);
        let mut told = Self::default();
        for (index, line) in lines.iter().enumerate() {
            told.line(&line.split(' ').collect::<Vec<_>>(), index < acknowledged);
        }
        told
    }

    fn line(&mut self, words: &[&str], acknowledged: bool) {
        match *words {
            ["tenant", id] => self.tenants.push(TenantId::from_u128(number(id))),
            ["budget", id] => self.budgets.push(BudgetId::from_u128(number(id))),
            ["grant", budget, amount, key] => {
                let what = (BudgetId::from_u128(number(budget)), number(amount));
                self.grants.insert(key.to_owned(), Intent::of(what, acknowledged));
            }
            ["open", hold] => drop(self.holds.insert(HoldId::from_u128(number(hold)))),
            ["evidence", hold, charged] => {
                self.evidence.insert(HoldId::from_u128(number(hold)), number(charged));
            }
            ["charge", hold, epoch, charged, accounts] => {
                let accounts = accounts.split(',').map(|account| AccountId(number(account))).collect();
                let what = ToldCharge { epoch: number(epoch), accounts, charged: number(charged) };
                // A charge that is repeated was acknowledged before.
                self.charges.entry(HoldId::from_u128(number(hold))).or_insert(Intent::of(what, acknowledged));
            }
            ["batch", id, state] => {
                let state = if state == BatchState::Void.name() { BatchState::Void } else { BatchState::Begun };
                let way = self.batches.entry(BatchId::from_u128(number(id))).or_default();
                way.push(Intent::of(state, acknowledged));
            }
            ["done"] => {}
            _ => panic!("the transcript has a line that nobody wrote: {words:?}"),
        }
    }
}

fn number<T: std::str::FromStr>(word: &str) -> T {
    word.parse().unwrap_or_else(|_| panic!("`{word}` must be a number"))
}

/// Comes by every durable write of the ledger, in the same order every time.
///
/// # Errors
/// When the store fails, as it does when the database was ended.
pub async fn work(store: &dyn Store, transcript: Transcript) -> Result<(), StoreError> {
    let now = noon();
    let by = store.register(NODE, BOOT, now).await?;
    let tenant = store.create_tenant(&new_tenant("acme"), &Act::of_system(now)).await?.id;
    let mut run = Run { node: Node { store, by, tenant, now }, transcript, holds: 0 };
    run.note(format!("tenant {}", tenant.as_u128()))?;
    let never = run.budget(10_000, LimitPolicy::Hard, Period::Never).await?;
    let daily = run.budget(1_000, LimitPolicy::Hard, Period::Day).await?;
    let soft = run.budget(0, LimitPolicy::Soft, Period::Never).await?;
    run.grant(never, 500, "top-up-1").await?;
    run.grant(daily, 700, "top-up-2").await?;

    let today = run.lease(&[never, daily, soft], 600).await?;
    let [first, second, third] = [run.hold(), run.hold(), run.hold()];
    run.commit(&[Step::Open(first), Step::Open(second), Step::Open(third)], &today).await?;
    run.commit(&[Step::Settle(first, 70), Step::Checkpoint(second, 20), Step::Release(third)], &today).await?;
    let repeated_and_new = [Step::Settle(first, 70), Step::Settle(run.hold(), 11)];
    run.commit(&repeated_and_new, &today).await?;
    run.give_back(&today[..1], 100).await?;

    run.node = run.node.later(DAY);
    let tomorrow = run.lease(&[never, daily], 300).await?;
    run.give_back(&today[1..], 200).await?; // what was bought follows into the new period
    run.commit(
        &[Step::Settle(second, 30), Step::Open(run.hold_after(1)), Step::Settle(run.hold_after(2), 5)],
        &tomorrow,
    )
    .await?;
    let left_open = run.hold();
    run.holds += 1;
    run.commit(&[Step::Checkpoint(left_open, 13)], &tomorrow).await?;
    run.restart(OrphanPolicy::Evidence).await?;

    let again = run.lease(&[never, soft], 200).await?;
    let [suspended, charged_late] = [run.hold(), run.hold()];
    run.commit(&[Step::Open(suspended), Step::Open(charged_late)], &again).await?;
    let opener = run.node.by.clone();
    run.restart(OrphanPolicy::Suspend).await?;
    let survivor = std::mem::replace(&mut run.node.by, opener);
    run.settle_suspended(survivor, &[Step::Settle(charged_late, 17), Step::Release(suspended)], &again).await?;

    run.batch().await?;

    run.lease(&[never], 50).await?;
    let open_at_the_end = run.hold();
    run.commit(&[Step::Open(open_at_the_end), Step::Checkpoint(open_at_the_end, 3)], &again[..1]).await?;
    run.restart(OrphanPolicy::Release).await
}

/// The workload on its way.
struct Run<'a> {
    node: Node<'a>,
    transcript: Transcript,
    holds: u128,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Open(HoldId),
    Checkpoint(HoldId, i64),
    Settle(HoldId, i64),
    Release(HoldId),
}

impl Run<'_> {
    fn note(&mut self, line: impl AsRef<str>) -> Result<(), StoreError> {
        self.transcript.note(line.as_ref())
    }

    fn hold(&mut self) -> HoldId {
        self.holds += 1;
        HoldId::from_u128(self.holds)
    }

    /// The hold that will be made next, or after that.
    fn hold_after(&self, count: u128) -> HoldId {
        HoldId::from_u128(self.holds + count)
    }

    async fn budget(&mut self, included: i64, policy: LimitPolicy, period: Period) -> Result<BudgetId, StoreError> {
        let node = &self.node;
        let address = format!("{}@example.org", TenantId::generate(node.now));
        let user = node.store.create_user(&new_user(node.tenant, &address), &Act::of_system(node.now)).await?;
        let new = NewBudget { included_nanos: included, policy, period, ..user_budget(&user) };
        let id = node.store.create_budget(&new, &Act::of_system(node.now)).await?.spec.id;
        self.note(format!("budget {}", id.as_u128()))?;
        Ok(id)
    }

    async fn grant(&mut self, budget: BudgetId, amount: i64, key: &str) -> Result<(), StoreError> {
        self.note(format!("grant {} {amount} {key}", budget.as_u128()))?;
        self.node.store.grant(&top_up(budget, amount, key), self.node.now).await?;
        self.note("done")
    }

    async fn lease(&mut self, budgets: &[BudgetId], amount: i64) -> Result<Vec<AccountId>, StoreError> {
        let asks: Vec<LeaseAsk> = budgets.iter().map(|&budget| ask(budget, amount, amount)).collect();
        let granted = self.node.store.acquire(&self.node.by, &asks, TTL, self.node.now).await;
        match granted {
            Ok(grants) => Ok(grants.iter().map(|grant| grant.account).collect()),
            Err(AcquireError::Store(error)) => Err(error),
            Err(denied) => panic!("there is room: {denied}"),
        }
    }

    async fn give_back(&self, accounts: &[AccountId], amount: i64) -> Result<(), StoreError> {
        let rights: Vec<_> = accounts.iter().map(|&account| (account, amount)).collect();
        self.node.store.give_back(&self.node.by, &rights).await
    }

    async fn commit(&mut self, steps: &[Step], accounts: &[AccountId]) -> Result<(), StoreError> {
        let by = self.node.by.clone();
        self.commit_as(&by, steps, accounts).await
    }

    /// Steps of holds of the life that `self.node` is, written by the one after it.
    async fn settle_suspended(
        &mut self,
        by: Incarnation,
        steps: &[Step],
        accounts: &[AccountId],
    ) -> Result<(), StoreError> {
        self.commit_as(&by, steps, accounts).await?;
        self.node.by = by;
        Ok(())
    }

    async fn commit_as(&mut self, by: &Incarnation, steps: &[Step], accounts: &[AccountId]) -> Result<(), StoreError> {
        for step in steps {
            self.note_step(*step, accounts)?;
        }
        let ops: Vec<Op> = steps.iter().map(|step| self.op(*step, accounts)).collect();
        self.node.store.commit(by, &ops, self.node.now).await?;
        self.note("done")
    }

    fn note_step(&mut self, step: Step, accounts: &[AccountId]) -> Result<(), StoreError> {
        let accounts = accounts.iter().map(|account| account.0.to_string()).collect::<Vec<_>>().join(",");
        let epoch = self.node.by.epoch;
        match step {
            Step::Open(hold) => self.note(format!("open {}", hold.as_u128())),
            Step::Checkpoint(hold, charged) => self.note(format!("evidence {} {charged}", hold.as_u128())),
            Step::Settle(hold, charged) => self.note(format!("charge {} {epoch} {charged} {accounts}", hold.as_u128())),
            Step::Release(_) => Ok(()),
        }
    }

    fn op(&self, step: Step, accounts: &[AccountId]) -> Op {
        match step {
            Step::Open(hold) => self.node.open(hold, accounts, 100),
            Step::Checkpoint(hold, charged) => self.node.checkpoint(hold, charged),
            Step::Settle(hold, charged) => self.node.settle(hold, accounts, charged),
            Step::Release(hold) => release(hold),
        }
    }

    /// A batch that is written down and does not come to anything.
    async fn batch(&mut self) -> Result<(), StoreError> {
        let begun = batches::batch(Owner::of(&caller(self.node.tenant)), self.node.now);
        let void = Batch { state: BatchState::Void, ..begun.clone() };
        let id = begun.id.as_u128();
        self.note(format!("batch {id} {}", begun.state.name()))?;
        self.node.store.add_batch(&begun).await?;
        self.note("done")?;
        self.note(format!("batch {id} {}", void.state.name()))?;
        self.node.store.update_batch(BatchState::Begun, &void, &[]).await?;
        self.note("done")
    }

    async fn restart(&mut self, policy: OrphanPolicy) -> Result<(), StoreError> {
        self.node.by = self.node.store.register(NODE, BOOT, self.node.now).await?;
        self.node.store.reclaim(noon(), policy, self.node.now).await.map(drop)
    }
}

/// What must hold after [`work`] was cut off anywhere, and the store was opened again.
pub async fn check(store: Arc<dyn Store>, transcript: &Path) {
    let told = Told::read(transcript);
    assert_books(&*store, &told).await;
    assert_acknowledged(&*store, &told).await;
    let Some(&tenant) = told.tenants.first() else { return };
    let now = later_than_work();
    let clock = Arc::new(ManualClock::new(now));
    let mut config = EscrowConfig::new(NODE);
    config.boot = BOOT;
    let ledger: Arc<dyn LedgerStore> = store.clone();
    let escrow = Escrow::start(ledger, clock.clone(), config).await.expect("the store works again");
    for budget in &told.budgets {
        spend(&escrow, tenant, *budget).await;
    }
    escrow.shutdown().await.expect("the store works again");
    let by = store.register(NODE, BOOT, now).await.expect("the store works again");
    let node = Node { store: &*store, by, tenant, now };
    repeat(&node, &told).await;
    let released: Vec<Op> = told.holds.iter().map(|hold| release(*hold)).collect();
    node.commit(&released).await;
    assert_nothing_is_stranded(&node, &told).await;
}

fn later_than_work() -> Timestamp {
    noon().checked_add(DAY * DAYS).expect("inside the calendar")
}

/// The next operations work.
async fn spend(escrow: &Escrow, tenant: TenantId, budget: BudgetId) {
    let money = |nanos| Money::from_nanos(nanos, Currency::EUR);
    let at = later_than_work();
    let (id, amount) = (HoldId::generate(at), money(NEXT_CHARGE));
    let path = [budget].as_slice().into();
    let (caller, model) = (caller(tenant), "m".into());
    let ask = HoldRequest { id, path, amount, amount_min: amount, caller, model, at };
    escrow.authorize(ask).await.expect("there is room").committed.await.expect("the store works again");
    let charge = Charge { cost: amount, margin: money(0), price: amount };
    let (cost_nanos, price_nanos) = (NEXT_CHARGE, NEXT_CHARGE);
    let record = Box::new(UsageRecord { at, caller, cost_nanos, price_nanos, ..blank_record(id) });
    let settled = escrow.settle(id, Settlement { charge, record }).expect("it is open");
    settled.committed.await.expect("the store works again");
}

/// Who does not know whether something happened does it again, and it has happened once.
async fn repeat(node: &Node<'_>, told: &Told) {
    for (key, grant) in &told.grants {
        let (budget, amount) = grant.what;
        let granted = node.store.grant(&top_up(budget, amount, key), node.now).await.expect("the same terms");
        assert_eq!((granted.budget, granted.amount_nanos), (budget, amount), "grant {key}");
    }
    for (hold, charge) in &told.charges {
        let ToldCharge { epoch, accounts, charged } = &charge.what;
        let opener = Node { by: Incarnation { epoch: *epoch, ..node.by.clone() }, ..node.clone() };
        node.commit(&[opener.settle(*hold, accounts, *charged)]).await;
        assert!(charge_of(node.store, *hold).await.is_some(), "{hold} is charged now");
    }
    assert_books(node.store, told).await;
}

async fn assert_books(store: &dyn Store, told: &Told) {
    assert_eq!(store.audit().await.expect("the store works again"), []);
    for budget in &told.budgets {
        for account in store.accounts(*budget).await.expect("the store works again") {
            let used = account.settled + account.leased;
            assert!(used <= account.granted + account.overcommit, "more is used than granted: {account:?}");
            assert!(
                account.policy != LimitPolicy::Hard || account.settled <= account.granted,
                "over the limit: {account:?}"
            );
        }
    }
    let mut charged = BTreeSet::new();
    for record in usage(store).await {
        assert!(charged.insert(record.id), "{} is charged twice", record.id);
        let expected =
            [told.charges.get(&record.id).map(|charge| charge.what.charged), told.evidence.get(&record.id).copied()];
        let known = expected.iter().any(Option::is_some) || record.charged_nanos == NEXT_CHARGE;
        let agreed =
            expected.iter().flatten().any(|charged| *charged == record.charged_nanos) || expected == [None, None];
        assert!(known && agreed, "{} is charged {}, not {expected:?}", record.id, record.charged_nanos);
    }
    let keys: Vec<_> = all_grants(store, told).await;
    assert_eq!(keys.len(), keys.iter().collect::<BTreeSet<_>>().len(), "a grant is booked twice: {keys:?}");
}

async fn assert_acknowledged(store: &dyn Store, told: &Told) {
    let keys = all_grants(store, told).await;
    for (key, _) in told.grants.iter().filter(|(_, grant)| grant.acknowledged) {
        assert!(keys.contains(key), "the acknowledged grant {key} is gone");
    }
    for (&id, way) in &told.batches {
        let Some(last) = way.iter().rfind(|step| step.acknowledged) else { continue };
        let tenant = *told.tenants.first().expect("it was made for a tenant");
        let kept = store.batch(Owner::of(&caller(tenant)), id).await.expect("it was acknowledged");
        let may_be = kept.state == last.what || way.last().is_some_and(|step| step.what == kept.state);
        assert!(may_be, "the batch {id} was to be {} and is {}", last.what.name(), kept.state.name());
    }
    for (hold, charge) in told.charges.iter().filter(|(_, charge)| charge.acknowledged) {
        assert_eq!(charge_of(store, *hold).await, Some(charge.what.charged), "the acknowledged charge of {hold}");
    }
}

/// Nobody holds anything, so nothing is leased.
async fn assert_nothing_is_stranded(node: &Node<'_>, told: &Told) {
    let next = node.restarted().await;
    next.store.reclaim(noon(), OrphanPolicy::Evidence, next.now).await.expect("the store works again");
    for budget in &told.budgets {
        for account in next.store.accounts(*budget).await.expect("the store works again") {
            assert_eq!(account.leased, 0, "rights are stranded: {account:?}");
        }
    }
    assert_books(next.store, told).await;
}

async fn charge_of(store: &dyn Store, hold: HoldId) -> Option<i64> {
    let filter = UsageFilter { id: Some(hold), ..UsageFilter::default() };
    let page = store.usage(&filter, PageRequest { after: None, limit: PAGE_ROWS_MAX }).await;
    page.expect("the store works again").items.first().map(|record| record.charged_nanos)
}

async fn usage(store: &dyn Store) -> Vec<UsageRecord> {
    let page = PageRequest { after: None, limit: PAGE_ROWS_MAX };
    store.usage(&UsageFilter::default(), page).await.expect("the store works again").items
}

async fn all_grants(store: &dyn Store, told: &Told) -> Vec<String> {
    let mut keys = Vec::new();
    for budget in &told.budgets {
        let page = store.grants(*budget, PageRequest { after: None, limit: PAGE_ROWS_MAX }).await;
        keys.extend(page.expect("the store works again").items.iter().map(|grant| grant.idempotency_key.to_string()));
    }
    keys
}

/// Every point that the sources under `folder` name with `fail_point!`.
#[must_use]
pub fn declared_points(folder: &Path) -> BTreeSet<String> {
    let mut points = BTreeSet::new();
    for entry in std::fs::read_dir(folder).expect("the sources are there") {
        let path = entry.expect("the sources are there").path();
        if path.is_dir() {
            points.extend(declared_points(&path));
        } else {
            let source = std::fs::read_to_string(&path).expect("a source file");
            let names = source.split("fail_point!(\"").skip(1).filter_map(|rest| rest.split('"').next());
            points.extend(names.map(str::to_owned));
        }
    }
    points
}

/// How often each point may be where a process ends, spread over all the times that the workload comes by.
#[must_use]
pub fn hits_to_try(count: u32, hits_max: u32) -> Vec<u32> {
    let tried = count.min(hits_max);
    (1..=tried).map(|index| 1 + (count - 1) * (index - 1) / tried.saturating_sub(1).max(1)).collect()
}
