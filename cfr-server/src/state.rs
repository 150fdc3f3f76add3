//! The running parts, put together once: books, keys, gateway.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cfr_billing::escrow::{Escrow, EscrowConfig};
use cfr_billing::store::{Store, StoreError};
use cfr_core::gateway::{Gateway, GatewayConfig};
use cfr_core::ledger::{BudgetLedger, LedgerError};
use cfr_core::price::PriceTable;
use cfr_core::time::Clock;
use cfr_store_sqlite::{OpenError, SqliteOptions, SqliteStore};

use crate::api::{ApiState, PriceDesk};
use crate::auth::{Keys, Pepper, PepperError};
use crate::config::{Config, Offering, Problems, Settings, offer, offering};
use crate::files::make_private_folder;
use crate::observe::Metrics;

/// The database inside the data folder.
pub const DATABASE: &str = "cfr.db";
/// This process among those that share a database. An SQLite file has only one.
const NODE: &str = "local";

/// How long the parts may take to say that they work.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Why nothing runs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The database cannot be opened.
    #[error("{open}{hint}", open = .0, hint = next_step(.0))]
    Open(#[from] OpenError),
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ledger cannot write its last entries.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// There is no secret to hash keys with.
    #[error(transparent)]
    Pepper(#[from] PepperError),
    /// The configuration is wrong.
    #[error("{0}")]
    Config(#[from] Problems),
    /// A file in the data folder cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

fn next_step(error: &OpenError) -> &'static str {
    match error {
        OpenError::Folder { .. } | OpenError::LockFile { .. } => "; name a folder that is writable with --data",
        _ => "",
    }
}

/// Makes the data folder for its owner alone, when it is missing: it holds keys, and the names of people.
///
/// # Errors
/// When it cannot be made.
pub fn make_data_folder(data: &Path) -> Result<(), OpenError> {
    make_private_folder(data).map_err(|source| OpenError::Folder { path: database(data), source })
}

/// The books of one data folder, open for writing. Only one process has them.
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
    sqlite: Arc<SqliteStore>,
}

impl Books {
    /// Opens the data folder, makes it when it is missing, and ends what an earlier process left open.
    ///
    /// # Errors
    /// When another process has it, or it cannot be read, written or understood.
    pub async fn open(config: &Config, clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        let mut options = SqliteOptions::default();
        options.synchronous = config.ledger.synchronous;
        make_data_folder(&config.data)?;
        let sqlite = Arc::new(SqliteStore::open(database(&config.data), options).await?);
        let store: Arc<dyn Store> = Arc::clone(&sqlite) as _;
        let pepper = match &config.pepper {
            Some(secret) => Pepper::new(secret)?,
            None => Pepper::load_or_create(&config.data)?,
        };
        let escrow = Escrow::start(Arc::clone(&store) as _, Arc::clone(&clock), escrow_config(config)).await?;
        let keys = Keys::new(Arc::clone(&store) as _, Arc::clone(&clock), pepper);
        let keys = Arc::new(match &config.admin_key {
            Some(key) => keys.with_operator(key),
            None => keys,
        });
        Ok(Self { store, escrow, keys, clock, sqlite })
    }

    /// Writes what is open and closes the file.
    ///
    /// # Errors
    /// When the last entries cannot be written; the next start then finds them as open holds.
    pub async fn close(self) -> Result<(), StartError> {
        self.escrow.shutdown().await?;
        let Self { store, escrow, keys, clock: _, sqlite } = self;
        drop((store, escrow, keys));
        match Arc::into_inner(sqlite) {
            Some(sqlite) => Ok(sqlite.close().await?),
            None => {
                tracing::warn!("the database is still in use and is left to be checked at the next start");
                Ok(())
            }
        }
    }
}

/// The database of a data folder.
#[must_use]
pub fn database(data: &Path) -> PathBuf {
    data.join(DATABASE)
}

fn escrow_config(config: &Config) -> EscrowConfig {
    let hold_max = gateway_config(config).hold_max;
    EscrowConfig { orphan_policy: config.ledger.orphan_policy, hold_max, ..EscrowConfig::new(NODE) }
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
    config: Arc<Config>,
    started_at: i64,
}

impl App {
    /// Puts a gateway over open books.
    ///
    /// # Errors
    /// When upstreams, models or prices of the configuration contradict each other.
    pub async fn new(config: Config, books: Books) -> Result<Self, StartError> {
        let imported = books.store.latest_prices().await?;
        let Offering { offer, upstreams, warnings } = match offering(&config, imported.as_deref(), books.clock.now()) {
            Ok(offering) => offering,
            Err(problems) => {
                books.close().await?; // nothing runs, so nothing is left open
                return Err(problems.into());
            }
        };
        warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        let metrics = Arc::new(Metrics::new());
        let ledger: Arc<dyn BudgetLedger> = Arc::clone(&books.escrow) as _;
        let gateway = Gateway::builder(ledger, offer, Arc::clone(&books.clock)).config(gateway_config(&config));
        let gateway = upstreams.into_iter().fold(gateway, |gateway, (name, upstream)| gateway.upstream(name, upstream));
        Ok(Self {
            settings: config.settings,
            gateway: gateway.post_hook(Arc::clone(&metrics) as _).build(),
            metrics,
            keys: Arc::clone(&books.keys),
            clock: Arc::clone(&books.clock),
            started_at: books.clock.now().as_second(),
            books,
            config: Arc::new(config),
        })
    }

    /// When the process began, in seconds since 1970.
    #[must_use]
    pub const fn started_at(&self) -> i64 {
        self.started_at
    }

    /// What keeps calls from being accepted, in words that anybody may read; none when nothing does.
    pub async fn problem(&self) -> Option<&'static str> {
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

    /// What the management API reaches.
    #[must_use]
    pub fn api_state(&self) -> ApiState {
        ApiState {
            store: Arc::clone(&self.books.store),
            escrow: Arc::clone(&self.books.escrow),
            clock: Arc::clone(&self.clock),
            keys: Arc::clone(&self.keys),
            prices: Arc::new(RunningPrices {
                gateway: self.gateway.clone(),
                config: Arc::clone(&self.config),
                clock: Arc::clone(&self.clock),
            }),
        }
    }

    /// Closes the books. Nobody may hold another reference to the app.
    ///
    /// # Errors
    /// As [`Books::close`].
    pub async fn close(self) -> Result<(), StartError> {
        let Self { books, gateway, keys, .. } = self;
        drop((gateway, keys));
        books.close().await
    }
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
struct RunningPrices {
    gateway: Gateway,
    config: Arc<Config>,
    clock: Arc<dyn Clock>,
}

impl PriceDesk for RunningPrices {
    fn current(&self) -> Arc<PriceTable> {
        Arc::clone(&self.gateway.offer().prices)
    }

    fn complete(&self, imported: &PriceTable) -> Result<Arc<PriceTable>, String> {
        let completed = offer(&self.config, &Arc::new(imported.clone()), self.clock.now());
        completed.map(|offer| offer.prices).map_err(|problem| problem.what)
    }

    /// Models follow the table: one that it prices anew is served from now on. A table that contradicts the operator's
    /// own prices changes nothing.
    fn replace(&self, prices: Arc<PriceTable>) {
        match offer(&self.config, &prices, self.clock.now()) {
            Ok(offer) => self.gateway.set_offer(offer),
            Err(problem) => tracing::error!(key = problem.key, "{}: the old prices stay", problem.what),
        }
    }
}
