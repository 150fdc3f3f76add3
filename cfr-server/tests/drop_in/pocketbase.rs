//! PocketBase's collections, to be read.

use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{ADA, World};

#[tokio::test]
async fn collections_are_read_by_page_and_filter() {
    let world = World::with_ada().await;
    let told = json!({"user_id": ADA, "request_id": "r", "model": "m", "tokens_input": 3, "cost_total": 0.25});
    assert_eq!(world.post("/api/usage/log", told).await.status, 200);
    let tenants = world.get("/api/collections/tenants/records").await.json();
    assert_eq!((&tenants["totalItems"], &tenants["page"], &tenants["perPage"]), (&json!(1), &json!(1), &json!(30)));
    let tenant = &tenants["items"][0];
    assert_eq!((&tenant["slug"], &tenant["collectionName"]), (&json!("acme"), &json!("tenants")));
    let filter = format!("?filter=(email%3D'{ADA}'%20%26%26%20tenant_id%3D'{}')", text(&tenant["id"]));
    let users = world.get(&format!("/api/collections/users/records{filter}")).await.json();
    let user = &users["items"][0];
    assert_eq!((&user["email"], user["budget_used"].to_string()), (&json!(ADA), "0.25".to_owned()), "{users}");
    let logs = format!("/api/collections/usage_logs/records?filter=(user_id%3D'{}')&sort=-created", text(&user["id"]));
    let logs = world.get(&logs).await.json();
    assert_eq!((&logs["totalItems"], &logs["items"][0]["cost_total"]), (&json!(-1), &json!("0.25")), "{logs}");
    let one = world.get(&format!("/api/collections/usage_logs/records/{}", text(&logs["items"][0]["id"]))).await.json();
    assert_eq!(one["tokens_input"], json!(3));
    let none = world.get("/api/collections/users/records?filter=(status%3D'pending')").await.json();
    assert_eq!((&none["items"], &none["totalItems"]), (&json!([]), &json!(0)));
    world.site.stop().await;
}

#[tokio::test]
async fn nothing_is_written_there_and_nothing_is_shown_by_mistake() {
    let world = World::with_ada().await;
    let refused = world.send(Method::POST, "/api/collections/users/records", json!({})).await;
    assert_eq!(refused.status, 405);
    assert!(refused.json()["message"].as_str().is_some_and(|text| text.contains("/api/v1/users")), "{}", refused.body);
    for bad in ["users/records?filter=(status~'a')", "users/records?sort=name", "users/records?page=100000"] {
        assert_eq!(world.get(&format!("/api/collections/{bad}")).await.status, 400, "{bad}");
    }
    assert_eq!(world.get("/api/collections/secrets/records").await.status, 404);
    let foreign = world.service_key("globex", &["users:read", "tenants:read"]).await;
    let seen = world.site.get("/api/collections/users/records", &foreign).await.json();
    assert_eq!(seen["items"], json!([]), "{seen}");
    world.site.stop().await;
}

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}
