//! What a request with a key may do: its terms and budgets, worked out once.

use std::num::NonZeroU32;

use cfr_billing::identity::{KeyContext, KeyKind, TenantStatus, UserStatus};
use cfr_billing::plan::Terms;
use cfr_billing::store::path_currency;
use cfr_core::gateway::{Caller, ModelAccess};
use cfr_core::ledger::{CallerIds, PATH_BUDGETS_MAX, Path, Scope};
use cfr_core::limit::Limit;
use cfr_core::money::{Currency, Margin};

use super::AuthError;

/// Works out what a request with this key may do, or why nothing.
pub(super) fn caller(context: &KeyContext) -> Result<Caller, AuthError> {
    let ids = ids(context)?;
    let (path, currency) = path(context)?;
    let terms = context.product.as_ref().map(|version| &version.terms);
    Ok(Caller {
        ids,
        path,
        currency,
        margin: terms.map_or(Margin::DEFAULT, Terms::margin),
        models: models(context, terms),
        limits: terms.and_then(|terms| limit(context, terms)).into_iter().collect(),
        output_tokens_default: terms.and_then(|terms| terms.output_tokens_default),
    })
}

fn ids(context: &KeyContext) -> Result<CallerIds, AuthError> {
    if context.key.kind == KeyKind::Admin {
        return Err(AuthError::WrongKind { needed: "a key of a user or a service" });
    }
    let tenant = context.tenant.as_ref().ok_or(AuthError::WrongKind { needed: "a key of a tenant" })?;
    if tenant.status != TenantStatus::Active {
        return Err(AuthError::TenantSuspended);
    }
    let active = context.user.as_ref().map(|user| user.status == UserStatus::Active);
    if !active.unwrap_or(context.key.user.is_none()) {
        return Err(AuthError::UserNotActive);
    }
    Ok(CallerIds {
        tenant: tenant.id,
        user: context.key.user,
        key: Some(context.key.id),
        product_version: context.product.as_ref().map(|version| version.id),
    })
}

/// The budgets to charge. Whoever has none of their own has no money: an unlimited budget is a budget, too.
fn path(context: &KeyContext) -> Result<(Path, Currency), AuthError> {
    let budgets = &context.budgets;
    let own = |scope| match scope {
        Scope::User | Scope::Team | Scope::Tenant => true,
        Scope::Key => context.key.user.is_none(),
        _ => false,
    };
    if !budgets.iter().any(|budget| own(budget.scope)) {
        return Err(AuthError::NoBudget);
    }
    if budgets.len() > PATH_BUDGETS_MAX {
        return Err(AuthError::Misconfigured { reason: "too many budgets on one path" });
    }
    let mixed = AuthError::Misconfigured { reason: "budgets of one path differ in currency" };
    Ok((budgets.iter().map(|budget| budget.id).collect(), path_currency(budgets).ok_or(mixed)?))
}

/// The product's models, narrowed by the key's own list.
fn models(context: &KeyContext, terms: Option<&Terms>) -> ModelAccess {
    let all = terms.map_or_else(ModelAccess::all, |terms| ModelAccess::all().and(terms.models.clone()));
    if context.key.models.is_empty() { all } else { all.and(context.key.models.clone()) }
}

fn limit(context: &KeyContext, terms: &Terms) -> Option<Limit> {
    let limit = Limit {
        scope: Scope::Key,
        subject: context.key.id.as_u128(),
        requests_per_minute: terms.requests_per_minute.and_then(NonZeroU32::new),
        parallel_requests_max: terms.parallel_requests_max.and_then(NonZeroU32::new),
    };
    (limit.requests_per_minute.is_some() || limit.parallel_requests_max.is_some()).then_some(limit)
}
