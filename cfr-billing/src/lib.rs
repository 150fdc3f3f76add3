//! What is sold, used and owed: products, budgets, usage, and the ledger engine over a durable store.

pub mod budget;
pub mod escrow;
pub mod identity;
pub mod plan;
pub mod store;
pub mod usage;
