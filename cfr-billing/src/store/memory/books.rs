//! The money part of the state: accounts, leases, holds, charges and grants, as plain arithmetic.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use cfr_core::chat::UsageSource;
use cfr_core::id::{AccountId, BudgetId, GrantId, HoldId, RequestId};
use cfr_core::ledger::{LimitPolicy, UsageRecord};
use cfr_core::time::{PeriodWindow, Timestamp};

use crate::audit_log::Actor;
use crate::budget::{Budget, Grant, GrantKind};
use crate::store::rules::{AccountFigures, Counters, EntrySums, PeriodFigures, RecordFigures, RecordSums};
use crate::store::{
    AccountState, AccountsAudit, AcquireError, AuditRule, Boot, Correction, Finding, Findings, Incarnation, LeaseAsk,
    LeaseGrant, NewGrant, NodeState, Op, OpenedHold, OrphanPolicy, Reclaimed, Renewal, SettledHold, StoreError, Sum,
    lives_once,
};

/// Budgets as the catalog keeps them.
pub(super) type Budgets = BTreeMap<BudgetId, Budget>;

#[derive(Debug, Default)]
pub(super) struct Books {
    nodes: BTreeMap<Arc<str>, NodeLife>,
    /// Incarnations that lost their leases.
    fenced: BTreeSet<Incarnation>,
    accounts: BTreeMap<AccountId, AccountState>,
    /// Accounts by budget, the oldest first.
    periods: HashMap<BudgetId, Vec<AccountId>>,
    leases: BTreeMap<(AccountId, Incarnation), Lease>,
    holds: BTreeMap<HoldId, HoldRow>,
    /// Holds that ended: a late `Open` of one changes nothing.
    ended: HashSet<HoldId>,
    charges: Vec<Charge>,
    pub(super) grants: BTreeMap<GrantId, Grant>,
    grant_keys: HashMap<Arc<str>, GrantId>,
    pub(super) usage: BTreeMap<RequestId, UsageRecord>,
}

/// The last life of a node.
#[derive(Debug)]
struct NodeLife {
    epoch: i64,
    boot: Boot,
    seen_at: Timestamp,
    /// Until when it is taken for alive.
    alive_until: Timestamp,
}

#[derive(Debug, Default)]
struct Lease {
    granted: i64,
    consumed: i64,
    expires: Timestamp,
}

impl Lease {
    const fn rest(&self) -> i64 {
        self.granted - self.consumed
    }
}

#[derive(Debug)]
struct HoldRow {
    node: Arc<str>,
    opened: OpenedHold,
    evidence: Option<(i64, Box<UsageRecord>)>,
    suspended: bool,
}

#[derive(Debug)]
struct Charge {
    account: AccountId,
    amount: i64,
    overrun: i64,
}

// --- Periods and grants ----------------------------------------------------------------------------------------------

impl Books {
    /// The account of the period that contains `now`, opened if nobody did. A clock that goes back reopens nothing.
    /// `None` when the budget's period has no next one.
    pub(super) fn open(&mut self, budget: &Budget, now: Timestamp) -> Result<Option<AccountId>, StoreError> {
        let last = self.newest(budget.spec.id);
        if let Some(last) = last.filter(|last| last.period.end.is_none_or(|end| now < end)) {
            return Ok(Some(last.account));
        }
        let last = last.cloned();
        let Ok(mut period) = budget.spec.period.window_at(&budget.spec.zone, now) else { return Ok(None) };
        if let Some(end) = last.as_ref().and_then(|last| last.period.end) {
            period.start = period.start.max(end);
        }
        let account = self.insert_account(budget, last.as_ref().map_or(1, |last| last.seq + 1), period)?;
        if let Some(last) = last {
            self.roll_over(last.account, account, now)?;
        }
        Ok(Some(account))
    }

    fn insert_account(&mut self, budget: &Budget, seq: i64, period: PeriodWindow) -> Result<AccountId, StoreError> {
        let spec = &budget.spec;
        let account = AccountId(self.accounts.last_key_value().map_or(1, |(last, _)| last.0 + 1));
        let state = AccountState {
            budget: spec.id,
            account,
            seq,
            scope: spec.scope,
            currency: spec.currency,
            policy: spec.policy,
            period,
            granted: 0,
            settled: 0,
            leased: 0,
            overcommit: 0,
            overrun: 0,
        };
        self.accounts.insert(account, state);
        self.periods.entry(spec.id).or_default().push(account);
        if spec.included_nanos > 0 {
            let key = format!("included:{}:{seq}", spec.id);
            self.book_grant(
                account,
                &NewGrant::by_terms(spec.id, GrantKind::Included, spec.included_nanos, &key),
                period.start,
            )?;
        }
        Ok(account)
    }

    /// Moves bought money that is neither spent nor leased from a past period to the newest one.
    fn roll_over(&mut self, from: AccountId, to: AccountId, now: Timestamp) -> Result<(), StoreError> {
        let Some((budget, room)) = self.accounts.get(&from).map(|past| (past.budget, past.room())) else {
            return Ok(());
        };
        let grants = || self.grants.values().filter(|grant| grant.account == from && rolls_over(grant.kind));
        let carried = grants().map(|grant| grant.amount_nanos).sum::<i64>().min(room);
        if carried <= 0 {
            return Ok(());
        }
        let time = grants().filter(|grant| grant.kind == GrantKind::Rollover).count();
        for (account, amount, side) in [(from, -carried, "out"), (to, carried, "in")] {
            let key = format!("rollover:{}:{time}:{side}", from.0);
            self.book_grant(account, &NewGrant::by_terms(budget, GrantKind::Rollover, amount, &key), now)?;
        }
        Ok(())
    }

    /// The grant that was booked under this key before.
    pub(super) fn granted(&self, new: &NewGrant) -> Result<Option<Grant>, StoreError> {
        match self.grant_keys.get(&new.idempotency_key).and_then(|id| self.grants.get(id)) {
            Some(known) if known.budget != new.budget || known.kind != new.kind || known.amount_nanos != new.amount => {
                Err(StoreError::conflict("the idempotency key was used with other terms"))
            }
            known => Ok(known.cloned()),
        }
    }

    pub(super) fn grant(&mut self, budget: &Budget, new: &NewGrant, now: Timestamp) -> Result<Grant, StoreError> {
        let account = self.open(budget, now)?.ok_or(StoreError::NotFound { what: "open period" })?;
        let room = self.accounts.get(&account).map_or(0, AccountState::room);
        if new.amount < 0 && !new.overcommit && room.saturating_add(new.amount) < 0 {
            return Err(StoreError::conflict("the budget has less left than is to be taken"));
        }
        self.book_grant(account, new, now)
    }

    /// Changes the open period by the difference of two limits, if there is an open one.
    pub(super) fn adjust_limit(
        &mut self,
        budget: &Budget,
        by: i64,
        actor: &Arc<Actor>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let open = self.newest(budget.spec.id).filter(|account| account.period.end.is_none_or(|end| now < end));
        let Some(account) = open.map(|account| account.account).filter(|_| by != 0) else { return Ok(()) };
        let key = format!("limit:{}:{}", budget.spec.id, budget.version);
        let mut grant = NewGrant::by_terms(budget.spec.id, GrantKind::Adjustment, by, &key);
        grant.actor = Arc::clone(actor);
        self.book_grant(account, &grant, now).map(drop)
    }

    fn book_grant(&mut self, account: AccountId, new: &NewGrant, now: Timestamp) -> Result<Grant, StoreError> {
        let state = self.accounts.get_mut(&account).ok_or(StoreError::NotFound { what: "account" })?;
        state.granted =
            state.granted.checked_add(new.amount).ok_or_else(|| StoreError::invalid("the grant is out of range"))?;
        allow(state);
        let grant = Grant {
            id: GrantId::generate(now),
            budget: new.budget,
            account,
            kind: new.kind,
            amount_nanos: new.amount,
            idempotency_key: new.idempotency_key.clone(),
            reason: new.reason.clone(),
            actor: new.actor.label(),
            at: now,
        };
        self.grant_keys.insert(grant.idempotency_key.clone(), grant.id);
        self.grants.insert(grant.id, grant.clone());
        Ok(grant)
    }

    fn newest(&self, budget: BudgetId) -> Option<&AccountState> {
        self.accounts.get(self.periods.get(&budget)?.last()?)
    }

    pub(super) fn account(&self, account: AccountId) -> Option<&AccountState> {
        self.accounts.get(&account)
    }

    pub(super) fn accounts(&self, budget: BudgetId) -> Vec<AccountState> {
        let periods = self.periods.get(&budget).into_iter().flatten().rev();
        periods.filter_map(|account| self.accounts.get(account)).cloned().collect()
    }
}

/// Bought money, which the next period inherits.
const fn rolls_over(kind: GrantKind) -> bool {
    matches!(kind, GrantKind::TopUp | GrantKind::Promo | GrantKind::Import | GrantKind::Rollover)
}

/// Raises `overcommit` to what is used beyond the limit: the one way in which books may be there.
fn allow(account: &mut AccountState) {
    account.overcommit = account.overcommit.max(-account.room());
}

// --- Leases ----------------------------------------------------------------------------------------------------------

impl Books {
    /// The next life of a node. Another process gets the name only when the last life is over, unless `alone`.
    pub(super) fn register(
        &mut self,
        node: &str,
        boot: Boot,
        alone: bool,
        now: Timestamp,
    ) -> Result<Incarnation, StoreError> {
        let before = self.nodes.get(node);
        if let Some(life) = before.filter(|life| !alone && life.boot != boot && now < life.alive_until) {
            return Err(StoreError::NodeInUse { node: node.into(), seen_at: life.seen_at });
        }
        let epoch = before.map_or(0, |life| life.epoch) + 1;
        self.nodes.insert(node.into(), NodeLife { epoch, boot, seen_at: now, alive_until: now });
        Ok(Incarnation { node: node.into(), epoch })
    }

    pub(super) fn check_alive(&self, by: &Incarnation) -> Result<(), StoreError> {
        let current = self.nodes.get(&by.node).is_some_and(|life| life.epoch == by.epoch);
        if current && !self.fenced.contains(by) { Ok(()) } else { Err(StoreError::Fenced) }
    }

    /// Its name is free at once.
    pub(super) fn end_life(&mut self, by: &Incarnation, now: Timestamp) {
        let Some(life) = self.nodes.get_mut(&by.node).filter(|life| life.epoch == by.epoch) else { return };
        (life.seen_at, life.alive_until) = (now, now);
        if lives_once(&by.node) && !self.has_something(&by.node) {
            self.nodes.remove(&by.node);
        }
    }

    /// Forgets nodes that live once, have nothing, and were not heard of since `seen_before`.
    pub(super) fn forget_nodes(&mut self, seen_before: Timestamp) {
        let is_over = |life: &NodeLife| life.seen_at < seen_before && life.alive_until < seen_before;
        let ended =
            self.nodes.iter().filter(|(node, life)| lives_once(node) && is_over(life) && !self.has_something(node));
        for node in ended.map(|(node, _)| node.clone()).collect::<Vec<_>>() {
            self.nodes.remove(&node);
        }
    }

    fn has_something(&self, node: &Arc<str>) -> bool {
        self.leases.keys().any(|(_, by)| by.node == *node) || self.holds.values().any(|row| row.node == *node)
    }

    pub(super) fn fence(&mut self, node: &str, now: Timestamp) -> Result<(), StoreError> {
        let Some((name, life)) = self.nodes.get_key_value(node) else {
            return Err(StoreError::NotFound { what: "node" });
        };
        self.fenced.insert(Incarnation { node: name.clone(), epoch: life.epoch });
        if let Some(life) = self.nodes.get_mut(node) {
            life.alive_until = now;
        }
        Ok(())
    }

    pub(super) fn nodes(&self, now: Timestamp) -> Vec<NodeState> {
        let state = |(node, life): (&Arc<str>, &NodeLife)| {
            let leases = || self.leases.iter().filter(|((_, by), _)| by.node == *node);
            NodeState {
                node: node.clone(),
                epoch: life.epoch,
                alive: now < life.alive_until,
                seen_at: life.seen_at,
                leases: leases().count() as u64,
                leased: leases().map(|(_, lease)| lease.rest()).fold(0, i64::saturating_add),
                open_holds: self.holds.values().filter(|row| row.node == *node).count() as u64,
            }
        };
        self.nodes.iter().map(state).collect()
    }

    /// Nodes that have rights left on any account of the budget.
    pub(super) fn holders(&self, budget: BudgetId) -> impl Iterator<Item = &Arc<str>> {
        let of_budget = move |account| self.accounts.get(account).is_some_and(|state| state.budget == budget);
        self.leases
            .iter()
            .filter(move |((account, _), lease)| lease.rest() > 0 && of_budget(account))
            .map(|((_, by), _)| &by.node)
    }

    /// What the newest account of each budget has left for anybody.
    pub(super) fn rooms(&self, budgets: &[BudgetId]) -> Vec<i64> {
        budgets.iter().map(|budget| self.newest(*budget).map_or(0, AccountState::room)).collect()
    }

    pub(super) fn acquire(
        &mut self,
        budgets: &Budgets,
        by: &Incarnation,
        asks: &[LeaseAsk],
        expires: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<LeaseGrant>, AcquireError> {
        self.check_alive(by)?;
        let accounts = asks.iter().map(|ask| self.open_for_ask(budgets, ask, now)).collect::<Result<Vec<_>, _>>()?;
        let states = || accounts.iter().filter_map(|account| self.accounts.get(account));
        let short = states()
            .zip(asks)
            .filter(|(account, ask)| account.policy == LimitPolicy::Hard && account.room().max(0) < ask.min);
        if let Some((account, _)) = short.min_by_key(|(account, _)| account.room()) {
            return Err(denied(account));
        }
        let amounts: Vec<i64> = states().zip(asks).map(|(account, ask)| grantable(account, ask)).collect();
        if states().zip(&amounts).any(|(account, amount)| *amount > countable(account)) {
            return Err(StoreError::invalid("more is asked for than the books can count").into());
        }
        let taken = asks.iter().zip(accounts).zip(amounts);
        Ok(taken.filter_map(|((ask, account), amount)| self.lease(by, ask.budget, account, amount, expires)).collect())
    }

    fn open_for_ask(&mut self, budgets: &Budgets, ask: &LeaseAsk, now: Timestamp) -> Result<AccountId, AcquireError> {
        let unknown = AcquireError::UnknownBudget { budget: ask.budget };
        let budget = budgets.get(&ask.budget).filter(|budget| budget.active).ok_or(unknown)?;
        if let Some(account) = self.open(budget, now)? {
            return Ok(account);
        }
        let period = self.newest(ask.budget).map_or(PeriodWindow { start: now, end: None }, |last| last.period);
        Err(AcquireError::Denied {
            budget: ask.budget,
            scope: budget.spec.scope,
            currency: budget.spec.currency,
            room: 0,
            period,
        })
    }

    fn lease(
        &mut self,
        by: &Incarnation,
        budget: BudgetId,
        account: AccountId,
        amount: i64,
        expires: Timestamp,
    ) -> Option<LeaseGrant> {
        let state = self.accounts.get_mut(&account)?;
        state.leased += amount;
        allow(state);
        let lease = self.leases.entry((account, by.clone())).or_default();
        lease.granted += amount;
        lease.expires = lease.expires.max(expires);
        Some(LeaseGrant {
            budget,
            account,
            scope: state.scope,
            currency: state.currency,
            policy: state.policy,
            period: state.period,
            granted: amount,
            room: state.room(),
        })
    }

    pub(super) fn renew(
        &mut self,
        by: &Incarnation,
        expires: Timestamp,
        alive_until: Timestamp,
        now: Timestamp,
    ) -> Renewal {
        if let Some(life) = self.nodes.get_mut(&by.node) {
            (life.seen_at, life.alive_until) = (now, alive_until);
        }
        let mine = self.leases.iter_mut().filter(|((_, holder), _)| holder == by);
        let mut accounts: Vec<AccountId> = mine
            .map(|((account, _), lease)| {
                lease.expires = expires;
                *account
            })
            .collect();
        accounts.sort_unstable();
        let alive = self.nodes.values().filter(|life| now < life.alive_until).count();
        Renewal { accounts, nodes: u32::try_from(alive).unwrap_or(u32::MAX), now }
    }

    pub(super) fn give_back(&mut self, by: &Incarnation, account: AccountId, amount: i64) {
        let key = (account, by.clone());
        let (Some(lease), Some(state)) = (self.leases.get_mut(&key), self.accounts.get_mut(&account)) else { return };
        let amount = amount.clamp(0, lease.rest());
        lease.granted -= amount;
        state.leased -= amount;
        if lease.rest() == 0 {
            self.leases.remove(&key);
        }
        let budget = state.budget;
        if let Some(newest) = self.newest(budget).filter(|newest| newest.account != account).cloned() {
            // It can only fail out of range, which money that was granted before is not.
            drop(self.roll_over(account, newest.account, newest.period.start));
        }
    }
}

fn denied(account: &AccountState) -> AcquireError {
    AcquireError::Denied {
        budget: account.budget,
        scope: account.scope,
        currency: account.currency,
        room: account.room(),
        period: account.period,
    }
}

/// What the sums of an account can still take: they end at the largest number, whatever the limit is.
const fn countable(account: &AccountState) -> i64 {
    i64::MAX - account.settled - account.leased
}

fn grantable(account: &AccountState, ask: &LeaseAsk) -> i64 {
    let granted = ask.want.min(account.room().max(0));
    if account.policy == LimitPolicy::Hard { granted.max(0) } else { granted.max(ask.min) }
}

// --- Holds -----------------------------------------------------------------------------------------------------------

impl Books {
    pub(super) fn apply(&mut self, node: &Arc<str>, op: &Op) {
        match op {
            Op::Open(opened) => self.open_hold(node, opened),
            Op::Extend { hold, amount } => {
                if let Some(row) = self.open_row(*hold) {
                    row.opened.amount = *amount;
                }
            }
            Op::Checkpoint { hold, charged, record } => {
                if let Some(row) = self.open_row(*hold) {
                    row.evidence = Some((*charged, record.clone()));
                }
            }
            Op::Settle(settled) => self.settle(node, settled),
            Op::Release { hold, .. } => self.release(*hold),
        }
    }

    /// What is suspended changes no more.
    fn open_row(&mut self, hold: HoldId) -> Option<&mut HoldRow> {
        self.holds.get_mut(&hold).filter(|row| !row.suspended)
    }

    fn open_hold(&mut self, node: &Arc<str>, opened: &OpenedHold) {
        if !self.ended.contains(&opened.id) {
            let row = || HoldRow { node: node.clone(), opened: opened.clone(), evidence: None, suspended: false };
            self.holds.entry(opened.id).or_insert_with(row);
        }
    }

    fn release(&mut self, hold: HoldId) {
        if let Some(row) = self.holds.remove(&hold) {
            self.ended.insert(hold);
            self.unsuspend(&row, 0);
        }
    }

    fn settle(&mut self, node: &Arc<str>, settled: &SettledHold) {
        if self.usage.contains_key(&settled.id) {
            return;
        }
        let by = Incarnation { node: node.clone(), epoch: settled.epoch };
        let fits = settled.accounts.iter().map(|&account| self.chargeable(account, &by)).min().unwrap_or(0);
        let charged = settled.charged.min(fits);
        let mut record = settled.record.clone();
        record.overrun_nanos = record.overrun_nanos.saturating_add(settled.charged - charged);
        record.charged_nanos = charged;
        for &account in &settled.accounts {
            self.charge(account, &by, charged, record.overrun_nanos);
        }
        self.usage.insert(settled.id, *record);
        self.ended.insert(settled.id);
        if let Some(row) = self.holds.remove(&settled.id) {
            self.unsuspend(&row, charged);
        }
    }

    /// The lease of the hold's own epoch and, when that was taken away, what nobody else has.
    fn chargeable(&self, account: AccountId, by: &Incarnation) -> i64 {
        let Some(state) = self.accounts.get(&account) else { return 0 };
        let leased = self.leases.get(&(account, by.clone())).map_or(0, Lease::rest);
        let beyond = if state.policy == LimitPolicy::Hard { state.room().max(0) } else { countable(state) };
        leased.saturating_add(beyond)
    }

    fn charge(&mut self, account: AccountId, by: &Incarnation, charged: i64, overrun: i64) {
        let Some(state) = self.accounts.get_mut(&account) else { return };
        state.settled += charged;
        state.overrun = state.overrun.saturating_add(overrun);
        if let Some(lease) = self.leases.get_mut(&(account, by.clone())) {
            let leased = charged.min(lease.rest());
            lease.consumed += leased;
            state.leased -= leased;
        }
        allow(state);
        self.charges.push(Charge { account, amount: charged, overrun });
    }

    /// A suspended hold kept its amount leased; with its end the rest is free.
    fn unsuspend(&mut self, row: &HoldRow, charged: i64) {
        if row.suspended {
            let by = row.incarnation();
            for &account in &row.opened.accounts {
                self.give_back(&by, account, row.opened.amount - charged);
            }
        }
    }
}

impl HoldRow {
    fn incarnation(&self) -> Incarnation {
        Incarnation { node: self.node.clone(), epoch: self.opened.epoch }
    }
}

// --- Orphans ---------------------------------------------------------------------------------------------------------

impl Books {
    pub(super) fn reclaim(&mut self, expired_before: Timestamp, policy: OrphanPolicy) -> Reclaimed {
        let mut found = Reclaimed::default();
        let dead = self.dead(expired_before);
        let orphans = self.holds.iter().filter(|(_, row)| !row.suspended && dead.contains(&row.incarnation()));
        for hold in orphans.map(|(&hold, _)| hold).collect::<Vec<_>>() {
            self.end_orphan(hold, policy, &mut found);
        }
        for by in &dead {
            self.take_leases(by, &mut found);
        }
        self.fenced.extend(dead);
        found
    }

    /// Incarnations that were succeeded by another one, or whose last lease has expired.
    fn dead(&self, expired_before: Timestamp) -> BTreeSet<Incarnation> {
        let mut last_expiry = BTreeMap::<&Incarnation, Timestamp>::new();
        for ((_, by), lease) in &self.leases {
            let last = last_expiry.entry(by).or_insert(lease.expires);
            *last = (*last).max(lease.expires);
        }
        let expired = last_expiry.into_iter().filter(|(_, last)| *last < expired_before).map(|(by, _)| by.clone());
        let succeeded =
            self.leases.keys().map(|(_, by)| by.clone()).chain(self.holds.values().map(HoldRow::incarnation));
        let succeeded = succeeded.filter(|by| self.nodes.get(&by.node).is_none_or(|life| by.epoch < life.epoch));
        expired.chain(succeeded).chain(self.fenced.iter().cloned()).collect()
    }

    fn end_orphan(&mut self, hold: HoldId, policy: OrphanPolicy, found: &mut Reclaimed) {
        let Some(row) = self.holds.get_mut(&hold) else { return };
        match (policy, row.evidence.take()) {
            (OrphanPolicy::Suspend, evidence) => {
                (row.evidence, row.suspended) = (evidence, true);
                found.suspended += 1;
            }
            (OrphanPolicy::Evidence, Some((charged, mut record))) => {
                let (node, epoch, accounts) = (row.node.clone(), row.opened.epoch, row.opened.accounts.clone());
                record.source = UsageSource::Partial;
                self.settle(&node, &SettledHold { id: hold, epoch, accounts, charged: charged.max(0), record });
                found.charged += 1;
            }
            _ => {
                self.release(hold);
                found.released += 1;
            }
        }
    }

    /// Takes all leases of a dead incarnation but what its suspended holds keep counted.
    fn take_leases(&mut self, by: &Incarnation, found: &mut Reclaimed) {
        let accounts: Vec<AccountId> =
            self.leases.keys().filter(|(_, holder)| holder == by).map(|(account, _)| *account).collect();
        for account in accounts {
            let suspended = self
                .holds
                .values()
                .filter(|row| row.suspended && row.incarnation() == *by && row.opened.accounts.contains(&account));
            let kept: i64 = suspended.map(|row| row.opened.amount).sum();
            let rest = self.leases.get(&(account, by.clone())).map_or(0, Lease::rest);
            if rest > kept || kept == 0 {
                self.give_back(by, account, rest - kept);
                found.leases += 1;
            }
        }
    }

    /// Every difference between the counters and what they are the sums of.
    pub(super) fn audit(&self) -> Vec<Finding> {
        let mut found = Findings::default();
        self.accounts.values().for_each(|account| self.check(account, &mut found));
        self.usage.values().for_each(|record| record_figures(record).check(&mut found));
        for hold in self.holds.keys().filter(|hold| self.usage.contains_key(hold)) {
            found.note(AuditRule::Charges, format!("{hold}: it is open in the journal, but was charged"));
        }
        found.finish()
    }

    /// The same for a few accounts.
    pub(super) fn audit_accounts(&self, after: AccountId, limit: u32) -> AccountsAudit {
        let mut found = Findings::default();
        let (mut checked, mut next) = (0, None);
        for account in self.accounts.range((Bound::Excluded(after), Bound::Unbounded)).map(|(_, account)| account) {
            if checked == limit {
                return AccountsAudit { findings: found.finish(), checked, next };
            }
            self.check(account, &mut found);
            (checked, next) = (checked + 1, Some(account.account));
        }
        AccountsAudit { findings: found.finish(), checked, next: None }
    }

    fn check(&self, account: &AccountState, found: &mut Findings) {
        let id = account.account;
        let AccountState { granted, settled, leased, overrun, overcommit, .. } = *account;
        let mut records = RecordSums::default();
        self.charges.iter().filter(|charge| charge.account == id).for_each(|charge| {
            records.add(charge.amount, charge.overrun);
        });
        let grants = self.grants.values().filter(|grant| grant.account == id).map(|grant| grant.amount_nanos).sum();
        let leases = self.leases.iter().filter(|((account, _), _)| *account == id).map(|(_, lease)| lease.rest()).sum();
        let entries = EntrySums { granted: grants, settled: records.charged, overrun: records.overrun };
        let booked = Counters { granted, settled, leased, overrun };
        let records = Some(records);
        let budget = account.budget;
        AccountFigures { account: id, budget, booked, overcommit, grants, leases, entries, records }.check(found);
        let earlier = self.periods.get(&account.budget).into_iter().flatten().filter_map(|id| self.accounts.get(id));
        let before = earlier.filter(|other| other.seq + 1 == account.seq).map(|other| other.period.end).next();
        let (seq, start) = (account.seq, account.period.start);
        PeriodFigures { account: id, budget, seq, start, before }.check(found);
    }

    /// Sets a sum right, if it is what it was.
    pub(super) fn correct(&mut self, correction: &Correction) -> Result<(), StoreError> {
        let Correction { account, sum, from, to, .. } = *correction;
        let not_found = StoreError::NotFound { what: "account" };
        let state = self.accounts.get_mut(&account).ok_or(not_found)?;
        let counter = match sum {
            Sum::Granted => &mut state.granted,
            Sum::Settled => &mut state.settled,
            Sum::Leased => &mut state.leased,
            Sum::Overrun => &mut state.overrun,
        };
        if *counter != from {
            let what = format_args!("{account}: {} is no longer {from}; look at the books again", sum.name());
            return Err(StoreError::conflict(what));
        }
        *counter = to;
        let used = state.settled.saturating_add(state.leased);
        state.overcommit = state.overcommit.max(used.saturating_sub(state.granted));
        Ok(())
    }

    /// Changes a counter without an entry, as a broken program would.
    pub(super) fn tamper(&mut self, account: AccountId, by: i64) {
        if let Some(state) = self.accounts.get_mut(&account) {
            state.settled += by;
        }
    }
}

const fn record_figures(record: &UsageRecord) -> RecordFigures {
    RecordFigures {
        id: record.id,
        cost: record.cost_nanos,
        price: record.price_nanos,
        charged: record.charged_nanos,
        overrun: record.overrun_nanos,
    }
}
