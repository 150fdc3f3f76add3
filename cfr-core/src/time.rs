//! Time comes from outside: a [`Clock`] at the edges, `now` as an argument inside.

use std::fmt::Debug;
use std::sync::Mutex;
use std::time::Duration;

pub use jiff::Timestamp;

mod period;

pub use period::{Period, PeriodError, PeriodWindow, TimeZone};

/// Where the time of day and elapsed time come from.
pub trait Clock: Debug + Send + Sync + 'static {
    /// The time of day. May jump when an operator sets the machine's clock.
    fn now(&self) -> Timestamp;

    /// Time since an arbitrary fixed point. Never goes back, does not follow the time of day.
    fn uptime(&self) -> Duration;
}

const _: fn(&dyn Clock) = |_| {};

/// The clock of the machine: the one place of the workspace that reads it.
#[derive(Debug)]
pub struct SystemClock {
    #[expect(clippy::disallowed_types, reason = "this is the Clock")]
    origin: std::time::Instant,
}

impl SystemClock {
    /// A clock whose uptime starts now.
    #[must_use]
    #[expect(clippy::disallowed_types, reason = "this is the Clock")]
    pub fn new() -> Self {
        Self { origin: std::time::Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the Clock")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn uptime(&self) -> Duration {
        self.origin.elapsed()
    }
}

/// A clock that stands still until it is told to move: for tests and simulations.
#[derive(Debug)]
pub struct ManualClock {
    state: Mutex<(Timestamp, Duration)>,
}

impl ManualClock {
    /// A clock that shows `now` and an uptime of zero.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self { state: Mutex::new((now, Duration::ZERO)) }
    }

    /// Lets `by` pass, for the time of day and the uptime alike.
    pub fn advance(&self, by: Duration) {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        state.0 = state.0.checked_add(by).unwrap_or(Timestamp::MAX);
        state.1 += by;
    }

    /// Sets the time of day, as an operator would; uptime stays.
    pub fn set(&self, now: Timestamp) {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner).0 = now;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner).0
    }

    fn uptime(&self) -> Duration {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner).1
    }
}
