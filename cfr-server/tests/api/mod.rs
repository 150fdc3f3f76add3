//! The whole router in process, over a folder of its own, as the demo configures it.
#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot be set up fails")]
#![allow(dead_code, reason = "each suite uses a part of it")]

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use cfr_billing::audit_log::Act;
use cfr_core::time::SystemClock;
use cfr_server::config::Config;
use cfr_server::serve::Peer;
use cfr_server::state::{App, Books};
use cfr_server::{demo, router, seed};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt as _;

/// A model of the demo's built-in provider.
pub(crate) const MODEL: &str = "gpt-5.4-nano";

/// A router with a key that opens its management API.
pub(crate) struct Api {
    app: Arc<App>,
    router: Router,
    key: String,
    _folder: TempDir,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

/// A user on the product `basic` with a key and a budget of 10 euro.
pub(crate) struct Person {
    pub(crate) key: String,
    pub(crate) secret: String,
    pub(crate) budget: String,
}

impl Api {
    pub(crate) async fn new() -> Self {
        Self::configured(|_| ()).await
    }

    /// The same with something else in the configuration.
    pub(crate) async fn configured(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = demo::config("127.0.0.1:0".into(), PathBuf::from(folder.path()), &|_| None)
            .expect("the demo's configuration");
        change(&mut config);
        let books = Books::open(&config, Arc::new(SystemClock::new())).await.expect("books");
        let act = Act::of_system(books.clock.now());
        let (key, _) = books.keys.issue(seed::admin_wish("test"), &act).await.expect("an admin key");
        let app = Arc::new(App::new(config, books).await.expect("an app"));
        Self { router: router::router(Arc::clone(&app)), app, key: key.expose().to_owned(), _folder: folder }
    }

    /// Waits until everything that was settled is in the books.
    pub(crate) async fn flush(&self) {
        self.app.books.escrow.flush().await.expect("a flush");
    }

    pub(crate) async fn get(&self, target: &str) -> Answer {
        self.send(Method::GET, target, &[], None).await
    }

    pub(crate) async fn post(&self, target: &str, body: Value) -> Answer {
        self.send(Method::POST, target, &[], Some(body)).await
    }

    pub(crate) async fn patch(&self, target: &str, body: Value) -> Answer {
        self.send(Method::PATCH, target, &[], Some(body)).await
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        target: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> Answer {
        self.send_as(Some(&self.key), method, target, headers, body).await
    }

    /// Sends any text under any media type.
    pub(crate) async fn send_text(&self, method: Method, target: &str, media_type: &str, text: &str) -> Answer {
        let request =
            Request::builder().method(method).uri(format!("/api/v1{target}")).header("content-type", media_type);
        let request = request.header("authorization", format!("Bearer {}", self.key));
        self.ask(request.body(Body::from(text.to_owned())).expect("a request")).await
    }

    pub(crate) async fn send_as(
        &self,
        key: Option<&str>,
        method: Method,
        target: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("/api/v1{target}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(key) = key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = body.map_or(Body::empty(), |body| Body::from(body.to_string()));
        self.ask(request.body(body).expect("a request")).await
    }

    /// One short call of a model.
    pub(crate) async fn chat(&self, secret: &str) -> Answer {
        self.chat_from(secret, None).await
    }

    /// The same from an address.
    pub(crate) async fn chat_from(&self, secret: &str, address: Option<&str>) -> Answer {
        let body = json!({"model": MODEL, "max_tokens": 300, "messages": [{"role": "user", "content": "Hello"}]});
        let request = Request::builder().method(Method::POST).uri("/v1/chat/completions");
        let request =
            request.header("authorization", format!("Bearer {secret}")).header("content-type", "application/json");
        let mut request = request.body(Body::from(body.to_string())).expect("a request");
        if let Some(address) = address {
            request.extensions_mut().insert(Peer(address.parse().expect("an address")));
        }
        self.ask(request).await
    }

    /// Reports a key as found, without being anybody.
    pub(crate) async fn report_leak(&self, body: Value) -> Answer {
        self.post_openly(cfr_server::leaks::PATH, body).await
    }

    /// Posts to a path of the server without being anybody.
    pub(crate) async fn post_openly(&self, path: &str, body: Value) -> Answer {
        let request = Request::builder().method(Method::POST).uri(path);
        let request = request.header("content-type", "application/json").body(Body::from(body.to_string()));
        self.ask(request.expect("a request")).await
    }

    /// What lies under the API.
    pub(crate) fn books(&self) -> &Books {
        &self.app.books
    }

    /// Follows a stream of events.
    pub(crate) async fn follow(&self, target: &str) -> Events {
        self.follow_from(target, "").await
    }

    /// The same from behind an event on.
    pub(crate) async fn follow_from(&self, target: &str, last: &str) -> Events {
        let mut request = Request::builder().uri(format!("/api/v1{target}"));
        request = request.header("authorization", format!("Bearer {}", self.key));
        if !last.is_empty() {
            request = request.header("last-event-id", last);
        }
        let answer = self.router.clone().oneshot(request.body(Body::empty()).expect("a request")).await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
        Events { body: answer.into_body(), text: String::new(), last_id: String::new() }
    }

    async fn ask(&self, request: Request<Body>) -> Answer {
        let answer = self.router.clone().oneshot(request).await.expect("an answer");
        let (head, body) = answer.into_parts();
        let bytes = body.collect().await.expect("a body").to_bytes();
        let is_json = head
            .headers
            .get("content-type")
            .is_some_and(|value| matches!(value.as_bytes(), b"application/json" | b"application/problem+json"));
        let body = match is_json {
            true => serde_json::from_slice(&bytes).expect("JSON"),
            false => Value::from(String::from_utf8_lossy(&bytes)),
        };
        Answer { status: head.status, headers: head.headers, body }
    }

    /// A tenant, a product and a user on it with a key.
    pub(crate) async fn person(&self, tenant: &str, email: &str) -> Person {
        self.post("/tenants", json!({"slug": tenant})).await.created();
        self.post("/products", product("basic", "20", "10")).await.created();
        let user = self.post("/users", json!({"tenant": tenant, "email": email, "product": "basic"})).await.created();
        let key = self.post("/keys", json!({"user": email, "name": "laptop"})).await.created();
        let budgets = self.get(&format!("/budgets?scope=user&subject={}", id(&user))).await.ok();
        let secret = key["secret"].as_str().expect("a secret").to_owned();
        Person { key: id(&key).to_owned(), secret, budget: id(&budgets["items"][0]).to_owned() }
    }
}

/// Server-sent events, one after the other.
pub(crate) struct Events {
    body: Body,
    text: String,
    /// The id of the last one that had one.
    pub(crate) last_id: String,
}

impl Events {
    /// The name and the data of the next event.
    pub(crate) async fn next(&mut self) -> (String, Value) {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
                if let Some(id) = field("id") {
                    id.clone_into(&mut self.last_id);
                }
                if let (Some(name), Some(data)) = (field("event"), field("data")) {
                    return (name.to_owned(), serde_json::from_str(data).expect("JSON"));
                }
                continue;
            }
            let frame = self.body.frame().await.expect("the stream goes on").expect("a frame");
            self.text.push_str(&String::from_utf8_lossy(frame.data_ref().expect("data")));
        }
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.body);
        self.body
    }

    #[track_caller]
    pub(crate) fn created(self) -> Value {
        assert_eq!(self.status, StatusCode::CREATED, "{}", self.body);
        self.body
    }

    /// A problem of RFC 9457 with this status and code.
    #[track_caller]
    pub(crate) fn is_problem(&self, status: u16, code: &str) {
        assert_eq!((self.status.as_u16(), self.body["code"].as_str()), (status, Some(code)), "{}", self.body);
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        assert_eq!(self.body["status"], status);
        assert_eq!(self.body["type"], format!("urn:cfr:problem:{code}"));
        assert!(self.body["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
    }
}

/// A product to publish.
pub(crate) fn product(code: &str, price: &str, budget: &str) -> Value {
    json!({"code": code, "terms": {
        "name": "Basic",
        "price": {"amount": price, "currency": "EUR"},
        "budget": {"amount": budget, "currency": "EUR"},
        "period": {"kind": "calendar_month"},
        "models": ["*"],
    }})
}

pub(crate) fn id(thing: &Value) -> &str {
    thing["id"].as_str().expect("an id")
}

/// `12.34 EUR`.
pub(crate) fn amount(money: &Value) -> String {
    format!("{} {}", money["amount"].as_str().expect("an amount"), money["currency"].as_str().expect("a currency"))
}
