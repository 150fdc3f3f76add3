//! Which upstreams may answer for a model, and in which order they are tried.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;
use smallvec::SmallVec;

use crate::id::TenantId;
use crate::price::{PriceEntry, PriceTable, PricedAs};
use crate::upstream::UpstreamError;

mod failover;
mod health;

pub use failover::{ATTEMPTS_MAX, Failure, first_success};
pub use health::Health;

/// Targets of one model.
pub const TARGETS_MAX: usize = 16;

/// One model of one upstream.
#[derive(Debug)]
pub struct Target {
    /// The upstream by its configured name.
    pub upstream: Arc<str>,
    /// The provider whose prices hold, by its name in the price table.
    pub provider: Arc<str>,
    /// The upstream's own name of the model.
    pub model: Arc<str>,
    /// Its share among targets of the same order.
    pub weight: u32,
    /// Lower ones are tried first.
    pub order: u32,
    /// The region of its endpoint, for prices that depend on it.
    pub region: Option<Arc<str>>,
    /// What the operator says of its price.
    pub price: PricedAs,
    /// Whether it answers at present.
    pub health: Health,
    /// Whether our account there is good; targets of one account share it.
    pub account: Arc<Health>,
}

impl Target {
    /// A target with weight 1 and order 0.
    #[must_use]
    pub fn new(upstream: impl Into<Arc<str>>, provider: impl Into<Arc<str>>, model: impl Into<Arc<str>>) -> Self {
        Self {
            upstream: upstream.into(),
            provider: provider.into(),
            model: model.into(),
            weight: 1,
            order: 0,
            region: None,
            price: PricedAs::default(),
            health: Health::default(),
            account: Arc::default(),
        }
    }
}

impl Target {
    /// The price that holds at a moment.
    #[must_use]
    pub fn entry<'a>(&self, prices: &'a PriceTable, at: Timestamp) -> Option<&'a PriceEntry> {
        self.price.find(prices, &self.provider, &self.model, at)
    }

    /// Whether it is to be left alone at this uptime.
    #[must_use]
    pub fn is_cooling(&self, uptime: Duration) -> bool {
        self.health.is_cooling(uptime) || self.account.is_cooling(uptime)
    }

    /// It answered.
    pub fn succeeded(&self) {
        self.health.succeeded();
    }

    /// It failed. A refusal of our key is every target's of the account; being forbidden something may be one model's.
    pub fn failed(&self, error: &UpstreamError, uptime: Duration) {
        self.complain(error);
        let refused = matches!(error, UpstreamError::Account { status, .. } if *status != StatusCode::FORBIDDEN);
        let health = if refused { &*self.account } else { &self.health };
        health.failed(error, uptime);
    }

    /// Tells what the operator has to mend: the caller may be answered by another target.
    fn complain(&self, error: &UpstreamError) {
        let said = match error {
            UpstreamError::Account { message, .. } | UpstreamError::RateLimited { exhausted: true, message, .. } => {
                message
            }
            _ => return,
        };
        let (upstream, model) = (&*self.upstream, &*self.model);
        tracing::warn!(upstream, model, said = &**said, "our account is refused or used up: {error}");
    }
}

/// A public model and who answers for it.
#[derive(Debug, Clone)]
pub struct Model {
    /// The name that callers use.
    pub name: Arc<str>,
    /// Who answers.
    pub targets: Vec<Arc<Target>>,
}

impl Model {
    fn new(name: impl Into<Arc<str>>, targets: Vec<Target>) -> Arc<Self> {
        let targets = targets.into_iter().take(TARGETS_MAX).map(Arc::new).collect();
        Arc::new(Self { name: name.into(), targets })
    }
}

/// Every public model. Immutable; a change is another value.
#[derive(Debug, Clone, Default)]
pub struct Routes {
    models: HashMap<Arc<str>, Arc<Model>>,
    /// What tenants brought themselves.
    own: HashMap<TenantId, HashMap<Arc<str>, Arc<Model>>>,
}

impl Routes {
    /// Adds a public model; a second one of the same name takes its place.
    #[must_use]
    pub fn with(mut self, name: impl Into<Arc<str>>, targets: Vec<Target>) -> Self {
        let model = Model::new(name, targets);
        self.models.insert(Arc::clone(&model.name), model);
        self
    }

    /// Adds targets that answer for one tenant alone, before those that answer for everybody under this name.
    #[must_use]
    pub fn with_own(mut self, tenant: TenantId, name: impl Into<Arc<str>>, targets: Vec<Target>) -> Self {
        let model = Model::new(name, targets);
        self.own.entry(tenant).or_default().insert(Arc::clone(&model.name), model);
        self
    }

    /// What a tenant brought itself under this name.
    #[must_use]
    pub fn own(&self, tenant: TenantId, name: &str) -> Option<&Arc<Model>> {
        self.own.get(&tenant)?.get(name)
    }

    /// Every model that a tenant may ask for, in no order. One that it brought itself and that is everybody's too is there
    /// twice.
    pub fn models_of(&self, tenant: TenantId) -> impl Iterator<Item = &Arc<Model>> {
        self.models().chain(self.own.get(&tenant).into_iter().flat_map(HashMap::values))
    }

    /// Every target, whoever it answers.
    pub fn targets(&self) -> impl Iterator<Item = &Arc<Target>> {
        let own = self.own.values().flat_map(HashMap::values);
        self.models().chain(own).flat_map(|model| &model.targets)
    }

    /// The model with this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Arc<Model>> {
        self.models.get(name)
    }

    /// Every model, in no order.
    pub fn models(&self) -> impl Iterator<Item = &Arc<Model>> {
        self.models.values()
    }
}

/// Targets in the order in which they are to be tried.
pub type Plan = SmallVec<[Arc<Target>; 4]>;

/// Orders the targets of a model: those that answer before those that cool down, lower orders first, and the first place
/// of the first order drawn by weight. `pick` is a random number; the same one gives the same plan.
#[must_use]
pub fn plan(model: &Model, uptime: Duration, pick: u64) -> Plan {
    let mut targets: Plan = model.targets.iter().cloned().collect();
    if targets.len() > 1 {
        let rank = |target: &Target| (target.is_cooling(uptime), target.order);
        targets.sort_by_cached_key(|target| rank(target));
        let best = rank(&targets[0]);
        let rivals = targets.iter().take_while(|target| rank(target) == best).count();
        let first = draw(&targets[..rivals], pick);
        targets[..=first].rotate_right(1);
    }
    targets
}

/// The plan of a model for a tenant: what it brought itself comes first, unless that cools down. None for a model that
/// nobody has.
#[must_use]
pub fn plan_for(routes: &Routes, tenant: TenantId, name: &str, uptime: Duration, pick: u64) -> Option<Plan> {
    let shared = routes.find(name).map(|model| plan(model, uptime, pick));
    let Some(own) = routes.own(tenant, name) else { return shared };
    let mut all = plan(own, uptime, pick);
    all.extend(shared.into_iter().flatten());
    all.sort_by_key(|target| target.is_cooling(uptime));
    Some(all)
}

/// The place of one target, each with a chance in proportion to its weight.
fn draw(targets: &[Arc<Target>], pick: u64) -> usize {
    let total: u64 = targets.iter().map(|target| u64::from(target.weight)).sum();
    let mut rest = pick.checked_rem(total).unwrap_or(0);
    for (place, target) in targets.iter().enumerate() {
        let weight = u64::from(target.weight);
        if rest < weight {
            return place;
        }
        rest -= weight;
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(targets: Vec<Target>) -> Model {
        Model { name: "m".into(), targets: targets.into_iter().map(Arc::new).collect() }
    }

    #[test]
    fn lower_orders_come_first() {
        let late = Target { order: 1, ..Target::new("late", "p", "m") };
        let plan = plan(&model(vec![late, Target::new("early", "p", "m")]), Duration::ZERO, 3);
        assert_eq!(plan.iter().map(|target| &*target.upstream).collect::<Vec<_>>(), ["early", "late"]);
    }

    #[test]
    fn what_a_tenant_brought_comes_first_for_it_and_never_for_others() {
        let (tenant, other) = (TenantId::from_u128(1), TenantId::from_u128(2));
        let routes = Routes::default()
            .with("m", vec![Target::new("shared", "p", "m")])
            .with_own(tenant, "m", vec![Target { order: 9, ..Target::new("own", "p", "m") }])
            .with_own(tenant, "private", vec![Target::new("own", "p", "private")]);
        let names = |tenant, name, uptime| {
            let plan = plan_for(&routes, tenant, name, uptime, 0)?;
            Some(plan.iter().map(|target| target.upstream.to_string()).collect::<Vec<_>>())
        };
        let now = Duration::ZERO;
        assert_eq!(names(tenant, "m", now), Some(vec!["own".into(), "shared".into()]));
        assert_eq!(names(other, "m", now), Some(vec!["shared".into()]));
        assert_eq!(names(tenant, "private", now), Some(vec!["own".into()]));
        assert_eq!(names(other, "private", now), None);
        routes.own(tenant, "m").expect("it is there").targets[0].health.cool_down(Duration::from_secs(5));
        assert_eq!(names(tenant, "m", now), Some(vec!["shared".into(), "own".into()]));
    }

    #[test]
    fn a_cooling_target_comes_last_but_comes() {
        let cooling = Target::new("cooling", "p", "m");
        cooling.health.cool_down(Duration::from_secs(5));
        let model = model(vec![cooling, Target { order: 9, ..Target::new("other", "p", "m") }]);
        assert_eq!(&*plan(&model, Duration::from_secs(1), 0)[0].upstream, "other");
        assert_eq!(&*plan(&model, Duration::from_secs(6), 0)[0].upstream, "cooling");
    }

    #[test]
    fn a_refused_key_cools_every_target_of_the_account_and_a_forbidden_model_itself_alone() {
        let account = Arc::<Health>::default();
        let target = |model| Target { account: Arc::clone(&account), ..Target::new("one", "p", model) };
        let (first, second, other) = (target("a"), target("b"), Target::new("two", "p", "a"));
        let refused = |status| UpstreamError::Account { status, message: "".into() };
        let cooling = || [&first, &second, &other].map(|target| target.is_cooling(Duration::from_secs(1)));
        first.failed(&refused(StatusCode::FORBIDDEN), Duration::ZERO);
        assert_eq!(cooling(), [true, false, false]);
        first.failed(&refused(StatusCode::UNAUTHORIZED), Duration::ZERO);
        assert_eq!(cooling(), [true, true, false]);
    }

    #[test]
    fn weights_share_the_first_place() {
        let model = model(vec![
            Target { weight: 3, ..Target::new("three", "p", "m") },
            Target::new("one", "p", "m"),
            Target { weight: 0, ..Target::new("never first", "p", "m") },
        ]);
        let first = (0..4_000).filter(|&pick| &*plan(&model, Duration::ZERO, pick)[0].upstream == "three").count();
        assert_eq!(first, 3_000, "three of four");
    }
}
