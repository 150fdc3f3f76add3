//! The database as the server sees it: either store behind one URL, and what differs between the two.

use std::path::Path;
use std::sync::Arc;

use cfr_billing::store::{Store, StoreError};
use cfr_core::broadcast::{Broadcast, LocalBroadcast};
use cfr_core::time::Timestamp;
use cfr_store_postgres::{PostgresOptions, PostgresStore};
use cfr_store_sqlite::{SqliteOptions, SqliteStore};

use crate::config::{Config, DatabaseUrl, Migration, PostgresUrl};
use crate::files::make_private_folder;
use crate::state::StartError;

/// Connections to the database; none for a file.
#[derive(Debug, Clone, Copy, Default)]
pub struct PoolUse {
    /// Those that are open.
    pub open: u32,
    /// Those that work now.
    pub in_use: u32,
}

/// An open database.
#[derive(Debug)]
pub enum Database {
    /// One file, which this process owns.
    Sqlite(Arc<SqliteStore>),
    /// A server, which other processes use as well.
    Postgres(Arc<PostgresStore>),
}

impl Database {
    /// Opens what the configuration names for reading and writing. Makes an SQLite file when it is missing, and brings the
    /// schema up to date unless the configuration leaves that to somebody else.
    ///
    /// # Errors
    /// One line with the next step.
    pub async fn open(config: &Config) -> Result<Self, StartError> {
        Self::open_with(config, config.database.migration == Migration::Auto).await
    }

    /// Opens it for reading and writing beside the servers that use it: the schema stays theirs.
    ///
    /// # Errors
    /// As [`Database::open`], and when the schema is not up to date.
    pub async fn open_as_it_is(config: &Config) -> Result<Self, StartError> {
        Self::open_with(config, false).await
    }

    async fn open_with(config: &Config, upgrade: bool) -> Result<Self, StartError> {
        match config.database_url() {
            DatabaseUrl::Sqlite(path) => {
                make_data_folder(&config.data)?;
                let mut options = SqliteOptions::default();
                (options.synchronous, options.upgrade) = (config.ledger.synchronous, upgrade);
                let opened = SqliteStore::open(&path, options).await;
                Ok(Self::Sqlite(Arc::new(opened.map_err(StartError::of_file(&path))?)))
            }
            DatabaseUrl::Postgres(url) => {
                let mut options = postgres_options(config);
                options.upgrade = upgrade;
                let opened = PostgresStore::open(url.expose(), options).await;
                Ok(Self::Postgres(Arc::new(opened.map_err(of_postgres(config, &url))?)))
            }
        }
    }

    /// Opens it for reading, also while servers write to it.
    ///
    /// # Errors
    /// When it is missing, not ours, or of another version.
    pub async fn open_read_only(config: &Config) -> Result<Self, StartError> {
        match config.database_url() {
            DatabaseUrl::Sqlite(path) => {
                let opened = SqliteStore::open_read_only(&path).await;
                Ok(Self::Sqlite(Arc::new(opened.map_err(StartError::of_file(&path))?)))
            }
            DatabaseUrl::Postgres(url) => {
                let opened = PostgresStore::open_read_only(url.expose(), postgres_options(config)).await;
                Ok(Self::Postgres(Arc::new(opened.map_err(of_postgres(config, &url))?)))
            }
        }
    }

    /// The migrations that it still needs. Changes nothing.
    ///
    /// # Errors
    /// As [`Database::open_read_only`].
    pub async fn pending_migrations(config: &Config) -> Result<Vec<String>, StartError> {
        match config.database_url() {
            DatabaseUrl::Sqlite(path) => {
                SqliteStore::pending_migrations(&path).await.map_err(StartError::of_file(&path))
            }
            DatabaseUrl::Postgres(url) => {
                let pending = PostgresStore::pending_migrations(url.expose(), postgres_options(config)).await;
                pending.map_err(of_postgres(config, &url))
            }
        }
    }

    /// Brings it up to date, whoever does so otherwise. Makes an SQLite file when it is missing.
    ///
    /// # Errors
    /// As [`Database::open`].
    pub async fn migrate(config: &Config) -> Result<(), StartError> {
        Self::open_with(config, true).await?.close().await
    }

    /// Everything durable.
    #[must_use]
    pub fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Sqlite(store) => Arc::clone(store) as _,
            Self::Postgres(store) => Arc::clone(store) as _,
        }
    }

    /// Word between the processes that share it.
    #[must_use]
    pub fn broadcast(&self) -> Arc<dyn Broadcast> {
        match self {
            Self::Sqlite(_) => Arc::new(LocalBroadcast::default()),
            Self::Postgres(store) => Arc::clone(store) as _,
        }
    }

    /// What its connections do now.
    #[must_use]
    pub fn pool_use(&self) -> PoolUse {
        match self {
            Self::Sqlite(_) => PoolUse::default(),
            Self::Postgres(store) => {
                let (open, in_use) = store.connections();
                PoolUse { open, in_use }
            }
        }
    }

    /// What the processes that share it agreed upon under this name: `value` from now on, if nobody decided before. The
    /// only process of a file agrees with itself.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn agree(&self, name: &str, value: &[u8], now: Timestamp) -> Result<Vec<u8>, StoreError> {
        match self {
            Self::Sqlite(_) => Ok(value.to_owned()),
            Self::Postgres(store) => store.agree(name, value, now).await,
        }
    }

    /// What was agreed upon, if anything was.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn agreed(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        match self {
            Self::Sqlite(_) => Ok(None),
            Self::Postgres(store) => store.agreed(name).await,
        }
    }

    /// Waits for what is being written and closes it. Nobody else may hold the store any longer.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn close(self) -> Result<(), StartError> {
        match self {
            Self::Sqlite(store) => match Arc::into_inner(store) {
                Some(store) => Ok(store.close().await?),
                None => {
                    tracing::warn!("the database is still in use and is left to be checked at the next start");
                    Ok(())
                }
            },
            Self::Postgres(store) => match Arc::into_inner(store) {
                Some(store) => Ok(store.close().await?),
                None => Ok(()), // what was committed is safe
            },
        }
    }
}

/// Makes the data folder for its owner alone, when it is missing: it holds keys, and the names of people.
///
/// # Errors
/// When it cannot be made.
pub fn make_data_folder(data: &Path) -> Result<(), StartError> {
    make_private_folder(data).map_err(|source| StartError::DataFolder { path: data.to_owned(), source })
}

fn of_postgres(config: &Config, url: &PostgresUrl) -> impl FnOnce(cfr_store_postgres::OpenError) -> StartError {
    StartError::of_postgres(url, config.database.named_by)
}

fn postgres_options(config: &Config) -> PostgresOptions {
    let mut options = PostgresOptions::default();
    options.connections_max = config.database.pool;
    options.pooled = !config.database.prepared_statements;
    options
}
