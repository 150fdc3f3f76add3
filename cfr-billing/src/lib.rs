//! What is sold, used and owed: products, budgets, usage, and the ledger engine over a durable store.
//!
//! # A budget that cannot be overspent
//! ```text
//! audit_log   who changed what: one sealed event per change
//! plan        what is sold: products and their immutable terms
//! identity    who buys and uses it: tenants, users, keys
//! people      how users prove who they are: credentials, sessions, one-time tokens
//! subscription who is on which terms for as long as they pay
//! budget      how much of it: limits per period, and the money granted to them
//! approval    large amounts that wait for a second person
//! escrow      the ledger engine: decides holds in memory, inside rights that the store leased to this node
//! store       where all of it is kept: two traits, and a store in memory
//! outside     what other programs were told: holds for their calls, their names for what is here
//! batch       files and batches that callers have at providers
//! usage       what was used, request by request and day by day
//! lead        who asked to be told more
//! conformance what every store must do, as tests (feature `conformance`)
//! ```
//! The way of one charge: [`Escrow`] holds the worst case in memory and queues the hold; its committer writes it with
//! others in one transaction of the [`LedgerStore`]; the settlement takes the same way with the usage record, and is booked
//! once however often it is written.
//!
//! # Example
//! ```
//! # use std::sync::Arc;
//! # use cfr_billing::escrow::{Escrow, EscrowConfig};
//! # use cfr_billing::store::MemoryStore;
//! # use cfr_core::id::{BudgetId, HoldId, TenantId};
//! # use cfr_core::ledger::{BudgetLedger, BudgetSpec, CallerIds, HoldRequest, LimitPolicy, ReleaseReason, Scope};
//! # use cfr_core::money::{Currency, Money};
//! # use cfr_core::time::{Clock, Period, SystemClock, TimeZone};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let clock = Arc::new(SystemClock::new());
//! let store = Arc::new(MemoryStore::exclusive());
//! let budget = BudgetId::generate(clock.now());
//! let (scope, currency, policy) = (Scope::Tenant, Currency::EUR, LimitPolicy::Hard);
//! let (period, zone) = (Period::CalendarMonth, TimeZone::UTC);
//! let spec = BudgetSpec { id: budget, scope, currency, included_nanos: 5_000_000_000, policy, period, zone };
//! store.add_budget(spec, clock.now());
//!
//! let ledger = Escrow::start(store, clock.clone(), EscrowConfig::new("node-1")).await?;
//! let euro = Money::from_nanos(1_000_000_000, Currency::EUR);
//! let caller = CallerIds { tenant: TenantId::generate(clock.now()), user: None, key: None, product_version: None };
//! let id = HoldId::generate(clock.now());
//! let ask = HoldRequest { id, path: [budget].into(), amount: euro, amount_min: euro, caller, model: "gpt-4o".into(), at: clock.now() };
//! let hold = ledger.authorize(ask).await?;
//! assert_eq!(hold.available_after.to_string(), "4 EUR");
//! ledger.release(hold.id, ReleaseReason::NotSent)?.await?;
//! ledger.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! [`Escrow`]: escrow::Escrow
//! [`LedgerStore`]: store::LedgerStore

pub mod approval;
pub mod audit_log;
pub mod batch;
pub mod budget;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod escrow;
pub mod identity;
pub mod lead;
pub mod oidc;
pub mod outside;
pub mod people;
pub mod plan;
pub mod provider_account;
pub mod secrets;
pub mod store;
pub mod subscription;
pub mod usage;
