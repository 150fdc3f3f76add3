//! Rate limits that all replicas share: one script and one round trip for each request, whatever its limits.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cfr_core::limit::{
    Limit, LimitExceeded, PARALLEL_REQUESTS_MAX, PARALLEL_RETRY, Permit, REQUESTS_PER_MINUTE, RateLimiter, RateLimits,
    RateState,
};
use cfr_core::time::Clock;
use redis::Script;

use super::link::Link;
use super::places::{Place, Places};

const ADMIT: &str = include_str!("admit.lua");
/// The finest time that the script knows, in microseconds for a minute.
const MINUTE_US: u32 = 60_000_000;

/// How many processes share the limits, this one included.
pub type Replicas = Arc<dyn Fn() -> u32 + Send + Sync>;

/// Rate limits in Redis. While it is away, each replica lets in its share of every limit: the limit divided by the number
/// of replicas, and at least one. What Redis lets in is also counted here, so that its loss is no fresh start.
pub struct RedisRateLimiter {
    link: Arc<Link>,
    places: Places,
    replicas: Replicas,
    local: RateLimits,
    script: Script,
    place_kept: Duration,
}

impl fmt::Debug for RedisRateLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisRateLimiter").field("link", &self.link).finish_non_exhaustive()
    }
}

/// One limit as the script sees it.
#[derive(Debug, Clone, Copy)]
enum Check<'a> {
    Rate(&'a Limit, NonZeroU32),
    Place(&'a Limit, NonZeroU32),
}

impl RedisRateLimiter {
    pub(super) fn new(
        link: Arc<Link>,
        places: Places,
        replicas: Replicas,
        clock: Arc<dyn Clock>,
        place_kept: Duration,
    ) -> Self {
        let (local, script) = (RateLimits::new(clock), Script::new(ADMIT));
        Self { link, places, replicas, local, script, place_kept }
    }

    /// What Redis says; none when it says nothing.
    async fn ask(&self, checks: &[Check<'_>], share: &[Limit]) -> Option<Result<Permit, LimitExceeded>> {
        if !self.link.is_up() {
            return None;
        }
        let keys: Vec<_> = checks.iter().map(|check| check.key(&self.link)).collect();
        let runs = checks.iter().zip(&keys).filter(|(check, _)| matches!(check, Check::Place(..)));
        let place = self.places.reserve(runs.map(|(_, key)| key.clone()).collect());
        let answer: Vec<i64> = self
            .link
            .ask(async |connection| {
                let mut call = self.script.prepare_invoke();
                call.arg(&place.name()[..]).arg(micros(self.place_kept));
                for (check, key) in checks.iter().zip(&keys) {
                    let (kind, limit, step) = check.words();
                    call.key(key).arg(kind).arg(limit).arg(step);
                }
                call.invoke_async(connection).await
            })
            .await?;
        read(&answer, checks, place, || self.local.note(share))
    }

    fn share(&self, limits: &[Limit]) -> Vec<Limit> {
        let replicas = NonZeroU32::new((self.replicas)()).unwrap_or(NonZeroU32::MIN);
        let part = |limit: NonZeroU32| NonZeroU32::new(limit.get() / replicas).unwrap_or(NonZeroU32::MIN);
        let share = |limit: &Limit| Limit {
            requests_per_minute: limit.requests_per_minute.map(part),
            parallel_requests_max: limit.parallel_requests_max.map(part),
            ..*limit
        };
        limits.iter().map(share).collect()
    }
}

#[async_trait]
impl RateLimiter for RedisRateLimiter {
    async fn admit(&self, limits: &[Limit]) -> Result<Permit, LimitExceeded> {
        let share = self.share(limits);
        match self.ask(&checks(limits), &share).await {
            Some(decided) => decided,
            None => {
                self.link.metrics.local_limits.inc();
                self.local.admit(&share)
            }
        }
    }
}

fn checks(limits: &[Limit]) -> Vec<Check<'_>> {
    limits.iter().flat_map(Check::of).collect()
}

impl<'a> Check<'a> {
    fn of(limit: &'a Limit) -> impl Iterator<Item = Self> {
        let place = limit.parallel_requests_max.map(|max| Self::Place(limit, max));
        place.into_iter().chain(limit.requests_per_minute.map(|max| Self::Rate(limit, max)))
    }

    fn key(&self, link: &Link) -> String {
        let (word, limit) = match self {
            Self::Rate(limit, _) => ("rate", limit),
            Self::Place(limit, _) => ("run", limit),
        };
        link.key(format_args!("{word}:{}:{:032x}", limit.scope.name(), limit.subject))
    }

    fn words(&self) -> (&'static str, u32, u32) {
        match self {
            Self::Rate(_, max) => ("rate", max.get(), step(*max)),
            Self::Place(_, max) => ("place", max.get(), 0),
        }
    }

    fn exceeded(&self, wait_us: i64) -> LimitExceeded {
        let wait = Duration::from_micros(u64::try_from(wait_us).unwrap_or(0));
        let (limit, max, what, retry_after) = match self {
            Self::Rate(limit, max) => (limit, max, REQUESTS_PER_MINUTE, wait),
            Self::Place(limit, max) => (limit, max, PARALLEL_REQUESTS_MAX, PARALLEL_RETRY),
        };
        LimitExceeded { what, scope: limit.scope, limit: max.get(), retry_after }
    }

    fn state(&self, used_us: i64) -> Option<RateState> {
        let Self::Rate(_, max) = self else { return None };
        let used = u32::try_from(used_us).unwrap_or(u32::MAX).div_ceil(step(*max));
        Some(RateState::new(*max, max.get().saturating_sub(used)))
    }
}

/// The time between two requests in microseconds, rounded up: never more of them than allowed.
const fn step(per_minute: NonZeroU32) -> u32 {
    MINUTE_US.div_ceil(per_minute.get())
}

/// The script's answer; none when it cannot be understood. What it lets in is also noted here.
fn read(
    answer: &[i64],
    checks: &[Check<'_>],
    place: Place,
    note: impl FnOnce() -> Permit,
) -> Option<Result<Permit, LimitExceeded>> {
    let (number, rest) = answer.split_first()?;
    if *number > 0 {
        let check = checks.get(usize::try_from(*number).ok()?.checked_sub(1)?)?;
        place.was_never_taken();
        return Some(Err(check.exceeded(*rest.first()?)));
    }
    let states = checks.iter().zip(rest).filter_map(|(check, used)| check.state(*used));
    Some(Ok(states.fold(note().keeping(place.taken()), Permit::under)))
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
