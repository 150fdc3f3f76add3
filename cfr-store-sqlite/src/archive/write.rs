//! Rows into an empty file, many in one statement.

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
    AccountRow, BatchRow, CorrectionRow, HoldRow, HoldState, IdentityRow, KeyRow, LeaseRow, NodeRow, PriceRow,
    ProductRow, Rows as Archived,
};
use cfr_billing::subscription::Subscription;
use cfr_billing::usage::UsageDay;
use cfr_core::id::{KeyId, ProductVersionId, TenantId, UserId};

use crate::audit_log;
use crate::bulk::{Cell, Rows, Script};
use crate::chain::{self, Amounts, push_correction, push_entry};
use crate::error::Fault;
use crate::identity::user::normal;
use crate::ledger::rollup::{self, Days};
use crate::provider_account;
use crate::row::{accounts_blob, json, word};
use crate::usage::{day_number, push_record};
use crate::writer::Tx;
use crate::{approval, lead, oidc, secrets, subscription};

/// Writes rows of one section as they are.
pub(super) async fn rows(tx: &mut Tx<'_>, rows: &Archived) -> Result<(), Fault> {
    match rows {
        Archived::Tenants(rows) => each(tx, TENANT, rows, push_tenant).await,
        Archived::Products(rows) => each(tx, PRODUCT, rows, push_product).await,
        Archived::ProductVersions(rows) => each(tx, PRODUCT_VERSION, rows, push_product_version).await,
        Archived::Users(rows) => each(tx, USER, rows, push_user).await,
        Archived::Keys(rows) => each(tx, KEY, rows, push_key).await,
        Archived::Budgets(rows) => each(tx, BUDGET, rows, push_budget).await,
        Archived::Accounts(rows) => each(tx, ACCOUNT, rows, push_account).await,
        Archived::Grants(rows) => each(tx, GRANT, rows, push_grant).await,
        Archived::Nodes(rows) => each(tx, NODE, rows, push_node).await,
        Archived::Leases(rows) => each(tx, LEASE, rows, push_lease).await,
        Archived::Holds(rows) => {
            tx.note_suspended(rows.iter().any(|hold| hold.state == HoldState::Suspended));
            each(tx, HOLD, rows, push_hold).await
        }
        Archived::Batches(rows) => batches(tx, rows).await,
        Archived::Days(rows) => days(tx, rows).await,
        Archived::Prices(rows) => each(tx, PRICE, rows, push_price).await,
        Archived::AuditEvents(rows) => events(tx, rows).await,
        Archived::DataKeys(rows) => data_keys(tx, rows).await,
        Archived::ProviderAccounts(rows) => provider_accounts(tx, rows).await,
        Archived::Subscriptions(rows) => subscriptions(tx, rows).await,
        Archived::Proposals(rows) => proposals(tx, rows).await,
        Archived::Leads(rows) => leads(tx, rows).await,
        Archived::Credentials(rows) => each(tx, CREDENTIALS, rows, push_credentials).await,
        Archived::Identities(rows) => each(tx, IDENTITY, rows, push_identity).await,
        Archived::OidcClients(rows) => oidc::insert_clients(tx, rows).await,
        Archived::SigningKeys(rows) => oidc::insert_signing_keys(tx, rows).await,
        Archived::ClientSessions(rows) => oidc::insert_sessions(tx, rows).await,
        Archived::OutsideNames(rows) => each(tx, OUTSIDE_NAME, rows, push_outside_name).await,
        _ => Err(StoreError::invalid("this store does not know the section").into()),
    }
}

async fn each<T>(
    tx: &mut Tx<'_>,
    sql: &'static str,
    archived: &[T],
    push: fn(&mut Rows, &T) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut rows = Rows::default();
    for row in archived {
        push(&mut rows, row)?;
    }
    let mut script = Script::default();
    script.statement_for(sql, rows)?;
    script.run(tx.connection()).await.map(drop)
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

/// Each is sealed with the one before it, by this file's rule.
async fn batches(tx: &mut Tx<'_>, batches: &[BatchRow]) -> Result<(), Fault> {
    for batch in batches {
        let at = batch.at.as_microsecond();
        if let Some(correction) = &batch.correction {
            chain::append_correction_at(tx, at, correction_row(correction)).await?;
            continue;
        }
        let (mut entries, mut usage) = (Rows::default(), Rows::default());
        for entry in &batch.entries {
            let amounts = Amounts { amount: entry.amount, overrun: entry.overrun };
            push_entry(&mut entries, entry.account.0, &entry.kind, amounts);
        }
        for booked in &batch.usage {
            let amounts = Amounts { amount: booked.record.charged_nanos, overrun: booked.record.overrun_nanos };
            push_record(&mut usage, &booked.record, amounts, &booked.accounts)?;
        }
        let mut script = Script::default();
        let life = (&*batch.node, batch.epoch);
        chain::append_at(tx, &mut script, life, at, (entries, usage)).await?;
        script.run(tx.connection()).await?;
    }
    Ok(())
}

fn correction_row(correction: &CorrectionRow) -> Rows {
    let CorrectionRow { account, sum, was, became, reason, actor } = correction;
    let mut row = Rows::default();
    push_correction(&mut row, (account.0, sum), (*was, *became), (reason, actor));
    row
}

const TENANT: &str = "INSERT INTO tenants (id, slug, name, domain, kind, status, users_max, zone, currency, version, \
     created_at, updated_at, settings) SELECT unhex(value->>0), value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, \
     value->>7, value->>8, value->>9, value->>10, value->>11, value->>12 FROM jsonb_each(?)";

fn push_tenant(rows: &mut Rows, tenant: &Tenant) -> Result<(), Fault> {
    rows.push(&[
        Cell::Blob(&tenant.id.to_bytes()),
        Cell::Text(&tenant.slug),
        Cell::Text(&tenant.name),
        text_opt(tenant.domain.as_ref()),
        Cell::Text(&word(&tenant.kind)?),
        Cell::Text(&word(&tenant.status)?),
        Cell::int_opt(tenant.users_max.map(i64::from)),
        Cell::Text(tenant.zone.name()),
        Cell::Text(tenant.currency.code()),
        Cell::Int(tenant.version),
        Cell::Int(tenant.created_at.as_microsecond()),
        Cell::Int(tenant.updated_at.as_microsecond()),
        Cell::Text(&json(&tenant.settings)?),
    ]);
    Ok(())
}

const OUTSIDE_NAME: &str = "INSERT INTO outside_names (kind, name, id, entry) \
     SELECT value->>0, value->>1, unhex(value->>2), value->>3 FROM jsonb_each(?)";

fn push_outside_name(rows: &mut Rows, name: &OutsideName) -> Result<(), Fault> {
    rows.push(&[
        Cell::Text(name.named.kind().name()),
        Cell::Text(&name.name),
        Cell::Blob(&name.named.to_bytes()),
        Cell::Text(&json(name)?),
    ]);
    Ok(())
}

const PRODUCT: &str =
    "INSERT INTO products (id, code, active) SELECT unhex(value->>0), value->>1, value->>2 FROM jsonb_each(?)";

fn push_product(rows: &mut Rows, product: &ProductRow) -> Result<(), Fault> {
    rows.push(&[Cell::Blob(&product.id.to_bytes()), Cell::Text(&product.code), Cell::Int(product.active.into())]);
    Ok(())
}

const PRODUCT_VERSION: &str = "INSERT INTO product_versions (id, product_id, version, terms, created_at) \
     SELECT unhex(value->>0), unhex(value->>1), value->>2, value->>3, value->>4 FROM jsonb_each(?)";

fn push_product_version(rows: &mut Rows, version: &ProductVersion) -> Result<(), Fault> {
    rows.push(&[
        Cell::Blob(&version.id.to_bytes()),
        Cell::Blob(&version.product.to_bytes()),
        Cell::Int(version.version),
        Cell::Text(&json(&version.terms)?),
        Cell::Int(version.created_at.as_microsecond()),
    ]);
    Ok(())
}

const USER: &str = "INSERT INTO users (id, tenant_id, email, email_normal, name, role, status, product_version_id, \
     version, created_at, updated_at, email_verified_at, locale) SELECT unhex(value->>0), unhex(value->>1), value->>2, \
     value->>3, value->>4, value->>5, value->>6, unhex(value->>7), value->>8, value->>9, value->>10, value->>11, \
     value->>12 FROM jsonb_each(?)";

fn push_user(rows: &mut Rows, user: &User) -> Result<(), Fault> {
    rows.push(&[
        Cell::Blob(&user.id.to_bytes()),
        Cell::Blob(&user.tenant.to_bytes()),
        Cell::Text(&user.email),
        Cell::Text(&normal(&user.email)),
        Cell::Text(&user.name),
        Cell::Text(&word(&user.role)?),
        Cell::Text(&word(&user.status)?),
        Cell::id_opt(user.product_version.map(ProductVersionId::to_bytes).as_ref()),
        Cell::Int(user.version),
        Cell::Int(user.created_at.as_microsecond()),
        Cell::Int(user.updated_at.as_microsecond()),
        Cell::int_opt(user.email_verified_at.map(|at| at.as_microsecond())),
        user.locale.map_or(Cell::Null, |locale| Cell::Text(locale.code())),
    ]);
    Ok(())
}

const CREDENTIALS: &str = "INSERT INTO credentials (user_id, epoch, version, entry) \
     SELECT unhex(value->>0), value->>1, value->>2, value->>3 FROM jsonb_each(?)";

fn push_credentials(rows: &mut Rows, credentials: &Credentials) -> Result<(), Fault> {
    let (epoch, version) = (Cell::Int(credentials.epoch), Cell::Int(credentials.version));
    rows.push(&[Cell::Blob(&credentials.user.to_bytes()), epoch, version, Cell::Text(&json(credentials)?)]);
    Ok(())
}

const IDENTITY: &str = "INSERT INTO identities (issuer, subject, user_id) \
     SELECT value->>0, value->>1, unhex(value->>2) FROM jsonb_each(?)";

fn push_identity(rows: &mut Rows, row: &IdentityRow) -> Result<(), Fault> {
    let (issuer, subject) = (&row.identity.issuer, &row.identity.subject);
    rows.push(&[Cell::Text(issuer), Cell::Text(subject), Cell::Blob(&row.user.to_bytes())]);
    Ok(())
}

const KEY: &str = "INSERT INTO api_keys (id, tenant_id, user_id, name, kind, mac, prefix, last4, models, status, \
     expires_at, created_at, revoked_at, rules, old_mac, grace_until, used_at, created_by, version) \
     SELECT unhex(value->>0), unhex(value->>1), unhex(value->>2), value->>3, \
     value->>4, unhex(value->>5), value->>6, value->>7, value->>8, value->>9, value->>10, value->>11, value->>12, \
     value->>13, unhex(value->>14), value->>15, value->>16, value->>17, value->>18 FROM jsonb_each(?)";

fn push_key(rows: &mut Rows, row: &KeyRow) -> Result<(), Fault> {
    let key = &row.key;
    rows.push(&[
        Cell::Blob(&key.id.to_bytes()),
        Cell::id_opt(key.tenant.map(TenantId::to_bytes).as_ref()),
        Cell::id_opt(key.user.map(UserId::to_bytes).as_ref()),
        Cell::Text(&key.name),
        Cell::Text(&word(&key.kind)?),
        Cell::Blob(&row.mac.0),
        Cell::Text(&key.prefix),
        Cell::Text(&key.last4),
        Cell::Text(&json(&key.models)?),
        Cell::Text(&word(&key.status)?),
        Cell::int_opt(key.expires_at.map(|at| at.as_microsecond())),
        Cell::Int(key.created_at.as_microsecond()),
        Cell::int_opt(row.revoked_at.map(|at| at.as_microsecond())),
        Cell::Text(&json(&key.rules)?),
        row.old_mac.as_ref().map_or(Cell::Null, |mac| Cell::Blob(&mac.0)),
        Cell::int_opt(key.grace_until.map(|at| at.as_microsecond())),
        Cell::int_opt(key.used_at.map(|at| at.as_microsecond())),
        key.created_by.as_deref().map_or(Cell::Null, Cell::Text),
        Cell::Int(key.version),
    ]);
    Ok(())
}

const BUDGET: &str = "INSERT INTO budgets (id, scope, scope_id, tenant_id, currency, included, policy, period_kind, \
     period, zone, active, version, created_at) SELECT unhex(value->>0), value->>1, unhex(value->>2), \
     unhex(value->>3), value->>4, value->>5, value->>6, (value->>7)->>'kind', value->>7, value->>8, value->>9, \
     value->>10, value->>11 FROM jsonb_each(?)";

fn push_budget(rows: &mut Rows, budget: &Budget) -> Result<(), Fault> {
    let spec = &budget.spec;
    rows.push(&[
        Cell::Blob(&spec.id.to_bytes()),
        Cell::Text(spec.scope.name()),
        Cell::Blob(&budget.scope_id.0.to_be_bytes()),
        Cell::id_opt(budget.tenant.map(TenantId::to_bytes).as_ref()),
        Cell::Text(spec.currency.code()),
        Cell::Int(spec.included_nanos),
        Cell::Text(&word(&spec.policy)?),
        Cell::Text(&json(&spec.period)?),
        Cell::Text(spec.zone.name()),
        Cell::Int(budget.active.into()),
        Cell::Int(budget.version),
        Cell::Int(budget.created_at.as_microsecond()),
    ]);
    Ok(())
}

const ACCOUNT: &str = "INSERT INTO accounts (id, budget_id, seq, starts_at, ends_at, granted, settled, leased, overrun, \
     overcommit) SELECT value->>0, unhex(value->>1), value->>2, value->>3, value->>4, value->>5, value->>6, value->>7, \
     value->>8, value->>9 FROM jsonb_each(?)";

fn push_account(rows: &mut Rows, account: &AccountRow) -> Result<(), Fault> {
    rows.push(&[
        Cell::Int(account.id.0),
        Cell::Blob(&account.budget.to_bytes()),
        Cell::Int(account.seq),
        Cell::Int(account.period.start.as_microsecond()),
        Cell::int_opt(account.period.end.map(|end| end.as_microsecond())),
        Cell::Int(account.granted),
        Cell::Int(account.settled),
        Cell::Int(account.leased),
        Cell::Int(account.overrun),
        Cell::Int(account.overcommit),
    ]);
    Ok(())
}

const GRANT: &str = "INSERT INTO grants (id, budget_id, account_id, kind, amount, idempotency_key, reason, actor, at) \
     SELECT unhex(value->>0), unhex(value->>1), value->>2, value->>3, value->>4, value->>5, value->>6, value->>7, \
     value->>8 FROM jsonb_each(?)";

fn push_grant(rows: &mut Rows, grant: &Grant) -> Result<(), Fault> {
    rows.push(&[
        Cell::Blob(&grant.id.to_bytes()),
        Cell::Blob(&grant.budget.to_bytes()),
        Cell::Int(grant.account.0),
        Cell::Text(&word(&grant.kind)?),
        Cell::Int(grant.amount_nanos),
        Cell::Text(&grant.idempotency_key),
        Cell::Text(&grant.reason),
        Cell::Text(&grant.actor),
        Cell::Int(grant.at.as_microsecond()),
    ]);
    Ok(())
}

/// Fenced: the life is over, whatever it was, and what it left behind is reclaimed at the first start.
const NODE: &str = "INSERT INTO nodes (name, epoch, registered_at, seen_at, alive_until, fenced) \
     SELECT value->>0, value->>1, value->>2, value->>3, value->>3, 1 FROM jsonb_each(?)";

fn push_node(rows: &mut Rows, node: &NodeRow) -> Result<(), Fault> {
    let (registered_at, seen_at) = (node.registered_at.as_microsecond(), node.seen_at.as_microsecond());
    rows.push(&[Cell::Text(&node.name), Cell::Int(node.epoch), Cell::Int(registered_at), Cell::Int(seen_at)]);
    Ok(())
}

const LEASE: &str = "INSERT INTO leases (account_id, node, epoch, granted, consumed) \
     SELECT value->>0, value->>1, value->>2, value->>3, value->>4 FROM jsonb_each(?)";

fn push_lease(rows: &mut Rows, lease: &LeaseRow) -> Result<(), Fault> {
    let (granted, consumed) = (Cell::Int(lease.granted), Cell::Int(lease.consumed));
    rows.push(&[Cell::Int(lease.account.0), Cell::Text(&lease.node), Cell::Int(lease.epoch), granted, consumed]);
    Ok(())
}

const HOLD: &str = "INSERT INTO holds (id, node, epoch, accounts, amount, state, tenant_id, user_id, key_id, \
     product_version_id, model, at, delivered, evidence) SELECT unhex(value->>0), value->>1, value->>2, \
     unhex(value->>3), value->>4, value->>5, unhex(value->>6), unhex(value->>7), unhex(value->>8), unhex(value->>9), \
     value->>10, value->>11, value->>12, value->>13 FROM jsonb_each(?)";

fn push_hold(rows: &mut Rows, hold: &HoldRow) -> Result<(), Fault> {
    let evidence = hold.evidence.as_ref().map(|(_, record)| json(record)).transpose()?;
    rows.push(&[
        Cell::Blob(&hold.id.to_bytes()),
        Cell::Text(&hold.node),
        Cell::Int(hold.epoch),
        Cell::Blob(&accounts_blob(&hold.accounts)),
        Cell::Int(hold.amount),
        Cell::Int(state_number(hold.state)),
        Cell::Blob(&hold.caller.tenant.to_bytes()),
        Cell::id_opt(hold.caller.user.map(UserId::to_bytes).as_ref()),
        Cell::id_opt(hold.caller.key.map(KeyId::to_bytes).as_ref()),
        Cell::id_opt(hold.caller.product_version.map(ProductVersionId::to_bytes).as_ref()),
        Cell::Text(&hold.model),
        Cell::Int(hold.at.as_microsecond()),
        Cell::int_opt(hold.evidence.as_ref().map(|(charged, _)| *charged)),
        evidence.as_deref().map_or(Cell::Null, Cell::Text),
    ]);
    Ok(())
}

const fn state_number(state: HoldState) -> i64 {
    match state {
        HoldState::Open => 0,
        HoldState::Suspended => 1,
        HoldState::Released => 2,
    }
}

async fn days(tx: &mut Tx<'_>, archived: &[UsageDay]) -> Result<(), Fault> {
    let mut days = Days::default();
    for day in archived {
        let (user, key) = (day.user.map(UserId::to_bytes), day.key.map(KeyId::to_bytes));
        days.insert((day_number(day.day)?, day.tenant.to_bytes(), user, key, Arc::clone(&day.model)), day.sums);
    }
    let mut script = Script::default();
    rollup::push(&mut script, &days)?;
    script.run(tx.connection()).await.map(drop)
}

const PRICE: &str = "INSERT INTO price_versions (hash, source, body, saved_at) \
     SELECT unhex(value->>0), value->>1, unhex(value->>2), value->>3 FROM jsonb_each(?)";

fn push_price(rows: &mut Rows, price: &PriceRow) -> Result<(), Fault> {
    let saved_at = price.saved_at.as_microsecond();
    rows.push(&[Cell::Blob(&price.hash), Cell::Text(&price.source), Cell::Blob(&price.body), Cell::Int(saved_at)]);
    Ok(())
}

fn text_opt(text: Option<&Arc<str>>) -> Cell<'_> {
    text.map_or(Cell::Null, |text| Cell::Text(text))
}
