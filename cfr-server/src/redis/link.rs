//! The connection, and whether it works: who finds that it does not says so once, and nobody waits for it again.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cfr_core::secret::Secret;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, FromRedisValue, RedisError, RedisResult, Script};
use tokio::sync::watch;

use super::{RedisOptions, RedisUrlError};
use crate::observe::RedisMetrics;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause between a loss and the next attempt, and between attempts.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// How often a connection that nobody uses is tried out.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// Commands that wait for their turn on the connection.
const PIPELINE_COMMANDS_MAX: usize = 1_024;
/// Proves that scripts run and may write: a replica, a full server and a user without rights answer to PING.
const PROBE: &str = "return redis.call('SET', KEYS[1], '1', 'PX', 1000)";

/// One connection that all parts share, made again whenever it is lost.
pub(super) struct Link {
    pub(super) client: Client,
    prefix: String,
    timeout: Duration,
    probe: Script,
    line: watch::Sender<Option<Line>>,
    /// Whether the log says that Redis is away.
    told: AtomicBool,
    pub(super) metrics: RedisMetrics,
}

/// A connection that works, as far as is known.
#[derive(Clone)]
struct Line {
    connection: MultiplexedConnection,
    /// Tells it from those before and after.
    number: u64,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("prefix", &self.prefix).field("up", &self.is_up()).finish_non_exhaustive()
    }
}

fn client(url: &Secret) -> Result<Client, RedisUrlError> {
    Client::open(url.expose()).map_err(|error| RedisUrlError { reason: error.to_string().into() })
}

impl Link {
    /// Not connected yet.
    pub(super) fn new(options: &RedisOptions, metrics: RedisMetrics) -> Result<Self, RedisUrlError> {
        Ok(Self {
            client: client(&options.url)?,
            prefix: options.prefix.clone(),
            timeout: options.answer_timeout,
            probe: Script::new(PROBE),
            line: watch::Sender::new(None),
            told: AtomicBool::new(false),
            metrics,
        })
    }

    /// A key of ours.
    pub(super) fn key(&self, name: fmt::Arguments<'_>) -> String {
        format!("{}:{name}", self.prefix)
    }

    pub(super) fn is_up(&self) -> bool {
        self.line.borrow().is_some()
    }

    pub(super) async fn connected(&self) {
        let mut line = self.line.subscribe();
        let _never_closed = line.wait_for(Option::is_some).await;
    }

    /// Asks something. None when Redis is away, at once; or when it does not answer in time or refuses, and then it
    /// counts as away until a new connection works.
    pub(super) async fn ask<T: FromRedisValue>(
        &self,
        question: impl AsyncFnOnce(&mut MultiplexedConnection) -> RedisResult<T>,
    ) -> Option<T> {
        let mut line = self.line.borrow().clone()?;
        let answer = tokio::time::timeout(self.timeout, question(&mut line.connection)).await;
        match answer {
            Ok(Ok(answer)) => Some(answer),
            Ok(Err(error)) => self.lose(line.number, &error),
            Err(_) => self.lose(line.number, &format_args!("no answer within {:?}", self.timeout)),
        }
    }

    /// Keeps a connection for ever.
    pub(super) async fn keep(self: std::sync::Arc<Self>) {
        loop {
            while self.is_up() {
                self.watch().await;
            }
            tokio::time::sleep(RETRY_PAUSE).await;
            self.try_now().await;
        }
    }

    /// Makes one attempt to connect.
    pub(super) async fn try_now(&self) {
        match self.connect().await {
            Ok(connection) => {
                let number = rand::random();
                self.line.send_replace(Some(Line { connection, number }));
                self.metrics.up.set(1);
                if self.told.swap(false, Ordering::Relaxed) {
                    tracing::info!("redis answers: limits, answers and notices are shared again");
                }
            }
            Err(error) => self.tell(&error),
        }
    }

    async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(self.timeout.max(CONNECT_TIMEOUT)))
            .set_pipeline_buffer_size(PIPELINE_COMMANDS_MAX);
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        let probe = self.probe(&mut connection);
        tokio::time::timeout(self.timeout, probe).await.map_err(|_| timed_out())??;
        Ok(connection)
    }

    async fn probe(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        let key = self.key(format_args!("probe"));
        self.probe.key(key).invoke_async(connection).await
    }

    /// Ends when the connection is lost, or was found to work.
    async fn watch(&self) {
        let mut line = self.line.subscribe();
        let lost = line.wait_for(Option::is_none);
        if tokio::time::timeout(PROBE_EVERY, lost).await.is_err() {
            let _ = self.ask(async |connection| self.probe(connection).await).await;
        }
    }

    fn lose<T>(&self, number: u64, why: &dyn fmt::Display) -> Option<T> {
        let lost = self.line.send_if_modified(|line| {
            let current = line.as_ref().is_some_and(|line| line.number == number);
            if current {
                *line = None;
            }
            current
        });
        if lost {
            self.metrics.up.set(0);
            self.tell(why);
        }
        None
    }

    /// Warns once until Redis is back.
    fn tell(&self, why: &dyn fmt::Display) {
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!("redis is away: limits are local and stricter, answers are not shared: {why}");
        }
    }
}

fn timed_out() -> RedisError {
    RedisError::from((redis::ErrorKind::Io, "connected, but does not answer in time"))
}
