//! Rows into an empty database: those of a page are one argument, an array of JSON objects that are named like the columns.

use std::sync::Arc;

use cfr_billing::approval::Proposal;
use cfr_billing::audit_log::AuditEvent;
use cfr_billing::budget::{Budget, Grant};
use cfr_billing::identity::{Tenant, User};
use cfr_billing::lead::Lead;
use cfr_billing::outside::OutsideName;
use cfr_billing::people::Credentials;
use cfr_billing::plan::ProductVersion;
use cfr_billing::provider_account::SealedAccount;
use cfr_billing::secrets::DataKey;
use cfr_billing::store::StoreError;
use cfr_billing::store::archive::{
    AccountRow, HoldRow, HoldState, IdentityRow, KeyRow, LeaseRow, NodeRow, PriceRow, ProductRow, Rows,
};
use cfr_billing::subscription::Subscription;
use cfr_billing::usage::UsageDay;
use cfr_core::id::{KeyId, ProductVersionId, TenantId, UserId};
use cfr_core::time::Timestamp;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::audit_log;
use crate::bulk::{self, Cell, Script};
use crate::error::Fault;
use crate::identity::user::normal;
use crate::ledger::rollup::{self, Days};
use crate::provider_account;
use crate::row::{self, query};
use crate::usage::day_number;
use crate::writer::Tx;
use crate::{approval, lead, oidc, secrets, subscription};

mod batch;

/// Writes rows of one section as they are.
pub(super) async fn rows(tx: &mut Tx<'_>, rows: &Rows) -> Result<(), Fault> {
    match rows {
        Rows::Tenants(rows) => each(tx, "tenants", rows, tenant).await,
        Rows::Products(rows) => each(tx, "products", rows, product).await,
        Rows::ProductVersions(rows) => each(tx, "product_versions", rows, product_version).await,
        Rows::Users(rows) => each(tx, "users", rows, user).await,
        Rows::Keys(rows) => each(tx, "api_keys", rows, key).await,
        Rows::Budgets(rows) => each(tx, "budgets", rows, budget).await,
        Rows::Accounts(rows) => {
            each(tx, "accounts", rows, account).await?;
            query(NEXT_ACCOUNT).execute(tx.connection()).await?;
            Ok(())
        }
        Rows::Grants(rows) => each(tx, "grants", rows, grant).await,
        Rows::Nodes(rows) => each(tx, "nodes", rows, node).await,
        Rows::Leases(rows) => each(tx, "leases", rows, lease).await,
        Rows::Holds(rows) => holds(tx, rows).await,
        Rows::Batches(rows) => batch::write(tx, rows).await,
        Rows::Days(rows) => days(tx, rows).await,
        Rows::Prices(rows) => each(tx, "price_versions", rows, price).await,
        Rows::AuditEvents(rows) => events(tx, rows).await,
        Rows::DataKeys(rows) => data_keys(tx, rows).await,
        Rows::ProviderAccounts(rows) => provider_accounts(tx, rows).await,
        Rows::Subscriptions(rows) => subscriptions(tx, rows).await,
        Rows::Proposals(rows) => proposals(tx, rows).await,
        Rows::Leads(rows) => leads(tx, rows).await,
        Rows::Credentials(rows) => each(tx, "credentials", rows, credentials).await,
        Rows::Identities(rows) => each(tx, "identities", rows, identity).await,
        Rows::OidcClients(rows) => oidc::insert_clients(tx, rows).await,
        Rows::SigningKeys(rows) => oidc::insert_signing_keys(tx, rows).await,
        Rows::ClientSessions(rows) => oidc::insert_sessions(tx, rows).await,
        Rows::OutsideNames(rows) => each(tx, "outside_names", rows, outside_name).await,
        _ => Err(StoreError::invalid("this store does not know the section").into()),
    }
}

async fn data_keys(tx: &mut Tx<'_>, keys: &[DataKey]) -> Result<(), Fault> {
    for key in keys {
        secrets::insert(tx.connection(), key).await?;
    }
    Ok(())
}

async fn provider_accounts(tx: &mut Tx<'_>, accounts: &[SealedAccount]) -> Result<(), Fault> {
    for account in accounts {
        provider_account::insert(tx.connection(), account).await?;
    }
    Ok(())
}

async fn subscriptions(tx: &mut Tx<'_>, subscriptions: &[Subscription]) -> Result<(), Fault> {
    for subscription in subscriptions {
        subscription::insert(tx.connection(), subscription).await?;
    }
    Ok(())
}

async fn proposals(tx: &mut Tx<'_>, proposals: &[Proposal]) -> Result<(), Fault> {
    for proposal in proposals {
        approval::insert(tx.connection(), proposal).await?;
    }
    Ok(())
}

async fn leads(tx: &mut Tx<'_>, leads: &[Lead]) -> Result<(), Fault> {
    for lead in leads {
        lead::insert(tx.connection(), lead).await?;
    }
    Ok(())
}

async fn events(tx: &mut Tx<'_>, events: &[AuditEvent]) -> Result<(), Fault> {
    for event in events {
        audit_log::insert(tx.connection(), event).await?;
    }
    Ok(())
}

/// What an object does not name has its default.
async fn each<T>(
    tx: &mut Tx<'_>,
    table: &'static str,
    rows: &[T],
    object: fn(&T) -> Result<Value, Fault>,
) -> Result<(), Fault> {
    let objects = rows.iter().map(object).collect::<Result<Vec<Value>, Fault>>()?;
    let Some(Value::Object(first)) = objects.first() else { return Ok(()) };
    let columns = first.keys().map(String::as_str).collect::<Vec<&str>>().join(", ");
    let source = format!("json_populate_recordset(NULL::{table}, $1::json)");
    let sql = AssertSqlSafe(format!("INSERT INTO {table} ({columns}) SELECT {columns} FROM {source}"));
    let insert = sqlx::query(sql).persistent(false).bind(Value::from(objects).to_string());
    insert.execute(tx.connection()).await?;
    Ok(())
}

fn tenant(tenant: &Tenant) -> Result<Value, Fault> {
    Ok(json!({
        "id": uuid(tenant.id.to_bytes()),
        "slug": tenant.slug,
        "name": tenant.name,
        "domain": tenant.domain,
        "kind": tenant.kind,
        "status": tenant.status,
        "users_max": tenant.users_max,
        "zone": tenant.zone.name(),
        "currency": tenant.currency,
        "settings": tenant.settings,
        "version": tenant.version,
        "created_at": tenant.created_at.as_microsecond(),
        "updated_at": tenant.updated_at.as_microsecond(),
    }))
}

fn outside_name(name: &OutsideName) -> Result<Value, Fault> {
    Ok(json!({
        "kind": name.named.kind().name(),
        "name": name.name,
        "id": uuid(name.named.to_bytes()),
        "entry": name,
    }))
}

fn product(product: &ProductRow) -> Result<Value, Fault> {
    Ok(json!({ "id": uuid(product.id.to_bytes()), "code": product.code, "active": product.active }))
}

fn product_version(version: &ProductVersion) -> Result<Value, Fault> {
    Ok(json!({
        "id": uuid(version.id.to_bytes()),
        "product_id": uuid(version.product.to_bytes()),
        "version": version.version,
        "terms": version.terms,
        "created_at": version.created_at.as_microsecond(),
    }))
}

fn user(user: &User) -> Result<Value, Fault> {
    Ok(json!({
        "id": uuid(user.id.to_bytes()),
        "tenant_id": uuid(user.tenant.to_bytes()),
        "email": user.email,
        "email_normal": normal(&user.email),
        "name": user.name,
        "role": user.role,
        "status": user.status,
        "product_version_id": user.product_version.map(ProductVersionId::to_bytes).map(uuid),
        "email_verified_at": user.email_verified_at.map(Timestamp::as_microsecond),
        "locale": user.locale,
        "version": user.version,
        "created_at": user.created_at.as_microsecond(),
        "updated_at": user.updated_at.as_microsecond(),
    }))
}

fn credentials(credentials: &Credentials) -> Result<Value, Fault> {
    Ok(json!({
        "user_id": uuid(credentials.user.to_bytes()),
        "epoch": credentials.epoch,
        "version": credentials.version,
        "entry": credentials,
    }))
}

fn identity(row: &IdentityRow) -> Result<Value, Fault> {
    let (issuer, subject) = (&row.identity.issuer, &row.identity.subject);
    Ok(json!({ "issuer": issuer, "subject": subject, "user_id": uuid(row.user.to_bytes()) }))
}

fn key(row: &KeyRow) -> Result<Value, Fault> {
    let key = &row.key;
    Ok(json!({
        "id": uuid(key.id.to_bytes()),
        "tenant_id": key.tenant.map(TenantId::to_bytes).map(uuid),
        "user_id": key.user.map(UserId::to_bytes).map(uuid),
        "name": key.name,
        "kind": key.kind,
        "mac": bytea(&row.mac.0),
        "prefix": key.prefix,
        "last4": key.last4,
        "models": key.models,
        "status": key.status,
        "expires_at": key.expires_at.map(Timestamp::as_microsecond),
        "created_at": key.created_at.as_microsecond(),
        "revoked_at": row.revoked_at.map(Timestamp::as_microsecond),
        "rules": key.rules,
        "old_mac": row.old_mac.map(|mac| bytea(&mac.0)),
        "grace_until": key.grace_until.map(Timestamp::as_microsecond),
        "used_at": key.used_at.map(Timestamp::as_microsecond),
        "created_by": key.created_by,
        "version": key.version,
    }))
}

fn budget(budget: &Budget) -> Result<Value, Fault> {
    let spec = &budget.spec;
    let period = serde_json::to_value(&spec.period).map_err(StoreError::invalid)?;
    Ok(json!({
        "id": uuid(spec.id.to_bytes()),
        "scope": spec.scope,
        "scope_id": Uuid::from_u128(budget.scope_id.0).to_string(),
        "tenant_id": budget.tenant.map(TenantId::to_bytes).map(uuid),
        "currency": spec.currency,
        "included": spec.included_nanos,
        "policy": spec.policy,
        "period_kind": period.get("kind"),
        "period": period,
        "zone": spec.zone.name(),
        "active": budget.active,
        "version": budget.version,
        "created_at": budget.created_at.as_microsecond(),
    }))
}

/// New accounts are numbered after those that came.
const NEXT_ACCOUNT: &str = "SELECT setval(pg_get_serial_sequence('accounts', 'id'), max(id)) FROM accounts";

fn account(account: &AccountRow) -> Result<Value, Fault> {
    Ok(json!({
        "id": account.id,
        "budget_id": uuid(account.budget.to_bytes()),
        "seq": account.seq,
        "starts_at": account.period.start.as_microsecond(),
        "ends_at": account.period.end.map(Timestamp::as_microsecond),
        "granted": account.granted,
        "settled": account.settled,
        "leased": account.leased,
        "overrun": account.overrun,
        "overcommit": account.overcommit,
    }))
}

fn grant(grant: &Grant) -> Result<Value, Fault> {
    Ok(json!({
        "id": uuid(grant.id.to_bytes()),
        "budget_id": uuid(grant.budget.to_bytes()),
        "account_id": grant.account,
        "kind": grant.kind,
        "amount": grant.amount_nanos,
        "idempotency_key": grant.idempotency_key,
        "reason": grant.reason,
        "actor": grant.actor,
        "at": grant.at.as_microsecond(),
    }))
}

/// Fenced: the life is over, whatever it was, and what it left behind is reclaimed at the first start.
fn node(node: &NodeRow) -> Result<Value, Fault> {
    Ok(json!({
        "name": node.name,
        "epoch": node.epoch,
        "boot": Uuid::nil().to_string(),
        "registered_at": node.registered_at.as_microsecond(),
        "seen_at": node.seen_at.as_microsecond(),
        "alive_until": node.seen_at.as_microsecond(),
        "fenced": true,
    }))
}

/// Expired, like the life that had it.
fn lease(lease: &LeaseRow) -> Result<Value, Fault> {
    Ok(json!({
        "account_id": lease.account,
        "node": lease.node,
        "epoch": lease.epoch,
        "granted": lease.granted,
        "consumed": lease.consumed,
        "expires_at": 0,
    }))
}

/// Evidence is kept as the text that it was, which may have characters that no other column takes.
const HOLDS: &str = "INSERT INTO holds (id, node, epoch, accounts, amount, state, tenant_id, user_id, key_id, \
     product_version_id, model, at, delivered, evidence) SELECT h.id, h.node, h.epoch, h.accounts::bigint[], h.amount, \
     h.state::smallint, h.tenant_id, h.user_id, h.key_id, h.product_version_id, h.model, h.at, h.delivered, \
     h.evidence::json FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) \
     AS h (id, node, epoch, accounts, amount, state, tenant_id, user_id, key_id, product_version_id, model, at, \
     delivered, evidence)";

async fn holds(tx: &mut Tx<'_>, holds: &[HoldRow]) -> Result<(), Fault> {
    let mut rows = bulk::Rows::default();
    for hold in holds {
        let evidence = hold.evidence.as_ref().map(|(_, record)| row::json(record)).transpose()?;
        let caller = &hold.caller;
        rows.push(&[
            Cell::Id(hold.id.to_bytes()),
            Cell::Text(&hold.node),
            Cell::Int(hold.epoch),
            Cell::Accounts(&hold.accounts),
            Cell::Int(hold.amount),
            Cell::Int(match hold.state {
                HoldState::Open => 0,
                HoldState::Suspended => 1,
                HoldState::Released => 2,
            }),
            Cell::Id(caller.tenant.to_bytes()),
            Cell::IdOpt(caller.user.map(UserId::to_bytes)),
            Cell::IdOpt(caller.key.map(KeyId::to_bytes)),
            Cell::IdOpt(caller.product_version.map(ProductVersionId::to_bytes)),
            Cell::Text(&hold.model),
            Cell::Int(hold.at.as_microsecond()),
            Cell::IntOpt(hold.evidence.as_ref().map(|(charged, _)| *charged)),
            Cell::TextOpt(evidence.as_deref()),
        ]);
    }
    let mut script = Script::default();
    script.statement_for(HOLDS, rows)?;
    script.run(tx).await.map(drop)
}

/// The nil id stands for nobody.
async fn days(tx: &mut Tx<'_>, archived: &[UsageDay]) -> Result<(), Fault> {
    let mut days = Days::default();
    for day in archived {
        let user = day.user.map(UserId::to_bytes).unwrap_or_default();
        let key = day.key.map(KeyId::to_bytes).unwrap_or_default();
        days.insert((day_number(day.day)?, day.tenant.to_bytes(), user, key, Arc::clone(&day.model)), day.sums);
    }
    let mut script = Script::default();
    rollup::push(&mut script, &days)?;
    script.run(tx).await.map(drop)
}

fn price(price: &PriceRow) -> Result<Value, Fault> {
    Ok(json!({
        "hash": bytea(&price.hash),
        "source": price.source,
        "body": bytea(&price.body),
        "saved_at": price.saved_at.as_microsecond(),
    }))
}

fn uuid(id: [u8; 16]) -> String {
    Uuid::from_bytes(id).to_string()
}

/// As Postgres reads bytes in text.
fn bytea(bytes: &[u8]) -> String {
    bytes.iter().fold("\\x".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}
