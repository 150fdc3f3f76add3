//! Who may have a key made, and with which scopes.

use std::sync::Arc;

use cfr_billing::identity::KeyKind;
use cfr_core::id::{TenantId, UserId};

use super::wish::CreateKey;
use crate::api::desk::Desk;
use crate::api::lookup;
use crate::api::problem::Problem;
use crate::auth::access::{Holder, Permission, Permissions};

/// The feature of a product whose users make keys of their own.
const API_ACCESS: &str = "api_access";

/// Whom a key belongs to.
pub(super) type Owner = (Option<TenantId>, Option<UserId>);

/// Whom a new key belongs to. The kind decides what must be named.
pub(super) async fn owner(desk: &Desk, body: &CreateKey) -> Result<Owner, Problem> {
    match (body.kind(), &body.tenant, &body.user) {
        (KeyKind::Admin, None, None) => Ok((None, None)),
        (KeyKind::Admin, tenant, _) => {
            let field = if tenant.is_some() { "tenant" } else { "user" };
            Err(Problem::invalid_field(field, "an admin key belongs to the operator: leave it out"))
        }
        (KeyKind::Service, Some(tenant), None) => {
            Ok((Some(lookup::named("tenant", lookup::tenant(&*desk.store, tenant).await)?.id), None))
        }
        (KeyKind::Service, _, Some(_)) => {
            Err(Problem::invalid_field("user", "a service key has no user: leave it out"))
        }
        (KeyKind::Service, None, None) => {
            Err(Problem::invalid_field("tenant", "a service key belongs to a tenant: name it"))
        }
        (_, tenant, Some(user)) => {
            let user = lookup::named("user", lookup::user(&*desk.store, user).await)?;
            check_tenant(desk, tenant.as_deref(), user.tenant).await?;
            Ok((Some(user.tenant), Some(user.id)))
        }
        (_, _, None) => Err(Problem::invalid_field("user", "a live or test key acts for a user: name them")),
    }
}

async fn check_tenant(desk: &Desk, named: Option<&str>, actual: TenantId) -> Result<(), Problem> {
    let Some(name) = named else { return Ok(()) };
    let tenant = lookup::named("tenant", lookup::tenant(&*desk.store, name).await)?;
    if tenant.id == actual {
        return Ok(());
    }
    Err(Problem::invalid_field("tenant", "the user belongs to another tenant"))
}

/// The key's own budget is in the currency of the tenant's.
pub(super) async fn check_currency(desk: &Desk, body: &CreateKey, (tenant, _): Owner) -> Result<(), Problem> {
    let (Some(budget), Some(tenant)) = (&body.budget, tenant) else { return Ok(()) };
    let currency = desk.store.tenant(tenant).await?.currency;
    match budget.limit.currency == currency {
        true => Ok(()),
        false => {
            let message = format_args!("the tenant's budgets are in {currency}");
            Err(Problem::invalid_field("budget.limit.currency", message))
        }
    }
}

/// Nobody gives away what they do not have, also not by a new secret of a key that has it.
pub(super) fn check_scopes(desk: &Desk, kind: KeyKind, scopes: &[Arc<str>]) -> Result<(), Problem> {
    let holder = match kind {
        KeyKind::Service => Holder::Service,
        KeyKind::Admin => Holder::PlatformAdmin,
        _ if scopes.is_empty() => return Ok(()),
        _ => {
            return Err(Problem::invalid_field(
                "scopes",
                "keys of users call models: only service and admin keys have scopes",
            ));
        }
    };
    let all = Permissions::of(holder);
    let unknown = scopes.iter().find(|scope| !Permission::named(scope).is_some_and(|scope| all.has(scope)));
    if let Some(unknown) = unknown {
        return Err(Problem::invalid_field("scopes", format_args!("`{unknown}` is no scope of such a key")));
    }
    let all_of_it = kind == KeyKind::Admin && scopes.is_empty();
    let wanted = if all_of_it { all } else { Permissions::named(scopes.iter().map(|scope| &**scope)) };
    match desk.access.permissions.has_all(wanted) {
        true => Ok(()),
        false => Err(Problem::forbidden("a key may do no more than who makes or changes it: leave scopes out")),
    }
}

/// Users make keys of their own where their product has it. Administrators make them for whom they administer.
pub(super) async fn check_owner_may(desk: &Desk, user: Option<UserId>) -> Result<(), Problem> {
    let Some(own) = desk.view.reach().user().filter(|own| user == Some(*own)) else { return Ok(()) };
    let user = desk.store.user(own).await?;
    let product = desk.of_user(&user)?.user_context(own, None).await?.product;
    let features = product.map(|version| version.terms.features).unwrap_or_default();
    match features.iter().any(|feature| &**feature == API_ACCESS) {
        true => Ok(()),
        false => Err(Problem::forbidden(
            "your product has no keys of your own: ask your administrator for one with `api_access`",
        )),
    }
}
