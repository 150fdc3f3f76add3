//! The books of the CloudFreedom Router in Postgres, shared by many replicas.
//!
//! [`PostgresStore`] implements `LedgerStore` and `CatalogStore` of `cfr_billing::store`. Any number of processes open the
//! same database, directly or through PgBouncer. What was booked is append-only (triggers refuse to change it); each
//! process seals what it books in a hash chain of its own, and
//! [`audit`](cfr_billing::store::LedgerStore::audit) verifies them all.

mod open;

mod chain;

mod agreement;
mod notify;

mod error;
mod migrate;
mod row;
mod writer;

pub use open::{OpenError, PostgresOptions, PostgresStore, StoreClock};
