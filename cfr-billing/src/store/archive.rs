//! Everything that a store keeps, as rows that every store understands: what moves from one database to another.
//!
//! [`copy`](copy()) reads a stopped source on one [`Snapshot`] and writes it into an empty target, section by section.
//! What belongs to one database alone stays behind: hash chains are sealed anew by the target, and the lives of the
//! source's nodes are over. So do sessions, one-time tokens and letters that wait: people sign in again, and ask again.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use cfr_core::id::{AccountId, BudgetId, HoldId, ProductId, UserId};
use cfr_core::ledger::{CallerIds, UsageRecord};
use cfr_core::time::{PeriodWindow, Timestamp};
use serde::{Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use super::{LedgerStore, StoreError};
use crate::approval::Proposal;
use crate::audit_log::AuditEvent;
use crate::budget::{Budget, Grant};
use crate::identity::{ApiKey, KeyMac, Tenant, User};
use crate::lead::Lead;
use crate::oidc::{Client, ClientSession, SigningKey};
use crate::outside::OutsideName;
use crate::people::{Credentials, OutsideIdentity, SecretHash};
use crate::plan::ProductVersion;
use crate::provider_account::SealedAccount;
use crate::secrets::DataKey;
use crate::subscription::Subscription;
use crate::usage::UsageDay;

mod copy;

pub use copy::{CopyError, CopyProgress, CopyReport, Counted, Counts, copy, count};

/// Rows that are read or written at once, at most; usage records count as rows. One batch with more of them comes alone.
pub const ARCHIVE_ROWS_MAX: usize = 2_000;
/// Price tables that are read or written at once, at most: each may have a megabyte.
const PRICE_TABLES_MAX: usize = 8;

/// A store that can be moved to another database, and moved into.
#[async_trait]
pub trait Archive: LedgerStore {
    /// A consistent view of everything that the store keeps. Nobody may be at work on it: what is spent after the
    /// snapshot would be spent twice.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] names a node that is alive.
    async fn snapshot(&self, now: Timestamp) -> Result<Box<dyn Snapshot>, StoreError>;

    /// Refuses a store that has rows. Changes nothing.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] names a table that is not empty.
    async fn check_empty(&self) -> Result<(), StoreError>;

    /// Marks this empty store as a copy that is not complete: nobody opens it until [`Archive::finish_copy`].
    ///
    /// # Errors
    /// As [`Archive::check_empty`].
    async fn begin_copy(&self, origin: &Origin, now: Timestamp) -> Result<(), StoreError>;

    /// The rows as this store can keep them, and how many of them it had to change: names that it has no place for. Different
    /// names stay different, so that nothing is added up that was not.
    fn fitted(&self, rows: Rows) -> (Rows, u64) {
        (rows, 0)
    }

    /// Writes rows as they are, all of them or none. Batches are sealed one after the other in the order in which they come.
    /// Every life of a node is written as one that is over, so that its leases can be reclaimed at once.
    ///
    /// # Errors
    /// When a copy was not begun, or the store cannot be written.
    async fn write(&self, rows: &Rows) -> Result<(), StoreError>;

    /// Declares the copy complete. From now on the store may be used.
    ///
    /// # Errors
    /// When a copy was not begun, or the store cannot be written.
    async fn finish_copy(&self, report: &CopyReport, now: Timestamp) -> Result<(), StoreError>;
}

const _: fn(&dyn Archive) = |_| {};

/// Everything that a store keeps, at one moment.
#[async_trait]
pub trait Snapshot: Debug + Send {
    /// The next rows of a section in its order, at most [`Section::rows_max`]; empty at its end.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn read(&mut self, section: Section) -> Result<Rows, StoreError>;

    /// The ends of the store's hash chains.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn heads(&mut self) -> Result<Vec<ChainHead>, StoreError>;
}

/// Where copied rows come from: kept by the target as evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// The source, without secrets: `sqlite:/var/lib/cfr/cfr.db`.
    pub source: Arc<str>,
    /// The ends of its hash chains. The target seals what it gets anew; these still prove what the source had.
    pub heads: Vec<ChainHead>,
}

/// The end of a hash chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChainHead {
    /// Which of the store's chains.
    pub chain: Arc<str>,
    /// Batches in it.
    pub batches: i64,
    /// The last hash, as hexadecimal digits.
    pub hash: Arc<str>,
}

/// Declares the sections, in the order in which rows refer to each other.
macro_rules! sections {
    ($($(#[$doc:meta])* $section:ident($row:ty) $name:literal;)*) => {
        /// A kind of rows.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Section { $($(#[$doc])* $section,)* }

        impl Section {
            /// Every section: a row refers only to rows of earlier ones.
            pub const ALL: &[Self] = &[$(Self::$section,)*];

            /// What is counted in it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$section => $name,)* }
            }
        }

        /// Rows of one section.
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Rows { $($(#[$doc])* $section(Vec<$row>),)* }

        impl Rows {
            /// The section that they belong to.
            #[must_use]
            pub const fn section(&self) -> Section {
                match self { $(Self::$section(_) => Section::$section,)* }
            }

            /// How many there are.
            #[must_use]
            pub const fn len(&self) -> usize {
                match self { $(Self::$section(rows) => rows.len(),)* }
            }

            fn digest(&self, digest: &mut Digest) -> Result<(), StoreError> {
                match self { $(Self::$section(rows) => rows.iter().try_for_each(|row| digest.add(row)),)* }
            }
        }
    };
}

sections! {
    /// By id.
    Tenants(Tenant) "tenants";
    /// By id.
    Products(ProductRow) "products";
    /// By id.
    ProductVersions(ProductVersion) "product versions";
    /// By id.
    Users(User) "users";
    /// By id.
    Keys(KeyRow) "keys";
    /// By id.
    Budgets(Budget) "budgets";
    /// By id.
    Accounts(AccountRow) "accounts";
    /// By id.
    Grants(Grant) "grants";
    /// By name.
    Nodes(NodeRow) "nodes";
    /// By account, node and epoch.
    Leases(LeaseRow) "leases";
    /// By id.
    Holds(HoldRow) "holds";
    /// In the order of booking.
    Batches(BatchRow) "batches";
    /// By day, tenant, user, key and model.
    Days(UsageDay) "daily sums";
    /// In the order in which they were saved.
    Prices(PriceRow) "price tables";
    /// In the order in which they were sealed. Their seals stay as they are: the log goes on where it ended.
    AuditEvents(AuditEvent) "audit events";
    /// By id. The master key that wraps them moves by itself.
    DataKeys(DataKey) "data keys";
    /// By id.
    ProviderAccounts(SealedAccount) "provider accounts";
    /// By id.
    Subscriptions(Subscription) "subscriptions";
    /// By id.
    Proposals(Proposal) "proposals";
    /// By id.
    Leads(Lead) "leads";
    /// By kind and name.
    OutsideNames(OutsideName) "names that other programs use";
    /// By user.
    Credentials(Credentials) "credentials";
    /// By issuer and subject.
    Identities(IdentityRow) "identities at other providers";
    /// By id.
    OidcClients(OidcClientRow) "programs that people sign in to";
    /// By number. Data keys seal them.
    SigningKeys(SigningKey) "keys that sign tokens";
    /// By id.
    ClientSessions(ClientSession) "sessions at such programs";
}

impl Section {
    /// Rows that are read or written at once, at most.
    #[must_use]
    pub const fn rows_max(self) -> usize {
        match self {
            Self::Prices => PRICE_TABLES_MAX,
            _ => ARCHIVE_ROWS_MAX,
        }
    }
}

impl Rows {
    /// Whether the section has no more of them.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Usage records among them.
    #[must_use]
    pub fn usage_records(&self) -> usize {
        match self {
            Self::Batches(batches) => batches.iter().map(|batch| batch.usage.len()).sum(),
            _ => 0,
        }
    }
}

/// A product; its terms are in its versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProductRow {
    /// Its id.
    pub id: ProductId,
    /// A short unique name.
    pub code: Arc<str>,
    /// Whether new customers can have it.
    pub active: bool,
}

/// An identity at another provider, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IdentityRow {
    /// The identity.
    #[serde(flatten)]
    pub identity: OutsideIdentity,
    /// The user.
    pub user: UserId,
}

/// A client of OpenID Connect with all that is stored of its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OidcClientRow {
    /// The client.
    #[serde(flatten)]
    pub client: Client,
    /// SHA-256 of its secret.
    pub secret: SecretHash,
}

/// A key with all that is stored of its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyRow {
    /// The key.
    pub key: ApiKey,
    /// Its MAC under the server's pepper, which is not in the database.
    #[serde(serialize_with = "mac_bytes")]
    pub mac: KeyMac,
    /// The same of the secret before, which works for a while beside the present one.
    #[serde(serialize_with = "old_mac_bytes")]
    pub old_mac: Option<KeyMac>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// One period of one budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AccountRow {
    /// Its id.
    pub id: AccountId,
    /// The budget.
    pub budget: BudgetId,
    /// Counts the periods of the budget, from 1.
    pub seq: i64,
    /// The period.
    pub period: PeriodWindow,
    /// Everything granted, in nano-units.
    pub granted: i64,
    /// Everything charged.
    pub settled: i64,
    /// Everything leased and not yet charged.
    pub leased: i64,
    /// How far use may be beyond the limit.
    pub overcommit: i64,
    /// Prices that exceeded what could be charged.
    pub overrun: i64,
}

/// A node's number of lives. Its last one ends with the copy, whatever it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeRow {
    /// Its name.
    pub name: Arc<str>,
    /// The number of its lives.
    pub epoch: i64,
    /// When the last one began.
    pub registered_at: Timestamp,
    /// When the store last heard of it.
    pub seen_at: Timestamp,
}

/// Rights of a life that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeaseRow {
    /// The account.
    pub account: AccountId,
    /// The node.
    pub node: Arc<str>,
    /// Which of its lives.
    pub epoch: i64,
    /// What it was granted, in nano-units.
    pub granted: i64,
    /// What was charged of it.
    pub consumed: i64,
}

/// Where a journaled hold is in its life. A settled one has no row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldState {
    /// Not ended.
    Open,
    /// An orphan that is kept counted until somebody decides.
    Suspended,
    /// Ended without a charge; remembered for a while.
    Released,
}

/// A hold as the journal has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HoldRow {
    /// Its id.
    pub id: HoldId,
    /// The node that made it.
    pub node: Arc<str>,
    /// In which of its lives.
    pub epoch: i64,
    /// Where it lies.
    pub accounts: Vec<AccountId>,
    /// The amount on each account, in nano-units.
    pub amount: i64,
    /// Where it is in its life.
    pub state: HoldState,
    /// Who asked.
    pub caller: CallerIds,
    /// The model asked for.
    pub model: Arc<str>,
    /// When the request began.
    pub at: Timestamp,
    /// What the last checkpoint would charge, and the record that would be written.
    pub evidence: Option<(i64, Box<UsageRecord>)>,
}

/// What one transaction booked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BatchRow {
    /// The node that booked it; empty for what no node did.
    pub node: Arc<str>,
    /// In which of its lives; zero for what no node did.
    pub epoch: i64,
    /// When.
    pub at: Timestamp,
    /// Its entries, by account and kind.
    pub entries: Vec<EntryRow>,
    /// Its usage records, in the order of booking.
    pub usage: Vec<BookedUsage>,
    /// What an operator set right by it. Such a batch has neither entries nor records.
    pub correction: Option<CorrectionRow>,
}

/// A sum that an operator set right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CorrectionRow {
    /// The account.
    pub account: AccountId,
    /// Which of its sums, in the stores' word.
    pub sum: Arc<str>,
    /// What the books said, in nano-units.
    pub was: i64,
    /// What they say since.
    pub became: i64,
    /// Why.
    pub reason: Arc<str>,
    /// Who did it.
    pub actor: Arc<str>,
}

/// What a batch booked on one account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EntryRow {
    /// The account.
    pub account: AccountId,
    /// What for, in the stores' word.
    pub kind: Arc<str>,
    /// By how much, in nano-units.
    pub amount: i64,
    /// What could not be charged.
    pub overrun: i64,
}

/// A usage record, and where its charge was booked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BookedUsage {
    /// The record.
    pub record: UsageRecord,
    /// The accounts that were charged.
    pub accounts: Vec<AccountId>,
}

/// An imported price table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PriceRow {
    /// Its hash.
    pub hash: [u8; 32],
    /// Where it came from.
    pub source: Arc<str>,
    /// The table.
    pub body: Vec<u8>,
    /// When it was saved.
    pub saved_at: Timestamp,
}

/// SHA-256 over rows in their order, or over each row where stores may differ in the order.
#[derive(Debug)]
enum Digest {
    Ordered(Sha256),
    /// The exclusive or of all.
    Unordered([u8; 32]),
}

impl Digest {
    /// Daily sums come in the order of names, and a store that changes a name changes its place.
    fn of(section: Section) -> Self {
        match section {
            Section::Days => Self::Unordered([0; 32]),
            _ => Self::Ordered(Sha256::new()),
        }
    }

    fn add(&mut self, row: &impl Serialize) -> Result<(), StoreError> {
        let mut json = serde_json::to_vec(row).map_err(StoreError::invalid)?;
        json.push(b'\n');
        match self {
            Self::Ordered(digest) => digest.update(&json),
            Self::Unordered(sum) => sum.iter_mut().zip(Sha256::digest(&json)).for_each(|(sum, byte)| *sum ^= byte),
        }
        Ok(())
    }

    fn hex(self) -> Arc<str> {
        let bytes = match self {
            Self::Ordered(digest) => digest.finalize().into(),
            Self::Unordered(sum) => sum,
        };
        bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
    }
}

fn old_mac_bytes<S: Serializer>(mac: &Option<KeyMac>, serializer: S) -> Result<S::Ok, S::Error> {
    mac.map(|mac| mac.0).serialize(serializer)
}

fn mac_bytes<S: Serializer>(mac: &KeyMac, serializer: S) -> Result<S::Ok, S::Error> {
    mac.0.serialize(serializer)
}
