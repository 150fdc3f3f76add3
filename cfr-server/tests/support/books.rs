//! The books as they are on the disk, read after the server has ended.

use std::collections::{BTreeMap, BTreeSet};

use cfr_billing::store::{AccountState, PAGE_ROWS_MAX, PageRequest, Store};
use cfr_billing::usage::UsageFilter;
use cfr_core::id::{HoldId, UserId};
use cfr_core::ledger::UsageRecord;
use cfr_store_sqlite::SqliteStore;
use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;

use super::cluster::Cluster;
use super::site::Site;

/// Everything that was booked.
#[derive(Debug)]
pub struct Books {
    /// One record for each settled request.
    pub records: Vec<UsageRecord>,
    /// The account of the budget asked for; it has only one period.
    pub account: AccountState,
    /// What the store's own audit finds wrong.
    pub findings: Vec<String>,
    /// Holds that ended without a charge and without a record.
    pub released_holds: usize,
    /// Every hold that was ever made durable.
    holds: BTreeSet<HoldId>,
    /// Whose budget it is.
    owner: UserId,
}

impl Books {
    /// Reads what was booked on one budget of a site: on the user's who has it.
    pub async fn read(site: &Site, budget: &str) -> Self {
        Self::read_all(site, budget).await.of_owner()
    }

    /// Reads everything that was booked, with the account of one budget.
    pub async fn read_all(site: &Site, budget: &str) -> Self {
        let path = site.data().join(cfr_server::config::DATABASE);
        let store = SqliteStore::open_read_only(path).await.expect("the file");
        let journal = journal(&store).await;
        Self::of(&store, journal, budget).await
    }

    /// Everything that was booked in a database that several servers share, with the account of one budget.
    pub async fn read_shared(cluster: &Cluster, budget: &str) -> Self {
        let store = cluster.store().await;
        let journal = cluster.journal().await;
        Self::of(&store, journal, budget).await
    }

    /// Without the records of other users than the one whose budget it is.
    pub fn of_owner(mut self) -> Self {
        self.records.retain(|record| record.caller.user == Some(self.owner));
        self
    }

    /// Without the records of requests whose own name is not among these.
    pub fn tagged(mut self, wanted: impl Fn(&str) -> bool) -> Self {
        self.records.retain(|record| record.tags.user.as_deref().is_some_and(&wanted));
        self
    }

    async fn of(store: &dyn Store, (open, released): (i64, Vec<HoldId>), budget: &str) -> Self {
        let records = records(store).await;
        let budget = budget.parse().expect("an id");
        let owner = UserId::from_u128(store.budget(budget).await.expect("the budget").scope_id.0);
        let accounts = store.accounts(budget).await.expect("accounts");
        let [account] = accounts.try_into().expect("one period");
        let findings = store.audit().await.expect("an audit").iter().map(ToString::to_string).collect();
        assert_eq!(open, 0, "every hold has ended");
        let holds = released.iter().copied().chain(records.iter().map(|record| record.id)).collect();
        Self { records, account, findings, released_holds: released.len(), holds, owner }
    }

    /// Records by the caller's own name of the request.
    pub fn by_tag(&self) -> BTreeMap<&str, Vec<&UsageRecord>> {
        let mut by_tag = BTreeMap::<&str, Vec<&UsageRecord>>::new();
        for record in &self.records {
            by_tag.entry(record.tags.user.as_deref().unwrap_or_default()).or_default().push(record);
        }
        by_tag
    }

    /// The one record of a request.
    #[track_caller]
    pub fn record(&self, tag: &str) -> &UsageRecord {
        let found: Vec<_> = self.records.iter().filter(|record| record.tags.user.as_deref() == Some(tag)).collect();
        assert_eq!(found.len(), 1, "one record of {tag}");
        found[0]
    }

    /// Whether a request left a trace: a record, or a hold that was released.
    pub fn knows(&self, request: &str) -> bool {
        self.holds.contains(&request.parse().expect("an id"))
    }

    /// Everything that customers were charged.
    pub fn charged_nanos(&self) -> i64 {
        self.records.iter().map(|record| record.charged_nanos).sum()
    }

    /// The sums that must hold whatever happened: the audit is clean, nothing is stranded, the records are the account,
    /// and the account is within its limit.
    #[track_caller]
    pub fn check(&self, limit_nanos: i64) {
        assert_eq!(self.findings, Vec::<String>::new(), "the audit");
        assert_eq!(self.account.leased, 0, "nothing stranded");
        assert_eq!(self.account.granted, limit_nanos);
        assert_eq!(self.account.settled, self.charged_nanos(), "the account is the sum of its records");
        assert!(self.account.settled <= limit_nanos, "{} charged of {limit_nanos}", self.account.settled);
        for record in &self.records {
            assert_eq!(record.charged_nanos + record.overrun_nanos, record.price_nanos, "{record:?}");
        }
    }
}

/// The journal of holds: how many have not ended, and those that were released.
async fn journal(store: &SqliteStore) -> (i64, Vec<HoldId>) {
    let options = SqliteConnectOptions::new().filename(store.path()).read_only(true);
    let mut connection = options.connect().await.expect("the file");
    let open = sqlx::query_scalar("SELECT count(*) FROM holds WHERE state <> 2").fetch_one(&mut connection);
    let open = open.await.expect("a number");
    let released = sqlx::query_scalar::<_, Vec<u8>>("SELECT id FROM holds WHERE state = 2").fetch_all(&mut connection);
    let id = |bytes: Vec<u8>| HoldId::from_bytes(bytes.try_into().expect("16 bytes"));
    (open, released.await.expect("ids").into_iter().map(id).collect())
}

async fn records(store: &dyn Store) -> Vec<UsageRecord> {
    let mut records = Vec::new();
    let mut page = PageRequest { after: None, limit: PAGE_ROWS_MAX };
    loop {
        let rows = store.usage(&UsageFilter::default(), page).await.expect("usage");
        records.extend(rows.items);
        let Some(next) = rows.next else { return records };
        page.after = Some(next);
    }
}
