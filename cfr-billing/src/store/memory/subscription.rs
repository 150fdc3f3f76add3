//! [`SubscriptionStore`] over a map that is ordered by id, which belongs to the catalog: keys lead to it.

use std::collections::BTreeMap;

use async_trait::async_trait;
use cfr_core::id::{SubscriptionId, TenantId, UserId};
use cfr_core::ledger::{LimitPolicy, Scope};
use cfr_core::time::Timestamp;

use super::catalog::Catalog;
use super::tables::{check_version, page};
use super::{MemoryStore, State};
use crate::audit_log::{Act, Action, Event};
use crate::budget::{NewBudget, ScopeId};
use crate::identity::NOT_ACTIVATED;
use crate::store::{DUE_MAX, Page, PageRequest, StoreError, SubscriptionStore};
use crate::subscription::{HAS_ONE, Subscription, SubscriptionFilter};

pub(super) type Subscriptions = BTreeMap<SubscriptionId, Subscription>;

const NOT_FOUND: StoreError = StoreError::NotFound { what: "subscription" };

impl Catalog {
    /// The last subscription of this owner that began.
    pub(super) fn last_subscription(&self, owner: u128) -> Option<&Subscription> {
        let mut newest_first = self.subscriptions.values().rev();
        newest_first.find(|subscription| subscription.owner() == owner && subscription.started_at.is_some())
    }

    /// The subscription that governs a request: the user's own, or else the tenant's.
    pub(super) fn governing(&self, user: Option<UserId>, tenant: Option<TenantId>) -> Option<&Subscription> {
        let of = |owner: u128| self.last_subscription(owner);
        user.and_then(|user| of(user.as_u128())).or_else(|| of(tenant?.as_u128()))
    }

    /// Users whom a tenant may have by its subscription.
    pub(super) fn seats(&self, tenant: TenantId) -> Option<u32> {
        self.live(tenant.as_u128())?.seats
    }

    fn live(&self, owner: u128) -> Option<&Subscription> {
        self.subscriptions.values().find(|known| known.owner() == owner && known.status.is_live())
    }

    fn check_subscription(&self, new: &Subscription) -> Result<(), StoreError> {
        self.tenant(new.tenant)?;
        self.version(new.product_version)?;
        let people = self.members(new.tenant).count();
        new.check_seats(i64::try_from(people).unwrap_or(i64::MAX))
    }
}

impl State {
    /// What a subscription gives as soon as it does.
    fn give(&mut self, subscription: &Subscription, act: &Act) -> Result<(), StoreError> {
        let catalog = &mut self.catalog;
        let Some(user) = subscription.user else { return catalog.give_tenant(subscription, act.at) };
        let before = catalog.user(user)?.clone();
        let after = catalog.set_terms(&before, subscription.product_version, act.at)?;
        self.log.record(&Event::changed(Action::UserChanged, &before, &after), act);
        Ok(())
    }
}

impl Catalog {
    fn give_tenant(&mut self, subscription: &Subscription, now: Timestamp) -> Result<(), StoreError> {
        let terms = self.version(subscription.product_version)?.terms.clone();
        let new = NewBudget {
            scope: Scope::Tenant,
            scope_id: ScopeId(subscription.tenant.as_u128()),
            tenant: Some(subscription.tenant),
            currency: terms.currency,
            included_nanos: subscription.included_nanos(&terms)?,
            policy: LimitPolicy::Hard,
            period: subscription.period.clone(),
            zone: subscription.zone.clone(),
        };
        if !self.follow(new.scope, new.scope_id, new.included_nanos) {
            self.insert_budget(&new, now);
        }
        Ok(())
    }
}

#[async_trait]
impl SubscriptionStore for MemoryStore {
    async fn add_subscription(&self, new: &Subscription, act: &Act) -> Result<(), StoreError> {
        let state = &mut *self.state();
        if state.catalog.live(new.owner()).is_some() {
            return Err(StoreError::conflict(HAS_ONE));
        }
        state.catalog.check_subscription(new)?;
        if let Some(user) = new.user
            && !state.catalog.user(user)?.status.takes_place()
        {
            return Err(StoreError::conflict(NOT_ACTIVATED));
        }
        if new.status.gives() {
            state.give(new, act)?;
        }
        state.catalog.subscriptions.insert(new.id, new.clone());
        state.log.record(&Event::created(Action::SubscriptionCreated, new), act);
        Ok(())
    }

    async fn subscription(&self, id: SubscriptionId) -> Result<Subscription, StoreError> {
        self.state().catalog.subscriptions.get(&id).cloned().ok_or(NOT_FOUND)
    }

    async fn subscriptions(
        &self,
        filter: &SubscriptionFilter,
        request: PageRequest,
    ) -> Result<Page<Subscription>, StoreError> {
        let state = self.state();
        let rows = state.catalog.subscriptions.values().filter(|subscription| filter.wants(subscription));
        Ok(page(rows.map(|row| (row.id.as_u128(), row.clone())), request, false))
    }

    async fn update_subscription(&self, new: &Subscription, act: &Act) -> Result<Subscription, StoreError> {
        let state = &mut *self.state();
        let before = state.catalog.subscriptions.get(&new.id).ok_or(NOT_FOUND)?.clone();
        check_version(before.version, new.version)?;
        before.check_change(new)?;
        let (tenant, user) = (before.tenant, before.user);
        let after = Subscription { tenant, user, version: new.version + 1, updated_at: act.at, ..new.clone() };
        if before.gives_more(&after) {
            state.catalog.check_subscription(&after)?;
            state.give(&after, act)?;
        }
        state.catalog.subscriptions.insert(after.id, after.clone());
        state.log.record(&Event::changed(Action::SubscriptionChanged, &before, &after), act);
        Ok(after)
    }

    async fn due_subscriptions(&self, now: Timestamp) -> Result<Vec<Subscription>, StoreError> {
        let state = self.state();
        let due = |row: &&Subscription| row.due_at().is_some_and(|at| at <= now);
        Ok(state.catalog.subscriptions.values().filter(due).take(DUE_MAX as usize).cloned().collect())
    }
}
