//! A server whose clock the test moves, and browsers with their cookies.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cfr_billing::audit_log::{Act, AuditFilter};
use cfr_billing::identity::{NewTenant, NewUser, Role, Tenant, TenantKind, TenantSettings, User, UserStatus};
use cfr_billing::people::Admission;
use cfr_billing::store::PageRequest;
use cfr_core::money::Currency;
use cfr_core::secret::Secret;
use cfr_core::time::{Clock as _, ManualClock, TimeZone, Timestamp};
use cfr_server::config::Config;
use cfr_server::people::People;
use cfr_server::router::router;
use cfr_server::secrets::Place;
use cfr_server::serve::{listen, serve};
use cfr_server::state::{App, Books};
use reqwest::Method;
use reqwest::header::{HeaderMap, SET_COOKIE};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use totp_rs::{Builder, Secret as Seed};

/// A password that is long enough and nobody's habit.
pub(crate) const PASSWORD: &str = "vurnaq-epsol-7kd-olmi";
/// Another one.
pub(crate) const OTHER: &str = "tibbar-quonsel-4xy-aru";
const DRAIN: Duration = Duration::from_secs(10);

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

impl Site {
    pub(crate) async fn start() -> Self {
        Self::start_with("").await
    }

    pub(crate) async fn start_with(text: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = Config::parse(None, text, &|_| None).expect("a configuration");
        config.data = folder.path().join("data");
        let noon = "2026-11-22T12:00:00Z".parse::<Timestamp>().expect("a time");
        let clock = Arc::new(ManualClock::new(noon));
        let books = Books::open(&config, Arc::clone(&clock) as _).await.expect("books");
        let app = Arc::new(App::new(config, books).await.expect("an app"));
        let listener = listen("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let stop = CancellationToken::new();
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, router(Arc::clone(&app)), stop.clone(), DRAIN));
        Self { _folder: folder, app, clock, base, stop, _serving: serving }
    }

    pub(crate) fn people(&self) -> &People {
        &self.app.books.people
    }

    pub(crate) fn act(&self) -> Act {
        Act::of_system(self.clock.now())
    }

    pub(crate) async fn tenant(&self, settings: TenantSettings) -> Tenant {
        let store = &self.app.books.store;
        if let Some(tenant) = store.tenant_by_slug("acme").await.expect("a store") {
            return tenant;
        }
        let new = NewTenant {
            slug: "acme".into(),
            name: "Acme".into(),
            domain: None,
            kind: TenantKind::Customer,
            users_max: None,
            zone: TimeZone::UTC,
            currency: Currency::EUR,
            settings,
        };
        store.create_tenant(&new, &self.act()).await.expect("a tenant")
    }

    /// A user with [`PASSWORD`].
    pub(crate) async fn user(&self, email: &str, role: Role) -> User {
        let hash = self.people().hash_password(&Secret::new(PASSWORD)).await.expect("a hash");
        self.admit(email, role, UserStatus::Active, Some(&hash)).await
    }

    /// A user whose password is kept so.
    pub(crate) async fn admit(&self, email: &str, role: Role, status: UserStatus, password: Option<&str>) -> User {
        let tenant = self.tenant(TenantSettings::default()).await.id;
        let (email, name) = (email.into(), "Ada Lovelace".into());
        let user = NewUser { tenant, email, name, role, product_version: None, locale: None };
        let admission = Admission {
            token: None,
            user,
            status,
            email_verified: true,
            password: password.map(Into::into),
            identity: None,
        };
        self.app.books.store.admit(&admission, &self.act()).await.expect("a user")
    }

    /// A browser that nobody used yet.
    pub(crate) fn browser(&self) -> Browser {
        Browser { base: self.base.clone(), cookies: Mutex::default(), csrf: Mutex::default() }
    }

    /// A browser in which this user has just signed in with [`PASSWORD`].
    pub(crate) async fn signed_in(&self, email: &str) -> Browser {
        let browser = self.browser();
        let seen = browser.sign_in(email, PASSWORD).await;
        assert_eq!(seen.json()["state"], "signed_in", "{seen:?}");
        browser
    }

    /// The token of the letter with this template that was written last.
    pub(crate) async fn letter(&self, template: &str) -> Option<String> {
        let books = &self.app.books;
        let now = self.clock.now();
        let mails = books.store.claim_mails(now, now + Duration::from_secs(1), 100).await.expect("a store");
        let mail = mails.into_iter().rfind(|mail| &*mail.template == template)?;
        let row = mail.id.to_string();
        let place = Place { table: "mails", row: &row, column: "values" };
        let values = books.vault.open(None, place, &mail.values).await.expect("sealed for this place");
        let values: Value = serde_json::from_slice(&values).expect("JSON");
        Some(values["token"].as_str().unwrap_or_default().to_owned())
    }

    /// The actions in the audit log that begin so, the newest first, each with what it tells.
    pub(crate) async fn events(&self, action: &str) -> Vec<(String, Value)> {
        let filter = AuditFilter { action: Some(action.into()), ..AuditFilter::default() };
        let page = PageRequest { after: None, limit: 100 };
        let events = self.app.books.store.audit_events(&filter, page).await.expect("a log").items;
        let told = |changes: &str| serde_json::from_str(changes).expect("JSON");
        events.iter().map(|event| (event.action.to_string(), told(&event.changes))).collect()
    }

    /// The code that an app with this seed shows now.
    pub(crate) fn code(&self, seed: &str) -> String {
        let second = u64::try_from(self.clock.now().as_second()).expect("after 1970");
        let seed = Seed::try_from_base32(seed).expect("base 32");
        Builder::new().with_secret(seed).build().expect("a seed").generate(second).to_string()
    }
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
    pub(crate) fn is(&self, status: u16) -> &Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn is_problem(&self, status: u16, code: &str) -> &Self {
        assert_eq!((self.status, self.json()["code"].as_str()), (status, Some(code)), "{self:?}");
        self
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// A browser: it keeps cookies, and its page keeps the token of the session.
#[derive(Debug)]
pub(crate) struct Browser {
    base: String,
    cookies: Mutex<BTreeMap<String, String>>,
    csrf: Mutex<String>,
}

impl Browser {
    pub(crate) async fn sign_in(&self, email: &str, password: &str) -> Seen {
        self.post("/auth/sign-in", json!({ "email": email, "password": password })).await
    }

    pub(crate) async fn get(&self, path: &str) -> Seen {
        self.send(Method::GET, path, None, &[]).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Seen {
        self.send(Method::POST, path, Some(body), &[]).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Seen {
        self.send(Method::PUT, path, Some(body), &[]).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Seen {
        self.send(Method::DELETE, path, None, &[]).await
    }

    /// Sends JSON, and these headers in place of those that it would send.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        headers: &[(&'static str, &str)],
    ) -> Seen {
        let body = body.map(|body| (body.to_string(), "application/json"));
        self.exchange(method, path, body, headers).await
    }

    /// Sends a form.
    pub(crate) async fn submit(&self, path: &str, fields: &[(&str, &str)]) -> Seen {
        let encode = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
        let pairs: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        let body = Some((pairs.join("&"), "application/x-www-form-urlencoded"));
        self.exchange(Method::POST, path, body, &[]).await
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<(String, &str)>,
        headers: &[(&'static str, &str)],
    ) -> Seen {
        let mut sent: BTreeMap<&str, String> = BTreeMap::new();
        sent.insert("cookie", self.cookie_line());
        sent.insert("x-csrf-token", self.csrf.lock().expect("no panic").clone());
        sent.insert("origin", self.base.clone());
        sent.extend(headers.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let mut request = client().request(method, format!("{}{path}", self.base));
        for (name, value) in sent.into_iter().filter(|(_, value)| !value.is_empty()) {
            request = request.header(name, value);
        }
        if let Some((body, kind)) = body {
            request = request.header("content-type", kind).body(body);
        }
        let response = request.send().await.expect("an answer");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let seen = Seen { status, headers, body: response.text().await.expect("a whole body") };
        self.keep(&seen);
        seen
    }

    fn keep(&self, seen: &Seen) {
        let mut cookies = self.cookies.lock().expect("no panic");
        for line in seen.headers.get_all(SET_COOKIE) {
            let line = line.to_str().expect("text");
            assert!(line.ends_with("; Secure; HttpOnly; SameSite=Lax") && line.contains("; Path=/; "), "{line}");
            let (name, value) = line.split(';').next().and_then(|pair| pair.split_once('=')).expect("a cookie");
            match value {
                "" => drop(cookies.remove(name)),
                value => drop(cookies.insert(name.to_owned(), value.to_owned())),
            }
        }
        if let Some(token) = serde_json::from_str::<Value>(&seen.body)
            .ok()
            .and_then(|body| body["csrf_token"].as_str().map(ToOwned::to_owned))
        {
            *self.csrf.lock().expect("no panic") = token;
        }
    }

    fn cookie_line(&self) -> String {
        let cookies = self.cookies.lock().expect("no panic");
        cookies.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }

    /// What a cookie holds; empty when there is none.
    pub(crate) fn cookie(&self, name: &str) -> String {
        self.cookies.lock().expect("no panic").get(name).cloned().unwrap_or_default()
    }

    /// Plants a cookie.
    pub(crate) fn set_cookie(&self, name: &str, value: &str) {
        self.cookies.lock().expect("no panic").insert(name.into(), value.into());
    }

    /// The token of the session that the page keeps.
    pub(crate) fn csrf(&self) -> String {
        self.csrf.lock().expect("no panic").clone()
    }

    /// Adds an app, and returns its seed and the recovery codes.
    pub(crate) async fn enrol(&self, site: &Site) -> (String, Vec<String>) {
        let begun = self.post("/auth/factors/totp", json!({})).await;
        let seed = begun.is(200).json()["secret"].as_str().expect("a seed").to_owned();
        let confirmed = self.post("/auth/factors/totp/confirm", json!({ "code": site.code(&seed) })).await;
        let codes = confirmed.is(200).json()["recovery_codes"].as_array().expect("codes").clone();
        (seed, codes.iter().map(|code| code.as_str().expect("text").to_owned()).collect())
    }
}

fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default(); // an error says that there is one already
    reqwest::Client::builder().no_proxy().build().expect("a client")
}
