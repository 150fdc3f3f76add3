//! Answers in memory, for one process.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::{CacheKey, CachedAnswer, ResponseCache};
use crate::time::Clock;

/// What an entry takes beside its body: key, head and the cache's own books.
const ENTRY_OVERHEAD_BYTES: usize = 512;
/// The body that entries are expected to have on average; only sizes tables.
const BODY_BYTES_TYPICAL: usize = 2_048;

/// Keeps answers in memory up to a number of bytes; then those go that were not asked for.
#[derive(Debug)]
pub struct MemoryCache {
    clock: Arc<dyn Clock>,
    entries: Cache<CacheKey, Entry, Bytes>,
}

#[derive(Debug, Clone)]
struct Entry {
    answer: CachedAnswer,
    /// On the clock's uptime.
    until: Duration,
}

#[derive(Debug, Clone)]
struct Bytes;

impl Weighter<CacheKey, Entry> for Bytes {
    fn weight(&self, _: &CacheKey, entry: &Entry) -> u64 {
        (entry.answer.body.len() + ENTRY_OVERHEAD_BYTES) as u64
    }
}

impl MemoryCache {
    /// An empty cache for so many bytes.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, bytes_max: usize) -> Self {
        let entries = bytes_max / (BODY_BYTES_TYPICAL + ENTRY_OVERHEAD_BYTES);
        Self { clock, entries: Cache::with_weighter(entries, bytes_max as u64, Bytes) }
    }
}

#[async_trait]
impl ResponseCache for MemoryCache {
    async fn get(&self, key: &CacheKey) -> Option<CachedAnswer> {
        let entry = self.entries.get(key)?;
        if self.clock.uptime() < entry.until {
            return Some(entry.answer);
        }
        self.entries.remove(key);
        None
    }

    fn put(&self, key: CacheKey, answer: CachedAnswer, keep: Duration) {
        let until = self.clock.uptime().saturating_add(keep);
        self.entries.insert(key, Entry { answer, until });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::tests::{answer, key};
    use crate::time::{ManualClock, Timestamp};

    #[tokio::test]
    async fn an_answer_comes_back_until_its_time_is_over() {
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let cache = MemoryCache::new(Arc::clone(&clock) as _, 1 << 20);
        cache.put(key(1), answer("one"), Duration::from_secs(10));
        assert_eq!(cache.get(&key(1)).await, Some(answer("one")));
        assert_eq!(cache.get(&key(2)).await, None);
        clock.advance(Duration::from_secs(10));
        assert_eq!(cache.get(&key(1)).await, None);
    }

    #[tokio::test]
    async fn it_never_holds_more_bytes_than_allowed() {
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let cache = MemoryCache::new(clock, 100_000);
        let large = "x".repeat(10_000);
        for number in 0..100 {
            cache.put(key(number), answer(&large), Duration::from_secs(10));
        }
        assert!(cache.entries.weight() <= 100_000 && !cache.entries.is_empty());
    }
}
