//! What waits for what.

use std::sync::atomic::Ordering;

use cfr_core::chat::Usage;
use cfr_core::gateway::{Answer, Durability, GatewayConfig, GatewayError};
use cfr_core::ledger::LedgerError;
use futures_util::{FutureExt, StreamExt, poll};

use crate::scripted::{Setup, Step, World, finish, text};

fn world(durability: Durability, ack_settle: bool) -> World {
    let config = GatewayConfig { durability, ack_settle, ..GatewayConfig::default() };
    Setup { manual_commits: true, config, ..Setup::default() }.build()
}

fn broken() -> Result<(), LedgerError> {
    Err(LedgerError::unavailable("disk full"))
}

fn answer() -> Step {
    Step::Whole { usage: Some(Usage::text(100, 10)), output_bytes: 40 }
}

#[tokio::test]
async fn overlap_calls_at_once_and_answers_after_both_commits() {
    let world = world(Durability::Overlap, true);
    world.first.then(answer());
    let mut call = Box::pin(world.ask(""));
    assert!(poll!(&mut call).is_pending());
    assert_eq!(world.first.calls.load(Ordering::SeqCst), 1, "the call does not wait");
    assert_eq!(world.ledger.books.records().len(), 0, "the settlement waits for the hold");
    assert_eq!(world.ledger.decide(&Ok(())), 1);
    assert!(poll!(&mut call).is_pending(), "the answer waits for the charge");
    assert_eq!(world.ledger.decide(&Ok(())), 1);
    assert!(matches!(call.await, Ok(Answer::Whole { .. })));
}

#[tokio::test]
async fn strict_calls_after_the_commit() {
    let world = world(Durability::Strict, false);
    world.first.then(answer());
    let mut call = Box::pin(world.ask(""));
    assert!(poll!(&mut call).is_pending());
    assert_eq!(world.first.calls.load(Ordering::SeqCst), 0);
    world.ledger.decide(&Ok(()));
    assert!(matches!(poll!(&mut call), std::task::Poll::Ready(Ok(_))));
}

#[tokio::test]
async fn relaxed_waits_for_nothing() {
    let world = world(Durability::Relaxed, false);
    world.first.then(answer());
    assert!(matches!(world.ask("").now_or_never(), Some(Ok(Answer::Whole { .. }))));
}

#[tokio::test]
async fn a_hold_that_cannot_be_written_stops_the_call_and_charges_nothing() {
    for durability in [Durability::Overlap, Durability::Strict] {
        let world = world(durability, true);
        world.first.then(Step::Hang);
        let mut call = Box::pin(world.ask(""));
        assert!(poll!(&mut call).is_pending());
        world.ledger.decide(&broken());
        assert!(matches!(call.await, Err(GatewayError::Ledger(LedgerError::Unavailable { .. }))));
        assert_eq!((world.record().status, world.record().charged_nanos), (503, 0));
        assert_eq!(world.balance().await.held.nanos(), 0);
    }
}

#[tokio::test]
async fn a_whole_answer_is_withheld_when_its_charge_cannot_be_written() {
    let world = world(Durability::Overlap, true);
    world.first.then(answer());
    let mut call = Box::pin(world.ask(""));
    assert!(poll!(&mut call).is_pending());
    world.ledger.decide(&Ok(()));
    assert!(poll!(&mut call).is_pending());
    world.ledger.decide(&broken());
    assert!(matches!(call.await, Err(GatewayError::Ledger(_))));
}

#[tokio::test]
async fn the_end_of_a_stream_waits_for_its_charge_and_its_chunks_do_not() {
    let world = world(Durability::Overlap, true);
    let events = world.first.then_stream();
    events.send(text("one")).expect("open");
    let mut call = Box::pin(world.ask(r#","stream":true"#));
    assert!(poll!(&mut call).is_pending(), "the first byte waits for the hold");
    world.ledger.decide(&Ok(()));
    let Ok(Answer::Stream { mut body, .. }) = call.await else { panic!("a stream") };
    assert_eq!(body.next().await.expect("more").expect("no error"), "one");
    events.send(finish()).expect("open");
    drop(events);
    assert!(poll!(body.next()).is_pending(), "the end waits for the charge");
    assert_eq!(world.ledger.waiting(), 1);
    world.ledger.decide(&Ok(()));
    assert_eq!(body.next().await.expect("more").expect("no error"), "[finish]");
    assert!(body.next().await.is_none());
}

#[tokio::test]
async fn the_end_of_a_stream_is_withheld_when_its_charge_cannot_be_written() {
    let world = world(Durability::Relaxed, true);
    let events = world.first.then_stream();
    events.send(text("one")).expect("open");
    events.send(finish()).expect("open");
    drop(events);
    let Ok(Answer::Stream { mut body, .. }) = world.ask(r#","stream":true"#).await else { panic!("a stream") };
    assert_eq!(body.next().await.expect("more").expect("no error"), "one");
    assert!(poll!(body.next()).is_pending());
    world.ledger.decide(&broken());
    assert!(matches!(body.next().await, Some(Err(GatewayError::Ledger(_)))));
    assert!(body.next().await.is_none());
}
