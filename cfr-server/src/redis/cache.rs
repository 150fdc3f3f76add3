//! Answers that all replicas share. Redis itself forgets them when their time is over.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cfr_core::cache::{CacheKey, CachedAnswer, ResponseCache};
use redis::AsyncCommands;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::link::Link;

/// Answers that wait to be written. One too many is not kept.
const WRITES_MAX: usize = 256;

/// Keeps answers in Redis. While it is away, nothing is found and nothing is kept.
#[derive(Debug)]
pub struct RedisCache {
    link: Arc<Link>,
    writes: Sender<Write>,
}

#[derive(Debug)]
struct Write {
    key: String,
    answer: CachedAnswer,
    keep: Duration,
}

impl RedisCache {
    pub(super) fn new(link: Arc<Link>) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (writes, receiver) = channel(WRITES_MAX);
        (Self { link: Arc::clone(&link), writes }, write_all(link, receiver))
    }

    fn key(&self, key: &CacheKey) -> String {
        self.link.key(format_args!("answer:{key}"))
    }
}

#[async_trait]
impl ResponseCache for RedisCache {
    async fn get(&self, key: &CacheKey) -> Option<CachedAnswer> {
        let key = self.key(key);
        let found: Option<Vec<u8>> = self.link.ask(async |connection| connection.get(&key).await).await?;
        CachedAnswer::decode(&Bytes::from(found?))
    }

    fn put(&self, key: CacheKey, answer: CachedAnswer, keep: Duration) {
        if self.link.is_up() && self.writes.try_send(Write { key: self.key(&key), answer, keep }).is_err() {
            tracing::debug!("an answer was not kept: too many wait to be written");
        }
    }
}

async fn write_all(link: Arc<Link>, mut writes: Receiver<Write>) {
    while let Some(Write { key, answer, keep }) = writes.recv().await {
        let Some(bytes) = answer.encode() else { continue };
        let keep_ms = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX).max(1);
        let _lost_is_fine: Option<()> =
            link.ask(async |connection| connection.pset_ex(key, &bytes[..], keep_ms).await).await;
    }
}
