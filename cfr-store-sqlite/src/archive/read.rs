//! Rows out of one read transaction, page by page in the order of a key.

use std::collections::HashMap;

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
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row, Sqlite, Transaction, TypeInfo, ValueRef};

use crate::audit_log;
use crate::catalog::{budget, product};
use crate::error::Fault;
use crate::identity::{key, tenant, user};
use crate::ledger::grant;
use crate::people::{credential, identity};
use crate::provider_account;
use crate::row::{Fields, accounts_from_blob};
use crate::secrets;
use crate::usage;
use crate::{approval, lead, oidc, outside, subscription};

/// A read transaction, and how far it was read.
#[derive(Debug)]
pub(super) struct SqliteSnapshot {
    snapshot: Transaction<'static, Sqlite>,
    /// The key of the last row of each section that was begun.
    after: HashMap<Section, Vec<KeyPart>>,
}

/// A column of a key.
#[derive(Debug, Clone)]
enum KeyPart {
    Int(i64),
    Text(String),
    Blob(Vec<u8>),
}

impl SqliteSnapshot {
    pub(super) fn new(snapshot: Transaction<'static, Sqlite>) -> Self {
        Self { snapshot, after: HashMap::new() }
    }

    /// The next rows by the key that orders them.
    async fn page(&mut self, section: Section) -> Result<Vec<SqliteRow>, Fault> {
        let Source { select, key } = source(section);
        let columns = key.join(", ");
        let after = self.after.get(&section).map_or(&[][..], Vec::as_slice);
        let position = match after.len() {
            0 => String::new(),
            parts => format!(" WHERE ({columns}) > ({})", vec!["?"; parts].join(", ")),
        };
        let sql = format!("{select}{position} ORDER BY {columns} LIMIT {}", section.rows_max());
        let query = after.iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, part| match part {
            KeyPart::Int(value) => query.bind(*value),
            KeyPart::Text(value) => query.bind(value.clone()),
            KeyPart::Blob(value) => query.bind(value.clone()),
        });
        let rows = query.fetch_all(&mut *self.snapshot).await?;
        Ok(rows)
    }

    fn went_to(&mut self, section: Section, last: Option<&SqliteRow>) -> Result<(), Fault> {
        if let Some(last) = last {
            self.after.insert(section, key_of(last, source(section).key)?);
        }
        Ok(())
    }

    /// Batches with at most so many usage records that they are one page together; at least one.
    async fn batches(&mut self) -> Result<Vec<BatchRow>, Fault> {
        let mut rows = self.page(Section::Batches).await?;
        let mut total = 0_i64;
        let mut fitting = 0_usize;
        for row in &rows {
            total = total.saturating_add(row.int("rows")?.max(1));
            if fitting > 0 && total > ARCHIVE_ROWS_MAX as i64 {
                break;
            }
            fitting += 1;
        }
        rows.truncate(fitting);
        self.went_to(Section::Batches, rows.last())?;
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(Vec::new()) };
        let mut entries = self.entries(first.int("id")?, last.int("id")?).await?;
        let mut corrections = self.corrections(first.int("id")?, last.int("id")?).await?;
        let last_row = last.int("first_row")?.saturating_add(last.int("rows")?) - 1;
        let mut usage = self.usage(first.int("first_row")?, last_row).await?.into_iter();
        let whole = |row: &SqliteRow| batch(row, &mut entries, &mut corrections, &mut usage);
        rows.iter().map(whole).collect()
    }

    async fn entries(&mut self, first: i64, last: i64) -> Result<HashMap<i64, Vec<EntryRow>>, Fault> {
        let sql = "SELECT * FROM ledger_entries WHERE batch BETWEEN ? AND ? ORDER BY batch, account_id, kind";
        let mut entries: HashMap<i64, Vec<EntryRow>> = HashMap::new();
        for row in sqlx::query(sql).bind(first).bind(last).fetch_all(&mut *self.snapshot).await? {
            entries.entry(row.int("batch")?).or_default().push(entry(&row)?);
        }
        Ok(entries)
    }

    async fn corrections(&mut self, first: i64, last: i64) -> Result<HashMap<i64, CorrectionRow>, Fault> {
        let sql = "SELECT * FROM ledger_corrections WHERE batch BETWEEN ? AND ?";
        let rows = sqlx::query(sql).bind(first).bind(last).fetch_all(&mut *self.snapshot).await?;
        rows.iter().map(|row| Ok((row.int("batch")?, correction(row)?))).collect()
    }

    async fn usage(&mut self, first: i64, last: i64) -> Result<Vec<BookedUsage>, Fault> {
        let sql = "SELECT * FROM usage_records WHERE row BETWEEN ? AND ? ORDER BY row";
        let rows = sqlx::query(sql).bind(first).bind(last).fetch_all(&mut *self.snapshot).await?;
        rows.iter().map(booked_usage).collect()
    }
}

#[async_trait]
impl Snapshot for SqliteSnapshot {
    async fn read(&mut self, section: Section) -> Result<Rows, StoreError> {
        if section == Section::Batches {
            return Ok(Rows::Batches(self.batches().await?));
        }
        let rows = self.page(section).await?;
        self.went_to(section, rows.last())?;
        Ok(read_rows(section, &rows)?)
    }

    async fn heads(&mut self) -> Result<Vec<ChainHead>, StoreError> {
        let sql = "SELECT id, lower(hex(hash)) AS hash FROM ledger_batches ORDER BY id DESC LIMIT 1";
        let head = sqlx::query(sql).fetch_optional(&mut *self.snapshot).await.map_err(Fault::from)?;
        let head = head.as_ref().map(|row| -> Result<ChainHead, Fault> {
            Ok(ChainHead { chain: "1".into(), batches: row.int("id")?, hash: row.text("hash")? })
        });
        Ok(head.transpose()?.into_iter().collect())
    }
}

/// Where the rows of a section are, and the columns that order them.
struct Source {
    select: &'static str,
    key: &'static [&'static str],
}

const fn source(section: Section) -> Source {
    let (select, key): (_, &[_]) = match section {
        Section::Tenants => ("SELECT * FROM tenants", &["id"]),
        Section::Products => ("SELECT * FROM products", &["id"]),
        Section::ProductVersions => {
            ("SELECT v.*, p.code FROM product_versions v JOIN products p ON p.id = v.product_id", &["v.id"])
        }
        Section::Users => ("SELECT * FROM users", &["id"]),
        Section::Keys => ("SELECT * FROM api_keys", &["id"]),
        Section::Budgets => ("SELECT * FROM budgets", &["id"]),
        Section::Accounts => ("SELECT * FROM accounts", &["id"]),
        Section::Grants => ("SELECT * FROM grants", &["id"]),
        Section::Nodes => ("SELECT * FROM nodes", &["name"]),
        Section::Leases => ("SELECT * FROM leases", &["account_id", "node", "epoch"]),
        Section::Holds => ("SELECT * FROM holds", &["id"]),
        Section::Batches => ("SELECT * FROM ledger_batches", &["id"]),
        Section::Days => ("SELECT * FROM usage_daily", &["day", "tenant_id", "user_id", "key_id", "model_served"]),
        Section::Prices => ("SELECT * FROM price_versions", &["seq"]),
        Section::AuditEvents => ("SELECT * FROM audit_events", &["seq"]),
        Section::DataKeys => ("SELECT * FROM data_keys", &["id"]),
        Section::ProviderAccounts => ("SELECT * FROM provider_accounts", &["id"]),
        Section::Subscriptions => ("SELECT * FROM subscriptions", &["id"]),
        Section::Proposals => ("SELECT * FROM proposals", &["id"]),
        Section::Leads => ("SELECT * FROM leads", &["id"]),
        Section::Credentials => ("SELECT * FROM credentials", &["user_id"]),
        Section::Identities => ("SELECT * FROM identities", &["issuer", "subject"]),
        Section::OidcClients => ("SELECT * FROM oidc_clients", &["id"]),
        Section::SigningKeys => ("SELECT * FROM signing_keys", &["seq"]),
        Section::ClientSessions => ("SELECT * FROM client_sessions", &["id"]),
        Section::OutsideNames => ("SELECT * FROM outside_names", &["kind", "name"]),
        _ => ("", &[]),
    };
    Source { select, key }
}

fn key_of(row: &SqliteRow, columns: &[&str]) -> Result<Vec<KeyPart>, Fault> {
    let part = |column: &&str| {
        let column = column.trim_start_matches("v.");
        Ok(match row.try_get_raw(column)?.type_info().name() {
            "INTEGER" => KeyPart::Int(row.int(column)?),
            "TEXT" => KeyPart::Text(row.try_get(column)?),
            _ => KeyPart::Blob(row.bytes(column)?),
        })
    };
    columns.iter().map(part).collect()
}

fn read_rows(section: Section, rows: &[SqliteRow]) -> Result<Rows, Fault> {
    fn each<T>(rows: &[SqliteRow], from_row: fn(&SqliteRow) -> Result<T, Fault>) -> Result<Vec<T>, Fault> {
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

fn product_row(row: &SqliteRow) -> Result<ProductRow, Fault> {
    Ok(ProductRow { id: row.id("id", ProductId::from_bytes)?, code: row.text("code")?, active: row.flag("active")? })
}

fn identity_row(row: &SqliteRow) -> Result<IdentityRow, Fault> {
    Ok(IdentityRow { identity: identity::from_row(row)?, user: row.id("user_id", UserId::from_bytes)? })
}

fn key_row(row: &SqliteRow) -> Result<KeyRow, Fault> {
    let mac =
        |bytes: Vec<u8>| bytes.try_into().map(KeyMac).map_err(|_| StoreError::unavailable("a key's MAC is damaged"));
    let (present, old) = (mac(row.bytes("mac")?)?, row.bytes_opt("old_mac")?.map(mac).transpose()?);
    Ok(KeyRow { key: key::from_row(row)?, mac: present, old_mac: old, revoked_at: row.time_opt("revoked_at")? })
}

fn account(row: &SqliteRow) -> Result<AccountRow, Fault> {
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

fn node(row: &SqliteRow) -> Result<NodeRow, Fault> {
    Ok(NodeRow {
        name: row.text("name")?,
        epoch: row.int("epoch")?,
        registered_at: row.time("registered_at")?,
        seen_at: row.time("seen_at")?,
    })
}

fn lease(row: &SqliteRow) -> Result<LeaseRow, Fault> {
    Ok(LeaseRow {
        account: AccountId(row.int("account_id")?),
        node: row.text("node")?,
        epoch: row.int("epoch")?,
        granted: row.int("granted")?,
        consumed: row.int("consumed")?,
    })
}

fn hold(row: &SqliteRow) -> Result<HoldRow, Fault> {
    let evidence = match row.int_opt("delivered")? {
        Some(charged) => Some((charged, row.json("evidence")?)),
        None => None,
    };
    Ok(HoldRow {
        id: row.id("id", HoldId::from_bytes)?,
        node: row.text("node")?,
        epoch: row.int("epoch")?,
        accounts: accounts_from_blob(&row.bytes("accounts")?).collect(),
        amount: row.int("amount")?,
        state: match row.int("state")? {
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
    row: &SqliteRow,
    entries: &mut HashMap<i64, Vec<EntryRow>>,
    corrections: &mut HashMap<i64, CorrectionRow>,
    usage: &mut impl Iterator<Item = BookedUsage>,
) -> Result<BatchRow, Fault> {
    let records = usize::try_from(row.int("rows")?).unwrap_or_default();
    Ok(BatchRow {
        node: row.text("node")?,
        epoch: row.int("epoch")?,
        at: row.time("at")?,
        entries: entries.remove(&row.int("id")?).unwrap_or_default(),
        usage: usage.take(records).collect(),
        correction: corrections.remove(&row.int("id")?),
    })
}

fn correction(row: &SqliteRow) -> Result<CorrectionRow, Fault> {
    Ok(CorrectionRow {
        account: AccountId(row.int("account_id")?),
        sum: row.text("sum")?,
        was: row.int("was")?,
        became: row.int("became")?,
        reason: row.text("reason")?,
        actor: row.text("actor")?,
    })
}

fn entry(row: &SqliteRow) -> Result<EntryRow, Fault> {
    Ok(EntryRow {
        account: AccountId(row.int("account_id")?),
        kind: row.text("kind")?,
        amount: row.int("amount")?,
        overrun: row.int("overrun")?,
    })
}

fn booked_usage(row: &SqliteRow) -> Result<BookedUsage, Fault> {
    let accounts = accounts_from_blob(row.try_get("accounts")?).collect();
    Ok(BookedUsage { record: usage::from_row(row)?, accounts })
}

fn price(row: &SqliteRow) -> Result<PriceRow, Fault> {
    Ok(PriceRow {
        hash: row.bytes("hash")?.try_into().map_err(|_| StoreError::unavailable("a price table's hash is damaged"))?,
        source: row.text("source")?,
        body: row.bytes("body")?,
        saved_at: row.time("saved_at")?,
    })
}
