//! Clients race one budget to its end, and remember when there was room for whoever was refused.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::books::Books;
use super::client::Client;
use super::cluster::Cluster;
use super::oracle::{Oracle, Script};
use super::price::price_nanos;
use super::server::Server;
use super::site::{Customer, customer, limit};

/// How long other nodes may sit on rights that one of them needs (money.md §3.3 R6).
const FALSE_DENIAL_MAX: Duration = Duration::from_millis(250);
/// What a busy machine may add before the client sees the answer. One that is busier adds as much to answers.
const SLACK: Duration = Duration::from_millis(500);
/// The customer of a race. The names of its requests begin with the same word.
const NAME: &str = "race";
/// Tokens of the answers: each client asks for one size.
const OUTPUTS: [u64; 7] = [20, 30, 40, 50, 60, 70, 80];
const INPUT: u64 = 11;
/// A client gives up when it was refused for this long without a pause.
const REFUSED_FOR: Duration = Duration::from_secs(1);
/// For how long no server may take its calls. On a machine that is short of time for all of them, leases end.
const AWAY_MAX: Duration = Duration::from_secs(20);
/// Its pause after a refusal.
const PAUSE: Duration = Duration::from_millis(25);

/// What clients know of the budget. Whatever a server holds is asked for before and answered after, so this never says
/// that there is more room than there is.
pub struct Race {
    customer: Customer,
    /// The budget of the customer's tenant: the tighter one of the path.
    budget: String,
    limit_nanos: i64,
    estimates: BTreeMap<u64, i64>,
    seen: std::sync::Mutex<SeenByAll>,
}

#[derive(Default)]
struct SeenByAll {
    /// What may be spent or held, after every change.
    used: Vec<(Instant, i64)>,
    /// Complete answers with their price.
    complete: BTreeMap<String, i64>,
    refusals: u64,
    unavailable: usize,
    /// Refusals that do not name the tightest budget.
    misnamed: Vec<String>,
    /// How long a complete answer took, at most.
    slowest: Duration,
    /// For how long there was room for a request that was refused, at most.
    room_unseen: Duration,
    /// For how long somebody was refused while there was room, at most.
    false_denial: Duration,
}

impl Race {
    /// A customer whose tenant has a budget of about so many answers.
    pub async fn new(server: &Server, answers: u64) -> Arc<Self> {
        let mean: i64 = OUTPUTS.iter().map(|output| price_nanos(INPUT, *output)).sum::<i64>() / 7;
        let limit_nanos = mean * i64::try_from(answers).expect("a small number");
        let customer = customer(server, NAME, 2 * limit_nanos, json!({})).await;
        let budget = limit(server, "tenant", NAME, limit_nanos).await;
        let seen = SeenByAll { used: vec![(Instant::now(), 0)], ..SeenByAll::default() };
        let estimates = estimates(server).await;
        Arc::new(Self { customer, budget, limit_nanos, estimates, seen: std::sync::Mutex::new(seen) })
    }

    /// So many clients spend the budget through these servers, until nothing is left for any of them.
    pub async fn run(self: &Arc<Self>, servers: &[Server], clients_count: usize) {
        let all: Vec<Client> = servers.iter().map(|server| server.client(&self.customer.key)).collect();
        let mut clients = JoinSet::new();
        for number in 0..clients_count {
            let mut own = all.clone();
            own.rotate_left(number % all.len());
            clients.spawn(spend(own, self.clone(), number, OUTPUTS[number % OUTPUTS.len()]));
        }
        clients.join_all().await;
        // Nobody asks any longer: on any node one client alone gets what is left, wherever it was leased to.
        for (node, client) in all.into_iter().enumerate() {
            spend(vec![client], self.clone(), clients_count + node, OUTPUTS[0]).await;
        }
    }

    /// Nothing fails here: every call is taken, every refusal names the tightest budget, and none comes long after there
    /// was room.
    pub fn check_calm(&self) {
        let seen = self.seen.lock().expect("no panic");
        assert!(seen.room_unseen <= seen.denial_max(), "refused although there was room for {:?}", seen.room_unseen);
        assert_eq!((seen.unavailable, &*seen.misnamed), (0, &[] as &[String]));
    }

    /// Once the servers have ended: books, provider and clients tell the same story, and nobody was refused for long while
    /// there was room.
    pub async fn check(&self, cluster: &Cluster, oracle: &Oracle) {
        let own = |id: &str| id.starts_with(NAME);
        Books::read_shared(cluster, &self.customer.budget).await.of_owner().check(2 * self.limit_nanos);
        let books = Books::read_shared(cluster, &self.budget).await.tagged(own);
        books.check(self.limit_nanos);
        let seen = self.seen.lock().expect("no panic");
        for (id, price) in &seen.complete {
            let record = books.record(id);
            assert_eq!((record.price_nanos, record.charged_nanos), (*price, *price), "{id}");
        }
        let charged = books.records.iter().filter(|record| record.charged_nanos > 0).count();
        let unseen = charged.checked_sub(seen.complete.len()).expect("every complete answer is charged");
        assert!(unseen <= seen.unavailable, "{unseen} were charged of whose answers nobody heard");
        let served = oracle.served().into_iter().filter(|(id, served)| own(id) && served.complete).count();
        assert_eq!(served, charged, "what was served was charged once");
        seen.check(self.limit_nanos - books.account.settled, self.estimates[&OUTPUTS[0]]);
    }

    fn ask(&self, output: u64) -> Instant {
        self.seen.lock().expect("no panic").change(self.estimates[&output])
    }

    /// What was held for the call may have been charged, so it counts as used for good.
    fn could_not_be_taken(&self) {
        self.seen.lock().expect("no panic").unavailable += 1;
    }

    fn answered(&self, asked: Instant, id: String, output: u64) {
        let price = price_nanos(INPUT, output);
        let mut seen = self.seen.lock().expect("no panic");
        let now = seen.change(price - self.estimates[&output]);
        seen.slowest = seen.slowest.max(now - asked);
        assert_eq!(seen.complete.insert(id, price), None, "a name is used once");
    }

    /// A request that was asked for at this moment was refused, as its client is since that one.
    fn refused(&self, asked: Instant, refused_since: Instant, output: u64, body: &Value) {
        let estimate = self.estimates[&output];
        let mut seen = self.seen.lock().expect("no panic");
        if body["error"]["scope"] != "tenant" {
            seen.misnamed.push(body.to_string());
        }
        let now = seen.change(-estimate);
        let since = seen.room_since(asked, estimate, self.limit_nanos);
        seen.refusals += 1;
        if let Some(since) = since {
            seen.room_unseen = seen.room_unseen.max(now - since);
            seen.false_denial = seen.false_denial.max(now - since.max(refused_since));
        }
    }
}

/// What a request of each size must be able to spend: what a budget of nothing is refused with.
async fn estimates(server: &Server) -> BTreeMap<u64, i64> {
    let nobody = customer(server, "nobody", 1, json!({})).await;
    let client = server.client(&nobody.key);
    let mut estimates = BTreeMap::new();
    for output in OUTPUTS {
        let seen = client.chat(&script(0, 0, output), false).await;
        assert_eq!(seen.status, 402, "{}", seen.text());
        estimates.insert(output, amount(&seen.json(), "estimate"));
    }
    estimates
}

/// Requests of one size have bodies of one length, and so one estimate.
fn script(number: usize, count: usize, output: u64) -> Script {
    Script { id: format!("{NAME}-{number:03}-{count:05}"), input: INPUT, output, gap_ms: 2, ..Script::default() }
}

/// Sends requests of one size until the budget refuses it for a while. It leaves a server that cannot take them.
async fn spend(mut servers: Vec<Client>, race: Arc<Race>, number: usize, output: u64) {
    let mut count = 0;
    let (mut refused_since, mut away_since) = (None, None);
    while refused_since.is_none_or(|since: Instant| since.elapsed() < REFUSED_FOR) {
        let script = script(number, count, output);
        count += 1;
        let asked = race.ask(output);
        let seen = servers[0].chat(&script, false).await;
        match seen.status {
            402 => {
                race.refused(asked, refused_since.unwrap_or(asked), output, &seen.json());
                (refused_since, away_since) = (refused_since.or(Some(asked)), None);
                tokio::time::sleep(PAUSE).await;
            }
            503 => {
                race.could_not_be_taken();
                away_since = away_since.or(Some(asked));
                let away = away_since.map_or(Duration::ZERO, |since| since.elapsed());
                assert!(away < AWAY_MAX, "no server takes calls since {away:?}: {}", seen.text());
                servers.rotate_left(1);
                tokio::time::sleep(PAUSE).await;
            }
            _ => {
                assert!(seen.complete(false), "{}: {}", seen.status, seen.text());
                race.answered(asked, script.id, output);
                (refused_since, away_since) = (None, None);
            }
        }
    }
}

impl SeenByAll {
    fn change(&mut self, by: i64) -> Instant {
        let now = Instant::now();
        let used = self.used.last().map_or(0, |(_, used)| *used);
        self.used.push((now, used + by));
        now
    }

    /// Since when there was room for one more request of this size, given that it was asked for at that moment; none when
    /// there was not before its refusal.
    fn room_since(&self, asked: Instant, estimate: i64, limit: i64) -> Option<Instant> {
        let own = |at: Instant| if at >= asked { 0 } else { estimate };
        let (_, before) = self.used.split_last()?;
        let crowded = before.iter().rposition(|(at, used)| used + own(*at) > limit);
        let first = crowded.map_or(0, |position| position + 1);
        before.get(first).map(|(at, _)| *at)
    }

    fn check(&self, unused: i64, smallest: i64) {
        let (answers, refusals, late) = (self.complete.len(), self.refusals, self.false_denial);
        let (away, slowest) = (self.unavailable, self.slowest);
        eprintln!(
            "{answers} answers, the slowest after {slowest:?}, {refusals} refusals, the longest with room {late:?}, {away} \
             calls not taken; {unused} of {smallest} unused"
        );
        assert!(unused < smallest, "{unused} was left, and a request needed only {smallest}");
        assert!(late <= self.denial_max(), "refused for {late:?} although there was room");
    }

    fn denial_max(&self) -> Duration {
        FALSE_DENIAL_MAX + SLACK.max(self.slowest)
    }
}

/// An amount of an error, in nano-units.
fn amount(body: &Value, name: &str) -> i64 {
    let amount = body["error"][name].as_str().expect("an amount");
    let (units, fraction) = amount.split_once('.').unwrap_or((amount, ""));
    format!("{units}{fraction:0<9}").parse().expect("digits")
}
