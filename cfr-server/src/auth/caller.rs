//! What a request with a key may do: its terms and budgets, worked out once.

use std::num::NonZeroU32;

use cfr_billing::identity::{
    ApiKey, KeyContext, KeyKind, KeyRules, Tenant, TenantStatus, User, UserContext, UserStatus,
};
use cfr_billing::plan::{ProductVersion, Terms};
use cfr_billing::store::path_currency;
use cfr_billing::subscription::{Subscription, SubscriptionStatus};
use cfr_core::gateway::{Caller, ModelAccess};
use cfr_core::ledger::{BudgetSpec, CallerIds, PATH_BUDGETS_MAX, Path, Scope};
use cfr_core::limit::Limit;
use cfr_core::money::{Currency, Margin};
use cfr_core::time::Timestamp;

use super::AuthError;

/// Who is behind a request.
struct Holder<'a> {
    key: Option<&'a ApiKey>,
    user: Option<&'a User>,
    tenant: Option<&'a Tenant>,
    product: Option<&'a ProductVersion>,
    subscription: Option<&'a Subscription>,
    budgets: &'a [BudgetSpec],
}

/// Works out what a request with this key may do, or why nothing.
pub(super) fn caller(context: &KeyContext, now: Timestamp) -> Result<Caller, AuthError> {
    let KeyContext { key, user, tenant, product, subscription, budgets, .. } = context;
    if key.user.is_some() && user.is_none() {
        return Err(AuthError::UserNotActive);
    }
    let (user, tenant, product) = (user.as_ref(), tenant.as_ref(), product.as_ref());
    Holder { key: Some(key), user, tenant, product, subscription: subscription.as_ref(), budgets }.caller(now)
}

/// Works out what a request of this user may do, who has no key, or is named by the holder of one.
pub(crate) fn user_caller(context: &UserContext, key: Option<&ApiKey>, now: Timestamp) -> Result<Caller, AuthError> {
    let UserContext { user, tenant, product, subscription, budgets } = context;
    let (product, subscription) = (product.as_ref(), subscription.as_ref());
    Holder { key, user: Some(user), tenant: Some(tenant), product, subscription, budgets }.caller(now)
}

impl Holder<'_> {
    fn caller(&self, now: Timestamp) -> Result<Caller, AuthError> {
        let ids = self.ids()?;
        self.check_subscription(now)?;
        let (path, currency) = self.path()?;
        let terms = self.product.map(|version| &version.terms);
        Ok(Caller {
            ids,
            path,
            currency,
            margin: terms.map_or(Margin::DEFAULT, Terms::margin),
            models: self.models(terms),
            limits: self.limits(terms).into_iter().flatten().collect(),
            output_tokens_default: terms.and_then(|terms| terms.output_tokens_default),
        })
    }

    fn ids(&self) -> Result<CallerIds, AuthError> {
        if self.key.is_some_and(|key| key.kind == KeyKind::Admin) {
            return Err(AuthError::WrongKind { needed: "a key of a user or a service" });
        }
        let tenant = self.tenant.ok_or(AuthError::WrongKind { needed: "a key of a tenant" })?;
        if tenant.status != TenantStatus::Active {
            return Err(AuthError::TenantSuspended);
        }
        if self.user.is_some_and(|user| user.status != UserStatus::Active) {
            return Err(AuthError::UserNotActive);
        }
        Ok(CallerIds {
            tenant: tenant.id,
            user: self.user.map(|user| user.id),
            key: self.key.map(|key| key.id),
            product_version: self.product.map(|version| version.id),
        })
    }

    /// Whoever ever had a subscription needs one whose terms hold.
    fn check_subscription(&self, now: Timestamp) -> Result<(), AuthError> {
        match self.subscription.and_then(|subscription| subscription.refuses(now)) {
            None => Ok(()),
            Some(SubscriptionStatus::Unpaid) => Err(AuthError::SubscriptionUnpaid),
            Some(_) => Err(AuthError::SubscriptionEnded),
        }
    }

    /// The budgets to charge. Whoever has none of their own has no money: an unlimited budget is a budget, too.
    fn path(&self) -> Result<(Path, Currency), AuthError> {
        let budgets = self.budgets;
        let own = |scope| match scope {
            Scope::User | Scope::Team | Scope::Tenant => true,
            Scope::Key => self.user.is_none(),
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
    fn models(&self, terms: Option<&Terms>) -> ModelAccess {
        let all = terms.map_or_else(ModelAccess::all, |terms| ModelAccess::all().and(terms.models.clone()));
        match self.key.filter(|key| !key.models.is_empty()) {
            Some(key) => all.and(key.models.clone()),
            None => all,
        }
    }

    /// The product's limits, narrowed by the key's own. They hold for each key of a user; where many share a key, or nobody
    /// needs one, the product's hold for each user.
    fn limits(&self, terms: Option<&Terms>) -> [Option<Limit>; 2] {
        let owned = self.key.is_some_and(|key| key.user == self.user.map(|user| user.id));
        let of_key = |key: &ApiKey| {
            let terms = terms.filter(|_| owned);
            limit(Scope::Key, key.id.as_u128(), terms, Some(&key.rules))
        };
        let of_user = self.user.filter(|_| !owned).and_then(|user| limit(Scope::User, user.id.as_u128(), terms, None));
        [self.key.and_then(of_key), of_user]
    }
}

fn limit(scope: Scope, subject: u128, terms: Option<&Terms>, rules: Option<&KeyRules>) -> Option<Limit> {
    let of_terms = |limit: fn(&Terms) -> Option<u32>| terms.and_then(limit).and_then(NonZeroU32::new);
    let of_rules = |limit: fn(&KeyRules) -> Option<NonZeroU32>| rules.and_then(limit);
    let requests = of_rules(|rules| rules.requests_per_minute);
    let parallel = of_rules(|rules| rules.parallel_requests_max);
    let limit = Limit {
        scope,
        subject,
        requests_per_minute: narrower(of_terms(|terms| terms.requests_per_minute), requests),
        parallel_requests_max: narrower(of_terms(|terms| terms.parallel_requests_max), parallel),
    };
    (limit.requests_per_minute.is_some() || limit.parallel_requests_max.is_some()).then_some(limit)
}

fn narrower(left: Option<NonZeroU32>, right: Option<NonZeroU32>) -> Option<NonZeroU32> {
    left.into_iter().chain(right).min()
}
