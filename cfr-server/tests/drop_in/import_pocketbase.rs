//! PocketBase's file, taken over.

use std::path::Path;

use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, raw_sql};
use tokio::process::Command;

use crate::support::chat;
use crate::world::World;

/// The key of a user there.
const KEY: &str = "sk-0123456789abcdef0123456789abcdef";

/// What PocketBase keeps, as its collections are made at the start of the stack.
const SOURCE: &str = r#"
CREATE TABLE tenants (id TEXT PRIMARY KEY, name TEXT, slug TEXT, domain TEXT, type TEXT, status TEXT, services JSON,
  billing_plan TEXT, max_users NUMERIC, created TEXT, updated TEXT);
CREATE TABLE products (id TEXT PRIMARY KEY, name TEXT, description TEXT, price NUMERIC, currency TEXT,
  budget_included NUMERIC, models JSON, features JSON, rate_limit NUMERIC, active BOOLEAN, created TEXT, updated TEXT);
CREATE TABLE users (id TEXT PRIMARY KEY, email TEXT, passwordHash TEXT, verified BOOLEAN, name TEXT, role TEXT, status TEXT,
  tenant_id TEXT, product_id TEXT, budget_total NUMERIC, budget_used NUMERIC, budget_remaining NUMERIC,
  budget_reset_date TEXT, litellm_api_key TEXT, created TEXT, updated TEXT);
CREATE TABLE usage_logs (id TEXT PRIMARY KEY, user_id TEXT, tenant_id TEXT, model TEXT, tokens_input NUMERIC,
  tokens_output NUMERIC, cost_total NUMERIC, timestamp TEXT);
INSERT INTO tenants VALUES ('ten000000000001', 'Acme GmbH', 'acme', 'acme.example', 'customer', 'active', '{"chat":true}',
  'starter', 10, '2025-01-01 10:00:00.000Z', '2025-01-01 10:00:00.000Z');
INSERT INTO products VALUES ('pro000000000001', 'Starter', 'For one', 9.99, 'EUR', 25.0, '["all"]', '["api_access"]', 120,
  1, '2025-01-01 10:00:00.000Z', '2025-01-01 10:00:00.000Z');
INSERT INTO users VALUES ('usr000000000001', 'ada@acme.example',
  '$2a$04$VTrMc0ESvxyoAqzB0PyzReIA/mdmHXYTpF9HhR0QrFpVSMU5qoH6W', 1, 'Ada', 'user', 'active', 'ten000000000001',
  'pro000000000001', 25.0, 3.1, 21.9, '2099-01-01 00:00:00.000Z', 'sk-0123456789abcdef0123456789abcdef', '', '');
INSERT INTO users VALUES ('usr000000000002', 'nobody@acme.example', '', 0, 'Nobody', 'user', 'pending', '', '', 0, 0, 0, '', '',
  '', '');
INSERT INTO usage_logs VALUES ('log000000000001', 'usr000000000001', 'ten000000000001', 'gpt-4o', 10, 20, 3.1, '');
"#;

async fn make(path: &Path) {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let mut connection = options.connect().await.expect("a file");
    raw_sql(SOURCE).execute(&mut connection).await.expect("a source");
    connection.close().await.expect("closed");
}

/// What the command reports.
async fn import(source: &Path, data: &Path, more: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cfr-server"));
    command.args(["import", "pocketbase"]).arg(source).arg("--data").arg(data).arg("--json").args(more);
    let output = command.output().await.expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn outcomes(report: &Value) -> Vec<(String, String)> {
    let items = report["items"].as_array().expect("rows");
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    items.iter().map(|line| (word(&line["kind"]), word(&line["outcome"]))).collect()
}

#[tokio::test]
async fn people_their_keys_and_what_is_left_of_their_budgets_come_along() {
    let world = World::in_folder(tempfile::tempdir().expect("a folder")).await;
    let admin = world.admin.clone();
    let folder = world.site.stop().await;
    let (source, data) = (folder.path().join("data.db"), folder.path().join("data"));
    make(&source).await;
    let rehearsed = import(&source, &data, &[]).await;
    assert_eq!(rehearsed["applied"], json!(false));
    let applied = import(&source, &data, &["--apply"]).await;
    let expected = [
        "tenants taken",
        "products taken",
        "subscriptions taken",
        "users taken",
        "budgets taken",
        "keys taken",
        "users left_out",
        "usage_logs left_out",
    ];
    let told = |report: &Value| {
        outcomes(report).into_iter().map(|(kind, outcome)| format!("{kind} {outcome}")).collect::<Vec<_>>()
    };
    assert_eq!(told(&rehearsed), expected, "{rehearsed}");
    assert_eq!(told(&applied), expected, "{applied}");
    let again = import(&source, &data, &["--apply"]).await;
    assert!(told(&again).iter().all(|line| !line.ends_with("taken")), "a second time changes nothing: {again}");

    let world = World { admin, ..World::in_folder(folder).await };
    let user = world.get("/api/collections/users/records/usr000000000001").await.json();
    assert_eq!(
        (&user["email"], &user["tenant_id"], &user["product_id"]),
        (&json!("ada@acme.example"), &json!("ten000000000001"), &json!("pro000000000001")),
        "{user}"
    );
    let numbers = ["budget_total", "budget_used", "budget_remaining"].map(|field| user[field].to_string());
    assert_eq!(numbers, ["25", "3.1", "21.9"]);
    assert_eq!(user["budget_reset_date"].as_str().map(str::len), Some("2099-01-01 00:00:00.000Z".len()));
    let tenant = world.get("/api/collections/tenants/records/ten000000000001").await.json();
    assert_eq!((&tenant["services"], &tenant["billing_plan"]), (&json!({"chat": true}), &json!("starter")), "{tenant}");
    let plan = &world.get("/api/v1/subscriptions").await.json()["items"][0];
    assert_eq!((&plan["product"], &plan["status"], &plan["seats"]), (&json!("starter"), &json!("active"), &json!(10)));
    let product = world.get("/api/collections/products/records/pro000000000001").await.json();
    assert_eq!(
        (product["price"].to_string(), product["budget_included"].to_string()),
        ("9.99".to_owned(), "25".to_owned())
    );
    assert_eq!(world.site.chat(KEY, &chat("Hello")).await.status, 200, "the old key works on");
    let checked = json!({"user_id": "usr000000000001", "model": "m", "estimated_cost": 22, "request_id": "r"});
    world.post("/api/check-budget", checked).await.is_error(402, "budget_exceeded");
    world.site.stop().await;
}

#[tokio::test]
async fn a_file_of_something_else_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("other.db");
    let options = SqliteConnectOptions::new().filename(&source).create_if_missing(true);
    options.connect().await.expect("a file").close().await.expect("closed");
    let world = World::in_folder(folder).await;
    let folder = world.site.stop().await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_cfr-server"));
    command.args(["import", "pocketbase"]).arg(&source).arg("--data").arg(folder.path().join("data"));
    let output = command.output().await.expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("no file of PocketBase"), "{said}");
}
