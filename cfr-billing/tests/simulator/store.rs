//! The store: every method is one transaction.

use std::collections::{BTreeMap, BTreeSet};

use super::node::Settlement;
use super::{ACCOUNTS, Account, Config, Incarnation, Millis, Mutant, Request};

#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) limit: Vec<i64>,
    pub(crate) settled: Vec<i64>,
    pub(crate) leases: BTreeMap<(Account, Incarnation), Lease>,
    /// What was charged, once per request.
    pub(crate) charges: BTreeMap<Request, i64>,
    /// What was settled beyond the lease that it should have come from.
    pub(crate) late: Vec<i64>,
    /// What was taken back from expired leases.
    pub(crate) reclaimed: Vec<i64>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Lease {
    pub(crate) granted: i64,
    pub(crate) consumed: i64,
    pub(crate) expires: Millis,
}

impl Lease {
    pub(crate) fn left(&self) -> i64 {
        self.granted - self.consumed
    }
}

/// A wish for more of an account: at least `min`, better `want`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Need {
    pub(crate) account: Account,
    pub(crate) min: i64,
    pub(crate) want: i64,
}

impl Store {
    pub(crate) fn new(config: &Config) -> Self {
        let limit = (0..ACCOUNTS).map(|account| config.limit_scale * limit_of(account)).collect();
        let zeros = || vec![0; ACCOUNTS];
        let (leases, charges) = (BTreeMap::new(), BTreeMap::new());
        Self { limit, settled: zeros(), leases, charges, late: zeros(), reclaimed: zeros() }
    }

    /// What is leased and not yet charged, over all nodes.
    pub(crate) fn leased(&self, account: Account) -> i64 {
        let first = Incarnation { node: 0, epoch: 0 };
        let last = Incarnation { node: usize::MAX, epoch: u64::MAX };
        self.leases.range((account, first)..=(account, last)).map(|(_, lease)| lease.left()).sum()
    }

    /// Grants every need as far as there is room, or nothing when one cannot even have its minimum.
    pub(crate) fn acquire(&mut self, by: Incarnation, needs: &[Need], now: Millis, ttl: Millis) -> Option<Vec<i64>> {
        let granted: Vec<_> = needs.iter().map(|need| self.grantable(need)).collect::<Option<_>>()?;
        for (need, amount) in needs.iter().zip(&granted) {
            let lease = self.leases.entry((need.account, by)).or_default();
            lease.granted += amount;
            lease.expires = lease.expires.max(now + ttl);
        }
        Some(granted)
    }

    fn grantable(&self, need: &Need) -> Option<i64> {
        let room = self.limit[need.account] - self.settled[need.account] - self.leased(need.account);
        (room >= need.min).then(|| need.want.max(need.min).min(room))
    }

    /// Prolongs every lease of an incarnation, also an expired one that nobody reclaimed, and names the accounts.
    pub(crate) fn renew(&mut self, by: Incarnation, now: Millis, ttl: Millis) -> BTreeSet<Account> {
        let own = self.leases.iter_mut().filter(|((_, owner), _)| *owner == by);
        own.map(|((account, _), lease)| {
            lease.expires = now + ttl;
            *account
        })
        .collect()
    }

    /// Takes back what a node does not need: at most what its lease has left.
    pub(crate) fn give_back(&mut self, by: Incarnation, account: Account, amount: i64) {
        if let Some(lease) = self.leases.get_mut(&(account, by)) {
            lease.granted -= amount.min(lease.left());
            if lease.left() == 0 {
                self.leases.remove(&(account, by));
            }
        }
    }

    /// Books a charge once on every account of its path, against the leases of the epoch that it names.
    pub(crate) fn settle(&mut self, node: usize, settlement: &Settlement, mutant: Option<Mutant>) {
        let known = self.charges.insert(settlement.request, settlement.charge).is_some();
        if known && mutant != Some(Mutant::SettlesTwice) {
            return;
        }
        let by = Incarnation { node, epoch: settlement.epoch };
        for &account in &settlement.path {
            self.settled[account] += settlement.charge;
            self.late[account] += self.consume(account, by, settlement.charge);
        }
    }

    /// Takes a charge out of a lease, and says how much of it was not there.
    fn consume(&mut self, account: Account, by: Incarnation, charge: i64) -> i64 {
        let Some(lease) = self.leases.get_mut(&(account, by)) else { return charge };
        lease.consumed += charge;
        let late = (-lease.left()).max(0);
        lease.granted += late;
        late
    }

    /// Takes away leases under which no request can run any more.
    pub(crate) fn reclaim(&mut self, now: Millis, config: &Config) {
        let early = config.mutant == Some(Mutant::ReclaimsAtExpiry);
        let wait = config.grace_ms + if early { 0 } else { config.request_ms_max };
        let reclaimed = &mut self.reclaimed;
        self.leases.retain(|(account, _), lease| {
            let lives = now <= lease.expires + wait;
            if !lives {
                reclaimed[*account] += lease.left();
            }
            lives
        });
    }
}

fn limit_of(account: Account) -> i64 {
    match account {
        0 => 40_000,
        1..=super::USERS => 20_000,
        _ => 9_000,
    }
}
