//! From a configuration and a price table to what a gateway offers: who answers, under which names, at which prices.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cfr_core::Upstream;
use cfr_core::batch::{BatchHost, BatchHosts};
use cfr_core::gateway::Offer;
use cfr_core::id::TenantId;
use cfr_core::price::{BUNDLED_JSON, Mode, OwnPrice, PriceEntry, PriceTable, PricedAs};
use cfr_core::route::{Health, Routes, Target};
use cfr_core::time::{SystemClock, Timestamp};
use cfr_core::upstream::{Capabilities, Upstreams};
use cfr_providers::HttpUpstream;
use cfr_providers::fake::{self, Fake};
use cfr_providers::media::{FetchMedia, MediaClient};
use cfr_providers::transport::reqwest::ClientError;
use cfr_providers::transport::{ReqwestTransport, Transport};

use super::stored::StoredUpstream;
use super::{Config, DeploymentConfig, ModelConfig, Problem, Problems, TargetConfig, UpstreamConfig, UpstreamKind};

/// How the price table marks models that do not answer on chat completions.
const RESPONSES_ONLY: &str = "responses_api_only";

/// What a gateway is built from.
#[derive(Debug)]
pub struct Offering {
    /// Models and prices.
    pub offer: Offer,
    /// Who answers.
    pub upstreams: Upstreams,
    /// Who works on batches.
    pub batches: BatchHosts,
    /// Public models that cannot be used yet, and why.
    pub warnings: Vec<String>,
}

/// Puts together what the configuration asks for. `imported` is the price table that an operator put into the store.
///
/// # Errors
/// [`Problems`] for an upstream that cannot be built and for prices that cannot be read.
pub fn offering(config: &Config, imported: Option<&[u8]>, now: Timestamp) -> Result<Offering, Problems> {
    let mut problems = Vec::new();
    let (upstreams, batches) = upstreams(config, &mut problems);
    let offer = prices(config, imported).and_then(|prices| offer(config, &[], &prices, now));
    let offer = offer.map_err(|problem| problems.push(problem)).ok();
    let (Some(offer), true) = (offer, problems.is_empty()) else {
        return Err(Problems { file: config.source.clone(), list: problems });
    };
    let warnings = warnings(config, &offer, now);
    Ok(Offering { offer, upstreams, batches, warnings })
}

/// Models and prices by this table, with the operator's own prices in it, and with the accounts of the store.
///
/// # Errors
/// When own prices contradict the table.
pub fn offer(
    config: &Config,
    stored: &[StoredUpstream],
    table: &Arc<PriceTable>,
    now: Timestamp,
) -> Result<Offer, Problem> {
    let own: Vec<_> = config.upstreams.iter().flat_map(|upstream| upstream.prices.iter().cloned()).collect();
    let prices = if own.is_empty() { Arc::clone(table) } else { Arc::new(with_own(table, &own)?) };
    Ok(Offer { routes: Arc::new(routes(config, stored, &prices, now)), prices, fx: Arc::new([config.fx]) })
}

fn with_own(table: &PriceTable, own: &[OwnPrice]) -> Result<PriceTable, Problem> {
    table.with_own_prices(own).map_err(|error| problem(None, "upstream.price", error.to_string()))
}

/// The operator's file, else what was imported into the store, else the bundled table.
///
/// # Errors
/// When it cannot be read.
pub fn prices(config: &Config, imported: Option<&[u8]>) -> Result<Arc<PriceTable>, Problem> {
    let json = prices_json(config, imported)?;
    let (name, table) = match (&config.prices, imported) {
        (Some(path), _) => (path.display().to_string(), PriceTable::from_json(&json).map(Arc::new)),
        // Prices that look like mistakes were accepted by whoever imported them.
        (None, Some(_)) => ("the imported price table".into(), PriceTable::from_json_waived(&json).map(Arc::new)),
        (None, None) => ("the bundled price table".into(), PriceTable::bundled()),
    };
    table.map_err(|error| problem(None, "prices", format!("{name}: {error}")))
}

/// The JSON of that table.
///
/// # Errors
/// When the operator's file cannot be read.
pub fn prices_json<'a>(config: &Config, imported: Option<&'a [u8]>) -> Result<Cow<'a, [u8]>, Problem> {
    let Some(path) = &config.prices else { return Ok(Cow::Borrowed(imported.unwrap_or(BUNDLED_JSON))) };
    let unreadable = |error| problem(None, "prices", format!("{}: {error}", path.display()));
    std::fs::read(path).map(Cow::Owned).map_err(unreadable)
}

fn problem(line: Option<usize>, key: &str, what: impl Into<String>) -> Problem {
    Problem { line, key: key.into(), what: what.into() }
}

fn upstreams(config: &Config, problems: &mut Vec<Problem>) -> (Upstreams, BatchHosts) {
    let mut wires = None;
    let (mut upstreams, mut batches) = (Upstreams::new(), BatchHosts::new());
    for upstream in &config.upstreams {
        match build(upstream, config, &mut wires) {
            Ok((built, host)) => {
                upstreams.insert(upstream.name.as_str().into(), built);
                batches.extend(host.map(|host| (upstream.name.as_str().into(), host)));
            }
            Err(what) => problems.push(problem(upstream.line, "upstream", format!("`{}`: {what}", upstream.name))),
        }
    }
    (upstreams, batches)
}

/// What all upstreams share: one pool of connections to providers, and the means to fetch what callers have elsewhere.
#[derive(Debug, Clone)]
struct Wires {
    transport: Arc<dyn Transport>,
    media: Option<Arc<dyn FetchMedia>>,
}

impl Wires {
    fn new(config: &Config) -> Result<Self, ClientError> {
        let media = config.media.clone().map(|rules| Arc::new(MediaClient::new(rules)) as Arc<dyn FetchMedia>);
        Ok(Self { transport: Arc::new(ReqwestTransport::new()?), media })
    }
}

/// An upstream, and what works on its batches.
type Built = (Arc<dyn Upstream>, Option<Arc<dyn BatchHost>>);

fn build(upstream: &UpstreamConfig, config: &Config, wires: &mut Option<Wires>) -> Result<Built, String> {
    let UpstreamKind::Provider(kind) = upstream.kind else {
        let fake = Fake::default();
        return Ok((Arc::new(fake.clone()), Some(Arc::new(fake))));
    };
    let Wires { transport, media } = match wires {
        Some(wires) => wires.clone(),
        None => wires.insert(Wires::new(config).map_err(|error| error.to_string())?).clone(),
    };
    let clock = Arc::new(SystemClock::new());
    let host =
        kind.batches(&upstream.account, &upstream.manner.headers, Arc::clone(&transport), Arc::clone(&clock) as _);
    let host = host.map_err(|error| error.to_string())?.map(|host| Arc::new(host) as Arc<dyn BatchHost>);
    let built = kind.upstream(&upstream.account, transport, clock);
    let built = built.map_err(|error| error.to_string())?.with_manner(&upstream.manner);
    Ok((Arc::new(media.into_iter().fold(built, HttpUpstream::with_media)), host))
}

/// Every priced model of every exposed upstream under its own name, a provider listed earlier first and accounts of the
/// store last; then the configured names, which replace those. What tenants brought themselves is theirs alone.
fn routes(config: &Config, stored: &[StoredUpstream], prices: &PriceTable, now: Timestamp) -> Routes {
    let of = |owner| stored.iter().filter(move |one| one.owner == owner).map(|one| &one.upstream);
    let configured: Vec<Account<'_>> = config.upstreams.iter().map(Account::of).collect();
    let added: Vec<Account<'_>> = of(None).map(Account::of).collect();
    let names = own_names(configured.iter().chain(&added), prices, now).into_iter();
    let routes = names.fold(Routes::default(), |routes, (name, targets)| routes.with(name, targets));
    let routes = config.models.iter().fold(routes, |routes, model| {
        let spare = more_targets(&configured, &added, model);
        routes.with(model.name.as_str(), targets(&configured, model).into_iter().chain(spare).collect())
    });
    let owners: BTreeSet<TenantId> = stored.iter().filter_map(|one| one.owner).collect();
    owners.into_iter().fold(routes, |routes, tenant| {
        let own: Vec<Account<'_>> = of(Some(tenant)).map(Account::of).collect();
        own_routes(routes, tenant, config, (&configured, &own), prices, now)
    })
}

/// The names under which a tenant's own accounts answer for it.
fn own_routes(
    routes: Routes,
    tenant: TenantId,
    config: &Config,
    (configured, own): (&[Account<'_>], &[Account<'_>]),
    prices: &PriceTable,
    now: Timestamp,
) -> Routes {
    let names = own_names(own.iter(), prices, now).into_iter();
    let routes = names.fold(routes, |routes, (name, targets)| routes.with_own(tenant, name, targets));
    let reached = config.models.iter().map(|model| (model, more_targets(configured, own, model)));
    reached
        .filter(|(_, targets)| !targets.is_empty())
        .fold(routes, |routes, (model, targets)| routes.with_own(tenant, model.name.as_str(), targets))
}

fn own_names<'a, 'b: 'a>(
    accounts: impl Iterator<Item = &'a Account<'b>>,
    prices: &'b PriceTable,
    now: Timestamp,
) -> BTreeMap<&'b str, Vec<Target>> {
    let mut names = BTreeMap::<&str, Vec<Target>>::new();
    for (order, account) in (0..).zip(accounts).filter(|(_, account)| account.upstream.expose) {
        for model in offered(account.upstream, prices, now) {
            names.entry(model).or_default().push(Target { order, ..account.target(model) });
        }
    }
    names
}

/// What further accounts of the same provider add to a configured model: the same places, behind another key.
fn more_targets(configured: &[Account<'_>], further: &[Account<'_>], model: &ModelConfig) -> Vec<Target> {
    let same = |one: &UpstreamConfig, other: &UpstreamConfig| {
        one.kind == other.kind && one.account.base_url == other.account.base_url
    };
    let wanted = model.targets.iter().filter_map(|wanted| {
        let named = configured.iter().find(|account| account.upstream.name == wanted.upstream)?;
        Some((wanted, named))
    });
    let places = wanted.flat_map(|(wanted, named)| {
        let others = further.iter().filter(|account| same(account.upstream, named.upstream));
        others.map(move |account| Target {
            weight: wanted.weight,
            order: wanted.order,
            price: priced_as(named.upstream, &wanted.model),
            ..account.target(&wanted.model)
        })
    });
    places.collect()
}

/// Names of models, dated ones included, that the upstream answers and that have a price now. Where the operator names
/// deployments, nothing else is there.
fn offered<'a>(upstream: &'a UpstreamConfig, prices: &'a PriceTable, now: Timestamp) -> BTreeSet<&'a str> {
    let serves = |entry: &PriceEntry| match entry.mode() {
        Mode::Chat => capabilities(upstream).chat && (!entry.has_flag(RESPONSES_ONLY) || has_responses(upstream)),
        Mode::Embedding => capabilities(upstream).embeddings,
        Mode::Moderation => capabilities(upstream).moderations,
        Mode::Rerank => capabilities(upstream).rerank,
        Mode::Image => capabilities(upstream).images,
        Mode::Stt => capabilities(upstream).transcriptions,
        Mode::Tts => capabilities(upstream).speech,
        Mode::Realtime => capabilities(upstream).realtime,
        _ => false,
    };
    if !upstream.deployments.is_empty() {
        let named = upstream.deployments.iter().map(|deployment| (&*deployment.model, &deployment.price));
        let usual = PricedAs::default();
        let own = upstream.prices.iter().map(|price| (&*price.model, &usual));
        let entry = |model: &str, price: &PricedAs| price.find(prices, &upstream.provider, model, now);
        let served = named.chain(own).filter(|(model, price)| entry(model, price).is_some_and(&serves));
        return served.map(|(model, _)| model).collect();
    }
    let entries = prices.entries().iter().filter(|entry| entry.provider() == upstream.provider && entry.holds_at(now));
    entries.filter(|entry| serves(entry)).flat_map(|entry| entry.aliases().chain([entry.model()])).collect()
}

/// Whether it answers models that only answer in the Responses dialect, whatever the caller's.
fn has_responses(upstream: &UpstreamConfig) -> bool {
    match upstream.kind {
        UpstreamKind::Fake => true,
        UpstreamKind::Provider(kind) => kind.has_responses(),
    }
}

fn capabilities(upstream: &UpstreamConfig) -> Capabilities {
    match upstream.kind {
        UpstreamKind::Fake => fake::CAPABILITIES,
        UpstreamKind::Provider(kind) => kind.capabilities(),
    }
}

fn targets(accounts: &[Account<'_>], model: &ModelConfig) -> Vec<Target> {
    let find = |wanted: &TargetConfig| accounts.iter().find(|account| account.upstream.name == wanted.upstream);
    let build = |wanted: &TargetConfig| {
        let target = find(wanted)?.target(&wanted.model);
        Some(Target { weight: wanted.weight, order: wanted.order, ..target })
    };
    model.targets.iter().filter_map(build).collect()
}

/// An upstream, and whether our account there is good: its targets share that.
struct Account<'a> {
    upstream: &'a UpstreamConfig,
    health: Arc<Health>,
}

impl<'a> Account<'a> {
    fn of(upstream: &'a UpstreamConfig) -> Self {
        Self { upstream, health: Arc::default() }
    }

    fn target(&self, model: &str) -> Target {
        let upstream = self.upstream;
        Target {
            region: upstream.account.region.as_deref().map(Arc::from),
            price: priced_as(upstream, model),
            account: Arc::clone(&self.health),
            ..Target::new(upstream.name.as_str(), upstream.provider.as_str(), model)
        }
    }
}

/// What the operator says of the price of a model: that of another one, figures of its own, or a factor for all.
fn priced_as(upstream: &UpstreamConfig, model: &str) -> PricedAs {
    let deployment = upstream.deployments.iter().find(|deployment| deployment.model == model);
    let own = || upstream.prices.iter().find(|price| *price.model == *model);
    match deployment {
        Some(deployment) => deployment.price.clone(),
        None if own().is_some() => PricedAs { model: Some(model.into()), ..PricedAs::default() },
        None => PricedAs { model: None, factor: upstream.price_factor },
    }
}

/// What an operator should know: names that nobody can use because something has no price.
fn warnings(config: &Config, offer: &Offer, now: Timestamp) -> Vec<String> {
    let unpriced = config.models.iter().filter_map(|model| offer.routes.find(&model.name)).flat_map(|model| {
        let unpriced = model.targets.iter().filter(|target| target.entry(&offer.prices, now).is_none());
        unpriced.map(|target| {
            let Target { model: upstream_model, provider, .. } = &**target;
            format!("model `{}`: `{upstream_model}` of `{provider}` has no price, so calls are refused", model.name)
        })
    });
    let unlike = config.upstreams.iter().flat_map(|upstream| {
        let like = |deployment: &&DeploymentConfig| {
            deployment.price.find(&offer.prices, &upstream.provider, &deployment.model, now).is_none()
        };
        upstream.deployments.iter().filter(like).map(|deployment| {
            let (name, like) = (&deployment.model, deployment.price.model.as_deref().unwrap_or_default());
            format!(
                "upstream `{}`: `{name}` is to cost what `{like}` of `{}` does, which has no price",
                upstream.name, upstream.provider
            )
        })
    });
    let silent = config.upstreams.iter().filter(|upstream| {
        !offer.routes.models().any(|model| model.targets.iter().any(|target| *target.upstream == *upstream.name))
    });
    let silent = silent.map(|upstream| {
        format!("upstream `{}` serves no model: add [[upstream.price]] for each that it has", upstream.name)
    });
    unpriced.chain(unlike).chain(silent).chain(stale(&offer.prices)).collect()
}

/// An old table charges old prices.
fn stale(prices: &PriceTable) -> Option<String> {
    let bundled = PriceTable::bundled().ok()?;
    (prices.as_of() < bundled.as_of())
        .then(|| format!("the price table in use is of {}, the bundled one of {}", prices.as_of(), bundled.as_of()))
}

/// What would run, for people.
///
/// # Errors
/// As [`offering`].
pub fn summary(config: &Config, now: Timestamp) -> Result<String, Problems> {
    let Offering { offer, warnings, .. } = offering(config, None, now)?;
    let mut text = String::new();
    let source =
        config.source.as_ref().map_or("none (defaults and environment)".into(), |path| path.display().to_string());
    let rate = config.fx.usd_per_unit_e6();
    let mut line = |name: &str, value: String| text.push_str(&format!("{name:<12} {value}\n"));
    line("config", source);
    line("listen", config.listen.clone());
    line("data", config.data.display().to_string());
    line("database", config.database_url().to_string());
    line("redis", if config.redis.is_some() { "yes" } else { "no" }.into());
    line("cache", config.cache.as_ref().map_or("off".into(), |cache| cache.policy.models.join(", ")));
    line("currency", format!("{} at {}.{:06} USD", config.fx.currency(), rate / 1_000_000, rate % 1_000_000));
    line("durability", format!("{:?}", config.ledger.durability).to_lowercase());
    for upstream in &config.upstreams {
        let kind = match upstream.kind {
            UpstreamKind::Fake => "fake",
            UpstreamKind::Provider(kind) => kind.name(),
        };
        let proof = upstream.account.proof().map_or("without a key".to_owned(), |proof| format!("with {proof}"));
        line("upstream", format!("{} ({kind}, {proof}, prices of {})", upstream.name, upstream.provider));
    }
    let mut names: Vec<_> = offer.routes.models().map(|model| &*model.name).collect();
    names.sort_unstable();
    line("models", format!("{} ({})", names.len(), names.join(", ")));
    for warning in &warnings {
        line("warning", warning.clone());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered_with(text: &str, variables: &[&str]) -> Offering {
        let read = |name: &str| variables.contains(&name).then(|| "sk-0123456789abcdef".to_owned());
        let config = Config::parse(None, text, &read).expect("good");
        offering(&config, None, "2026-11-21T00:00:00Z".parse().expect("a time")).expect("an offering")
    }

    fn names(offering: &Offering) -> Vec<String> {
        let mut names: Vec<_> = offering.offer.routes.models().map(|model| model.name.to_string()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn one_key_in_the_environment_offers_that_providers_priced_models() {
        let offering = offered_with("", &["OPENAI_API_KEY"]);
        let names = names(&offering);
        let has = |name: &str| names.iter().any(|known| known == name);
        assert!(has("gpt-4o-mini") && has("gpt-5.4-mini-2026-03-17") && has("text-embedding-3-small"));
        assert!(has("o3-pro"), "it answers on Responses only, whatever the caller speaks");
        assert!(has("gpt-image-2") && has("whisper-1") && has("gpt-4o-mini-tts"));
        assert!(!has("claude-sonnet-4-6"));
        assert_eq!(offering.warnings, Vec::<String>::new());
    }

    #[test]
    fn models_of_every_kind_are_offered_by_providers_that_can_do_it() {
        let text = "[[upstream]]\nname = \"rerank\"\nkind = \"cohere\"\napi_key = \"key-0123456789\"\n";
        let cohere = names(&offered_with(text, &[]));
        let prices = PriceTable::bundled().expect("loads");
        let now = "2026-11-21T00:00:00Z".parse().expect("a time");
        let modes = [(Mode::Chat, true), (Mode::Embedding, true), (Mode::Rerank, true), (Mode::Image, false)];
        for (mode, offered) in modes {
            let is = |entry: &&PriceEntry| entry.provider() == "cohere" && entry.mode() == mode && entry.holds_at(now);
            let all = prices.entries().iter().filter(is);
            let mut found = all.map(|entry| cohere.iter().any(|name| name == entry.model()));
            assert!(found.all(|found| found == offered), "{mode:?}");
        }
    }

    #[test]
    fn a_model_of_two_providers_tries_the_one_listed_first() {
        let both = |first: &str, second: &str| {
            let section =
                |name: &str| format!("[[upstream]]\nname = \"{name}\"\nkind = \"fake\"\nprovider = \"openai\"\n");
            let offering = offered_with(&format!("{}{}", section(first), section(second)), &[]);
            let model = offering.offer.routes.find("gpt-4o").expect("offered");
            model.targets.iter().map(|target| (target.upstream.to_string(), target.order)).collect::<Vec<_>>()
        };
        assert_eq!(both("a", "b"), [("a".into(), 0), ("b".into(), 1)]);
        assert_eq!(both("b", "a"), [("b".into(), 0), ("a".into(), 1)]);
    }

    #[test]
    fn own_prices_make_models_and_missing_ones_make_warnings() {
        let text = "[[upstream]]\nname = \"own\"\nkind = \"vllm\"\n[[upstream.price]]\nmodel = \"llama\"\nfree = true\n\
            [[upstream]]\nname = \"bare\"\nkind = \"ollama\"\n\
            [[model]]\nname = \"alias\"\ntargets = [{ upstream = \"own\", model = \"unpriced\" }]";
        let offering = offered_with(text, &[]);
        assert_eq!(names(&offering), ["alias", "llama"]);
        let warnings = offering.warnings.join("\n");
        assert!(warnings.contains("`unpriced` of `own` has no price"), "{warnings}");
        assert!(warnings.contains("upstream `bare` serves no model"), "{warnings}");
    }

    #[test]
    fn the_summary_names_everything_but_secrets() {
        let read = |name: &str| (name == "OPENAI_API_KEY").then(|| "sk-very-secret-key".to_owned());
        let config = Config::parse(None, "", &read).expect("good");
        let text = summary(&config, "2026-11-21T00:00:00Z".parse().expect("a time")).expect("a summary");
        for part in [
            "redis        no",
            "cache        off",
            "127.0.0.1:4000",
            "EUR at 1.160000 USD",
            "overlap",
            "openai (openai, with a key",
            "gpt-4o-mini",
        ] {
            assert!(text.contains(part), "`{part}` is missing:\n{text}");
        }
        assert!(!text.contains("very-secret"));
    }
}
