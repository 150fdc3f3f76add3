//! The books of the CloudFreedom Router in Postgres, shared by many replicas.
//!
//! [`PostgresStore`] implements `LedgerStore`, `CatalogStore` and `BatchStore` of `cfr_billing::store`. Any number of processes open the
//! same database, directly or through PgBouncer. What was booked is append-only (triggers refuse to change it); each
//! process seals what it books in a hash chain of its own, and
//! [`audit`](cfr_billing::store::LedgerStore::audit) verifies them all.

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

mod agreement;
mod notify;
mod partition;

mod bulk;
mod error;
mod lock;
mod migrate;
mod page;
mod row;
mod writer;

pub use open::{OpenError, PostgresOptions, PostgresStore, StoreClock};
