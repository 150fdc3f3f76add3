//! Responses that a provider keeps, as two users of one account meet them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::{Path, RawQuery, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::support::{Site, client, see, terms};

const EURO: i64 = 1_000_000_000;

/// What the provider keeps, by its own ids.
#[derive(Debug, Clone, Default)]
struct Kept(Arc<Mutex<BTreeMap<String, Value>>>);

fn not_found(id: &str) -> Response {
    let error = json!({ "error": { "message": format!("Response with id '{id}' not found."), "type": "invalid_request_error",
        "param": null, "code": null } });
    (StatusCode::NOT_FOUND, Json(error)).into_response()
}

/// Makes a response and keeps it; streams it as one event when it is asked to.
async fn make(State(kept): State<Kept>, Json(asked): Json<Value>) -> Response {
    let mut kept = kept.0.lock().expect("not poisoned");
    let previous = asked["previous_response_id"].clone();
    if previous.as_str().is_some_and(|id| !kept.contains_key(id)) {
        return not_found(previous.as_str().unwrap_or_default());
    }
    let id = format!("resp_{:040}", kept.len() + 1);
    let usage = json!({ "input_tokens": 5, "output_tokens": 3, "total_tokens": 8 });
    let words = format!("the id is \"{id}\"");
    let content = json!([{ "type": "output_text", "text": words, "annotations": [] }]);
    let output = json!([{ "type": "message", "id": "msg_1", "role": "assistant", "content": content }]);
    let response = json!({ "id": id, "object": "response", "status": "completed", "model": asked["model"],
        "previous_response_id": previous, "output": output, "usage": usage, "unknown": { "kept": 1 } });
    kept.insert(id, response.clone());
    if asked["stream"] != true {
        return Json(response).into_response();
    }
    let event = |kind: &str| format!("event: {kind}\ndata: {}\n\n", json!({ "type": kind, "response": response }));
    let events = event("response.created") + &event("response.completed");
    ([("content-type", "text/event-stream")], events).into_response()
}

async fn one(State(kept): State<Kept>, method: Method, Path(id): Path<String>) -> Response {
    let mut kept = kept.0.lock().expect("not poisoned");
    let found = if method == Method::DELETE { kept.remove(&id) } else { kept.get(&id).cloned() };
    match found {
        None => not_found(&id),
        Some(_) if method == Method::DELETE => {
            Json(json!({ "id": id, "object": "response", "deleted": true })).into_response()
        }
        Some(response) => Json(response).into_response(),
    }
}

async fn items(Path(_): Path<String>, RawQuery(query): RawQuery) -> Json<Value> {
    Json(json!({ "object": "list", "data": [], "asked": query }))
}

/// A site in front of such a provider, which lives as long as the set.
async fn site() -> (Site, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let router = Router::new()
        .route("/v1/responses", post(make))
        .route("/v1/responses/{id}", get(one).delete(one))
        .route("/v1/responses/{id}/cancel", post(one))
        .route("/v1/responses/{id}/input_items", get(items))
        .with_state(Kept::default());
    let mut provider = JoinSet::new();
    provider.spawn(async move { axum::serve(listener, router).await.expect("served") });
    let upstream = format!(
        "[[upstream]]\nname = \"openai\"\nkind = \"openai\"\nbase_url = \"http://{address}/v1\"\napi_key = \"k\"\n"
    );
    (Site::start(&upstream).await, provider)
}

async fn respond(site: &Site, key: &str, more: Value) -> (u16, Value) {
    let mut body = json!({ "model": "gpt-4o-mini", "input": "Hi", "max_output_tokens": 20 });
    for (name, value) in more.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    let seen = site.post("/v1/responses", key, body.to_string()).await;
    (seen.status, seen.json())
}

fn id_of(response: &Value) -> String {
    response["id"].as_str().expect("an id").to_owned()
}

#[tokio::test]
async fn a_conversation_goes_on_and_is_shown_listed_stopped_and_forgotten() {
    let (site, _provider) = site().await;
    let key = site.key(terms(EURO)).await;
    let first = id_of(&respond(&site, &key, json!({})).await.1);
    let (status, second) = respond(&site, &key, json!({ "previous_response_id": first })).await;
    assert_eq!((status, second["previous_response_id"].as_str()), (200, Some(first.as_str())), "{second}");
    assert_eq!(second["unknown"]["kept"], 1, "what we do not know is passed on");
    let path = format!("/v1/responses/{}", id_of(&second));
    let shown = site.get(&path, &key).await;
    assert_eq!((shown.status, shown.json()), (200, second));
    let items = site.get(&format!("{path}/input_items?limit=2&order=asc"), &key).await;
    assert_eq!((items.status, items.json()["asked"].as_str()), (200, Some("limit=2&order=asc")));
    assert_eq!(site.post(&format!("{path}/cancel"), &key, "").await.status, 200);
    assert_eq!(site.get(&format!("{path}?stream=true"), &key).await.is_error(400, "unsupported")["param"], "stream");
    let gone = see(client().delete(site.url(&path)).bearer_auth(&key)).await;
    assert_eq!((gone.json()["deleted"].as_bool(), gone.json()["id"].as_str()), (Some(true), path.rsplit('/').next()));
    site.get(&path, &key).await.is_error(404, "not_found");
    let usage = site.app.books.store.usage(&Default::default(), Default::default()).await.expect("usage");
    assert_eq!(usage.items.len(), 2, "answers are charged, questions about them are not");
}

#[tokio::test]
async fn a_stream_has_the_same_id_in_every_event() {
    let (site, _provider) = site().await;
    let key = site.key(terms(EURO)).await;
    let body = json!({ "model": "gpt-4o-mini", "input": "Hi", "max_output_tokens": 20, "stream": true });
    let seen = site.post("/v1/responses", &key, body.to_string()).await;
    let data = seen.body.lines().filter_map(|line| line.strip_prefix("data: "));
    let ids: Vec<String> =
        data.map(|data| id_of(&serde_json::from_str::<Value>(data).expect("JSON")["response"])).collect();
    assert_eq!(ids.len(), 2, "{}", seen.body);
    assert_eq!(ids[0], ids[1]);
    assert_eq!(site.get(&format!("/v1/responses/{}", ids[0]), &key).await.status, 200);
}

#[tokio::test]
async fn another_user_finds_nothing_and_the_providers_own_ids_open_nothing() {
    let (site, _provider) = site().await;
    let ada = site.key_for("ada@example.org", terms(EURO), &[]).await;
    let eve = site.key_for("eve@example.org", terms(EURO), &[]).await;
    let adas = id_of(&respond(&site, &ada, json!({})).await.1);
    let (own, _) = adas.rsplit_once('_').expect("a proof");
    for id in [adas.as_str(), own, "resp_1", "a%2Fb"] {
        let path = format!("/v1/responses/{id}");
        site.get(&path, &eve).await.is_error(404, "not_found");
        site.get(&format!("{path}/input_items"), &eve).await.is_error(404, "not_found");
        site.post(&format!("{path}/cancel"), &eve, "").await.is_error(404, "not_found");
        see(client().delete(site.url(&path)).bearer_auth(&eve)).await.is_error(404, "not_found");
        let (status, error) = respond(&site, &eve, json!({ "previous_response_id": id })).await;
        assert_eq!((status, error["error"]["code"].as_str()), (400, Some("previous_response_not_found")), "{error}");
        assert_eq!(error["error"]["param"], "previous_response_id");
    }
    assert_eq!(respond(&site, &eve, json!({ "conversation": "conv_1" })).await.0, 400);
    site.get(&format!("/v1/responses/{own}"), &ada).await.is_error(404, "not_found");
    assert_eq!(site.get(&format!("/v1/responses/{adas}"), &ada).await.status, 200, "it is still there");
    assert_eq!(site.get(&format!("/v1/responses/{adas}"), "sk-unknown-0123456789").await.status, 401);
}
