//! Subscriptions, leads, and large amounts that wait for a second person.

use axum::http::Method;
use cfr_billing::identity::Role;
use serde_json::{Value, json};

use super::api::{Answer, Api, id};
use super::people::{Proof, World};

/// What one person may grant alone in these tests, in nano-units: 1000 of the budget's currency.
const ALONE: i64 = 1_000_000_000_000;

async fn send(world: &World, proof: &Proof, method: Method, target: &str, body: Value) -> Answer {
    world.ask(proof, method, target, &[], Some(body)).await
}

async fn secret_of(world: &World) -> String {
    let key = world.api.post("/keys", json!({"user": world.own.user, "name": "phone"})).await.created();
    key["secret"].as_str().expect("a secret").to_owned()
}

fn code(answer: &Answer) -> (u16, &str) {
    (answer.status.as_u16(), answer.body["error"]["code"].as_str().unwrap_or_default())
}

#[tokio::test]
async fn models_are_answered_as_long_as_the_terms_of_a_subscription_hold() {
    let world = World::new().await;
    let secret = secret_of(&world).await;
    let wish = json!({"tenant": "acme", "product": "basic", "seats": 5, "payment_mode": "invoice"});
    let made = world.api.post("/subscriptions", wish.clone()).await.created();
    assert_eq!((&made["status"], &made["product"], &made["version"]), (&json!("active"), &json!("basic"), &json!(1)));
    assert!(made["current_period"]["start"].is_string(), "{made}");
    world.api.post("/subscriptions", wish.clone()).await.is_problem(409, "conflict");
    let path = format!("/subscriptions/{}", id(&made));
    let to = |status: &str| json!({ "status": status });
    assert_eq!(world.api.chat(&secret).await.status, 200);
    let late = world.api.patch(&path, to("past_due")).await.ok();
    assert!(late["grace_ends_at"].is_string(), "{late}");
    assert_eq!(world.api.chat(&secret).await.status, 200);
    world.api.patch(&path, to("unpaid")).await.ok();
    assert_eq!(code(&world.api.chat(&secret).await), (403, "subscription_unpaid"));
    world.api.patch(&path, to("past_due")).await.is_problem(409, "conflict");
    world.api.patch(&path, to("active")).await.ok();
    assert_eq!(world.api.chat(&secret).await.status, 200);
    let stale = world.api.send(Method::PATCH, &path, &[("if-match", "\"1\"")], Some(to("canceled"))).await;
    stale.is_problem(412, "stale");
    let noticed = world.api.patch(&path, json!({"cancel_at_period_end": true})).await.ok();
    assert_eq!(noticed["cancel_at"], noticed["current_period"]["end"]);
    assert_eq!(world.api.chat(&secret).await.status, 200);
    world.api.patch(&path, to("canceled")).await.ok();
    assert_eq!(code(&world.api.chat(&secret).await), (403, "subscription_ended"));
    world.api.patch(&path, to("active")).await.is_problem(409, "conflict");
    world.api.post("/subscriptions", wish).await.created();
    assert_eq!(world.api.chat(&secret).await.status, 200);
    let ended = world.api.get("/subscriptions?tenant=acme&status=canceled").await.ok();
    assert_eq!(ended["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_users_subscription_says_their_terms() {
    let world = World::new().await;
    let mut pro = super::api::product("pro", "90", "50");
    pro["terms"]["features"] = json!(["api_access"]);
    world.api.post("/products", pro).await.created();
    let made = world.api.post("/subscriptions", json!({"user": world.own.user, "product": "basic"})).await.created();
    let user = format!("/users/{}", world.own.user);
    world.api.patch(&user, json!({"product": "pro"})).await.is_problem(409, "conflict");
    let path = format!("/subscriptions/{}", id(&made));
    let moved = world.api.patch(&path, json!({"product": "pro"})).await.ok();
    assert_eq!(moved["product"], "pro");
    let budget = world.api.get(&format!("/budgets/{}", world.own.budget)).await.ok();
    assert_eq!(budget["limit"]["amount"].as_str().and_then(|amount| amount.split('.').next()), Some("50"));
    let export = world.api.get(&format!("{user}/export")).await.ok();
    assert_eq!(id(&export["subscriptions"][0]), id(&made));
    world.api.post(&format!("{user}/erase"), json!({})).await.ok();
    assert_eq!(world.api.get(&path).await.ok()["status"], "canceled");
}

#[tokio::test]
async fn a_tenants_administrator_sees_its_subscriptions_and_changes_none() {
    let world = World::new().await;
    let own = world.api.post("/subscriptions", json!({"tenant": "acme", "product": "basic"})).await.created();
    let foreign = world.api.post("/subscriptions", json!({"tenant": "rival", "product": "basic"})).await.created();
    let admin = Proof::Session(world.signed_in(Role::TenantAdmin).await);
    let seen = world.ask(&admin, Method::GET, "/subscriptions", &[], None).await.ok();
    let seen: Vec<_> = seen["items"].as_array().expect("a list").iter().map(|row| id(row).to_owned()).collect();
    assert_eq!(seen, [id(&own)]);
    let path = format!("/subscriptions/{}", id(&foreign));
    world.ask(&admin, Method::GET, &path, &[], None).await.is_problem(404, "not_found");
    let path = format!("/subscriptions/{}", id(&own));
    world.ask(&admin, Method::GET, &path, &[], None).await.ok();
    send(&world, &admin, Method::PATCH, &path, json!({"seats": 9})).await.is_problem(403, "forbidden");
    let wish = json!({"tenant": "acme", "product": "basic"});
    send(&world, &admin, Method::POST, "/subscriptions", wish).await.is_problem(403, "forbidden");
}

async fn careful() -> World {
    World::within(Api::configured(|config| config.settings.second_person_above = Some(ALONE)).await).await
}

async fn grant(world: &World, proof: &Proof, key: &str, amount: &str) -> Answer {
    let target = format!("/budgets/{}/grants", world.own.budget);
    let body = json!({"amount": {"amount": amount, "currency": "EUR"}, "reason": "refund"});
    world.ask(proof, Method::POST, &target, &[("idempotency-key", key)], Some(body)).await
}

#[tokio::test]
async fn what_is_too_much_for_one_person_waits_for_another_one() {
    let world = careful().await;
    let ada = Proof::Session(world.signed_in_as("ada", Role::Admin).await);
    let bob = Proof::Session(world.signed_in_as("bob", Role::Admin).await);
    assert_eq!(grant(&world, &ada, "one", "600").await.status, 201);
    let waits = grant(&world, &ada, "two", "600").await;
    assert_eq!((waits.status.as_u16(), &waits.body["status"]), (202, &json!("waiting")), "{}", waits.body);
    let path = format!("/approvals/{}", id(&waits.body));
    let approve = format!("{path}/approve");
    send(&world, &ada, Method::POST, &approve, json!({})).await.is_problem(409, "conflict");
    let key = send(&world, &ada, Method::POST, "/keys", json!({"kind": "admin", "name": "ada's"})).await.created();
    let key = Proof::Key(key["secret"].as_str().expect("a secret").to_owned());
    send(&world, &key, Method::POST, &approve, json!({})).await.is_problem(403, "forbidden");
    let split = grant(&world, &key, "three", "600").await;
    assert_eq!(split.status, 202, "a key of hers is her");
    assert_eq!(split.body["proposed_by"], waits.body["proposed_by"]);
    let before = world.api.get(&format!("/budgets/{}", world.own.budget)).await.ok()["balance"]["granted"].clone();
    let booked = send(&world, &bob, Method::POST, &approve, json!({})).await.created();
    assert_eq!((&booked["reason"], &booked["idempotency_key"]), (&json!("refund"), &json!("two")));
    let after = world.api.get(&format!("/budgets/{}", world.own.budget)).await.ok()["balance"]["granted"].clone();
    assert_ne!(before, after);
    send(&world, &bob, Method::POST, &approve, json!({})).await.is_problem(409, "conflict");
    let shown = world.ask(&ada, Method::GET, &path, &[], None).await.ok();
    assert_eq!((&shown["status"], &shown["grant"]), (&json!("approved"), &booked["id"]));
    let reject = format!("/approvals/{}/reject", id(&split.body));
    send(&world, &bob, Method::POST, &reject, json!({"reason": " "})).await.is_problem(422, "invalid");
    let no = send(&world, &bob, Method::POST, &reject, json!({"reason": "once is enough"})).await.ok();
    assert_eq!((&no["status"], &no["decision"]), (&json!("rejected"), &json!("once is enough")));
    let waiting = world.ask(&bob, Method::GET, "/approvals?status=waiting", &[], None).await.ok();
    assert_eq!(waiting["items"], json!([]));
}

#[tokio::test]
async fn a_limit_is_no_way_around_the_second_person_and_a_program_needs_none() {
    let world = careful().await;
    let ada = Proof::Session(world.signed_in_as("ada", Role::Admin).await);
    let budget = format!("/budgets/{}", world.own.budget);
    let limit = |amount: &str| json!({"limit": {"amount": amount, "currency": "EUR"}});
    send(&world, &ada, Method::PATCH, &budget, limit("1011")).await.is_problem(403, "second_person_required");
    send(&world, &ada, Method::PATCH, &budget, limit("900")).await.ok();
    send(&world, &ada, Method::PATCH, &budget, limit("1100")).await.is_problem(403, "second_person_required");
    let wish =
        json!({"kind": "service", "tenant": "acme", "name": "billing", "scopes": ["ledger:adjust", "budgets:read"]});
    let program = world.api.post("/keys", wish).await.created();
    let program = Proof::Key(program["secret"].as_str().expect("a secret").to_owned());
    assert_eq!(grant(&world, &program, "paid", "90").await.status, 201);
}

fn form() -> Value {
    json!({"name": "Anna Berg", "company": "Acme GmbH", "email": "Anna@Acme.example", "message": "How much is it?",
        "locale": "de", "consent": true})
}

#[tokio::test]
async fn anybody_may_ask_to_be_told_more_and_to_be_forgotten() {
    let world = World::new().await;
    let asked = world.api.post_openly("/leads", form()).await;
    assert_eq!((asked.status.as_u16(), &asked.body), (202, &json!({"received": true})));
    let mut robot = form();
    robot["website"] = "https://spam.example".into();
    let same = world.api.post_openly("/leads", robot).await;
    assert_eq!((same.status, &same.body), (asked.status, &asked.body));
    let mut silent = form();
    silent["consent"] = false.into();
    world.api.post_openly("/leads", silent).await.is_problem(422, "invalid");
    let listed = world.api.get("/leads?email=anna@acme.example").await.ok();
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "the robot is not among them: {listed}");
    let path = format!("/leads/{}", id(&listed["items"][0]));
    let noted = world.api.patch(&path, json!({"status": "contacted", "note": "called on Monday"})).await.ok();
    assert_eq!((&noted["status"], &noted["version"]), (&json!("contacted"), &json!(2)));
    let admin = Proof::Session(world.signed_in(Role::TenantAdmin).await);
    world.ask(&admin, Method::GET, "/leads", &[], None).await.is_problem(403, "forbidden");
    let events = world.api.get("/audit-events?action=lead.").await.ok();
    assert!(events["items"].as_array().is_some_and(|events| events.len() == 2), "{events}");
    assert!(!events.to_string().contains("Anna") && !events.to_string().contains("Monday"), "{events}");
    let forgotten = world.api.post("/leads/forget", json!({"email": "anna@acme.example"})).await.ok();
    assert_eq!(forgotten["leads"], 1);
    world.api.get(&path).await.is_problem(404, "not_found");
}

#[tokio::test]
async fn nobody_fills_in_the_form_again_and_again() {
    let world = World::new().await;
    for _ in 0..10 {
        assert_eq!(world.api.post_openly("/leads", form()).await.status, 202);
    }
    let refused = world.api.post_openly("/leads", form()).await;
    refused.is_problem(429, "too_many_requests");
    assert!(refused.header("retry-after").is_some());
}
