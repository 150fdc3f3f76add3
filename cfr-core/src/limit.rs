//! Rate limits: requests per minute by GCRA, and requests at the same time.
//!
//! [`RateLimits`] keeps them in memory, for one process. Several processes share theirs through another [`RateLimiter`].

use std::collections::HashMap;
use std::fmt::Debug;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use governor::Quota;
use governor::clock::{Clock as GovernorClock, Reference};
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use smallvec::SmallVec;

use crate::ledger::Scope;
use crate::time::Clock;

/// Subjects with a bucket in memory. Beyond it, buckets that nobody uses are dropped.
pub const BUCKETS_MAX: usize = 100_000;
/// The name of the limit on requests per minute.
pub const REQUESTS_PER_MINUTE: &str = "requests_per_minute";
/// The name of the limit on requests at the same time.
pub const PARALLEL_REQUESTS_MAX: &str = "parallel_requests_max";
/// After a refusal because of parallel requests, when to try again: nobody knows when one ends.
pub const PARALLEL_RETRY: Duration = Duration::from_secs(1);

/// What one key, user, tenant or product may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Limit {
    /// Whom it limits.
    pub scope: Scope,
    /// Which of them, by the 128 bits of its id.
    pub subject: u128,
    /// Requests per minute; a minute's worth may come at once.
    pub requests_per_minute: Option<NonZeroU32>,
    /// Requests at the same time.
    pub parallel_requests_max: Option<NonZeroU32>,
}

/// Where a caller stands with the tightest of its limits per minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateState {
    /// Requests per minute.
    pub limit: u32,
    /// Requests that could come now.
    pub remaining: u32,
    /// When all of them can come again.
    pub reset: Duration,
}

impl RateState {
    /// `remaining` of `limit` requests per minute are left.
    #[must_use]
    pub fn new(limit: NonZeroU32, remaining: u32) -> Self {
        let (limit, remaining) = (limit.get(), remaining.min(limit.get()));
        let reset = Duration::from_mins(1).saturating_mul(limit - remaining) / limit; // down to the nanosecond
        Self { limit, remaining, reset }
    }
}

/// A request came too early.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} of the {} exceeded: {limit}", .scope.name())]
pub struct LimitExceeded {
    /// Which limit: [`REQUESTS_PER_MINUTE`] or [`PARALLEL_REQUESTS_MAX`].
    pub what: &'static str,
    /// Whom it limits.
    pub scope: Scope,
    /// The limit.
    pub limit: u32,
    /// When to try again.
    pub retry_after: Duration,
}

/// Lets requests in, or says which limit they exceed.
///
/// # Contract
/// - A request is let in when it is under all of its limits; a refusal names one that it exceeds. Limits are ordered from
///   the widest scope to the narrowest.
/// - A request counts as parallel until its [`Permit`] is dropped, or until the place where that is counted takes it for
///   lost together with its process.
/// - Who shares limits with other processes and loses the place where they are kept goes on alone and lets in fewer
///   requests, never more. A limiter never fails, and never waits long: it stands before every request.
#[async_trait]
pub trait RateLimiter: Debug + Send + Sync + 'static {
    /// Lets a request in under all of `limits`.
    ///
    /// # Errors
    /// [`LimitExceeded`] with the time to wait.
    ///
    /// # Cancel safety
    /// A dropped future may have used up a turn of each limit per minute; no place is kept.
    async fn admit(&self, limits: &[Limit]) -> Result<Permit, LimitExceeded>;
}

const _: fn(&dyn RateLimiter) = |_| {};

/// A request that was let in. It counts as parallel until it is dropped.
#[derive(Debug, Default)]
#[must_use = "a dropped permit no longer counts as a parallel request"]
pub struct Permit {
    running: SmallVec<[Arc<Bucket>; 2]>,
    elsewhere: Option<Box<dyn Place>>,
    /// The tightest limit per minute, if there is any.
    pub rate: Option<RateState>,
}

/// Whatever counts a request as running for as long as it lives.
trait Place: Debug + Send + Sync {}

impl<T: Debug + Send + Sync> Place for T {}

impl Permit {
    /// The same permit, which also keeps `place` until it is dropped: how a limiter of one's own counts parallel requests.
    pub fn keeping(mut self, place: impl Debug + Send + Sync + 'static) -> Self {
        self.elsewhere = Some(Box::new(place));
        self
    }

    /// The same permit, with what is left under another limit per minute if that is the tighter one.
    pub fn under(mut self, rate: RateState) -> Self {
        if self.rate.is_none_or(|tightest| rate.remaining < tightest.remaining) {
            self.rate = Some(rate);
        }
        self
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        for bucket in &self.running {
            bucket.running.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Every bucket of this process.
#[derive(Debug)]
pub struct RateLimits {
    clock: Arc<dyn Clock>,
    buckets: Mutex<HashMap<Limit, Arc<Bucket>>>,
}

#[derive(Debug)]
struct Bucket {
    running: AtomicU32,
    rate: Option<Gcra>,
}

type Gcra = governor::RateLimiter<NotKeyed, InMemoryState, Uptime, StateInformationMiddleware>;

/// Our clock as governor wants it.
#[derive(Debug, Clone)]
struct Uptime(Arc<dyn Clock>);

impl GovernorClock for Uptime {
    type Instant = Duration;
    fn now(&self) -> Duration {
        self.0.uptime()
    }
}

impl RateLimits {
    /// No request has come yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, buckets: Mutex::default() }
    }

    /// Lets a request in under all of `limits`, or says which one it exceeds. A request refused by a later limit has
    /// still used up its turn of the earlier ones: order them from the widest to the narrowest.
    ///
    /// # Errors
    /// [`LimitExceeded`] with the time to wait.
    pub fn admit(&self, limits: &[Limit]) -> Result<Permit, LimitExceeded> {
        let mut permit = Permit::default();
        for limit in limits {
            let bucket = self.bucket(limit);
            permit = self.run(limit, bucket, permit)?;
        }
        Ok(permit)
    }

    /// Counts a request that somebody else let in, even beyond `limits`: who later has to decide here knows of it.
    pub fn note(&self, limits: &[Limit]) -> Permit {
        let mut permit = Permit::default();
        for limit in limits {
            let bucket = self.bucket(limit);
            if let Some(rate) = &bucket.rate {
                let _beyond_the_limit = rate.check();
            }
            if limit.parallel_requests_max.is_some() {
                bucket.running.fetch_add(1, Ordering::Relaxed);
                permit.running.push(bucket);
            }
        }
        permit
    }

    fn run(&self, limit: &Limit, bucket: Arc<Bucket>, mut permit: Permit) -> Result<Permit, LimitExceeded> {
        if let Some(max) = limit.parallel_requests_max {
            let before = bucket.running.fetch_add(1, Ordering::Relaxed);
            permit.running.push(Arc::clone(&bucket)); // from here on the permit gives the place back
            if before >= max.get() {
                return Err(exceeded(limit, PARALLEL_REQUESTS_MAX, max, PARALLEL_RETRY));
            }
        }
        if let (Some(max), Some(rate)) = (limit.requests_per_minute, &bucket.rate) {
            let state = rate.check().map_err(|until| {
                let wait = until.wait_time_from(self.clock.uptime());
                exceeded(limit, REQUESTS_PER_MINUTE, max, wait)
            })?;
            permit = permit.under(RateState::new(max, state.remaining_burst_capacity()));
        }
        Ok(permit)
    }

    fn bucket(&self, limit: &Limit) -> Arc<Bucket> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = buckets.get(limit) {
            return Arc::clone(bucket);
        }
        if buckets.len() >= BUCKETS_MAX {
            // A full bucket behaves like a new one, so dropping it changes nothing.
            buckets.retain(|limit, bucket| Arc::strong_count(bucket) > 1 || !bucket.is_full(limit));
        }
        let rate = limit.requests_per_minute.map(|max| {
            let clock = Uptime(Arc::clone(&self.clock));
            governor::RateLimiter::direct_with_clock(Quota::per_minute(max), clock).with_middleware()
        });
        let bucket = Arc::new(Bucket { running: AtomicU32::new(0), rate });
        buckets.insert(*limit, Arc::clone(&bucket));
        bucket
    }
}

#[async_trait]
impl RateLimiter for RateLimits {
    async fn admit(&self, limits: &[Limit]) -> Result<Permit, LimitExceeded> {
        Self::admit(self, limits)
    }
}

impl Bucket {
    /// Whether a whole minute's worth could come now. Asks without taking.
    fn is_full(&self, limit: &Limit) -> bool {
        let (Some(max), Some(rate)) = (limit.requests_per_minute, &self.rate) else { return true };
        matches!(rate.check_n(max), Ok(Ok(_)))
    }
}

fn exceeded(limit: &Limit, what: &'static str, max: NonZeroU32, retry_after: Duration) -> LimitExceeded {
    LimitExceeded { what, scope: limit.scope, limit: max.get(), retry_after }
}

const _: fn(Duration) -> governor::nanos::Nanos = |duration| Reference::duration_since(&duration, Duration::ZERO);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{ManualClock, Timestamp};

    fn limits(rpm: u32, parallel: u32) -> (Arc<ManualClock>, RateLimits, Limit) {
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let limit = Limit {
            scope: Scope::Key,
            subject: 7,
            requests_per_minute: NonZeroU32::new(rpm),
            parallel_requests_max: NonZeroU32::new(parallel),
        };
        (Arc::clone(&clock), RateLimits::new(clock), limit)
    }

    #[test]
    fn a_minutes_worth_may_come_at_once_and_no_more() {
        let (clock, rates, limit) = limits(3, 0);
        for remaining in [2, 1, 0] {
            let permit = rates.admit(&[limit]).expect("within the limit");
            assert_eq!(permit.rate.expect("limited").remaining, remaining);
        }
        let refused = rates.admit(&[limit]).expect_err("the fourth");
        assert_eq!((refused.what, refused.retry_after), ("requests_per_minute", Duration::from_secs(20)));
        clock.advance(Duration::from_secs(20));
        assert!(rates.admit(&[limit]).is_ok(), "a third of a minute later one more may come");
        assert!(rates.admit(&[limit]).is_err());
    }

    #[test]
    fn a_parallel_request_counts_until_its_permit_is_dropped() {
        let (_, rates, limit) = limits(0, 2);
        let first = rates.admit(&[limit]).expect("first");
        let _second = rates.admit(&[limit]).expect("second");
        for _ in 0..3 {
            assert_eq!(rates.admit(&[limit]).expect_err("third").what, "parallel_requests_max");
        }
        drop(first);
        assert!(rates.admit(&[limit]).is_ok());
    }

    #[test]
    fn a_refusal_by_one_limit_gives_back_the_place_under_another() {
        let (_, rates, narrow) = limits(1, 0);
        let wide = Limit {
            scope: Scope::Tenant,
            requests_per_minute: None,
            parallel_requests_max: NonZeroU32::new(1),
            ..narrow
        };
        drop(rates.admit(&[wide, narrow]).expect("first"));
        assert_eq!(rates.admit(&[wide, narrow]).expect_err("rate").what, "requests_per_minute");
        assert!(rates.admit(&[wide]).is_ok());
    }

    #[test]
    fn a_noted_request_counts_and_is_never_refused() {
        let (_, rates, limit) = limits(2, 2);
        let noted = [rates.note(&[limit]), rates.note(&[limit]), rates.note(&[limit])];
        assert_eq!(rates.admit(&[limit]).expect_err("three run").what, "parallel_requests_max");
        drop(noted);
        assert_eq!(rates.admit(&[limit]).expect_err("two of two have come").what, "requests_per_minute");
    }

    #[test]
    fn a_permit_keeps_its_place_elsewhere_and_the_tightest_rate() {
        let (kept, two) = (Arc::new(()), NonZeroU32::new(2).expect("two"));
        let permit = Permit::default().keeping(Arc::clone(&kept));
        let permit = permit.under(RateState::new(two, 1)).under(RateState::new(two, 2));
        assert_eq!(permit.rate.expect("limited"), RateState { limit: 2, remaining: 1, reset: Duration::from_secs(30) });
        assert_eq!(Arc::strong_count(&kept), 2);
        drop(permit);
        assert_eq!(Arc::strong_count(&kept), 1);
    }

    #[test]
    fn no_limit_lets_everything_in() {
        let (_, rates, _) = limits(0, 0);
        assert_eq!(rates.admit(&[]).expect("no limits").rate, None);
    }
}
