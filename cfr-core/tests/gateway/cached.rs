//! Answers that were given before.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cfr_core::cache::{CacheOutcome, CachePolicy, CacheTenants, CacheUse, MemoryCache};
use cfr_core::chat::{Usage, UsageSource};
use cfr_core::gateway::{Answer, AnswerHead, Caller, GatewayError};
use cfr_core::id::TenantId;
use cfr_core::ledger::LedgerError;
use cfr_core::upstream::{FinishReason, Report};

use crate::scripted::{MODEL, Setup, Step, World, finish, overloaded, text};

/// What `Usage::text(100, 10)` costs in EUR-nanos.
const PRICE_NANOS: i64 = 120_000;
const CACHE_BYTES: usize = 1 << 20;

fn policy() -> CachePolicy {
    CachePolicy::new(CacheTenants::All, vec![MODEL.into()])
}

fn world(policy: CachePolicy) -> World {
    world_of(Setup::default(), policy)
}

/// The cache and the gateway read one clock, which the test moves.
fn world_of(setup: Setup, policy: CachePolicy) -> World {
    setup.build_with_clock(|builder, clock| {
        builder.response_cache(Arc::new(MemoryCache::new(clock, CACHE_BYTES)), policy)
    })
}

fn answer() -> Step {
    Step::Whole { usage: Some(Usage::text(100, 10)), output_bytes: 40 }
}

fn says(finish: FinishReason) -> Step {
    Step::Says(Report { usage: Some(Usage::text(100, 10)), finish: Some(finish), ..Report::default() })
}

/// Asks, and says what the cache did.
async fn outcome(world: &World, fields: &str) -> Option<CacheOutcome> {
    head(world, fields).await.cache
}

async fn head(world: &World, fields: &str) -> AnswerHead {
    match world.ask(fields).await.expect("an answer") {
        Answer::Whole { head, .. } | Answer::Stream { head, .. } => head,
        _ => panic!("an answer of unknown shape"),
    }
}

#[tokio::test]
async fn a_hit_asks_no_upstream_costs_nothing_and_leaves_a_record() {
    let world = world(policy());
    world.first.then(answer());
    let Ok(Answer::Whole { body: first, .. }) = world.ask("").await else { panic!("an answer") };
    let Ok(Answer::Whole { head, body, content_type }) = world.ask("").await else { panic!("an answer") };
    assert_eq!((head.cache, head.charged.map(|charged| charged.nanos())), (Some(CacheOutcome::Hit), Some(0)));
    assert_eq!((body, content_type.as_bytes()), (first, &b"application/json"[..]));
    assert_eq!(world.first.calls.load(Ordering::SeqCst), 1);
    let records = world.ledger.books.records();
    assert_eq!(records.len(), 2);
    let hit = &records[1];
    assert_eq!((hit.source, hit.usage, hit.status), (UsageSource::Cache, Usage::text(100, 10), 200));
    assert_eq!((hit.charged_nanos, hit.cost_nanos, hit.price_nanos, hit.first_byte_ms), (0, 0, 0, None));
    assert_eq!((&*hit.provider, &*hit.model_served), ("openai", MODEL));
    let balance = world.balance().await;
    assert_eq!((balance.settled.nanos(), balance.held.nanos()), (PRICE_NANOS, 0));
}

#[tokio::test]
async fn a_hit_may_cost_a_share_of_its_price() {
    let world = world(CachePolicy { price_percent: 25, ..policy() });
    world.first.then(answer());
    assert_eq!(outcome(&world, "").await, Some(CacheOutcome::Miss));
    assert_eq!(head(&world, "").await.charged.map(|charged| charged.nanos()), Some(PRICE_NANOS / 4));
    let hit = world.ledger.books.records().pop().expect("a record");
    assert_eq!((hit.charged_nanos, hit.cost_nanos, hit.price_nanos), (PRICE_NANOS / 4, 0, PRICE_NANOS / 4));
    assert_eq!(world.balance().await.settled.nanos(), PRICE_NANOS + PRICE_NANOS / 4);
}

#[tokio::test]
async fn a_hit_that_the_budget_cannot_pay_is_refused() {
    let setup = Setup { nanos: 700_000, ..Setup::default() };
    let world = world_of(setup, CachePolicy { price_percent: 100, ..policy() });
    let call = r#","max_tokens":10"#;
    world.first.then(Step::Whole { usage: Some(Usage::text(500, 0)), output_bytes: 0 });
    assert_eq!(outcome(&world, call).await, Some(CacheOutcome::Miss));
    let Err(GatewayError::BudgetExceeded(exceeded)) = world.ask(call).await else { panic!("refused") };
    assert_eq!((exceeded.estimate.nanos(), exceeded.denial.available.nanos()), (375_000, 325_000));
    assert_eq!(world.balance().await.settled.nanos(), 375_000);
}

#[tokio::test]
async fn an_exhausted_budget_still_gets_a_free_hit() {
    let setup = Setup { nanos: 700_000, ..Setup::default() };
    let world = world_of(setup, policy());
    world.first.then(Step::Whole { usage: Some(Usage::text(1_000_000, 0)), output_bytes: 0 });
    assert_eq!(outcome(&world, r#","max_tokens":10"#).await, Some(CacheOutcome::Miss));
    assert_eq!(world.balance().await.available.nanos(), 0);
    assert_eq!(outcome(&world, r#","max_tokens":10"#).await, Some(CacheOutcome::Hit));
}

#[tokio::test]
async fn another_tenant_another_body_and_another_time_miss() {
    let world = world(policy());
    for _ in 0..4 {
        world.first.then(answer());
    }
    assert_eq!(outcome(&world, "").await, Some(CacheOutcome::Miss));
    assert_eq!(outcome(&world, r#","seed":1"#).await, Some(CacheOutcome::Miss));
    let mut stranger = Caller::clone(&world.caller);
    stranger.ids.tenant = TenantId::from_u128(7);
    let Ok(Answer::Whole { head, .. }) = world.gateway.answer(&Arc::new(stranger), world.call("")).await else {
        panic!("an answer")
    };
    assert_eq!(head.cache, Some(CacheOutcome::Miss));
    world.clock.advance(policy().keep - Duration::from_secs(1));
    assert_eq!(outcome(&world, "").await, Some(CacheOutcome::Hit));
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(outcome(&world, "").await, Some(CacheOutcome::Miss));
    assert_eq!(world.first.calls.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn only_complete_answers_are_kept() {
    let world = world(policy());
    world.first.then(Step::Fail(overloaded()));
    world.second.then(Step::Fail(overloaded())).then(Step::Fail(overloaded())).then(Step::Fail(overloaded()));
    assert!(world.ask("").await.is_err());
    world.first.then(says(FinishReason::ContentFilter)).then(says(FinishReason::Length)).then(says(FinishReason::Stop));
    for _ in ["after an error", "after a filter", "after our own cap"] {
        assert_eq!(outcome(&world, "").await, Some(CacheOutcome::Miss));
    }
    assert_eq!(outcome(&world, "").await, Some(CacheOutcome::Hit));
    let capped = r#","max_tokens":10"#;
    world.first.then(says(FinishReason::Length));
    assert_eq!(outcome(&world, capped).await, Some(CacheOutcome::Miss));
    assert_eq!(outcome(&world, capped).await, Some(CacheOutcome::Hit), "the cap is the caller's own");
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_not_kept() {
    let world = world(CachePolicy { entry_bytes_max: 1, ..policy() });
    world.first.then(answer()).then(answer());
    assert_eq!(outcome(&world, "").await, Some(CacheOutcome::Miss));
    assert_eq!(outcome(&world, "").await, Some(CacheOutcome::Miss));
}

#[tokio::test]
async fn a_stream_is_neither_kept_nor_answered_from_the_cache() {
    let world = world(policy());
    world.first.then(answer());
    assert_eq!(outcome(&world, "").await, Some(CacheOutcome::Miss));
    let events = world.first.then_stream();
    for event in [text("hello"), finish()] {
        events.send(event).expect("read");
    }
    drop(events);
    assert_eq!(outcome(&world, r#","stream":true"#).await, None);
    assert_eq!(world.first.calls.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_caller_may_ask_for_a_new_answer_or_for_none_to_be_kept() {
    let world = world(policy());
    let ask = async |cache| {
        world.first.then(answer());
        let call = cfr_core::chat::Call { cache, ..world.call("") };
        match world.gateway.answer(&world.caller, call).await.expect("an answer") {
            Answer::Whole { head, .. } => (head.cache, world.first.calls.load(Ordering::SeqCst)),
            _ => panic!("a whole answer"),
        }
    };
    assert_eq!(ask(CacheUse::Off).await, (None, 1));
    assert_eq!(ask(CacheUse::Allowed).await, (Some(CacheOutcome::Miss), 2));
    assert_eq!(ask(CacheUse::Refresh).await, (Some(CacheOutcome::Miss), 3));
    assert_eq!(ask(CacheUse::Off).await, (None, 4));
    assert_eq!(ask(CacheUse::Allowed).await, (Some(CacheOutcome::Hit), 4));
}

#[tokio::test]
async fn a_tenant_or_model_that_is_not_named_has_no_cache() {
    for policy in [
        CachePolicy::new(CacheTenants::Listed(vec![TenantId::from_u128(7)]), vec![MODEL.into()]),
        CachePolicy::new(CacheTenants::All, vec!["other".into()]),
    ] {
        let world = world(policy);
        world.first.then(answer()).then(answer());
        assert_eq!((outcome(&world, "").await, outcome(&world, "").await), (None, None));
    }
}

#[tokio::test]
async fn a_hit_leaves_only_when_its_hold_is_durable_and_else_costs_nothing() {
    let setup = Setup { manual_commits: true, ..Setup::default() };
    let world = world_of(setup, CachePolicy { price_percent: 100, ..policy() });
    world.first.then(answer());
    let mut first = Box::pin(world.ask(""));
    while futures_util::poll!(&mut first).is_pending() {
        world.ledger.decide(&Ok(()));
    }
    drop(first);
    let mut hit = Box::pin(world.ask(""));
    assert!(futures_util::poll!(&mut hit).is_pending());
    assert_eq!(world.ledger.waiting(), 1);
    world.ledger.decide(&Err(LedgerError::unavailable("disk full")));
    assert!(matches!(hit.await, Err(GatewayError::Ledger(_))));
    let refused = world.ledger.books.records().pop().expect("a record");
    assert_eq!((refused.status, refused.charged_nanos, refused.source), (503, 0, UsageSource::None));
    assert_eq!(world.balance().await.held.nanos(), 0);
}
