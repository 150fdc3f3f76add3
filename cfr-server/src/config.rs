//! What runs, and how: a TOML file, then the environment, then the command line.
//!
//! Every mistake is found before anything starts, with its file, line and key. Secrets are read here and print nowhere.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cfr_billing::escrow::EscrowConfig;
use cfr_billing::store::OrphanPolicy;
use cfr_core::cache::CachePolicy;
use cfr_core::gateway::{Durability, GatewayConfig};
use cfr_core::money::FxRate;
use cfr_core::price::{Factor, OwnPrice, PricedAs};
use cfr_core::secret::Secret;
use cfr_providers::media::MediaRules;
use cfr_providers::registry::{Account, Kind};
use cfr_providers::upstream::Manner;
use cfr_store_sqlite::Synchronous;
use http::StatusCode;

use crate::auth::KeyText;
use crate::federation::FederationConfig;
use crate::mail::MailConfig;
use crate::oidc::Issuer;
use crate::secrets::MasterKeySource;
use crate::serve::Proxies;

mod database;
mod file;
mod offer;
mod resolve;
mod stored;

pub use database::{DatabaseConfig, DatabaseUrl, FILE as DATABASE, Migration, PostgresUrl};
pub use offer::{Offering, offer, offering, prices, prices_json, summary};
pub use stored::{StoredUpstream, known as known_provider};

/// Where the server listens when nobody says.
pub const LISTEN: &str = "127.0.0.1:4000";
/// Where the data is when nobody says.
pub const DATA: &str = "./cfr-data";
/// The file that is read when nobody names one and it exists.
pub const FILE: &str = "cfr.toml";
/// The largest request body when nobody says.
pub const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The largest form with files when nothing else is configured: OpenAI takes recordings of 25 MB and images of 50 MB.
pub const FORM_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long a session of the realtime API may last when nobody says: OpenAI ends its own then.
pub const REALTIME_SESSION_MAX: Duration = Duration::from_mins(60);
/// How long running calls may take to finish at the end, when nobody says.
pub const DRAIN: Duration = Duration::from_secs(30);
/// What the only process of an SQLite file calls itself.
pub const LOCAL_NODE: &str = "local";
/// What is said of an address that Redis cannot have.
#[cfg(feature = "redis")]
pub(crate) const REDIS_ADDRESS: &str =
    "not an address of Redis, as in redis://:password@host:6379/0 or rediss://… for TLS";
/// What every key in Redis begins with when nobody says.
pub const REDIS_PREFIX: &str = "cfr";
/// How long Redis may take to answer before requests go on without it, when nobody says.
pub const REDIS_TIMEOUT: Duration = Duration::from_millis(50);
/// What cached answers may take of the memory when nobody says.
pub const CACHE_MEMORY_BYTES: usize = 64 * 1024 * 1024;
/// How long leads are kept after they were last changed, when nobody says.
pub const LEADS_KEPT: Duration = Duration::from_hours(365 * 24);
/// Dollars for one euro, in millionths, when nobody says: a rate that an operator should set.
pub const USD_PER_EUR_E6: i64 = 1_160_000;

/// How long the auditor waits between two looks at a few accounts, when nobody says.
pub const AUDIT_PAUSE: Duration = Duration::from_secs(5);

/// Reads a variable of the environment.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What runs, and how.
#[derive(Debug)]
pub struct Config {
    /// The file that it comes from.
    pub source: Option<PathBuf>,
    /// SHA-256 of its text: whoever compares two knows whether it was changed.
    pub digest: [u8; 32],
    /// Where to listen: an address and a port.
    pub listen: String,
    /// The folder of an SQLite file and of keys.
    pub data: PathBuf,
    /// Where the books are.
    pub database: DatabaseConfig,
    /// Where replicas share what they can do without.
    pub redis: Option<RedisConfig>,
    /// Whose answers are kept.
    pub cache: Option<CacheConfig>,
    /// A price table in place of the bundled one.
    pub prices: Option<PathBuf>,
    /// How long running calls may take to finish at the end.
    pub drain: Duration,
    /// How long calls and their parts may take.
    pub timeouts: Timeouts,
    /// What is fetched of pictures and documents that callers give by their addresses; none when nothing is.
    pub media: Option<MediaRules>,
    /// How browsers reach this server; none when nobody said.
    pub public_url: Option<Issuer>,
    /// Who brings letters; none when nobody does.
    pub mail: Option<MailConfig>,
    /// Other providers that people may sign in with.
    pub sign_in: Vec<FederationConfig>,
    /// Hosts inside the network that are called when people sign in and out: other providers, and programs of tenants.
    pub sign_in_hosts: Vec<String>,
    /// Whose word counts for where requests come from.
    pub proxies: Proxies,
    /// Hosts inside the network that accounts of the store may name.
    pub account_hosts: Vec<String>,
    /// What waits for what.
    pub ledger: LedgerConfig,
    /// What every request reads.
    pub settings: Settings,
    /// The currency of budgets and its rate.
    pub fx: FxRate,
    /// Whether somebody set that rate.
    pub fx_is_set: bool,
    /// Who answers.
    pub upstreams: Vec<UpstreamConfig>,
    /// Public names beside the providers' own.
    pub models: Vec<ModelConfig>,
    /// The secret under which keys are hashed; kept in the data folder when none.
    pub pepper: Option<Secret>,
    /// Where the keys are under which secrets in the database are sealed; in the data folder when nobody says.
    pub master_key: Option<MasterKeySource>,
    /// A key for the management API that is in no store.
    pub admin_key: Option<KeyText>,
    /// The name of this machine, if it can be a node's.
    host: Option<Arc<str>>,
}

/// A Redis server.
#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// Its address, which may hold a password.
    pub url: Secret,
    /// What every key there begins with.
    pub prefix: String,
    /// How long it may take to answer.
    pub answer_timeout: Duration,
}

/// The response cache.
#[derive(Debug, Clone)]
pub struct CacheConfig {
    /// Whose answers are kept, for how long, and what a hit costs.
    pub policy: CachePolicy,
    /// What answers may take of this process's memory where no Redis keeps them.
    pub memory_bytes: usize,
}

/// What every request reads of the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The largest request body.
    pub body_bytes_max: usize,
    /// The largest form with files.
    pub form_bytes_max: usize,
    /// The status of an exhausted budget.
    pub budget_status: StatusCode,
    /// Whether answers say what they cost.
    pub cost_headers: bool,
    /// How long a session of the realtime API may last.
    pub realtime_session_max: Duration,
    /// What one person may grant to a budget within a day alone, in nano-units of its currency; none for everything.
    pub second_person_above: Option<i64>,
    /// How long leads are kept after they were last changed.
    pub leads_kept: Duration,
}

/// How long a call and its parts may take.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// An upstream's status line.
    pub header: Duration,
    /// Silence in a stream.
    pub idle: Duration,
    /// The whole call; then its upstream is cut off and what was delivered is charged.
    pub hold: Duration,
}

/// How money becomes durable.
#[derive(Debug, Clone)]
pub struct LedgerConfig {
    /// What waits for the hold.
    pub durability: Durability,
    /// Whether the last byte waits for the charge.
    pub ack_settle: bool,
    /// How safe a commit is.
    pub synchronous: Synchronous,
    /// How holds of a dead process end.
    pub orphan_policy: OrphanPolicy,
    /// What this process calls itself among those that share a database.
    pub node: Option<Arc<str>>,
    /// How long a process that lost the shared database makes holds from what it has.
    pub lease: Duration,
    /// How long after its longest call a process that is not heard of is taken for dead.
    pub reclaim_grace: Duration,
    /// How long rights lie unused before they go back.
    pub idle: Option<Duration>,
    /// How long the auditor waits between two looks at a few accounts; zero when it does not run.
    pub audit: Duration,
    /// Whether books that do not agree stop new calls.
    pub halt_on_violation: bool,
}

/// One server that answers.
#[derive(Debug, Clone)]
pub struct UpstreamConfig {
    /// Its name in targets, logs and metrics.
    pub name: String,
    /// What it is.
    pub kind: UpstreamKind,
    /// Our account there.
    pub account: Account,
    /// Whose prices hold, by the name in the price table.
    pub provider: String,
    /// Whether its priced models are public under their own names.
    pub expose: bool,
    /// What is wanted of every call to it.
    pub manner: Manner,
    /// What prices of the table are multiplied with.
    pub price_factor: Factor,
    /// Prices of models that the table does not have.
    pub prices: Vec<OwnPrice>,
    /// Models under names of our own, which cost what others of the table do.
    pub deployments: Vec<DeploymentConfig>,
    line: Option<usize>,
}

/// A model under a name of our own.
#[derive(Debug, Clone)]
pub struct DeploymentConfig {
    /// The upstream's name for it.
    pub model: String,
    /// What it costs.
    pub price: PricedAs,
}

/// What an upstream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamKind {
    /// Built in; answers without a network.
    Fake,
    /// A provider over the network.
    Provider(Kind),
}

/// A public name and who answers for it.
#[derive(Debug)]
pub struct ModelConfig {
    /// What clients ask for.
    pub name: String,
    /// Who answers.
    pub targets: Vec<TargetConfig>,
    line: Option<usize>,
}

/// One way to have a model answered.
#[derive(Debug)]
pub struct TargetConfig {
    /// The upstream by its name.
    pub upstream: String,
    /// The upstream's own name of the model.
    pub model: String,
    /// Its share among targets of the same order.
    pub weight: u32,
    /// Lower ones are tried first.
    pub order: u32,
}

/// Whether a provider's key that is not there is a mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProviderKeys {
    /// Providers will be called.
    Needed,
    /// Only the data folder matters: whoever manages users need not hold the providers' keys.
    Ignored,
}

/// Something that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where, in the file; none for the environment.
    pub line: Option<usize>,
    /// Which key or variable.
    pub key: String,
    /// What is wrong.
    pub what: String,
}

/// Everything that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problems {
    /// The file.
    pub file: Option<PathBuf>,
    /// In the order of the file.
    pub list: Vec<Problem>,
}

/// How the names of our variables begin: what is wrong with one is not in the file.
const VARIABLES: &str = "CFR_";

/// One line for each problem: `cfr.toml:12: money.currency: a currency is three capital letters, as in EUR`.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.list.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            match (&self.file, problem.line) {
                (Some(file), Some(line)) => write!(f, "{}:{line}: ", file.display())?,
                (Some(file), None) if !problem.key.starts_with(VARIABLES) => write!(f, "{}: ", file.display())?,
                _ => {}
            }
            if !problem.key.is_empty() {
                write!(f, "{}: ", problem.key)?;
            }
            f.write_str(&problem.what)?;
        }
        Ok(())
    }
}

impl Config {
    /// Uses this database in place of the configured one.
    ///
    /// # Errors
    /// When it is none that we know.
    pub fn use_database(&mut self, url: &Secret) -> Result<(), Problems> {
        let refused = |what: &str| Problem { line: None, key: database::OPTION.into(), what: what.into() };
        let url = DatabaseUrl::parse(url).map_err(|what| Problems { file: None, list: vec![refused(what)] })?;
        (self.database.url, self.database.named_by) = (Some(url), database::OPTION);
        Ok(())
    }

    /// Where the books are: as configured, else in the data folder.
    #[must_use]
    pub fn database_url(&self) -> DatabaseUrl {
        self.database.url.clone().unwrap_or_else(|| DatabaseUrl::of_folder(&self.data))
    }

    /// What this process calls itself among those that share its database: the machine's name when nobody says.
    ///
    /// # Errors
    /// When the machine has no name that can be one.
    pub fn node(&self) -> Result<Arc<str>, Problems> {
        let named = self.ledger.node.clone();
        let usual = || if self.database_url().is_shared() { self.host.clone() } else { Some(LOCAL_NODE.into()) };
        named.or_else(usual).ok_or_else(|| {
            let what = "this machine has no name that can be used: set it, or CFR_NODE".into();
            Problems { file: None, list: vec![Problem { line: None, key: "ledger.node".into(), what }] }
        })
    }

    /// Reads a file, or [`FILE`] when it exists, and the environment.
    ///
    /// # Errors
    /// [`Problems`] with all of them.
    pub fn load(path: Option<&Path>, environment: Environment<'_>) -> Result<Self, Problems> {
        Self::read(path, environment, ProviderKeys::Needed)
    }

    /// As [`Config::load`], for commands that call no provider: a key that is not there is no mistake.
    ///
    /// # Errors
    /// [`Problems`] with all others.
    pub fn load_without_keys(path: Option<&Path>, environment: Environment<'_>) -> Result<Self, Problems> {
        Self::read(path, environment, ProviderKeys::Ignored)
    }

    fn read(path: Option<&Path>, environment: Environment<'_>, keys: ProviderKeys) -> Result<Self, Problems> {
        let default = Path::new(FILE);
        let path = path.or_else(|| default.exists().then_some(default));
        let Some(path) = path else { return Self::parse_with(None, "", environment, keys) };
        let text = std::fs::read_to_string(path).map_err(|error| Problems {
            file: Some(path.into()),
            list: vec![Problem { line: None, key: String::new(), what: format!("cannot be read: {error}") }],
        })?;
        Self::parse_with(Some(path), &text, environment, keys)
    }

    /// Reads the text of a file, and the environment.
    ///
    /// # Errors
    /// [`Problems`] with all of them.
    pub fn parse(path: Option<&Path>, text: &str, environment: Environment<'_>) -> Result<Self, Problems> {
        Self::parse_with(path, text, environment, ProviderKeys::Needed)
    }

    fn parse_with(
        path: Option<&Path>,
        text: &str,
        environment: Environment<'_>,
        keys: ProviderKeys,
    ) -> Result<Self, Problems> {
        let problems = |list| Problems { file: path.map(Path::to_path_buf), list };
        let file = file::parse(text).map_err(|problem| problems(vec![problem]))?;
        resolve::resolve(path, text, file, environment, keys).map_err(problems)
    }
}

fn usual_engine() -> EscrowConfig {
    EscrowConfig::new(LOCAL_NODE)
}

impl Default for LedgerConfig {
    fn default() -> Self {
        Self {
            durability: Durability::Overlap,
            ack_settle: true,
            synchronous: Synchronous::Full,
            orphan_policy: OrphanPolicy::Evidence,
            node: None,
            lease: usual_engine().lease_ttl,
            reclaim_grace: usual_engine().reclaim_grace,
            idle: None,
            audit: AUDIT_PAUSE,
            halt_on_violation: false,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        let usual = GatewayConfig::default();
        Self { header: usual.header_timeout, idle: usual.idle_timeout, hold: usual.hold_max }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            body_bytes_max: BODY_BYTES_MAX,
            form_bytes_max: FORM_BYTES_MAX,
            budget_status: StatusCode::PAYMENT_REQUIRED,
            cost_headers: false,
            realtime_session_max: REALTIME_SESSION_MAX,
            second_person_above: None,
            leads_kept: LEADS_KEPT,
        }
    }
}
