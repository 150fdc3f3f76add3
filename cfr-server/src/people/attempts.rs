//! Who tries too often waits: the longer, the more often it failed.
//!
//! The wait goes by the address that was typed, whether somebody has it or not, so it tells nobody who has an account. It is
//! kept in memory; what a store counts beside it ([`Credentials::failures`](cfr_billing::people::Credentials)) outlives the
//! process and holds for every replica. Of networks, the store counts what all replicas let in, behind a limit in memory.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cfr_billing::people::{Credentials, SecretHash};
use cfr_billing::store::PeopleStore;
use cfr_core::ledger::Scope;
use cfr_core::limit::{Limit, RateLimits};
use cfr_core::time::{Clock, Timestamp};
use quick_cache::unsync::Cache;

use super::{Refusal, secret};
use crate::serve::network;
use crate::turns::{Quota, Turns};

/// Failures that cost no wait: people mistype.
const FREE_FAILURES: u32 = 2;
/// The first wait.
const DELAY_MIN: Duration = Duration::from_secs(1);
/// The longest wait: nobody is locked out for longer by what others try.
const DELAY_MAX: Duration = Duration::from_mins(15);
/// After so many failures in a row only a reset by letter helps (NIST SP 800-63B-4 §3.2.2).
pub const FAILURES_MAX: u32 = 100;
/// Accounts whose failures are remembered in memory.
const ACCOUNTS_REMEMBERED: usize = 100_000;
const MINUTE: Duration = Duration::from_mins(1);
/// Attempts in a minute from one network: an office behind one address signs in at nine.
const PER_NETWORK: Quota = Quota { what: "attempts of a network", most: 60, window: MINUTE, step: 6 };
/// Attempts in a minute in all.
const IN_ALL: Quota = Quota { what: "attempts in all", most: 1_200, window: MINUTE, step: 60 };

/// How long after so many failures the next attempt has to wait.
#[must_use]
pub fn delay(failures: u32) -> Duration {
    let Some(doublings) = failures.checked_sub(FREE_FAILURES + 1) else { return Duration::ZERO };
    1_u32.checked_shl(doublings).map_or(DELAY_MAX, |factor| DELAY_MIN.saturating_mul(factor).min(DELAY_MAX))
}

/// Whether an account takes no password or code now, whoever presents it.
#[must_use]
pub fn is_closed(credentials: &Credentials, now: Timestamp) -> bool {
    let waits = |failed_at: Timestamp| now.duration_since(failed_at).unsigned_abs() < delay(credentials.failures);
    credentials.failures >= FAILURES_MAX || credentials.failed_at.is_some_and(waits)
}

/// What is tried: a password and a letter wait for themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// To sign in.
    SignIn,
    /// To get a letter.
    Letter,
}

/// What was tried of late.
#[derive(Debug)]
pub struct Attempts {
    clock: Arc<dyn Clock>,
    rates: RateLimits,
    turns: Turns,
    accounts: Mutex<Cache<SecretHash, Failures>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Failures {
    count: u32,
    /// When the last of them began, in uptime.
    last: Duration,
}

/// An attempt that was let in. It counts as failed until it [succeeds](Attempts::succeeded): many at once are many failures.
#[derive(Debug)]
#[must_use = "an attempt that nobody forgives was a failure"]
pub struct Attempt {
    account: SecretHash,
    before: Failures,
}

impl Attempts {
    /// Nothing was tried here yet.
    #[must_use]
    pub fn new(store: Arc<dyn PeopleStore>, clock: Arc<dyn Clock>) -> Self {
        let (rates, turns) = (RateLimits::new(Arc::clone(&clock)), Turns::new(store, Arc::clone(&clock)));
        Self { clock, rates, turns, accounts: Mutex::new(Cache::new(ACCOUNTS_REMEMBERED)) }
    }

    /// Lets an attempt from this network in.
    ///
    /// # Errors
    /// [`Refusal::Throttled`] when there were too many from there, or in all; when the store fails.
    pub async fn admit(&self, address: Option<IpAddr>) -> Result<(), Refusal> {
        self.admit_here(address)?;
        // A network that is over its own limit must not use up the turns of all.
        self.take(&PER_NETWORK, address).await?;
        self.take(&IN_ALL, None).await
    }

    /// Takes a turn of a network, or of all.
    ///
    /// # Errors
    /// [`Refusal::Throttled`] when there is none; when the store fails.
    pub(super) async fn take(&self, quota: &Quota, address: Option<IpAddr>) -> Result<(), Refusal> {
        let wait = self.turns.take(quota, address.map_or(0, network)).await?;
        wait.map_or(Ok(()), |after| Err(Refusal::Throttled { after }))
    }

    /// What this server lets in at once.
    fn admit_here(&self, address: Option<IpAddr>) -> Result<(), Refusal> {
        let limit = |scope, subject, quota: &Quota| Limit {
            scope,
            subject,
            requests_per_minute: NonZeroU32::new(quota.most),
            parallel_requests_max: None,
        };
        let network = limit(Scope::User, address.map_or(0, network), &PER_NETWORK);
        let all = limit(Scope::Platform, 0, &IN_ALL);
        let admitted = self.rates.admit(&[network, all]);
        admitted.map(drop).map_err(|exceeded| Refusal::Throttled { after: exceeded.retry_after })
    }

    /// Lets an attempt at this account in, by the address that was typed.
    ///
    /// # Errors
    /// [`Refusal::Throttled`] while it has to wait.
    pub fn begin(&self, what: What, email: &str) -> Result<Attempt, Refusal> {
        let account = secret::hash(&format!("{what:?}:{}", email.to_lowercase()));
        let now = self.clock.uptime();
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let before = accounts.get(&account).copied().unwrap_or_default();
        let wait = (before.last + delay(before.count)).saturating_sub(now);
        if before.count > FREE_FAILURES && !wait.is_zero() {
            return Err(Refusal::Throttled { after: wait });
        }
        accounts.insert(account, Failures { count: before.count.saturating_add(1), last: now });
        Ok(Attempt { account, before })
    }

    /// The attempt was no failure, and says nothing about the ones before.
    pub fn forgive(&self, attempt: &Attempt) {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        accounts.insert(attempt.account, attempt.before);
    }

    /// Who tried is who they say: failures before it are forgotten.
    pub fn succeeded(&self, attempt: &Attempt) {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner).remove(&attempt.account);
    }
}

#[cfg(test)]
mod tests {
    use cfr_billing::store::MemoryStore;
    use cfr_core::time::ManualClock;

    use super::*;

    fn attempts() -> (Arc<ManualClock>, Attempts) {
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        (Arc::clone(&clock), Attempts::new(Arc::new(MemoryStore::shared()), clock))
    }

    fn wait(refused: Result<Attempt, Refusal>) -> Duration {
        match refused {
            Err(Refusal::Throttled { after }) => after,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_wait_doubles_from_a_second_to_a_quarter_of_an_hour() {
        let seconds: Vec<u64> = [0, 2, 3, 4, 5, 12, 13, 99, u32::MAX].map(|failures| delay(failures).as_secs()).into();
        assert_eq!(seconds, [0, 0, 1, 2, 4, 512, 900, 900, 900]);
    }

    #[test]
    fn an_account_waits_whoever_tries_and_another_does_not() {
        let (clock, attempts) = attempts();
        for _ in 0..3 {
            let _failed = attempts.begin(What::SignIn, "Ada@example.org").expect("free");
        }
        assert_eq!(wait(attempts.begin(What::SignIn, "ada@example.org")), Duration::from_secs(1));
        let _another = attempts.begin(What::SignIn, "bob@example.org").expect("nobody tried");
        let _letter = attempts.begin(What::Letter, "ada@example.org").expect("a letter waits for itself");
        clock.advance(Duration::from_secs(1));
        let attempt = attempts.begin(What::SignIn, "ada@example.org").expect("it waited");
        attempts.succeeded(&attempt);
        let _again = attempts.begin(What::SignIn, "ada@example.org").expect("forgotten");
    }

    #[test]
    fn a_network_and_all_of_them_have_a_limit() {
        let (_, attempts) = attempts();
        let address = |text: &str| Some(text.parse().expect("an address"));
        for _ in 0..PER_NETWORK.most {
            attempts.admit_here(address("2001:db8::1")).expect("within the limit");
        }
        assert!(attempts.admit_here(address("2001:db8::ffff:2")).is_err(), "the same customer");
        attempts.admit_here(address("2001:db8:0:1::1")).expect("another customer");
        attempts.admit_here(address("192.0.2.1")).expect("another customer");
        attempts.admit_here(address("192.0.2.2")).expect("another customer");
        let others = (1_u128..).map(|number| IpAddr::from((number << 64).to_be_bytes()));
        let admitted = others.take(2_000).filter(|other| attempts.admit_here(Some(*other)).is_ok()).count();
        assert!(admitted < 2_000 && admitted > 1_000, "{admitted}");
    }

    #[test]
    fn what_the_store_counted_closes_an_account_for_a_while_and_at_last_for_good() {
        let now = Timestamp::from_second(1_000_000).expect("a time");
        let mut credentials = Credentials::none(cfr_core::id::UserId::from_u128(1));
        assert!(!is_closed(&credentials, now));
        (credentials.failures, credentials.failed_at) = (3, Some(now));
        assert!(is_closed(&credentials, now));
        assert!(!is_closed(&credentials, now + Duration::from_secs(1)));
        credentials.failures = FAILURES_MAX;
        assert!(is_closed(&credentials, now + Duration::from_hours(24)));
    }
}
