//! The books of the CloudFreedom Router in one SQLite file: the embedded default.
//!
//! [`SqliteStore`] implements `LedgerStore`, `CatalogStore` and `BatchStore` of `cfr_billing::store`. One process owns the file; one
//! connection writes it, a few read it. What was booked is append-only (triggers refuse to change it) and sealed by a
//! hash chain that [`audit`](cfr_billing::store::LedgerStore::audit) verifies.

mod open;

mod catalog;
mod ledger;

mod batch;
mod provider_account;
mod secrets;
mod claims;
mod oidc;
mod people;
mod outside;

mod archive;
mod audit;
mod audit_log;
mod chain;
mod identity;
mod usage;
mod report;

mod bulk;
mod error;
mod lock;
mod migrate;
mod page;
mod row;
mod writer;

#[cfg(test)]
mod plans;

pub use open::{OpenError, SqliteOptions, SqliteStore, Synchronous};
