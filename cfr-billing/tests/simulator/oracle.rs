//! What must hold, judged from outside: the oracle sees the store, every node's memory and what upstreams really served,
//! which no part of the system sees together.

use std::collections::BTreeMap;

use cfr_core::id::{AccountId, BudgetId, HoldId};
use cfr_core::ledger::LimitPolicy;
use cfr_core::ledger::invariants::{self, AccountView, ChargeView, HoldView, LeaseView};
use cfr_core::time::{PeriodWindow, Timestamp};

use super::node::{Hold, Node, Settlement};
use super::world::World;
use super::{ACCOUNTS, Account, Incarnation, Request};

/// After a step.
pub(crate) fn check(world: &World) -> Result<(), String> {
    let exposure = exposure(world);
    for (account, exposure) in exposure.into_iter().enumerate() {
        invariants::within_grant(&account_view(world, account)).map_err(|violation| violation.to_string())?;
        nothing_is_late(world, account)?;
        exposure_stays_within_limit(world, account, exposure)?;
    }
    world.nodes.iter().try_for_each(|node| node_stays_within_leases(world, node))
}

/// When nothing is open any more.
pub(crate) fn check_at_rest(world: &World) -> Result<(), String> {
    for account in 0..ACCOUNTS {
        let view = account_view(world, account);
        invariants::nothing_stranded(&view).map_err(|violation| violation.to_string())?;
        charges_add_up(world, account)?;
    }
    each_request_is_charged_once(world)
}

/// Late settlements need a partition that outlasts the grace.
fn nothing_is_late(world: &World, account: Account) -> Result<(), String> {
    let late = world.store.late[account];
    ensure(late == 0 || world.config.late_allowed, || format!("{late} was settled late on account {account}"))
}

/// I2, from outside: what is charged, will be charged and may be charged by open requests is within the limit, and beyond
/// it by no more than what was reclaimed from nodes that turned out to be alive.
fn exposure_stays_within_limit(world: &World, account: Account, exposure: i64) -> Result<(), String> {
    let tolerated = if world.config.late_allowed { world.store.reclaimed[account] } else { 0 };
    let limit = world.store.limit[account];
    ensure(exposure <= limit + tolerated, || {
        format!("account {account} is exposed to {exposure}, beyond its limit {limit} and {tolerated} reclaimed")
    })
}

fn exposure(world: &World) -> Vec<i64> {
    let mut exposure = world.store.settled.clone();
    for node in &world.nodes {
        let held = node.holds.values().map(|hold| (hold.path, hold.amount));
        let unflushed = unflushed(world, node).map(|settlement| (settlement.path, settlement.charge));
        for (path, amount) in held.chain(unflushed) {
            path.into_iter().for_each(|account| exposure[account] += amount);
        }
    }
    exposure
}

/// I2, node by node: open holds, unflushed charges and what may still be held are covered by the leases of their epochs.
fn node_stays_within_leases(world: &World, node: &Node) -> Result<(), String> {
    let mut uses: BTreeMap<u64, (Vec<HoldView>, Vec<ChargeView>)> = BTreeMap::new();
    let own = world.store.leases.iter().filter(|((_, by), _)| by.node == node.position);
    for (&(account, by), lease) in own {
        let (granted, consumed) = (lease.granted.into(), lease.consumed.into());
        let lease = LeaseView { account: account_id(account), granted, consumed };
        let (holds, charges) = uses.entry(by.epoch).or_insert_with(|| uses_of(world, node, by.epoch));
        invariants::within_lease(&lease, holds, charges).map_err(|violation| format!("{by:?}: {violation}"))?;
    }
    holds_are_leased(world, node)
}

/// What a node holds and may still hold in an epoch, and what it will charge.
fn uses_of(world: &World, node: &Node, epoch: u64) -> (Vec<HoldView>, Vec<ChargeView>) {
    let open = node.holds.iter().filter(|(_, hold)| hold.epoch == epoch);
    let open = open.map(|(&request, hold)| hold_view(request, &hold.path, hold.amount));
    let rights = node.rights.iter().filter(|_| epoch == node.epoch);
    let rights = rights.map(|(&account, right)| hold_view(Request::MAX, &[account], right.remaining));
    let charges = unflushed(world, node).filter(|settlement| settlement.epoch == epoch).map(charge_view);
    (open.chain(rights).collect(), charges.collect())
}

/// No lease goes while a hold under it is open: it was reclaimed too early, or the node held after its deadline.
fn holds_are_leased(world: &World, node: &Node) -> Result<(), String> {
    let lies_nowhere = |hold: &&Hold| {
        let by = Incarnation { node: node.position, epoch: hold.epoch };
        hold.path.iter().any(|&account| !world.store.leases.contains_key(&(account, by)))
    };
    let stray = node.holds.values().find(lies_nowhere);
    ensure(stray.is_none(), || format!("node {} has no lease under its open hold {stray:?}", node.position))
}

/// I3: what is settled is the sum of the charges.
fn charges_add_up(world: &World, account: Account) -> Result<(), String> {
    let on_account = |request: &Request| world.served[request].path.contains(&account);
    let charged: i64 =
        world.store.charges.iter().filter(|(request, _)| on_account(request)).map(|(_, charge)| charge).sum();
    let settled = world.store.settled[account];
    ensure(charged == settled, || format!("{settled} is settled on account {account}, the charges are {charged}"))
}

/// I4: a request of a node that survived is charged, one that died with its node is not.
fn each_request_is_charged_once(world: &World) -> Result<(), String> {
    world.served.iter().try_for_each(|(request, served)| {
        let charged = world.store.charges.contains_key(request);
        ensure(charged != served.lost, || format!("request {request}: charged {charged}, lost {}", served.lost))
    })
}

fn unflushed<'a>(world: &'a World, node: &'a Node) -> impl Iterator<Item = &'a Settlement> {
    node.outbox.iter().filter(|settlement| !world.store.charges.contains_key(&settlement.request))
}

// --- Views ---------------------------------------------------------------------------------------------------------

fn account_view(world: &World, account: Account) -> AccountView {
    AccountView {
        account: account_id(account),
        budget: BudgetId::from_u128(account as u128),
        tenant: None,
        policy: LimitPolicy::Hard,
        period: PeriodWindow { start: Timestamp::MIN, end: None },
        granted: world.store.limit[account].into(),
        settled: world.store.settled[account].into(),
        leased: world.store.leased(account).into(),
        overcommit: world.store.late[account].into(),
    }
}

fn hold_view(request: Request, path: &[Account], amount: i64) -> HoldView {
    HoldView {
        hold: HoldId::from_u128(request.into()),
        accounts: path.iter().copied().map(account_id).collect(),
        amount: amount.into(),
        authorized_at: Timestamp::UNIX_EPOCH,
    }
}

/// As far as I2 looks: only what is booked where.
fn charge_view(settlement: &Settlement) -> ChargeView {
    let charged = i128::from(settlement.charge);
    ChargeView {
        hold: HoldId::from_u128(settlement.request.into()),
        held: charged,
        free: 0,
        cost: charged,
        margin: 0,
        price: charged,
        charged,
        overrun: 0,
        entries: settlement.path.iter().map(|&account| (account_id(account), charged)).collect(),
    }
}

fn account_id(account: Account) -> AccountId {
    AccountId(i64::try_from(account).unwrap_or(i64::MAX))
}

fn ensure(holds: bool, details: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(details()) }
}
