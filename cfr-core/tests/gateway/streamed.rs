//! Answers that come in pieces.

use std::time::Duration;

use bytes::Bytes;
use cfr_core::chat::{Usage, UsageSource};
use cfr_core::gateway::{Answer, AnswerStream, GatewayBuilder, GatewayConfig, GatewayError};
use cfr_core::hook::{StreamFilter, StreamHook};
use cfr_core::upstream::UpstreamError;
use futures_util::{FutureExt, StreamExt};

use crate::scripted::{Setup, Step, World, finish, overloaded, text, usage};

async fn begin(world: &World) -> AnswerStream {
    match world.ask(r#","stream":true,"max_tokens":50"#).await {
        Ok(Answer::Stream { body, .. }) => body,
        other => panic!("a stream, not {other:?}"),
    }
}

async fn next(body: &mut AnswerStream) -> String {
    let bytes = body.next().await.expect("more").expect("no error");
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

#[tokio::test]
async fn chunks_leave_as_they_arrive_and_the_end_settles() {
    let world = Setup::default().build();
    let events = world.first.then_stream();
    events.send(text("one")).expect("open");
    let mut body = begin(&world).await;
    assert_eq!(next(&mut body).await, "one");
    events.send(text("two")).expect("open");
    assert_eq!(next(&mut body).await, "two");
    events.send(finish()).expect("open");
    events.send(usage(Usage::text(100, 10))).expect("open");
    drop(events);
    assert_eq!(next(&mut body).await, "[finish]");
    assert!(body.next().await.is_none());
    let record = world.record();
    assert_eq!((record.charged_nanos, record.source, &*record.finish), (120_000, UsageSource::Provider, "stop"));
    assert!(record.streamed);
}

#[tokio::test]
async fn a_stream_that_is_dropped_is_charged_for_what_was_delivered() {
    let world = Setup::default().build();
    let events = world.first.then_stream();
    events.send(text("hello world")).expect("open");
    let mut body = begin(&world).await;
    assert_eq!(next(&mut body).await, "hello world");
    drop(body);
    let record = world.record();
    assert_eq!((record.status, record.source), (499, UsageSource::Partial));
    assert_eq!(record.usage.output_total(), 5, "two fifths of eleven bytes, rounded up");
    assert!(events.is_closed(), "the upstream call is aborted");
    assert_eq!(world.balance().await.held.nanos(), 0);
}

#[tokio::test]
async fn a_stream_that_breaks_charges_what_was_delivered_and_ends_with_the_error() {
    let world = Setup::default().build();
    let events = world.first.then_stream();
    events.send(text("hello world")).expect("open");
    events.send(Err(UpstreamError::Truncated { message: "reset".into() })).expect("open");
    let mut body = begin(&world).await;
    assert_eq!(next(&mut body).await, "hello world");
    assert!(matches!(body.next().await, Some(Err(GatewayError::Upstream { .. }))));
    assert!(body.next().await.is_none());
    assert_eq!((world.record().status, world.record().source), (502, UsageSource::Partial));
}

#[tokio::test]
async fn a_stream_that_fails_before_its_first_event_is_tried_elsewhere() {
    let world = Setup::default().build();
    world.first.then_stream().send(Err(overloaded())).expect("open");
    let events = world.second.then_stream();
    events.send(text("from the second")).expect("open");
    events.send(finish()).expect("open");
    drop(events);
    let mut body = begin(&world).await;
    assert_eq!(next(&mut body).await, "from the second");
    assert_eq!(next(&mut body).await, "[finish]");
    assert_eq!(world.record().attempts.len(), 1);
}

#[tokio::test]
async fn a_stream_without_usage_is_counted_from_its_bytes() {
    let world = Setup::default().build();
    let events = world.first.then_stream();
    events.send(text("hello world")).expect("open");
    events.send(finish()).expect("open");
    drop(events);
    let body = begin(&world).await;
    assert_eq!(body.count().await, 2);
    assert_eq!((world.record().status, world.record().source), (200, UsageSource::Estimated));
}

#[tokio::test]
async fn what_comes_after_the_last_usage_is_counted_from_its_bytes() {
    for ends_well in [true, false] {
        let world = Setup::default().build();
        let events = world.first.then_stream();
        events.send(usage(Usage::text(100, 1))).expect("open");
        events.send(text("0123456789")).expect("open");
        if ends_well {
            events.send(finish()).expect("open");
        }
        let mut body = begin(&world).await;
        assert_eq!(next(&mut body).await, "0123456789");
        drop(events);
        if ends_well {
            assert_eq!(next(&mut body).await, "[finish]");
        }
        drop(body);
        let record = world.record();
        let source = if ends_well { UsageSource::Estimated } else { UsageSource::Partial };
        assert_eq!((record.source, record.usage.input_total(), record.usage.output_total()), (source, 100, 1 + 4));
    }
}

#[tokio::test]
async fn a_choice_that_ends_early_does_not_hold_the_others_back() {
    let world = Setup::default().build();
    let events = world.first.then_stream();
    events.send(finish()).expect("open");
    events.send(text("still going")).expect("open");
    let mut body = begin(&world).await;
    assert_eq!(next(&mut body).await, "[finish]still going");
    events.send(text("on")).expect("open");
    assert_eq!(next(&mut body).await, "on");
    events.send(finish()).expect("open");
    assert!(futures_util::poll!(body.next()).is_pending(), "the end waits for the charge");
    drop(events);
    assert_eq!(next(&mut body).await, "[finish]");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_falls_silent_is_broken_off_when_the_holds_time_is_up() {
    let config = GatewayConfig { hold_max: Duration::from_secs(60), ..GatewayConfig::default() };
    let world = Setup { config, ..Setup::default() }.build();
    let events = world.first.then_stream();
    events.send(text("one")).expect("open");
    let mut body = begin(&world).await;
    assert_eq!(next(&mut body).await, "one");
    let Some(Err(GatewayError::Upstream { error, .. })) = body.next().await else { panic!("broken off") };
    assert!(matches!(*error, UpstreamError::Timeout { .. }));
    assert!(events.is_closed() && body.next().await.is_none());
    assert_eq!((world.record().status, world.balance().await.held.nanos()), (504, 0));
}

#[tokio::test]
async fn a_stream_that_never_ends_is_broken_off() {
    let config = GatewayConfig { hold_max: Duration::from_secs(60), ..GatewayConfig::default() };
    let world = Setup { config, ..Setup::default() }.build();
    let events = world.first.then_stream();
    events.send(text("one")).expect("open");
    let mut body = begin(&world).await;
    assert_eq!(next(&mut body).await, "one");
    world.clock.advance(Duration::from_secs(61));
    events.send(text("two")).expect("open");
    let Some(Err(GatewayError::Upstream { error, .. })) = body.next().await else { panic!("broken off") };
    assert!(matches!(*error, UpstreamError::Timeout { .. }));
    assert!(events.is_closed() || body.next().await.is_none());
    assert_eq!(world.record().status, 504);
}

#[tokio::test]
async fn a_running_stream_leaves_evidence() {
    let world = Setup::default().build();
    let events = world.first.then_stream();
    events.send(text("hello")).expect("open");
    let call = world.call(r#","stream":true,"max_tokens":50"#);
    let id = call.id;
    let Ok(Answer::Stream { mut body, .. }) = world.gateway.answer(&world.caller, call).await else {
        panic!("a stream")
    };
    assert_eq!(next(&mut body).await, "hello");
    assert!(world.ledger.books.evidence(id).is_none());
    world.clock.advance(Duration::from_secs(5));
    events.send(text(" world")).expect("open");
    assert_eq!(next(&mut body).await, " world");
    let evidence = world.ledger.books.evidence(id).expect("noted");
    assert_eq!(evidence.record.usage.output_total(), 5);
    assert!(evidence.charge.price.nanos() > 0);
}

#[tokio::test]
async fn a_hanging_upstream_keeps_the_client_waiting_and_the_hold_open() {
    let world = Setup::default().build();
    world.first.then(Step::Hang);
    assert!(world.ask(r#","stream":true,"max_tokens":50"#).now_or_never().is_none());
    assert_eq!(world.record().status, 499);
}

#[derive(Debug)]
struct Shout;

struct Shouting;

impl StreamHook for Shout {
    fn begin(&self, _: &cfr_core::Caller, _: &cfr_core::chat::Call) -> Option<Box<dyn StreamFilter>> {
        Some(Box::new(Shouting))
    }
}

impl StreamFilter for Shouting {
    fn event(&mut self, frames: Bytes) -> Bytes {
        frames.to_ascii_uppercase().into()
    }

    fn finish(&mut self) -> Bytes {
        Bytes::from_static(b"!")
    }
}

#[tokio::test]
async fn a_stream_hook_changes_what_goes_out() {
    let world = Setup::default().build_with(|builder| builder.stream_hook(std::sync::Arc::new(Shout)));
    let events = world.first.then_stream();
    events.send(text("quiet")).expect("open");
    events.send(finish()).expect("open");
    drop(events);
    let mut body = begin(&world).await;
    assert_eq!(next(&mut body).await, "QUIET");
    assert_eq!(next(&mut body).await, "[FINISH]!");
}

#[derive(Debug)]
struct Keep;

struct Keeping(Vec<u8>);

impl StreamHook for Keep {
    fn begin(&self, _: &cfr_core::Caller, _: &cfr_core::chat::Call) -> Option<Box<dyn StreamFilter>> {
        Some(Box::new(Keeping(Vec::new())))
    }
}

impl StreamFilter for Keeping {
    fn event(&mut self, frames: Bytes) -> Bytes {
        self.0.extend_from_slice(&frames);
        Bytes::new()
    }

    fn finish(&mut self) -> Bytes {
        std::mem::take(&mut self.0).into()
    }
}

#[tokio::test]
async fn what_one_hook_kept_back_still_passes_the_next() {
    let hooks: [std::sync::Arc<dyn StreamHook>; 2] = [std::sync::Arc::new(Keep), std::sync::Arc::new(Shout)];
    let world = Setup::default().build_with(|builder| hooks.into_iter().fold(builder, GatewayBuilder::stream_hook));
    let events = world.first.then_stream();
    events.send(text("quiet")).expect("open");
    events.send(finish()).expect("open");
    drop(events);
    let mut body = begin(&world).await;
    assert_eq!(next(&mut body).await, "QUIET[FINISH]!");
    assert!(body.next().await.is_none());
}
