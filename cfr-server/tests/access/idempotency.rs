//! One change for one name, however often and at how many times at once it is asked for.

use axum::http::Method;
use serde_json::{Value, json};

use super::api::{Api, product};
use super::people::World;

async fn named(api: &Api, method: Method, target: &str, key: &str, body: Value) -> super::api::Answer {
    api.send(method, target, &[("idempotency-key", key)], Some(body)).await
}

#[tokio::test]
async fn a_repetition_gets_the_first_answer() {
    let api = Api::new().await;
    let first = named(&api, Method::POST, "/tenants", "one", json!({"slug": "acme"})).await;
    let again = named(&api, Method::POST, "/tenants", "one", json!({"slug": "acme"})).await;
    assert_eq!((first.status.as_u16(), first.header("idempotent-replayed")), (201, None));
    assert_eq!((again.status.as_u16(), again.header("idempotent-replayed")), (201, Some("true")));
    assert_eq!((again.body, again.headers.get("etag")), (first.body, first.headers.get("etag")));
    assert_eq!(again.headers.get("cache-control").map(|value| value.as_bytes()), Some(&b"no-store"[..]));
    let other = named(&api, Method::POST, "/tenants", "one", json!({"slug": "other"})).await;
    other.is_problem(422, "invalid");
    named(&api, Method::POST, "/tenants", "two", json!({"slug": "acme"})).await.is_problem(409, "conflict");
}

#[tokio::test]
async fn what_changed_nothing_may_be_asked_again_under_its_name() {
    let api = Api::new().await;
    named(&api, Method::PATCH, "/tenants/acme", "one", json!({"name": "Acme"})).await.is_problem(404, "not_found");
    api.post("/tenants", json!({"slug": "acme"})).await.created();
    named(&api, Method::PATCH, "/tenants/acme", "one", json!({"name": "Acme"})).await.ok();
}

#[tokio::test]
async fn a_secret_is_not_in_the_answer_to_a_repetition() {
    let api = Api::new().await;
    let wish = json!({"kind": "admin", "name": "second"});
    let first = named(&api, Method::POST, "/keys", "one", wish.clone()).await.created();
    let again = named(&api, Method::POST, "/keys", "one", wish).await.created();
    assert!(first["secret"].is_string());
    assert_eq!((&again["id"], &again["secret"]), (&first["id"], &Value::Null));
    let rotate = format!("/keys/{}/rotate", super::api::id(&first));
    assert!(named(&api, Method::POST, &rotate, "two", json!({})).await.created()["secret"].is_string());
    assert!(named(&api, Method::POST, &rotate, "two", json!({})).await.created()["secret"].is_null());
}

#[tokio::test]
async fn everybody_has_names_of_their_own() {
    let world = World::new().await;
    let other = world.api.post("/keys", json!({"kind": "admin", "name": "second"})).await.created();
    let other = other["secret"].as_str().expect("a secret");
    named(&world.api, Method::POST, "/tenants", "one", json!({"slug": "mine"})).await.created();
    let headers = [("idempotency-key", "one")];
    let theirs = json!({"slug": "theirs"});
    world.api.send_as(Some(other), Method::POST, "/tenants", &headers, Some(theirs)).await.created();
}

/// Every operation that makes something, twice at the same moment under one name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_at_once_one_makes_the_change() {
    let world = World::new().await;
    let euro = |amount: &str| json!({"amount": amount, "currency": "EUR"});
    let (user, key, budget) = (&world.own.user, &world.own.key, &world.own.budget);
    let changes = [
        (Method::POST, "/tenants".to_owned(), json!({"slug": "twice"})),
        (Method::POST, "/products".to_owned(), product("twice", "1", "1")),
        (Method::POST, "/products/basic/versions".to_owned(), json!({"terms": product("", "1", "1")["terms"]})),
        (Method::PATCH, "/products/basic".to_owned(), json!({"active": true})),
        (Method::POST, "/users".to_owned(), json!({"tenant": "acme", "email": "twice@acme.example"})),
        (Method::PATCH, format!("/users/{user}"), json!({"name": "Twice"})),
        (Method::POST, "/keys".to_owned(), json!({"user": user, "name": "twice"})),
        (Method::PATCH, format!("/keys/{key}"), json!({"name": "twice"})),
        (Method::POST, format!("/keys/{key}/rotate"), json!({})),
        (Method::POST, "/budgets".to_owned(), json!({"scope": "key", "subject": key, "limit": euro("1")})),
        (Method::PATCH, format!("/budgets/{budget}"), json!({"limit": euro("7")})),
        (Method::POST, format!("/budgets/{budget}/grants"), json!({"amount": euro("1"), "reason": "twice"})),
        (Method::PATCH, "/tenants/acme".to_owned(), json!({"name": "Twice"})),
        (Method::POST, format!("/keys/{key}/revoke"), json!({})),
    ];
    for (index, (method, target, body)) in changes.into_iter().enumerate() {
        let before = events(&world.api).await;
        let name = format!("change-{index}");
        let ask = || named(&world.api, method.clone(), &target, &name, body.clone());
        let (left, right) = tokio::join!(ask(), ask());
        for answer in [&left, &right] {
            let status = answer.status.as_u16();
            assert!(matches!(status, 200 | 201 | 409), "{method} {target}: {status} {}", answer.body);
        }
        let again = ask().await;
        assert_eq!(again.header("idempotent-replayed"), Some("true"), "{method} {target}: {}", again.body);
        let made = events(&world.api).await - before;
        assert!(made <= 1, "{method} {target}: {made} changes");
    }
}

async fn events(api: &Api) -> i64 {
    let newest = api.get("/audit-events?limit=1").await.ok();
    newest["items"][0]["seq"].as_i64().unwrap_or(0)
}
