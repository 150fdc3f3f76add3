//! From Converse's answer to what it says (providers.md §8.3, §13.4, §15).

use cfr_core::upstream::{FinishReason, UpstreamError};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::usage;
use crate::dialog::{Answer, Choice, Citation, Image, Part, Seal, Source, Text, Thought, ToolCall};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireAnswer {
    output: Output,
    #[serde(default)]
    stop_reason: Option<String>,
    #[serde(default)]
    usage: Value,
    #[serde(default)]
    additional_model_response_fields: Value,
    #[serde(default)]
    service_tier: Value,
}

#[derive(Deserialize)]
struct Output {
    message: Message,
}

#[derive(Deserialize)]
struct Message {
    content: Vec<Map<String, Value>>,
}

/// The meaning of a complete answer.
pub(super) fn read(body: &[u8]) -> Result<Answer, UpstreamError> {
    let wire: WireAnswer = serde_json::from_slice(body)
        .map_err(|cause| UpstreamError::Malformed { message: format!("not an answer: {cause}").into() })?;
    let fields = wire.additional_model_response_fields;
    let choice = Choice {
        parts: wire.output.message.content.into_iter().filter_map(part).collect(),
        finish: finish(wire.stop_reason.as_deref().unwrap_or("end_turn")),
        stop_sequence: stop_sequence(&fields),
        logprobs: None,
    };
    Ok(Answer {
        choices: vec![choice],
        usage: usage::read(wire.usage, usage::thinking_in(&fields)),
        service_tier: tier(&wire.service_tier),
        ..Answer::default()
    })
}

/// A block has one member, which says what it is; one that is not known is left out.
fn part(mut block: Map<String, Value>) -> Option<Part> {
    let mut take = |name: &str| block.remove(name);
    if let Some(Value::String(text)) = take("text") {
        return Some(Part::text(text));
    }
    take("toolUse")
        .and_then(tool_call)
        .or_else(|| take("reasoningContent").and_then(thought))
        .or_else(|| take("citationsContent").and_then(cited))
        .or_else(|| take("image").and_then(image))
}

fn tool_call(mut call: Value) -> Option<Part> {
    let input = call.get_mut("input").map(Value::take).filter(|input| !input.is_null());
    Some(Part::ToolCall(ToolCall {
        id: text_of(&call, "toolUseId")?,
        name: text_of(&call, "name")?,
        arguments: input.map_or_else(|| "{}".to_owned(), |input| input.to_string()),
        custom: false,
        seal: None,
        cache: None,
    }))
}

fn thought(reasoning: Value) -> Option<Part> {
    if let Some(data) = text_of(&reasoning, "redactedContent") {
        return Some(Part::Thought(Thought { text: String::new(), seal: Some(Seal::AnthropicRedacted(data)) }));
    }
    let shown = reasoning.get("reasoningText")?;
    let seal = text_of(shown, "signature").map(Seal::Anthropic);
    Some(Part::Thought(Thought { text: text_of(shown, "text")?, seal }))
}

/// Words with the documents that they come from.
fn cited(content: Value) -> Option<Part> {
    let texts = content.get("content")?.as_array()?.iter().filter_map(|one| text_of(one, "text"));
    let citations = content.get("citations").and_then(Value::as_array).into_iter().flatten();
    let citations = citations.filter_map(citation).collect();
    Some(Part::Text(Text { text: texts.collect(), citations, ..Text::default() }))
}

/// A source on the web; places in documents have no address to name.
pub(super) fn citation(citation: &Value) -> Option<Citation> {
    let url = text_of(citation.pointer("/location/web")?, "url")?;
    Some(Citation { url, title: text_of(citation, "title"), start: None, end: None })
}

fn image(image: Value) -> Option<Part> {
    let media_type = format!("image/{}", text_of(&image, "format")?);
    let data = text_of(image.get("source")?, "bytes")?;
    Some(Part::Image(Image { source: Source::Inline { media_type, data }, detail: None, cache: None }))
}

/// Why an answer ended, in OpenAI's words.
pub(super) fn finish(reason: &str) -> FinishReason {
    match reason {
        "end_turn" | "stop_sequence" => FinishReason::Stop,
        "tool_use" => FinishReason::ToolCalls,
        "max_tokens" | "model_context_window_exceeded" => FinishReason::Length,
        "guardrail_intervened" | "content_filtered" => FinishReason::ContentFilter,
        "malformed_model_output" | "malformed_tool_use" => FinishReason::Error,
        other => FinishReason::Other(other.into()),
    }
}

/// The caller's text that ended the answer, where the model was asked for it.
pub(super) fn stop_sequence(fields: &Value) -> Option<String> {
    text_of(fields, "stop_sequence")
}

/// The tier that served.
pub(super) fn tier(tier: &Value) -> Option<String> {
    text_of(tier, "type")
}

pub(super) fn text_of(object: &Value, name: &str) -> Option<String> {
    object.get(name)?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parts_of(content: Value) -> Vec<Part> {
        let body = json!({"output": {"message": {"role": "assistant", "content": content}}, "stopReason": "end_turn"});
        read(body.to_string().as_bytes()).expect("an answer").choices.remove(0).parts
    }

    #[test]
    fn every_kind_of_block_is_understood_and_an_unknown_one_left_out() {
        let parts = parts_of(json!([
            {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "sig"}}},
            {"reasoningContent": {"redactedContent": "c2VjcmV0"}},
            {"text": "Hi"},
            {"video": {"format": "mp4"}},
            {"toolUse": {"toolUseId": "t1", "name": "f", "input": {"b": 1, "a": 2}}},
            {"toolUse": {"toolUseId": "t2", "name": "g"}},
            {"citationsContent": {
                "content": [{"text": "It rains."}],
                "citations": [
                    {"title": "Weather", "location": {"web": {"url": "https://w.example"}}},
                    {"location": {"documentPage": {"start": 1}}},
                ],
            }},
            {"image": {"format": "png", "source": {"bytes": "AAAA"}}},
        ]));
        let thought = |text: &str, seal| Part::Thought(Thought { text: text.into(), seal: Some(seal) });
        let call = |id: &str, name: &str, arguments: &str| {
            let (id, name, arguments) = (id.into(), name.into(), arguments.into());
            Part::ToolCall(ToolCall { id, name, arguments, custom: false, seal: None, cache: None })
        };
        let (url, title) = ("https://w.example".to_owned(), Some("Weather".to_owned()));
        let citations = vec![Citation { url, title, start: None, end: None }];
        let source = Source::Inline { media_type: "image/png".into(), data: "AAAA".into() };
        let expected = vec![
            thought("Hm.", Seal::Anthropic("sig".into())),
            thought("", Seal::AnthropicRedacted("c2VjcmV0".into())),
            Part::text("Hi"),
            call("t1", "f", r#"{"b":1,"a":2}"#),
            call("t2", "g", "{}"),
            Part::Text(Text { text: "It rains.".into(), citations, ..Text::default() }),
            Part::Image(Image { source, detail: None, cache: None }),
        ];
        assert_eq!(parts, expected);
    }

    #[test]
    fn every_reason_to_end_has_a_word() {
        let expected = [
            ("end_turn", "stop"),
            ("stop_sequence", "stop"),
            ("tool_use", "tool_calls"),
            ("max_tokens", "length"),
            ("model_context_window_exceeded", "length"),
            ("guardrail_intervened", "content_filter"),
            ("content_filtered", "content_filter"),
            ("malformed_model_output", "error"),
            ("malformed_tool_use", "error"),
            ("something_new", "something_new"),
        ];
        for (reason, word) in expected {
            assert_eq!(finish(reason).name(), word);
        }
    }

    #[test]
    fn what_the_model_says_beside_the_answer_is_read() {
        let body = json!({
            "output": {"message": {"role": "assistant", "content": []}},
            "stopReason": "stop_sequence",
            "usage": {"inputTokens": 1, "outputTokens": 5},
            "additionalModelResponseFields":
                {"stop_sequence": "END", "usage": {"output_tokens_details": {"thinking_tokens": 4}}},
            "serviceTier": {"type": "flex"},
        });
        let answer = read(body.to_string().as_bytes()).expect("an answer");
        assert_eq!(answer.choices[0].stop_sequence.as_deref(), Some("END"));
        assert_eq!(answer.service_tier.as_deref(), Some("flex"));
        assert_eq!(answer.usage.map(|usage| usage.get(cfr_core::chat::Meter::ReasoningTokens)), Some(4));
    }

    #[test]
    fn what_is_no_answer_is_malformed() {
        for body in ["", "[]", "{}", r#"{"output":{}}"#, "<html>"] {
            assert_eq!(read(body.as_bytes()).expect_err(body).name(), "malformed");
        }
    }
}
