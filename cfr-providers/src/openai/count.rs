//! Counting the tokens of a prompt at `/responses/input_tokens`: free, and an estimate (providers.md §3).

use bytes::Bytes;
use cfr_core::upstream::{Order, UpstreamError};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::host::{Host, Path};
use crate::dialog::{Dialog, Drops, invalid};
use crate::responses;
use crate::transport::WireRequest;

/// The fields of a request for a response that say something of its prompt; a count takes no others.
const COUNTED: [&str; 11] = [
    "model",
    "input",
    "instructions",
    "previous_response_id",
    "conversation",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "text",
    "reasoning",
    "truncation",
];

/// The request that has the prompt of a client's own body counted: for a body of the Responses dialect.
pub(super) fn of_body(host: &Host, order: &Order<'_>) -> Result<WireRequest, UpstreamError> {
    counting(host, order.model, &order.call.body)
}

/// The request that has the prompt of a dialog counted, for clients of other dialects.
pub(super) fn of_dialog(
    host: &Host,
    dialog: &Dialog,
    model: &str,
    drops: &mut Drops,
) -> Result<WireRequest, UpstreamError> {
    counting(host, model, &responses::request::body(dialog, model, drops)?)
}

fn counting(host: &Host, model: &str, body: &Bytes) -> Result<WireRequest, UpstreamError> {
    let mut body: Map<String, Value> = serde_json::from_slice(body).map_err(|cause| invalid(cause.to_string()))?;
    body.retain(|name, _| COUNTED.contains(&name.as_str()));
    body.insert("model".to_owned(), model.into());
    host.request(Path::InputTokens, model, Value::Object(body).to_string().into())
}

/// The number that an answer says.
pub(super) fn counted(body: &Bytes) -> Result<u64, UpstreamError> {
    #[derive(Deserialize)]
    struct Count {
        input_tokens: u64,
    }
    let malformed = |cause| UpstreamError::Malformed { message: format!("not a count of tokens: {cause}").into() };
    serde_json::from_slice::<Count>(body).map(|count| count.input_tokens).map_err(malformed)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cfr_core::chat::{Call, Operation};
    use cfr_core::time::Timestamp;
    use http::HeaderMap;
    use serde_json::json;

    use super::*;
    use crate::adapter::Adapter;
    use crate::openai::OpenAi;
    use crate::openai::quirks::{OPENAI, Quirks, VLLM};

    fn counted_for(quirks: &'static Quirks, operation: Operation, body: &Value) -> Option<(String, Value)> {
        let call = Call::parse(operation, body.to_string().into(), Timestamp::UNIX_EPOCH).unwrap();
        let (timeout, idle_timeout) = (Duration::ZERO, Duration::ZERO);
        let order = Order { call: &call, model: "gpt-5.1", output_tokens_max: None, timeout, idle_timeout };
        let request = OpenAi::new(quirks, None).unwrap().encode_count(&order).unwrap()?;
        Some((request.endpoint.uri().path().to_owned(), serde_json::from_slice(&request.body).unwrap()))
    }

    #[test]
    fn the_prompt_alone_is_counted_whatever_the_callers_dialect() {
        let path = "/v1/responses/input_tokens".to_owned();
        let own = json!({"model": "m", "input": "Hi", "store": true, "stream": true, "truncation": "auto"});
        let sent = json!({"model": "gpt-5.1", "input": "Hi", "truncation": "auto"});
        assert_eq!(counted_for(&OPENAI, Operation::Responses, &own), Some((path.clone(), sent)));
        let foreign = json!({"model": "m", "max_tokens": 9, "system": "S", "top_k": 3,
            "messages": [{"role": "user", "content": "Hi"}]});
        let (to, sent) = counted_for(&OPENAI, Operation::Messages, &foreign).unwrap();
        let names: Vec<&str> = sent.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!((to, names), (path, vec!["model", "instructions", "input"]));
    }

    #[test]
    fn servers_without_a_counter_are_not_asked() {
        let body = json!({"model": "m", "input": "Hi"});
        assert_eq!(counted_for(&VLLM, Operation::Responses, &body), None);
    }

    #[test]
    fn the_answer_stays_as_it_came_for_a_client_of_the_same_dialect() {
        let answer = Bytes::from_static(br#"{"object":"response.input_tokens","input_tokens":11,"new":1}"#);
        let openai = OpenAi::new(&OPENAI, None).unwrap();
        for (operation, body, kept) in [
            (Operation::Responses, json!({"model": "m", "input": "Hi"}), true),
            (Operation::Messages, json!({"model": "m", "messages": []}), false),
        ] {
            let call = Call::parse(operation, body.to_string().into(), Timestamp::UNIX_EPOCH).unwrap();
            let count = openai.decode_count(&call, &HeaderMap::new(), answer.clone()).unwrap();
            assert_eq!((count.tokens, count.body), (11, kept.then(|| answer.clone())));
        }
    }
}
