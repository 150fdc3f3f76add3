//! Durable subscriptions.

use std::fmt::Debug;

use async_trait::async_trait;
use cfr_core::id::SubscriptionId;
use cfr_core::time::Timestamp;

use super::{Page, PageRequest, StoreError};
use crate::audit_log::Act;
use crate::subscription::{Subscription, SubscriptionFilter};

/// Subscriptions that are due at once, at most.
pub const DUE_MAX: u32 = 100;

/// Durable subscriptions. A change that gives terms gives them in its own transaction: the user's product and budget, or the
/// tenant's budget, follow as [`update_user`](super::CatalogStore::update_user) has them follow.
#[async_trait]
pub trait SubscriptionStore: Debug + Send + Sync + 'static {
    /// Writes a subscription.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when its owner has one that is not over, the user is not admitted, or there are more people
    /// than seats; [`StoreError::NotFound`] for an unknown owner or product version.
    async fn add_subscription(&self, new: &Subscription, act: &Act) -> Result<(), StoreError>;
    /// A subscription by id.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn subscription(&self, id: SubscriptionId) -> Result<Subscription, StoreError>;
    /// Subscriptions in the order in which they were made.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn subscriptions(
        &self,
        filter: &SubscriptionFilter,
        page: PageRequest,
    ) -> Result<Page<Subscription>, StoreError>;
    /// Writes a subscription in place of the one with its id, if that has the version that `new` names, and counts it up. The
    /// owner stays.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it was changed meanwhile, is over, cannot go over to that state, or has too few seats.
    async fn update_subscription(&self, new: &Subscription, act: &Act) -> Result<Subscription, StoreError>;
    /// Subscriptions whose state time alone has changed by `now`, at most [`DUE_MAX`].
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn due_subscriptions(&self, now: Timestamp) -> Result<Vec<Subscription>, StoreError>;
}

const _: fn(&dyn SubscriptionStore) = |_| {};
