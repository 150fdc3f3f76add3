//! A server that is an OpenID provider, people who are signed in there, and clients.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cfr_billing::audit_log::Act;
use cfr_billing::identity::User;
use cfr_billing::oidc::Client;
use cfr_billing::plan::Terms;
use cfr_core::id::ClientId;
use cfr_core::time::{Clock as _, ManualClock, SystemClock, TimeZone};
use cfr_server::config::Config;
use cfr_server::people::{Visitor, secret};
use cfr_server::router::router;
use cfr_server::seed;
use cfr_server::serve::{listen, serve};
use cfr_server::state::{App, Books};
use reqwest::header::HeaderMap;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) const CALLBACK: &str = "https://chat.example/oauth/oidc/login/callback";
pub(crate) const GOODBYE: &str = "https://chat.example/goodbye";
/// What a client keeps to prove that it asked for a code.
pub(crate) const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
/// The budget of a user, in nano-euro.
pub(crate) const BUDGET: i64 = 5_000_000_000;
const DRAIN: Duration = Duration::from_secs(10);
const FAKE: &str = "[[upstream]]\nname = \"fake\"\nkind = \"fake\"\nprovider = \"openai\"\n";

/// A running server.
#[derive(Debug)]
pub(crate) struct Site {
    _folder: TempDir,
    pub(crate) app: Arc<App>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) base: String,
    stop: CancellationToken,
    _serving: JoinSet<usize>,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Where a server will answer: what it is called is known before it starts.
#[derive(Debug)]
pub(crate) struct Door {
    listener: tokio::net::TcpListener,
    pub(crate) base: String,
}

impl Door {
    pub(crate) async fn open() -> Self {
        let listener = listen("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        Self { listener, base }
    }
}

/// A client with what it proves itself with.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub(crate) client: Client,
    pub(crate) secret: String,
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
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    #[track_caller]
    pub(crate) fn text(&self, member: &str) -> String {
        self.json()[member].as_str().unwrap_or_else(|| panic!("{member}: {self:?}")).to_owned()
    }

    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// An error in the words of OAuth.
    #[track_caller]
    pub(crate) fn is_error(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.json()["error"].as_str()), (status, Some(code)), "{self:?}");
    }

    pub(crate) fn location(&self) -> &str {
        self.headers.get("location").and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// A parameter of the address to which the browser is sent.
    pub(crate) fn sent(&self, name: &str) -> Option<String> {
        let (_, query) = self.location().split_once('?')?;
        form_urlencoded::parse(query.as_bytes()).find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
    }
}

impl Site {
    pub(crate) async fn start() -> Self {
        Self::start_at(Door::open().await, "", &|_| None).await
    }

    /// A server behind a door that is open already, with more of a configuration and these variables.
    pub(crate) async fn start_at(door: Door, more: &str, variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let issuer = door.base.clone();
        Self::start_as(door, &issuer, more, variable).await
    }

    /// The same for one of several that go by one address.
    pub(crate) async fn start_as(
        door: Door,
        issuer: &str,
        more: &str,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Self {
        let Door { listener, base } = door;
        let folder = tempfile::tempdir().expect("a folder");
        let text = format!("[server]\npublic_url = \"{issuer}\"\n{FAKE}{more}");
        let mut config = Config::parse(None, &text, variable).expect("a configuration");
        config.data = folder.path().join("data");
        let clock = Arc::new(ManualClock::new(SystemClock::new().now()));
        let books = Books::open(&config, Arc::clone(&clock) as _).await.expect("books");
        let app = Arc::new(App::new(config, books).await.expect("an app"));
        let stop = CancellationToken::new();
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, router(Arc::clone(&app)), stop.clone(), DRAIN));
        Self { _folder: folder, app, clock, base, stop, _serving: serving }
    }

    pub(crate) fn act(&self) -> Act {
        Act::of_system(self.clock.now())
    }

    /// A user of Acme with a budget.
    pub(crate) async fn user(&self, email: &str) -> User {
        let books = &self.app.books;
        let tenant = seed::tenant(books, "acme", "Acme", TimeZone::UTC).await.expect("a tenant");
        let [_, _, (_, enterprise)] = seed::products();
        let terms = Terms { budget_included_nanos: BUDGET, ..enterprise };
        let version = seed::product(books, "plan", terms).await.expect("a product");
        seed::user(books, tenant.id, email, "Ada", version.id).await.expect("a user")
    }

    /// The cookie line of a browser in which somebody has just signed in.
    pub(crate) async fn cookie(&self, user: &User) -> String {
        let people = &self.app.books.people;
        let opened = people.open_session_of(&Visitor::default(), user.clone(), &["pwd"]).await.expect("a session");
        format!("__Host-cfr={}", opened.secret.expose())
    }

    /// The tenant's own chat.
    pub(crate) async fn program(&self, user: &User) -> Program {
        self.program_with(user, |client| client).await
    }

    pub(crate) async fn program_with(&self, user: &User, with: impl FnOnce(Client) -> Client) -> Program {
        let now = self.clock.now();
        let client = with(Client {
            id: ClientId::generate(now),
            tenant: user.tenant,
            name: "Chat <b>".into(),
            redirect_uris: vec![CALLBACK.into()],
            post_logout_uris: vec![GOODBYE.into()],
            backchannel_uri: None,
            first_party: true,
            revoked_at: None,
            version: 1,
            created_at: now,
            updated_at: now,
        });
        let (text, hash) = secret::generate();
        self.app.books.store.add_client(&client, &hash, &self.act()).await.expect("a client");
        Program { client, secret: text.expose().to_owned() }
    }

    /// Everything that a client asks for, with changes: a value, or none to leave it out.
    pub(crate) async fn authorize(&self, program: &Program, cookie: &str, changes: &[(&str, &str)]) -> Seen {
        let id = program.client.id.to_string();
        let challenge = challenge(VERIFIER);
        let usual = [
            ("response_type", "code"),
            ("client_id", &id),
            ("redirect_uri", CALLBACK),
            ("scope", "openid email profile"),
            ("state", "my state"),
            ("nonce", "my nonce"),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        let kept = usual.iter().filter(|(name, _)| !changes.iter().any(|(changed, _)| changed == name));
        let query = encoded(kept.chain(changes.iter().filter(|(_, value)| !value.is_empty())).copied());
        self.get(&format!("/oauth/authorize?{query}"), &[("cookie", cookie)]).await
    }

    /// A code for somebody who is signed in.
    pub(crate) async fn code(&self, program: &Program, user: &User) -> String {
        let cookie = self.cookie(user).await;
        let seen = self.authorize(program, &cookie, &[]).await.is(303);
        seen.sent("code").unwrap_or_else(|| panic!("a code: {seen:?}"))
    }

    /// Redeems a code, with changes.
    pub(crate) async fn redeem(&self, program: &Program, code: &str, changes: &[(&str, &str)]) -> Seen {
        let usual = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", CALLBACK),
            ("code_verifier", VERIFIER),
        ];
        let kept = usual.iter().filter(|(name, _)| !changes.iter().any(|(changed, _)| changed == name));
        self.token(program, &kept.chain(changes).copied().collect::<Vec<_>>()).await
    }

    /// The tokens of somebody who has just signed in.
    pub(crate) async fn tokens(&self, program: &Program, user: &User) -> Seen {
        let code = self.code(program, user).await;
        self.redeem(program, &code, &[]).await.is(200)
    }

    pub(crate) async fn refresh(&self, program: &Program, token: &str) -> Seen {
        self.token(program, &[("grant_type", "refresh_token"), ("refresh_token", token)]).await
    }

    pub(crate) async fn token(&self, program: &Program, form: &[(&str, &str)]) -> Seen {
        self.submit_as(program, "/oauth/token", form).await
    }

    /// A form of a client that proves itself in the header.
    pub(crate) async fn submit_as(&self, program: &Program, path: &str, form: &[(&str, &str)]) -> Seen {
        let request = client().post(format!("{}{path}", self.base)).body(encoded(form.iter().copied()));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        see(request.basic_auth(program.client.id, Some(&program.secret))).await
    }

    pub(crate) async fn submit(&self, path: &str, headers: &[(&str, &str)], form: &[(&str, &str)]) -> Seen {
        let request = client().post(format!("{}{path}", self.base)).body(encoded(form.iter().copied()));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        see(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await
    }

    pub(crate) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Seen {
        let request = client().get(format!("{}{path}", self.base));
        see(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await
    }

    pub(crate) async fn userinfo(&self, token: &str) -> Seen {
        self.get("/oauth/userinfo", &[("authorization", &format!("Bearer {token}"))]).await
    }

    /// A chat call with a bearer token, and these headers.
    pub(crate) async fn chat(&self, token: &str, headers: &[(&str, &str)]) -> Seen {
        let body = r#"{"model": "gpt-4o-mini", "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]}"#;
        let request = client().post(format!("{}/v1/chat/completions", self.base)).bearer_auth(token);
        let request = request.header("content-type", "application/json").body(body);
        see(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await
    }

    /// How many events there are of an action.
    pub(crate) async fn told(&self, action: &str) -> usize {
        let filter = cfr_billing::audit_log::AuditFilter { action: Some(action.into()), ..Default::default() };
        self.app.books.store.audit_events(&filter, Default::default()).await.expect("a log").items.len()
    }
}

pub(crate) fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()))
}

pub(crate) fn encoded<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// The claims of a token, unproved.
pub(crate) fn claims(token: &str) -> Value {
    part(token, 1)
}

/// A part of a token.
pub(crate) fn part(token: &str, place: usize) -> Value {
    let text = token.split('.').nth(place).expect("three parts");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).expect("base64")).expect("JSON")
}

pub(crate) async fn see(request: reqwest::RequestBuilder) -> Seen {
    let response = request.send().await.expect("an answer");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Seen { status, headers, body: response.text().await.expect("a whole body") }
}

pub(crate) fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default(); // an error says that there is one already
    let redirects = reqwest::redirect::Policy::none();
    reqwest::Client::builder().no_proxy().redirect(redirects).build().expect("a client")
}
