//! A server inside the test, on a free port and a folder of its own.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cfr_billing::audit_log::Act;
use cfr_billing::identity::KeyKind;
use cfr_billing::plan::Terms;
use cfr_core::time::{SystemClock, TimeZone};
use cfr_server::auth::KeyWish;
use cfr_server::config::Config;
use cfr_server::router::router;
use cfr_server::seed;
use cfr_server::serve::{listen, serve};
use cfr_server::state::{App, Books};
use reqwest::header::{AUTHORIZATION, HeaderMap};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A model of the fake provider, and what a test pays for it.
pub(crate) const MODEL: &str = "gpt-4o-mini";
/// The fake provider under OpenAI's prices.
pub(crate) const FAKE: &str = r#"
[[upstream]]
name = "fake"
kind = "fake"
provider = "openai"
"#;
const DRAIN: Duration = Duration::from_secs(10);

/// A running server.
#[derive(Debug)]
pub(crate) struct Site {
    folder: TempDir,
    pub(crate) app: Arc<App>,
    pub(crate) base: String,
    stop: CancellationToken,
    serving: JoinSet<usize>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Seen {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// A header's text; empty when it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// An error in OpenAI's envelope, with this status and code and a request id.
    #[track_caller]
    pub(crate) fn is_error(&self, status: u16, code: &str) -> Value {
        let error = self.json()["error"].clone();
        assert_eq!((self.status, error["code"].as_str()), (status, Some(code)), "{}", self.body);
        for member in ["message", "type", "param"] {
            assert!(error.get(member).is_some(), "{member} is missing: {error}");
        }
        assert!(self.header("x-request-id").starts_with("req_"), "{:?}", self.headers);
        error
    }
}

impl Site {
    /// A server with this configuration, in a new folder.
    pub(crate) async fn start(config: &str) -> Self {
        Self::start_in(tempfile::tempdir().expect("a folder"), config).await
    }

    pub(crate) async fn start_in(folder: TempDir, text: &str) -> Self {
        Self::start_with(folder, text, &[]).await
    }

    /// The same with these variables in its environment.
    pub(crate) async fn start_with(folder: TempDir, text: &str, variables: &[(&str, &str)]) -> Self {
        let variable =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into());
        let mut config = Config::parse(None, text, &variable).expect("a configuration");
        config.data = folder.path().join("data");
        let books = Books::open(&config, Arc::new(SystemClock::new())).await.expect("books");
        let app = Arc::new(App::new(config, books).await.expect("an app"));
        let listener = listen("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let stop = CancellationToken::new();
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, router(Arc::clone(&app)), stop.clone(), DRAIN));
        Self { folder, app, base, stop, serving }
    }

    /// Drains and closes the books; the folder stays.
    pub(crate) async fn stop(mut self) -> TempDir {
        self.stop.cancel();
        assert_eq!(self.serving.join_next().await.expect("a server").expect("no panic"), 0, "every call finished");
        Arc::into_inner(self.app).expect("nobody else has it").close().await.expect("closed");
        self.folder
    }

    /// A user's key under these terms.
    pub(crate) async fn key(&self, terms: Terms) -> String {
        self.key_for("ada@example.org", terms, &[]).await
    }

    pub(crate) async fn key_for(&self, email: &str, terms: Terms, models: &[&str]) -> String {
        let books = &self.app.books;
        let tenant = seed::tenant(books, "acme", "Acme", TimeZone::UTC).await.expect("a tenant");
        let code = format!("plan-{}", email.split('@').next().unwrap_or_default());
        let version = seed::product(books, &code, terms).await.expect("a product");
        let user = seed::user(books, tenant.id, email, "Ada", version.id).await.expect("a user");
        let wish = KeyWish {
            tenant: Some(tenant.id),
            user: Some(user.id),
            models: models.iter().map(|name| Arc::from(*name)).collect(),
            ..KeyWish::new(KeyKind::Live, "test")
        };
        books.keys.issue(wish, &Act::of_system(books.clock.now())).await.expect("a key").0.expose().to_owned()
    }

    pub(crate) async fn chat(&self, key: &str, body: &Value) -> Seen {
        self.post("/v1/chat/completions", key, body.to_string()).await
    }

    pub(crate) async fn post(&self, path: &str, key: &str, body: impl Into<reqwest::Body>) -> Seen {
        let request = client().post(self.url(path)).header(AUTHORIZATION, format!("Bearer {key}"));
        see(request.header("content-type", "application/json").body(body)).await
    }

    pub(crate) async fn get(&self, path: &str, key: &str) -> Seen {
        see(client().get(self.url(path)).header(AUTHORIZATION, format!("Bearer {key}"))).await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}

pub(crate) async fn see(request: reqwest::RequestBuilder) -> Seen {
    let response = request.send().await.expect("an answer");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Seen { status, headers, body: response.text().await.expect("a whole body") }
}

pub(crate) fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default(); // an error says that there is one already
    reqwest::Client::builder().no_proxy().build().expect("a client")
}

/// Terms without a rate limit and with this budget, in nano-euro.
pub(crate) fn terms(budget_nanos: i64) -> Terms {
    let [_, _, (_, enterprise)] = seed::products();
    Terms { budget_included_nanos: budget_nanos, ..enterprise }
}

/// A chat with one message.
pub(crate) fn chat(message: &str) -> Value {
    json!({ "model": MODEL, "max_tokens": 50, "messages": [{ "role": "user", "content": message }] })
}

/// The same with other fields.
pub(crate) fn chat_with(message: &str, more: Value) -> Value {
    let mut body = chat(message);
    for (name, value) in more.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    body
}

/// The JSON of every frame of a stream, without `[DONE]`.
pub(crate) fn frames(body: &str) -> Vec<Value> {
    let data = body.split("\n\n").filter_map(|frame| frame.strip_prefix("data: "));
    data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).expect("a frame of JSON")).collect()
}

/// The configuration text of a test that reads it from a file.
pub(crate) fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("a file");
    path.display().to_string()
}
