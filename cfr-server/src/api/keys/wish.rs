//! What is asked of a key: a new one, and a change.

use std::num::NonZeroU32;
use std::sync::Arc;

use cfr_billing::identity::{ApiKey, KeyBudget, KeyKind, KeyPatch, KeyRules};
use cfr_core::money::Money as Amount;
use cfr_core::time::{Period as CorePeriod, Timestamp};
use ipnet::IpNet;
use jiff::SignedDuration;
use serde::Deserialize;
use utoipa::ToSchema;

use super::rights::Owner;
use crate::api::input::{Checks, nullable};
use crate::api::money::{Money, Period};
use crate::api::problem::Problem;
use crate::api::schema;
use crate::auth::KeyWish;

/// How long a key lives when nobody says otherwise (money.md §5.3).
const DEFAULT_LIFE: SignedDuration = SignedDuration::from_hours(365 * 24);
/// Networks that one key is bound to.
const NETWORKS_MAX: usize = 100;

/// A key to make: for a user, for a service of a tenant, or for the operator.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateKey {
    /// What it opens; `live` when absent.
    #[schema(value_type = Option<schema::KeyKind>)]
    pub(crate) kind: Option<KeyKind>,
    /// The id or e-mail address of the user that it acts for. Needed for `live` and `test`.
    pub(crate) user: Option<String>,
    /// The id or slug of the tenant that owns it. Needed for `service`.
    pub(crate) tenant: Option<String>,
    /// For people.
    #[schema(example = "laptop", min_length = 1, max_length = 200)]
    pub(crate) name: String,
    /// Public model names that it may use, within the product's; all of them when empty.
    #[serde(default)]
    pub(crate) models: Vec<String>,
    /// What a service or admin key may do in the management API: names of permissions. Nobody gives away what they do not
    /// have. An admin key without any may do everything.
    #[serde(default)]
    #[schema(example = json!(["users:read", "usage:read"]))]
    pub(crate) scopes: Vec<String>,
    /// Networks or addresses that it may be used from; from everywhere when empty.
    #[serde(default)]
    #[schema(example = json!(["192.0.2.0/24", "2001:db8::/32"]), max_items = 100)]
    pub(crate) networks: Vec<String>,
    /// Requests per minute, within what the product allows.
    #[schema(minimum = 1)]
    pub(crate) requests_per_minute: Option<u32>,
    /// Requests at the same time, within what the product allows.
    #[schema(minimum = 1)]
    pub(crate) parallel_requests_max: Option<u32>,
    /// Whether requests of a service key may be made for users whom a signed header names.
    #[serde(default)]
    pub(crate) on_behalf_of: bool,
    /// A budget of its own, beside those of its user and tenant.
    pub(crate) budget: Option<OwnBudget>,
    /// When it ends; in 365 days when absent, never when null.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<schema::Time>)]
    pub(crate) expires_at: Option<Option<Timestamp>>,
}

/// A budget of a key's own.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = KeyBudget)]
pub(crate) struct OwnBudget {
    /// What each period is granted, in the currency of the tenant's budgets.
    pub(crate) limit: Money,
    /// When it begins anew; each calendar month when absent.
    pub(crate) period: Option<Period>,
}

/// What to change of a key; what is absent stays.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeKey {
    /// A new name.
    pub(crate) name: Option<String>,
    /// `false` switches it off, `true` on again.
    pub(crate) enabled: Option<bool>,
    /// Other models; all of them when empty.
    pub(crate) models: Option<Vec<String>>,
    /// Other scopes.
    pub(crate) scopes: Option<Vec<String>>,
    /// Other networks; all of them when empty.
    #[schema(max_items = 100)]
    pub(crate) networks: Option<Vec<String>>,
    /// Another limit of requests per minute; `null` lifts it.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<u32>, minimum = 1)]
    pub(crate) requests_per_minute: Option<Option<u32>>,
    /// Another limit of requests at the same time; `null` lifts it.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<u32>, minimum = 1)]
    pub(crate) parallel_requests_max: Option<Option<u32>>,
    /// Whether its requests may be made for users whom a signed header names.
    pub(crate) on_behalf_of: Option<bool>,
    /// Another end; `null` for none.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<schema::Time>)]
    pub(crate) expires_at: Option<Option<Timestamp>>,
}

impl CreateKey {
    /// What it opens.
    pub(super) fn kind(&self) -> KeyKind {
        self.kind.unwrap_or(KeyKind::Live)
    }

    /// The key that is wanted, if it makes sense.
    pub(super) fn check(self, (tenant, user): Owner, now: Timestamp) -> Result<KeyWish, Problem> {
        let kind = self.kind();
        let expires_at = self.expires_at.unwrap_or_else(|| now.checked_add(DEFAULT_LIFE).ok());
        let mut checks = Checks::default();
        checks.name("name", &self.name);
        checks.names("models", &self.models);
        check_end(&mut checks, expires_at, now);
        check_on_behalf_of(&mut checks, self.on_behalf_of, kind);
        let rules = KeyRules {
            scopes: texts(self.scopes),
            networks: networks(&mut checks, &self.networks),
            requests_per_minute: limit(&mut checks, "requests_per_minute", self.requests_per_minute),
            parallel_requests_max: limit(&mut checks, "parallel_requests_max", self.parallel_requests_max),
            on_behalf_of: self.on_behalf_of,
        };
        checks.require(tenant.is_some() || self.budget.is_none(), "budget", "keys of the operator call no models");
        let budget = self.budget.and_then(|budget| budget.check(&mut checks, now));
        checks.finish()?;
        let (name, models) = (self.name.into(), texts(self.models));
        Ok(KeyWish { kind, tenant, user, name, models, rules, budget, expires_at })
    }
}

impl OwnBudget {
    fn check(self, checks: &mut Checks, now: Timestamp) -> Option<KeyBudget> {
        let limit = self.limit.check_positive("budget.limit", checks)?;
        let period = self.period.map_or(CorePeriod::CalendarMonth, |period| period.anchored(now));
        Some(KeyBudget { included_nanos: Amount::nanos(limit), period })
    }
}

impl ChangeKey {
    /// The change that is wanted, if it makes sense for this key.
    pub(super) fn check(self, key: &ApiKey, now: Timestamp) -> Result<KeyPatch, Problem> {
        let mut checks = Checks::default();
        if let Some(name) = &self.name {
            checks.name("name", name);
        }
        checks.names("models", self.models.as_deref().unwrap_or_default());
        check_end(&mut checks, self.expires_at.flatten(), now);
        check_on_behalf_of(&mut checks, self.on_behalf_of.unwrap_or_default(), key.kind);
        let mut rules = key.rules.clone();
        if let Some(scopes) = self.scopes {
            rules.scopes = texts(scopes);
        }
        if let Some(list) = &self.networks {
            rules.networks = networks(&mut checks, list);
        }
        if let Some(most) = self.requests_per_minute {
            rules.requests_per_minute = limit(&mut checks, "requests_per_minute", most);
        }
        if let Some(most) = self.parallel_requests_max {
            rules.parallel_requests_max = limit(&mut checks, "parallel_requests_max", most);
        }
        rules.on_behalf_of = self.on_behalf_of.unwrap_or(rules.on_behalf_of);
        checks.finish()?;
        Ok(KeyPatch {
            name: self.name.map(Into::into),
            enabled: self.enabled,
            models: self.models.map(texts),
            rules: (rules != key.rules).then_some(rules),
            expires_at: self.expires_at,
        })
    }
}

fn texts(list: Vec<String>) -> Vec<Arc<str>> {
    list.into_iter().map(Into::into).collect()
}

fn check_end(checks: &mut Checks, expires_at: Option<Timestamp>, now: Timestamp) {
    checks.require(expires_at.is_none_or(|end| end > now), "expires_at", "a moment in the future");
}

fn check_on_behalf_of(checks: &mut Checks, wanted: bool, kind: KeyKind) {
    checks.require(!wanted || kind == KeyKind::Service, "on_behalf_of", "for service keys only");
}

/// An address stands for the network that it is alone in.
fn networks(checks: &mut Checks, list: &[String]) -> Vec<IpNet> {
    checks.require(list.len() <= NETWORKS_MAX, "networks", "at most 100 entries");
    let network = |(index, text): (usize, &String)| {
        let parsed = text.parse::<IpNet>().or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from));
        let wrong = "an address or a network, as in 192.0.2.0/24";
        checks.take(&format!("networks[{index}]"), parsed.map_err(|_| wrong)).map(|network| network.trunc())
    };
    list.iter().enumerate().filter_map(network).collect()
}

fn limit(checks: &mut Checks, field: &str, most: Option<u32>) -> Option<NonZeroU32> {
    checks.require(most != Some(0), field, "1 or more");
    most.and_then(NonZeroU32::new)
}
