//! Subscriptions: who is on which terms, since when, and for how long.
//!
//! A subscription owns what a product assignment does: as soon as it gives its terms, a user gets the product and its budget,
//! a tenant gets a budget that all of its people share, and its people without a product of their own get its terms. Whoever
//! ever had one needs one: when the last one ended, or is unpaid, models are refused.

use std::sync::Arc;
use std::time::Duration;

use cfr_core::id::{ProductVersionId, SubscriptionId, TenantId, UserId};
use cfr_core::time::{Period, PeriodError, PeriodWindow, TimeZone, Timestamp};
use serde::{Deserialize, Serialize};

use crate::audit_log::Subject;
use crate::plan::Terms;
use crate::store::StoreError;

/// How long models are still answered after a payment is due (money.md §1.1).
pub const GRACE: Duration = Duration::from_hours(7 * 24);
/// Seats of one subscription.
pub const SEATS_MAX: u32 = 1_000_000;
/// Why a subscription that ended stays as it is.
pub const ENDED: &str = "the subscription has ended: make another one";
/// Why an owner gets no second subscription.
pub const HAS_ONE: &str = "there is a subscription already: change it, or end it first";
/// Why the terms of a user are not changed by hand.
pub const OWNED: &str = "the user's terms follow from a subscription: change that, or make another one";

/// Where a subscription is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SubscriptionStatus {
    /// Asked for, not yet begun: it gives nothing.
    Incomplete,
    /// For nothing, until the trial is over.
    Trialing,
    /// In use.
    Active,
    /// A payment is due: in use until the grace is over.
    PastDue,
    /// Not paid: models are refused.
    Unpaid,
    /// Over for good.
    Canceled,
}

impl SubscriptionStatus {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Incomplete, Self::Trialing, Self::Active, Self::PastDue, Self::Unpaid, Self::Canceled];

    /// Whether a subscription in this state may go over to that one. A late payment opens an unpaid one again.
    #[must_use]
    pub const fn may_become(self, next: Self) -> bool {
        match self {
            Self::Incomplete => matches!(next, Self::Trialing | Self::Active | Self::Canceled),
            Self::Trialing => matches!(next, Self::Active | Self::Canceled),
            Self::Active => matches!(next, Self::PastDue | Self::Canceled),
            Self::PastDue => matches!(next, Self::Active | Self::Unpaid | Self::Canceled),
            Self::Unpaid => matches!(next, Self::Active | Self::Canceled),
            Self::Canceled => false,
        }
    }

    /// Whether its terms hold in this state.
    #[must_use]
    pub const fn gives(self) -> bool {
        matches!(self, Self::Trialing | Self::Active | Self::PastDue)
    }

    /// Whether it is not over.
    #[must_use]
    pub const fn is_live(self) -> bool {
        !matches!(self, Self::Canceled)
    }
}

/// Who sees to it that it is paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PaymentMode {
    /// Nobody: it costs nothing.
    Free,
    /// The operator writes invoices.
    Invoice,
    /// Stripe.
    Stripe,
}

/// Terms that a tenant or a user is on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// Its id.
    pub id: SubscriptionId,
    /// The tenant that owns it, or the tenant of the user who does.
    pub tenant: TenantId,
    /// The user who owns it; none for the tenant.
    pub user: Option<UserId>,
    /// The terms.
    pub product_version: ProductVersionId,
    /// Where it is in its life.
    pub status: SubscriptionStatus,
    /// Who sees to it that it is paid.
    pub payment_mode: PaymentMode,
    /// How many people it is for: a tenant has no more then, and a budget of so many times what the product includes.
    pub seats: Option<u32>,
    /// How its periods follow each other, from its beginning.
    pub period: Period,
    /// Where its days begin.
    pub zone: TimeZone,
    /// When its terms first held.
    pub started_at: Option<Timestamp>,
    /// When the trial is over.
    pub trial_ends_at: Option<Timestamp>,
    /// When models are refused, if it is not paid before.
    pub grace_ends_at: Option<Timestamp>,
    /// When it is to end.
    pub cancel_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Counts its changes, from 1.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Subscription {
    /// The id of the user or tenant who owns it, as 128 bits.
    #[must_use]
    pub fn owner(&self) -> u128 {
        self.user.map_or(self.tenant.as_u128(), UserId::as_u128)
    }

    /// The same subscription in another state, from `at` on. Whether it may go there says [`Subscription::check_change`].
    #[must_use]
    pub fn with_status(&self, status: SubscriptionStatus, at: Timestamp) -> Self {
        let begins = status.gives() && self.started_at.is_none();
        Self {
            status,
            started_at: if begins { Some(at) } else { self.started_at },
            period: if begins { anchored(&self.period, at) } else { self.period.clone() },
            grace_ends_at: (status == SubscriptionStatus::PastDue).then(|| at + GRACE),
            ended_at: if status.is_live() { None } else { Some(at) },
            ..self.clone()
        }
    }

    /// The subscription as it stands at `now`: trials, grace and notice that are over have had their effect.
    #[must_use]
    pub fn moved(&self, now: Timestamp) -> Self {
        let mut moved = self.clone();
        while let Some((at, status)) = moved.next_move().filter(|(at, _)| *at <= now) {
            moved = moved.with_status(status, at);
        }
        moved
    }

    /// When time alone changes its state next; none when it never does.
    #[must_use]
    pub fn due_at(&self) -> Option<Timestamp> {
        self.next_move().map(|(at, _)| at)
    }

    fn next_move(&self) -> Option<(Timestamp, SubscriptionStatus)> {
        let next = match self.status {
            SubscriptionStatus::Trialing => Some((self.trial_ends_at?, SubscriptionStatus::Active)),
            SubscriptionStatus::PastDue => Some((self.grace_ends_at?, SubscriptionStatus::Unpaid)),
            _ => None,
        };
        let end = self.cancel_at.filter(|_| self.status.is_live()).map(|at| (at, SubscriptionStatus::Canceled));
        end.into_iter().chain(next).min_by_key(|(at, _)| *at) // of two at once the end comes first, and is final
    }

    /// Why models are refused to its owner at `now`: the state that it is in; none while its terms hold.
    #[must_use]
    pub fn refuses(&self, now: Timestamp) -> Option<SubscriptionStatus> {
        Some(self.moved(now).status).filter(|status| !status.gives())
    }

    /// The period that `now` lies in, or the last one of a subscription that ended; none before it began.
    ///
    /// # Errors
    /// When the period's terms are out of range.
    pub fn window_at(&self, now: Timestamp) -> Result<Option<PeriodWindow>, PeriodError> {
        let Some(started) = self.started_at else { return Ok(None) };
        let at = self.ended_at.map_or(now, |end| end.min(now)).max(started);
        self.period.window_at(&self.zone, at).map(Some)
    }

    /// What its budget is granted per period: what the product includes, for each seat.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] when that is out of range.
    pub fn included_nanos(&self, terms: &Terms) -> Result<i64, StoreError> {
        let seats = i64::from(self.seats.unwrap_or(1));
        let included = terms.budget_included_nanos.checked_mul(seats);
        included.ok_or_else(|| StoreError::invalid("the budget of so many seats is out of range"))
    }

    /// Whether `after` gives what this one did not: then its owner gets the terms and the budget.
    #[must_use]
    pub fn gives_more(&self, after: &Self) -> bool {
        let (old, new) = ((self.product_version, self.seats), (after.product_version, after.seats));
        after.status.gives() && (!self.status.gives() || old != new)
    }

    /// Passes a change that this subscription can undergo.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] for one that ended, and for a state that does not follow on this one.
    pub fn check_change(&self, after: &Self) -> Result<(), StoreError> {
        if !self.status.is_live() {
            return Err(StoreError::conflict(ENDED));
        }
        if self.status == after.status || self.status.may_become(after.status) {
            return Ok(());
        }
        let (from, to) = (word(self.status), word(after.status));
        Err(StoreError::conflict(format_args!("a subscription that is {from} does not become {to}")))
    }

    /// Passes when so many people have a seat each.
    ///
    /// # Errors
    /// [`StoreError::Conflict`].
    pub fn check_seats(&self, people: i64) -> Result<(), StoreError> {
        match self.seats.filter(|_| self.user.is_none()) {
            Some(seats) if people > i64::from(seats) => {
                let what = format_args!("the tenant has {people} users and {seats} seats");
                Err(StoreError::conflict(what))
            }
            _ => Ok(()),
        }
    }
}

/// Periods that have an anchor begin with the subscription.
fn anchored(period: &Period, at: Timestamp) -> Period {
    match *period {
        Period::AnniversaryMonth { .. } => Period::AnniversaryMonth { anchor: at },
        Period::EveryNDays { days, .. } => Period::EveryNDays { days, anchor: at },
        _ => period.clone(),
    }
}

const fn word(status: SubscriptionStatus) -> &'static str {
    match status {
        SubscriptionStatus::Incomplete => "incomplete",
        SubscriptionStatus::Trialing => "trialing",
        SubscriptionStatus::Active => "active",
        SubscriptionStatus::PastDue => "past due",
        SubscriptionStatus::Unpaid => "unpaid",
        SubscriptionStatus::Canceled => "canceled",
    }
}

/// Which subscriptions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SubscriptionFilter {
    /// Only those of this tenant and of its users.
    pub tenant: Option<TenantId>,
    /// Only those of this user.
    pub user: Option<UserId>,
    /// Only those in this state.
    pub status: Option<SubscriptionStatus>,
}

impl SubscriptionFilter {
    /// Whether it wants a subscription.
    #[must_use]
    pub fn wants(&self, subscription: &Subscription) -> bool {
        self.tenant.is_none_or(|tenant| subscription.tenant == tenant)
            && self.user.is_none_or(|user| subscription.user == Some(user))
            && self.status.is_none_or(|status| subscription.status == status)
    }
}

impl Subject for Subscription {
    fn target(&self) -> Arc<str> {
        self.id.to_string().into()
    }

    fn tenant(&self) -> Option<TenantId> {
        Some(self.tenant)
    }
}

#[cfg(test)]
mod tests;
