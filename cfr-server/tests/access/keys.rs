//! The life of a key: rotation, switching off, networks, limits, budgets of its own, scopes and reports of leaks.

use axum::http::Method;
use serde_json::{Value, json};

use super::api::{Api, id};
use super::people::{Proof, World};

fn secret(key: &Value) -> &str {
    key["secret"].as_str().expect("a secret")
}

#[tokio::test]
async fn a_rotated_key_keeps_its_id_and_both_secrets_work_for_a_while() {
    let api = Api::new().await;
    let person = api.person("acme", "anna@acme.example").await;
    let rotate = format!("/keys/{}/rotate", person.key);
    let rotated = api.post(&rotate, json!({"grace_seconds": 3600})).await.created();
    assert_eq!(id(&rotated), person.key);
    let old = api.chat(&person.secret).await;
    assert_eq!((old.status.as_u16(), old.header("x-cfr-key-expires")), (200, rotated["grace_until"].as_str()));
    let new = api.chat(secret(&rotated)).await;
    assert_eq!((new.status.as_u16(), new.header("x-cfr-key-expires")), (200, None));
    let again = api.post(&rotate, json!({"grace_seconds": 0})).await.created();
    assert_eq!(api.chat(&person.secret).await.status, 401);
    assert_eq!(api.chat(secret(&rotated)).await.status, 401);
    assert_eq!(api.chat(secret(&again)).await.status, 200);
}

#[tokio::test]
async fn a_key_is_switched_off_and_on() {
    let api = Api::new().await;
    let person = api.person("acme", "anna@acme.example").await;
    let key = format!("/keys/{}", person.key);
    let off = api.patch(&key, json!({"enabled": false})).await;
    assert_eq!((&off.body["status"], off.header("etag")), (&json!("disabled"), Some("\"2\"")));
    assert_eq!(api.chat(&person.secret).await.status, 401);
    let stale = api.send(Method::PATCH, &key, &[("if-match", "\"1\"")], Some(json!({"enabled": true}))).await;
    stale.is_problem(412, "stale");
    api.patch(&key, json!({"enabled": true})).await.ok();
    assert_eq!(api.chat(&person.secret).await.status, 200);
}

#[tokio::test]
async fn a_key_that_is_bound_to_networks_works_from_nowhere_else() {
    let api = Api::new().await;
    let person = api.person("acme", "anna@acme.example").await;
    let key = format!("/keys/{}", person.key);
    let bound = api.patch(&key, json!({"networks": ["192.0.2.7", "2001:db8::1/32"]})).await.ok();
    assert_eq!(bound["networks"], json!(["192.0.2.7/32", "2001:db8::/32"]));
    let check = async |address: Option<&str>, status: u16| {
        assert_eq!(api.chat_from(&person.secret, address).await.status, status, "{address:?}");
    };
    check(Some("192.0.2.7"), 200).await;
    check(Some("::ffff:192.0.2.7"), 200).await;
    check(Some("2001:db8:1::9"), 200).await;
    check(Some("192.0.2.8"), 403).await;
    check(None, 403).await;
    api.patch(&key, json!({"networks": ["everywhere"]})).await.is_problem(422, "invalid");
}

#[tokio::test]
async fn a_key_has_limits_and_a_budget_of_its_own() {
    let api = Api::new().await;
    api.person("acme", "anna@acme.example").await;
    let narrow = json!({"user": "anna@acme.example", "name": "narrow", "requests_per_minute": 1,
        "budget": {"limit": {"amount": "0.00", "currency": "EUR"}}});
    let broke = api.post("/keys", narrow.clone()).await.created();
    assert_eq!(api.chat(secret(&broke)).await.status, 402);
    let mut rich = narrow;
    rich["budget"]["limit"]["amount"] = "5".into();
    let rich = api.post("/keys", rich).await.created();
    assert_eq!(api.chat(secret(&rich)).await.status, 200);
    assert_eq!(api.chat(secret(&rich)).await.status, 429);
    let wrong =
        json!({"user": "anna@acme.example", "name": "x", "budget": {"limit": {"amount": "1", "currency": "USD"}}});
    api.post("/keys", wrong).await.is_problem(422, "invalid");
}

#[tokio::test]
async fn a_key_sees_itself_and_nobody_gives_away_what_they_do_not_have() {
    let world = World::new().await;
    let wish = json!({"kind": "service", "tenant": "acme", "name": "portal", "scopes": ["keys:write", "usage:read"]});
    let key = world.api.post("/keys", wish).await.created();
    let proof = Proof::Key(secret(&key).to_owned());
    let own = world.ask(&proof, Method::GET, "/keys/self", &[], None).await.ok();
    assert_eq!((id(&own), &own["scopes"]), (id(&key), &json!(["keys:write", "usage:read"])));
    let make = async |scopes: Value| {
        let wish = json!({"kind": "service", "tenant": "acme", "name": "child", "scopes": scopes});
        world.ask(&proof, Method::POST, "/keys", &[], Some(wish)).await
    };
    make(json!(["usage:read"])).await.created();
    make(json!(["users:read"])).await.is_problem(403, "forbidden");
    make(json!(["nodes:write"])).await.is_problem(422, "invalid");
    let strong = json!({"kind": "service", "tenant": "acme", "name": "strong", "scopes": ["ledger:adjust"]});
    let strong = world.api.post("/keys", strong).await.created();
    let rotate = format!("/keys/{}/rotate", id(&strong));
    world.ask(&proof, Method::POST, &rotate, &[], Some(json!({}))).await.is_problem(403, "forbidden");
}

#[tokio::test]
async fn a_key_that_is_reported_as_leaked_stops_working_and_nobody_learns_which_keys_there_are() {
    let api = Api::new().await;
    let person = api.person("acme", "anna@acme.example").await;
    let mut answers = Vec::new();
    let (typo, unknown) = (person.secret.replace("cfr_live", "cfr_test"), "sk-0123456789abcdef0123");
    for token in [&*person.secret, &*person.secret, &typo, unknown, "nonsense"] {
        let answer = api.report_leak(json!({"token": token, "source": "a public repository"})).await;
        answers.push((answer.status.as_u16(), answer.body));
    }
    assert!(answers.iter().all(|answer| *answer == (202, json!({"received": true}))), "{answers:?}");
    assert_eq!(api.chat(&person.secret).await.status, 401);
    let told = api.get(&format!("/audit-events?target={}&action=key.leaked", person.key)).await.ok();
    assert_eq!(told["items"].as_array().map(Vec::len), Some(1), "{told}");
}

#[tokio::test]
async fn users_make_keys_where_their_product_has_it() {
    let world = World::new().await;
    let user = Proof::Session(world.signed_in(cfr_billing::identity::Role::User).await);
    let wish = |email: &str| json!({"user": email, "name": "mine"});
    world.ask(&user, Method::POST, "/keys", &[], Some(wish("user@acme.example"))).await.created();
    let foreign = world.ask(&user, Method::POST, "/keys", &[], Some(wish("anna@acme.example"))).await;
    foreign.is_problem(422, "invalid");
    world.api.post("/products", super::api::product("plain", "20", "10")).await.created();
    world.api.patch("/users/user@acme.example", json!({"product": "plain"})).await.ok();
    world.ask(&user, Method::POST, "/keys", &[], Some(wish("user@acme.example"))).await.is_problem(403, "forbidden");
}
