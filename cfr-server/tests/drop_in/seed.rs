//! The billing API: asked before a call, told afterwards.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::MODEL;
use crate::world::{ADA, World};

/// A wish for a call of Ada's that costs at most so much.
fn wish(request_id: &str, cost: Value) -> Value {
    json!({"user_id": ADA, "model": MODEL, "estimated_cost": cost, "request_id": request_id})
}

#[tokio::test]
async fn a_hold_is_settled_once_and_the_rest_goes_back() {
    let world = World::with_ada().await;
    let allowed = world.post("/api/check-budget", wish("r-1", json!(0.5))).await;
    assert_eq!(allowed.status, 200, "{}", allowed.body);
    let answer = allowed.json();
    assert_eq!((&answer["allowed"], &answer["advisory"]), (&json!(true), &json!(false)));
    assert_eq!(world.available().await, "9.5");
    let again = world.post("/api/check-budget", wish("r-1", json!(0.5))).await.json();
    assert_eq!(again["hold_id"], answer["hold_id"], "the same question has the same answer");
    let other = world.post("/api/check-budget", wish("r-1", json!(0.6))).await;
    other.is_error(409, "request_id_reused");
    let told = json!({"user_id": ADA, "request_id": "r-1", "model": MODEL, "prompt_tokens": 12, "completion_tokens": 34,
        "cost_total": "0.2"});
    for duplicate in [false, true] {
        let logged = world.post("/api/usage/log", told.clone()).await;
        assert_eq!(logged.status, 200, "{}", logged.body);
        let logged = logged.json();
        assert_eq!(logged["duplicate"], json!(duplicate));
        assert_eq!((logged["cost_total"].to_string(), &logged["usage_source"]), ("0.2".to_owned(), &json!("external")));
        assert_eq!((&logged["tokens_input"], &logged["tokens_output"]), (&json!(12), &json!(34)));
    }
    assert_eq!(world.available().await, "9.8");
    world.site.stop().await;
}

#[tokio::test]
async fn what_the_budget_does_not_have_is_not_held() {
    let world = World::with_ada().await;
    let denied = world.post("/api/check-budget", wish("r-1", json!(10.5))).await;
    let error = denied.is_error(402, "budget_exceeded");
    assert_eq!((&denied.json()["allowed"], &error["available"]), (&json!(false), &json!("10")));
    assert_eq!(world.available().await, "10");
    world.site.stop().await;
}

#[tokio::test]
async fn who_asks_without_an_id_gets_advice_and_holds_nothing() {
    let world = World::with_ada().await;
    let advised = world.post("/api/check-budget", json!({"user_id": ADA, "model": MODEL, "estimated_cost": 1})).await;
    assert_eq!((advised.status, &advised.json()["advisory"]), (200, &json!(true)), "{}", advised.body);
    assert_eq!(world.available().await, "10");
    let asked = json!({"user_id": ADA, "model": MODEL, "reserve": true});
    world.post("/api/check-budget", asked).await.is_error(422, "invalid");
    world.site.stop().await;
}

#[tokio::test]
async fn tokens_are_held_at_the_dearest_and_charged_at_their_price() {
    let world = World::with_ada().await;
    let asked = json!({"user_id": ADA, "model": MODEL, "tokens": 1_000_000, "request_id": "r-1"});
    let held = world.post("/api/check-budget", asked).await.json();
    let told = json!({"hold_id": held["hold_id"], "tokens_input": 400_000, "tokens_output": 600_000});
    let logged = world.post("/api/usage/log", told).await.json();
    let (held, charged) = (&held["estimated_cost"], &logged["cost_total"]);
    let number = |value: &Value| value.to_string().parse::<rust_decimal::Decimal>().expect("a number");
    assert!(number(charged) > rust_decimal::Decimal::ZERO && number(charged) <= number(held), "{charged} of {held}");
    let unknown = json!({"user_id": ADA, "model": "nobody-knows", "tokens": 10, "request_id": "r-2"});
    world.post("/api/check-budget", unknown).await.is_error(400, "model_not_priced");
    world.site.stop().await;
}

#[tokio::test]
async fn a_hold_outlasts_the_process_that_made_it() {
    let world = World::with_ada().await;
    let held = world.post("/api/check-budget", wish("r-1", json!(4))).await.json();
    let world = world.restarted().await;
    assert_eq!(world.available().await, "6");
    let told = json!({"hold_id": held["hold_id"], "cost_total": 1});
    assert_eq!(world.post("/api/usage/log", told).await.json()["recorded"], json!(true));
    assert_eq!(world.available().await, "9");
    world.site.stop().await;
}

#[tokio::test]
async fn what_nobody_asked_for_is_charged_and_no_customer_above_the_limit() {
    let world = World::with_ada().await;
    let told =
        |id: &str, cost: i64| json!({"user_id": ADA, "request_id": id, "model": "somewhere/else", "cost_total": cost});
    let first = world.post("/api/usage/log", told("a", 7)).await.json();
    assert_eq!((first["cost_total"].to_string(), first["overrun"].to_string()), ("7".to_owned(), "0".to_owned()));
    let beyond = world.post("/api/usage/log", told("b", 5)).await.json();
    assert_eq!((beyond["cost_total"].to_string(), beyond["overrun"].to_string()), ("3".to_owned(), "2".to_owned()));
    let nothing = world.post("/api/usage/log", told("c", 1)).await.json();
    assert_eq!((nothing["cost_total"].to_string(), nothing["overrun"].to_string()), ("0".to_owned(), "1".to_owned()));
    world.site.app.books.escrow.flush().await.expect("written");
    assert_eq!(world.site.app.books.store.audit().await.expect("read"), [], "the books agree");
    let unpriced = json!({"user_id": ADA, "request_id": "d", "model": "nobody-knows", "tokens_input": 1});
    world.post("/api/usage/log", unpriced).await.is_error(400, "model_not_priced");
    world.site.stop().await;
}

#[tokio::test]
async fn a_call_whose_cost_nobody_tells_costs_all_that_was_held() {
    let world = World::with_ada().await;
    let held = world.post("/api/check-budget", wish("r-1", json!(2))).await.json();
    let logged = world.post("/api/usage/log", json!({"hold_id": held["hold_id"]})).await.json();
    assert_eq!((logged["cost_total"].to_string(), &logged["usage_source"]), ("2".to_owned(), &json!("estimated")));
    world.site.stop().await;
}

#[tokio::test]
async fn a_service_key_reaches_its_own_tenant_and_what_its_scopes_say() {
    let world = World::with_ada().await;
    let own = world.service_key("acme", &["usage:write", "users:read"]).await;
    let foreign = world.service_key("globex", &["usage:write", "users:read"]).await;
    let silent = world.service_key("acme", &[]).await;
    let asked = wish("r-1", json!(1)).to_string();
    assert_eq!(world.site.post("/api/check-budget", &own, asked.clone()).await.status, 200);
    world.site.post("/api/check-budget", &foreign, asked.clone()).await.is_error(404, "user_not_found");
    world.site.post("/api/check-budget", &silent, asked).await.is_error(403, "missing_scope");
    let told = json!({"user_id": ADA, "request_id": "r-1", "model": MODEL, "cost_total": 1}).to_string();
    world.site.post("/api/usage/log", &foreign, told).await.is_error(404, "user_not_found");
    assert_eq!(world.site.get("/api/users", &foreign).await.json()["users"], json!([]));
    world
        .site
        .post("/api/users", &own, json!({"email": "x@example.org"}).to_string())
        .await
        .is_error(403, "missing_scope");
    world.site.stop().await;
}

#[tokio::test]
async fn users_are_made_with_a_key_and_their_budgets_set_and_reset() {
    let world = World::with_ada().await;
    let wish = json!({"email": "grace@example.org", "name": "Grace", "tenant_id": "acme", "product_id": "plan-ada"});
    let made = world.post("/api/users", wish).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let made = made.json();
    assert!(made["litellm_api_key"].as_str().is_some_and(|key| key.starts_with("cfr_live_")), "{made}");
    let path = format!("/api/users/{}", made["id"].as_str().expect("an id"));
    let set = world.send(Method::PUT, &format!("{path}/budget"), json!({"budget_total": 20})).await.json();
    assert_eq!(set["budget_total"].to_string(), "20", "{set}");
    let told = json!({"user_id": "grace@example.org", "request_id": "g", "model": "x", "cost_total": 15});
    world.post("/api/usage/log", told).await;
    for _ in 0..2 {
        let reset = world.post(&format!("{path}/reset-budget"), json!({})).await.json();
        assert_eq!(reset["budget_available"].to_string(), "20", "a second time grants nothing: {reset}");
    }
    let moved = json!({"budget_total": 20, "budget_reset_date": "2030-01-01"});
    world.send(Method::PUT, &format!("{path}/budget"), moved).await.is_error(422, "invalid");
    world.site.stop().await;
}
