//! A customer who goes on asking while the books are out of reach, and who compares afterwards what was answered, what
//! was served and what was charged.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

use super::books::Books;
use super::client::{Client, Seen};
use super::oracle::{Oracle, Script};
use super::price::price_nanos;

/// Calls of a phase.
const CALLS: u32 = 8;
/// What has not come after this long does not come by itself.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two questions whether it has.
const POLL: Duration = Duration::from_millis(50);

/// All that a customer asked. Every call has a name of its own: that of its phase, and a number.
#[derive(Debug)]
pub struct Witness {
    oracle: Oracle,
    client: Client,
    stream: JoinSet<(String, Seen)>,
    seen: BTreeMap<String, Seen>,
}

impl Witness {
    /// Somebody with a client, whose calls this oracle serves.
    pub fn new(oracle: Oracle, client: Client) -> Self {
        Self { oracle, client, stream: JoinSet::new(), seen: BTreeMap::new() }
    }

    /// Every call is answered.
    pub async fn answered(&mut self, phase: &str) {
        for number in 0..CALLS {
            let seen = self.ask(phase, number).await;
            assert!(seen.complete(false), "{phase}: {} {}", seen.status, seen.text());
        }
    }

    /// Every call is refused, and says why.
    pub async fn refused(&mut self, phase: &str) {
        for number in 0..CALLS {
            let seen = self.ask(phase, number).await;
            assert_eq!((seen.status, seen.error_code().as_str()), (503, "ledger_unavailable"), "{phase}");
        }
    }

    /// Asks until a call is refused.
    pub async fn refused_at_last(&mut self, phase: &str) {
        self.ask_until(phase, 503).await;
    }

    /// Asks until a call is answered: the server goes on by itself.
    pub async fn resumed(&mut self, phase: &str) {
        self.ask_until(phase, 200).await;
    }

    /// A stream that is under way when this returns.
    pub async fn begin_stream(&mut self, id: &str) {
        let client = self.client.clone();
        let script = Script { id: id.to_owned(), input: 9, output: 40, gap_ms: 25, ..Script::default() };
        self.stream.spawn(async move { (script.id.clone(), client.chat(&script, true).await) });
        timeout(PATIENCE, self.oracle.served_until(id, |served| served.output > 0)).await.expect("it begins");
    }

    /// A stream that began well cannot be complete without a charge: it ends without its last event.
    pub async fn stream_is_cut(&mut self) {
        let ended = timeout(PATIENCE, self.stream.join_next()).await.expect("it ends");
        let (id, seen) = ended.expect("a stream began").expect("the client lives");
        assert_eq!(seen.status, 200, "{}", seen.text());
        assert!(!seen.complete(true), "a complete answer that is not charged: {}", seen.text());
        self.seen.insert(id, seen);
    }

    /// Every complete answer is charged once with its full price, and nothing is charged twice or for more than was served.
    #[track_caller]
    pub fn check(&self, books: &Books) {
        let (served, by_tag) = (self.oracle.served(), books.by_tag());
        for (tag, records) in &by_tag {
            assert_eq!(records.len(), 1, "{tag} is charged once");
            let full = price_nanos(served[*tag].input, served[*tag].output);
            assert!(records[0].charged_nanos <= full, "{tag} is charged for no more than was served");
        }
        for (id, _) in self.seen.iter().filter(|(_, seen)| seen.status == 200 && seen.whole) {
            let record = by_tag.get(id.as_str()).unwrap_or_else(|| panic!("{id} was answered and not charged"))[0];
            assert_eq!(record.charged_nanos, price_nanos(served[id].input, served[id].output), "{id}");
        }
    }

    async fn ask_until(&mut self, phase: &str, wanted: u16) {
        let asked = async {
            for number in 0.. {
                let seen = self.ask(phase, number).await;
                assert!(matches!(seen.status, 200 | 503), "{phase}: {} {}", seen.status, seen.text());
                if seen.status == wanted {
                    return;
                }
                tokio::time::sleep(POLL).await;
            }
        };
        timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("{phase}: no {wanted} within {PATIENCE:?}"));
    }

    async fn ask(&mut self, phase: &str, number: u32) -> Seen {
        let id = format!("{phase}-{number}");
        let script = Script { id: id.clone(), input: 9, output: 5, gap_ms: 2, ..Script::default() };
        let seen = timeout(PATIENCE, self.client.chat(&script, false)).await.expect("an end of the call");
        self.seen.insert(id, seen.clone());
        seen
    }
}
