//! What a store must do: the whole plug-in surface for money ([`LedgerStore`]), for files and batches ([`BatchStore`]) and
//! for everything else ([`CatalogStore`]).
//!
//! Implement them, run the `conformance` suites on them, and the gateway runs on your database.

use cfr_core::ledger::BudgetSpec;
use cfr_core::money::Currency;

mod approval;
pub mod archive;
pub mod batch;
mod catalog;
pub mod claims;
mod error;
mod finding;
mod lead;
mod ledger;
pub mod memory;
mod node;
mod oidc;
pub mod outside;
mod people;
pub mod provider_account;
pub mod rules;
mod secrets;
mod subscription;
mod view;

pub use approval::ApprovalStore;
pub use batch::BatchStore;
pub use catalog::{CatalogStore, Cursor, PAGE_ROWS_MAX, Page, PageRequest};
pub use claims::ClaimStore;
pub use error::StoreError;
pub use finding::{AccountsAudit, AuditRule, Correction, FINDINGS_PER_RULE_MAX, Finding, Findings, Sum};
pub use lead::LeadStore;
pub use ledger::{
    AccountState, Accounts, AcquireError, LeaseAsk, LeaseGrant, LedgerStore, NewGrant, Op, OpenedHold, OrphanPolicy,
    Reclaimed, SettledHold,
};
pub use memory::MemoryStore;
pub use node::{
    ASIDE_PREFIXES, Boot, Incarnation, NodeState, ONE_LIFE_PREFIX, ONE_LIFE_PREFIXES, ONE_LIFE_REMEMBERED, Renewal,
    lives_once,
};
pub use oidc::{LOGOUTS_MAX, OidcStore, SIGNING_KEYS_PUBLISHED};
pub use outside::OutsideStore;
pub use people::{MAILS_MAX, PeopleStore};
pub use provider_account::ProviderAccountStore;
pub use secrets::SecretStore;
pub use subscription::{DUE_MAX, SubscriptionStore};
pub use view::{NO_PLATFORM_ADMIN, Reach, View};

/// A store for money and for everything else.
pub trait Store:
    LedgerStore
    + CatalogStore
    + BatchStore
    + PeopleStore
    + ClaimStore
    + SecretStore
    + OutsideStore
    + OidcStore
    + ProviderAccountStore
    + SubscriptionStore
    + ApprovalStore
    + LeadStore
{
}
impl<
    T: LedgerStore
        + CatalogStore
        + BatchStore
        + PeopleStore
        + ClaimStore
        + SecretStore
        + OutsideStore
        + OidcStore
        + ProviderAccountStore
        + SubscriptionStore
        + ApprovalStore
        + LeadStore,
> Store for T
{
}

/// Migrations that a database lacks, in few words: their names are in the order in which they follow each other.
#[must_use]
pub fn missing_migrations(names: &[String]) -> String {
    match names {
        [first, .., last] => format!("{} migrations, {first} to {last}", names.len()),
        names => format!("the migration {}", names.concat()),
    }
}

/// What every budget of a path must satisfy before it is used: same currency.
#[must_use]
pub fn path_currency(budgets: &[BudgetSpec]) -> Option<Currency> {
    let first = budgets.first()?.currency;
    budgets.iter().all(|budget| budget.currency == first).then_some(first)
}
