//! Reports, exports, events, and what the law gives people.
#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot be set up fails")]

mod api;

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use self::api::{Api, MODEL, amount};

/// Three calls of Anna and one of Ben, booked.
async fn used(api: &Api) -> [api::Person; 2] {
    let anna = api.person("acme", "anna@acme.example").await;
    let user = json!({"tenant": "acme", "email": "ben@acme.example", "product": "basic"});
    api.post("/users", user).await.created();
    let key = api.post("/keys", json!({"user": "ben@acme.example", "name": "Ben's laptop"})).await.created();
    let secret = key["secret"].as_str().expect("a secret").to_owned();
    for secret in [&anna.secret, &anna.secret, &anna.secret, &secret] {
        assert_eq!(api.chat(secret).await.status, StatusCode::OK);
    }
    api.flush().await;
    let ben = api::Person { key: api::id(&key).to_owned(), secret, budget: String::new() };
    [anna, ben]
}

fn rows(listing: &Value) -> &Vec<Value> {
    listing["items"].as_array().expect("items")
}

#[tokio::test]
async fn a_report_is_the_sum_of_the_records_by_whatever_it_is_grouped() {
    let api = Api::new().await;
    used(&api).await;
    let records = api.get("/usage?tenant=acme").await.ok();
    let tokens: i64 = rows(&records).iter().filter_map(|record| record["usage"]["output_tokens"].as_i64()).sum();

    let whole = api.get("/reports/usage").await.ok();
    assert_eq!(rows(&whole).len(), 1, "one currency");
    assert_eq!((&whole["items"][0]["requests"], &whole["items"][0]["tokens_out"]), (&json!(4), &json!(tokens)));
    assert_eq!(whole["items"][0]["failed"], 0);
    assert!(whole["items"][0]["latency_ms"].is_i64() && whole["items"][0]["margin"].is_object(), "{whole}");

    let users = api.get("/reports/usage?tenant=acme&by=user,model").await.ok();
    let requests: Vec<&Value> = rows(&users).iter().map(|row| &row["requests"]).collect();
    assert_eq!(requests, [&json!(3), &json!(1)], "{users}");
    let anna = api.get("/reports/usage?user=anna@acme.example&by=day").await.ok();
    let balance = api.get("/reports/usage?user=anna@acme.example").await.ok();
    assert_eq!(anna["items"][0]["charged"], balance["items"][0]["charged"]);

    assert_eq!(api.get("/reports/usage?to=2020-01-01T00:00:00Z").await.ok()["items"], json!([]));
    api.get("/reports/usage?by=colour").await.is_problem(400, "bad_request");
    api.get("/reports/usage?user=nobody@acme.example").await.is_problem(404, "not_found");

    let analytics = api.get("/reports/analytics?tenant=acme").await.ok();
    assert_eq!((&analytics["active_users"], rows_of(&analytics, "models")), (&json!(2), 1));
    assert_eq!(analytics["total"], whole["items"]);
    assert_eq!((rows_of(&analytics, "days"), &analytics["days"][0]["requests"]), (1, &json!(4)));
}

#[tokio::test]
async fn what_a_key_or_a_model_did_is_found_alone() {
    let api = Api::new().await;
    let [anna, ben] = used(&api).await;
    let (anna, ben) = (anna.key, ben.key);
    for (filter, found) in [
        (format!("key={anna}"), 3),
        (format!("key={ben}"), 1),
        (format!("key={anna}&user=ben@acme.example"), 0),
        (format!("key={anna}&tenant=acme&model={MODEL}"), 3),
        (format!("model={MODEL}"), 4),
        (format!("model={MODEL}&to=2020-01-01T00:00:00Z"), 0),
        ("model=no-such-model".to_owned(), 0),
    ] {
        assert_eq!(rows(&api.get(&format!("/usage?{filter}")).await.ok()).len(), found, "{filter}");
    }
}

fn rows_of(body: &Value, list: &str) -> usize {
    body[list].as_array().expect("a list").len()
}

#[tokio::test]
async fn a_report_is_a_table_for_spreadsheets_too() {
    let api = Api::new().await;
    used(&api).await;
    let answer = api.get("/reports/usage?by=model&format=csv").await;
    assert_eq!(answer.header("content-type"), Some("text/csv; charset=utf-8"));
    assert_eq!(answer.header("content-disposition"), Some("attachment; filename=\"usage-report.csv\""));
    let text = answer.ok().as_str().expect("text").to_owned();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0].split(',').next(), Some("day"));
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[1].starts_with(&format!(",,,,{MODEL},4,0,")), "{text}");
}

#[tokio::test]
async fn every_record_and_every_event_is_in_its_file() {
    let api = Api::new().await;
    used(&api).await;
    let listed = api.get("/usage").await.ok();
    let text = api.get("/usage/export?format=jsonl").await.ok();
    let lines: Vec<Value> =
        text.as_str().expect("text").lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(&lines, rows(&listed), "the same records in the same order");
    let table = api.get("/usage/export").await.ok();
    assert_eq!(table.as_str().expect("text").lines().count(), 1 + lines.len());

    let events = api.get("/audit-events?limit=1000").await.ok();
    let text = api.get("/audit-events/export").await.ok();
    let lines: Vec<Value> =
        text.as_str().expect("text").lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(&lines, rows(&events));
    let table = api.get("/audit-events/export?format=csv&action=key.").await.ok();
    assert!(table.as_str().expect("text").lines().skip(1).all(|line| line.contains(",key.")), "{table}");
}

#[tokio::test]
async fn what_happens_is_told_as_it_happens() {
    let api = Api::new().await;
    let anna = api.person("acme", "anna@acme.example").await;
    let mut events = api.follow("/events").await;
    assert_eq!(api.chat(&anna.secret).await.status, StatusCode::OK);
    api.flush().await;
    let (name, usage) = events.next().await;
    assert_eq!((&*name, &usage["model"]), ("usage", &json!(MODEL)));
    api.post("/tenants", json!({"slug": "other"})).await.created();
    let (name, change) = events.next().await;
    assert_eq!((&*name, &change["action"]), ("change", &json!("tenant.created")));

    let mut resumed = api.follow_from("/events", &events.last_id).await;
    api.post(&format!("/keys/{}/revoke", anna.key), json!({})).await.ok();
    let (name, change) = resumed.next().await;
    assert_eq!((&*name, &change["action"]), ("change", &json!("key.revoked")), "nothing is told twice");
}

#[tokio::test]
async fn a_person_gets_everything_that_is_kept_of_them() {
    let api = Api::new().await;
    used(&api).await;
    let data = api.get("/users/anna@acme.example/export").await.ok();
    assert_eq!(data["profile"]["email"], "anna@acme.example");
    assert_eq!((rows_of(&data, "keys"), rows_of(&data, "budgets"), rows_of(&data, "usage")), (1, 1, 3));
    assert!(data["budgets"][0]["balance"]["settled"].is_object(), "{data}");
    assert!(data["keys"][0].get("secret").is_none(), "no secret is kept");
    assert_eq!(rows_of(&data, "audit_events"), 0, "she did nothing herself");
}

#[tokio::test]
async fn an_erased_person_leaves_money_and_an_id() {
    let api = Api::new().await;
    let [anna, _] = used(&api).await;
    let before = api.get("/reports/usage").await.ok();
    let user = api.get("/users/anna@acme.example").await.ok();
    let stale = [("if-match", "\"99\"")];
    let target = "/users/anna@acme.example/erase";
    api.send(Method::POST, target, &stale, None).await.is_problem(412, "stale");
    let erased = api.post(target, json!({})).await.ok();
    assert_eq!((&erased["status"], &erased["id"]), (&json!("erased"), &user["id"]));
    assert!(!erased.to_string().contains("anna@"), "{erased}");
    assert_eq!(api.chat(&anna.secret).await.status, StatusCode::UNAUTHORIZED);
    api.get("/users/anna@acme.example").await.is_problem(404, "not_found");
    assert_eq!(api.get("/reports/usage").await.ok(), before, "the books stay");
    let page = format!("/users/{}", erased["id"].as_str().expect("an id"));
    api.patch(&page, json!({"status": "active"})).await.is_problem(409, "conflict");
    for text in [api.get("/users").await.ok(), api.get("/audit-events?limit=1000").await.ok()] {
        assert!(!text.to_string().contains("anna@acme.example"), "{text}");
    }
    let ben = api.get("/users/ben@acme.example").await.ok();
    api.patch("/users/ben@acme.example", json!({"status": "erased"})).await.is_problem(422, "invalid");
    assert_eq!(api.get("/users/ben@acme.example").await.ok(), ben);
}

#[tokio::test]
async fn an_erased_tenant_is_closed_and_its_people_are_forgotten() {
    let api = Api::new().await;
    let [anna, ben] = used(&api).await;
    let service = json!({"tenant": "acme", "kind": "service", "name": "a robot"});
    let service = api.post("/keys", service).await.created();
    let erased = api.post("/tenants/acme/erase", json!({})).await.ok();
    assert_eq!(erased["status"], "deleted");
    let users = api.get("/users?tenant=acme").await.ok();
    assert!(rows(&users).iter().all(|user| user["status"] == "erased"), "{users}");
    for secret in [&*anna.secret, &*ben.secret, service["secret"].as_str().expect("a secret")] {
        assert_eq!(api.chat(secret).await.status, StatusCode::UNAUTHORIZED);
    }
    let sums = api.get("/reports/usage?by=tenant").await.ok();
    assert_eq!((rows(&sums).len(), &sums["items"][0]["requests"]), (1, &json!(4)));
    assert!(amount(&sums["items"][0]["charged"]).ends_with("EUR"));
    api.post("/tenants/acme/erase", json!({})).await.ok();
}
