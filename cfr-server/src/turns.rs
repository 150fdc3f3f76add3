//! How often something may be done in a while, counted by all servers together.
//!
//! A server lets in from memory and writes down only every few turns, so that many attempts cost few writes. What others wrote
//! meanwhile it learns then: together they let in at most [`Quota::most`], and each server less than [`Quota::step`] beyond.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cfr_billing::people::{AttemptCount, SecretHash};
use cfr_billing::store::{PeopleStore, StoreError};
use cfr_core::time::{Clock, Timestamp};
use quick_cache::unsync::Cache;
use sha2::{Digest as _, Sha256};

/// Subjects that are remembered in memory.
const SUBJECTS_REMEMBERED: usize = 100_000;

/// How often something may be done.
#[derive(Debug)]
pub(crate) struct Quota {
    /// What, in a word of its own: each quota counts for itself.
    pub(crate) what: &'static str,
    /// Turns in a window.
    pub(crate) most: u32,
    /// How long the window is, from the first turn.
    pub(crate) window: Duration,
    /// After how many turns a server writes down what it let in. One counts exactly, for a write each time.
    pub(crate) step: u32,
}

/// Gives turns.
#[derive(Debug)]
pub(crate) struct Turns {
    store: Arc<dyn PeopleStore>,
    clock: Arc<dyn Clock>,
    known: Mutex<Cache<SecretHash, Known>>,
}

/// What a server knows of a subject.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// Turns that are written down, of every server.
    written: u64,
    /// Turns of this one that are not.
    unwritten: u32,
    until: Timestamp,
}

/// What a turn asks for.
enum Turn {
    /// It is given from memory.
    Given,
    /// So many turns are to be written down before it is.
    Write(u32, Timestamp),
    /// There is none.
    None { after: Duration },
}

impl Turns {
    pub(crate) fn new(store: Arc<dyn PeopleStore>, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock, known: Mutex::new(Cache::new(SUBJECTS_REMEMBERED)) }
    }

    /// Takes a turn of a subject. What comes back is how long to wait, when there is none.
    pub(crate) async fn take(&self, quota: &Quota, subject: u128) -> Result<Option<Duration>, StoreError> {
        let (name, now) = (name(quota, subject), self.clock.now());
        let (turns, until) = match self.begin(quota, &name, now) {
            Turn::Given => return Ok(None),
            Turn::None { after } => return Ok(Some(after)),
            Turn::Write(turns, until) => (turns, until),
        };
        let counted = self.store.count_attempts(&name, turns, now, until).await?;
        self.learn(name, counted, now);
        let none = counted.count > u64::from(quota.most);
        Ok(none.then(|| counted.until.duration_since(now).unsigned_abs()))
    }

    fn begin(&self, quota: &Quota, name: &SecretHash, now: Timestamp) -> Turn {
        let mut subjects = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = subjects.get(name).copied().filter(|known| now < known.until);
        let mut known = known.unwrap_or(Known { written: 0, unwritten: 0, until: now + quota.window });
        if known.written + u64::from(known.unwritten) >= u64::from(quota.most) {
            return Turn::None { after: known.until.duration_since(now).unsigned_abs() };
        }
        known.unwritten += 1;
        let (turns, until) = (known.unwritten, known.until);
        let due = known.written == 0 || turns >= quota.step;
        if due {
            (known.written, known.unwritten) = (known.written + u64::from(turns), 0);
        }
        subjects.insert(*name, known);
        if due { Turn::Write(turns, until) } else { Turn::Given }
    }

    /// The store knows of what others let in.
    fn learn(&self, name: SecretHash, counted: AttemptCount, now: Timestamp) {
        let mut subjects = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = subjects.get(&name).copied().filter(|known| now < known.until);
        let (written, unwritten) = known.map_or((0, 0), |known| (known.written, known.unwritten));
        let written = written.max(counted.count);
        subjects.insert(name, Known { written, unwritten, until: counted.until });
    }
}

/// A store learns nobody's address from it without trying them all.
fn name(quota: &Quota, subject: u128) -> SecretHash {
    let hash = Sha256::new().chain_update(quota.what).chain_update([0]).chain_update(subject.to_be_bytes());
    SecretHash(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use cfr_billing::store::MemoryStore;
    use cfr_core::time::ManualClock;

    use super::*;

    const EXACT: Quota = Quota { what: "exact", most: 20, window: Duration::from_hours(24), step: 1 };
    const COARSE: Quota = Quota { what: "coarse", most: 60, window: Duration::from_mins(1), step: 6 };

    /// Two servers over one store.
    fn servers() -> (Arc<ManualClock>, [Turns; 2]) {
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let store = Arc::new(MemoryStore::shared());
        let server = || Turns::new(Arc::clone(&store) as _, Arc::clone(&clock) as _);
        (Arc::clone(&clock), [server(), server()])
    }

    async fn given(servers: &[Turns], quota: &Quota, subject: u128) -> u32 {
        let mut given = 0;
        for turn in 0..1_000 {
            let server = &servers[turn % servers.len()];
            given += u32::from(server.take(quota, subject).await.expect("the store works").is_none());
        }
        given
    }

    #[tokio::test]
    async fn servers_count_together() {
        let (clock, servers) = servers();
        assert_eq!(given(&servers, &EXACT, 1).await, EXACT.most);
        assert_eq!(given(&servers[..1], &EXACT, 2).await, EXACT.most, "each subject for itself");
        let given_coarsely = given(&servers, &COARSE, 1).await;
        assert!((COARSE.most..COARSE.most + 2 * COARSE.step).contains(&given_coarsely), "{given_coarsely}");
        clock.advance(Duration::from_secs(10));
        let after = servers[1].take(&COARSE, 1).await.expect("the store works");
        assert_eq!(after, Some(Duration::from_secs(50)));
        clock.advance(Duration::from_secs(50));
        assert_eq!(servers[1].take(&COARSE, 1).await.expect("the store works"), None, "another minute");
        assert!(servers[1].take(&EXACT, 1).await.expect("the store works").is_some(), "but not another day");
    }
}
