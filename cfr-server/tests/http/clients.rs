//! Odds and ends that the clients of each dialect expect beside their calls.

use reqwest::Method;
use serde_json::{Value, json};

use super::support::{FAKE, MODEL, Seen, Site, client, see, terms};

const EURO: i64 = 1_000_000_000;

async fn ask(site: &Site, method: Method, path: &str, headers: &[(&str, &str)], body: Option<Value>) -> Seen {
    let mut request = client().request(method, site.url(path));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    see(match body {
        Some(body) => request.header("content-type", "application/json").body(body.to_string()),
        None => request,
    })
    .await
}

#[tokio::test]
async fn claude_code_finds_what_it_asks_for() {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(EURO)).await;
    assert_eq!(ask(&site, Method::HEAD, "/", &[], None).await.status, 200);
    let body = json!({ "model": MODEL, "max_tokens": 64, "stream": true,
        "system": [{ "type": "text", "text": "You are Claude Code", "cache_control": { "type": "ephemeral" } }],
        "messages": [{ "role": "user", "content": [{ "type": "text", "text": "hi", "cache_control": { "type": "ephemeral" } }] }],
        "tools": [{ "name": "Bash", "description": "x", "input_schema": { "type": "object" } }],
        "metadata": { "user_id": "user_1_session_2" } });
    let bearer = format!("Bearer {key}");
    for proof in [("x-api-key", key.as_str()), ("authorization", bearer.as_str())] {
        let headers = [proof, ("anthropic-version", "2023-06-01"), ("anthropic-beta", "claude-code-20250219")];
        let seen = ask(&site, Method::POST, "/v1/messages?beta=true", &headers, Some(body.clone())).await;
        assert_eq!(seen.status, 200, "{}", seen.body);
        assert!(seen.body.starts_with("event: message_start") && seen.body.contains("event: message_stop"));
        let counted = json!({ "model": MODEL, "messages": body["messages"], "tools": body["tools"] });
        let seen = ask(&site, Method::POST, "/v1/messages/count_tokens?beta=true", &headers, Some(counted)).await;
        assert!(seen.json()["input_tokens"].as_u64() > Some(0), "{}", seen.body);
    }
}

#[tokio::test]
async fn models_are_listed_in_the_words_of_whoever_asks() {
    let site = Site::start(FAKE).await;
    let key = site.key_for("ada@example.org", terms(EURO), &[MODEL, "text-embedding-3-small"]).await;
    let claude = [("x-api-key", key.as_str()), ("anthropic-version", "2023-06-01")];
    let list = ask(&site, Method::GET, "/v1/models?limit=20", &claude, None).await.json();
    assert_eq!((list["first_id"].as_str(), list["has_more"].as_bool()), (Some(MODEL), Some(false)), "{list}");
    let card = ask(&site, Method::GET, &format!("/v1/models/{MODEL}"), &claude, None).await.json();
    assert_eq!((card["type"].as_str(), card["display_name"].as_str()), (Some("model"), Some(MODEL)));
    assert!(card["created_at"].as_str().is_some_and(|since| since.ends_with('Z')), "{card}");
    let missing = ask(&site, Method::GET, "/v1/models/gpt-5.4", &claude, None).await;
    assert_eq!((missing.status, missing.json()["error"]["type"].as_str()), (404, Some("not_found_error")));

    let google = [("x-goog-api-key", key.as_str())];
    for path in ["/v1beta/models", "/v1/models"] {
        let list = ask(&site, Method::GET, path, &google, None).await.json();
        let methods = |place: usize| list["models"][place]["supportedGenerationMethods"].as_array().map(Vec::len);
        assert_eq!(list["models"][0]["name"], format!("models/{MODEL}"), "{list}");
        assert_eq!((methods(0), methods(1)), (Some(3), Some(0)), "embeddings are asked for elsewhere");
    }
    let card = ask(&site, Method::GET, &format!("/v1beta/models/{MODEL}"), &google, None).await.json();
    assert_eq!(card["displayName"], MODEL);
    let missing = ask(&site, Method::GET, "/v1beta/models/gpt-5.4", &google, None).await;
    assert_eq!((missing.status, missing.json()["error"]["status"].as_str()), (404, Some("NOT_FOUND")));
}

#[tokio::test]
async fn both_of_googles_clients_find_their_paths() {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(EURO)).await;
    let google = [("x-goog-api-key", key.as_str())];
    let body = || Some(json!({ "contents": [{ "role": "user", "parts": [{ "text": "hi" }] }] }));
    for path in ["/v1beta/models/MODEL:generateContent", "/v1/models/MODEL%3AgenerateContent"] {
        let seen = ask(&site, Method::POST, &path.replace("MODEL", MODEL), &google, body()).await;
        assert_eq!(seen.json()["candidates"][0]["finishReason"], "STOP", "{}", seen.body);
    }
    for path in ["/v1beta/models/MODEL:countTokens", "/v1/models/MODEL%3AcountTokens"] {
        let seen = ask(&site, Method::POST, &path.replace("MODEL", MODEL), &google, body()).await;
        assert_eq!(seen.json()["totalTokens"], 1, "{}", seen.body);
    }
}

#[tokio::test]
async fn codex_may_bring_tools_that_only_openai_has_where_it_allows_to_leave_them_out() {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(EURO)).await;
    let body = json!({ "model": MODEL, "stream": true, "store": false, "max_output_tokens": 64,
        "instructions": "You are Codex", "include": ["reasoning.encrypted_content"], "prompt_cache_key": "c",
        "input": [{ "type": "message", "role": "user", "content": [{ "type": "input_text", "text": "hi" }] }],
        "tools": [{ "type": "function", "name": "shell", "parameters": { "type": "object" }, "strict": false },
            { "type": "local_shell" }],
        "tool_choice": "auto", "parallel_tool_calls": false });
    let bearer = format!("Bearer {key}");
    let proof = ("authorization", bearer.as_str());
    let refused = ask(&site, Method::POST, "/v1/responses", &[proof], Some(body.clone())).await;
    assert!(refused.is_error(400, "unsupported")["message"].to_string().contains("tools[1].type"));
    let headers = [proof, ("x-cfr-drop-params", "true")];
    let seen = ask(&site, Method::POST, "/v1/responses", &headers, Some(body)).await;
    assert!(seen.status == 200 && seen.body.contains("event: response.completed"), "{}", seen.body);
    assert!(seen.header("x-cfr-dropped-params").contains("local_shell"), "{:?}", seen.headers);
}
