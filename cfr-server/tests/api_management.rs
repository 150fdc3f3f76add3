//! The management API, in process over a store in a folder of its own.

mod api;

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use api::{Api, amount};

fn fields(body: &Value) -> Vec<&str> {
    body["errors"].as_array().into_iter().flatten().filter_map(|error| error["field"].as_str()).collect()
}

// --- Who is let in -------------------------------------------------------------------------------------------------

#[tokio::test]
async fn without_an_admin_key_nothing_is_shown() {
    let api = Api::new().await;
    for key in [None, Some("cfr_adm_wrong"), Some("nonsense")] {
        let answer = api.send_as(key, Method::GET, "/tenants", &[], None).await;
        answer.is_problem(401, "unauthorized");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
}

#[tokio::test]
async fn a_key_for_models_does_not_open_the_management_api() {
    let api = Api::new().await;
    let person = api.person("acme", "anna@acme.example").await;
    api.send_as(Some(&person.secret), Method::GET, "/tenants", &[], None).await.is_problem(403, "forbidden");
}

#[tokio::test]
async fn a_revoked_admin_key_is_refused_at_its_next_request() {
    let api = Api::new().await;
    let key = api.post("/keys", json!({"kind": "admin", "name": "second"})).await.created();
    let secret = key["secret"].as_str().expect("a secret").to_owned();
    assert_eq!(api.send_as(Some(&secret), Method::GET, "/tenants", &[], None).await.status, 200);
    let itself = format!("/keys/{}/revoke", api::id(&key));
    api.send_as(Some(&secret), Method::POST, &itself, &[], None).await.is_problem(409, "conflict");
    api.post(&format!("/keys/{}/revoke", api::id(&key)), json!({})).await.ok();
    api.send_as(Some(&secret), Method::GET, "/tenants", &[], None).await.is_problem(401, "unauthorized");
}

#[tokio::test]
async fn answers_are_not_cached_and_unknown_paths_and_methods_are_problems() {
    let api = Api::new().await;
    let listed = api.get("/tenants").await;
    assert_eq!(listed.header("cache-control"), Some("no-store"));
    api.get("/nothing-here").await.is_problem(404, "not_found");
    let wrong = api.send(Method::DELETE, "/tenants", &[], None).await;
    wrong.is_problem(405, "method_not_allowed");
    assert!(wrong.header("allow").is_some_and(|allow| allow.contains("GET")), "{:?}", wrong.header("allow"));
}

// --- Bodies --------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_body_that_is_not_what_it_should_be_is_refused_with_the_field() {
    let api = Api::new().await;
    let check = async |body: &str, status: u16, code: &str, expected: &[&str]| {
        let answer = api.send_text(Method::POST, "/tenants", "application/json", body).await;
        answer.is_problem(status, code);
        assert_eq!(fields(&answer.body), expected, "{body}");
    };
    check("{", 400, "bad_request", &[]).await;
    check("", 400, "bad_request", &[]).await;
    check(r#"{"slug": "a"} {}"#, 400, "bad_request", &[]).await;
    check(r#"{"slug": "a", "slogan": "b"}"#, 422, "invalid", &["slogan"]).await;
    check(r#"{"name": "a"}"#, 422, "invalid", &["slug"]).await;
    check(r#"{"slug": 5}"#, 422, "invalid", &["slug"]).await;
    check(r#"{"slug": "a", "kind": "friend"}"#, 422, "invalid", &["kind"]).await;
    check(r#"{"slug": "a", "users_max": -1}"#, 422, "invalid", &["users_max"]).await;
    check(
        r#"{"slug": "A B", "currency": "euro", "time_zone": "Mars"}"#,
        422,
        "invalid",
        &["slug", "time_zone", "currency"],
    )
    .await;
}

#[tokio::test]
async fn a_body_must_be_declared_as_json_and_have_a_size() {
    let api = Api::new().await;
    api.send_text(Method::POST, "/tenants", "text/plain", r#"{"slug": "a"}"#).await.is_problem(415, "not_json");
    let long = format!(r#"{{"slug": "{}"}}"#, "a".repeat(70_000));
    api.send_text(Method::POST, "/tenants", "application/json; charset=utf-8", &long)
        .await
        .is_problem(413, "too_large");
}

#[tokio::test]
async fn a_query_that_makes_no_sense_is_refused() {
    let api = Api::new().await;
    for query in ["?limit=0", "?limit=1001", "?limit=many", "?cursor=here", "?sort=name"] {
        api.get(&format!("/tenants{query}")).await.is_problem(400, "bad_request");
    }
    api.get("/budgets?subject=anna@acme.example").await.is_problem(400, "bad_request");
    api.get("/usage?from=yesterday").await.is_problem(400, "bad_request");
}

// --- Tenants -------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_tenant_is_made_shown_by_slug_and_changed() {
    let api = Api::new().await;
    let made = api.post("/tenants", json!({"slug": "acme", "name": "Acme GmbH", "users_max": 3})).await;
    assert_eq!((made.status, made.header("etag")), (StatusCode::CREATED, Some("\"1\"")));
    let shown = api.get("/tenants/acme").await.ok();
    assert_eq!(shown, made.body);
    assert_eq!(
        (&shown["kind"], &shown["time_zone"], &shown["currency"]),
        (&json!("customer"), &json!("Europe/Berlin"), &json!("EUR"))
    );
    assert_eq!(api.get(&format!("/tenants/{}", api::id(&shown))).await.ok(), shown);

    let changed = api.patch("/tenants/acme", json!({"status": "suspended", "users_max": null})).await;
    assert_eq!((changed.status, changed.header("etag")), (StatusCode::OK, Some("\"2\"")));
    assert_eq!((&changed.body["status"], &changed.body["users_max"]), (&json!("suspended"), &Value::Null));
    assert_eq!(changed.body["name"], "Acme GmbH", "what is not named stays");
}

#[tokio::test]
async fn a_slug_is_taken_once_and_an_unknown_tenant_is_not_found() {
    let api = Api::new().await;
    api.post("/tenants", json!({"slug": "acme"})).await.created();
    api.post("/tenants", json!({"slug": "acme"})).await.is_problem(409, "conflict");
    api.get("/tenants/nobody").await.is_problem(404, "not_found");
    api.get("/tenants/ten_00000000000000000000000000").await.is_problem(404, "not_found");
}

#[tokio::test]
async fn a_change_for_an_old_version_is_refused() {
    let api = Api::new().await;
    api.post("/tenants", json!({"slug": "acme"})).await.created();
    let rename = async |etag: &str, name: &str| {
        api.send(Method::PATCH, "/tenants/acme", &[("if-match", etag)], Some(json!({"name": name}))).await
    };
    assert_eq!(rename("\"1\"", "One").await.status, StatusCode::OK);
    rename("\"1\"", "Two").await.is_problem(412, "stale");
    rename("1", "Two").await.is_problem(400, "bad_request");
    assert_eq!(api.get("/tenants/acme").await.ok()["name"], "One");
}

#[tokio::test]
async fn pages_of_a_list_together_are_the_list() {
    let api = Api::new().await;
    for number in 0..7 {
        api.post("/tenants", json!({"slug": format!("t{number}")})).await.created();
    }
    let whole = api.get("/tenants").await.ok();
    assert!(whole.get("next_cursor").is_none());
    let mut seen = Vec::new();
    let mut target = "/tenants?limit=3".to_owned();
    for expected in [3, 3, 1] {
        let page = api.get(&target).await.ok();
        let items = page["items"].as_array().expect("items");
        assert_eq!(items.len(), expected);
        seen.extend(items.iter().cloned());
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        target = format!("/tenants?limit=3&cursor={cursor}");
    }
    assert_eq!(Value::Array(seen), whole["items"]);
}

// --- Products ------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_product_that_can_lose_money_must_be_confirmed() {
    let api = Api::new().await;
    let product = api::product("starter", "9.99", "25");
    let refused = api.post("/products", product.clone()).await;
    refused.is_problem(422, "invalid");
    assert_eq!(fields(&refused.body), ["confirm_loss"]);
    let mut confirmed = product;
    confirmed["confirm_loss"] = json!(true);
    let made = api.post("/products", confirmed).await.created();
    assert_eq!(amount(&made["current"]["worst_case_contribution"]), "-10.843333334 EUR");
}

#[tokio::test]
async fn a_new_version_leaves_the_old_one_as_it_was() {
    let api = Api::new().await;
    let made = api.post("/products", api::product("basic", "20", "10")).await.created();
    api.post("/products", api::product("basic", "21", "10")).await.is_problem(409, "conflict");
    let terms = api::product("basic", "21", "10")["terms"].clone();
    let next = api.post("/products/basic/versions", json!({"terms": terms})).await.created();
    assert_eq!(next["version"], 2);
    let versions = api.get("/products/basic/versions").await.ok();
    assert_eq!(versions["items"][0], next);
    assert_eq!(versions["items"][1], made["current"]);
    assert_eq!(api.get("/products/basic").await.ok()["current"], next);
    api.post("/products/nothing/versions", json!({"terms": next["terms"]})).await.is_problem(404, "not_found");
}

#[tokio::test]
async fn a_closed_product_takes_no_new_customers() {
    let api = Api::new().await;
    api.post("/tenants", json!({"slug": "acme"})).await.created();
    api.post("/products", api::product("basic", "20", "10")).await.created();
    assert_eq!(api.patch("/products/basic", json!({"active": false})).await.ok()["active"], false);
    let user = json!({"tenant": "acme", "email": "anna@acme.example", "product": "basic"});
    let refused = api.post("/users", user.clone()).await;
    refused.is_problem(422, "invalid");
    assert_eq!(fields(&refused.body), ["product"]);
    api.patch("/products/basic", json!({"active": true})).await.ok();
    api.post("/users", user).await.created();
}

// --- Users and keys ------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_user_on_a_product_has_its_budget_and_is_found_by_address() {
    let api = Api::new().await;
    api.person("acme", "Anna@Acme.example").await;
    let user = api.get("/users/anna@acme.example").await.ok();
    assert_eq!(
        (&user["email"], &user["product"], &user["status"]),
        (&json!("Anna@Acme.example"), &json!("basic"), &json!("active"))
    );
    let budgets = api.get("/budgets?scope=user&subject=anna@acme.example").await.ok();
    let [budget] = budgets["items"].as_array().expect("items").as_slice() else { panic!("one budget: {budgets}") };
    assert_eq!((amount(&budget["limit"]).as_str(), &budget["subject"]), ("10 EUR", &user["id"]));
}

#[tokio::test]
async fn an_address_is_taken_without_regard_to_case_and_a_bad_one_is_refused() {
    let api = Api::new().await;
    api.person("acme", "anna@acme.example").await;
    let second = json!({"tenant": "acme", "email": "ANNA@acme.example"});
    api.post("/users", second).await.is_problem(409, "conflict");
    for email in ["anna", "@acme.example", "anna@", "a@b@c", "anna lee@acme.example"] {
        let refused = api.post("/users", json!({"tenant": "acme", "email": email, "name": "Anna"})).await;
        refused.is_problem(422, "invalid");
        assert_eq!(fields(&refused.body), ["email"], "{email}");
    }
    let nowhere = api.post("/users", json!({"tenant": "nobody", "email": "b@acme.example"})).await;
    nowhere.is_problem(422, "invalid");
    assert_eq!(fields(&nowhere.body), ["tenant"]);
}

#[tokio::test]
async fn a_secret_is_shown_once_and_the_key_by_its_ends() {
    let api = Api::new().await;
    let person = api.person("acme", "anna@acme.example").await;
    let shown = api.get(&format!("/keys/{}", person.key)).await.ok();
    assert!(shown.get("secret").is_none());
    assert!(person.secret.starts_with(shown["prefix"].as_str().expect("a prefix")));
    assert!(person.secret.ends_with(shown["last4"].as_str().expect("four characters")));
    assert!(shown["expires_at"].is_string(), "a key ends some day unless somebody says otherwise");
    let everlasting = json!({"user": "anna@acme.example", "name": "robot", "expires_at": null});
    assert_eq!(api.post("/keys", everlasting).await.created()["expires_at"], Value::Null);
    assert_eq!(api.get("/keys?user=anna@acme.example").await.ok()["items"].as_array().map(Vec::len), Some(2));
    assert_eq!(api.get("/keys?tenant=acme").await.ok()["items"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn the_kind_of_a_key_decides_whose_it_is() {
    let api = Api::new().await;
    api.person("acme", "anna@acme.example").await;
    api.post("/tenants", json!({"slug": "other"})).await.created();
    let check = async |body: Value, field: &str| {
        let refused = api.post("/keys", body.clone()).await;
        refused.is_problem(422, "invalid");
        assert_eq!(fields(&refused.body), [field], "{body}");
    };
    check(json!({"name": "k"}), "user").await;
    check(json!({"name": "k", "user": "nobody@acme.example"}), "user").await;
    check(json!({"name": "k", "user": "anna@acme.example", "tenant": "other"}), "tenant").await;
    check(json!({"name": "k", "kind": "service"}), "tenant").await;
    check(json!({"name": "k", "kind": "service", "tenant": "acme", "user": "anna@acme.example"}), "user").await;
    check(json!({"name": "k", "kind": "admin", "tenant": "acme"}), "tenant").await;
    check(json!({"name": "", "kind": "admin"}), "name").await;
    check(json!({"name": "k", "kind": "admin", "expires_at": "2020-01-01T00:00:00Z"}), "expires_at").await;
    let service = api.post("/keys", json!({"name": "k", "kind": "service", "tenant": "acme"})).await.created();
    assert!(service["secret"].as_str().is_some_and(|secret| secret.starts_with("cfr_svc_")));
}

#[tokio::test]
async fn a_suspended_user_a_suspended_tenant_and_a_revoked_key_are_refused_at_once() {
    let api = Api::new().await;
    let person = api.person("acme", "anna@acme.example").await;
    assert_eq!(api.chat(&person.secret).await.status, StatusCode::OK);
    api.patch("/users/anna@acme.example", json!({"status": "suspended"})).await.ok();
    assert_eq!(api.chat(&person.secret).await.status, StatusCode::FORBIDDEN);
    api.patch("/users/anna@acme.example", json!({"status": "active"})).await.ok();
    api.patch("/tenants/acme", json!({"status": "suspended"})).await.ok();
    assert_eq!(api.chat(&person.secret).await.status, StatusCode::FORBIDDEN);
    api.patch("/tenants/acme", json!({"status": "active"})).await.ok();
    assert_eq!(api.chat(&person.secret).await.status, StatusCode::OK);
    api.post(&format!("/keys/{}/revoke", person.key), json!({})).await.ok();
    assert_eq!(api.chat(&person.secret).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_product_in_another_currency_than_the_tenants_is_refused() {
    let api = Api::new().await;
    let person = api.person("acme", "anna@acme.example").await;
    api.post("/tenants", json!({"slug": "us", "currency": "USD"})).await.created();
    let refused = api.post("/users", json!({"tenant": "us", "email": "bob@us.example", "product": "basic"})).await;
    refused.is_problem(422, "invalid");
    assert_eq!(fields(&refused.body), ["product"]);
    let mut plus = api::product("plus", "40", "20");
    plus["terms"]["models"] = json!(["none-*"]);
    api.post("/products", plus).await.created();
    assert_eq!(api.chat(&person.secret).await.status, StatusCode::OK);
    assert_eq!(api.patch("/users/anna@acme.example", json!({"product": "plus"})).await.ok()["product"], "plus");
    assert_eq!(api.chat(&person.secret).await.status, StatusCode::FORBIDDEN, "the new terms hold for the next request");
}

// --- Budgets and grants --------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_grant_asked_for_many_times_at_once_is_booked_once() {
    let api = Api::new().await;
    let person = api.person("acme", "anna@acme.example").await;
    let grants = format!("/budgets/{}/grants", person.budget);
    let body = json!({"amount": {"amount": "5", "currency": "EUR"}, "reason": "top-up of May"});
    let ask = || api.send(Method::POST, &grants, &[("idempotency-key", "may")], Some(body.clone()));
    let answers = tokio::join!(ask(), ask(), ask(), ask());
    let mut made = Vec::new();
    for answer in [answers.0, answers.1, answers.2, answers.3] {
        let too_early = answer.status == StatusCode::CONFLICT;
        made.push(if too_early { ask().await.created() } else { answer.created() });
    }
    let first = made[0].clone();
    assert!(made.iter().all(|grant| *grant == first), "{made:?}");
    let budget = api.get(&format!("/budgets/{}", person.budget)).await.ok();
    assert_eq!(amount(&budget["balance"]["granted"]), "15 EUR");
    let listed = api.get(&grants).await.ok();
    let kinds: Vec<_> =
        listed["items"].as_array().into_iter().flatten().filter(|grant| grant["kind"] != "included").collect();
    assert_eq!(kinds, [&first]);
    assert_eq!((&first["kind"], &first["reason"]), (&json!("top_up"), &json!("top-up of May")));

    let other = json!({"amount": {"amount": "6", "currency": "EUR"}, "reason": "top-up of May"});
    let reused = api.send(Method::POST, &grants, &[("idempotency-key", "may")], Some(other)).await;
    assert_eq!(reused.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", reused.body);
}

#[tokio::test]
async fn a_grant_needs_a_key_a_reason_and_the_budgets_currency() {
    let api = Api::new().await;
    let person = api.person("acme", "anna@acme.example").await;
    let grants = format!("/budgets/{}/grants", person.budget);
    let good = json!({"amount": {"amount": "5", "currency": "EUR"}, "reason": "why"});
    api.post(&grants, good).await.is_problem(400, "bad_request");
    let check = async |body: Value, expected: &[&str]| {
        let refused = api.send(Method::POST, &grants, &[("idempotency-key", "k")], Some(body.clone())).await;
        refused.is_problem(422, "invalid");
        assert_eq!(fields(&refused.body), expected, "{body}");
    };
    check(json!({"amount": {"amount": "5", "currency": "USD"}, "reason": "why"}), &["amount.currency"]).await;
    check(
        json!({"amount": {"amount": "five", "currency": "EUR"}, "reason": " "}),
        &["amount.amount", "amount.amount", "reason"],
    )
    .await;
    check(json!({"amount": {"amount": 5, "currency": "EUR"}, "reason": "why"}), &["amount.amount"]).await;
    check(
        json!({"amount": {"amount": "0.0000000001", "currency": "EUR"}, "reason": "why"}),
        &["amount.amount", "amount.amount"],
    )
    .await;
    check(json!({"amount": {"amount": "5", "currency": "EUR"}, "kind": "included", "reason": "why"}), &["kind"]).await;
    check(json!({"amount": {"amount": "-5", "currency": "EUR"}, "kind": "promo", "reason": "why"}), &["kind"]).await;
}

#[tokio::test]
async fn taking_more_than_is_left_needs_overcommit() {
    let api = Api::new().await;
    let person = api.person("acme", "anna@acme.example").await;
    assert_eq!(api.chat(&person.secret).await.status, StatusCode::OK);
    let grants = format!("/budgets/{}/grants", person.budget);
    let take = async |key: &str, overcommit: bool| {
        let body =
            json!({"amount": {"amount": "-10", "currency": "EUR"}, "reason": "closed", "overcommit": overcommit});
        api.send(Method::POST, &grants, &[("idempotency-key", key)], Some(body)).await
    };
    take("one", false).await.is_problem(409, "conflict");
    assert_eq!(take("two", true).await.created()["kind"], "adjustment");
    let budget = api.get(&format!("/budgets/{}", person.budget)).await.ok();
    assert_eq!(amount(&budget["balance"]["available"]), "0 EUR");
    assert_eq!(api.chat(&person.secret).await.status, StatusCode::PAYMENT_REQUIRED);
}

#[tokio::test]
async fn a_changed_limit_holds_for_the_next_request() {
    let api = Api::new().await;
    let person = api.person("acme", "anna@acme.example").await;
    let path = format!("/budgets/{}", person.budget);
    assert_eq!(api.chat(&person.secret).await.status, StatusCode::OK);
    let shown = api.get(&path).await;
    let etag = shown.header("etag").expect("an etag").to_owned();
    let limit = |value: &str| json!({"limit": {"amount": value, "currency": "EUR"}});
    let lowered = api.send(Method::PATCH, &path, &[("if-match", &etag)], Some(limit("0"))).await.ok();
    assert_eq!(
        (amount(&lowered["limit"]).as_str(), amount(&lowered["balance"]["available"]).as_str()),
        ("0 EUR", "0 EUR")
    );
    assert_eq!(api.chat(&person.secret).await.status, StatusCode::PAYMENT_REQUIRED);
    api.send(Method::PATCH, &path, &[("if-match", &etag)], Some(limit("7"))).await.is_problem(412, "stale");
    api.patch(&path, limit("7")).await.ok();
    assert_eq!(api.chat(&person.secret).await.status, StatusCode::OK);
    api.patch(&path, limit("-1")).await.is_problem(422, "invalid");
    api.patch(&path, json!({"limit": {"amount": "1", "currency": "USD"}})).await.is_problem(422, "invalid");
}

#[tokio::test]
async fn a_budget_of_the_tenant_limits_its_users_too() {
    let api = Api::new().await;
    let person = api.person("acme", "anna@acme.example").await;
    assert_eq!(api.chat(&person.secret).await.status, StatusCode::OK);
    let body = json!({"scope": "tenant", "subject": "acme", "limit": {"amount": "0", "currency": "EUR"}});
    let made = api.post("/budgets", body.clone()).await.created();
    assert_eq!((&made["time_zone"], &made["period"]["kind"]), (&json!("Europe/Berlin"), &json!("calendar_month")));
    assert_eq!(api.chat(&person.secret).await.status, StatusCode::PAYMENT_REQUIRED);
    api.post("/budgets", body).await.is_problem(409, "conflict");
    let check = async |body: Value, field: &str| {
        let refused = api.post("/budgets", body.clone()).await;
        refused.is_problem(422, "invalid");
        assert_eq!(fields(&refused.body), [field], "{body}");
    };
    let ten = json!({"amount": "10", "currency": "EUR"});
    check(json!({"scope": "tenant", "limit": ten}), "subject").await;
    check(json!({"scope": "platform", "subject": "acme", "limit": ten}), "subject").await;
    check(json!({"scope": "team", "subject": "acme", "limit": ten}), "scope").await;
    check(json!({"scope": "user", "subject": "nobody@acme.example", "limit": ten}), "subject").await;
    check(json!({"scope": "tenant", "subject": "acme", "limit": {"amount": "1", "currency": "USD"}}), "limit.currency")
        .await;
    check(
        json!({"scope": "tenant", "subject": "acme", "limit": ten, "period": {"kind": "every_n_days", "days": 0}}),
        "period",
    )
    .await;
    check(json!({"scope": "tenant", "subject": "acme", "limit": ten, "period": {"kind": "week", "days": 3}}), "period")
        .await;
}

// --- Usage ---------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn every_call_is_listed_filtered_and_summed_up() {
    let api = Api::new().await;
    let anna = api.person("acme", "anna@acme.example").await;
    let before = api.get(&format!("/budgets/{}", anna.budget)).await.ok();
    for _ in 0..3 {
        assert_eq!(api.chat(&anna.secret).await.status, StatusCode::OK);
    }
    api.flush().await;
    let listed = api.get("/usage?tenant=acme").await.ok();
    let records = listed["items"].as_array().expect("items");
    assert_eq!(records.len(), 3);
    assert!(records.windows(2).all(|pair| pair[0]["id"].as_str() >= pair[1]["id"].as_str()), "the newest first");
    assert_eq!(
        (&records[0]["operation"], &records[0]["source"], &records[0]["status"]),
        (&json!("chat_completions"), &json!("provider"), &json!(200))
    );
    let id = records[0]["id"].as_str().expect("an id");
    assert_eq!(api.get(&format!("/usage?id={id}")).await.ok()["items"], json!([records[0]]));

    let first = api.get("/usage?user=anna@acme.example&limit=2").await.ok();
    let cursor = first["next_cursor"].as_str().expect("more");
    let rest = api.get(&format!("/usage?user=anna@acme.example&limit=2&cursor={cursor}")).await.ok();
    assert_eq!((&first["items"][1], &rest["items"][0]), (&records[1], &records[2]));
    for nothing in ["?model=none", "?to=2020-01-01T00:00:00Z", "?from=2120-01-01T00:00:00Z"] {
        assert_eq!(api.get(&format!("/usage{nothing}")).await.ok()["items"], json!([]), "{nothing}");
    }
    api.get("/usage?tenant=nobody").await.is_problem(404, "not_found");

    let days = api.get("/usage/daily?tenant=acme").await.ok();
    assert_eq!((&days["items"][0]["requests"], &days["items"][0]["model"]), (&json!(3), &records[0]["model"]));
    let after = api.get(&format!("/budgets/{}", anna.budget)).await.ok();
    assert_eq!(after["balance"]["settled"], days["items"][0]["charged"], "the balance is the sum of the records");
    assert_ne!(after["balance"]["available"], before["balance"]["available"]);
    assert_eq!(amount(&after["balance"]["held"]), "0 EUR");
}

// --- Prices --------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn prices_are_listed_in_pages_filtered_and_shown_by_alias() {
    let api = Api::new().await;
    let page = api.get("/prices?provider=fireworks&limit=2").await.ok();
    let model = page["items"][1]["model"].as_str().expect("a model").to_owned();
    let cursor = page["next_cursor"].as_str().expect("more");
    let next = api.get(&format!("/prices?provider=fireworks&limit=2&cursor={cursor}")).await.ok();
    assert_ne!(next["items"][0]["model"], model);
    assert!(model.contains('/'), "{model}");
    let shown = api.get(&format!("/prices/fireworks/{}", model.replace('/', "%2F"))).await.ok();
    assert_eq!(shown["items"][0], page["items"][1]);
    assert!(shown["items"][0]["rates"][0]["price"].is_string());
    let haiku = api.get("/prices?model=HAIKU&provider=anthropic").await.ok();
    let alias = haiku["items"]
        .as_array()
        .into_iter()
        .flatten()
        .find_map(|price| price["aliases"][0].as_str())
        .expect("an alias");
    assert_eq!(api.get(&format!("/prices/anthropic/{alias}")).await.status, StatusCode::OK);
    api.get("/prices/anthropic/nothing").await.is_problem(404, "not_found");
}

#[tokio::test]
async fn an_imported_table_is_in_force_and_says_what_changed() {
    let api = Api::new().await;
    let old = api.get("/price-table").await.ok();
    let mut table: Value =
        serde_json::from_slice(include_bytes!("../../cfr-core/data/prices.json")).expect("the bundled table");
    let entries = table["entries"].as_array_mut().expect("entries");
    let changed = entries.iter_mut().find(|entry| entry["id"] == "openai/gpt-4o").expect("gpt-4o");
    let rate = changed["rates"].as_array_mut().expect("rates").iter_mut();
    let rate = { rate }.find(|rate| rate["meter"] == "output_tokens" && rate["tier"] == "standard").expect("a rate");
    rate["price"] = json!("0.000123");
    table["as_of"] = json!("2026-12-01");

    let expected = |diff: &Value| {
        let changes = diff["changes"].as_array().expect("changes");
        let [change] = changes.as_slice() else { panic!("one change: {changes:?}") };
        assert_eq!(
            (&change["change"], &change["model"], &change["after"]),
            (&json!("rate"), &json!("gpt-4o"), &json!("0.000123"))
        );
    };
    expected(&api.post("/price-table/diff", table.clone()).await.ok());
    assert_eq!(api.get("/price-table").await.ok(), old, "a diff changes nothing");
    expected(&api.send(Method::PUT, "/price-table", &[], Some(table.clone())).await.ok());
    let new = api.get("/price-table").await.ok();
    assert_eq!((&new["as_of"], new["version"] == old["version"]), (&json!("2026-12-01"), false));
    let again = api.send(Method::PUT, "/price-table", &[], Some(table)).await.ok();
    assert_eq!(again["changes"], json!([]));
}

#[tokio::test]
async fn a_table_that_cannot_be_right_is_refused() {
    let api = Api::new().await;
    let old = api.get("/price-table").await.ok();
    for body in [json!({}), json!([]), json!({"schema": "cfr.prices/1", "entries": []})] {
        api.send(Method::PUT, "/price-table", &[], Some(body)).await.is_problem(422, "invalid");
    }
    api.send_text(Method::PUT, "/price-table", "text/csv", "a,b").await.is_problem(415, "not_json");
    assert_eq!(api.get("/price-table").await.ok(), old);
}

// --- The audit log -------------------------------------------------------------------------------------------------

#[tokio::test]
async fn every_change_is_in_the_audit_log_with_who_made_it() {
    let api = Api::new().await;
    let person = api.person("acme", "anna@acme.example").await;
    let agent = [("user-agent", "a script/1")];
    let revoke = format!("/keys/{}/revoke", person.key);
    api.send(Method::POST, &revoke, &agent, None).await.ok();
    let page = api.get("/audit-events?limit=1").await.ok();
    let event = &page["items"][0];
    assert_eq!((&event["action"], &event["target"]), (&"key.revoked".into(), &Value::from(person.key.as_str())));
    assert_eq!(event["changes"], json!({"status": ["active", "revoked"]}));
    assert_eq!((&event["actor"]["kind"], &event["actor"]["agent"]), (&"key".into(), &"a script/1".into()));
    assert!(event["actor"]["request"].as_str().is_some_and(|id| id.starts_with("req_")), "{event}");
    let older = api.get(&format!("/audit-events?cursor={}", page["next_cursor"].as_str().expect("more"))).await.ok();
    assert!(older["items"].as_array().is_some_and(|items| items.len() > 3), "{older}");
    let text = older.to_string();
    assert!(!text.contains("anna@acme.example") && text.contains("[personal]"), "people are not named: {text}");
}

#[tokio::test]
async fn audit_events_are_filtered() {
    let api = Api::new().await;
    let person = api.person("acme", "anna@acme.example").await;
    let actions = async |query: String| {
        let page = api.get(&format!("/audit-events?{query}")).await.ok();
        let items = page["items"].as_array().expect("events").clone();
        items.iter().map(|event| event["action"].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(actions(format!("target={}", person.key)).await, ["key.created"]);
    assert_eq!(actions("action=tenant.&tenant=acme".into()).await, ["tenant.created"]);
    assert_eq!(actions("to=2020-01-01T00:00:00Z".into()).await, Vec::<String>::new());
    api.get("/audit-events?tenant=nobody").await.is_problem(404, "not_found");
    api.get("/audit-events?from=yesterday").await.is_problem(400, "bad_request");
}
