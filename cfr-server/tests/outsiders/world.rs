//! A server over one of the databases, with something of every kind in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cfr_testbed::Postgres;
use http::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::client::{Client, expect_status};
use super::support::server::Server;
use super::support::site::ADMIN_KEY;

/// A built-in provider, and everything that is switched on by configuration.
const CONFIG: &str = r#"
[server]
public_url = "https://cfr.example"

[money]
currency = "EUR"
fx_usd_per_unit = "1.16"

[[upstream]]
name = "openai"
kind = "fake"
provider = "openai"
"#;
/// A model of the built-in provider.
const MODEL: &str = "gpt-4o-mini";
/// What the servers of a database hash keys with.
const PEPPER: &str = "pepper-of-the-tests-0123456789abcdef";

/// What secrets in their database are sealed under.
const MASTER_KEY: &str = "3f9a1c77e0524b8d96d1a2f4b85c6e0713da49f2c8b06e5197e4d3a2c1f08b56";

/// Where the books are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Database {
    Sqlite,
    Postgres,
}

/// A running server, and what is in it by the names that paths have for it.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) things: BTreeMap<&'static str, String>,
    /// A key of the tenant `acme` with every permission that a tenant can give.
    pub(crate) tenant_key: String,
    folder: TempDir,
}

impl World {
    pub(crate) async fn on(database: Database) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let config = folder.path().join("cfr.toml");
        std::fs::write(&config, CONFIG).expect("a file");
        let data = folder.path().join("data");
        let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
        let (config, data) = (text(&config), text(&data));
        let url = match database {
            Database::Sqlite => None,
            Database::Postgres => Some(Postgres::shared().await.database().await),
        };
        let mut environment =
            vec![("CFR_ADMIN_KEY", ADMIN_KEY), ("CFR_KEY_PEPPER", PEPPER), ("CFR_MASTER_KEY", MASTER_KEY)];
        environment.extend(url.as_deref().map(|url| ("CFR_DATABASE_URL", url)));
        let arguments = ["serve", "--config", &config, "--data", &data, "--listen", "127.0.0.1:0"];
        let server = Server::start(&arguments, &environment).await;
        let admin = server.client(ADMIN_KEY);
        let (things, tenant_key) = furnish(&admin, &server).await;
        Self { server, things, tenant_key, folder }
    }

    /// `http://…`, without a path.
    pub(crate) fn base(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// A place for files of the test.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// Makes something of every kind, and a key of a tenant.
async fn furnish(admin: &Client, server: &Server) -> (BTreeMap<&'static str, String>, String) {
    let product = create(admin, "/products", json!({"code": "basic", "terms": terms()})).await;
    for tenant in ["acme", "rival", "doomed"] {
        create(admin, "/tenants", json!({"slug": tenant, "name": "Tenant"})).await;
    }
    let user = json!({"tenant": "acme", "email": "anna@acme.example", "name": "Anna", "product": "basic"});
    let user = create(admin, "/users", user).await;
    create(admin, "/users", json!({"tenant": "rival", "email": "ben@rival.example", "product": "basic"})).await;
    create(admin, "/users", json!({"tenant": "doomed", "email": "dora@doomed.example"})).await;
    let key = create(admin, "/keys", json!({"user": "anna@acme.example", "name": "laptop"})).await;
    let pool = json!({"scope": "tenant", "subject": "acme", "limit": {"amount": "100", "currency": "EUR"}});
    let budget = create(admin, "/budgets", pool).await;
    let invitation = create(admin, "/invitations", json!({"tenant": "acme", "email": "new@acme.example"})).await;
    let account = json!({"name": "own", "provider": "openai", "secret": "sk-test"});
    let account = create(admin, "/provider-accounts", account).await;
    let program = json!({"tenant": "acme", "name": "Chat", "redirect_uris": ["https://chat.example/back"]});
    let program = create(admin, "/oidc-clients", program).await;
    let service = json!({"kind": "service", "tenant": "acme", "name": "script", "scopes": scopes()});
    let service = create(admin, "/keys", service).await;

    let caller = server.client(text(&key, "secret"));
    let body = json!({"model": MODEL, "max_tokens": 50, "messages": [{"role": "user", "content": "Hello"}]});
    expect_status(&caller.post("/v1/chat/completions", &body).await, StatusCode::OK);
    let made = [
        ("product", &product),
        ("user", &user),
        ("key", &key),
        ("budget", &budget),
        ("invitation", &invitation),
        ("account", &account),
        ("client", &program),
    ];
    let mut things: BTreeMap<_, _> = made.into_iter().map(|(name, made)| (name, text(made, "id").to_owned())).collect();
    things.insert("tenant", text(&user, "tenant").to_owned());
    (things, text(&service, "secret").to_owned())
}

fn terms() -> Value {
    json!({
        "name": "Basic",
        "price": {"amount": "20", "currency": "EUR"},
        "budget": {"amount": "10", "currency": "EUR"},
        "period": {"kind": "calendar_month"},
        "models": ["*"],
        "features": ["api_access"],
    })
}

/// Every permission that a service key may have.
fn scopes() -> Vec<&'static str> {
    use cfr_server::auth::access::{Holder, Permissions};
    Permissions::of(Holder::Service).iter().map(|scope| scope.name()).collect()
}

/// Makes something.
pub(crate) async fn create(admin: &Client, path: &str, body: Value) -> Value {
    let answer = admin.post(&format!("/api/v1{path}"), &body).await;
    expect_status(&answer, StatusCode::CREATED);
    answer.json()
}

pub(crate) fn text<'a>(thing: &'a Value, field: &str) -> &'a str {
    thing[field].as_str().unwrap_or_else(|| panic!("no {field}: {thing}"))
}

/// A tool from the environment, or from where `scripts/test` puts it.
pub(crate) fn tool(variable: &str, place: &str, name: &str) -> PathBuf {
    let usual = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-tools").join(place);
    let path = std::env::var_os(variable).map_or_else(usual, PathBuf::from);
    assert!(path.exists(), "{name} is missing: run scripts/test, which installs it, or set {variable}");
    path
}
