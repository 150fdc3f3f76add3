//! What every [`Upstream`] must do, one function per rule, for those who write one.
//! [`upstream_conformance!`](crate::upstream_conformance) makes a test of each.
#![expect(clippy::panic, reason = "a rule that is broken fails its test by panicking")]

use std::time::Duration;

use bytes::Bytes;
use cfr_core::chat::{Call, Envelope, Operation};
use cfr_core::id::RequestId;
use cfr_core::upstream::{Order, Reply, Report, StreamReply, Upstream, UpstreamError, WholeReply};
use futures_util::StreamExt;
use serde_json::{Value, json};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// A cap that a short answer exceeds.
const SMALL_CAP: u64 = 4;

/// Expands to one `#[tokio::test]` per rule of [`conformance`](crate::conformance). The expression is evaluated once per
/// test, may `.await`, and yields an [`Upstream`] and the name of a model of its that answers briefly.
///
/// ```ignore
/// cfr_providers::upstream_conformance!((MyUpstream::start().await, "my-model"));
/// ```
#[macro_export]
macro_rules! upstream_conformance {
    ($fresh:expr) => {
        $crate::upstream_conformance! { @rules $fresh;
            a_whole_answer_is_json_and_says_how_it_ended
            a_whole_answer_reports_usage_or_nothing
            a_stream_ends_with_a_reason_and_the_last_frame
            a_stream_hands_on_whole_frames
            a_usage_frame_is_for_those_who_ask
            visible_bytes_are_counted_alike_whole_and_streamed
            a_cap_of_ours_is_obeyed
            a_dropped_stream_leaves_the_upstream_usable
            an_operation_that_is_not_served_is_unsupported
        }
    };
    (@rules $fresh:expr; $($rule:ident)*) => { $(
        #[tokio::test]
        async fn $rule() {
            let (upstream, model) = $fresh;
            $crate::conformance::$rule(&upstream, model).await;
        }
    )* };
}

/// A complete answer is a JSON object in OpenAI's dialect with a finish reason, and the report has the same.
pub async fn a_whole_answer_is_json_and_says_how_it_ended(upstream: &dyn Upstream, model: &str) {
    let whole = whole(upstream, &chat(model, false, json!({})), None).await;
    let body: Value = serde_json::from_slice(&whole.body).unwrap_or_else(|cause| panic!("not JSON: {cause}"));
    let reason = body["choices"][0]["finish_reason"].as_str().unwrap_or_else(|| panic!("no finish reason: {body}"));
    assert_eq!(whole.report.finish.as_ref().map(|finish| finish.name()), Some(reason));
}

/// Usage is what the provider counts, never zero for an answer that has text; where it is unknown it is absent.
pub async fn a_whole_answer_reports_usage_or_nothing(upstream: &dyn Upstream, model: &str) {
    let report = whole(upstream, &chat(model, false, json!({})), None).await.report;
    assert!(report.output_bytes > 0, "the model said nothing");
    if let Some(usage) = report.usage {
        assert!(usage.input_total() > 0 && usage.output_total() > 0, "usage of an answer is zero: {usage:?}");
    }
}

/// A stream brings a finish reason and `[DONE]`, and usage where the upstream says that it reports it.
pub async fn a_stream_ends_with_a_reason_and_the_last_frame(upstream: &dyn Upstream, model: &str) {
    let (frames, report) = drain(stream(upstream, &chat(model, true, json!({})), None).await).await;
    assert!(frames.last().is_some_and(|frame| frame.trim_ascii_end().ends_with(b"[DONE]")), "no [DONE] at the end");
    assert!(report.finish.is_some(), "no finish reason");
    assert!(report.usage.is_some() || !upstream.capabilities().usage_in_stream, "no usage, though it is promised");
}

/// Every event has whole frames or none.
pub async fn a_stream_hands_on_whole_frames(upstream: &dyn Upstream, model: &str) {
    let (frames, _) = drain(stream(upstream, &chat(model, true, json!({})), None).await).await;
    for frame in frames {
        let ends = [&b"\n\n"[..], b"\r\n\r\n", b"\r\r"].iter().any(|end| frame.ends_with(end));
        assert!(ends, "bytes end inside a frame: {frame:?}");
    }
}

/// A frame with usage and nothing else reaches a caller who asked for it, and no other; we learn the usage either way.
pub async fn a_usage_frame_is_for_those_who_ask(upstream: &dyn Upstream, model: &str) {
    for asked in [true, false] {
        let options = json!({"stream_options": {"include_usage": asked}});
        let (frames, report) = drain(stream(upstream, &chat(model, true, options), None).await).await;
        let alone = chunks(&frames).any(|chunk| chunk["choices"] == json!([]) && chunk["usage"].is_object());
        assert!(asked || !alone, "a usage frame that nobody asked for");
        assert!(report.usage.is_some() || !upstream.capabilities().usage_in_stream, "no usage, though it is promised");
    }
}

/// A stream reports as many visible bytes as its deltas have.
pub async fn visible_bytes_are_counted_alike_whole_and_streamed(upstream: &dyn Upstream, model: &str) {
    let (frames, report) = drain(stream(upstream, &chat(model, true, json!({})), None).await).await;
    let visible = |chunk: Value| {
        let deltas = chunk["choices"].as_array().cloned().unwrap_or_default();
        deltas.iter().map(|choice| text_bytes(&choice["delta"])).sum::<usize>()
    };
    assert_eq!(report.output_bytes, chunks(&frames).map(visible).sum::<usize>() as u64);
}

fn text_bytes(delta: &Value) -> usize {
    let bytes = |field: &str| delta[field].as_str().map_or(0, str::len);
    bytes("content") + bytes("refusal") + bytes("reasoning").max(bytes("reasoning_content"))
}

/// A cap that the router sets bounds what the provider counts as output.
pub async fn a_cap_of_ours_is_obeyed(upstream: &dyn Upstream, model: &str) {
    let report = whole(upstream, &chat(model, false, json!({})), Some(SMALL_CAP)).await.report;
    let output = report.usage.map_or(0, |usage| usage.output_total());
    assert!(output <= SMALL_CAP, "{output} tokens under a cap of {SMALL_CAP}");
}

/// Dropping a stream in its middle harms nobody.
pub async fn a_dropped_stream_leaves_the_upstream_usable(upstream: &dyn Upstream, model: &str) {
    let call = chat(model, true, json!({}));
    for _ in 0..3 {
        let mut reply = stream(upstream, &call, None).await;
        assert!(reply.events.next().await.is_some_and(|event| event.is_ok()), "no first event");
    }
    let (_, report) = drain(stream(upstream, &call, None).await).await;
    assert!(report.finish.is_some());
}

/// What an upstream does not serve it refuses as [`UpstreamError::Unsupported`], without a call.
pub async fn an_operation_that_is_not_served_is_unsupported(upstream: &dyn Upstream, model: &str) {
    let bodies = [
        (Operation::Completions, json!({"model": model, "prompt": "Say hello."})),
        (Operation::Embeddings, json!({"model": model, "input": "hello"})),
    ];
    for (operation, body) in bodies.into_iter().filter(|(operation, _)| !upstream.capabilities().serves(*operation)) {
        let error = upstream.send(order(&call(operation, &body), None)).await.err();
        assert!(matches!(error, Some(UpstreamError::Unsupported { .. })), "{operation:?}: {error:?}");
    }
}

fn chat(model: &str, stream: bool, more: Value) -> Call {
    let mut body = json!({"model": model, "messages": [{"role": "user", "content": "Say hello in one sentence."}]});
    if stream {
        body["stream"] = true.into();
    }
    for (field, value) in more.as_object().into_iter().flatten() {
        body[field] = value.clone();
    }
    call(Operation::ChatCompletions, &body)
}

fn call(operation: Operation, body: &Value) -> Call {
    let body = Bytes::from(body.to_string());
    let envelope = Envelope::parse(operation, &body).unwrap_or_else(|cause| panic!("{cause}"));
    let (tags, cache) = (cfr_core::chat::Tags::default(), cfr_core::cache::CacheUse::default());
    Call {
        id: RequestId::from_u128(1),
        operation,
        envelope,
        body,
        files: Vec::new(),
        tags,
        cache,
        drop_params: false,
        betas: None,
        dialect_version: None,
    }
}

fn order(call: &Call, output_tokens_max: Option<u64>) -> Order<'_> {
    Order { call, model: &call.envelope.model, output_tokens_max, timeout: PATIENCE, idle_timeout: PATIENCE }
}

async fn whole(upstream: &dyn Upstream, call: &Call, cap: Option<u64>) -> WholeReply {
    match upstream.send(order(call, cap)).await {
        Ok(Reply::Whole(whole)) => whole,
        other => panic!("expected a complete answer, not {other:?}"),
    }
}

async fn stream(upstream: &dyn Upstream, call: &Call, cap: Option<u64>) -> StreamReply {
    match upstream.send(order(call, cap)).await {
        Ok(Reply::Stream(stream)) => stream,
        other => panic!("expected a stream, not {other:?}"),
    }
}

/// All that a stream brings: its bytes by event, and its report.
async fn drain(mut reply: StreamReply) -> (Vec<Bytes>, Report) {
    let (mut frames, mut report) = (Vec::new(), Report::default());
    while let Some(event) = reply.events.next().await {
        let event = event.unwrap_or_else(|error| panic!("the stream broke: {error}"));
        report.absorb(event.report);
        frames.extend((!event.bytes.is_empty()).then_some(event.bytes));
    }
    (frames, report)
}

fn chunks(frames: &[Bytes]) -> impl Iterator<Item = Value> {
    let data = frames
        .iter()
        .flat_map(|frame| frame.split(|byte| *byte == b'\n'))
        .filter_map(|line| line.strip_prefix(b"data:"));
    data.filter_map(|data| serde_json::from_slice(data).ok())
}
