//! What Anthropic answers, whole, streamed, torn and cut, as clients of both sides see it.

use super::*;

/// One recorded answer through an adapter, as the network brings it in these pieces.
fn relayed<'a>(
    operation: Operation,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Bytes, Report, Option<UpstreamError>) {
    let body = json!({"model": "x", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}], "stream": true});
    let mut relay = Relay::new(Framing::Sse, adapter().stream_decoder(&call(operation, &body)));
    let (mut bytes, mut report) = (BytesMut::new(), Report::default());
    for piece in pieces.into_iter().map(Some).chain([None]) {
        let relayed = match piece {
            Some(piece) => relay.push(Bytes::copy_from_slice(piece)),
            None => relay.finish(),
        };
        bytes.extend_from_slice(&relayed.event.bytes);
        report.absorb(relayed.event.report);
        if relayed.error.is_some() || relay.is_done() {
            return (bytes.freeze(), report, relayed.error);
        }
    }
    (bytes.freeze(), report, None)
}

const STREAMS: [&str; 3] = ["stream", "tool_stream", "reasoning_stream"];
const BOTH: [Operation; 2] = [Operation::Messages, Operation::ChatCompletions];

#[test]
fn a_stream_torn_anywhere_says_the_same() {
    for (name, operation) in STREAMS.iter().flat_map(|name| BOTH.map(|operation| (name, operation))) {
        let stream = fixture(&format!("anthropic/{name}.sse"));
        let whole = relayed(operation, [&stream[..]]);
        assert!(whole.2.is_none(), "{name}: {:?}", whole.2);
        if operation == Operation::Messages {
            assert_eq!(whole.0.trim_ascii_end(), stream.trim_ascii_end(), "{name}");
        }
        for at in (1..stream.len()).filter(|at| *name == "tool_stream" || at % 50 == 0) {
            let torn = relayed(operation, [&stream[..at], &stream[at..]]);
            assert_eq!(torn.0.trim_ascii_end(), whole.0.trim_ascii_end(), "{name} torn at {at}");
            assert_eq!(torn.1, whole.1, "{name} torn at {at}");
        }
        let bytewise = relayed(operation, stream.chunks(1));
        assert_eq!(bytewise.1, whole.1, "{name} byte by byte");
    }
}

#[test]
fn a_stream_cut_before_its_stop_reason_is_truncated_with_what_it_reported() {
    for (name, operation) in STREAMS.iter().flat_map(|name| BOTH.map(|operation| (name, operation))) {
        let stream = fixture(&format!("anthropic/{name}.sse"));
        let ends = memchr::memmem::find_iter(&stream, b"\n\n").map(|at| at + 2).collect::<Vec<_>>();
        for at in ends {
            let stopped = memchr::memmem::find(&stream[..at], b"message_delta").is_some();
            let (bytes, report, error) = relayed(operation, [&stream[..at]]);
            match error {
                None => assert!(stopped && report.finish.is_some(), "{name} cut at {at}: {bytes:?}"),
                Some(error) => {
                    assert!(!stopped && matches!(error, UpstreamError::Truncated { .. }), "{name} at {at}: {error}");
                    assert!(report.usage.is_some(), "{name} cut at {at}");
                }
            }
        }
    }
}

#[test]
fn a_stream_reports_its_usage_once_and_its_thoughts_apart() {
    let usage = |name: &str, operation| {
        let (_, report, _) = relayed(operation, [&fixture(&format!("anthropic/{name}.sse"))[..]]);
        report.usage.unwrap().used().collect::<Vec<_>>()
    };
    for operation in BOTH {
        assert_eq!(usage("stream", operation), [(Meter::InputTokens, 10), (Meter::OutputTokens, 9)]);
        assert_eq!(usage("tool_stream", operation), [(Meter::InputTokens, 512), (Meter::OutputTokens, 88)]);
        let thought = [(Meter::InputTokens, 20), (Meter::OutputTokens, 20), (Meter::ReasoningTokens, 120)];
        assert_eq!(usage("reasoning_stream", operation), thought);
    }
}

#[test]
fn an_error_in_a_stream_is_a_status_before_the_answer_and_a_frame_within() {
    let error = b"event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
    let stream = fixture("anthropic/stream.sse");
    let begun = &stream[..memchr::memmem::find(&stream, b"event: content_block_stop").unwrap()];
    for operation in BOTH {
        assert_eq!(relayed(operation, [&error[..]]).2.unwrap().name(), "failed");
        let (_, report, within) = relayed(operation, [begun, error]);
        assert_eq!(report.usage.unwrap().get(Meter::InputTokens), 10);
        match within {
            Some(UpstreamError::InStream { frame, message }) => {
                assert_eq!(&*message, "Overloaded");
                assert_eq!(frame.as_deref(), (operation == Operation::Messages).then_some(&error[..]));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn unknown_events_blocks_and_words_fail_nothing() {
    let stream = concat!(
        "data: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"new\":{},\"usage\":{\"input_tokens\":1,\"output_tokens\":1}}}\n\n",
        "data: {\"type\":\"new_event\",\"index\":7}\n\n",
        "data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"new_block\",\"text\":\"x\"}}\n\n",
        "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"new_delta\",\"news\":[]}}\n\n",
        "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"new_reason\"},\"usage\":{\"output_tokens\":\"many\"}}\n\n",
        "data: {\"type\":\"message_stop\"}\n\n",
    );
    for operation in BOTH {
        let (_, report, error) = relayed(operation, [stream.as_bytes()]);
        assert!(error.is_none(), "{error:?}");
        assert_eq!(report.finish.unwrap().name(), "new_reason");
        assert_eq!(report.usage.unwrap().output_total(), 1);
    }
}

fn recorded(name: &str) -> (StatusCode, Bytes) {
    let recording: Value = serde_json::from_slice(&fixture(&format!("anthropic/{name}.json"))).unwrap();
    let response = &recording["response"];
    let status = StatusCode::from_u16(u16::try_from(response["status"].as_u64().unwrap()).unwrap()).unwrap();
    (status, response["body"].to_string().into())
}

#[test]
fn whole_answers_are_read_alike_from_both_sides() {
    for name in ["plain", "cached", "refusal"] {
        let (_, answer) = recorded(name);
        let body = json!({"model": "x", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]});
        let decode = |operation| adapter().decode(&call(operation, &body), &HeaderMap::new(), answer.clone()).unwrap();
        let (own, foreign) = (decode(Operation::Messages), decode(Operation::ChatCompletions));
        assert_eq!(own.body, answer, "{name}");
        assert_eq!((own.report.usage, own.report.finish), (foreign.report.usage, foreign.report.finish), "{name}");
        assert!(own.report.usage.is_some());
    }
}

#[test]
fn only_callers_of_the_dialect_see_anthropics_error_body() {
    let (status, answer) = recorded("error");
    let body = json!({"model": "x", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]});
    let read = |operation| match adapter().decode_error(&call(operation, &body), status, &HeaderMap::new(), &answer) {
        UpstreamError::Rejected { body, .. } => body,
        other => panic!("{other:?}"),
    };
    assert_eq!(read(Operation::Messages), Some(answer.clone()));
    assert_eq!(read(Operation::ChatCompletions), None);
}

#[test]
fn tokens_are_counted_for_the_prompt_alone() {
    let recording: Value = serde_json::from_slice(&fixture("anthropic/count_tokens.json")).unwrap();
    let provider = Translated(Anthropic::new(Some("https://api.anthropic.com/v1")).unwrap());
    let counting = |call: &Call| provider.encode_count(&order(call, "claude-sonnet-5-5", None)).unwrap().unwrap();
    let mut asked = recording["request"]["body"].clone();
    asked["max_tokens"] = 5.into();
    asked["stream"] = true.into();
    let messages = call(Operation::Messages, &asked);
    let request = counting(&messages);
    assert_eq!(request.endpoint.uri().path(), recording["request"]["path"].as_str().unwrap());
    assert_eq!(serde_json::from_slice::<Value>(&request.body).unwrap(), recording["request"]["body"]);
    let (_, answer) = recorded("count_tokens");
    let counted = provider.decode_count(&messages, &HeaderMap::new(), answer.clone()).unwrap();
    assert_eq!((counted.tokens, counted.body), (8, Some(answer.clone())));
    let error = Bytes::from_static(br#"{"type":"error","error":{"type":"rate_limit_error","message":"slow"}}"#);
    assert_eq!(provider.decode_count(&messages, &HeaderMap::new(), error).unwrap_err().name(), "rate_limited");

    let chat = json!({"model": "x", "stream": true, "messages": [{"role": "user", "content": "Hi"}]});
    let chat = call(Operation::ChatCompletions, &chat);
    let expected = json!({"model": "claude-sonnet-5-5", "messages": [{"role": "user", "content": "Hi"}]});
    assert_eq!(serde_json::from_slice::<Value>(&counting(&chat).body).unwrap(), expected);
    assert_eq!(provider.decode_count(&chat, &HeaderMap::new(), answer).unwrap().body, None);
}
