//! The running parts, put together once: books, keys, gateway.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cfr_billing::escrow::{Escrow, EscrowConfig};
use cfr_billing::store::{CatalogStore, Store, StoreError, missing_migrations};
use cfr_core::broadcast::Broadcast;
use cfr_core::gateway::{Gateway, GatewayConfig};
use cfr_core::ledger::{BudgetLedger, LedgerError};
use cfr_core::price::PriceTable;
use cfr_core::route::Routes;
use cfr_core::time::{Clock, Timestamp};
use cfr_store_sqlite::OpenError;
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use crate::accounts::{AccountDesk, RunningAccounts};
use crate::api::{ApiState, PriceDesk};
use crate::auditor::{Auditor, Halt, Halting};
use crate::auth::{Callers, Keys, Pepper, PepperError};
use crate::batches::BatchDesk;
use crate::compat::holds::OutsideDesk;
use crate::config::{Config, Offering, PostgresUrl, Problems, Settings, offer, offering, prices, prices_json};
use crate::database::Database;
use crate::federation::{Federation, FederationConfig};
use crate::mail::{Letters, MailProblem, Postman};
use crate::notices::Listener;
use crate::observe::Metrics;
use crate::oidc::{Issuer, Provider};
use crate::people::{People, Sweeper};
use crate::secrets::{MasterKeySource, Vault, VaultError};
use crate::serve::Proxies;
use crate::shared::Shared;
use crate::upkeep;

/// How long the parts may take to say that they work.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Why nothing runs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The database cannot be opened.
    #[error("{}", about_file(path, source))]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: OpenError,
    },
    /// The Postgres database cannot be opened.
    #[error("{named_by}: {source}")]
    OpenPostgres {
        /// What named it: a variable, a key of the configuration, or an option.
        named_by: &'static str,
        /// Why.
        source: cfr_store_postgres::OpenError,
    },
    /// The schema is not up to date, and it is not for this command to change it.
    #[error(
        "{database} lacks {}; run `cfr-server migrate`, or use the version of the servers that run on it",
        missing_migrations(missing)
    )]
    OlderSchema {
        /// The database.
        database: Box<str>,
        /// What is missing.
        missing: Vec<String>,
    },
    /// The data folder cannot be made.
    #[error("cannot make the folder {}: {source}; name a folder that is writable with --data", path.display())]
    DataFolder {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ledger cannot write its last entries.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The secrets in the database cannot be read.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// There is no secret to hash keys with.
    #[error(transparent)]
    Pepper(#[from] PepperError),
    /// The configuration is wrong.
    #[error("{0}")]
    Config(#[from] Problems),
    /// The address of the SMTP server is none.
    #[error("mail.smtp_url: {0}")]
    Mail(#[from] MailProblem),
    /// The address of Redis is none.
    #[error("redis.url: {0}")]
    Redis(Box<str>),
    /// A file in the data folder cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

impl StartError {
    /// Why an SQLite file was not opened.
    pub(crate) fn of_file(path: &Path) -> impl FnOnce(OpenError) -> Self {
        move |source| match source {
            OpenError::OlderSchema { missing } => {
                Self::OlderSchema { database: path.display().to_string().into(), missing }
            }
            source => Self::Open { path: path.to_owned(), source },
        }
    }

    /// Why a Postgres database was not opened.
    pub(crate) fn of_postgres(
        url: &PostgresUrl,
        named_by: &'static str,
    ) -> impl FnOnce(cfr_store_postgres::OpenError) -> Self {
        move |source| match source {
            cfr_store_postgres::OpenError::OlderSchema { missing } => {
                Self::OlderSchema { database: url.to_string().into(), missing }
            }
            source => Self::OpenPostgres { named_by, source },
        }
    }
}

fn about_file(path: &Path, error: &OpenError) -> String {
    match error {
        OpenError::InUse { .. } => error.to_string(),
        OpenError::Folder { .. } | OpenError::LockFile { .. } => {
            format!("{error}; name a folder that is writable with --data")
        }
        OpenError::Store(StoreError::Unavailable { reason } | StoreError::Unwritable { reason }) => {
            format!("{}: {reason}", path.display())
        }
        error => format!("{}: {error}", path.display()),
    }
}

/// The books, open for writing, with everything that decides over them. Only one process has an SQLite file; many share
/// a Postgres database.
#[derive(Debug)]
pub struct Books {
    /// Everything durable.
    pub store: Arc<dyn Store>,
    /// Decides over money.
    pub escrow: Arc<Escrow>,
    /// Knows keys.
    pub keys: Arc<Keys>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Word between the processes that share the database.
    pub broadcast: Arc<dyn Broadcast>,
    /// Seals secrets.
    pub vault: Arc<Vault>,
    /// Writes letters.
    pub letters: Letters,
    /// Who signs in.
    pub people: Arc<People>,
    /// What the store is.
    pub database: Database,
    /// What replicas share beside it.
    pub shared: Shared,
}

impl Books {
    /// Opens the database, makes it when it is missing, and ends what earlier processes left open.
    ///
    /// # Errors
    /// When another process has it, or it cannot be read, written or understood.
    pub async fn open(config: &Config, clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        let database = Database::open(config).await?;
        let pepper = pepper(config, &database, clock.now()).await?;
        let books = Self::over(database, Ok(pepper), config, clock).await?;
        match books.vault.check().await {
            Ok(()) => Ok(books),
            Err(error) => {
                books.close().await?; // nothing runs, so nothing is left open
                Err(error.into())
            }
        }
    }

    /// The same for a command beside the servers. It leaves the schema as it is, and needs the secret that keys are hashed
    /// with only when it makes a key.
    ///
    /// # Errors
    /// As [`Books::open`], and when the schema is not up to date.
    pub async fn open_for_command(config: &Config, clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        let database = Database::open_as_it_is(config).await?;
        let pepper = match pepper(config, &database, clock.now()).await {
            Ok(pepper) => Ok(pepper),
            Err(StartError::Pepper(missing)) => Err(missing),
            Err(error) => return Err(error),
        };
        Self::over(database, pepper, config, clock).await
    }

    async fn over(
        database: Database,
        pepper: Result<Pepper, PepperError>,
        config: &Config,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StartError> {
        let escrow_config = escrow_config(config)?;
        let store = database.store();
        let escrow = Escrow::start(Arc::clone(&store) as _, Arc::clone(&clock), escrow_config).await?;
        let shared = Shared::start(config, &escrow, &clock).await?;
        let broadcast = shared.broadcast(database.broadcast());
        let keys = Keys::new(Arc::clone(&store) as _, Arc::clone(&clock), pepper, Arc::clone(&broadcast));
        let keys = Arc::new(match &config.admin_key {
            Some(key) => keys.with_operator(key),
            None => keys,
        });
        let vault = Arc::new(Vault::new(Arc::clone(&store) as _, Arc::clone(&clock), master_key(config)));
        let letters = Letters::new(Arc::clone(&vault), config.public_url.clone(), config.mail.as_ref());
        let people =
            People::new(Arc::clone(&store), Arc::clone(&vault), Arc::clone(&keys), letters.clone(), Arc::clone(&clock));
        let doors = config.public_url.is_some().then(|| config.sign_in.iter().map(FederationConfig::door).collect());
        let people = Arc::new(people.with_doors(doors.unwrap_or_default()));
        Ok(Self { store, escrow, keys, clock, broadcast, vault, letters, people, database, shared })
    }

    /// An OpenID provider for the people here; none where keys are not hashed.
    fn provider(&self, issuer: Issuer, inside: &[String]) -> Option<Provider> {
        let (people, keys) = (Arc::clone(&self.people), Arc::clone(&self.keys));
        let (vault, clock) = (Arc::clone(&self.vault), Arc::clone(&self.clock));
        Provider::new(issuer, Arc::clone(&self.store), people, keys, vault, clock, inside)
    }

    /// Signing in with other providers; none where there are none.
    fn federation(&self, config: &Config) -> Option<Federation> {
        let (store, people, clock) = (Arc::clone(&self.store), Arc::clone(&self.people), Arc::clone(&self.clock));
        let inside = &config.sign_in_hosts;
        Federation::new(config.sign_in.clone(), config.public_url.clone()?, store, people, &self.keys, clock, inside)
    }

    /// Writes what is open, gives back what was leased, and closes the database.
    ///
    /// # Errors
    /// When the last entries cannot be written; the next start then finds them as open holds.
    pub async fn close(self) -> Result<(), StartError> {
        self.escrow.shutdown().await?;
        let Self { store, escrow, keys, clock: _, broadcast, vault, letters, people, database, shared } = self;
        drop((store, escrow, keys, broadcast, vault, letters, people));
        shared.close().await;
        database.close().await
    }
}

/// What is not given is in the data folder: only the one server of a file may make it there.
fn master_key(config: &Config) -> MasterKeySource {
    let folder = || match config.database_url().is_shared() {
        true => MasterKeySource::SharedFolder(config.data.clone()),
        false => MasterKeySource::Folder(config.data.clone()),
    };
    config.master_key.clone().unwrap_or_else(folder)
}

/// What the fingerprint of the pepper is agreed upon as.
pub(crate) const PEPPER: &str = "key_pepper";

/// The secret that keys are hashed with: the same in every process that shares the database.
async fn pepper(config: &Config, database: &Database, now: Timestamp) -> Result<Pepper, StartError> {
    let agreed = database.agreed(PEPPER).await?;
    let (pepper, place) = match (&config.pepper, &agreed) {
        (Some(secret), _) => (Pepper::new(secret)?, "CFR_KEY_PEPPER".into()),
        (None, None) => (Pepper::load_or_create(&config.data)?, config.data.display().to_string()),
        (None, Some(_)) => {
            let folder = config.data.display().to_string();
            let found = Pepper::load(&config.data)?;
            (found.ok_or_else(|| PepperError::Elsewhere { folder: folder.as_str().into() })?, folder)
        }
    };
    let ours = pepper.fingerprint();
    let agreed = match agreed {
        Some(agreed) => agreed,
        None => database.agree(PEPPER, &ours, now).await?,
    };
    if agreed == ours { Ok(pepper) } else { Err(PepperError::Another { place: place.into() }.into()) }
}

fn escrow_config(config: &Config) -> Result<EscrowConfig, Problems> {
    Ok(EscrowConfig {
        lease_ttl: config.ledger.lease,
        hold_max: gateway_config(config).hold_max,
        reclaim_grace: config.ledger.reclaim_grace,
        idle_after: config.ledger.idle,
        orphan_policy: config.ledger.orphan_policy,
        ..EscrowConfig::new(config.node()?)
    })
}

/// Everything that a request can reach.
#[derive(Debug)]
pub struct App {
    /// What every request reads of the configuration.
    pub settings: Settings,
    /// The books and keys.
    pub books: Books,
    /// Answers calls.
    pub gateway: Gateway,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Knows keys; the same as in the books.
    pub keys: Arc<Keys>,
    /// The time; the same as in the books.
    pub clock: Arc<dyn Clock>,
    /// Knows who calls models.
    pub callers: Callers,
    /// Lets programs sign people in; none where nobody said how browsers reach this server.
    pub oidc: Option<Arc<Provider>>,
    /// Lets people sign in with other providers; none where there are none.
    pub federation: Option<Arc<Federation>>,
    /// Makes batches and looks after them.
    pub batches: Arc<BatchDesk>,
    /// Whose word counts for where requests come from.
    pub(crate) proxies: Proxies,
    prices: Arc<RunningPrices>,
    account_desk: Arc<AccountDesk>,
    started_at: i64,
    /// Whether new calls are stopped because the books do not agree.
    halt: Arc<Halt>,
    /// What runs beside the requests, until the end.
    tasks: JoinSet<()>,
    /// Changes of the management API that go on when whoever asked for them has left.
    running: TaskTracker,
}

impl App {
    /// Puts a gateway over open books.
    ///
    /// # Errors
    /// When upstreams, models or prices of the configuration contradict each other.
    pub async fn new(config: Config, books: Books) -> Result<Self, StartError> {
        let imported = books.store.latest_prices().await?;
        let Offering { offer, upstreams, batches, warnings } =
            match offering(&config, imported.as_deref(), books.clock.now()) {
                Ok(offering) => offering,
                Err(problems) => {
                    books.close().await?; // nothing runs, so nothing is left open
                    return Err(problems.into());
                }
            };
        warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        let postman = match postman(&config, &books) {
            Ok(postman) => postman,
            Err(problem) => {
                books.close().await?; // nothing runs, so nothing is left open
                return Err(problem.into());
            }
        };
        let metrics = Arc::new(Metrics::with_redis(books.shared.metrics.clone()));
        let halt = Arc::new(Halt::default());
        let ledger: Arc<dyn BudgetLedger> = match config.ledger.halt_on_violation {
            true => Arc::new(Halting::new(Arc::clone(&books.escrow) as _, Arc::clone(&halt))),
            false => Arc::clone(&books.escrow) as _,
        };
        let gateway = Gateway::builder(ledger, offer, Arc::clone(&books.clock)).config(gateway_config(&config));
        let configured = upstreams.clone();
        let gateway = upstreams.into_iter().fold(gateway, |gateway, (name, upstream)| gateway.upstream(name, upstream));
        let gateway = books.shared.equip(gateway, &config, &books.clock);
        let gateway = match books.keys.owned_ids() {
            Some(ids) => gateway.id_seal(Arc::new(ids)),
            None => gateway,
        };
        let gateway = gateway.post_hook(Arc::clone(&metrics) as _).build();
        let (settings, proxies) = (config.settings, config.proxies.clone());
        let (audit, halts) = (config.ledger.audit, config.ledger.halt_on_violation);
        let federation = books.federation(&config).map(Arc::new);
        let issuer = config.public_url.clone();
        let oidc = issuer.and_then(|issuer| books.provider(issuer, &config.sign_in_hosts)).map(Arc::new);
        let clock = Arc::clone(&books.clock);
        let account_desk = Arc::new(AccountDesk::new(&config));
        let accounts = RunningAccounts {
            store: Arc::clone(&books.store) as _,
            vault: Arc::clone(&books.vault),
            desk: Arc::clone(&account_desk),
            configured,
            known: Mutex::new(Arc::new([])),
        };
        let store = Arc::clone(&books.store) as _;
        let prices = RunningPrices { gateway: gateway.clone(), config: Arc::new(config), clock, accounts, store };
        let prices = Arc::new(prices);
        prices.reload_accounts().await;
        let mut tasks = JoinSet::new();
        if let Some(postman) = postman {
            tasks.spawn(postman.work());
        }
        tasks.spawn(Sweeper::new(Arc::clone(&books.store) as _, Arc::clone(&books.clock)).work());
        if !audit.is_zero() {
            let store = Arc::clone(&books.store) as _;
            tasks.spawn(Auditor::new(store, Arc::clone(&metrics), Arc::clone(&halt), halts, audit).run());
        }
        let (keys, store) = (Arc::clone(&books.keys), Arc::clone(&books.store) as _);
        let listener = Listener { keys, prices: Arc::clone(&prices), store };
        tasks.spawn(listener.follow(books.broadcast.subscribe()));
        let money = (Arc::clone(&books.store), Arc::clone(&books.escrow));
        let (clock, halted) = (Arc::clone(&books.clock), Arc::clone(&halt));
        let batches = BatchDesk::new(gateway.clone(), batches, money, clock, halted, settings.body_bytes_max);
        let batches = Arc::new(batches);
        tasks.spawn(upkeep::run(
            Arc::clone(&books.keys),
            Arc::clone(&books.store),
            Arc::clone(&books.clock),
            settings.leads_kept,
        ));
        tasks.spawn(Arc::clone(&batches).work());
        let outside = (Arc::clone(&books.store), Arc::clone(&books.escrow), Arc::clone(&books.clock));
        tasks.spawn(OutsideDesk::new(outside.0, outside.1, outside.2).work());
        if let Some(provider) = &oidc {
            tasks.spawn(Arc::clone(provider).work());
        }
        let (keys, store, clock) = (Arc::clone(&books.keys), Arc::clone(&books.store), Arc::clone(&books.clock));
        let callers = Callers::new(keys, store, clock, oidc.clone());
        Ok(Self {
            settings,
            proxies,
            gateway,
            metrics,
            keys: Arc::clone(&books.keys),
            clock: Arc::clone(&books.clock),
            callers,
            oidc,
            federation,
            started_at: books.clock.now().as_second(),
            books,
            batches,
            prices,
            account_desk,
            halt,
            tasks,
            running: TaskTracker::new(),
        })
    }

    /// When the process began, in seconds since 1970.
    #[must_use]
    pub const fn started_at(&self) -> i64 {
        self.started_at
    }

    /// What keeps calls from being accepted, in words that anybody may read; none when nothing does.
    pub async fn problem(&self) -> Option<&'static str> {
        if self.halt.is_set() {
            return Some("the books do not agree: run `cfr-server ledger verify`");
        }
        let flushed = tokio::time::timeout(ANSWER_TIMEOUT, self.books.escrow.flush()).await;
        if !matches!(flushed, Ok(Ok(()))) {
            return Some("the ledger cannot write");
        }
        let read = tokio::time::timeout(ANSWER_TIMEOUT, self.books.store.tenant_by_slug("")).await;
        if !matches!(read, Ok(Ok(_))) {
            return Some("the store cannot be read");
        }
        None
    }

    /// Whether nothing new may be held, because the books do not agree.
    pub(crate) fn is_halted(&self) -> bool {
        self.halt.is_set()
    }

    /// What the management API reaches.
    #[must_use]
    pub fn api_state(&self) -> ApiState {
        ApiState {
            store: Arc::clone(&self.books.store),
            escrow: Arc::clone(&self.books.escrow),
            clock: Arc::clone(&self.clock),
            keys: Arc::clone(&self.keys),
            prices: Arc::clone(&self.prices) as _,
            vault: Arc::clone(&self.books.vault),
            letters: self.books.letters.clone(),
            accounts: Arc::clone(&self.account_desk),
            broadcast: Arc::clone(&self.books.broadcast),
            second_person_above: self.settings.second_person_above,
            sign_ins: Some(Arc::clone(&self.books.people) as _),
            running: self.running.clone(),
        }
    }

    /// Closes the books. Nobody may hold another reference to the app.
    ///
    /// # Errors
    /// As [`Books::close`].
    pub async fn close(self) -> Result<(), StartError> {
        let Self { books, gateway, keys, batches, prices, callers, oidc, federation, mut tasks, running, .. } = self;
        tasks.shutdown().await;
        running.close();
        running.wait().await;
        if let Err(error) = keys.write_uses().await {
            tracing::warn!(%error, "when keys were last used is not known to the minute");
        }
        drop((gateway, keys, batches, prices, callers, oidc, federation));
        books.close().await
    }
}

/// Who brings letters, where somebody said through which server.
fn postman(config: &Config, books: &Books) -> Result<Option<Postman>, MailProblem> {
    let (Some(mail), Some(origin)) = (&config.mail, &config.public_url) else { return Ok(None) };
    let (store, vault, clock) = (Arc::clone(&books.store) as _, Arc::clone(&books.vault), Arc::clone(&books.clock));
    Postman::new(store, vault, clock, mail, origin.clone()).map(Some)
}

fn gateway_config(config: &Config) -> GatewayConfig {
    GatewayConfig {
        durability: config.ledger.durability,
        ack_settle: config.ledger.ack_settle,
        hold_max: config.timeouts.hold,
        header_timeout: config.timeouts.header,
        idle_timeout: config.timeouts.idle,
        ..GatewayConfig::default()
    }
}

/// The price table of the running gateway.
#[derive(Debug)]
pub(crate) struct RunningPrices {
    gateway: Gateway,
    config: Arc<Config>,
    clock: Arc<dyn Clock>,
    accounts: RunningAccounts,
    store: Arc<dyn CatalogStore>,
}

impl RunningPrices {
    /// Calls the accounts of the store as they are now. When they cannot be read, those that are called stay.
    pub(crate) async fn reload_accounts(self: &Arc<Self>) {
        let had_none = self.accounts.known().is_empty();
        let imported = match self.accounts.read().await {
            Ok(_) if had_none && self.accounts.known().is_empty() => return,
            Ok(upstreams) => {
                self.gateway.set_upstreams(upstreams);
                self.store.latest_prices().await
            }
            Err(error) => Err(error),
        };
        match imported {
            Ok(imported) => self.reload(imported).await,
            Err(error) => tracing::warn!(%error, "accounts at providers were changed, but cannot be read yet"),
        }
    }

    /// Puts the table in force that a start would find, given the newest imported one.
    pub(crate) async fn reload(self: &Arc<Self>, imported: Option<Vec<u8>>) {
        let desk = Arc::clone(self);
        // A megabyte of JSON takes milliseconds: not on a thread that forwards answers.
        let read = tokio::task::spawn_blocking(move || match prices(&desk.config, imported.as_deref()) {
            Ok(table) => desk.replace(table),
            Err(problem) => tracing::error!(key = problem.key, "{}: the old prices stay", problem.what),
        });
        if let Err(error) = read.await {
            tracing::error!(%error, "the imported prices could not be read: the old ones stay");
        }
    }
}

impl PriceDesk for RunningPrices {
    fn current(&self) -> Arc<PriceTable> {
        Arc::clone(&self.gateway.offer().prices)
    }

    fn offered(&self) -> Arc<Routes> {
        Arc::clone(&self.gateway.offer().routes)
    }

    fn complete(&self, imported: &PriceTable) -> Result<Arc<PriceTable>, String> {
        let completed = offer(&self.config, &self.accounts.known(), &Arc::new(imported.clone()), self.clock.now());
        completed.map(|offer| offer.prices).map_err(|problem| problem.what)
    }

    fn source(&self, imported: Option<Vec<u8>>) -> Result<Vec<u8>, String> {
        let json = prices_json(&self.config, imported.as_deref());
        json.map(Cow::into_owned).map_err(|problem| problem.what)
    }

    /// Models follow the table: one that it prices anew is served from now on. A table that contradicts the operator's
    /// own prices changes nothing.
    fn replace(&self, prices: Arc<PriceTable>) {
        match offer(&self.config, &self.accounts.known(), &prices, self.clock.now()) {
            Ok(offer) => self.gateway.set_offer(offer),
            Err(problem) => tracing::error!(key = problem.key, "{}: the old prices stay", problem.what),
        }
    }
}
