//! What pages of other sites make a browser send changes nothing.

use cfr_billing::identity::Role;
use reqwest::Method;
use serde_json::json;

use super::support::{PASSWORD, Site};

#[tokio::test]
async fn a_change_takes_the_token_of_its_own_session() {
    let site = Site::start().await;
    site.user("ada@acme.example", Role::User).await;
    site.user("bob@acme.example", Role::User).await;
    let (ada, bob) = (site.signed_in("ada@acme.example").await, site.signed_in("bob@acme.example").await);
    for token in ["", bob.csrf().as_str()] {
        let forged = [("x-csrf-token", token)];
        let seen = ada.send(Method::DELETE, "/auth/sessions", None, &forged).await;
        seen.is_problem(403, "csrf_token_required");
        let key = json!({ "name": "forged" });
        ada.send(Method::POST, "/api/v1/keys", Some(key), &forged).await.is_problem(403, "csrf_token_required");
    }
    ada.delete("/auth/sessions").await.is(200);
}

#[tokio::test]
async fn other_sites_change_nothing_and_sign_nobody_in() {
    let site = Site::start().await;
    site.user("ada@acme.example", Role::User).await;
    let ada = site.signed_in("ada@acme.example").await;
    let body = json!({ "email": "ada@acme.example", "password": PASSWORD });
    for foreign in [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        ada.send(Method::DELETE, "/auth/session", None, &[foreign]).await.is_problem(403, "foreign_origin");
        let seen = site.browser().send(Method::POST, "/auth/sign-in", Some(body.clone()), &[foreign]).await;
        seen.is_problem(403, "foreign_origin");
    }
    ada.get("/auth/session").await.is(200);
}

#[tokio::test]
async fn calls_to_models_take_no_cookie() {
    let site = Site::start().await;
    site.user("ada@acme.example", Role::User).await;
    let ada = site.signed_in("ada@acme.example").await;
    ada.get("/v1/models").await.is(401);
    ada.post("/v1/chat/completions", json!({ "model": "gpt-4o-mini", "messages": [] })).await.is(401);
}
