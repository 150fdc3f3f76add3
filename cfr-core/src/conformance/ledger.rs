//! What every [`BudgetLedger`] must do, one function per rule. [`ledger_conformance!`](crate::ledger_conformance) makes a
//! test of each.
//!
//! A ledger that is asked for a closed id, with the same arguments, says
//! [`AlreadyClosed`](crate::ledger::LedgerError::AlreadyClosed): whoever retries then knows that nothing is held for the
//! call.
#![expect(clippy::panic, clippy::expect_used, reason = "a rule that is broken fails its test by panicking")]

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

use crate::id::BudgetId;
use crate::ledger::{BudgetLedger, BudgetSpec};
use crate::money::Money;
use crate::time::ManualClock;

mod ends;
mod fixture;
mod holds;
mod model;
mod periods;
mod races;

pub use ends::*;
pub use holds::*;
pub use model::random_histories_agree_with_a_model;
pub use periods::*;
pub use races::*;

/// A ledger with what a test needs around it. Each rule gets a fresh one.
#[async_trait]
pub trait LedgerUnderTest: Debug + Send + Sync {
    /// The ledger.
    fn ledger(&self) -> Arc<dyn BudgetLedger>;

    /// The clock that the ledger, and the store behind it, read.
    fn clock(&self) -> Arc<ManualClock>;

    /// Adds a budget on which nothing is booked yet.
    async fn add_budget(&self, spec: BudgetSpec);

    /// Adds money to the budget's current period; a key that was used before changes nothing.
    async fn grant(&self, budget: BudgetId, amount: Money, idempotency_key: &str);

    /// Whether a hold can still claim what its period left free after the next one began. A ledger that shares its store
    /// with others may say no: it then has only what it was granted before.
    fn past_money_can_be_claimed(&self) -> bool {
        true
    }

    /// Returns when every decision so far is durable and [`BudgetLedger::balance`] shows it.
    async fn settle_down(&self);
}

/// Expands to one `#[tokio::test]` per rule of [`conformance::ledger`](crate::conformance::ledger). The expression is
/// evaluated once per test, may `.await`, and yields a fresh
/// [`LedgerUnderTest`](crate::conformance::ledger::LedgerUnderTest).
///
/// ```ignore
/// cfr_core::ledger_conformance!(support::fresh_ledger().await);
/// ```
///
/// `CFR_LEDGER_SEQUENCES` sets how many random histories are played, `CFR_SEED` repeats one that failed.
#[macro_export]
macro_rules! ledger_conformance {
    ($fresh:expr) => {
        $crate::ledger_conformance! { @rules $fresh;
            a_hold_is_made_on_every_budget_or_on_none
            holding_stops_at_the_limit
            a_denial_names_the_tightest_budget
            a_denial_is_final_for_its_id
            the_same_request_gives_the_same_hold
            other_arguments_are_refused
            a_hold_takes_what_there_is_down_to_its_minimum
            an_unlimited_budget_never_denies
            a_soft_budget_counts_and_never_denies
            a_free_request_passes_an_exhausted_budget
            a_grant_makes_room_once
            raising_a_hold_is_idempotent_by_step
            a_raise_that_does_not_fit_leaves_the_hold_as_it_was
            a_malformed_path_is_refused
            malformed_amounts_are_refused
            an_unknown_budget_is_refused
            settling_frees_the_rest
            a_price_above_the_hold_takes_free_money_and_the_rest_is_overrun
            an_overrun_takes_only_what_every_budget_has
            an_unlimited_budget_has_no_overrun
            a_charge_of_zero_ends_a_hold
            a_price_below_zero_or_in_another_currency_is_refused
            a_hold_ends_once
            a_closed_id_holds_nothing_again
            releasing_gives_everything_back
            noting_progress_moves_no_money
            an_unknown_hold_cannot_end
            balances_add_up
            a_new_period_starts_with_its_grant
            a_hold_settles_in_its_own_period
            a_budget_without_periods_never_begins_anew
            random_histories_agree_with_a_model
        }
        $crate::ledger_conformance! { @races $fresh;
            racing_holds_never_exceed_the_limit
            racing_settlements_never_exceed_the_limit
            racing_retries_make_one_hold
            racing_ends_end_a_hold_once
        }
    };
    (@rules $fresh:expr; $($rule:ident)*) => { $(
        #[tokio::test]
        async fn $rule() {
            $crate::conformance::ledger::$rule(&$fresh).await;
        }
    )* };
    (@races $fresh:expr; $($rule:ident)*) => { $(
        #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
        async fn $rule() {
            $crate::conformance::ledger::$rule(&$fresh).await;
        }
    )* };
}
