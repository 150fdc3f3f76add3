//! Accounts at providers that are kept in the store: the real binary, and a provider on loopback that says whose key came.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use support::client::{Client, Seen, expect_status};
use support::server::{Server, binary};
use support::site::{ADMIN_KEY, Customer, admin, customer};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::Instant;

const PLATFORM_KEY: &str = "sk-platform-0123456789-wxyz";
const OTHER_KEY: &str = "sk-platform-9876543210-qrst";
const TENANT_KEY: &str = "sk-tenant-0123456789-mnop";
const SECRETS: [&str; 3] = [PLATFORM_KEY, OTHER_KEY, TENANT_KEY];
/// How long a change may take until every call feels it.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// A provider that notes which key came.
struct Provider {
    address: SocketAddr,
    keys: Keys,
    _server: JoinSet<()>,
}

type Keys = Arc<Mutex<Vec<String>>>;

impl Provider {
    async fn start() -> Self {
        let keys = Keys::default();
        let router = Router::new()
            .route("/v1/models", get(models))
            .route("/v1/chat/completions", post(answer))
            .with_state(Arc::clone(&keys));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, keys, _server: server }
    }

    fn last_key(&self) -> Option<String> {
        self.keys.lock().unwrap().last().cloned()
    }
}

fn bearer(headers: &HeaderMap) -> String {
    let sent = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    sent.trim_start_matches("Bearer ").to_owned()
}

async fn models(headers: HeaderMap) -> Response {
    match SECRETS.contains(&&*bearer(&headers)) {
        true => Json(json!({"object": "list", "data": []})).into_response(),
        false => StatusCode::UNAUTHORIZED.into_response(),
    }
}

async fn answer(State(keys): State<Keys>, headers: HeaderMap) -> Json<Value> {
    keys.lock().unwrap().push(bearer(&headers));
    let message = json!({"role": "assistant", "content": "hello"});
    let usage = json!({"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6});
    let choice = json!({"index": 0, "finish_reason": "stop", "message": message});
    Json(json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini",
        "choices": [choice], "usage": usage}))
}

/// A data folder for servers without any upstream of their own.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = "[money]\ncurrency = \"EUR\"\nfx_usd_per_unit = \"1.16\"\n\n\
            [accounts]\nprivate_hosts = [\"127.0.0.1\"]\n";
        std::fs::write(folder.path().join("cfr.toml"), config).unwrap();
        Self(folder)
    }

    fn config(&self) -> String {
        self.0.path().join("cfr.toml").to_str().unwrap().to_owned()
    }

    async fn serve(&self) -> Server {
        self.serve_on(&self.0.path().join("data")).await
    }

    async fn serve_on(&self, data: &Path) -> Server {
        let (config, data) = (self.config(), data.to_str().unwrap().to_owned());
        let arguments = ["serve", "--config", &config, "--data", &data, "--listen", "127.0.0.1:0"];
        Server::start(&arguments, &[("CFR_ADMIN_KEY", ADMIN_KEY), ("CFR_LOG", "debug")]).await
    }

    /// What a command that fails says.
    async fn refuses(&self, data: &Path) -> String {
        let (config, data) = (self.config(), data.to_str().unwrap().to_owned());
        let arguments = ["serve", "--config", &config, "--data", &data, "--listen", "127.0.0.1:0"];
        let output = Command::new(binary()).args(arguments).env("CFR_ADMIN_KEY", ADMIN_KEY).output().await.unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

async fn add(admin: &Client, provider: &Provider, name: &str, tenant: Option<&str>, secret: &str) -> Seen {
    let base_url = format!("http://{}/v1", provider.address);
    let body = json!({"name": name, "tenant": tenant, "provider": "openai", "base_url": base_url, "secret": secret});
    let made = admin.post("/api/v1/provider-accounts", &body).await;
    expect_status(&made, StatusCode::CREATED);
    made
}

fn id(seen: &Seen) -> String {
    seen.json()["id"].as_str().unwrap().to_owned()
}

async fn call(server: &Server, customer: &Customer) -> Seen {
    let body = json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5});
    server.client(&customer.key).post("/v1/chat/completions", &body).await
}

/// Calls until the provider sees this key; none when nobody is to answer.
async fn until_answered_with(server: &Server, customer: &Customer, provider: &Provider, key: Option<&str>) {
    let end = Instant::now() + PATIENCE;
    loop {
        let answered = call(server, customer).await;
        let seen = if answered.status == 200 { provider.last_key() } else { None };
        if seen.as_deref() == key {
            return;
        }
        assert!(Instant::now() < end, "{seen:?} in place of {key:?}: {}", answered.text());
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Everything that the API shows of a server, and its log.
async fn everything_shown(server: &Server) -> String {
    let mut all = server.log();
    for path in ["/api/v1/provider-accounts", "/api/v1/audit-events", "/api/v1/usage", "/metrics", "/health"] {
        let seen = admin(server).get(path).await;
        assert!(seen.status == 200 || seen.status == 404, "{path}: {}", seen.text());
        all.push_str(&seen.text());
    }
    all
}

#[tokio::test]
async fn accounts_join_and_leave_while_calls_run_and_their_keys_are_never_seen() {
    let (provider, place) = (Provider::start().await, Place::new());
    let server = place.serve().await;
    let (acme, other) = (
        customer(&server, "acme", 1_000_000_000, json!({})).await,
        customer(&server, "other", 1_000_000_000, json!({})).await,
    );
    assert_eq!(call(&server, &acme).await.status, 404, "nobody answers yet");

    let admin = admin(&server);
    let platform = add(&admin, &provider, "main", None, PLATFORM_KEY).await;
    assert_eq!((&platform.json()["secret_last4"], &platform.json()["status"]), (&json!("wxyz"), &json!("active")));
    until_answered_with(&server, &acme, &provider, Some(PLATFORM_KEY)).await;
    let own = add(&admin, &provider, "own", Some("acme"), TENANT_KEY).await;
    until_answered_with(&server, &acme, &provider, Some(TENANT_KEY)).await;
    until_answered_with(&server, &other, &provider, Some(PLATFORM_KEY)).await;

    let path = |seen: &Seen| format!("/api/v1/provider-accounts/{}", id(seen));
    let changed = patch(&server, &path(&platform), json!({"secret": OTHER_KEY})).await;
    assert_eq!(changed["secret_last4"], "qrst");
    until_answered_with(&server, &other, &provider, Some(OTHER_KEY)).await;
    patch(&server, &path(&own), json!({"status": "disabled"})).await;
    until_answered_with(&server, &acme, &provider, Some(OTHER_KEY)).await;

    let checked = admin.post(&format!("{}/check", path(&own)), &json!({})).await;
    assert_eq!(checked.json()["works"], true, "{}", checked.text());
    let verified = admin.post("/api/v1/secrets/verify", &json!({})).await;
    assert_eq!(verified.json(), json!({"data_keys": 2, "provider_accounts": 2, "seeds": 0, "signing_keys": 0}));
    let rotated = admin.post("/api/v1/secrets/rotate-data-key", &json!({"tenant": "acme"})).await;
    assert_eq!(rotated.json()["resealed"], 1, "{}", rotated.text());
    let resumed = admin.post("/api/v1/secrets/rotate-data-key", &json!({"tenant": "acme", "resume": true})).await;
    assert_eq!((&resumed.json()["resealed"], &resumed.json()["data_key"]), (&json!(0), &rotated.json()["data_key"]));
    patch(&server, &path(&own), json!({"status": "active"})).await;
    until_answered_with(&server, &acme, &provider, Some(TENANT_KEY)).await;

    let mut shown = everything_shown(&server).await;
    [platform, own, checked, rotated].iter().for_each(|seen| shown.push_str(&seen.text()));
    assert!(shown.contains("provider_account.created") && shown.contains("data_key.created"));
    server.stop().await;
    let data = place.0.path().join("data");
    for entry in std::fs::read_dir(&data).unwrap() {
        let entry = entry.unwrap();
        shown.push_str(&String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap_or_default()));
    }
    for secret in SECRETS {
        assert!(!shown.contains(secret), "{secret} is somewhere");
    }
}

async fn patch(server: &Server, path: &str, body: Value) -> Value {
    let changed = admin(server).patch(path, &body).await;
    expect_status(&changed, StatusCode::OK);
    changed.json()
}

#[tokio::test]
async fn what_is_no_account_is_refused_with_the_field() {
    let place = Place::new();
    let server = place.serve().await;
    let good = json!({"name": "main", "provider": "openai", "secret": PLATFORM_KEY});
    for (field, value) in [
        ("provider", json!("nobody")),
        ("provider", json!("vertex")),
        ("base_url", json!("http://api.example.com/v1")),
        ("base_url", json!("https://169.254.169.254/v1")),
        ("base_url", json!("https://10.1.2.3/v1")),
        ("base_url", json!("https://user:pass@example.com/v1")),
        ("secret", json!("two words")),
        ("secret", json!("")),
        ("name", json!("")),
        ("tenant", json!("nobody")),
    ] {
        let mut body = good.clone();
        body[field] = value;
        let refused = admin(&server).post("/api/v1/provider-accounts", &body).await;
        assert_eq!(refused.status, 422, "{body}: {}", refused.text());
        assert_eq!(refused.json()["errors"][0]["field"], field, "{}", refused.text());
        assert!(!refused.text().contains(PLATFORM_KEY));
    }
    let made = admin(&server).post("/api/v1/provider-accounts", &good).await;
    expect_status(&made, StatusCode::CREATED);
    assert_eq!(admin(&server).post("/api/v1/provider-accounts", &good).await.status, 409, "the name is taken");
    server.stop().await;
}

#[tokio::test]
async fn a_copy_of_the_data_is_restored_with_the_master_key_and_not_without() {
    let (provider, place) = (Provider::start().await, Place::new());
    let server = place.serve().await;
    let acme = customer(&server, "acme", 1_000_000_000, json!({})).await;
    add(&admin(&server), &provider, "main", None, PLATFORM_KEY).await;
    until_answered_with(&server, &acme, &provider, Some(PLATFORM_KEY)).await;
    server.stop().await;

    let (data, copy) = (place.0.path().join("data"), place.0.path().join("copy"));
    std::fs::create_dir(&copy).unwrap();
    for file in ["cfr.db", "key.pepper"] {
        std::fs::copy(data.join(file), copy.join(file)).unwrap();
    }
    let refused = place.refuses(&copy).await;
    assert!(refused.lines().last().is_some_and(|line| line.contains("master key")), "{refused}");
    assert!(!copy.join("master.key").exists(), "a new key would open nothing");

    std::fs::copy(data.join("master.key"), copy.join("master.key")).unwrap();
    let restored = place.serve_on(&copy).await;
    until_answered_with(&restored, &acme, &provider, Some(PLATFORM_KEY)).await;
    restored.stop().await;
}

#[tokio::test]
async fn an_account_goes_on_while_the_master_key_cannot_be_read() {
    let (provider, place) = (Provider::start().await, Place::new());
    let server = place.serve().await;
    let acme = customer(&server, "acme", 1_000_000_000, json!({})).await;
    let made = add(&admin(&server), &provider, "main", None, PLATFORM_KEY).await;
    until_answered_with(&server, &acme, &provider, Some(PLATFORM_KEY)).await;

    std::fs::write(place.0.path().join("data/master.key"), "").unwrap();
    patch(&server, &format!("/api/v1/provider-accounts/{}", id(&made)), json!({"name": "renamed"})).await;
    while !server.log().contains("goes on as it was") {
        assert_eq!(call(&server, &acme).await.status, 200);
    }
    assert_eq!(call(&server, &acme).await.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn the_master_key_is_replaced_under_a_running_server() {
    let (provider, place) = (Provider::start().await, Place::new());
    let server = place.serve().await;
    let acme = customer(&server, "acme", 1_000_000_000, json!({})).await;
    add(&admin(&server), &provider, "main", None, PLATFORM_KEY).await;
    until_answered_with(&server, &acme, &provider, Some(PLATFORM_KEY)).await;

    let file = place.0.path().join("data/master.key");
    let old = std::fs::read_to_string(&file).unwrap();
    let made = Command::new(binary()).args(["secrets", "new-key"]).output().await.unwrap();
    let new = String::from_utf8(made.stdout).unwrap();
    std::fs::write(&file, format!("{new}{old}")).unwrap();
    let rotated = admin(&server).post("/api/v1/secrets/rotate-master-key", &json!({})).await;
    assert_eq!(rotated.json()["rewrapped"], 1, "{}", rotated.text());
    std::fs::write(&file, &new).unwrap();
    let verified = admin(&server).post("/api/v1/secrets/verify", &json!({})).await;
    assert_eq!(verified.json(), json!({"data_keys": 1, "provider_accounts": 1, "seeds": 0, "signing_keys": 0}));
    assert_eq!(call(&server, &acme).await.status, 200);
    server.stop().await;

    let again = place.serve().await;
    until_answered_with(&again, &acme, &provider, Some(PLATFORM_KEY)).await;
    again.stop().await;
}
