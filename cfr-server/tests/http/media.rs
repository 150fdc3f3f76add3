//! Images, speech and transcripts, from the form to the usage record.

use cfr_core::chat::{Meter, UsageSource};
use cfr_core::ledger::UsageRecord;
use reqwest::header::AUTHORIZATION;
use serde_json::json;

use super::support::{FAKE, Seen, Site, client, frames, see, terms};

const EURO: i64 = 1_000_000_000;
const WAV: &[u8] = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data\0\0\0\0";

/// A form with these fields and one file.
async fn form(site: &Site, key: &str, path: &str, fields: &[(&str, &str)], file: (&str, &[u8])) -> Seen {
    let part = |head: String, body: &[u8]| {
        [format!("--line\r\nContent-Disposition: form-data; {head}\r\n\r\n").as_bytes(), body, b"\r\n"].concat()
    };
    let fields = fields.iter().map(|(name, value)| part(format!("name=\"{name}\""), value.as_bytes()));
    let file = part(format!("name=\"{}\"; filename=\"f\"\r\nContent-Type: audio/wav", file.0), file.1);
    let body = fields.chain([file, b"--line--\r\n".to_vec()]).collect::<Vec<_>>().concat();
    let request = client().post(site.url(path)).header(AUTHORIZATION, format!("Bearer {key}"));
    see(request.header("content-type", "multipart/form-data; boundary=line").body(body)).await
}

async fn last_record(site: &Site) -> UsageRecord {
    let usage = site.app.books.store.usage(&Default::default(), Default::default()).await.expect("usage");
    usage.items.first().expect("a record").clone()
}

/// A recording of so many seconds.
fn recording(seconds: usize) -> Vec<u8> {
    [WAV, &vec![0; seconds * 16_000 - WAV.len()]].concat()
}

#[tokio::test]
async fn an_image_is_made_and_charged_by_its_tokens() {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(EURO)).await;
    let body = json!({ "model": "gpt-image-2", "prompt": "a red dot", "size": "1024x1024", "quality": "low", "n": 2 });
    let seen = site.post("/v1/images/generations", &key, body.to_string()).await;
    assert_eq!(seen.status, 200, "{}", seen.body);
    assert_eq!(seen.json()["data"].as_array().map(Vec::len), Some(2));
    let record = last_record(&site).await;
    assert_eq!((record.usage.get(Meter::OutputImageTokens), record.source), (544, UsageSource::Provider));
    assert_eq!((record.operation.name(), record.overrun_nanos), ("image_generations", 0));
    assert!(record.charged_nanos > 0);
}

#[tokio::test]
async fn streamed_images_show_how_they_come_about() {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(EURO)).await;
    let body = json!({ "model": "gpt-image-2", "prompt": "p", "quality": "low", "stream": true, "partial_images": 2 });
    let seen = site.post("/v1/images/generations", &key, body.to_string()).await;
    let kinds: Vec<_> = frames(&seen.body).iter().map(|frame| frame["type"].clone()).collect();
    let partial = "image_generation.partial_image";
    assert_eq!(kinds, [partial, partial, "image_generation.completed"]);
    assert_eq!(last_record(&site).await.usage.get(Meter::OutputImageTokens), 272);
}

#[tokio::test]
async fn images_to_edit_come_in_a_form_or_in_json() {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(10 * EURO)).await;
    let fields = [("model", "gpt-image-2"), ("prompt", "bluer"), ("quality", "low"), ("n", "1")];
    let seen = form(&site, &key, "/v1/images/edits", &fields, ("image[]", b"png")).await;
    assert_eq!(seen.status, 200, "{}", seen.body);
    assert_eq!(last_record(&site).await.usage.get(Meter::InputImageTokens), 65);
    let images = json!([{ "image_url": "data:image/png;base64,AA==" }, { "file_id": "f" }]);
    let body = json!({ "model": "gpt-image-2", "prompt": "bluer", "quality": "low", "images": images });
    let seen = site.post("/v1/images/edits", &key, body.to_string()).await;
    assert_eq!(seen.status, 200, "{}", seen.body);
    let missing = json!({ "model": "gpt-image-2", "prompt": "bluer" });
    let error = site.post("/v1/images/edits", &key, missing.to_string()).await.is_error(400, "invalid_value");
    assert_eq!(error["param"], "image");
}

#[tokio::test]
async fn an_image_that_the_budget_cannot_pay_at_its_dearest_is_refused() {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(EURO / 100)).await;
    let body = json!({ "model": "gpt-image-2", "prompt": "p" });
    let seen = site.post("/v1/images/generations", &key, body.to_string()).await;
    seen.is_error(402, "budget_exceeded");
    let cheap = json!({ "model": "gpt-image-2", "prompt": "p", "size": "1024x1024", "quality": "low" });
    assert_eq!(site.post("/v1/images/generations", &key, cheap.to_string()).await.status, 200);
}

#[tokio::test]
async fn speech_is_charged_by_characters_or_by_tokens() {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(EURO)).await;
    let speech = async |model: &str, more: &str| {
        let body = format!(r#"{{"model":"{model}","voice":"alloy","input":"Say hello, hello."{more}}}"#);
        let request = client().post(site.url("/v1/audio/speech")).header(AUTHORIZATION, format!("Bearer {key}"));
        let response = request.header("content-type", "application/json").body(body).send().await.expect("an answer");
        let kind = response.headers()["content-type"].to_str().expect("a text").to_owned();
        (kind, response.bytes().await.expect("a body"))
    };
    let (kind, sound) = speech("tts-1", "").await;
    assert!(kind.starts_with("audio/") && sound.starts_with(b"RIFF"), "{kind}");
    let record = last_record(&site).await;
    assert_eq!((record.usage.get(Meter::InputCharacters), record.charged_nanos > 0), (17, true));
    let (_, sound) = speech("gpt-4o-mini-tts", "").await;
    assert!(sound.starts_with(b"RIFF"));
    let record = last_record(&site).await;
    assert_eq!((record.usage.get(Meter::OutputAudioTokens), record.source), (5, UsageSource::Provider));
    let (kind, events) = speech("gpt-4o-mini-tts", r#","stream_format":"sse""#).await;
    assert!(kind.starts_with("text/event-stream"), "{kind}");
    let events = frames(std::str::from_utf8(&events).expect("text"));
    assert_eq!(events.last().expect("an end")["type"], "speech.audio.done");
}

#[tokio::test]
async fn a_recording_is_written_down_in_every_format_and_charged_by_its_seconds() {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(EURO)).await;
    for (format, begins) in [
        ("json", "{\"text\":"),
        ("text", "This is whisper-1"),
        ("srt", "1\n00:00:00,000 --> "),
        ("vtt", "WEBVTT\n\n00:00:00.000 --> "),
        ("verbose_json", "{\"task\":"),
    ] {
        let fields = [("model", "whisper-1"), ("response_format", format)];
        let seen = form(&site, &key, "/v1/audio/transcriptions", &fields, ("file", &recording(3))).await;
        assert!(seen.status == 200 && seen.body.starts_with(begins), "{format}: {}", seen.body);
        let record = last_record(&site).await;
        assert_eq!((record.usage.get(Meter::InputSeconds), record.overrun_nanos), (3, 0), "{format}");
    }
    let seen = form(&site, &key, "/v1/audio/translations", &[("model", "whisper-1")], ("file", &recording(3))).await;
    assert!(seen.json()["text"].is_string(), "{}", seen.body);
}

#[tokio::test]
async fn a_transcript_is_streamed_and_charged_by_its_tokens() {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(EURO)).await;
    let fields = [("model", "gpt-4o-transcribe"), ("stream", "true")];
    let seen = form(&site, &key, "/v1/audio/transcriptions", &fields, ("file", &recording(3))).await;
    let events = frames(&seen.body);
    assert_eq!(events[0]["type"], "transcript.text.delta");
    assert_eq!(events.last().expect("an end")["type"], "transcript.text.done");
    let record = last_record(&site).await;
    assert_eq!((record.usage.get(Meter::InputAudioTokens), record.streamed), (30, true));
}

#[tokio::test]
async fn without_a_word_on_usage_all_that_was_asked_for_is_charged() {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(EURO)).await;
    let fields = [("model", "gpt-4o-transcribe"), ("prompt", "fake:no-usage"), ("stream", "true")];
    form(&site, &key, "/v1/audio/transcriptions", &fields, ("file", &recording(3))).await;
    let record = last_record(&site).await;
    assert_eq!((record.usage.get(Meter::InputSeconds), record.source), (4, UsageSource::Estimated));
    assert!(record.charged_nanos > 0);
}

#[tokio::test]
async fn a_form_that_cannot_be_read_is_refused() {
    let site = Site::start(&format!("[limits]\nform_bytes_max = 4096\n{FAKE}")).await;
    let key = site.key(terms(EURO)).await;
    let path = "/v1/audio/transcriptions";
    let model = [("model", "whisper-1")];
    let error = form(&site, &key, path, &model, ("audio", b"x")).await.is_error(400, "invalid_value");
    assert_eq!(error["param"], "file");
    let twice = [("model", "whisper-1"), ("model", "gpt-4o")];
    form(&site, &key, path, &twice, ("file", b"x")).await.is_error(400, "invalid_form");
    form(&site, &key, path, &model, ("file", &[0; 5_000])).await.is_error(413, "request_too_large");
    let elsewhere = [("model", "whisper-1"), ("url", "http://127.0.0.1/x.mp3")];
    let error = form(&site, &key, path, &elsewhere, ("file", b"x")).await.is_error(400, "invalid_value");
    assert_eq!(error["param"], "url");
    let json = site.post(path, &key, r#"{"model":"whisper-1"}"#).await;
    json.is_error(400, "invalid_value");
}
