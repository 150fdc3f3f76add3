//! Answers of others, written for clients of the dialect.

use super::*;

fn written(pieces: Vec<Piece>) -> Vec<Value> {
    let (mut writer, mut out) = (MESSAGES_SURFACE.stream(&messages(json!({}))), BytesMut::new());
    pieces.into_iter().for_each(|piece| writer.write(piece, &mut out));
    writer.end(&mut out);
    let text = String::from_utf8(out.to_vec()).unwrap();
    let events = text.split_terminator("\n\n").map(|frame| {
        let (name, data) = frame.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
        let event: Value = serde_json::from_str(data).unwrap();
        assert_eq!(event["type"], name);
        event
    });
    events.collect()
}

/// What a client makes of events: its blocks, which must follow each other.
fn blocks(events: &[Value]) -> Vec<Value> {
    let mut blocks: Vec<Value> = Vec::new();
    let mut open = false;
    for event in events {
        match event["type"].as_str().unwrap() {
            "content_block_start" => {
                assert!(!open && event["index"] == blocks.len(), "{event}");
                open = true;
                blocks.push(event["content_block"].clone());
                blocks.last_mut().unwrap()["partial_json"] = "".into();
            }
            "content_block_delta" => {
                assert!(open && event["index"] == blocks.len() - 1, "{event}");
                for field in ["text", "thinking", "signature", "partial_json"] {
                    if let Some(more) = event["delta"][field].as_str() {
                        let block = blocks.last_mut().unwrap();
                        block[field] = format!("{}{more}", block[field].as_str().unwrap_or("")).into();
                    }
                }
            }
            "content_block_stop" => open = false,
            _ => assert!(!open, "{event}"),
        }
    }
    blocks
}

fn text(text: &str) -> Piece {
    Piece::Text { choice: 0, text: text.into() }
}

fn begin(call: u32) -> Piece {
    Piece::ToolCall { choice: 0, call, id: format!("toolu_{call}"), name: "f".into(), custom: false }
}

fn more(call: u32, fragment: &str) -> Piece {
    Piece::Arguments { choice: 0, call, fragment: fragment.into() }
}

fn finish(finish: cfr_core::upstream::FinishReason) -> Piece {
    Piece::Finish { choice: 0, finish, stop_sequence: None }
}

#[test]
fn calls_that_grow_at_the_same_time_become_blocks_that_follow_each_other() {
    let pieces = vec![
        text("Look"),
        begin(0),
        begin(1),
        more(1, "{\"b\""),
        more(0, "{\"a\":"),
        more(1, ":2}"),
        more(0, "1}"),
        begin(2),
        finish(cfr_core::upstream::FinishReason::ToolCalls),
    ];
    let events = written(pieces);
    let said: Vec<(Value, Value)> =
        blocks(&events).iter().map(|block| (block["type"].clone(), block["partial_json"].clone())).collect();
    let tool = |json: &str| (json!("tool_use"), json!(json));
    assert_eq!(said, [(json!("text"), json!("")), tool("{\"a\":1}"), tool("{\"b\":2}"), tool("")]);
    assert_eq!(events[events.len() - 2]["delta"]["stop_reason"], "tool_use");
}

#[test]
fn a_call_streams_as_soon_as_the_one_before_it_is_complete() {
    let (mut writer, mut out) = (MESSAGES_SURFACE.stream(&messages(json!({}))), BytesMut::new());
    for piece in [begin(0), more(0, "{}"), begin(1), more(1, "{\"now")] {
        writer.write(piece, &mut out);
    }
    assert!(memchr::memmem::find(&out, br#""partial_json":"{\"now""#).is_some(), "{out:?}");
}

#[test]
fn usage_that_comes_after_the_end_stands_in_the_last_delta() {
    let usage = cfr_core::chat::Usage::text(10, 4).with(Meter::CacheReadTokens, 5).with(Meter::CacheWrite1hTokens, 2);
    let events = written(vec![text("a"), finish(cfr_core::upstream::FinishReason::Stop), Piece::Usage(usage)]);
    assert_eq!(events[0]["message"]["usage"]["input_tokens"], 0);
    let expected = json!({
        "input_tokens": 10, "cache_creation_input_tokens": 2, "cache_read_input_tokens": 5, "output_tokens": 4,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 2},
    });
    assert_eq!(events[events.len() - 2]["usage"], expected);
    assert_eq!(events.last().unwrap()["type"], "message_stop");
}

#[track_caller]
fn check_comes_back(content: Value) {
    let turns = json!([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": content}]);
    let dialog = MESSAGES_SURFACE.read(&messages(json!({"messages": turns}))).unwrap();
    assert_eq!(dialog.turns[1].parts, proven().choices[0].parts);
}

#[test]
fn proofs_of_any_provider_come_back_from_a_whole_answer() {
    let message: Value = serde_json::from_slice(&MESSAGES_SURFACE.whole(&messages(json!({})), proven())).unwrap();
    check_comes_back(message["content"].clone());
}

#[test]
fn proofs_of_any_provider_come_back_from_a_stream() {
    let mut blocks = blocks(&written(proven().into_pieces()));
    for block in &mut blocks {
        let json = block.as_object_mut().unwrap().remove("partial_json").unwrap();
        if block["type"] == "tool_use" {
            block["input"] = serde_json::from_str(json.as_str().unwrap()).unwrap();
        }
    }
    check_comes_back(blocks.into());
}

#[test]
fn a_whole_answer_is_a_message() {
    let call = ToolCall {
        id: "t".into(),
        name: "f".into(),
        arguments: "not json".into(),
        custom: false,
        seal: None,
        cache: None,
    };
    let parts = vec![Part::text("a"), Part::Refusal("no".into()), Part::ToolCall(call)];
    let choice = Choice { parts, finish: cfr_core::upstream::FinishReason::Stop, stop_sequence: None, logprobs: None };
    let answer = Answer {
        id: "m1".into(),
        model: "gpt".into(),
        choices: vec![choice],
        usage: Some(cfr_core::chat::Usage::text(3, 2)),
        ..Answer::default()
    };
    let message: Value = serde_json::from_slice(&MESSAGES_SURFACE.whole(&messages(json!({})), answer)).unwrap();
    let expected = json!({
        "id": "m1", "type": "message", "role": "assistant", "model": "gpt",
        "content": [
            {"type": "text", "text": "a"}, {"type": "text", "text": "no"},
            {"type": "tool_use", "id": "t", "name": "f", "input": {"_raw": "not json"}},
        ],
        "stop_reason": "refusal", "stop_sequence": null,
        "usage": {
            "input_tokens": 3, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 2,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        },
    });
    assert_eq!(message, expected);
}

/// Pieces in any order that a provider may send them in: several calls that grow, between words and thoughts.
fn any_pieces() -> impl proptest::strategy::Strategy<Value = Vec<Piece>> {
    use proptest::prelude::*;
    let call = 0_u32..3;
    let piece = prop_oneof![
        "[a-z]{0,3}".prop_map(|words| text(&words)),
        "[a-z]{0,3}".prop_map(|text| Piece::Thought { choice: 0, text }),
        Just(Piece::Seal { choice: 0, seal: Seal::Anthropic("s".into()) }),
        Just(Piece::Seal { choice: 0, seal: Seal::AnthropicRedacted("d".into()) }),
        Just(Piece::Seal { choice: 0, seal: Seal::Gemini("g".into()) }),
        call.clone().prop_map(begin),
        (call, "[{}\"\\\\a]{0,4}").prop_map(|(call, fragment)| more(call, &fragment)),
        Just(Piece::Usage(cfr_core::chat::Usage::text(1, 1))),
        Just(Piece::Text { choice: 1, text: "not ours".into() }),
    ];
    prop::collection::vec(piece, 0..40)
}

proptest::proptest! {
    #[test]
    fn blocks_follow_each_other_and_no_word_is_lost_whatever_the_pieces(pieces in any_pieces()) {
        let said = |pieces: &[Piece]| pieces.iter().fold(String::new(), |said, piece| match piece {
            Piece::Text { choice: 0, text } => said + text,
            _ => said,
        });
        let expected = said(&pieces);
        let blocks = blocks(&written(pieces));
        let words: String = blocks.iter().filter(|block| block["type"] == "text").filter_map(|block| block["text"].as_str()).collect();
        proptest::prop_assert_eq!(words, expected);
        for block in blocks.iter().filter(|block| block["type"] == "thinking") {
            proptest::prop_assert!(block["signature"].as_str().is_some_and(|proof| !proof.is_empty()), "{}", block);
        }
    }

    #[test]
    fn calls_that_grow_at_the_same_time_lose_nothing(order in proptest::collection::vec(0_u32..4, 0..60)) {
        let whole = |call: u32| format!("{{\"call\":\"{}\"}}", "x".repeat(usize::try_from(call).unwrap() * 3));
        let mut rest: Vec<String> = (0..4).map(|call| whole(call).chars().rev().collect()).collect();
        let mut pieces: Vec<Piece> = (0..4).map(begin).collect();
        let last = (0..4).flat_map(|call| vec![call; 60]);
        for call in order.into_iter().chain(last) {
            let next = rest[usize::try_from(call).unwrap()].pop();
            pieces.extend(next.map(|letter| more(call, &letter.to_string())));
        }
        let blocks = blocks(&written(pieces));
        let inputs: Vec<&str> = blocks.iter().filter_map(|block| block["partial_json"].as_str()).collect();
        proptest::prop_assert_eq!(inputs, (0..4).map(whole).collect::<Vec<_>>());
    }
}

#[test]
fn the_reason_of_an_end_is_told_in_anthropics_words() {
    use cfr_core::upstream::FinishReason;
    let reason = |pieces: Vec<Piece>| written(pieces).iter().rev().nth(1).unwrap()["delta"]["stop_reason"].clone();
    assert_eq!(reason(vec![text("a"), finish(FinishReason::Stop)]), "end_turn");
    assert_eq!(reason(vec![text("a"), finish(FinishReason::Length)]), "max_tokens");
    assert_eq!(reason(vec![text("a"), finish(FinishReason::ContentFilter)]), "refusal");
    assert_eq!(reason(vec![begin(0), finish(FinishReason::Stop)]), "tool_use");
    let stopped = Piece::Finish { choice: 0, finish: FinishReason::Stop, stop_sequence: Some("END".into()) };
    assert_eq!(reason(vec![text("a"), stopped]), "stop_sequence");
}

#[test]
fn an_answer_that_its_provider_broke_off_ends_with_an_error() {
    let events = written(vec![text("a"), finish(cfr_core::upstream::FinishReason::Error)]);
    let kinds: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!(kinds[3..], ["content_block_stop", "error"]);
}
