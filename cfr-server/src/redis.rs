//! What replicas share through Redis, and can do without: rate limits, answers that were given before, and notices.
//!
//! Nothing here decides over money. When Redis is lost, limits become local and stricter, answers are looked up in vain,
//! and notices wait; one warning says so, and everything comes back by itself. One server or a primary behind one address
//! is meant: the keys of one request lie in several slots of a Redis Cluster.
//!
//! In reading order: `link` holds the connection and knows whether it works, `limiter` asks one script per request,
//! `places` counts parallel requests, `cache` keeps answers, `broadcast` carries notices.

use std::sync::Arc;
use std::time::Duration;

use cfr_core::secret::Secret;
use cfr_core::time::Clock;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::config::{REDIS_ADDRESS, REDIS_PREFIX, REDIS_TIMEOUT};
use crate::observe::RedisMetrics;

mod broadcast;
mod cache;
mod limiter;
mod link;
mod places;

pub use broadcast::RedisBroadcast;
pub use cache::RedisCache;
pub use limiter::{RedisRateLimiter, Replicas};

use link::Link;

/// How long a parallel request keeps its place after its process was last heard of, when nobody says.
pub const PLACE_KEPT: Duration = Duration::from_secs(30);

/// Where Redis is, and how much patience it gets.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// Its address, as in `redis://:password@host:6379/0` or `rediss://…` for TLS.
    pub url: Secret,
    /// What every key begins with: deployments that share a database need different ones.
    pub prefix: String,
    /// How long it may take to answer.
    pub answer_timeout: Duration,
    /// How long a parallel request keeps its place after its process was last heard of.
    pub place_kept: Duration,
}

impl RedisOptions {
    /// The usual options for this address.
    #[must_use]
    pub fn new(url: Secret) -> Self {
        Self { url, prefix: REDIS_PREFIX.into(), answer_timeout: REDIS_TIMEOUT, place_kept: PLACE_KEPT }
    }
}

/// The address is none that Redis can have. It is not quoted: it may hold a password.
#[derive(Debug, thiserror::Error)]
#[error("{REDIS_ADDRESS}: {reason}")]
pub struct RedisUrlError {
    reason: Box<str>,
}

/// Everything that one process has with Redis. Dropping it ends its tasks; nothing is written at the end.
#[derive(Debug)]
pub struct Redis {
    /// Rate limits that all replicas share.
    pub limiter: Arc<RedisRateLimiter>,
    /// Answers that all replicas share.
    pub cache: Arc<RedisCache>,
    /// Notices between replicas.
    pub broadcast: Arc<RedisBroadcast>,
    link: Arc<Link>,
    tasks: TaskTracker,
    _stop: DropGuard,
}

impl Redis {
    /// Connects, and keeps connected from then on. A server that is not there is no error: it is waited for in the
    /// background. `replicas` says how many processes share the limits, for the time when they cannot.
    ///
    /// # Errors
    /// When the address is none.
    pub async fn start(
        options: RedisOptions,
        replicas: Replicas,
        clock: Arc<dyn Clock>,
        metrics: RedisMetrics,
    ) -> Result<Self, RedisUrlError> {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let spawn = |task| {
            let stop = stop.clone();
            tasks.spawn(async move { stop.run_until_cancelled_owned(task).await });
        };
        let link = Arc::new(Link::new(&options, metrics)?);
        link.try_now().await;
        spawn(boxed(Arc::clone(&link).keep()));
        let (places, keeper) = places::places(Arc::clone(&link), options.place_kept);
        spawn(boxed(keeper));
        let (cache, writer) = RedisCache::new(Arc::clone(&link));
        spawn(boxed(writer));
        let (broadcast, listener) = RedisBroadcast::new(Arc::clone(&link));
        spawn(boxed(listener));
        let limiter = RedisRateLimiter::new(Arc::clone(&link), places, replicas, clock, options.place_kept);
        let (limiter, cache) = (Arc::new(limiter), Arc::new(cache));
        tasks.close();
        Ok(Self { limiter, cache, broadcast: Arc::new(broadcast), link, tasks, _stop: stop.drop_guard() })
    }

    /// Waits until Redis works; at once when it does.
    pub async fn connected(&self) {
        self.link.connected().await;
    }

    /// Ends the tasks and waits for them.
    pub async fn close(self) {
        let Self { tasks, _stop: stop, .. } = self;
        drop(stop);
        tasks.wait().await;
    }
}

fn boxed(task: impl Future<Output = ()> + Send + 'static) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(task)
}
