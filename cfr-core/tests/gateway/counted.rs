//! Prompts that are counted without being answered.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use cfr_core::gateway::ModelAccess;
use cfr_core::gateway::{Caller, GatewayError, PromptCount};
use cfr_core::upstream::{Rejection, TokenCount, UpstreamError};

use crate::scripted::{Setup, World, overloaded};

async fn count(world: &World) -> Result<PromptCount, GatewayError> {
    world.gateway.count(&world.caller, world.call("")).await
}

fn refused() -> UpstreamError {
    let status = http::StatusCode::BAD_REQUEST;
    UpstreamError::Rejected { status, kind: Rejection::Invalid, message: "no".into(), body: None }
}

#[tokio::test]
async fn a_count_is_the_providers_and_costs_nothing() {
    let world = Setup { nanos: 0, ..Setup::default() }.build();
    let said = TokenCount { tokens: 7, body: Some(Bytes::from_static(b"{}")) };
    world.first.counts(Ok(Some(said.clone())));
    let counted = count(&world).await.expect("a count");
    assert_eq!((counted.tokens, counted.body, counted.estimated), (7, said.body, false));
    assert!(world.ledger.books.records().is_empty());
    assert_eq!(world.first.calls.load(Ordering::SeqCst), 0, "no call is made");
}

#[tokio::test]
async fn without_a_counter_an_estimate_is_given() {
    let world = Setup::default().build();
    world.first.counts(Ok(None));
    let counted = count(&world).await.expect("an estimate");
    assert!(counted.estimated && counted.tokens > 0 && counted.body.is_none(), "{counted:?}");
}

#[tokio::test]
async fn another_target_counts_when_one_fails_and_nobody_cools_down() {
    let world = Setup::default().build();
    for _ in 0..5 {
        world.first.counts(Err(overloaded()));
        world.second.counts(Ok(Some(TokenCount { tokens: 9, body: None })));
        let counted = count(&world).await.expect("a count");
        assert_eq!((counted.tokens, counted.estimated), (9, false));
    }
    world.first.counts(Err(UpstreamError::Account { status: http::StatusCode::UNAUTHORIZED, message: "".into() }));
    world.second.counts(Err(UpstreamError::Malformed { message: "".into() }));
    assert!(count(&world).await.expect("an estimate").estimated);
}

#[tokio::test]
async fn what_the_caller_can_mend_is_said() {
    let world = Setup::default().build();
    world.first.counts(Err(refused()));
    let error = count(&world).await.expect_err("a refusal");
    assert!(matches!(error, GatewayError::Upstream { .. }), "{error}");
}

#[tokio::test]
async fn a_count_passes_the_same_doors_as_a_call() {
    let world = Setup { requests_per_minute: Some(1), ..Setup::default() }.build();
    world.first.counts(Ok(None));
    assert!(count(&world).await.expect("an estimate").rate.is_some());
    assert!(matches!(count(&world).await.expect_err("too soon"), GatewayError::LimitExceeded(_)));
    let shut = Caller { models: ModelAccess::all().and([]), limits: Vec::new(), ..Caller::clone(&world.caller) };
    let error = world.gateway.count(&shut, world.call("")).await.expect_err("not allowed");
    assert!(matches!(error, GatewayError::ForbiddenModel { .. }), "{error}");
}
