//! Durable word of what other programs were told.

use std::fmt::Debug;

use async_trait::async_trait;
use cfr_core::id::HoldId;
use cfr_core::time::Timestamp;

use super::StoreError;
use crate::audit_log::Act;
use crate::outside::{Named, NamedKind, OutsideHold, OutsideName};

/// Holds that are found at once, at most.
pub const OUTSIDE_HOLDS_MAX: u32 = 100;

/// Holds of other programs, and their names for what is here.
#[async_trait]
pub trait OutsideStore: Debug + Send + Sync + 'static {
    /// Writes a hold down.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when its id is known.
    async fn add_outside_hold(&self, hold: &OutsideHold) -> Result<(), StoreError>;
    /// A hold that was not forgotten.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn outside_hold(&self, id: HoldId) -> Result<Option<OutsideHold>, StoreError>;
    /// Holds that end by `now`, those first that ended first, at most `limit` and [`OUTSIDE_HOLDS_MAX`].
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn ended_outside_holds(&self, now: Timestamp, limit: u32) -> Result<Vec<OutsideHold>, StoreError>;
    /// Forgets a hold: it is over. One that is not known is no error.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn forget_outside_hold(&self, id: HoldId) -> Result<(), StoreError>;

    /// Keeps a name, or other notes with one that is kept already.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it stands for something else.
    async fn keep_outside_name(&self, name: &OutsideName, act: &Act) -> Result<(), StoreError>;
    /// What a name stands for.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn outside_name(&self, kind: NamedKind, name: &str) -> Result<Option<OutsideName>, StoreError>;
    /// The names of a thing, in their order.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn outside_names_of(&self, named: Named) -> Result<Vec<OutsideName>, StoreError>;
}

const _: fn(&dyn OutsideStore) = |_| {};
