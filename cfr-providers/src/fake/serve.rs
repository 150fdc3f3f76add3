//! How the fake provider hands its answers out, whole or token by token, and writes down what it handed out.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use cfr_core::chat::Usage;
use cfr_core::upstream::{FinishReason, Order, Reply, Report, StreamEvent, StreamReply, UpstreamError, WholeReply};
use futures_util::{StreamExt, stream};
use http::HeaderValue;

use super::answer::Answer;
use super::log::Entry;
use super::prompt::Prompt;
use super::render::{self, Head};
use super::script::Script;
use crate::openai;

/// The complete answer.
pub(super) fn whole(
    prompt: &Prompt,
    order: &Order<'_>,
    answers: &[Answer],
    entry: Entry,
) -> Result<Reply, UpstreamError> {
    if prompt.script.breaks() {
        return Err(UpstreamError::Truncated { message: "ordered by the prompt".into() });
    }
    let tokens = answers.iter().map(Answer::cost).sum();
    let reported = !prompt.script.no_usage;
    let body = Head::new(prompt, order).whole(answers, reported.then(|| render::usage(prompt, tokens)));
    entry.add(tokens);
    entry.finish();
    let output_bytes = answers.iter().map(visible_bytes).sum();
    let finish = answers.last().map(|answer| answer.finish.clone());
    let usage = reported.then(|| Usage::text(prompt.tokens, tokens));
    let report = Report { usage, output_bytes, finish, model: Some(order.model.into()), ..Report::default() };
    let content_type = HeaderValue::from_static("application/json");
    let upstream_id = Some(prompt.identity(order).0.into());
    Ok(Reply::Whole(WholeReply { content_type, body, report, upstream_id, dropped: Vec::new() }))
}

fn visible_bytes(answer: &Answer) -> u64 {
    let name = answer.tool.as_ref().map_or(0, String::len);
    (name + answer.tokens.iter().map(String::len).sum::<usize>()) as u64
}

/// The answer token by token.
pub(super) fn stream(prompt: &Prompt, order: &Order<'_>, answers: Vec<Answer>, pace: Duration, entry: Entry) -> Reply {
    let steps = steps(prompt, order, &answers);
    let serving = Serving { steps, pace, idle_timeout: order.idle_timeout, entry };
    let events =
        stream::unfold(serving, |mut serving| async move { serving.next().await.map(|event| (event, serving)) });
    let upstream_id = Some(prompt.identity(order).0.into());
    Reply::Stream(StreamReply { events: events.boxed(), upstream_id, dropped: Vec::new() })
}

struct Serving {
    steps: VecDeque<Step>,
    pace: Duration,
    idle_timeout: Duration,
    entry: Entry,
}

/// One thing to do.
enum Step {
    /// Hand out a frame that costs so many tokens.
    Say { frame: Bytes, report: Report, tokens: u64 },
    /// Hand out the end, with the usage.
    End { frame: Bytes, report: Report },
    /// Fail.
    Fail(UpstreamError),
    /// Be silent until the caller gives up.
    Hang,
}

impl Serving {
    async fn next(&mut self) -> Option<Result<StreamEvent, UpstreamError>> {
        match self.steps.pop_front()? {
            Step::Say { frame, report, tokens } => {
                self.wait().await;
                self.entry.add(tokens);
                Some(Ok(StreamEvent { bytes: frame, report }))
            }
            Step::End { frame, report } => {
                self.entry.finish();
                Some(Ok(StreamEvent { bytes: frame, report }))
            }
            Step::Fail(error) => {
                self.steps.clear();
                Some(Err(error))
            }
            Step::Hang => {
                self.steps.clear();
                tokio::time::sleep(self.idle_timeout).await;
                Some(Err(UpstreamError::Timeout { after: self.idle_timeout }))
            }
        }
    }

    async fn wait(&self) {
        if !self.pace.is_zero() {
            tokio::time::sleep(self.pace).await;
        }
    }
}

fn steps(prompt: &Prompt, order: &Order<'_>, answers: &[Answer]) -> VecDeque<Step> {
    let head = Head::new(prompt, order);
    let is_chat = order.call.operation == cfr_core::chat::Operation::ChatCompletions;
    let mut steps = VecDeque::new();
    for (index, answer) in answers.iter().enumerate() {
        if is_chat {
            let report =
                Report { output_bytes: answer.tool.as_ref().map_or(0, String::len) as u64, ..model(order, index) };
            steps.push_back(Step::Say {
                frame: head.first_frame(index, answer),
                report,
                tokens: answer.tool.is_some().into(),
            });
        }
        steps.extend(answer.tokens.iter().map(|token| Step::Say {
            frame: head.token_frame(index, answer, token),
            report: Report { output_bytes: token.len() as u64, ..Report::default() },
            tokens: 1,
        }));
        steps.push_back(Step::Say {
            frame: head.last_frame(index, &answer.finish),
            report: finish(&answer.finish),
            tokens: 0,
        });
    }
    match failure(&prompt.script) {
        Some(failure) => {
            steps.truncate(steps.len() / 2);
            steps.push_back(failure);
        }
        None => steps.push_back(end(prompt, order, &head, answers)),
    }
    steps
}

/// The first frame of an answer names the model.
fn model(order: &Order<'_>, index: usize) -> Report {
    Report { model: (index == 0).then(|| order.model.into()), ..Report::default() }
}

fn finish(reason: &FinishReason) -> Report {
    Report { finish: Some(reason.clone()), ..Report::default() }
}

fn failure(script: &Script) -> Option<Step> {
    if script.hang {
        Some(Step::Hang)
    } else if script.cut {
        Some(Step::Fail(UpstreamError::Truncated { message: "ordered by the prompt".into() }))
    } else if script.stream_error {
        let error = br#"{"error":{"message":"ordered by the prompt","type":"server_error","param":null,"code":null}}"#;
        Some(Step::Fail(openai::error::in_stream(error)))
    } else {
        None
    }
}

fn end(prompt: &Prompt, order: &Order<'_>, head: &Head, answers: &[Answer]) -> Step {
    let tokens = answers.iter().map(Answer::cost).sum();
    let reported = !prompt.script.no_usage;
    let mut frame = BytesMut::new();
    if reported && order.call.envelope.include_usage {
        frame.put(head.usage_frame(render::usage(prompt, tokens)));
    }
    frame.put_slice(b"data: [DONE]\n\n");
    let usage = reported.then(|| Usage::text(prompt.tokens, tokens));
    Step::End { frame: frame.freeze(), report: Report { usage, ..Report::default() } }
}
