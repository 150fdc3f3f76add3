//! A data folder with a configuration, tenants and keys. It outlives the servers that run on it.

use std::path::PathBuf;

use http::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::client::{Client, expect_status};
use super::oracle::Oracle;
use super::server::Server;

/// The operator's key, from the environment of each server.
pub const ADMIN_KEY: &str = "operator-key-of-the-tests";

/// A data folder and a configuration whose upstreams are an oracle.
#[derive(Debug)]
pub struct Site {
    folder: TempDir,
}

/// What a customer of a site has.
#[derive(Debug, Clone)]
pub struct Customer {
    /// What a client sends.
    pub key: String,
    /// The user's budget.
    pub budget: String,
}

impl Site {
    /// A new folder. `more` is added to the configuration: tables of other names than `money`, `upstream` and `model`.
    pub fn new(oracle: &Oracle, more: &str) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let config = configuration(oracle, more);
        std::fs::write(folder.path().join("cfr.toml"), config).expect("a file");
        Self { folder }
    }

    /// Starts a server on it.
    pub async fn serve(&self) -> Server {
        self.serve_through(&[]).await
    }

    /// The same through a program that becomes the server.
    pub async fn serve_through(&self, program: &[&str]) -> Server {
        let config = self.config();
        let (config, data) = (config.to_str().expect("UTF-8"), self.data());
        let data = data.to_str().expect("UTF-8");
        let arguments = ["serve", "--config", config, "--data", data, "--listen", "127.0.0.1:0"];
        Server::start_through(program, &arguments, &[("CFR_ADMIN_KEY", ADMIN_KEY)]).await
    }

    /// The configuration.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("cfr.toml")
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}

/// A configuration whose upstreams are an oracle. `more` is added to it.
pub fn configuration(oracle: &Oracle, more: &str) -> String {
    format!(
        r#"
[money]
currency = "EUR"
fx_usd_per_unit = "1.16"

[[upstream]]
name = "primary"
kind = "openai-compatible"
base_url = "{primary}"
provider = "openai"
expose = false

[[upstream]]
name = "backup"
kind = "openai-compatible"
base_url = "{backup}"
provider = "openai"
expose = false

[[model]]
name = "gpt-4o-mini"
targets = [{{ upstream = "primary", model = "gpt-4o-mini" }}]

[[model]]
name = "with-backup"
targets = [
  {{ upstream = "primary", model = "gpt-4o-mini" }},
  {{ upstream = "backup", model = "gpt-4o-mini", order = 1 }},
]

{more}
"#,
        primary = oracle.base_url("primary"),
        backup = oracle.base_url("backup"),
    )
}

/// The management API of a server.
pub fn admin(server: &Server) -> Client {
    server.client(ADMIN_KEY)
}

/// Makes a tenant, a product, a user whose budget is `limit_nanos` for all time, and a key.
pub async fn customer(server: &Server, name: &str, limit_nanos: i64, terms: Value) -> Customer {
    customer_of(&admin(server), name, limit_nanos, terms).await
}

/// The same with another operator's key.
pub async fn customer_of(admin: &Client, name: &str, limit_nanos: i64, terms: Value) -> Customer {
    let email = format!("{name}@example.org");
    create(admin, "/tenants", json!({"slug": name, "currency": "EUR"})).await;
    let mut product = json!({
        "name": name,
        "price": {"amount": "0", "currency": "EUR"},
        "budget": {"amount": decimal(limit_nanos), "currency": "EUR"},
        "period": {"kind": "never"},
        "models": ["*"],
    });
    for (field, value) in terms.as_object().into_iter().flatten() {
        product[field] = value.clone();
    }
    create(admin, "/products", json!({"code": name, "terms": product, "confirm_loss": true})).await;
    let user = create(admin, "/users", json!({"tenant": name, "email": email, "product": name})).await;
    let key = create(admin, "/keys", json!({"user": email, "name": "test"})).await;
    let budgets = admin.get("/api/v1/budgets").await.json();
    let own = budgets["items"].as_array().into_iter().flatten().find(|budget| budget["subject"] == user["id"]);
    let budget = own.unwrap_or_else(|| panic!("no budget of the user: {budgets}"))["id"].clone();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    Customer { key: text(&key["secret"]), budget: text(&budget) }
}

/// Limits a tenant or a product for all time; returns the budget's id.
pub async fn limit(server: &Server, scope: &str, subject: &str, limit_nanos: i64) -> String {
    let limit = json!({"amount": decimal(limit_nanos), "currency": "EUR"});
    let body = json!({"scope": scope, "subject": subject, "limit": limit, "period": {"kind": "never"}});
    let budget = create(&admin(server), "/budgets", body).await;
    budget["id"].as_str().expect("text").to_owned()
}

async fn create(admin: &Client, path: &str, body: Value) -> Value {
    let answer = admin.post(&format!("/api/v1{path}"), &body).await;
    expect_status(&answer, StatusCode::CREATED);
    answer.json()
}

/// Nano-euro as the API writes them.
fn decimal(nanos: i64) -> String {
    format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
}
