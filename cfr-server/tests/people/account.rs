//! What people change about themselves, and how a forgotten password is set anew.

use std::time::Duration;

use cfr_billing::identity::Role;
use serde_json::json;

use super::support::{OTHER, PASSWORD, Site};

#[tokio::test]
async fn a_password_is_changed_by_who_knows_it_to_one_that_protects() {
    let site = Site::start().await;
    site.user("ada@acme.example", Role::User).await;
    let browser = site.signed_in("ada@acme.example").await;
    let change = |current: &str, new: &str| json!({ "current_password": current, "password": new });
    browser.put("/auth/password", change("wrong", OTHER)).await.is_problem(401, "wrong_credentials");
    browser.put("/auth/password", json!({ "password": OTHER })).await.is_problem(401, "wrong_credentials");
    for unfit in ["short", "passwordpassword", "lovelacelovelace", &"long".repeat(40)] {
        let refused = browser.put("/auth/password", change(PASSWORD, unfit)).await;
        assert_eq!(refused.is_problem(422, "invalid").json()["errors"][0]["field"], "password");
        site.clock.advance(Duration::from_secs(1));
    }
    browser.put("/auth/password", change(PASSWORD, OTHER)).await.is(200);
    assert!(site.letter("sign_in_changed").await.is_some());
    site.browser().sign_in("ada@acme.example", PASSWORD).await.is_problem(401, "wrong_credentials");
    site.browser().sign_in("ada@acme.example", OTHER).await.is(200);
}

#[tokio::test]
async fn a_letter_sets_a_new_password_once_within_half_an_hour() {
    let site = Site::start().await;
    site.user("ada@acme.example", Role::User).await;
    let (ada, browser) = (site.signed_in("ada@acme.example").await, site.browser());
    browser.post("/auth/password-reset", json!({ "email": "Ada@acme.example" })).await.is(202);
    let token = site.letter("reset_password").await.expect("a letter");
    let reset = |password: &str| json!({ "token": token, "password": password });
    browser.post("/auth/password-reset/confirm", reset("short")).await.is_problem(422, "invalid");
    browser.post("/auth/password-reset/confirm", reset(OTHER)).await.is(204);
    ada.get("/auth/session").await.is_problem(401, "not_signed_in");
    browser.post("/auth/password-reset/confirm", reset(PASSWORD)).await.is_problem(410, "token_not_valid");
    browser.sign_in("ada@acme.example", OTHER).await.is(200);

    browser.post("/auth/password-reset", json!({ "email": "ada@acme.example" })).await.is(202);
    let token = site.letter("reset_password").await.expect("a letter");
    site.clock.advance(Duration::from_mins(30));
    let late = json!({ "token": token, "password": PASSWORD });
    browser.post("/auth/password-reset/confirm", late).await.is_problem(410, "token_not_valid");
}

#[tokio::test]
async fn a_letter_from_before_a_change_of_the_password_is_void() {
    let site = Site::start().await;
    site.user("ada@acme.example", Role::User).await;
    let browser = site.signed_in("ada@acme.example").await;
    browser.post("/auth/password-reset", json!({ "email": "ada@acme.example" })).await.is(202);
    let token = site.letter("reset_password").await.expect("a letter");
    let change = json!({ "current_password": PASSWORD, "password": OTHER });
    browser.put("/auth/password", change).await.is(200);
    let reset = json!({ "token": token, "password": PASSWORD });
    browser.post("/auth/password-reset/confirm", reset).await.is_problem(410, "token_not_valid");
}

#[tokio::test]
async fn nobody_learns_who_has_an_account_by_asking_for_a_letter_and_nobody_gets_many() {
    let site = Site::start().await;
    site.user("ada@acme.example", Role::User).await;
    let browser = site.browser();
    let known = browser.post("/auth/password-reset", json!({ "email": "ada@acme.example" })).await;
    assert!(site.letter("reset_password").await.is_some());
    let unknown = browser.post("/auth/password-reset", json!({ "email": "nobody@acme.example" })).await;
    assert_eq!((known.status, &known.body), (202, &unknown.body));
    assert_eq!(unknown.status, 202);
    site.clock.advance(Duration::from_secs(2));
    let mut letters = 0;
    for _ in 0..6 {
        browser.post("/auth/password-reset", json!({ "email": "ada@acme.example" })).await.is(202);
        letters += usize::from(site.letter("reset_password").await.is_some());
    }
    assert!(letters <= 2, "{letters}");
}

#[tokio::test]
async fn a_new_password_by_letter_leaves_the_second_factor_as_it_is() {
    let site = Site::start().await;
    site.user("ada@acme.example", Role::User).await;
    let (seed, _) = site.signed_in("ada@acme.example").await.enrol(&site).await;
    let browser = site.browser();
    browser.post("/auth/password-reset", json!({ "email": "ada@acme.example" })).await.is(202);
    let token = site.letter("reset_password").await.expect("a letter");
    let short = json!({ "token": token, "password": "vurnaq-7kd" });
    browser.post("/auth/password-reset/confirm", short).await.is(204); // beside a second factor it is long enough
    let half = browser.sign_in("ada@acme.example", "vurnaq-7kd").await;
    assert_eq!(half.is(200).json(), json!({ "state": "second_factor_required", "passkey": false }));
    site.clock.advance(Duration::from_secs(30));
    browser.post("/auth/second-factor", json!({ "code": site.code(&seed) })).await.is(200);
}

#[tokio::test]
async fn another_address_is_proved_by_a_letter_to_it_and_told_to_the_one_before() {
    let site = Site::start().await;
    site.user("ada@acme.example", Role::User).await;
    site.user("bob@acme.example", Role::User).await;
    let browser = site.signed_in("ada@acme.example").await;
    site.clock.advance(Duration::from_mins(5));
    browser.put("/auth/email", json!({ "email": "countess@acme.example" })).await.is_problem(403, "step_up_required");
    browser.post("/auth/step-up", json!({ "password": PASSWORD })).await.is(200);
    browser.put("/auth/email", json!({ "email": "no address" })).await.is_problem(422, "invalid");
    browser.put("/auth/email", json!({ "email": "bob@acme.example" })).await.is(202);
    assert!(site.letter("change_email").await.is_none(), "it is somebody's, who learns nothing");
    browser.put("/auth/email", json!({ "email": "countess@acme.example" })).await.is(202);
    let token = site.letter("change_email").await.expect("a letter to the new one");
    let confirm = json!({ "token": token });
    site.browser().post("/auth/email/confirm", confirm.clone()).await.is(204);
    site.browser().post("/auth/email/confirm", confirm).await.is_problem(410, "token_not_valid");
    let me = browser.get("/auth/session").await.is(200).json();
    assert_eq!(me["user"]["email"], "countess@acme.example");
    site.signed_in("countess@acme.example").await;
}

#[tokio::test]
async fn a_name_and_a_language_are_changed() {
    let site = Site::start().await;
    site.user("ada@acme.example", Role::User).await;
    let browser = site.signed_in("ada@acme.example").await;
    let body = Some(json!({ "name": "Countess", "locale": "de" }));
    let me = browser.send(reqwest::Method::PATCH, "/auth/profile", body, &[]).await.is(200).json();
    assert_eq!((&me["name"], &me["locale"]), (&json!("Countess"), &json!("de")));
    let body = Some(json!({ "role": "admin" }));
    browser.send(reqwest::Method::PATCH, "/auth/profile", body, &[]).await.is_problem(422, "invalid");
}
