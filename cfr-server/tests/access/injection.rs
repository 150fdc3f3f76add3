//! Texts that mean something to a database, a log or a header are texts here.

use axum::http::Method;
use serde_json::json;

use super::api::Api;

const HOSTILE: [&str; 7] = [
    "' OR '1'='1",
    "'; DROP TABLE users; --",
    "\" OR \"\"=\"",
    "1); DELETE FROM tenants; --",
    "%' ESCAPE '\\",
    "${jndi:ldap://x}",
    "\u{202e}\u{0}\u{1b}[31m",
];

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[tokio::test]
async fn a_path_or_a_query_with_sql_in_it_finds_nothing() {
    let api = Api::new().await;
    api.post("/tenants", json!({"slug": "acme"})).await.created();
    for text in HOSTILE {
        let text = encoded(text);
        for path in ["tenants", "users", "products", "keys", "budgets"] {
            let status = api.get(&format!("/{path}/{text}")).await.status.as_u16();
            assert!(matches!(status, 400 | 404), "/{path}/{text}: {status}");
        }
        for query in [
            "users?tenant",
            "keys?user",
            "usage?model",
            "usage?key",
            "audit-events?actor",
            "audit-events?action",
            "tenants?cursor",
        ] {
            let answer = api.get(&format!("/{query}={text}")).await;
            let none = answer.body["items"].as_array().is_some_and(Vec::is_empty);
            assert!(none || matches!(answer.status.as_u16(), 400 | 404), "/{query}={text}: {}", answer.body);
        }
    }
    assert_eq!(api.get("/tenants").await.ok()["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_hostile_name_is_kept_as_it_is_or_refused() {
    let api = Api::new().await;
    api.post("/tenants", json!({"slug": "acme"})).await.created();
    for text in HOSTILE {
        let changed = api.patch("/tenants/acme", json!({"name": text})).await;
        match changed.status.as_u16() {
            200 => assert_eq!(api.get("/tenants/acme").await.ok()["name"], text),
            status => assert_eq!(status, 422, "{text}"),
        }
    }
}

#[tokio::test]
async fn hostile_headers_are_refused_or_have_no_effect() {
    let api = Api::new().await;
    let long = "a".repeat(10_000);
    for (name, value) in [
        ("idempotency-key", &*long),
        ("idempotency-key", "' OR 1=1 --"),
        ("if-match", "\"1\", \"2\""),
        ("if-match", "' OR 1=1"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-cfr-impersonating", "usr_00000000000000000000000000"),
        ("cookie", "__Host-cfr=' OR '1'='1; __Host-cfr=x"),
    ] {
        let body = Some(json!({"name": "x"}));
        let as_admin = api.send(Method::PATCH, "/tenants/acme", &[(name, value)], body.clone()).await;
        assert!(matches!(as_admin.status.as_u16(), 400 | 404), "{name}: {}", as_admin.body);
        let as_nobody = api.send_as(None, Method::PATCH, "/tenants/acme", &[(name, value)], body).await;
        as_nobody.is_problem(401, "unauthorized");
    }
}
