//! From Google's answer to nobody's dialect (providers.md §7.3, §13.4).

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use cfr_core::chat::Usage;
use cfr_core::upstream::{FinishReason, UpstreamError};
use http::{HeaderMap, HeaderName};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::finish::{self, Said};
use super::usage::Tally;
use super::wire::{self, Candidate, Response, str_of};
use super::{citation, error, logprobs};
use crate::dialog::{Answer, Choice, Image, Part, Seal, Source, Text, Thought, ToolCall};

/// The header that says which tier of AI Studio served.
const SERVICE_TIER: HeaderName = HeaderName::from_static("x-gemini-service-tier");
/// The words of a refusal that has none of its own.
const REFUSED: &str = "refused";
/// Letters and digits of an id that is made for a call.
const MADE_ID_LETTERS: usize = 24;

/// The meaning of a complete answer.
pub(super) fn read(headers: &HeaderMap, body: &Bytes) -> Result<Answer, UpstreamError> {
    let response = parse(headers, body, false)?;
    let model = str_of(response.model_version.as_ref()).to_owned();
    let id = str_of(response.response_id.as_ref()).to_owned();
    let (usage, service_tier) = used(headers, &response);
    let mut choices: Vec<Choice> = response.candidates().iter().map(|candidate| choice(&id, candidate)).collect();
    choices.extend(blocked(&response).filter(|_| response.candidates().is_empty()));
    Ok(Answer { id, model, choices, usage, cost: None, service_tier, geo: None })
}

/// An answer that has content, or says why it has none.
pub(super) fn parse<'a>(headers: &HeaderMap, body: &'a Bytes, hand_on: bool) -> Result<Response<'a>, UpstreamError> {
    let response = crate::json::parse::<Response<'_>>(body)
        .map_err(|cause| UpstreamError::Malformed { message: format!("not an answer in JSON: {cause}").into() })?;
    if response.error.is_some() && response.candidates().is_empty() {
        return Err(error::read_in_success(headers, body, hand_on));
    }
    if response.candidates().is_empty() && response.blocked().is_none() {
        return Err(UpstreamError::Malformed { message: "the answer has no content".into() });
    }
    Ok(response)
}

/// Usage with the searches, and the tier that served.
pub(super) fn used(headers: &HeaderMap, response: &Response<'_>) -> (Option<Usage>, Option<String>) {
    let mut tally = Tally::default();
    let usage = tally.note(response);
    let by_header = || headers.get(SERVICE_TIER)?.to_str().ok().map(str::to_owned);
    (usage, tally.service_tier.or_else(by_header))
}

fn choice(response: &str, candidate: &Candidate<'_>) -> Choice {
    let mut calls = CallIds::new(response, candidate.index.unwrap_or(0));
    let mut parts: Vec<Part> = candidate.parts().iter().flat_map(|part| said(part, &mut calls)).collect();
    let said = Said { something: !parts.is_empty(), calls: calls.made > 0 };
    let finish = finish::read(candidate.finish_reason().unwrap_or("STOP"), said);
    if parts.is_empty() && finish == FinishReason::ContentFilter {
        parts.push(Part::Refusal(refusal(str_of(candidate.finish_message.as_ref()))));
    }
    citation::add(&mut parts, candidate);
    let logprobs = candidate.logprobs_result.and_then(logprobs::read);
    Choice { parts, finish, stop_sequence: None, logprobs }
}

/// A prompt that was blocked is an answer that refuses, and its prompt is charged.
pub(super) fn blocked(response: &Response<'_>) -> Option<Choice> {
    let (reason, message) = response.blocked()?;
    let words = if message.is_empty() { format!("the prompt was blocked: {reason}") } else { message.to_owned() };
    let parts = vec![Part::Refusal(words)];
    Some(Choice { parts, finish: FinishReason::ContentFilter, stop_sequence: None, logprobs: None })
}

pub(super) fn refusal(message: &str) -> String {
    if message.is_empty() { REFUSED.to_owned() } else { message.to_owned() }
}

/// What a part says; nothing where it has no words for us, as with code that Google ran.
pub(super) fn said(part: &wire::Part<'_>, calls: &mut CallIds) -> Option<Part> {
    let seal = part.thought_signature.as_ref().map(|signature| Seal::Gemini(signature.0.to_string()));
    if let Some(call) = &part.function_call {
        let (name, args) = (str_of(call.name.as_ref()), call.args.map_or("{}", RawValue::get));
        let id = calls.id(str_of(call.id.as_ref()), name, args);
        let (name, arguments) = (name.to_owned(), compact(args).into_owned());
        return Some(Part::ToolCall(ToolCall { id, name, arguments, custom: false, seal, cache: None }));
    }
    if let Some(blob) = &part.inline_data {
        let (media_type, data) = (str_of(blob.mime_type.as_ref()).to_owned(), str_of(blob.data.as_ref()).to_owned());
        let is_image = media_type.starts_with("image/") && !part.is_thought();
        let source = Source::Inline { media_type, data };
        return is_image.then_some(Part::Image(Image { source, detail: None, cache: None }));
    }
    let text = str_of(part.text.as_ref()).to_owned();
    if text.is_empty() && seal.is_none() {
        return None;
    }
    Some(match part.is_thought() {
        true => Part::Thought(Thought { text, seal }),
        false => Part::Text(Text { seal, ..Text::new(text) }),
    })
}

/// Ids for the calls of one answer, where the provider gives none. The same answer always gets the same ones.
#[derive(Debug)]
pub(super) struct CallIds {
    made_of: String,
    /// How many calls there were.
    pub(super) made: u32,
}

impl CallIds {
    pub(super) fn new(response: &str, choice: u32) -> Self {
        Self { made_of: format!("{response}\n{choice}"), made: 0 }
    }

    /// The id of the next call.
    fn id(&mut self, given: &str, name: &str, args: &str) -> String {
        self.made += 1;
        if given.is_empty() {
            made_id(&format!("{}\n{}\n{name}\n{args}", self.made_of, self.made))
        } else {
            given.to_owned()
        }
    }
}

fn made_id(seed: &str) -> String {
    let digest = URL_SAFE_NO_PAD.encode(Sha256::digest(seed.as_bytes()));
    let letters = digest.chars().filter(char::is_ascii_alphanumeric).take(MADE_ID_LETTERS);
    "call_".chars().chain(letters).collect()
}

/// JSON without the space between its tokens; a `null` is an object without members.
fn compact(json: &str) -> Cow<'_, str> {
    if json == "null" {
        return "{}".into();
    }
    if !json.contains([' ', '\n', '\r', '\t']) {
        return json.into();
    }
    let (mut out, mut in_text, mut escaped) = (String::with_capacity(json.len()), false, false);
    for letter in json.chars() {
        let is_space = matches!(letter, ' ' | '\n' | '\r' | '\t');
        if in_text || !is_space {
            out.push(letter);
        }
        in_text ^= letter == '"' && !escaped;
        escaped = in_text && letter == '\\' && !escaped;
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &'static str) -> Answer {
        read(&HeaderMap::new(), &Bytes::from_static(body.as_bytes())).expect("an answer")
    }

    #[test]
    fn arguments_lose_the_space_around_them_and_none_of_their_own() {
        let spaced = "{ \"a b\" : \"x \\\" y \\\\\" ,\n\t\"n\": 12345678901234567890123 }";
        assert_eq!(compact(spaced), "{\"a b\":\"x \\\" y \\\\\",\"n\":12345678901234567890123}");
        assert_eq!(compact("null"), "{}");
    }

    #[test]
    fn calls_without_ids_get_ids_of_their_own_that_stay_the_same() {
        let body = r#"{"responseId":"r","candidates":[{"finishReason":"STOP","content":{"parts":[
            {"functionCall":{"name":"f","args":{"a": 1}},"thoughtSignature":"c2ln"},{"functionCall":{"name":"f","args":{"a": 1}}},
            {"functionCall":{"name":"g","id":"given"}}]}}]}"#;
        let (first, again) = (answer(body), answer(body));
        assert_eq!(first, again);
        let calls = first.choices[0].parts.iter().map(|part| match part {
            Part::ToolCall(call) => (call.id.as_str(), call.arguments.as_str(), call.seal.is_some()),
            other => panic!("{other:?}"),
        });
        let calls: Vec<_> = calls.collect();
        assert!(calls[0].0.starts_with("call_") && calls[0].0 != calls[1].0, "{calls:?}");
        assert_eq!((calls[0].1, calls[0].2), ("{\"a\":1}", true));
        assert_eq!((calls[2].0, calls[2].1), ("given", "{}"));
        assert_eq!(first.choices[0].finish, FinishReason::ToolCalls);
    }

    #[test]
    fn a_blocked_prompt_refuses_and_is_charged() {
        let answer = answer(
            r#"{"promptFeedback":{"blockReason":"PROHIBITED_CONTENT"},"usageMetadata":{"promptTokenCount":7,"totalTokenCount":7}}"#,
        );
        assert_eq!(answer.usage, Some(Usage::text(7, 0)));
        assert_eq!(answer.choices[0].finish, FinishReason::ContentFilter);
        assert_eq!(answer.choices[0].parts, [Part::Refusal("the prompt was blocked: PROHIBITED_CONTENT".into())]);
    }

    #[test]
    fn an_answer_of_thoughts_alone_has_no_parts_and_is_cut() {
        let answer = answer(r#"{"candidates":[{"content":{"role":"model"},"finishReason":"MAX_TOKENS"}]}"#);
        assert_eq!((answer.choices[0].parts.len(), &answer.choices[0].finish), (0, &FinishReason::Length));
    }

    #[test]
    fn pictures_are_parts_of_the_answer() {
        let body = r#"{"candidates":[{"content":{"parts":[{"text":"Here:"},{"inlineData":{"mimeType":"image/png","data":"AA=="}}]},
            "finishReason":"STOP"}]}"#;
        let source = Source::Inline { media_type: "image/png".into(), data: "AA==".into() };
        let image = Part::Image(Image { source, detail: None, cache: None });
        assert_eq!(answer(body).choices[0].parts, [Part::text("Here:"), image]);
    }

    #[test]
    fn nothing_at_all_is_no_answer() {
        let read = |body: &'static str| read(&HeaderMap::new(), &Bytes::from_static(body.as_bytes()));
        assert!(matches!(read("{}"), Err(UpstreamError::Malformed { .. })));
        assert!(matches!(read("[1"), Err(UpstreamError::Malformed { .. })));
        let error = read(r#"{"error":{"code":503,"message":"busy"}}"#).expect_err("an error");
        assert_eq!(error.name(), "failed");
    }
}
