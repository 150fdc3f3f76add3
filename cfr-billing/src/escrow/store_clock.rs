//! The store's clock as far as this node knows it: periods begin and end by it, for all nodes alike.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use cfr_core::time::{Clock, Timestamp};
use jiff::SignedDuration;

/// A node whose clock differs from the store's by more than this is worth a warning.
const OFFSET_WARNED: Duration = Duration::from_secs(2);

/// The machine's clock, corrected by what the store's is ahead of it.
#[derive(Debug)]
pub(super) struct StoreClock {
    machine: Arc<dyn Clock>,
    offset_us: AtomicI64,
}

impl Clock for StoreClock {
    fn now(&self) -> Timestamp {
        self.at(self.machine.now())
    }

    fn uptime(&self) -> Duration {
        self.machine.uptime()
    }
}

impl StoreClock {
    pub(super) const fn new(machine: Arc<dyn Clock>) -> Self {
        Self { machine, offset_us: AtomicI64::new(0) }
    }

    /// The clock that is corrected.
    pub(super) fn machine(&self) -> &dyn Clock {
        &*self.machine
    }

    /// In microseconds; negative when the store is behind.
    pub(super) fn offset_us(&self) -> i64 {
        self.offset_us.load(Ordering::Relaxed)
    }

    /// The store's time at a moment of the machine's clock.
    pub(super) fn at(&self, moment: Timestamp) -> Timestamp {
        match self.offset_us() {
            0 => moment,
            offset => moment.checked_add(SignedDuration::from_micros(offset)).unwrap_or(moment),
        }
    }

    /// The store read its clock as `read` some time during a round trip that began at `sent`. The offset moves only as far
    /// as that proves it wrong: a slow answer says little. A store without a clock returns what it was told.
    pub(super) fn learn(&self, sent: Timestamp, round_trip: Duration, read: Timestamp) {
        let before = self.offset_us();
        let most = read.as_microsecond().saturating_sub(sent.as_microsecond());
        let least = most.saturating_sub(i64::try_from(round_trip.as_micros()).unwrap_or(i64::MAX));
        let middle = least.midpoint(most);
        let known = before != 0 && (least..=most).contains(&before);
        let offset = if read == sent {
            0
        } else if known {
            before
        } else {
            middle
        };
        self.offset_us.store(offset, Ordering::Relaxed);
        if is_worth_a_warning(offset) && !is_worth_a_warning(before) {
            tracing::warn!(
                offset_us = offset,
                "this machine's clock and the store's differ; periods follow the store's"
            );
        }
    }
}

fn is_worth_a_warning(offset_us: i64) -> bool {
    u128::from(offset_us.unsigned_abs()) > OFFSET_WARNED.as_micros()
}

#[cfg(test)]
mod tests {
    use cfr_core::time::ManualClock;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[track_caller]
    fn check(answers: &[(i64, Duration)], expected_us: i64) {
        let sent = Timestamp::UNIX_EPOCH;
        let clock = StoreClock::new(Arc::new(ManualClock::new(sent)));
        for (read_us, round_trip) in answers {
            clock.learn(sent, *round_trip, Timestamp::from_microsecond(*read_us).expect("inside the calendar"));
        }
        assert_eq!(clock.offset_us(), expected_us);
    }

    #[test]
    fn the_middle_of_the_round_trip_is_taken_for_the_moment_of_the_answer() {
        check(&[(5_000_000, SECOND)], 4_500_000);
        check(&[(-5_000_000, SECOND)], -5_500_000);
    }

    #[test]
    fn a_slow_answer_does_not_spoil_what_a_fast_one_said() {
        check(&[(3_000_000, Duration::ZERO), (3_200_000, SECOND)], 3_000_000);
    }

    #[test]
    fn a_clock_that_was_set_is_noticed() {
        check(&[(3_000_000, Duration::ZERO), (9_000_000, SECOND)], 8_500_000);
    }

    #[test]
    fn a_store_without_a_clock_has_this_nodes() {
        check(&[(3_000_000, Duration::ZERO), (0, SECOND)], 0);
    }
}
