//! What replicas share beside the books, and can do without: rate limits, answers that were given before, notices.

use std::sync::Arc;

use cfr_billing::escrow::Escrow;
use cfr_core::broadcast::Broadcast;
use cfr_core::cache::{MemoryCache, ResponseCache};
use cfr_core::gateway::GatewayBuilder;
use cfr_core::time::Clock;

use crate::config::Config;
use crate::observe::RedisMetrics;
use crate::state::StartError;

#[cfg(feature = "redis")]
mod notices;

/// What replicas share. Without Redis, each has limits and answers of its own.
#[derive(Debug, Default)]
pub struct Shared {
    /// What is known of Redis.
    pub metrics: RedisMetrics,
    #[cfg(feature = "redis")]
    redis: Option<crate::redis::Redis>,
}

impl Shared {
    /// Connects to Redis where one is configured, and waits a moment for it, not longer.
    ///
    /// # Errors
    /// When its address is none.
    #[cfg(feature = "redis")]
    pub async fn start(config: &Config, escrow: &Arc<Escrow>, clock: &Arc<dyn Clock>) -> Result<Self, StartError> {
        let metrics = RedisMetrics::default();
        let Some(redis) = &config.redis else { return Ok(Self { metrics, redis: None }) };
        let options = crate::redis::RedisOptions {
            prefix: redis.prefix.clone(),
            answer_timeout: redis.answer_timeout,
            ..crate::redis::RedisOptions::new(redis.url.clone())
        };
        let escrow = Arc::downgrade(escrow); // whoever asks after its end is alone
        let replicas = Arc::new(move || escrow.upgrade().map_or(1, |escrow| escrow.stats().nodes));
        let redis = crate::redis::Redis::start(options, replicas, Arc::clone(clock), metrics.clone()).await;
        let redis = redis.map_err(|error| StartError::Redis(error.to_string().into()))?;
        Ok(Self { metrics, redis: Some(redis) })
    }

    /// Nothing is shared: this build is without Redis.
    ///
    /// # Errors
    /// Never.
    #[cfg(not(feature = "redis"))]
    pub async fn start(_: &Config, _: &Arc<Escrow>, _: &Arc<dyn Clock>) -> Result<Self, StartError> {
        Ok(Self::default())
    }

    /// The gateway with what is shared, and with a cache of its own where answers are kept but not shared.
    #[must_use]
    pub fn equip(&self, gateway: GatewayBuilder, config: &Config, clock: &Arc<dyn Clock>) -> GatewayBuilder {
        let gateway = self.limited(gateway);
        let Some(cache) = &config.cache else { return gateway };
        let own = || Arc::new(MemoryCache::new(Arc::clone(clock), cache.memory_bytes)) as Arc<dyn ResponseCache>;
        gateway.response_cache(self.answers().unwrap_or_else(own), cache.policy.clone())
    }

    /// Notices by way of the database, and by Redis where there is one.
    #[must_use]
    pub fn broadcast(&self, database: Arc<dyn Broadcast>) -> Arc<dyn Broadcast> {
        #[cfg(feature = "redis")]
        if let Some(redis) = &self.redis {
            return notices::Both::over(database, Arc::clone(&redis.broadcast) as _);
        }
        database
    }

    /// Ends the tasks of Redis.
    pub async fn close(self) {
        #[cfg(feature = "redis")]
        if let Some(redis) = self.redis {
            redis.close().await;
        }
    }

    fn limited(&self, gateway: GatewayBuilder) -> GatewayBuilder {
        #[cfg(feature = "redis")]
        if let Some(redis) = &self.redis {
            return gateway.rate_limiter(Arc::clone(&redis.limiter) as _);
        }
        gateway
    }

    fn answers(&self) -> Option<Arc<dyn ResponseCache>> {
        #[cfg(feature = "redis")]
        return self.redis.as_ref().map(|redis| Arc::clone(&redis.cache) as _);
        #[cfg(not(feature = "redis"))]
        None
    }
}
