//! How requests that need rights share conversations with the store. All of it in virtual time.
#![allow(clippy::expect_used, clippy::panic, reason = "this is a test")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use cfr_billing::audit_log::Act;
use cfr_billing::escrow::Escrow;
use cfr_billing::store::{LedgerStore, NodeState};
use cfr_core::id::BudgetId;
use cfr_core::ledger::{AuthorizeError, BudgetLedger, Hold, LedgerError};
use cfr_core::time::{Clock, Period};
use support::cluster::{Cluster, IDLE, RECALL, config};
use support::link::Link;
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep};

/// Conversations that are under way at a time.
const CONVERSATIONS: usize = 2;
/// Questions in one conversation, at most.
const QUESTIONS: usize = 128;
/// When a conversation makes way for another one.
const SLOW: Duration = Duration::from_millis(250);
/// More turns than any request needs until it waits for the store.
const TURNS: u32 = 50;

/// A node whose way to the store the test controls.
struct Bench {
    cluster: Cluster,
    link: Arc<Link>,
    node: Arc<Escrow>,
}

impl Bench {
    async fn start() -> Self {
        let cluster = Cluster::new();
        let link = Link::to(cluster.store.clone());
        let clock = Arc::new(cluster.clock.clone());
        let node = Escrow::start(link.clone(), clock, config("a")).await.expect("the store works");
        Self { cluster, link, node }
    }

    fn budgets(&self, count: usize) -> Vec<BudgetId> {
        (0..count).map(|_| self.cluster.budget(100, Period::Never)).collect()
    }

    /// Asks for a hold on each of these budgets, and returns when all wait for the store or have their answer.
    async fn ask(&self, budgets: &[BudgetId]) -> JoinSet<Result<Hold, AuthorizeError>> {
        let mut requests = JoinSet::new();
        for budget in budgets {
            let (node, ask) = (self.node.clone(), self.cluster.ask(&[*budget], 10));
            requests.spawn(async move { node.authorize(ask).await });
        }
        for _ in 0..TURNS {
            yield_now().await; // time stands still meanwhile
        }
        requests
    }

    /// As many conversations as there may be, each about one of these budgets.
    async fn occupy(&self, budgets: &[BudgetId]) -> JoinSet<Result<Hold, AuthorizeError>> {
        let mut requests = JoinSet::new();
        for budget in budgets {
            let mut request = self.ask(std::slice::from_ref(budget)).await;
            requests.spawn(async move { request.join_next().await.expect("it is one").expect("it does not panic") });
        }
        assert_eq!(self.link.conversations(), [1; CONVERSATIONS]);
        requests
    }

    async fn nodes(&self) -> Vec<NodeState> {
        self.cluster.store.nodes(self.cluster.clock.now()).await.expect("the store works")
    }
}

async fn granted(requests: JoinSet<Result<Hold, AuthorizeError>>) -> usize {
    requests.join_all().await.iter().filter(|answer| answer.is_ok()).count()
}

#[tokio::test(start_paused = true)]
async fn a_lone_question_goes_out_at_once() {
    let bench = Bench::start().await;
    let begun = Instant::now();
    for budget in bench.budgets(3) {
        let _held = bench.cluster.hold(&bench.node, budget, 10).await.expect("there is room");
    }
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(bench.link.conversations(), [1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn questions_that_wait_go_out_together() {
    let bench = Bench::start().await;
    let (first, waiting) = (bench.budgets(CONVERSATIONS), bench.budgets(20));
    bench.link.set_stuck(&first);
    let early = bench.occupy(&first).await;
    let late = bench.ask(&waiting).await;
    assert_eq!(bench.link.conversations().len(), CONVERSATIONS, "the others wait");
    bench.link.set_stuck(&[]);
    assert_eq!((granted(early).await, granted(late).await), (CONVERSATIONS, 20));
    assert_eq!(bench.link.conversations()[CONVERSATIONS..], [20]);
    let stats = bench.node.stats();
    assert_eq!((stats.acquires, stats.conversations), (22, 3));
    for budget in first.into_iter().chain(waiting) {
        assert_eq!(bench.cluster.booked(budget).await.2, 10, "each got its own");
    }
}

#[tokio::test(start_paused = true)]
async fn a_conversation_has_an_end() {
    let bench = Bench::start().await;
    let (first, waiting) = (bench.budgets(CONVERSATIONS), bench.budgets(QUESTIONS + 10));
    bench.link.set_stuck(&first);
    let (_early, late) = (bench.occupy(&first).await, bench.ask(&waiting).await);
    bench.link.set_stuck(&[]);
    assert_eq!(granted(late).await, QUESTIONS + 10);
    assert_eq!(bench.link.conversations()[CONVERSATIONS..], [QUESTIONS, 10]);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever_for_slow_conversations() {
    let bench = Bench::start().await;
    let (slow, quick) = (bench.budgets(CONVERSATIONS), bench.budgets(3));
    bench.link.set_stuck(&slow);
    let early = bench.occupy(&slow).await;
    let begun = Instant::now();
    assert_eq!(granted(bench.ask(&quick).await).await, 3);
    assert_eq!(begun.elapsed(), SLOW);
    bench.link.set_stuck(&[]);
    assert_eq!(granted(early).await, CONVERSATIONS, "they went on beside the others");
    assert!(bench.cluster.hold(&bench.node, bench.budgets(1)[0], 10).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_conversation_that_fails_fails_its_own_questions_only() {
    let bench = Bench::start().await;
    let (first, waiting, next) = (bench.budgets(CONVERSATIONS), bench.budgets(5), bench.budgets(1));
    bench.link.set_stuck(&first);
    bench.link.set_broken(&waiting[2..3]);
    let (early, late) = (bench.occupy(&first).await, bench.ask(&waiting).await);
    bench.link.set_stuck(&[]);
    for answer in late.join_all().await {
        assert!(matches!(answer, Err(AuthorizeError::Ledger(LedgerError::Unavailable { .. }))), "{answer:?}");
    }
    assert_eq!(granted(early).await, CONVERSATIONS);
    assert!(bench.cluster.hold(&bench.node, next[0], 10).await.is_ok());
    bench.link.set_broken(&[]);
    assert_eq!(granted(bench.ask(&waiting).await).await, 5, "and the same may ask again");
}

#[tokio::test(start_paused = true)]
async fn a_denial_is_told_to_the_one_who_asked() {
    let bench = Bench::start().await;
    let (first, rich, poor) = (bench.budgets(CONVERSATIONS), bench.budgets(2), bench.cluster.budget(5, Period::Never));
    bench.link.set_stuck(&first);
    let _early = bench.occupy(&first).await;
    let late = bench.ask(&[rich[0], poor, rich[1]]).await;
    bench.link.set_stuck(&[]);
    let denied: Vec<_> = late.join_all().await.into_iter().filter_map(Result::err).collect();
    assert!(
        matches!(&denied[..], [AuthorizeError::Denied(denial)] if denial.budget == poor && denial.available.nanos() == 5),
        "{denied:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn questions_of_a_fenced_life_are_asked_again_by_the_next() {
    let bench = Bench::start().await;
    let (first, waiting) = (bench.budgets(CONVERSATIONS), bench.budgets(6));
    bench.link.set_stuck(&first);
    let (early, late) = (bench.occupy(&first).await, bench.ask(&waiting).await);
    bench.cluster.store.fence("a", &Act::of_system(bench.cluster.clock.now())).await.expect("it is known");
    bench.link.set_stuck(&[]);
    assert_eq!((granted(early).await, granted(late).await), (CONVERSATIONS, 6));
    let nodes = bench.nodes().await;
    assert_eq!((nodes.len(), nodes[0].epoch), (1, 2), "one life for all of them");
    bench.cluster.assert_books_agree().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_granted_to_a_caller_who_left_is_not_lost() {
    let bench = Bench::start().await;
    let (first, waiting) = (bench.budgets(CONVERSATIONS), bench.budgets(3));
    bench.link.set_stuck(&first);
    let (mut early, mut late) = (bench.occupy(&first).await, bench.ask(&waiting).await);
    early.abort_all();
    late.abort_all();
    bench.link.set_stuck(&[]);
    sleep(Duration::from_millis(1)).await;
    for budget in &waiting {
        assert_eq!(bench.cluster.booked(*budget).await.2, 10);
    }
    bench.node.shutdown().await.expect("the store works");
    for budget in first.iter().chain(&waiting) {
        assert_eq!(bench.cluster.booked(*budget).await, (100, 0, 0), "it was known, so it went back");
    }
}

#[tokio::test(start_paused = true)]
async fn idle_rights_go_back_many_at_a_time() {
    const USERS: usize = 600;
    let bench = Bench::start().await;
    let (budgets, used) = (bench.budgets(USERS), bench.cluster.budget(100, Period::Never));
    for budget in &budgets {
        assert_eq!(bench.cluster.serve(&bench.node, *budget, 10, 4).await, Some(4));
    }
    let _running = bench.cluster.hold(&bench.node, used, 10).await.expect("there is room");
    sleep(IDLE * 2 + SLOW).await;
    assert_eq!(bench.link.returns(), [256, 256, 88]);
    for budget in budgets {
        assert_eq!(bench.cluster.booked(budget).await, (100, 4, 0));
    }
    assert_eq!(bench.cluster.booked(used).await, (100, 0, 10), "what is held stays");
}

#[tokio::test(start_paused = true)]
async fn rights_that_are_asked_about_are_lent_when_the_answer_is_there() {
    let bench = Bench::start().await;
    let (cluster, budget) = (&bench.cluster, bench.budgets(1)[0]);
    let other = cluster.start("b").await;
    let running = cluster.hold(&bench.node, budget, 100).await.expect("there is room");
    cluster.settle(&bench.node, running.id, 10).committed.await.expect("it is written");
    bench.link.set_stuck(&[budget]);
    let answered = async {
        sleep(RECALL / 2).await;
        bench.link.set_stuck(&[]);
    };
    let (too_much, lent, ()) =
        tokio::join!(cluster.hold(&bench.node, budget, 95), cluster.hold(&other, budget, 60), answered);
    too_much.expect_err("90 are left");
    assert_eq!(lent.expect("they were idle").amount.nanos(), 60);
}
