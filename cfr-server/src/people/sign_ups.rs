//! How often one network may sign up: each time costs a letter, and the attention of an administrator.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use quick_cache::unsync::Cache;

use super::refusal::Refusal;
use crate::serve::network;

/// Sign-ups of one network in a day, on one server.
const PER_NETWORK_AND_DAY_MAX: u32 = 20;
const DAY: Duration = Duration::from_hours(24);
/// Networks that are remembered.
const NETWORKS_REMEMBERED: usize = 100_000;

/// Who signed up of late.
#[derive(Debug)]
pub(super) struct SignUps(Mutex<Cache<u128, Counted>>);

#[derive(Debug, Clone, Copy)]
struct Counted {
    count: u32,
    /// When the first of them was, in uptime.
    since: Duration,
}

impl Default for SignUps {
    fn default() -> Self {
        Self(Mutex::new(Cache::new(NETWORKS_REMEMBERED)))
    }
}

impl SignUps {
    /// Counts a sign-up from this network.
    ///
    /// # Errors
    /// [`Refusal::Throttled`] when there were too many within a day.
    pub(super) fn admit(&self, address: Option<IpAddr>, now: Duration) -> Result<(), Refusal> {
        let network = address.map_or(0, network);
        let mut networks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = networks.get(&network).copied().filter(|known| now.saturating_sub(known.since) < DAY);
        let known = known.unwrap_or(Counted { count: 0, since: now });
        if known.count >= PER_NETWORK_AND_DAY_MAX {
            return Err(Refusal::Throttled { after: (known.since + DAY).saturating_sub(now) });
        }
        networks.insert(network, Counted { count: known.count + 1, ..known });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_signs_up_so_often_in_a_day_and_another_one_too() {
        let (sign_ups, now) = (SignUps::default(), Duration::from_secs(5));
        let address = |text: &str| Some(text.parse().expect("an address"));
        for _ in 0..PER_NETWORK_AND_DAY_MAX {
            sign_ups.admit(address("2001:db8::1"), now).expect("within the limit");
        }
        let refused = sign_ups.admit(address("2001:db8::ffff:2"), now + Duration::from_secs(1));
        assert!(matches!(refused, Err(Refusal::Throttled { after }) if after == DAY - Duration::from_secs(1)));
        sign_ups.admit(address("192.0.2.1"), now).expect("another network");
        sign_ups.admit(address("2001:db8::1"), now + DAY).expect("another day");
    }
}
