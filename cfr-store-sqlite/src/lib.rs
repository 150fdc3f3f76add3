//! The books of the CloudFreedom Router in one SQLite file: the embedded default.
//!
//! [`SqliteStore`] implements `LedgerStore`, `CatalogStore` and `BatchStore` of `cfr_billing::store`. One process owns the file; one
//! connection writes it, a few read it. What was booked is append-only (triggers refuse to change it) and sealed by a
//! hash chain that [`audit`](cfr_billing::store::LedgerStore::audit) verifies.

mod open;

mod catalog;
mod ledger;

mod approval;
mod batch;
mod claims;
mod lead;
mod oidc;
mod outside;
mod people;
mod provider_account;
mod secrets;
mod subscription;

mod archive;
mod audit;
mod audit_log;
mod chain;
mod identity;
mod report;
mod usage;

mod bulk;
mod checkpoint;
mod error;
mod lock;
mod migrate;
mod page;
mod row;
mod writer;

#[cfg(test)]
mod plans;

pub use open::{OpenError, SqliteOptions, SqliteStore, Synchronous};
