//! How nodes ask each other for rights that they do not use.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cfr_core::id::BudgetId;
use tokio::sync::Notify;

use super::MemoryStore;
use crate::store::Incarnation;

/// What was asked and is not answered, by the node that is asked.
pub(super) type Questions = BTreeMap<Arc<str>, BTreeSet<BudgetId>>;

/// Wakes those who wait for a question or for an answer.
#[derive(Debug, Default)]
pub(super) struct Bells {
    pub(super) asked: Notify,
    pub(super) returned: Notify,
}

impl MemoryStore {
    /// Asks everybody who has rights on these budgets, and waits until there is more room. Returns at once when nobody has.
    pub(super) async fn ask_others(&self, by: &Incarnation, budgets: &[BudgetId]) {
        let before = {
            let state = &mut *self.state();
            let mut others = 0;
            for &budget in budgets {
                for node in state.books.holders(budget).filter(|node| **node != by.node) {
                    others += 1;
                    state.questions.entry(node.clone()).or_default().insert(budget);
                }
            }
            if others == 0 {
                return;
            }
            state.books.rooms(budgets)
        };
        self.bells.asked.notify_waiters();
        loop {
            let returned = self.bells.returned.notified();
            let mut returned = std::pin::pin!(returned);
            returned.as_mut().enable();
            if self.state().books.rooms(budgets).iter().zip(&before).any(|(now, before)| now > before) {
                return;
            }
            returned.await;
        }
    }

    /// Waits until somebody asks this node.
    pub(super) async fn next_question(&self, by: &Incarnation) -> Vec<BudgetId> {
        loop {
            let mut asked = std::pin::pin!(self.bells.asked.notified());
            asked.as_mut().enable();
            if let Some(budgets) = self.state().questions.remove(&by.node) {
                return budgets.into_iter().collect();
            }
            asked.await;
        }
    }
}
