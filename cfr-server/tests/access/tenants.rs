//! What a tenant's administrator and a user may do, and what the platform keeps to itself.

use axum::http::Method;
use cfr_billing::identity::Role;
use serde_json::{Value, json};

use super::api::{Answer, id};
use super::people::{Proof, World};

async fn send(world: &World, proof: &Proof, method: Method, target: &str, body: Value) -> Answer {
    world.ask(proof, method, target, &[], Some(body)).await
}

#[tokio::test]
async fn a_tenants_administrator_runs_the_tenant_within_its_budget() {
    let world = World::new().await;
    let admin = Proof::Session(world.signed_in(Role::TenantAdmin).await);
    let wish = json!({"tenant": "acme", "email": "new@acme.example", "product": "basic"});
    let user = send(&world, &admin, Method::POST, "/users", wish).await.created();
    let user = format!("/users/{}", id(&user));
    let suspended = send(&world, &admin, Method::PATCH, &user, json!({"status": "suspended"})).await.ok();
    assert_eq!(suspended["status"], "suspended");
    let budget = format!("/budgets/{}", world.own.budget);
    let limit = |amount: &str| json!({"limit": {"amount": amount, "currency": "EUR"}});
    send(&world, &admin, Method::PATCH, &budget, limit("100")).await.ok();
    send(&world, &admin, Method::PATCH, &budget, limit("100.01")).await.is_problem(422, "invalid");
    let raise = json!({"role": "admin"});
    send(&world, &admin, Method::PATCH, &user, raise).await.is_problem(422, "invalid");
    send(&world, &admin, Method::PATCH, "/tenants/acme", json!({"name": "Acme AG"})).await.ok();
    send(&world, &admin, Method::PATCH, "/tenants/acme", json!({"users_max": 9})).await.is_problem(422, "invalid");
    let foreign = json!({"tenant": "rival", "email": "spy@acme.example"});
    send(&world, &admin, Method::POST, "/users", foreign).await.is_problem(422, "invalid");
}

#[tokio::test]
async fn the_api_makes_nobody_an_administrator_of_the_platform() {
    let world = World::new().await;
    let wish = json!({"tenant": "acme", "email": "boss@acme.example", "role": "admin"});
    let refused = world.api.post("/users", wish).await;
    refused.is_problem(422, "invalid");
    assert!(refused.body["detail"].as_str().is_some_and(|detail| detail.contains("command line")), "{}", refused.body);
    let user = format!("/users/{}", world.own.user);
    world.api.patch(&user, json!({"role": "admin"})).await.is_problem(422, "invalid");
}

#[tokio::test]
async fn what_the_platform_earns_is_not_shown_to_its_customers() {
    let world = World::new().await;
    let product = world.api.get("/products/basic").await.ok();
    assert!(product["current"]["terms"]["margin_bps"].is_u64());
    let admin = Proof::Session(world.signed_in(Role::TenantAdmin).await);
    let shown = world.ask(&admin, Method::GET, "/products/basic", &[], None).await.ok();
    assert_eq!(shown["current"]["terms"].get("margin_bps"), None);
    assert_eq!(shown["current"].get("worst_case_contribution"), None);
}

#[tokio::test]
async fn a_session_needs_its_token_and_a_recent_proof() {
    let world = World::new().await;
    let secret = world.signed_in(Role::TenantAdmin).await;
    let cookie = format!("__Host-cfr={secret}");
    let body = json!({"name": "Acme"});
    let forged = world.api.send_as(None, Method::PATCH, "/tenants/acme", &[("cookie", &cookie)], Some(body)).await;
    assert_eq!(forged.status, 403, "{}", forged.body);
}

#[tokio::test]
async fn an_administrator_who_looks_like_a_user_sees_what_they_see_and_changes_nothing() {
    let world = World::new().await;
    let admin = Proof::Session(world.signed_in(Role::Admin).await);
    let whom = json!({"user": world.own.user});
    let begun = send(&world, &admin, Method::POST, "/impersonation", whom.clone()).await.created();
    assert_eq!(begun["user"], *world.own.user);
    let shown = world.ask(&admin, Method::GET, "/keys", &[], None).await;
    assert_eq!(shown.header("x-cfr-impersonating"), Some(&*world.own.user));
    let keys: Vec<_> = shown.body["items"].as_array().expect("a list").iter().map(|key| id(key).to_owned()).collect();
    assert_eq!(keys, std::slice::from_ref(&world.own.key));
    world.ask(&admin, Method::GET, "/tenants", &[], None).await.is_problem(403, "forbidden");
    let rename = json!({"name": "mine"});
    let key = format!("/keys/{}", world.own.key);
    send(&world, &admin, Method::PATCH, &key, rename).await.is_problem(403, "forbidden");
    assert_eq!(world.ask(&admin, Method::DELETE, "/impersonation", &[], None).await.status, 204);
    world.ask(&admin, Method::GET, "/tenants", &[], None).await.ok();
    let told = world.api.get("/audit-events?action=impersonation.").await.ok();
    let actions: Vec<_> = told["items"].as_array().expect("events").iter().map(|event| &event["action"]).collect();
    assert_eq!(actions, ["impersonation.ended", "impersonation.begun"]);
}
