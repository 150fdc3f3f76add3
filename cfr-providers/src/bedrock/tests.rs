//! Requests and answers as a client of OpenAI's dialect meets them, against recordings and vectors.

use std::time::Duration;

use bytes::Bytes;
use cfr_core::chat::Call;
use cfr_core::upstream::{Order, Retry, UpstreamError};
use http::{HeaderMap, HeaderName, StatusCode};
use serde_json::{Value, json};

use super::Bedrock;
use crate::adapter::Adapter;
use crate::dialog::Translated;
use crate::framing::aws_event_stream::tests::{event_frame, exception_frame};
use crate::testing::{Heard, Outcome, asking, call, fixtures, json_file, order};
use crate::transport::WireRequest;

const CLAUDE: &str = "eu.anthropic.claude-sonnet-4-6";
const LLAMA: &str = "us.meta.llama4-maverick-17b-instruct-v1:0";

fn bedrock() -> Translated<Bedrock> {
    Translated(Bedrock::in_region("eu-central-1").expect("a region"))
}

fn encoded(body: &Value, model: &str, drop_params: bool) -> Result<WireRequest, UpstreamError> {
    let call = Call { drop_params, ..call(body) };
    bedrock().encode(&order(&call, model))
}

#[track_caller]
fn body_for(model: &str, more: Value) -> Value {
    let request = encoded(&asking(more), model, false).expect("a request");
    serde_json::from_slice(&request.body).expect("JSON")
}

mod requests {
    use super::*;

    #[test]
    fn every_mapping_vector_is_met_to_the_member() {
        let mut compared = 0;
        for entry in std::fs::read_dir(fixtures("mapping")).expect("a folder") {
            let path = entry.expect("a file").path();
            let vector = json_file(&path);
            let Some(expected) = vector["expect"].get("bedrock") else { continue };
            let request = encoded(&vector["request"], CLAUDE, false).expect("a request");
            let body: Value = serde_json::from_slice(&request.body).expect("JSON");
            assert_eq!(&body, expected, "{}", path.display());
            compared += 1;
        }
        assert_eq!(compared, 9);
    }

    #[test]
    fn the_model_is_one_segment_of_the_path_whatever_its_name() {
        let path = |model: &str, stream: bool| {
            let request = encoded(&asking(json!({"stream": stream})), model, false)?;
            Ok::<_, UpstreamError>(request.endpoint.uri().to_string())
        };
        let base = "https://bedrock-runtime.eu-central-1.amazonaws.com/model";
        let colon = path("us.meta.llama4-maverick-17b-instruct-v1:0", false).expect("a path");
        assert_eq!(colon, format!("{base}/us.meta.llama4-maverick-17b-instruct-v1%3A0/converse"));
        let arn = path("arn:aws:bedrock:x:1:inference-profile/eu.a", true).expect("a path");
        assert_eq!(arn, format!("{base}/arn%3Aaws%3Abedrock%3Ax%3A1%3Ainference-profile%2Feu.a/converse-stream"));
        assert_eq!(path("..", false).expect_err("a way up").name(), "unsupported");
    }

    #[test]
    fn a_region_brings_no_host_of_its_own() {
        for region in ["", "evil.example/", "eu-1#", "EU", "a@b"] {
            Bedrock::in_region(region).expect_err(region);
        }
        let china = Bedrock::in_region("cn-north-1").expect("a region").site;
        assert_eq!(china.base.uri().host(), Some("bedrock-runtime.cn-north-1.amazonaws.com.cn"));
    }

    fn tool(name: &str) -> Value {
        json!({"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}})
    }

    fn roundtrip() -> Value {
        let call = json!({"id": "call 1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}});
        json!([
            {"role": "user", "content": "Go"},
            {"role": "assistant", "content": null, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call 1", "content": "done"},
        ])
    }

    #[test]
    fn a_choice_of_tools_is_said_in_the_words_that_there_are() {
        let choice = |choice: Value| {
            let body = body_for(CLAUDE, json!({"tools": [tool("f"), tool("g")], "tool_choice": choice}));
            let names = body["toolConfig"]["tools"].as_array().map(Vec::len);
            (body["toolConfig"]["toolChoice"].clone(), names)
        };
        assert_eq!(choice(json!("auto")), (json!({"auto": {}}), Some(2)));
        assert_eq!(choice(json!("required")), (json!({"any": {}}), Some(2)));
        let named = json!({"type": "function", "function": {"name": "g"}});
        assert_eq!(choice(named), (json!({"tool": {"name": "g"}}), Some(2)));
        let allowed = json!({"mode": "required", "tools": [{"type": "function", "function": {"name": "g"}}]});
        let allowed = json!({"type": "allowed_tools", "allowed_tools": allowed});
        assert_eq!(choice(allowed), (json!({"any": {}}), Some(1)));
        assert_eq!(choice(json!("none")), (Value::Null, None));
    }

    #[test]
    fn where_no_tool_may_be_called_the_history_of_calls_is_told_in_words() {
        for more in [json!({"tools": [tool("f")], "tool_choice": "none"}), json!({})] {
            let mut asked = asking(more);
            asked["messages"] = roundtrip();
            let request = encoded(&asked, CLAUDE, false).expect("a request");
            let body: Value = serde_json::from_slice(&request.body).expect("JSON");
            assert_eq!(body.get("toolConfig"), None);
            assert_eq!(body["messages"][1]["content"], json!([{"text": "[tool call f] {\"a\":1}"}]));
            assert_eq!(body["messages"][2]["content"], json!([{"text": "[tool result f]"}, {"text": "done"}]));
        }
    }

    #[test]
    fn ids_of_calls_are_such_as_the_model_takes() {
        let id = |model: &str| {
            let body = body_for(model, json!({"tools": [tool("f")], "messages": roundtrip()}));
            let call = body["messages"][1]["content"][0]["toolUse"]["toolUseId"].clone();
            assert_eq!(body["messages"][2]["content"][0]["toolResult"]["toolUseId"], call);
            call.as_str().expect("an id").to_owned()
        };
        assert_eq!(id("mistral.mistral-large-2407-v1:0").len(), 9);
        assert!(id(CLAUDE).bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }

    #[test]
    fn one_call_at_a_time_is_said_to_claude_in_its_own_words() {
        let asked = json!({"tools": [tool("f")], "tool_choice": "required", "parallel_tool_calls": false});
        let body = body_for(CLAUDE, asked.clone());
        assert_eq!(body["toolConfig"].get("toolChoice"), None);
        let choice = &body["additionalModelRequestFields"]["tool_choice"];
        assert_eq!(*choice, json!({"type": "any", "disable_parallel_tool_use": true}));
        let request = encoded(&asking(asked), LLAMA, false).expect("a request");
        assert_eq!(request.dropped, ["parallel_tool_calls".into()]);
    }

    #[test]
    fn a_failed_tool_is_told_by_its_status_or_in_words() {
        let dialog = |family| {
            let (mut marks, mut drops) =
                (crate::anthropic::Marks::of(&crate::dialog::Dialog::default()), crate::dialog::Drops::default());
            let part = crate::dialog::Part::ToolResult(crate::dialog::ToolResult {
                id: "a".into(),
                name: "f".into(),
                content: Vec::new(),
                is_error: true,
                custom: false,
                cache: None,
            });
            let turn = crate::dialog::Turn { role: crate::dialog::Role::User, parts: vec![part] };
            let mut content = crate::bedrock::request::Content::new(family, true, &mut marks, &mut drops);
            content.messages(&[turn]).expect("messages").remove(0)["content"][0].clone()
        };
        let claude = json!({"toolResult": {"toolUseId": "a", "status": "error", "content": [{"text": "(empty)"}]}});
        assert_eq!(dialog(crate::bedrock::Family::Claude), claude);
        let other = json!({"toolResult": {"toolUseId": "a", "content": [{"text": "[error]"}, {"text": "(empty)"}]}});
        assert_eq!(dialog(crate::bedrock::Family::Other), other);
    }

    #[test]
    fn pictures_documents_and_sound_have_formats_rather_than_types() {
        let part = |part: Value, model: &str| {
            let asked = json!({"messages": [{"role": "user", "content": [part]}]});
            encoded(&asking(asked), model, false).map(|request| {
                let body: Value = serde_json::from_slice(&request.body).expect("JSON");
                body["messages"][0]["content"].clone()
            })
        };
        let image = |url: &str| part(json!({"type": "image_url", "image_url": {"url": url}}), CLAUDE);
        let jpeg = json!([{"image": {"format": "jpeg", "source": {"bytes": "AAAA"}}}]);
        assert_eq!(image("data:image/jpg;base64,AAAA").expect("a picture"), jpeg);
        let stored = json!([{"image": {"format": "png", "source": {"s3Location": {"uri": "s3://b/k.png"}}}}]);
        assert_eq!(image("s3://b/k.png").expect("a picture"), stored);
        assert_eq!(image("https://h.example/x.png").expect_err("an address").name(), "unsupported");
        assert_eq!(image("data:image/tiff;base64,AAAA").expect_err("a format").name(), "unsupported");

        let file = json!({"file_data": "data:text/plain;base64,QQ==", "filename": "a_b.txt"});
        let document = json!({"document": {"format": "txt", "name": "a b", "source": {"bytes": "QQ=="}}});
        let beside = json!([document, {"text": "(document)"}]);
        assert_eq!(part(json!({"type": "file", "file": file}), CLAUDE).expect("a document"), beside);

        let sound = json!({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}});
        assert_eq!(part(sound.clone(), CLAUDE).expect_err("Claude does not hear").name(), "unsupported");
        let heard = json!([{"audio": {"format": "wav", "source": {"bytes": "AAAA"}}}]);
        assert_eq!(part(sound, "mistral.voxtral-small-24b-2507").expect("sound"), heard);
    }

    #[test]
    fn thoughts_go_back_with_their_proof_and_only_to_claude() {
        let thought = json!({"type": "thinking", "thinking": "Hm.", "signature": "sig"});
        let hidden = json!({"type": "redacted_thinking", "data": "c2VjcmV0"});
        let foreign = json!({"type": "gemini_signature", "thinking": "x", "data": "AAAA"});
        let messages = json!([
            {"role": "user", "content": "1"},
            {"role": "assistant", "content": "2", "thinking_blocks": [thought, hidden, foreign]},
            {"role": "user", "content": "3"},
        ]);
        let said = |model: &str| body_for(model, json!({"messages": messages}))["messages"][1]["content"].clone();
        let shown = json!({"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "sig"}}});
        let hidden = json!({"reasoningContent": {"redactedContent": "c2VjcmV0"}});
        assert_eq!(said(CLAUDE), json!([shown, hidden, {"text": "2"}]));
        assert_eq!(said(LLAMA), json!([{"text": "2"}]));
    }

    #[test]
    fn how_much_to_think_is_said_in_the_makers_words() {
        let fields = |model: &str, effort: &str| {
            let asked = json!({"reasoning_effort": effort, "max_tokens": 20_000, "temperature": 0.3, "top_k": 5});
            let body = body_for(model, asked);
            (body["additionalModelRequestFields"].clone(), body["inferenceConfig"].get("temperature").cloned())
        };
        let budget = json!({"thinking": {"type": "enabled", "budget_tokens": 4_096}});
        assert_eq!(fields("us.anthropic.claude-opus-4-5-20251101-v1:0", "medium"), (budget, None));
        let adaptive = json!({"type": "adaptive", "display": "summarized"});
        let adaptive = json!({"thinking": adaptive, "output_config": {"effort": "max"}});
        assert_eq!(fields(CLAUDE, "max"), (adaptive, None));
        assert_eq!(fields(CLAUDE, "none"), (json!({"thinking": {"type": "disabled"}, "top_k": 5}), Some(json!(0.3))));
        assert_eq!(fields("openai.gpt-oss-120b-1:0", "xhigh").0, json!({"reasoning_effort": "high"}));
        let nova = json!({"inferenceConfig": {"topK": 5}});
        assert_eq!(fields("amazon.nova-pro-v1:0", "high"), (nova, Some(json!(0.3))));
    }

    #[test]
    fn a_model_that_thinks_has_room_for_it_also_where_nobody_sets_a_cap() {
        let open = json!({"max_tokens": null, "reasoning_effort": "high"});
        let body = body_for("anthropic.claude-opus-4-5-20251101-v1:0", open);
        assert_eq!(body["inferenceConfig"], json!({"maxTokens": 64_000}));
        assert_eq!(body["additionalModelRequestFields"]["thinking"]["budget_tokens"], 16_384);
        assert_eq!(body_for(CLAUDE, json!({"max_tokens": null})).get("inferenceConfig"), None);
    }

    #[test]
    fn sampling_is_what_the_model_takes() {
        let config = |model: &str, more: Value| body_for(model, more)["inferenceConfig"].clone();
        let both = json!({"temperature": 1.7, "top_p": 0.5, "stop": ["END", " \n"]});
        let claude = json!({"maxTokens": 50, "temperature": 1, "stopSequences": ["END"]});
        assert_eq!(config(CLAUDE, both.clone()), claude);
        let llama = json!({"maxTokens": 50, "temperature": 1, "topP": 0.5, "stopSequences": ["END"]});
        assert_eq!(config(LLAMA, both.clone()), llama);
        let unsampled = json!({"maxTokens": 50, "stopSequences": ["END"]});
        assert_eq!(config("anthropic.claude-opus-5-5", both), unsampled);
        assert_eq!(config(CLAUDE, json!({"top_p": 0.5})), json!({"maxTokens": 50, "topP": 0.5}));
    }

    #[test]
    fn the_callers_notes_and_tier_are_sent_as_far_as_they_fit() {
        let notes = json!({"team": "a b", "n": 1, "odd": "\u{e4}", "long": "x".repeat(257)});
        let asked = asking(json!({"metadata": notes, "service_tier": "flex"}));
        let request = encoded(&asked, CLAUDE, false).expect("a request");
        let body: Value = serde_json::from_slice(&request.body).expect("JSON");
        assert_eq!(body["requestMetadata"], json!({"team": "a b"}));
        assert_eq!(body["serviceTier"], json!({"type": "flex"}));
        assert_eq!(request.dropped, ["metadata".into()]);
    }

    #[test]
    fn models_that_keep_no_prompts_are_not_told_where() {
        let text = json!({"type": "text", "text": "long", "cache_control": {"type": "ephemeral"}});
        let asked = asking(json!({"messages": [{"role": "user", "content": [text]}]}));
        let request = encoded(&asked, LLAMA, false).expect("a request");
        let body: Value = serde_json::from_slice(&request.body).expect("JSON");
        assert_eq!(body["messages"][0]["content"], json!([{"text": "long"}]));
        assert_eq!(request.dropped, ["cache_control".into()]);
    }

    #[test]
    fn what_there_are_no_words_for_is_refused_by_name_or_left_out_when_allowed() {
        for (name, more) in [
            ("n", json!({"n": 2})),
            ("logprobs", json!({"logprobs": true})),
            ("modalities", json!({"modalities": ["text", "audio"], "audio": {"voice": "x", "format": "wav"}})),
            ("web_search_options", json!({"web_search_options": {}})),
        ] {
            let refused = encoded(&asking(more.clone()), CLAUDE, false).expect_err(name);
            assert!(refused.name() == "unsupported" && refused.to_string().ends_with(name), "{refused}");
            let request = encoded(&asking(more), CLAUDE, true).expect("allowed");
            assert_eq!(request.dropped, [name.into()]);
        }
        let harmless = json!({"seed": 1, "user": "u", "presence_penalty": 0.1, "logit_bias": {"1": 2}});
        let dropped = encoded(&asking(harmless), CLAUDE, false).expect("a request").dropped;
        assert_eq!(dropped, ["logit_bias".into(), "user".into(), "presence_penalty".into(), "seed".into()]);
    }

    #[test]
    fn any_json_is_asked_for_in_words() {
        let body = body_for(CLAUDE, json!({"response_format": {"type": "json_object"}}));
        assert_eq!(body["system"], json!([{"text": crate::anthropic::JSON_ONLY}]));
    }
}

mod answers {
    use super::*;

    /// A stream as the network brings it in these pieces.
    fn relayed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
        Outcome::of(&bedrock(), pieces)
    }

    fn recordings() -> Vec<Value> {
        let files =
            std::fs::read_dir(fixtures("bedrock")).expect("a folder").map(|entry| entry.expect("a file").path());
        let cases = files.filter(|path| path.extension().is_some_and(|end| end == "json")).map(|path| json_file(&path));
        cases.filter(|case| case.get("response").is_some()).collect()
    }

    fn streams() -> Vec<(Value, Vec<u8>)> {
        let streamed = |case: Value| {
            let name = case["response"]["body_file"].as_str()?.to_owned();
            Some((case, std::fs::read(fixtures("bedrock").join(name)).expect("a stream")))
        };
        let streams: Vec<_> = recordings().into_iter().filter_map(streamed).collect();
        assert!(streams.len() >= 2);
        streams
    }

    #[test]
    fn every_recorded_answer_is_understood() {
        let whole = call(&asking(json!({})));
        for case in recordings().iter().filter(|case| case["response"].get("body").is_some()) {
            let response = &case["response"];
            let status = u16::try_from(response["status"].as_u64().expect("a status")).expect("a status");
            let status = StatusCode::from_u16(status).expect("a status");
            let headers = response["headers"].as_object().expect("headers").iter().map(|(name, value)| {
                (name.parse::<HeaderName>().expect("a name"), value.as_str().expect("text").parse().expect("a value"))
            });
            let (headers, body) = (headers.collect::<HeaderMap>(), Bytes::from(response["body"].to_string()));
            if status.is_success() {
                let reply = bedrock().decode(&whole, &headers, body).expect("an answer");
                Outcome { bytes: reply.body, report: reply.report, error: None }.check(&case["expect"]);
            } else {
                let retry = bedrock().decode_error(&whole, status, &headers, &body).retry();
                let retryable = case["expect"]["error"]["retryable"].as_bool().expect("a verdict");
                assert_eq!(matches!(retry, Retry::SameTarget { .. }), retryable, "{}", case["case"]);
            }
        }
    }

    #[test]
    fn every_recorded_stream_is_the_same_however_the_network_tears_it() {
        for (case, wire) in streams() {
            relayed(wire.chunks(1)).check(&case["expect"]);
            let whole = relayed([&*wire]);
            whole.check(&case["expect"]);
            for at in 0..wire.len() {
                let torn = relayed([&wire[..at], &wire[at..]]);
                assert_eq!((torn.bytes, torn.report), (whole.bytes.clone(), whole.report.clone()), "torn at {at}");
            }
        }
    }

    #[test]
    fn a_stream_that_is_cut_before_its_end_says_so_wherever_it_is_cut() {
        for (_, wire) in streams() {
            for at in 0..wire.len() {
                let cut = relayed([&wire[..at]]);
                let heard = Heard::of(&cut.bytes);
                match &cut.error {
                    Some(error) => assert_eq!((error.name(), heard.done), ("truncated", false), "cut at {at}"),
                    // All is said but what it used.
                    None => assert!(heard.done && heard.finish.is_some() && cut.report.usage.is_none(), "cut at {at}"),
                }
            }
        }
    }

    #[test]
    fn proof_of_a_thought_comes_back_in_the_callers_dialect() {
        let (_, wire) = streams().into_iter().find(|(case, _)| case["case"] == "tool_stream").expect("the recording");
        let heard = Heard::of(&relayed([&*wire]).bytes);
        let proven = heard.blocks.iter().find(|block| block["type"] == "thinking").expect("a thought with its proof");
        assert_eq!(proven["thinking"], "Need tool.");
        assert!(proven["signature"].as_str().is_some_and(|signature| !signature.is_empty()));
    }

    fn text(words: &str) -> Vec<u8> {
        event_frame("contentBlockDelta", &json!({"contentBlockIndex": 0, "delta": {"text": words}}).to_string())
    }

    fn end() -> Vec<u8> {
        let usage = json!({"usage": {"inputTokens": 3, "outputTokens": 2}, "serviceTier": {"type": "priority"}});
        let stop = event_frame("messageStop", r#"{"stopReason":"tool_use"}"#);
        [stop, event_frame("metadata", &usage.to_string())].concat()
    }

    #[test]
    fn an_exception_before_the_first_word_is_as_good_as_a_status() {
        let start = event_frame("messageStart", r#"{"role":"assistant"}"#);
        let exception = exception_frame("throttlingException", r#"{"message":"slow down"}"#);
        let outcome = relayed([&*[start.clone(), exception.clone()].concat()]);
        assert!(outcome.bytes.is_empty(), "nothing has been said");
        assert!(matches!(outcome.error, Some(UpstreamError::RateLimited { exhausted: false, .. })), "{outcome:?}");

        let outcome = relayed([&*[start, text("Par"), exception].concat()]);
        assert_eq!(Heard::of(&outcome.bytes).text, "Par");
        assert!(matches!(outcome.error, Some(UpstreamError::InStream { frame: None, .. })), "{outcome:?}");
        assert_eq!(outcome.report.output_bytes, 3);
    }

    #[test]
    fn calls_that_grow_side_by_side_are_told_apart_by_their_blocks() {
        let start = |index: u32, id: &str| {
            let start = json!({"contentBlockIndex": index, "start": {"toolUse": {"toolUseId": id, "name": "f"}}});
            event_frame("contentBlockStart", &start.to_string())
        };
        let input = |index: u32, input: &str| {
            let delta = json!({"contentBlockIndex": index, "delta": {"toolUse": {"input": input}}});
            event_frame("contentBlockDelta", &delta.to_string())
        };
        let wire = [start(1, "a"), start(4, "b"), input(4, "{\"x\""), input(1, "{}"), input(4, ":2}"), end()].concat();
        let outcome = relayed([&*wire]);
        let call = |id: &str, arguments: &str| (id.to_owned(), "f".to_owned(), arguments.to_owned());
        assert_eq!(Heard::of(&outcome.bytes).calls, [call("a", "{}"), call("b", "{\"x\":2}")]);
        assert_eq!(outcome.report.service_tier.as_deref(), Some("priority"));
    }

    #[test]
    fn what_is_new_in_a_stream_is_passed_over() {
        let wire = [
            event_frame("somethingNew", r#"{"a":1}"#),
            event_frame("contentBlockStart", r#"{"contentBlockIndex":0,"start":{"hologram":{}}}"#),
            event_frame("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"hologram":{}}}"#),
            event_frame("contentBlockDelta", r#"{"contentBlockIndex":9,"delta":{"toolUse":{"input":"lost"}}}"#),
            text("Hi"),
            end(),
        ];
        let outcome = relayed([&*wire.concat()]);
        assert!(outcome.error.is_none(), "{outcome:?}");
        assert_eq!(Heard::of(&outcome.bytes).text, "Hi");
    }

    /// The same event once for each of its members, with something else in its place.
    fn altered(event: &Value) -> Vec<Value> {
        let mut all = Vec::new();
        for path in paths(event) {
            for other in [json!(null), json!(7), json!("x"), json!([]), json!({})] {
                let mut altered = event.clone();
                *altered.pointer_mut(&path).expect("a member") = other;
                all.push(altered);
            }
        }
        all
    }

    fn paths(value: &Value) -> Vec<String> {
        let mut all = vec![String::new()];
        for (name, member) in value.as_object().into_iter().flatten() {
            all.extend(paths(member).into_iter().map(|path| format!("/{name}{path}")));
        }
        all
    }

    #[test]
    fn a_member_of_another_kind_never_fails_a_stream() {
        let web = json!({"citation": {"location": {"web": {"url": "u"}}}});
        let events = [
            ("messageStart", json!({"role": "assistant"})),
            (
                "contentBlockStart",
                json!({"contentBlockIndex": 0, "start": {"toolUse": {"toolUseId": "a", "name": "f"}}}),
            ),
            ("contentBlockDelta", json!({"contentBlockIndex": 0, "delta": {"toolUse": {"input": "{}"}}})),
            ("contentBlockDelta", json!({"contentBlockIndex": 1, "delta": {"reasoningContent": {"signature": "s"}}})),
            ("contentBlockDelta", json!({"contentBlockIndex": 1, "delta": web})),
            ("messageStop", json!({"stopReason": "end_turn", "additionalModelResponseFields": {"stop_sequence": "x"}})),
            ("metadata", json!({"usage": {"inputTokens": 1, "cacheDetails": [{}]}, "serviceTier": {"type": "flex"}})),
        ];
        for (name, event) in &events {
            for altered in altered(event) {
                let wire = [event_frame(name, &altered.to_string()), text("Hi"), end()].concat();
                let outcome = relayed([&*wire]);
                assert!(outcome.error.is_none(), "{name} {altered}: {:?}", outcome.error);
            }
        }
    }

    #[test]
    fn a_damaged_stream_ends_at_the_damage() {
        let mut wire = [text("Hi"), text("there"), end()].concat();
        let at = text("Hi").len() + 60;
        wire[at] ^= 1;
        let outcome = relayed([&*wire]);
        assert_eq!(Heard::of(&outcome.bytes).text, "Hi");
        assert_eq!(outcome.error.as_ref().map(UpstreamError::name), Some("malformed"));
    }
}

mod reranks {
    use cfr_core::chat::Operation;
    use cfr_core::time::Timestamp;

    use super::*;

    fn call(more: Value) -> Call {
        let mut body = json!({"model": "m", "query": "q", "documents": ["a", {"text": "b"}]});
        if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
            body.extend(more);
        }
        Call::parse(Operation::Rerank, body.to_string().into(), Timestamp::UNIX_EPOCH).expect("a call")
    }

    fn asked(more: Value, model: &str) -> Result<(String, Value), UpstreamError> {
        let (call, timeout, idle_timeout) = (call(more), Duration::ZERO, Duration::ZERO);
        let order = Order { call: &call, model, output_tokens_max: None, timeout, idle_timeout };
        let request = bedrock().encode(&order)?;
        let body = serde_json::from_slice(&request.body).expect("JSON");
        Ok((request.endpoint.uri().path().to_owned(), body))
    }

    #[test]
    fn every_maker_is_asked_in_its_own_words() {
        let (path, body) = asked(json!({"top_n": 1}), "cohere.rerank-v3-5:0").expect("a request");
        assert_eq!(path, "/model/cohere.rerank-v3-5%3A0/invoke");
        let documents = json!(["a", "b"]);
        let cohere =
            json!({"query": "q", "documents": documents, "top_n": 1, "api_version": 2, "max_tokens_per_doc": 4_096});
        assert_eq!(body, cohere);
        let (_, body) = asked(json!({}), "amazon.rerank-v1:0").expect("a request");
        assert_eq!(body, json!({"query": "q", "documents": documents}));
        let uncut = asked(json!({"max_tokens_per_doc": 9}), "amazon.rerank-v1:0").expect_err("nothing cuts there");
        assert_eq!(uncut.name(), "unsupported");
        assert_eq!(asked(json!({}), "x.y").expect_err("nobody's model").name(), "unsupported");
    }

    #[test]
    fn places_are_read_and_nothing_says_what_was_used() {
        let body = Bytes::from_static(br#"{"results":[{"index":1,"relevance_score":0.5}]}"#);
        let reply = bedrock().decode(&call(json!({})), &HeaderMap::new(), body).expect("places");
        assert_eq!(reply.report.usage, None);
        let answer: Value = serde_json::from_slice(&reply.body).expect("JSON");
        assert_eq!(answer["results"], json!([{"index": 1, "relevance_score": 0.5}]));
    }
}

mod embeddings {
    use cfr_core::chat::{Meter, Operation, Usage};
    use cfr_core::time::Timestamp;

    use super::*;

    fn call(more: Value) -> Call {
        let mut body = json!({"model": "m", "input": "a"});
        if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
            body.extend(more);
        }
        Call::parse(Operation::Embeddings, body.to_string().into(), Timestamp::UNIX_EPOCH).expect("a call")
    }

    fn asked(more: Value, model: &str) -> Result<(String, Value), UpstreamError> {
        let (call, timeout, idle_timeout) = (call(more), Duration::ZERO, Duration::ZERO);
        let order = Order { call: &call, model, output_tokens_max: None, timeout, idle_timeout };
        let request = bedrock().encode(&order)?;
        let body = serde_json::from_slice(&request.body).expect("JSON");
        Ok((request.endpoint.uri().path().to_owned(), body))
    }

    #[track_caller]
    fn check(call: &Call, headers: &HeaderMap, body: Value, vectors: &Value, tokens: u64) {
        let reply = bedrock().decode(call, headers, body.to_string().into()).expect("vectors");
        let list: Value = serde_json::from_slice(&reply.body).expect("JSON");
        let found: Vec<&Value> = list["data"].as_array().expect("a list").iter().map(|one| &one["embedding"]).collect();
        assert_eq!(json!(found), *vectors);
        assert_eq!(reply.report.usage, Some(Usage::default().with(Meter::InputTokens, tokens)));
    }

    #[test]
    fn every_maker_is_asked_in_its_own_words() {
        let titan = asked(json!({"dimensions": 256}), "amazon.titan-embed-text-v2:0").expect("a request");
        let path = "/model/amazon.titan-embed-text-v2%3A0/invoke".to_owned();
        assert_eq!(titan, (path, json!({"inputText": "a", "dimensions": 256})));
        let two = json!({"input": ["a", "b"]});
        let (_, body) = asked(two.clone(), "cohere.embed-multilingual-v3").expect("a request");
        assert_eq!(body, json!({"texts": ["a", "b"], "input_type": "search_document"}));
        assert_eq!(asked(two, "amazon.titan-embed-text-v1").expect_err("two texts").name(), "unsupported");
        assert_eq!(asked(json!({}), "x.y").expect_err("nobody's model").name(), "unsupported");
    }

    #[test]
    fn vectors_and_tokens_are_found_where_each_maker_has_them() {
        let none = HeaderMap::new();
        let one = json!({"embedding": [0.5, 1], "inputTextTokenCount": 4});
        check(&call(json!({})), &none, one, &json!([[0.5, 1]]), 4);
        let counted = HeaderMap::from_iter([(
            HeaderName::from_static("x-amzn-bedrock-input-token-count"),
            "9".parse().expect("a value"),
        )]);
        let two = call(json!({"input": ["a", "b"]}));
        let vectors = json!([[0.5], [1]]);
        check(&two, &counted, json!({"embeddings": vectors}), &vectors, 9);
        check(&two, &counted, json!({"embeddings": {"float": vectors}}), &vectors, 9);
        check(&two, &none, json!({"embeddings": vectors}), &vectors, 4); // our own bound
        for body in ["{}", r#"{"embeddings":{}}"#, r#"{"embeddings":[[1]]}"#, "[]"] {
            let error = bedrock().decode(&two, &none, Bytes::from_static(body.as_bytes())).expect_err(body);
            assert_eq!(error.name(), "malformed", "{body}");
        }
    }
}

mod counts {
    use super::*;

    fn counting(model: &str) -> Option<WireRequest> {
        let call = call(&asking(json!({"temperature": 0.5, "stop": ["END"], "messages": [
            {"role": "system", "content": "S"}, {"role": "user", "content": "Hi"}]})));
        let (timeout, idle_timeout) = (Duration::ZERO, Duration::ZERO);
        let order = Order { call: &call, model, output_tokens_max: None, timeout, idle_timeout };
        bedrock().encode_count(&order).expect("words for it")
    }

    #[test]
    fn a_count_is_asked_of_the_prompt_alone_and_of_anthropics_models_only() {
        let request = counting(CLAUDE).expect("a counter");
        assert_eq!(request.endpoint.uri().path(), format!("/model/{CLAUDE}/count-tokens"));
        let body: Value = serde_json::from_slice(&request.body).expect("JSON");
        let prompt = json!({"system": [{"text": "S"}], "messages": [{"role": "user", "content": [{"text": "Hi"}]}]});
        assert_eq!(body, json!({"input": {"converse": prompt}}));
        assert!(counting(LLAMA).is_none());
    }

    #[test]
    fn an_answer_says_a_number() {
        let call = call(&asking(json!({})));
        let counted = |body: &'static str| bedrock().decode_count(&call, &HeaderMap::new(), body.into());
        assert_eq!(counted(r#"{"inputTokens":7}"#).expect("a number").tokens, 7);
        counted("{}").expect_err("no number");
    }
}
