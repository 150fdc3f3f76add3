//! The request for the provider: the caller's bytes, changed only where the provider needs it.

use std::collections::BTreeMap;

use bytes::Bytes;
use cfr_core::chat::envelope::{CapField, Edit, OutputCap, splice};
use cfr_core::chat::{Call, Envelope, Operation};
use cfr_core::upstream::{Order, UpstreamError};
use serde_json::value::RawValue;

use super::fields;
use super::quirks::Quirks;

/// Caps of chat completions. Servers that make a completion of a response may read them there too, and an unread one
/// means nothing.
const CHAT_CAPS: [&str; 2] = [CapField::MaxTokens.name(), CapField::MaxCompletionTokens.name()];

/// The body to send.
pub(super) fn body(quirks: &Quirks, order: &Order<'_>) -> Result<Bytes, UpstreamError> {
    let call = order.call;
    refuse_uncapped_tools(quirks, call)?;
    let mut drops = quirks.drops.to_vec();
    drops.extend(surplus_cap(quirks, call.operation, &call.envelope, &call.body));
    if call.operation == Operation::Responses {
        drops.extend(CHAT_CAPS);
    }
    let kept = fields::without(&call.body, &drops);
    if kept.len() == call.body.len() {
        return edited(quirks, order, &call.envelope, &kept);
    }
    // Places have moved. This is the rare case: a server that refuses fields, and a caller who sends one.
    let envelope = Envelope::parse(call.operation, &kept).map_err(|error| UpstreamError::Unsupported {
        message: format!("the body cannot be read without the fields that {} refuses: {error}", quirks.name).into(),
    })?;
    edited(quirks, order, &envelope, &kept)
}

/// Tools that run at the provider are priced by a cap on their calls. OpenAI alone keeps `max_tool_calls`; a server of
/// the operator's own, which has no list prices, may do as it likes.
fn refuse_uncapped_tools(quirks: &Quirks, call: &Call) -> Result<(), UpstreamError> {
    let keeps_cap = quirks.words.openai_models || quirks.price_provider.is_none();
    if keeps_cap || call.operation != Operation::Responses || call.envelope.input.hosted_calls == 0 {
        return Ok(());
    }
    let message = format!("tools: nothing caps the calls of hosted tools at {}", quirks.name);
    Err(UpstreamError::Unsupported { message: message.into() })
}

fn edited(quirks: &Quirks, order: &Order<'_>, envelope: &Envelope, body: &Bytes) -> Result<Bytes, UpstreamError> {
    let operation = order.call.operation;
    let cap = order.output_tokens_max.map(|tokens| tokens.to_string());
    let options = stream_options(quirks, operation, envelope, body)?;

    let mut edits: Vec<Edit<'_>> = Vec::with_capacity(4);
    edits.extend(model(order, envelope, body));
    if let Some(field) = cap_field(quirks, operation) {
        edits.extend(cap_name(quirks, operation, envelope, body));
        edits.extend(cap.as_ref().and_then(|tokens| cap_value(field, envelope, order.output_tokens_max, tokens)));
    }
    for edit in envelope.hosted_edits() {
        edits.push(edit);
    }
    if let Some(json) = &options {
        let json = json.as_bytes().into();
        edits.push(match &envelope.stream_options_span {
            Some(span) => Edit::Replace { span: span.clone(), json },
            None => Edit::Insert { field: "stream_options", json },
        });
    }
    Ok(splice(body, &edits))
}

/// The model when the provider has another name for it, or the caller gave none.
fn model(order: &Order<'_>, envelope: &Envelope, body: &[u8]) -> Option<Edit<'static>> {
    let json = || serde_json::Value::from(order.model).to_string().into_bytes().into();
    let Some(span) = envelope.model_span.clone() else { return Some(Edit::Insert { field: "model", json: json() }) };
    let differs = order.model != &*envelope.model || body.get(span.clone()) == Some(b"null");
    differs.then(|| Edit::Replace { span, json: json() })
}

/// The field that caps answer tokens, where there are any.
const fn cap_field(quirks: &Quirks, operation: Operation) -> Option<CapField> {
    match operation {
        Operation::ChatCompletions => Some(quirks.cap_field),
        Operation::Completions => Some(CapField::MaxTokens),
        Operation::Responses => Some(CapField::MaxOutputTokens),
        _ => None,
    }
}

/// The caller's cap when it stands in a field that the server does not read. Legacy completions have one field anywhere.
fn misnamed_cap<'a>(quirks: &Quirks, operation: Operation, envelope: &'a Envelope) -> Option<&'a OutputCap> {
    let wanted = cap_field(quirks, operation)?;
    let reads_one = quirks.cap_field_only || operation != Operation::ChatCompletions;
    envelope.output_cap.as_ref().filter(|cap| reads_one && cap.field != wanted)
}

/// The caller's own cap under the name that the server reads: a cap that is not read would not bound the price.
fn cap_name(quirks: &Quirks, operation: Operation, envelope: &Envelope, body: &[u8]) -> Option<Edit<'static>> {
    let span = fields::name_before(body, misnamed_cap(quirks, operation, envelope)?.span.start)?;
    let name = format!("\"{}\"", cap_field(quirks, operation)?.name());
    Some(Edit::Replace { span, json: name.into_bytes().into() })
}

/// Our cap where the caller set none or a higher one.
fn cap_value<'a>(field: CapField, envelope: &Envelope, ours: Option<u64>, json: &'a str) -> Option<Edit<'a>> {
    let json = json.as_bytes();
    match &envelope.output_cap {
        None => Some(envelope.cap_edit(field, json)),
        Some(caller) if ours.is_some_and(|ours| ours < caller.tokens) => {
            Some(Edit::Replace { span: caller.span.clone(), json: json.into() })
        }
        Some(_) => None,
    }
}

/// A cap that must go because the caller gave both and the server reads one: the unread one, or a `null` that would
/// stand beside the renamed one.
fn surplus_cap(quirks: &Quirks, operation: Operation, envelope: &Envelope, body: &[u8]) -> Option<&'static str> {
    let field = cap_field(quirks, operation)?;
    misnamed_cap(quirks, operation, envelope).filter(|_| fields::has(body, field.name()))?;
    let other = match field {
        CapField::MaxTokens => CapField::MaxCompletionTokens,
        _ => CapField::MaxTokens,
    };
    Some(if envelope.open_caps.is_null(field) { field.name() } else { other.name() })
}

/// `stream_options` that ask for usage, when the caller's do not and the provider must be asked.
fn stream_options(
    quirks: &Quirks,
    operation: Operation,
    envelope: &Envelope,
    body: &[u8],
) -> Result<Option<String>, UpstreamError> {
    let asks = matches!(operation, Operation::ChatCompletions | Operation::Completions);
    let streams = envelope.stream && asks; // a response always says what it used
    if !streams || envelope.include_usage || !quirks.accepts_stream_options {
        return Ok(None);
    }
    let Some(span) = &envelope.stream_options_span else { return Ok(Some(ASK_FOR_USAGE.into())) };
    let caller = body.get(span.clone()).unwrap_or_default();
    with_usage(caller)
        .map(Some)
        .map_err(|error| UpstreamError::Unsupported { message: format!("stream_options: {error}").into() })
}

const ASK_FOR_USAGE: &str = r#"{"include_usage":true}"#;

/// The caller's options, every other member as it was, with the wish for usage.
fn with_usage(options: &[u8]) -> serde_json::Result<String> {
    let members: Option<BTreeMap<String, Box<RawValue>>> = serde_json::from_slice(options)?;
    let Some(mut members) = members else { return Ok(ASK_FOR_USAGE.into()) };
    members.insert("include_usage".into(), RawValue::from_string("true".into())?);
    serde_json::to_string(&members)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cfr_core::id::RequestId;

    use super::*;
    use crate::openai::quirks::{CUSTOM, GROQ, LLAMACPP, MISTRAL, OPENAI, OPENROUTER, XAI};

    fn encoded(quirks: &Quirks, operation: Operation, body: &str, model: &str, cap: Option<u64>) -> String {
        String::from_utf8(tried(quirks, operation, body, model, cap).unwrap().to_vec()).unwrap()
    }

    fn tried(
        quirks: &Quirks,
        operation: Operation,
        body: &str,
        model: &str,
        cap: Option<u64>,
    ) -> Result<Bytes, UpstreamError> {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let envelope = Envelope::parse(operation, &body).unwrap();
        let (tags, cache) = (cfr_core::chat::Tags::default(), cfr_core::cache::CacheUse::default());
        let call = Call {
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
        };
        let (timeout, idle_timeout) = (Duration::ZERO, Duration::ZERO);
        let order = Order { call: &call, model, output_tokens_max: cap, timeout, idle_timeout };
        super::body(quirks, &order)
    }

    #[track_caller]
    fn check(quirks: &Quirks, body: &str, cap: Option<u64>, expected: &str) {
        assert_eq!(encoded(quirks, Operation::ChatCompletions, body, "m", cap), expected);
    }

    #[test]
    fn without_a_reason_no_byte_changes() {
        let body = r#"{ "messages" : [], "model":"m","max_tokens":5, "x": 1.50 }"#;
        check(&OPENAI, body, None, body);
    }

    #[test]
    fn only_the_model_changes_when_only_the_model_differs() {
        let body = r#"{"messages":[{"role":"user","content":"m"}],"model": "m" ,"x":1.50}"#;
        let sent = encoded(&OPENAI, Operation::ChatCompletions, body, "a\"b", None);
        assert_eq!(sent, r#"{"messages":[{"role":"user","content":"m"}],"model": "a\"b" ,"x":1.50}"#);
    }

    #[test]
    fn a_model_that_the_caller_left_out_is_named() {
        let sent = |body: &str| encoded(&OPENAI, Operation::Moderations, body, "omni-moderation-latest", None);
        assert_eq!(sent(r#"{"input":"x"}"#), r#"{"model":"omni-moderation-latest","input":"x"}"#);
        let null = sent(r#"{"input":"x","model": null}"#);
        assert_eq!(null, r#"{"input":"x","model": "omni-moderation-latest"}"#);
    }

    #[test]
    fn our_cap_stands_in_the_servers_field() {
        let body = r#"{"model":"m","messages":[]}"#;
        check(&OPENAI, body, Some(7), r#"{"max_completion_tokens":7,"model":"m","messages":[]}"#);
        check(&CUSTOM, body, Some(7), r#"{"max_tokens":7,"model":"m","messages":[]}"#);
        let null = r#"{"model":"m","messages":[],"max_completion_tokens":null}"#;
        check(&OPENAI, null, Some(7), r#"{"model":"m","messages":[],"max_completion_tokens":7}"#);
    }

    #[test]
    fn legacy_completions_know_one_cap_only_and_embeddings_none() {
        let sent = encoded(&OPENAI, Operation::Completions, r#"{"model":"m","prompt":"p"}"#, "m", Some(7));
        assert_eq!(sent, r#"{"max_tokens":7,"model":"m","prompt":"p"}"#);
        let misnamed = r#"{"model":"m","prompt":"p","max_completion_tokens":7}"#;
        let sent = encoded(&OPENAI, Operation::Completions, misnamed, "m", None);
        assert_eq!(sent, r#"{"model":"m","prompt":"p","max_tokens":7}"#);
        let body = r#"{"model":"m","input":"p"}"#;
        assert_eq!(encoded(&OPENAI, Operation::Embeddings, body, "m", Some(7)), body);
    }

    #[test]
    fn a_response_is_capped_by_its_own_field_alone() {
        let body = r#"{"model":"m","input":"p"}"#;
        let sent = encoded(&OPENAI, Operation::Responses, body, "m", Some(70));
        assert_eq!(sent, r#"{"max_output_tokens":70,"model":"m","input":"p"}"#);
        let body = r#"{"model":"m","input":"p","max_output_tokens":50,"max_tokens":9999,"stream":true}"#;
        let sent = encoded(&LLAMACPP, Operation::Responses, body, "m", Some(70));
        assert_eq!(sent, r#"{"model":"m","input":"p","max_output_tokens":50,"stream":true}"#);
    }

    #[test]
    fn hosted_tools_get_the_cap_that_their_price_relies_on_or_are_refused() {
        let body = r#"{"model":"m","input":"p","max_output_tokens":5,"tools":[{"type":"web_search"},{"type":"new"}]}"#;
        let sent = encoded(&OPENAI, Operation::Responses, body, "m", None);
        assert_eq!(sent, body.replacen('{', r#"{"max_tool_calls":10,"#, 1));
        let capped = body.replacen('{', r#"{"max_tool_calls":3,"#, 1);
        assert_eq!(encoded(&OPENAI, Operation::Responses, &capped, "m", None), capped);
        let error = tried(&XAI, Operation::Responses, body, "m", None).unwrap_err();
        assert!(matches!(&error, UpstreamError::Unsupported { message } if message.starts_with("tools: ")), "{error}");
        tried(&LLAMACPP, Operation::Responses, body, "m", None).unwrap();
    }

    #[test]
    fn a_lower_cap_of_the_caller_stays() {
        let body = r#"{"model":"m","messages":[],"max_tokens":5}"#;
        check(&OPENAI, body, Some(7), body);
        check(&OPENAI, body, Some(3), r#"{"model":"m","messages":[],"max_tokens":3}"#);
    }

    #[test]
    fn a_cap_that_the_server_does_not_read_is_renamed() {
        let body = r#"{"model":"m","messages":[],"max_completion_tokens":5}"#;
        check(&CUSTOM, body, None, r#"{"model":"m","messages":[],"max_tokens":5}"#);
        check(&GROQ, body, None, body);
        let both = r#"{"model":"m","messages":[],"max_tokens":4,"max_completion_tokens":5}"#;
        check(&CUSTOM, both, None, r#"{"model":"m","messages":[],"max_tokens":4}"#);
        let null = r#"{"model":"m","messages":[],"max_tokens":null,"max_completion_tokens":5}"#;
        check(&CUSTOM, null, None, r#"{"model":"m","messages":[],"max_tokens":5}"#);
    }

    #[test]
    fn streams_ask_for_usage_and_keep_the_callers_other_options() {
        let body = r#"{"model":"m","messages":[],"stream":true}"#;
        check(
            &OPENAI,
            body,
            None,
            r#"{"stream_options":{"include_usage":true},"model":"m","messages":[],"stream":true}"#,
        );
        let body = r#"{"model":"m","messages":[],"stream":true,"stream_options":{"include_obfuscation":false,"include_usage":false}}"#;
        let sent = r#"{"model":"m","messages":[],"stream":true,"stream_options":{"include_obfuscation":false,"include_usage":true}}"#;
        check(&OPENAI, body, None, sent);
        check(&OPENAI, sent, None, sent);
        let null = r#"{"model":"m","messages":[],"stream":true,"stream_options":null}"#;
        check(
            &OPENAI,
            null,
            None,
            r#"{"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":true}}"#,
        );
    }

    #[test]
    fn fields_that_would_undo_the_price_are_taken_out() {
        let sent = r#"{"model":"m","messages":[],"max_tokens":5}"#;
        let longer = r#"{"model":"m","messages":[],"max_tokens":5,"n_predict":100000}"#;
        check(&LLAMACPP, longer, None, sent);
        check(&CUSTOM, longer, None, sent);
        let dearer =
            r#"{"model":"m","messages":[],"max_tokens":5,"models":["dear"],"preset":"p","plugins":[{"id":"web"}]}"#;
        check(&OPENROUTER, dearer, None, sent);
        let deferred = r#"{"model":"m","messages":[],"max_tokens":5,"deferr\u0065d":true}"#;
        check(&XAI, deferred, None, sent);
    }

    #[test]
    fn refused_fields_are_taken_out_and_the_rest_is_edited_as_ever() {
        let body =
            r#"{"user":"u","model":"x","messages":[],"stream":true,"stream_options":{"include_usage":true},"top_k":1}"#;
        check(&MISTRAL, body, Some(7), r#"{"max_tokens":7,"model":"m","messages":[],"stream":true,"top_k":1}"#);
    }
}
