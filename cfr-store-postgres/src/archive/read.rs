//! Rows out of one read transaction, through one cursor per section.

use std::collections::{BTreeMap, HashSet, VecDeque};

use async_trait::async_trait;
use cfr_billing::identity::KeyMac;
use cfr_billing::store::StoreError;
use cfr_billing::store::archive::{
    ARCHIVE_ROWS_MAX, AccountRow, BatchRow, BookedUsage, ChainHead, CorrectionRow, EntryRow, HoldRow, HoldState,
    IdentityRow, KeyRow, LeaseRow, NodeRow, PriceRow, ProductRow, Rows, Section, Snapshot,
};
use cfr_core::id::{AccountId, BudgetId, HoldId, KeyId, ProductId, ProductVersionId, TenantId, UserId};
use cfr_core::ledger::CallerIds;
use cfr_core::time::PeriodWindow;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Postgres, Transaction};

use crate::PostgresStore;
use crate::audit_log;
use crate::catalog::{budget, product};
use crate::error::Fault;
use crate::identity::{key, tenant, user};
use crate::ledger::grant;
use crate::people::{credential, identity};
use crate::provider_account;
use crate::row::{Fields, query};
use crate::secrets;
use crate::usage;
use crate::{approval, lead, oidc, outside, subscription};

/// A read transaction, and the sections that were begun in it.
#[derive(Debug)]
pub(super) struct PostgresSnapshot {
    snapshot: Transaction<'static, Postgres>,
    begun: HashSet<Section>,
    /// Batches that were read and did not fit into the page.
    batches: VecDeque<PgRow>,
}

impl PostgresSnapshot {
    /// The limits of a session are those of short transactions. This one lasts as long as the other side writes.
    pub(super) async fn begin(store: &PostgresStore) -> Result<Self, Fault> {
        let snapshot = store.snapshot_transaction().await?;
        Ok(Self { snapshot, begun: HashSet::new(), batches: VecDeque::new() })
    }

    async fn page(&mut self, section: Section) -> Result<Vec<PgRow>, Fault> {
        let cursor = format!("section_{}", section as u8);
        if self.begun.insert(section) {
            let sql = format!("DECLARE {cursor} NO SCROLL CURSOR FOR {}", source(section));
            sqlx::query(AssertSqlSafe(sql)).persistent(false).execute(&mut *self.snapshot).await?;
        }
        let sql = format!("FETCH {} FROM {cursor}", section.rows_max());
        Ok(sqlx::query(AssertSqlSafe(sql)).persistent(false).fetch_all(&mut *self.snapshot).await?)
    }

    /// Batches with at most so many usage records that they are one page together; at least one.
    async fn batches(&mut self) -> Result<Vec<BatchRow>, Fault> {
        if self.batches.is_empty() {
            self.batches = self.page(Section::Batches).await?.into();
        }
        let mut rows = Vec::new();
        let mut total = 0_i64;
        while let Some(row) = self.batches.pop_front() {
            total = total.saturating_add(row.int("rows")?.max(1));
            if !rows.is_empty() && total > ARCHIVE_ROWS_MAX as i64 {
                self.batches.push_front(row);
                break;
            }
            rows.push(row);
        }
        let mut entries = self.entries(&rows).await?;
        let mut usage = self.usage(&rows).await?;
        let mut corrections = self.corrections(&rows).await?;
        let whole = |(row, number): (&PgRow, i64)| {
            let correction = corrections.remove(&number).and_then(|found| found.into_iter().next());
            batch(row, entries.remove(&number), usage.remove(&number), correction)
        };
        rows.iter().zip(0_i64..).map(whole).collect()
    }

    /// By the position of their batch on the page.
    async fn entries(&mut self, batches: &[PgRow]) -> Result<BTreeMap<i64, Vec<EntryRow>>, Fault> {
        let sql = "SELECT b.number, e.* FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY AS b (chain, batch, number) \
             JOIN ledger_entries e ON e.chain = b.chain AND e.batch = b.batch \
             ORDER BY b.number, e.account_id, e.kind COLLATE \"C\"";
        let query = query(sql).bind(column(batches, "chain")?).bind(column(batches, "id")?);
        by_batch(&query.fetch_all(&mut *self.snapshot).await?, entry)
    }

    async fn corrections(&mut self, batches: &[PgRow]) -> Result<BTreeMap<i64, Vec<CorrectionRow>>, Fault> {
        let sql = "SELECT b.number, c.* FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY AS b (chain, batch, number) \
             JOIN ledger_corrections c ON c.chain = b.chain AND c.batch = b.batch";
        let query = query(sql).bind(column(batches, "chain")?).bind(column(batches, "id")?);
        by_batch(&query.fetch_all(&mut *self.snapshot).await?, correction)
    }

    async fn usage(&mut self, batches: &[PgRow]) -> Result<BTreeMap<i64, Vec<BookedUsage>>, Fault> {
        let sql = "SELECT b.number, u.* FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) WITH ORDINALITY \
             AS b (chain, first_row, rows, number) JOIN usage_records u ON u.chain = b.chain \
             AND u.row >= b.first_row AND u.row < b.first_row + b.rows ORDER BY b.number, u.row";
        let query = query(sql)
            .bind(column(batches, "chain")?)
            .bind(column(batches, "first_row")?)
            .bind(column(batches, "rows")?);
        by_batch(&query.fetch_all(&mut *self.snapshot).await?, booked_usage)
    }
}

#[async_trait]
impl Snapshot for PostgresSnapshot {
    async fn read(&mut self, section: Section) -> Result<Rows, StoreError> {
        if section == Section::Batches {
            return Ok(Rows::Batches(self.batches().await?));
        }
        let rows = self.page(section).await?;
        Ok(read_rows(section, &rows)?)
    }

    async fn heads(&mut self) -> Result<Vec<ChainHead>, StoreError> {
        let sql = "SELECT DISTINCT ON (b.chain) b.chain::text AS name, b.id, encode(b.hash, 'hex') AS hash \
             FROM ledger_batches b ORDER BY b.chain, b.id DESC";
        let rows = query(sql).fetch_all(&mut *self.snapshot).await.map_err(Fault::from)?;
        let head = |row: &PgRow| -> Result<ChainHead, Fault> {
            Ok(ChainHead { chain: row.text("name")?, batches: row.int("id")?, hash: row.text("hash")? })
        };
        Ok(rows.iter().map(head).collect::<Result<_, Fault>>()?)
    }
}

/// The rows of a section in the order that every store gives them: text by its bytes, batches by their moment.
const fn source(section: Section) -> &'static str {
    match section {
        Section::Tenants => "SELECT * FROM tenants ORDER BY id",
        Section::Products => "SELECT * FROM products ORDER BY id",
        Section::ProductVersions => {
            "SELECT v.*, p.code FROM product_versions v JOIN products p ON p.id = v.product_id ORDER BY v.id"
        }
        Section::Users => "SELECT * FROM users ORDER BY id",
        Section::Keys => "SELECT * FROM api_keys ORDER BY id",
        Section::Budgets => "SELECT * FROM budgets ORDER BY id",
        Section::Accounts => "SELECT * FROM accounts ORDER BY id",
        Section::Grants => "SELECT * FROM grants ORDER BY id",
        Section::Nodes => "SELECT * FROM nodes ORDER BY name COLLATE \"C\"",
        Section::Leases => "SELECT * FROM leases ORDER BY account_id, node COLLATE \"C\", epoch",
        Section::Holds => "SELECT *, state::bigint AS state_number FROM holds ORDER BY id",
        Section::Batches => "SELECT * FROM ledger_batches ORDER BY at, chain, id",
        Section::Days => {
            "SELECT * FROM usage_daily ORDER BY day, tenant_id, user_id, key_id, model_served COLLATE \"C\""
        }
        Section::Prices => "SELECT * FROM price_versions ORDER BY seq",
        Section::AuditEvents => "SELECT * FROM audit_events ORDER BY seq",
        Section::DataKeys => "SELECT * FROM data_keys ORDER BY id",
        Section::ProviderAccounts => "SELECT * FROM provider_accounts ORDER BY id",
        Section::Subscriptions => "SELECT * FROM subscriptions ORDER BY id",
        Section::Proposals => "SELECT * FROM proposals ORDER BY id",
        Section::Leads => "SELECT * FROM leads ORDER BY id",
        Section::Credentials => "SELECT * FROM credentials ORDER BY user_id",
        Section::Identities => "SELECT * FROM identities ORDER BY issuer COLLATE \"C\", subject COLLATE \"C\"",
        Section::OidcClients => "SELECT * FROM oidc_clients ORDER BY id",
        Section::SigningKeys => "SELECT * FROM signing_keys ORDER BY seq",
        Section::ClientSessions => "SELECT * FROM client_sessions ORDER BY id",
        Section::OutsideNames => "SELECT * FROM outside_names ORDER BY kind, name",
        _ => "SELECT 1 WHERE false",
    }
}

fn read_rows(section: Section, rows: &[PgRow]) -> Result<Rows, Fault> {
    fn each<T>(rows: &[PgRow], from_row: fn(&PgRow) -> Result<T, Fault>) -> Result<Vec<T>, Fault> {
        rows.iter().map(from_row).collect()
    }
    Ok(match section {
        Section::Tenants => Rows::Tenants(each(rows, tenant::from_row)?),
        Section::Products => Rows::Products(each(rows, product_row)?),
        Section::ProductVersions => Rows::ProductVersions(each(rows, product::version_from_row)?),
        Section::Users => Rows::Users(each(rows, user::from_row)?),
        Section::Keys => Rows::Keys(each(rows, key_row)?),
        Section::Budgets => Rows::Budgets(each(rows, budget::from_row)?),
        Section::Accounts => Rows::Accounts(each(rows, account)?),
        Section::Grants => Rows::Grants(each(rows, grant::from_row)?),
        Section::Nodes => Rows::Nodes(each(rows, node)?),
        Section::Leases => Rows::Leases(each(rows, lease)?),
        Section::Holds => Rows::Holds(each(rows, hold)?),
        Section::Days => Rows::Days(each(rows, usage::day_from_row)?),
        Section::Prices => Rows::Prices(each(rows, price)?),
        Section::AuditEvents => Rows::AuditEvents(each(rows, audit_log::from_row)?),
        Section::DataKeys => Rows::DataKeys(each(rows, secrets::from_row)?),
        Section::ProviderAccounts => Rows::ProviderAccounts(each(rows, provider_account::from_row)?),
        Section::Subscriptions => Rows::Subscriptions(each(rows, subscription::from_row)?),
        Section::Proposals => Rows::Proposals(each(rows, approval::from_row)?),
        Section::Leads => Rows::Leads(each(rows, lead::from_row)?),
        Section::Credentials => Rows::Credentials(each(rows, credential::from_row)?),
        Section::Identities => Rows::Identities(each(rows, identity_row)?),
        Section::OidcClients => Rows::OidcClients(each(rows, oidc::client_row)?),
        Section::SigningKeys => Rows::SigningKeys(each(rows, oidc::signing_key)?),
        Section::ClientSessions => Rows::ClientSessions(each(rows, oidc::session)?),
        Section::OutsideNames => Rows::OutsideNames(each(rows, outside::from_row)?),
        _ => return Err(StoreError::invalid("this store does not know the section").into()),
    })
}

fn column(rows: &[PgRow], column: &str) -> Result<Vec<i64>, Fault> {
    rows.iter().map(|row| row.int(column)).collect()
}

/// The numbers of `WITH ORDINALITY` begin at 1.
fn by_batch<T>(rows: &[PgRow], from_row: fn(&PgRow) -> Result<T, Fault>) -> Result<BTreeMap<i64, Vec<T>>, Fault> {
    let mut found: BTreeMap<i64, Vec<T>> = BTreeMap::new();
    for row in rows {
        found.entry(row.int("number")? - 1).or_default().push(from_row(row)?);
    }
    Ok(found)
}

fn product_row(row: &PgRow) -> Result<ProductRow, Fault> {
    Ok(ProductRow { id: row.id("id", ProductId::from_bytes)?, code: row.text("code")?, active: row.flag("active")? })
}

fn identity_row(row: &PgRow) -> Result<IdentityRow, Fault> {
    Ok(IdentityRow { identity: identity::from_row(row)?, user: row.id("user_id", UserId::from_bytes)? })
}

fn key_row(row: &PgRow) -> Result<KeyRow, Fault> {
    let mac =
        |bytes: Vec<u8>| bytes.try_into().map(KeyMac).map_err(|_| StoreError::unavailable("a key's MAC is damaged"));
    let (present, old) = (mac(row.bytes("mac")?)?, row.bytes_opt("old_mac")?.map(mac).transpose()?);
    Ok(KeyRow { key: key::from_row(row)?, mac: present, old_mac: old, revoked_at: row.time_opt("revoked_at")? })
}

fn account(row: &PgRow) -> Result<AccountRow, Fault> {
    Ok(AccountRow {
        id: AccountId(row.int("id")?),
        budget: row.id("budget_id", BudgetId::from_bytes)?,
        seq: row.int("seq")?,
        period: PeriodWindow { start: row.time("starts_at")?, end: row.time_opt("ends_at")? },
        granted: row.int("granted")?,
        settled: row.int("settled")?,
        leased: row.int("leased")?,
        overcommit: row.int("overcommit")?,
        overrun: row.int("overrun")?,
    })
}

fn node(row: &PgRow) -> Result<NodeRow, Fault> {
    Ok(NodeRow {
        name: row.text("name")?,
        epoch: row.int("epoch")?,
        registered_at: row.time("registered_at")?,
        seen_at: row.time("seen_at")?,
    })
}

fn lease(row: &PgRow) -> Result<LeaseRow, Fault> {
    Ok(LeaseRow {
        account: AccountId(row.int("account_id")?),
        node: row.text("node")?,
        epoch: row.int("epoch")?,
        granted: row.int("granted")?,
        consumed: row.int("consumed")?,
    })
}

fn hold(row: &PgRow) -> Result<HoldRow, Fault> {
    let evidence = match row.int_opt("delivered")? {
        Some(charged) => Some((charged, row.json("evidence")?)),
        None => None,
    };
    Ok(HoldRow {
        id: row.id("id", HoldId::from_bytes)?,
        node: row.text("node")?,
        epoch: row.int("epoch")?,
        accounts: row.accounts("accounts")?,
        amount: row.int("amount")?,
        state: match row.int("state_number")? {
            0 => HoldState::Open,
            1 => HoldState::Suspended,
            _ => HoldState::Released,
        },
        caller: CallerIds {
            tenant: row.id("tenant_id", TenantId::from_bytes)?,
            user: row.id_opt("user_id", UserId::from_bytes)?,
            key: row.id_opt("key_id", KeyId::from_bytes)?,
            product_version: row.id_opt("product_version_id", ProductVersionId::from_bytes)?,
        },
        model: row.text("model")?,
        at: row.time("at")?,
        evidence,
    })
}

fn batch(
    row: &PgRow,
    entries: Option<Vec<EntryRow>>,
    usage: Option<Vec<BookedUsage>>,
    correction: Option<CorrectionRow>,
) -> Result<BatchRow, Fault> {
    Ok(BatchRow {
        node: row.text("node")?,
        epoch: row.int("epoch")?,
        at: row.time("at")?,
        entries: entries.unwrap_or_default(),
        usage: usage.unwrap_or_default(),
        correction,
    })
}

fn correction(row: &PgRow) -> Result<CorrectionRow, Fault> {
    Ok(CorrectionRow {
        account: AccountId(row.int("account_id")?),
        sum: row.text("sum")?,
        was: row.int("was")?,
        became: row.int("became")?,
        reason: row.text("reason")?,
        actor: row.text("actor")?,
    })
}

fn entry(row: &PgRow) -> Result<EntryRow, Fault> {
    Ok(EntryRow {
        account: AccountId(row.int("account_id")?),
        kind: row.text("kind")?,
        amount: row.int("amount")?,
        overrun: row.int("overrun")?,
    })
}

fn booked_usage(row: &PgRow) -> Result<BookedUsage, Fault> {
    Ok(BookedUsage { record: usage::from_row(row)?, accounts: row.accounts("accounts")? })
}

fn price(row: &PgRow) -> Result<PriceRow, Fault> {
    Ok(PriceRow {
        hash: row.bytes("hash")?.try_into().map_err(|_| StoreError::unavailable("a price table's hash is damaged"))?,
        source: row.text("source")?,
        body: row.bytes("body")?,
        saved_at: row.time("saved_at")?,
    })
}
