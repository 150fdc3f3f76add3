//! What clients of other dialects say, in Anthropic's words.

use super::*;

#[test]
fn every_mapping_vector_becomes_the_expected_body() {
    let mut compared = 0;
    for name in [
        "basic",
        "cache_control",
        "empty_content",
        "file_pdf",
        "json_schema",
        "reasoning_effort",
        "starts_with_assistant",
        "system_in_middle",
        "tool_roundtrip",
    ] {
        let vector = vector(name);
        let expected = &vector["expect"]["anthropic"];
        let call = call(Operation::ChatCompletions, &vector["request"]);
        let (body, _) = encoded(&call, expected["model"].as_str().unwrap(), None).unwrap();
        assert_eq!(&body, expected, "{name}");
        compared += 1;
    }
    assert_eq!(compared, 9);
}

#[test]
fn what_there_are_no_words_for_is_reported_or_refused() {
    let chat = json!({
        "model": "x", "messages": [{"role": "user", "content": "Hi"}], "seed": 7, "logit_bias": {"1": 2}, "temperature": 1.7, "top_p": 0.9,
        "frequency_penalty": 1, "verbosity": "low", "store": true, "service_tier": "flex", "response_format": {"type": "text"},
    });
    let (body, dropped) = encoded(&call(Operation::ChatCompletions, &chat), MODEL, None).unwrap();
    assert_eq!(body["temperature"], json!(1));
    assert_eq!(body.get("top_p"), None, "one of the two");
    let mut dropped: Vec<&str> = dropped.iter().map(|name| &**name).collect();
    dropped.sort_unstable();
    assert_eq!(dropped, ["frequency_penalty", "logit_bias", "seed", "service_tier", "store", "top_p", "verbosity"]);
    assert_eq!(refused(MODEL, json!({"n": 2})), "n");
    assert_eq!(refused(MODEL, json!({"logprobs": true})), "logprobs");
    assert_eq!(refused(MODEL, json!({"modalities": ["text", "audio"]})), "modalities");
    let audio = json!({"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}});
    assert!(refused(MODEL, json!({"messages": [{"role": "user", "content": [audio]}]})).contains("input_audio"));
}

#[test]
fn a_caller_may_allow_to_lose_what_the_answer_depends_on() {
    let chat = json!({"model": "x", "messages": [{"role": "user", "content": "Hi"}], "n": 2, "logprobs": true});
    let call = Call { drop_params: true, ..call(Operation::ChatCompletions, &chat) };
    let (_, dropped) = encoded(&call, MODEL, None).unwrap();
    assert_eq!(dropped, ["n".into(), "logprobs".into()]);
}

#[test]
fn newer_models_are_not_told_how_to_sample() {
    let sampled = body("claude-opus-4-7", json!({"temperature": 0.2, "top_k": 3}));
    assert_eq!((sampled.get("temperature"), sampled.get("top_k")), (None, None));
    let thinking = body(MODEL, json!({"temperature": 0.2, "reasoning_effort": "low"}));
    assert_eq!(thinking.get("temperature"), None);
    let free = body("claude-3-5-sonnet-20241022", json!({"temperature": 0.2, "top_p": 0.5}));
    assert_eq!((free["temperature"].clone(), free["top_p"].clone()), (json!(0.2), json!(0.5)));
}

#[test]
fn where_nobody_caps_the_answer_its_model_does_and_the_lower_of_two_caps_counts() {
    assert_eq!(body("claude-opus-5-5", json!({}))["max_tokens"], 128_000);
    assert_eq!(body("claude-haiku-4-5", json!({}))["max_tokens"], 64_000);
    assert_eq!(body("claude-opus-4-1", json!({}))["max_tokens"], 32_000);
    assert_eq!(body("some-model", json!({}))["max_tokens"], 4_096);
    let chat = json!({"model": "x", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9});
    let call = call(Operation::ChatCompletions, &chat);
    assert_eq!(encoded(&call, MODEL, Some(7)).unwrap().0["max_tokens"], 7);
    assert_eq!(encoded(&call, MODEL, Some(11)).unwrap().0["max_tokens"], 9);
}

#[test]
fn thinking_is_said_as_each_model_wants_it() {
    let effort = |model: &str, effort: &str| {
        let body = body(model, json!({"reasoning_effort": effort, "max_tokens": 8_000}));
        (body["thinking"].clone(), body["output_config"]["effort"].clone())
    };
    let adaptive = json!({"type": "adaptive", "display": "summarized"});
    assert_eq!(effort(MODEL, "minimal"), (adaptive.clone(), "low".into()));
    assert_eq!(effort(MODEL, "none"), (json!({"type": "disabled"}), Value::Null));
    assert_eq!(effort("claude-opus-5-5", "none"), (Value::Null, "low".into()));
    assert_eq!(effort("claude-opus-5-5", "high"), (adaptive, "high".into()));
    assert_eq!(effort("claude-haiku-4-5", "medium").0, json!({"type": "enabled", "budget_tokens": 4096}));
    assert_eq!(effort("claude-haiku-4-5", "high").0, json!({"type": "enabled", "budget_tokens": 6976}));
    let small = body("claude-haiku-4-5", json!({"reasoning_effort": "high", "max_tokens": 2_000}));
    assert_eq!(small.get("thinking"), None, "no room to think");
}

#[test]
fn tools_are_chosen_in_anthropics_words() {
    let tool = |name: &str| json!({"type": "function", "function": {"name": name, "parameters": {"type": "object"}}});
    let choice = |choice: Value, parallel: Option<bool>| {
        let tools = [tool("f"), tool("g")];
        let body = body(MODEL, json!({"tools": tools, "tool_choice": choice, "parallel_tool_calls": parallel}));
        (body["tool_choice"].clone(), body["tools"].as_array().unwrap().len())
    };
    assert_eq!(choice(Value::Null, None), (Value::Null, 2));
    assert_eq!(choice(Value::Null, Some(false)), (json!({"type": "auto", "disable_parallel_tool_use": true}), 2));
    assert_eq!(choice(json!("none"), Some(false)), (json!({"type": "none"}), 2));
    assert_eq!(choice(json!("required"), None), (json!({"type": "any"}), 2));
    let named = json!({"type": "function", "function": {"name": "f"}});
    assert_eq!(choice(named.clone(), None), (json!({"type": "tool", "name": "f"}), 2));
    let allowed = json!({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [named]}});
    assert_eq!(choice(allowed, None), (json!({"type": "any"}), 1));
}

#[test]
fn a_forced_call_and_thoughts_exclude_each_other() {
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    let forced = body(MODEL, json!({"tools": tools, "tool_choice": "required", "reasoning_effort": "high"}));
    assert_eq!((forced.get("thinking"), &forced["output_config"]["effort"]), (None, &json!("high")));
    assert_eq!(refused("claude-opus-5-5", json!({"tools": tools, "tool_choice": "required"})), "tool_choice");
}

#[test]
fn a_search_of_the_web_is_capped_as_its_price_was_bound() {
    let place = json!({"type": "approximate", "approximate": {"city": "Oslo"}});
    let body = body(MODEL, json!({"web_search_options": {"user_location": place}}));
    let expected = json!([{
        "type": "web_search_20250305", "name": "web_search", "max_uses": 1,
        "user_location": {"type": "approximate", "city": "Oslo"},
    }]);
    assert_eq!(body["tools"], expected);
}

#[test]
fn at_most_four_places_are_cached_up_to_and_none_for_an_hour_behind_a_shorter_one() {
    let part = |text: &str, ttl: &str| json!({"type": "text", "text": text, "cache_control": {"type": "ephemeral", "ttl": ttl}});
    let parts: Vec<Value> =
        [("a", "5m"), ("b", "1h"), ("c", "5m"), ("d", "1h"), ("e", "5m")].map(|(text, ttl)| part(text, ttl)).into();
    let body = body(MODEL, json!({"messages": [{"role": "user", "content": parts}]}));
    let marks: Vec<Value> =
        body["messages"][0]["content"].as_array().unwrap().iter().map(|block| block["cache_control"].clone()).collect();
    let (short, hour) = (json!({"type": "ephemeral"}), json!({"type": "ephemeral", "ttl": "1h"}));
    assert_eq!(marks, [Value::Null, hour, short.clone(), short.clone(), short]);
}

#[test]
fn pictures_stand_where_they_are_and_files_elsewhere_are_refused() {
    let image = |url: &str| json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]);
    let body = body(MODEL, json!({"messages": image("https://example.org/a.png")}));
    let block = &body["messages"][0]["content"][0];
    assert_eq!(block["source"], json!({"type": "url", "url": "https://example.org/a.png"}));
    assert!(refused(MODEL, json!({"messages": image("data:image/tiff;base64,AA==")})).contains("image/tiff"));
    let file = json!([{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}]);
    assert_eq!(refused(MODEL, json!({"messages": file})), "file_id");
}

#[test]
fn own_thoughts_go_back_and_those_of_others_stay() {
    let blocks = json!([
        {"type": "thinking", "thinking": "t", "signature": "sig"},
        {"type": "redacted_thinking", "data": "d"},
        {"type": "gemini_signature", "data": "g"},
    ]);
    let messages = json!([
        {"role": "user", "content": "1"}, {"role": "assistant", "content": "2", "thinking_blocks": blocks},
        {"role": "user", "content": "3"},
    ]);
    let expected = json!([
        {"type": "thinking", "thinking": "t", "signature": "sig"}, {"type": "redacted_thinking", "data": "d"},
        {"type": "text", "text": "2"},
    ]);
    assert_eq!(body(MODEL, json!({"messages": messages}))["messages"][1]["content"], expected);
}

#[test]
fn where_any_json_is_wanted_the_model_is_told_so() {
    let messages = json!([{"role": "system", "content": "S"}, {"role": "user", "content": "Hi"}]);
    let body = body(MODEL, json!({"messages": messages, "response_format": {"type": "json_object"}}));
    let said = json!([{"type": "text", "text": "S"}, {"type": "text", "text": JSON_ONLY}]);
    assert_eq!((&body["system"], body.get("output_config")), (&said, None));
}
