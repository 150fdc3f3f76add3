//! A circuit breaker per target: after failures it is left alone for a while.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::upstream::UpstreamError;

/// Failures in a row after which a target cools down.
const FAILURES_MAX: u32 = 3;
/// How long a target cools down when the provider does not say.
const COOL_DOWN: Duration = Duration::from_secs(10);
/// How long a target cools down whose account was refused: somebody has to mend it.
const COOL_DOWN_ACCOUNT: Duration = Duration::from_secs(60);
/// No provider's advice keeps a target away for longer.
const COOL_DOWN_MAX: Duration = Duration::from_secs(600);

/// Whether a target answers. Counts failures in a row; a success forgets them.
#[derive(Debug, Default)]
pub struct Health {
    failures: AtomicU32,
    cool_until_ms: AtomicU64,
}

impl Health {
    /// Whether the target is to be left alone at this uptime.
    #[must_use]
    pub fn is_cooling(&self, uptime: Duration) -> bool {
        self.cool_until_ms.load(Ordering::Relaxed) > millis(uptime)
    }

    /// Leaves the target alone until this uptime.
    pub fn cool_down(&self, until: Duration) {
        self.cool_until_ms.fetch_max(millis(until), Ordering::Relaxed);
    }

    /// The target answered.
    pub fn succeeded(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// The target failed; a refusal that is the caller's to mend does not count.
    pub fn failed(&self, error: &UpstreamError, uptime: Duration) {
        let cool_down = match error {
            UpstreamError::Rejected { .. } | UpstreamError::Unsupported { .. } => return,
            UpstreamError::Account { .. } | UpstreamError::RateLimited { exhausted: true, .. } => COOL_DOWN_ACCOUNT,
            UpstreamError::RateLimited { retry_after, .. } => retry_after.unwrap_or(COOL_DOWN),
            _ if self.failures.fetch_add(1, Ordering::Relaxed) + 1 < FAILURES_MAX => return,
            _ => COOL_DOWN,
        };
        self.cool_down(uptime + cool_down.min(COOL_DOWN_MAX));
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn unreachable() -> UpstreamError {
        UpstreamError::Unreachable { message: "refused".into() }
    }

    #[test]
    fn three_failures_in_a_row_cool_a_target_down() {
        let health = Health::default();
        health.failed(&unreachable(), NOW);
        health.failed(&unreachable(), NOW);
        assert!(!health.is_cooling(NOW));
        health.failed(&unreachable(), NOW);
        assert!(health.is_cooling(NOW));
        assert!(!health.is_cooling(NOW + COOL_DOWN));
    }

    #[test]
    fn a_success_forgets_failures() {
        let health = Health::default();
        health.failed(&unreachable(), NOW);
        health.failed(&unreachable(), NOW);
        health.succeeded();
        health.failed(&unreachable(), NOW);
        assert!(!health.is_cooling(NOW));
    }

    #[test]
    fn a_rate_limit_cools_down_as_long_as_the_provider_says() {
        let health = Health::default();
        let after = Some(Duration::from_secs(3));
        health.failed(&UpstreamError::RateLimited { retry_after: after, exhausted: false, message: "".into() }, NOW);
        assert!(health.is_cooling(NOW + Duration::from_secs(2)));
        assert!(!health.is_cooling(NOW + Duration::from_secs(3)));
    }
}
