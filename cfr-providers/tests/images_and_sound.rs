//! Images, speech and transcripts over OpenAI's family: what is sent, what is handed on, and what it is taken to have used.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cfr_core::chat::{Call, Envelope, FormFile, Meter, Operation, Usage};
use cfr_core::secret::Secret;
use cfr_core::upstream::{Order, Reply, Upstream, UpstreamError};
use cfr_providers::HttpUpstream;
use cfr_providers::openai::Quirks;
use cfr_providers::openai::quirks::{GROQ, MISTRAL, OPENAI, XAI};
use cfr_providers::transport::{Body, Transport, TransportError, WireRequest};
use futures_util::{StreamExt, stream};
use http::Response;
use serde_json::{Value, json};
use support::{Outcome, call, collect};

/// Answers every request alike, and keeps the last one.
#[derive(Debug)]
struct Canned {
    content_type: &'static str,
    body: Bytes,
    sent: Arc<Mutex<Option<WireRequest>>>,
}

#[async_trait]
impl Transport for Canned {
    async fn send(&self, request: WireRequest, _: Duration) -> Result<Response<Body>, TransportError> {
        *self.sent.lock().unwrap() = Some(request);
        let pieces: Vec<_> = self.body.chunks(7).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let response = Response::builder().header("content-type", self.content_type);
        Ok(response.body(Box::pin(stream::iter(pieces).boxed()) as Body).unwrap())
    }
}

/// A call to a model that the caller has another name for, and how it went.
struct Exchange {
    path: String,
    content_type: String,
    sent: String,
    kind: Option<String>,
    outcome: Outcome,
}

impl Exchange {
    fn usage(&self) -> Vec<(Meter, u64)> {
        self.outcome.report.usage.as_ref().map(|usage: &Usage| usage.used().collect()).unwrap_or_default()
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.outcome.bytes).unwrap()
    }

    /// The value of a field of the form that was sent.
    fn field(&self, name: &str) -> Option<&str> {
        let (_, rest) = self.sent.split_once(&format!("name=\"{name}\"\r\n\r\n"))?;
        rest.split("\r\n").next()
    }
}

async fn exchange(quirks: &'static Quirks, model: &str, call: &Call, answer: (&'static str, &str)) -> Exchange {
    let sent = Arc::new(Mutex::new(None));
    let canned = Canned { content_type: answer.0, body: answer.1.to_owned().into(), sent: Arc::clone(&sent) };
    let upstream = HttpUpstream::openai_family_over(Arc::new(canned), quirks, None, &Secret::new("k")).unwrap();
    let timeout = Duration::from_secs(5);
    let order = Order { call, model, output_tokens_max: None, timeout, idle_timeout: timeout };
    let reply = upstream.send(order).await;
    let kind = match &reply {
        Ok(Reply::Whole(whole)) => Some(whole.content_type.to_str().unwrap().to_owned()),
        _ => None,
    };
    let outcome = match reply {
        Ok(reply) => collect(reply).await,
        Err(error) => Outcome { error: Some(error), ..Outcome::default() },
    };
    let request = sent.lock().unwrap().take().unwrap();
    Exchange {
        path: request.endpoint.uri().path().to_owned(),
        content_type: request.headers["content-type"].to_str().unwrap().to_owned(),
        sent: String::from_utf8_lossy(&request.body).into_owned(),
        kind,
        outcome,
    }
}

fn form(operation: Operation, body: &Value, field: &str) -> Call {
    let file = FormFile {
        field: field.into(),
        name: Some("f.bin".into()),
        content_type: Some("audio/wav".into()),
        bytes: Bytes::from_static(b"RIFF"),
    };
    let body = Bytes::from(body.to_string());
    let envelope = Envelope::parse_form(operation, &body, std::slice::from_ref(&file)).unwrap();
    Call {
        operation,
        envelope,
        body,
        files: vec![file],
        ..call(Operation::Speech, &json!({"model": "m", "input": "x"}))
    }
}

fn recording(fields: Value) -> Call {
    let mut body = json!({"model": "public"});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    form(Operation::Transcriptions, &body, "file")
}

const VERBOSE: &str = r#"{"task":"transcribe","language":"english","duration":8.47,"text":"Hello there. You.",
    "segments":[{"id":0,"start":0.0,"end":3.32,"text":" Hello there."},{"id":1,"start":3.32,"end":8.0,"text":" You."}]}"#;
const EIGHT_AND_A_HALF: [(Meter, u64); 1] = [(Meter::InputSeconds, 9)];

#[tokio::test]
async fn an_image_is_asked_for_in_the_callers_bytes_and_counted_by_what_is_reported_or_by_itself() {
    let body = json!({"model": "public", "prompt": "a dot", "n": 2});
    let call = call(Operation::ImageGenerations, &body);
    let answer = r#"{"created":1,"data":[{"b64_json":"AA=="},{"url":"http://x"}]}"#;
    let exchange = exchange(&OPENAI, "real", &call, ("application/json", answer)).await;
    assert_eq!(exchange.path, "/v1/images/generations");
    assert_eq!(exchange.sent, body.to_string().replace("public", "real"));
    assert_eq!((exchange.text(), exchange.usage()), (answer, vec![(Meter::OutputImages, 2)]));
}

#[tokio::test]
async fn images_to_edit_go_as_a_form_or_as_addresses_where_a_server_wants_them_so() {
    let call = form(Operation::ImageEdits, &json!({"model": "public", "prompt": "p", "n": 1}), "image");
    let answer = ("application/json", r#"{"data":[{"b64_json":"AA=="}],"usage":{"cost_in_usd_ticks":300000000}}"#);
    let sent = exchange(&OPENAI, "real", &call, answer).await;
    assert!(sent.content_type.starts_with("multipart/form-data; boundary="), "{}", sent.content_type);
    assert_eq!((sent.field("model"), sent.field("n")), (Some("real"), Some("1")));
    assert!(sent.sent.contains("name=\"image\"; filename=\"f.bin\"\r\nContent-Type: audio/wav\r\n\r\nRIFF\r\n"));
    assert_eq!(sent.usage(), [(Meter::InputImages, 1), (Meter::OutputImages, 1)]);
    let sent = exchange(&XAI, "real", &call, answer).await;
    let body: Value = serde_json::from_str(&sent.sent).unwrap();
    let url = format!("data:audio/wav;base64,{}", STANDARD.encode("RIFF"));
    assert_eq!(body["image"], json!({"type": "image_url", "url": url}));
    assert_eq!((sent.path.as_str(), &body["model"]), ("/v1/images/edits", &json!("real")));
    assert_eq!(sent.outcome.report.provider_cost.unwrap().0, 30_000_000_000);
}

#[tokio::test]
async fn sound_that_is_charged_by_characters_is_handed_on_as_it_comes() {
    let call = call(Operation::Speech, &json!({"model": "public", "input": "Hi", "voice": "alloy"}));
    let exchange = exchange(&OPENAI, "tts-1", &call, ("audio/mpeg", "sound")).await;
    assert_eq!(exchange.sent, r#"{"model":"tts-1","input":"Hi","voice":"alloy"}"#);
    assert_eq!((exchange.text(), exchange.kind.as_deref()), ("sound", Some("audio/mpeg")));
    assert_eq!(exchange.outcome.report.usage, None);
}

#[tokio::test]
async fn sound_that_is_charged_by_tokens_comes_as_events_and_leaves_as_sound() {
    let call = call(Operation::Speech, &json!({"model": "public", "input": "Hi", "response_format": "wav"}));
    let events = format!(
        "data: {}\n\ndata: {}\n\ndata: {}\n\n",
        json!({"type": "speech.audio.delta", "audio": STANDARD.encode("so")}),
        json!({"type": "speech.audio.delta", "audio": STANDARD.encode("und")}),
        json!({"type": "speech.audio.done", "usage": {"input_tokens": 4, "output_tokens": 55, "total_tokens": 59}}),
    );
    let whole = exchange(&OPENAI, "gpt-4o-mini-tts", &call, ("text/event-stream", &events)).await;
    assert_eq!(serde_json::from_str::<Value>(&whole.sent).unwrap()["stream_format"], "sse");
    assert_eq!((whole.text(), whole.kind.as_deref()), ("sound", Some("audio/wav")));
    assert_eq!(whole.usage(), [(Meter::InputTokens, 4), (Meter::OutputAudioTokens, 55)]);
    let cut = events.split_once("data: {\"type\":\"speech.audio.done").unwrap().0;
    let cut = exchange(&OPENAI, "gpt-4o-mini-tts", &call, ("text/event-stream", cut)).await;
    assert!(matches!(cut.outcome.error, Some(UpstreamError::Truncated { .. })), "{:?}", cut.outcome.error);
}

#[tokio::test]
async fn mistral_speaks_in_its_own_words() {
    let body = json!({"model": "public", "input": "Hi", "voice": "nova", "response_format": "wav"});
    let answer = format!(r#"{{"audio_data":"{}"}}"#, STANDARD.encode("sound"));
    let exchange = exchange(&MISTRAL, "voxtral", &call(Operation::Speech, &body), ("application/json", &answer)).await;
    let sent: Value = serde_json::from_str(&exchange.sent).unwrap();
    assert_eq!(sent, json!({"model": "voxtral", "input": "Hi", "voice_id": "nova", "response_format": "wav"}));
    assert_eq!((exchange.text(), exchange.kind.as_deref()), ("sound", Some("audio/wav")));
}

#[tokio::test]
async fn texts_and_subtitles_are_made_of_what_says_how_long_the_recording_is() {
    let srt = "1\n00:00:00,000 --> 00:00:03,320\nHello there.\n\n2\n00:00:03,320 --> 00:00:08,000\nYou.\n\n";
    let vtt = format!(
        "WEBVTT\n\n{}",
        "00:00:00.000 --> 00:00:03.320\nHello there.\n\n00:00:03.320 --> 00:00:08.000\nYou.\n\n"
    );
    let short = r#"{"text":"Hello there. You.","usage":{"type":"duration","seconds":9}}"#;
    for (format, expected) in [
        (json!({"response_format": "text"}), "Hello there. You.\n"),
        (json!({"response_format": "srt"}), srt),
        (json!({"response_format": "vtt"}), &vtt),
        (json!({"response_format": "json"}), short),
        (json!({}), short),
        (json!({"response_format": "verbose_json"}), VERBOSE),
    ] {
        for (quirks, model) in [(&OPENAI, "whisper-1"), (&GROQ, "whisper-large-v3")] {
            let exchange = exchange(quirks, model, &recording(format.clone()), ("application/json", VERBOSE)).await;
            assert_eq!(exchange.field("response_format"), Some("verbose_json"), "{format}");
            assert_eq!((exchange.text(), exchange.usage()), (expected, EIGHT_AND_A_HALF.to_vec()), "{format}");
        }
    }
}

#[tokio::test]
async fn a_model_that_counts_tokens_is_asked_for_plain_json() {
    let answer = json!({
        "text": "hello there",
        "usage": {
            "type": "tokens", "input_tokens": 34, "input_token_details": {"text_tokens": 4, "audio_tokens": 30},
            "output_tokens": 3, "total_tokens": 37,
        },
    });
    let call = recording(json!({"response_format": "text", "timestamp_granularities": ["word"], "temperature": "0"}));
    let answer = answer.to_string();
    let exchange = exchange(&OPENAI, "gpt-4o-transcribe", &call, ("application/json", &answer)).await;
    assert_eq!(exchange.field("response_format"), Some("json"));
    assert_eq!(exchange.field("timestamp_granularities[]"), Some("word"));
    assert_eq!(exchange.text(), "hello there\n");
    assert_eq!(exchange.usage(), [(Meter::InputTokens, 4), (Meter::InputAudioTokens, 30), (Meter::OutputTokens, 3)]);
}

#[tokio::test]
async fn mistral_has_one_format_of_transcripts_and_every_other_is_made_of_it() {
    let answer = r#"{"model":"voxtral","text":"Hello.","language":"en","segments":[{"text":"Hello.","start":0.5,"end":1}],
        "usage":{"prompt_audio_seconds":2,"prompt_tokens":4,"completion_tokens":9,"total_tokens":13}}"#;
    let of = |format: &'static str| async move {
        let call = recording(json!({"response_format": format}));
        exchange(&MISTRAL, "voxtral", &call, ("application/json", answer)).await
    };
    let subtitles = of("srt").await;
    assert_eq!(subtitles.text(), "1\n00:00:00,500 --> 00:00:01,000\nHello.\n\n");
    assert_eq!(
        (subtitles.field("response_format"), subtitles.field("timestamp_granularities[]")),
        (None, Some("segment"))
    );
    let verbose: Value = serde_json::from_str(of("verbose_json").await.text()).unwrap();
    assert_eq!((&verbose["duration"], &verbose["segments"][0]["id"]), (&json!(2), &json!(0)));
    let plain = of("json").await;
    assert_eq!(serde_json::from_str::<Value>(plain.text()).unwrap()["text"], "Hello.");
    assert_eq!(plain.usage(), [(Meter::InputSeconds, 2)]);
}

const EVENTS: [&str; 3] = [
    r#"{"type":"transcript.text.delta","delta":"Hel"}"#,
    r#"{"type":"transcript.text.delta","delta":"lo"}"#,
    r#"{"type":"transcript.text.done","text":"Hello","usage":{"type":"tokens","input_tokens":30,"output_tokens":2}}"#,
];

fn frames(events: &[&str]) -> String {
    events.iter().map(|event| format!("data: {event}\n\n")).collect()
}

#[tokio::test]
async fn a_streamed_transcript_is_handed_on_as_it_came_and_cut_short_anywhere_but_at_its_end() {
    let call = recording(json!({"stream": true}));
    let of = async |events: String| exchange(&OPENAI, "m", &call, ("text/event-stream", &events)).await.outcome;
    let whole = of(frames(&EVENTS)).await;
    assert_eq!((whole.error.is_none(), &whole.bytes), (true, &Bytes::from(frames(&EVENTS))));
    assert_eq!(whole.report.usage, Some(Usage::text(30, 2)));
    for ends in 1..EVENTS.len() {
        let cut = of(frames(&EVENTS[..ends])).await;
        assert!(matches!(cut.error, Some(UpstreamError::Truncated { .. })), "{ends}: {:?}", cut.error);
        assert!(cut.report.usage.is_none() && cut.report.output_bytes > 0);
    }
    let broken = frames(&[EVENTS[0], r#"{"type":"error","error":{"message":"no","code":"x"}}"#]);
    assert!(matches!(of(broken).await.error, Some(UpstreamError::InStream { .. })));
    let refused = frames(&[r#"{"error":{"message":"busy","code":429}}"#]);
    assert!(matches!(of(refused).await.error, Some(UpstreamError::RateLimited { .. })));
}

#[tokio::test]
async fn a_server_that_ignores_the_wish_for_a_stream_is_streamed_all_the_same() {
    let call = recording(json!({"stream": true}));
    let outcome = exchange(&OPENAI, "whisper-1", &call, ("application/json", VERBOSE)).await.outcome;
    let text = String::from_utf8(outcome.bytes.to_vec()).unwrap();
    assert!(
        text.starts_with("event: transcript.text.done\ndata: {\"type\":\"transcript.text.done\",\"text\":\"Hello"),
        "{text}"
    );
    assert_eq!(outcome.report.usage.unwrap().get(Meter::InputSeconds), 9);
}

#[tokio::test]
async fn mistrals_events_become_openais() {
    let events = frames(&[
        r#"{"type":"transcription.language","audio_language":"en"}"#,
        r#"{"type":"transcription.text.delta","text":"Hi"}"#,
        r#"{"type":"transcription.done","model":"v","text":"Hi","language":"en","usage":{"prompt_audio_seconds":3}}"#,
    ]);
    let call = recording(json!({"stream": true}));
    let exchange = exchange(&MISTRAL, "voxtral", &call, ("text/event-stream", &events)).await;
    let names: Vec<_> = exchange.text().lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(names, ["transcript.text.delta", "transcript.text.done"]);
    assert_eq!(exchange.usage(), [(Meter::InputSeconds, 3)]);
}

#[tokio::test]
async fn streamed_images_are_complete_when_each_of_them_is() {
    let call = call(Operation::ImageGenerations, &json!({"model": "m", "prompt": "p", "n": 2, "stream": true}));
    let end =
        r#"{"type":"image_generation.completed","b64_json":"AA==","usage":{"input_tokens":5,"output_tokens":272}}"#;
    let partial = r#"{"type":"image_generation.partial_image","b64_json":"AA==","partial_image_index":0}"#;
    let of = async |events: String| exchange(&OPENAI, "m", &call, ("text/event-stream", &events)).await;
    let both = of(frames(&[partial, end, end])).await;
    assert_eq!(both.usage(), [(Meter::InputTokens, 10), (Meter::OutputImageTokens, 544)]);
    let one = of(frames(&[partial, end])).await;
    assert!(one.outcome.error.is_none());
    assert_eq!(one.usage(), [(Meter::InputTokens, 5), (Meter::OutputImageTokens, 272)]);
    let none = of(frames(&[partial])).await;
    assert!(matches!(none.outcome.error, Some(UpstreamError::Truncated { .. })));
    assert!(none.outcome.report.output_bytes > 0);
}

#[tokio::test]
async fn what_is_no_answer_is_malformed_or_the_error_that_it_is() {
    let image = call(Operation::ImageGenerations, &json!({"model": "m", "prompt": "p"}));
    for body in ["", "{}", r#"{"data":[]}"#, "<html>"] {
        let error = exchange(&OPENAI, "m", &image, ("application/json", body)).await.outcome.error;
        assert!(matches!(error, Some(UpstreamError::Malformed { .. })), "{body}: {error:?}");
    }
    let busy = r#"{"error":{"message":"busy","code":503}}"#;
    for call in [image, recording(json!({})), call(Operation::Speech, &json!({"model": "m", "input": "x"}))] {
        let error = exchange(&OPENAI, "m", &call, ("application/json", busy)).await.outcome.error;
        assert!(matches!(error, Some(UpstreamError::Failed { .. })), "{error:?}");
    }
}

/// Google's adapter has no network in it: what it would send, and what it makes of an answer.
fn google(call: &Call, answer: &Value) -> (Value, Result<cfr_core::upstream::WholeReply, UpstreamError>) {
    let adapter = support::adapter("gemini").unwrap();
    let timeout = Duration::from_secs(5);
    let order = Order { call, model: "gemini-x", output_tokens_max: None, timeout, idle_timeout: timeout };
    let request = adapter.encode(&order).unwrap();
    assert!(request.endpoint.uri().path().ends_with("/models/gemini-x:generateContent"));
    let sent = serde_json::from_slice(&request.body).unwrap();
    (sent, adapter.decode(call, &http::HeaderMap::new(), answer.to_string().into()))
}

fn google_answer(kind: &str, data: &str, modality: &str) -> Value {
    json!({
        "candidates": [{"finishReason": "STOP", "content": {"parts": [
            {"thought": true, "inlineData": {"mimeType": kind, "data": "draft"}},
            {"inlineData": {"mimeType": kind, "data": data}},
        ]}}],
        "usageMetadata": {
            "promptTokenCount": 7, "candidatesTokenCount": 1_120, "thoughtsTokenCount": 30, "totalTokenCount": 1_157,
            "candidatesTokensDetails": [{"modality": modality, "tokenCount": 1_120}],
        },
    })
}

#[test]
fn google_makes_an_image_in_an_answer() {
    let body = json!({"model": "public", "prompt": "bluer", "size": "1536x1024", "n": 1});
    let call = form(Operation::ImageEdits, &body, "image");
    let (sent, reply) = google(&call, &google_answer("image/png", "AA==", "IMAGE"));
    let file = json!({"inlineData": {"mimeType": "audio/wav", "data": STANDARD.encode("RIFF")}});
    assert_eq!(sent["contents"][0]["parts"], json!([{"text": "bluer"}, file]));
    let config = json!({"responseModalities": ["IMAGE"], "imageConfig": {"aspectRatio": "3:2"}});
    assert_eq!(sent["generationConfig"], config);
    let reply = reply.unwrap();
    let body: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(body["data"], json!([{"b64_json": "AA=="}]));
    assert_eq!(body["usage"]["output_tokens_details"], json!({"image_tokens": 1_120, "text_tokens": 30}));
    let usage: Vec<_> = reply.report.usage.unwrap().used().collect();
    let expected = [(Meter::InputTokens, 7), (Meter::ReasoningTokens, 30), (Meter::OutputImageTokens, 1_120)];
    assert_eq!(usage, expected);
}

#[test]
fn google_speaks_in_samples_of_which_a_file_is_made() {
    let body =
        json!({"model": "public", "input": "Hi", "voice": "Kore", "response_format": "wav", "instructions": "Slowly."});
    let answer = google_answer("audio/L16;codec=pcm;rate=8000", &STANDARD.encode([1, 2, 3, 4]), "AUDIO");
    let (sent, reply) = google(&call(Operation::Speech, &body), &answer);
    assert_eq!(sent["contents"][0]["parts"][0]["text"], "Slowly.\n\nHi");
    let voice = &sent["generationConfig"]["speechConfig"]["voiceConfig"]["prebuiltVoiceConfig"]["voiceName"];
    assert_eq!(voice, "Kore");
    let reply = reply.unwrap();
    assert!(reply.body.starts_with(b"RIFF") && reply.body.ends_with(&[1, 2, 3, 4]));
    assert_eq!(reply.body[24..28], 8_000_u32.to_le_bytes());
    assert_eq!(reply.report.usage.unwrap().get(Meter::OutputAudioTokens), 1_120);
}

#[test]
fn what_google_cannot_make_is_refused_by_name() {
    let adapter = support::adapter("gemini").unwrap();
    let speech = |more: Value| {
        let mut body = json!({"model": "m", "input": "Hi"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        call(Operation::Speech, &body)
    };
    let image = |more: Value| {
        let mut body = json!({"model": "m", "prompt": "p"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        call(Operation::ImageGenerations, &body)
    };
    for (call, field) in [
        (speech(json!({})), "response_format"),
        (speech(json!({"response_format": "opus"})), "response_format"),
        (speech(json!({"response_format": "wav", "speed": 2})), "speed"),
        (speech(json!({"response_format": "wav", "stream_format": "sse"})), "stream"),
        (image(json!({"n": 2})), "n"),
        (image(json!({"size": "1000x999"})), "size"),
        (image(json!({"response_format": "url"})), "response_format"),
        (image(json!({"image": "https://host.example/a.png"})), "image"),
    ] {
        let error = adapter.encode(&support::order(&call, Duration::from_secs(1))).unwrap_err();
        assert!(
            matches!(&error, UpstreamError::Unsupported { message } if message.starts_with(field)),
            "{field}: {error}"
        );
    }
    let blocked = json!({"promptFeedback": {"blockReason": "SAFETY"}});
    let (_, reply) = google(&image(json!({})), &blocked);
    assert!(matches!(reply, Err(UpstreamError::Rejected { .. })));
}
