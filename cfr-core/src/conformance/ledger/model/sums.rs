//! The model: sums per account, open holds, and the answers of closed ids.

use std::collections::HashMap;

use super::BUDGETS;
use crate::id::{AccountId, HoldId};
use crate::ledger::invariants::HoldView;
use crate::ledger::{LedgerError, LimitPolicy};
use crate::time::{Period, Timestamp};

/// A budget by its position and one of its periods by its day.
pub(super) type Account = (usize, i64);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) granted: i128,
    pub(super) settled: i128,
    pub(super) held: i128,
}

#[derive(Debug, Clone)]
pub(super) struct ModelHold {
    pub(super) accounts: Vec<Account>,
    pub(super) answered: i64,
    pub(super) amount: i64,
}

#[derive(Debug, Clone)]
pub(super) enum Answer {
    Held { amount: i64 },
    Denied { room: i64, tightest: Vec<usize> },
    Refused(LedgerError),
}

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) accounts: HashMap<Account, Sums>,
    pub(super) holds: HashMap<HoldId, ModelHold>,
    /// The answers of ids that hold nothing any more, or never did.
    pub(super) closed: HashMap<HoldId, Answer>,
    pub(super) grants: Vec<i64>,
}

impl Model {
    pub(super) fn account(&mut self, position: usize, today: i64) -> &mut Sums {
        let (_, _, included, _) = BUDGETS[position];
        let fresh = Sums { granted: included.into(), ..Sums::default() };
        self.accounts.entry(account_at(position, today)).or_insert(fresh)
    }

    pub(super) fn authorize(&mut self, id: HoldId, path: Vec<usize>, most: i64, least: i64, today: i64) -> Answer {
        let accounts: Vec<_> = path.iter().map(|&position| account_at(position, today)).collect();
        for &position in &path {
            self.account(position, today);
        }
        let room = self.room(&accounts);
        let amount = room.clamp(0, most);
        if amount < least {
            let tightest =
                path.into_iter().filter(|&position| self.room(&[account_at(position, today)]) == room).collect();
            let denied = Answer::Denied { room, tightest };
            self.closed.insert(id, denied.clone());
            return denied;
        }
        self.book(&accounts, amount, 0);
        self.holds.insert(id, ModelHold { accounts, answered: amount, amount });
        Answer::Held { amount }
    }

    pub(super) fn answer_again(&self, id: HoldId) -> Answer {
        self.holds.get(&id).map_or_else(|| self.closed[&id].clone(), |hold| Answer::Held { amount: hold.answered })
    }

    /// Whether there was room for it.
    pub(super) fn extend(&mut self, id: HoldId, amount: i64) -> Result<bool, LedgerError> {
        let accounts = self.open(id)?.accounts.clone();
        if self.room(&accounts).max(0) < amount {
            return Ok(false);
        }
        self.book(&accounts, amount, 0);
        self.holds.entry(id).and_modify(|hold| hold.amount += amount);
        Ok(true)
    }

    pub(super) fn end(
        &mut self,
        id: HoldId,
        charge: impl Fn(&ModelHold) -> i64,
    ) -> Result<(ModelHold, i64), LedgerError> {
        let hold = self.open(id)?.clone();
        let charged = charge(&hold);
        self.holds.remove(&id);
        self.closed.insert(id, Answer::Refused(LedgerError::AlreadyClosed { hold: id }));
        self.book(&hold.accounts, -hold.amount, charged);
        Ok((hold, charged))
    }

    pub(super) fn open(&self, id: HoldId) -> Result<&ModelHold, LedgerError> {
        self.holds.get(&id).ok_or_else(|| match self.closed.get(&id) {
            Some(Answer::Refused(error)) => error.clone(),
            _ => LedgerError::UnknownHold { hold: id },
        })
    }

    pub(super) fn open_ids(&self) -> Vec<HoldId> {
        let mut ids: Vec<_> = self.holds.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    pub(super) fn open_on(&self, position: usize, today: i64, account: AccountId) -> Vec<HoldView> {
        let there = |hold: &&ModelHold| hold.accounts.contains(&account_at(position, today));
        let views = self.holds.values().filter(there).map(|hold| HoldView {
            hold: HoldId::from_u128(0),
            accounts: vec![account],
            amount: hold.amount.into(),
            authorized_at: Timestamp::UNIX_EPOCH,
        });
        views.collect()
    }

    pub(super) fn amount_of(&self, id: HoldId) -> i64 {
        self.holds.get(&id).map_or(0, |hold| hold.amount)
    }

    pub(super) fn free_of(&self, id: HoldId) -> i64 {
        self.holds.get(&id).map_or(0, |hold| self.room(&hold.accounts).max(0))
    }

    /// What the tightest hard budget has left.
    fn room(&self, accounts: &[Account]) -> i64 {
        let enforced = accounts.iter().filter(|(position, _)| BUDGETS[*position].1 == LimitPolicy::Hard);
        let rooms = enforced.map(|account| self.accounts[account]).map(|sums| sums.granted - sums.settled - sums.held);
        rooms.min().map_or(i64::MAX, |room| i64::try_from(room).expect("the figures of a history are small"))
    }

    fn book(&mut self, accounts: &[Account], held: i64, settled: i64) {
        for account in accounts {
            let sums = self.accounts.entry(*account).or_default();
            sums.held += i128::from(held);
            sums.settled += i128::from(settled);
        }
    }
}

fn account_at(position: usize, today: i64) -> Account {
    match BUDGETS[position].3 {
        Period::Day => (position, today),
        _ => (position, 0),
    }
}
