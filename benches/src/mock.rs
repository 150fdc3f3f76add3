//! A provider that answers chat requests of OpenAI's dialect at once, or after the delay that the request wishes for.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::{Request, Response};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::Failure;
use crate::answers::{ANSWER_TEXT, ANSWER_TOKENS, PROMPT_TOKENS};
use crate::body::Wish;
use crate::serve::{AnyBody, any};

/// What the mock reads of a request.
#[derive(Deserialize)]
struct Ask<'a> {
    #[serde(borrow)]
    model: Cow<'a, str>,
    #[serde(default)]
    stream: bool,
    #[serde(default)]
    stream_options: StreamOptions,
    #[serde(default)]
    mock: Wish,
    #[serde(borrow)]
    #[expect(dead_code, reason = "read to make sure that the messages arrived")]
    messages: &'a RawValue,
}

#[derive(Default, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

/// Answers one request, whatever its path.
///
/// # Errors
/// When the body does not arrive or is not a chat request.
pub async fn answer(request: Request<Incoming>) -> Result<Response<AnyBody>, Failure> {
    let body = request.into_body().collect().await?.to_bytes();
    let ask: Ask<'_> = serde_json::from_slice(&body)?;
    if ask.mock.delay_ms > 0 {
        tokio::time::sleep(Duration::from_millis(ask.mock.delay_ms)).await;
    }
    let response = if ask.stream {
        let events = StreamEvents::new(ask.model.into_owned(), ask.mock.chunks, ask.stream_options.include_usage);
        Response::builder().header(CONTENT_TYPE, "text/event-stream").body(any(StreamBody::new(event_frames(events))))
    } else {
        Response::builder().header(CONTENT_TYPE, "application/json").body(any(Full::from(whole_answer(&ask.model))))
    };
    Ok(response?)
}

fn whole_answer(model: &str) -> String {
    let total = PROMPT_TOKENS + ANSWER_TOKENS;
    format!(
        r#"{{"id":"chatcmpl-mock","object":"chat.completion","created":1763700000,"model":"{model}","choices":[{{"index":0,"message":{{"role":"assistant","content":"{ANSWER_TEXT}"}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":{PROMPT_TOKENS},"completion_tokens":{ANSWER_TOKENS},"total_tokens":{total}}}}}"#
    )
}

/// Each event is a frame of its own, and the stream yields between them, so that each is written by itself.
fn event_frames(events: StreamEvents) -> impl futures_util::Stream<Item = Result<Frame<Bytes>, Failure>> {
    stream::unfold(events, |mut events| async move {
        let event = events.next()?;
        tokio::task::yield_now().await;
        Some((Ok(Frame::data(event.into())), events))
    })
}

/// The events of one stream, each with another text.
struct StreamEvents {
    model: String,
    chunks: u32,
    include_usage: bool,
    sent: u32,
}

impl StreamEvents {
    fn new(model: String, chunks: u32, include_usage: bool) -> Self {
        Self { model, chunks, include_usage, sent: 0 }
    }

    fn next(&mut self) -> Option<String> {
        let at = self.sent;
        self.sent += 1;
        let event = match at.checked_sub(self.chunks) {
            None => self.chunk(&format!(r#"{{"index":0,"delta":{{"content":" word{at}"}},"finish_reason":null}}"#)),
            Some(0) => self.chunk(r#"{"index":0,"delta":{},"finish_reason":"stop"}"#),
            Some(1) if self.include_usage => self.usage_chunk(),
            Some(1) => "data: [DONE]\n\n".to_owned(),
            Some(2) if self.include_usage => "data: [DONE]\n\n".to_owned(),
            Some(_) => return None,
        };
        Some(event)
    }

    fn chunk(&self, choice: &str) -> String {
        let mut event = self.head();
        let usage = if self.include_usage { r#","usage":null"# } else { "" };
        let _ = write!(event, "[{choice}]{usage}}}\n\n");
        event
    }

    fn usage_chunk(&self) -> String {
        let (answer, total) = (self.chunks, PROMPT_TOKENS + self.chunks);
        let mut event = self.head();
        let _ = write!(
            event,
            "[],\"usage\":{{\"prompt_tokens\":{PROMPT_TOKENS},\"completion_tokens\":{answer},\"total_tokens\":{total}}}}}\n\n"
        );
        event
    }

    fn head(&self) -> String {
        format!(
            r#"data: {{"id":"chatcmpl-mock","object":"chat.completion.chunk","created":1763700000,"model":"{}","service_tier":"default","system_fingerprint":"fp_mock","choices":"#,
            self.model
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(include_usage: bool) -> Vec<String> {
        let mut events = StreamEvents::new("m".into(), 2, include_usage);
        std::iter::from_fn(|| events.next()).collect()
    }

    #[test]
    fn the_usage_chunk_comes_only_when_it_is_asked_for() {
        let with = events(true);
        assert_eq!(with.len(), 5, "two words, the end, the usage, the last word of the protocol");
        assert!(with[3].contains(r#""choices":[],"usage":{"prompt_tokens":120,"completion_tokens":2"#));
        let without = events(false);
        assert_eq!(without.len(), 4);
        assert!(without.iter().all(|event| !event.contains("usage")));
    }

    #[test]
    fn every_event_is_json_and_no_two_are_alike() {
        let all = events(true);
        for event in &all[..4] {
            let data = event.strip_prefix("data: ").and_then(|rest| rest.strip_suffix("\n\n")).expect("one event");
            serde_json::from_str::<serde_json::Value>(data).expect("JSON");
        }
        assert_ne!(all[0], all[1]);
    }

    #[test]
    fn a_whole_answer_is_about_a_kilobyte_of_json() {
        let answer = whole_answer("m");
        serde_json::from_str::<serde_json::Value>(&answer).expect("JSON");
        assert!((900..1_300).contains(&answer.len()), "{}", answer.len());
    }
}
