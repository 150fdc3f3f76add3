//! A node: it decides in memory, inside its leases. The rules are those of money.md §3.3.

use std::collections::BTreeMap;

use super::store::{Need, Store};
use super::{Account, Config, Incarnation, Millis, Mutant, Path, Request};

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) position: usize,
    pub(crate) epoch: u64,
    pub(crate) alive: bool,
    pub(crate) partitioned_until: Millis,
    pub(crate) drift_ppm: i64,
    /// What may still be held, per account, and until when by the node's own clock.
    pub(crate) rights: BTreeMap<Account, Right>,
    pub(crate) holds: BTreeMap<Request, Hold>,
    /// Settlements that the store has not acknowledged.
    pub(crate) outbox: Vec<Settlement>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Right {
    pub(crate) remaining: i64,
    pub(crate) deadline: Millis,
}

#[derive(Debug, Clone)]
pub(crate) struct Hold {
    pub(crate) path: Path,
    pub(crate) amount: i64,
    /// What the upstream will really charge.
    pub(crate) price: i64,
    pub(crate) ends_at: Millis,
    pub(crate) epoch: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Settlement {
    pub(crate) request: Request,
    pub(crate) path: Path,
    pub(crate) charge: i64,
    pub(crate) epoch: u64,
}

impl Node {
    pub(crate) fn new(position: usize, drift_ppm: i64) -> Self {
        Self {
            position,
            epoch: 1,
            alive: true,
            partitioned_until: 0,
            drift_ppm,
            rights: BTreeMap::new(),
            holds: BTreeMap::new(),
            outbox: Vec::new(),
        }
    }

    pub(crate) fn incarnation(&self) -> Incarnation {
        Incarnation { node: self.position, epoch: self.epoch }
    }

    pub(crate) fn reaches_store(&self, now: Millis) -> bool {
        self.alive && now >= self.partitioned_until
    }

    /// Makes a hold if every account of the path has it, with more rights from the store where it has not (R1, R6).
    pub(crate) fn admit(
        &mut self,
        request: Request,
        hold: Hold,
        store: &mut Store,
        now: Millis,
        config: &Config,
    ) -> bool {
        let needs = self.needs(&hold, now, config);
        let covered = needs.is_empty() || self.reaches_store(now) && self.acquire(&needs, store, now, config);
        if !covered {
            return false;
        }
        for account in &hold.path {
            self.right(*account).remaining -= hold.amount;
        }
        self.holds.insert(request, Hold { epoch: self.epoch, ..hold });
        true
    }

    /// What the rights at hand lack, in chunks (R8).
    fn needs(&self, hold: &Hold, now: Millis, config: &Config) -> Vec<Need> {
        let lacks = hold.path.iter().map(|&account| (account, hold.amount - self.usable(account, now, config).max(0)));
        let lacking = lacks.filter(|(_, min)| *min > 0);
        lacking.map(|(account, min)| Need { account, min, want: min.max(config.chunk) }).collect()
    }

    /// After its deadline a right allows no new holds (R4).
    fn usable(&self, account: Account, now: Millis, config: &Config) -> i64 {
        let valid = |right: &&Right| self.local(now) < right.deadline || config.mutant == Some(Mutant::IgnoresDeadline);
        self.rights.get(&account).filter(valid).map_or(0, |right| right.remaining)
    }

    /// Expired rights are renewed first, and the request is denied: what the renewal brings is for the next one.
    fn acquire(&mut self, needs: &[Need], store: &mut Store, now: Millis, config: &Config) -> bool {
        let local = self.local(now);
        let stale = self.rights.values().any(|right| local >= right.deadline);
        if stale && config.mutant != Some(Mutant::IgnoresDeadline) {
            self.renew(store, now, config);
            return false;
        }
        let deadline = self.deadline(now, config);
        let Some(granted) = store.acquire(self.incarnation(), needs, now, config.ttl_ms) else { return false };
        for (need, amount) in needs.iter().zip(granted) {
            let right = self.right(need.account);
            right.remaining += amount;
            right.deadline = right.deadline.max(deadline);
        }
        true
    }

    /// Prolongs every right. A node that lost a lease begins a new epoch; its open holds keep theirs (R9).
    pub(crate) fn renew(&mut self, store: &mut Store, now: Millis, config: &Config) {
        let deadline = self.deadline(now, config);
        let live = store.renew(self.incarnation(), now, config.ttl_ms);
        let lost = self.rights.keys().any(|account| !live.contains(account));
        if lost && config.mutant != Some(Mutant::KeepsEpochAfterLoss) {
            self.epoch += 1;
            self.rights.clear();
        }
        self.rights.retain(|account, _| live.contains(account));
        for right in self.rights.values_mut() {
            right.deadline = deadline;
        }
    }

    /// Ends every hold whose request has ended. Returns what the operator absorbs.
    pub(crate) fn complete(&mut self, now: Millis, config: &Config) -> i64 {
        let ended: Vec<_> = self.holds.extract_if(.., |_, hold| hold.ends_at <= now).collect();
        ended.into_iter().map(|(request, hold)| self.settle(request, &hold, now, config)).sum()
    }

    /// The rest of the hold goes back to the rights that it came from (R5). A price above the hold takes more from them,
    /// as far as every account has it.
    fn settle(&mut self, request: Request, hold: &Hold, now: Millis, config: &Config) -> i64 {
        let own = hold.epoch == self.epoch;
        let extra = if own { self.extra(hold, now) } else { 0 };
        let charge = match config.mutant {
            Some(Mutant::ChargesBeyondLease) => hold.price,
            _ => hold.price.min(hold.amount + extra),
        };
        for account in hold.path.iter().filter(|_| own) {
            if let Some(right) = self.rights.get_mut(account) {
                right.remaining += hold.amount - charge;
            }
        }
        self.outbox.push(Settlement { request, path: hold.path, charge, epoch: hold.epoch });
        hold.price - charge
    }

    fn extra(&self, hold: &Hold, now: Millis) -> i64 {
        let local = self.local(now);
        let rights = hold.path.iter().map(|account| self.rights.get(account));
        let free = rights.map(|right| right.filter(|right| local < right.deadline).map_or(0, |right| right.remaining));
        free.min().unwrap_or(0).max(0)
    }

    /// Sends every settlement, perhaps twice. When the acknowledgement is lost, they are sent again later.
    pub(crate) fn flush(&mut self, store: &mut Store, twice: bool, acknowledged: bool, config: &Config) {
        for _ in 0..=u8::from(twice) {
            for settlement in &self.outbox {
                let epoch = match config.mutant {
                    Some(Mutant::SettlesUnderCurrentEpoch) => self.epoch,
                    _ => settlement.epoch,
                };
                store.settle(self.position, &Settlement { epoch, ..settlement.clone() }, config.mutant);
            }
        }
        if acknowledged {
            self.outbox.clear();
        }
    }

    /// Gives back what an account has left, with everything settled before (R7).
    pub(crate) fn give_back(&mut self, account: Account, store: &mut Store, now: Millis) {
        let Some(&Right { remaining, deadline }) = self.rights.get(&account) else { return };
        let leased = store.leases.contains_key(&(account, self.incarnation()));
        if remaining <= 0 || self.local(now) >= deadline || !leased {
            return;
        }
        store.give_back(self.incarnation(), account, remaining);
        if self.holds.values().any(|hold| hold.path.contains(&account)) {
            self.right(account).remaining = 0;
        } else {
            self.rights.remove(&account);
        }
    }

    /// Kill -9: everything in memory is gone.
    pub(crate) fn kill(&mut self) {
        self.rights.clear();
        self.holds.clear();
        self.outbox.clear();
        self.alive = false;
    }

    /// A node that starts registers, and thereby begins a new epoch.
    pub(crate) fn restart(&mut self) {
        self.alive = true;
        self.epoch += 1;
    }

    /// From before the store is asked, on the node's own clock, less two percent for its drift (R2).
    fn deadline(&self, now: Millis, config: &Config) -> Millis {
        self.local(now) + config.ttl_ms - config.ttl_ms / 50 - 1
    }

    /// What the node's own clock shows.
    fn local(&self, now: Millis) -> Millis {
        now.saturating_add_signed(now.cast_signed() * self.drift_ppm / 1_000_000)
    }

    fn right(&mut self, account: Account) -> &mut Right {
        self.rights.entry(account).or_insert(Right { remaining: 0, deadline: 0 })
    }
}
