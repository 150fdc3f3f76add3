//! The management API as the command line sees it: a running server, or the data folder without one.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use cfr_billing::store::ONE_LIFE_PREFIX;
use cfr_core::secret::Secret;
use cfr_store_sqlite::OpenError;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderName, Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

use super::error::CliError;
use super::{Connection, local};
use crate::api;
use crate::api::problem::{FieldError, Problem};
use crate::config::Config;
use crate::demo::{CARD_FILE, Card};
use crate::error::APPLICATION_JSON;
use crate::seed::ADMIN_KEY_FILE;
use crate::state::{Books, StartError};

/// Things that have a `list` command.
const LISTED: [&str; 7] = ["tenant", "product", "user", "invitation", "key", "budget", "node"];

/// Something that answers the management API.
#[derive(Debug)]
pub(crate) enum Client {
    /// A running server.
    Remote {
        /// Its address, without the API's path.
        base: String,
        /// Opens the API.
        key: Secret,
        /// Carries the calls.
        http: reqwest::Client,
    },
    /// The data folder, opened by this process.
    Local {
        /// The API without a socket.
        router: Router,
        /// To be closed at the end.
        books: Box<Books>,
    },
}

/// One call of the API.
#[derive(Debug)]
pub(crate) struct Call {
    method: Method,
    target: String,
    headers: Vec<(HeaderName, String)>,
    body: Option<Bytes>,
}

impl Call {
    /// A call of `/api/v1` and these segments, which may hold anything.
    pub(crate) fn new(method: Method, segments: &[&str]) -> Self {
        let path: String = segments.iter().map(|segment| format!("/{}", encode(segment))).collect();
        Self { method, target: format!("{}{path}", api::BASE_PATH), headers: Vec::new(), body: None }
    }

    /// `GET`.
    pub(crate) fn get(segments: &[&str]) -> Self {
        Self::new(Method::GET, segments)
    }

    /// `POST` with a JSON body.
    pub(crate) fn post(segments: &[&str], body: &Value) -> Self {
        Self::new(Method::POST, segments).body(body.to_string())
    }

    /// `PATCH` with a JSON body.
    pub(crate) fn patch(segments: &[&str], body: &Value) -> Self {
        Self::new(Method::PATCH, segments).body(body.to_string())
    }

    /// The same with a parameter in its query, unless that is absent.
    pub(crate) fn query(mut self, name: &str, value: Option<impl AsRef<str>>) -> Self {
        if let Some(value) = value {
            let glue = if self.target.contains('?') { '&' } else { '?' };
            self.target = format!("{}{glue}{name}={}", self.target, encode(value.as_ref()));
        }
        self
    }

    /// The same with a header.
    pub(crate) fn header(mut self, name: HeaderName, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The same with a JSON body.
    pub(crate) fn body(self, body: impl Into<Bytes>) -> Self {
        Self { body: Some(body.into()), ..self }
    }
}

impl Client {
    /// The server if one is named, else the data folder, else the demo that runs on it.
    ///
    /// # Errors
    /// When nothing answers, with what to do about it.
    pub(crate) async fn connect(connection: Connection) -> Result<Self, CliError> {
        let Connection { server, admin_key, data, database, config, .. } = connection;
        if let Some(base) = server {
            let missing =
                || CliError::misused("a server needs an admin key: give it with --admin-key or CFR_ADMIN_KEY");
            return Self::remote(base, admin_key.ok_or_else(missing)?);
        }
        let environment = |name: &str| std::env::var(name).ok();
        let mut config = Config::load_without_keys(config.as_deref(), &environment).map_err(StartError::from)?;
        config.data = data.unwrap_or(config.data);
        if let Some(url) = database {
            config.use_database(&url).map_err(StartError::from)?;
        }
        if config.database_url().is_shared() {
            config.ledger.node = Some(own_node());
        }
        let config = Arc::new(config);
        match local::open(&config).await {
            Ok((router, books)) => Ok(Self::Local { router, books: Box::new(books) }),
            Err(CliError::Start(StartError::Open { source: OpenError::InUse { holder, .. }, .. })) => {
                Self::running(&config, &holder, admin_key)
            }
            Err(error) => Err(error),
        }
    }

    fn remote(base: String, key: Secret) -> Result<Self, CliError> {
        let _ = rustls::crypto::ring::default_provider().install_default(); // an error says that there is one already
        let builder = reqwest::Client::builder();
        let builder = if is_loopback(&base) { builder.no_proxy() } else { builder };
        let http = builder.build().map_err(|error| CliError::Unreachable(error.to_string().into()))?;
        Ok(Self::Remote { base: base.trim_end_matches('/').to_owned(), key, http })
    }

    /// A server owns the folder. The demo says where it listens; another one does what the configuration says.
    /// Whoever can read the folder may use its first admin key.
    fn running(config: &Config, holder: &str, key: Option<Secret>) -> Result<Self, CliError> {
        let card = std::fs::read(config.data.join(CARD_FILE)).ok();
        let card = card.and_then(|bytes| serde_json::from_slice::<Card>(&bytes).ok());
        if let Some(card) = card {
            return Self::remote(card.base_url, key.unwrap_or_else(|| Secret::new(card.admin_key)));
        }
        let first_key = || std::fs::read_to_string(config.data.join(ADMIN_KEY_FILE)).ok();
        if let Some(key) = key.or_else(|| first_key().map(|text| Secret::new(text.trim()))) {
            return Self::remote(format!("http://{}", config.listen), key);
        }
        let (data, listen) = (config.data.display(), &config.listen);
        let hint = format!("if that is a server, ask it with --server http://{listen} and --admin-key");
        Err(CliError::Unreachable(format!("{data} is in use by process {holder}: {hint}").into()))
    }

    /// Asks, and returns the JSON of the answer.
    ///
    /// # Errors
    /// What the API refuses, in one line.
    pub(crate) async fn send(&self, call: Call) -> Result<Value, CliError> {
        let (status, body) = match self {
            Self::Remote { base, key, http } => send_remote(base, key, http, call).await?,
            Self::Local { router, .. } => send_local(router.clone(), call).await?,
        };
        if status.is_success() {
            let garbled = |error| CliError::Unreachable(format!("the answer is not JSON: {error}").into());
            return serde_json::from_slice(&body).map_err(garbled);
        }
        Err(CliError::Refused(explain(status, &body).into()))
    }

    /// Writes what is open and closes the data folder.
    ///
    /// # Errors
    /// When the last entries cannot be written.
    pub(crate) async fn close(self) -> Result<(), CliError> {
        match self {
            Self::Remote { .. } => Ok(()),
            Self::Local { router, books } => {
                drop(router);
                Ok(books.close().await?)
            }
        }
    }
}

/// A command is a node of its own beside the servers that share the database.
fn own_node() -> Arc<str> {
    format!("{ONE_LIFE_PREFIX}{:016x}", rand::random::<u64>()).into()
}

async fn send_remote(
    base: &str,
    key: &Secret,
    http: &reqwest::Client,
    call: Call,
) -> Result<(StatusCode, Bytes), CliError> {
    let url = format!("{base}{}", call.target);
    let mut request = http.request(call.method, &url).header(AUTHORIZATION, format!("Bearer {}", key.expose()));
    for (name, value) in call.headers {
        request = request.header(name, value);
    }
    if let Some(body) = call.body {
        request = request.header(CONTENT_TYPE, APPLICATION_JSON).body(body);
    }
    let lost = |error: reqwest::Error| {
        let hint = match error.is_builder() {
            true => "not an address, as in http://127.0.0.1:4000",
            false => "is the server running there? Name another with --server",
        };
        CliError::Unreachable(format!("no answer from {base}: {hint}").into())
    };
    let answer = request.send().await.map_err(lost)?;
    let status = answer.status();
    Ok((status, answer.bytes().await.map_err(lost)?))
}

async fn send_local(router: Router, call: Call) -> Result<(StatusCode, Bytes), CliError> {
    let mut request = Request::builder().method(call.method).uri(call.target);
    for (name, value) in call.headers {
        request = request.header(name, value);
    }
    if call.body.is_some() {
        request = request.header(CONTENT_TYPE, APPLICATION_JSON);
    }
    let request = request.body(Body::from(call.body.unwrap_or_default())).map_err(CliError::misused)?;
    let Ok(answer) = router.oneshot(request).await;
    let status = answer.status();
    let lost = |error: axum::Error| CliError::Unreachable(error.to_string().into());
    Ok((status, answer.into_body().collect().await.map_err(lost)?.to_bytes()))
}

/// The problem in one line; a field is called by its name.
fn explain(status: StatusCode, body: &[u8]) -> String {
    let Ok(problem) = serde_json::from_slice::<Problem>(body) else {
        return format!("the server answers {status}: is it the management API of cfr-server?");
    };
    if status == StatusCode::UNAUTHORIZED {
        return "the server does not know this admin key: give the right one with --admin-key or CFR_ADMIN_KEY".into();
    }
    if problem.errors.is_empty() {
        return with_next_step(&problem.detail);
    }
    problem.errors.iter().map(in_words).collect::<Vec<_>>().join("; ")
}

fn in_words(error: &FieldError) -> String {
    match error.field.as_str() {
        "confirm_loss" => format!("{} (--confirm-loss)", error.message.replace(": set it to true", ": confirm it")),
        field => format!("{field}: {}", with_next_step(&error.message)),
    }
}

/// Whoever names a thing that does not exist wants to see those that do.
fn with_next_step(message: &str) -> String {
    match message.strip_prefix("no such ") {
        Some(noun) if LISTED.contains(&noun) => format!("{message}; `cfr-server {noun} list` shows them all"),
        _ => message.to_owned(),
    }
}

fn is_loopback(base: &str) -> bool {
    let host = base.split_once("://").map_or(base, |(_, rest)| rest);
    ["127.", "localhost", "[::1]", "0.0.0.0"].iter().any(|local| host.starts_with(local))
}

/// Percent-encoding of everything that is not unreserved (RFC 3986 §2.3).
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_and_queries_may_hold_anything() {
        let call =
            Call::get(&["prices", "together", "meta/llama 3"]).query("user", Some("ä@x")).query("key", None::<&str>);
        assert_eq!(
            call.query("limit", Some("5")).target,
            "/api/v1/prices/together/meta%2Fllama%203?user=%C3%A4%40x&limit=5"
        );
    }

    #[test]
    fn a_refusal_is_one_line() {
        let problem = Problem::invalid(vec![FieldError::new("slug", "too short"), FieldError::new("name", "empty")]);
        let body = serde_json::to_vec(&problem).expect("JSON");
        assert_eq!(explain(StatusCode::UNPROCESSABLE_ENTITY, &body), "slug: too short; name: empty");
        assert!(explain(StatusCode::BAD_GATEWAY, b"<html>").contains("502"));
    }
}
