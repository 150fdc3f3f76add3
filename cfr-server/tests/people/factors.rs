//! Second factors: who needs one, how it is added, and that each code works once.

use std::time::Duration;

use cfr_billing::identity::Role;
use reqwest::Method;
use serde_json::json;

use super::joining::{admin_key, ask};
use super::support::{PASSWORD, Site};

const STEP: Duration = Duration::from_secs(30);

#[tokio::test]
async fn an_administrator_can_add_a_second_factor_and_nothing_else_until_then() {
    let site = Site::start().await;
    for (email, role) in [("root@acme.example", Role::Admin), ("chief@acme.example", Role::TenantAdmin)] {
        site.user(email, role).await;
        let browser = site.browser();
        let seen = browser.sign_in(email, PASSWORD).await;
        assert_eq!(seen.is(200).json()["second_factor_needed"], true);
        browser.get("/auth/sessions").await.is_problem(403, "second_factor_needed");
        browser.get("/api/v1/tenants").await.is_problem(403, "second_factor_needed");
        let me = browser.get("/auth/session").await.is(200).json();
        assert_eq!((&me["permissions"], &me["factors"]["second_factor_required"]), (&json!([]), &json!(true)));
        let before = browser.cookie("__Host-cfr");
        let (_, codes) = browser.enrol(&site).await;
        assert_eq!(codes.len(), 10);
        assert_ne!(browser.cookie("__Host-cfr"), before, "another secret");
        browser.get("/auth/sessions").await.is(200);
        browser.get("/api/v1/tenants").await.is(200);
    }
}

#[tokio::test]
async fn a_password_alone_opens_nothing_once_there_is_a_second_factor() {
    let site = Site::start().await;
    site.user("ada@acme.example", Role::User).await;
    let (seed, _) = site.signed_in("ada@acme.example").await.enrol(&site).await;
    site.clock.advance(STEP);
    let browser = site.browser();
    browser.post("/auth/second-factor", json!({ "code": site.code(&seed) })).await.is_problem(401, "password_required");
    let half = browser.sign_in("ada@acme.example", PASSWORD).await;
    assert_eq!(half.is(200).json(), json!({ "state": "second_factor_required", "passkey": false }));
    assert_eq!(browser.cookie("__Host-cfr"), "");
    let other = site.browser();
    other.set_cookie("__Host-cfr", &browser.cookie("__Host-cfr-half"));
    other.get("/auth/session").await.is_problem(401, "not_signed_in");
    browser.post("/auth/second-factor", json!({ "code": "000000" })).await.is_problem(401, "wrong_code");
    let seen = browser.post("/auth/second-factor", json!({ "code": site.code(&seed) })).await;
    assert_eq!(seen.is(200).json()["state"], "signed_in");
    assert_eq!(browser.cookie("__Host-cfr-half"), "");
    let me = browser.get("/auth/session").await.is(200).json();
    assert_eq!(me["session"]["methods"], json!(["pwd", "otp", "mfa"]));
}

#[tokio::test]
async fn seeds_and_signing_keys_are_sealed_anew_and_work_as_before() {
    let site = Site::start_with("[server]\npublic_url = \"http://localhost:4000\"\n").await;
    let user = site.user("ada@acme.example", Role::User).await;
    let (seed, _) = site.signed_in("ada@acme.example").await.enrol(&site).await;
    let (key, browser) = (admin_key(&site).await, site.browser());
    let rotate = async |body| ask(&browser, &key, Method::POST, "/secrets/rotate-data-key", body).await.is(200).json();
    let tenant = user.tenant.to_string();
    let rotated = rotate(json!({ "tenant": tenant })).await;
    assert_eq!((&rotated["seeds_resealed"], &rotated["signing_keys_resealed"]), (&json!(1), &json!(0)), "{rotated}");
    let resumed = rotate(json!({ "tenant": tenant, "resume": true })).await;
    assert_eq!((&resumed["seeds_resealed"], &resumed["data_key"]), (&json!(0), &rotated["data_key"]));

    let signing = site.app.oidc.as_ref().expect("a provider").signing();
    signing.rotate().await.expect("a key");
    assert_eq!(rotate(json!({})).await["signing_keys_resealed"], 1);
    let verified = ask(&browser, &key, Method::POST, "/secrets/verify", json!({})).await.is(200).json();
    assert_eq!((&verified["seeds"], &verified["signing_keys"]), (&json!(1), &json!(1)), "{verified}");

    site.clock.advance(STEP);
    browser.sign_in("ada@acme.example", PASSWORD).await.is(200);
    let seen = browser.post("/auth/second-factor", json!({ "code": site.code(&seed) })).await;
    assert_eq!(seen.is(200).json()["state"], "signed_in");
}

#[tokio::test]
async fn a_half_session_ends_after_five_minutes() {
    let site = Site::start().await;
    site.user("ada@acme.example", Role::User).await;
    let (seed, _) = site.signed_in("ada@acme.example").await.enrol(&site).await;
    let browser = site.browser();
    browser.sign_in("ada@acme.example", PASSWORD).await.is(200);
    site.clock.advance(Duration::from_mins(5));
    browser.post("/auth/second-factor", json!({ "code": site.code(&seed) })).await.is_problem(401, "password_required");
}

#[tokio::test]
async fn a_code_that_was_used_is_wrong_also_from_another_browser() {
    let site = Site::start().await;
    site.user("ada@acme.example", Role::User).await;
    let (seed, _) = site.signed_in("ada@acme.example").await.enrol(&site).await;
    let (ada, thief) = (site.browser(), site.browser());
    ada.sign_in("ada@acme.example", PASSWORD).await.is(200);
    let enrolled_with = json!({ "code": site.code(&seed) });
    ada.post("/auth/second-factor", enrolled_with).await.is_problem(401, "wrong_code");
    site.clock.advance(STEP);
    let code = json!({ "code": site.code(&seed) });
    ada.post("/auth/second-factor", code.clone()).await.is(200);
    thief.sign_in("ada@acme.example", PASSWORD).await.is(200);
    thief.post("/auth/second-factor", code).await.is_problem(401, "wrong_code");
}

#[tokio::test]
async fn a_recovery_code_lets_one_of_many_in_who_use_it_at_once() {
    let site = Site::start().await;
    site.user("ada@acme.example", Role::User).await;
    let browser = site.signed_in("ada@acme.example").await;
    let (_, codes) = browser.enrol(&site).await;
    let half = site.browser();
    half.sign_in("ada@acme.example", PASSWORD).await.is(200);
    let tries = (0..3).map(|_| half.post("/auth/second-factor", json!({ "code": codes[4] })));
    let answers = futures_util::future::join_all(tries).await;
    let entered = answers.iter().filter(|seen| seen.status == 200).count();
    assert_eq!(entered, 1, "{answers:?}");
    let me = browser.get("/auth/session").await.is(200).json();
    assert_eq!(me["factors"]["recovery_codes"], 9);
}

#[tokio::test]
async fn what_is_dangerous_asks_for_a_recent_proof_with_everything() {
    let site = Site::start().await;
    site.user("ada@acme.example", Role::User).await;
    let browser = site.signed_in("ada@acme.example").await;
    let (seed, codes) = browser.enrol(&site).await;
    site.clock.advance(Duration::from_mins(5));
    browser.post("/auth/factors/recovery-codes", json!({})).await.is_problem(403, "step_up_required");
    browser.delete("/auth/factors/totp").await.is_problem(403, "step_up_required");
    let password_alone = json!({ "password": PASSWORD });
    browser.post("/auth/step-up", password_alone).await.is_problem(401, "wrong_code");
    browser.post("/auth/step-up", json!({ "code": site.code(&seed) })).await.is_problem(401, "wrong_credentials");
    let before = browser.cookie("__Host-cfr");
    let both = json!({ "password": PASSWORD, "code": site.code(&seed) });
    browser.post("/auth/step-up", both).await.is(200);
    assert_ne!(browser.cookie("__Host-cfr"), before);
    let new = browser.post("/auth/factors/recovery-codes", json!({})).await.is(200).json();
    assert!(new["recovery_codes"].as_array().is_some_and(|new| new.len() == 10 && !new.contains(&json!(codes[0]))));
    browser.delete("/auth/factors/totp").await.is(200);
    let me = browser.get("/auth/session").await.is(200).json();
    assert_eq!((&me["factors"]["totp"], &me["factors"]["recovery_codes"]), (&json!(false), &json!(0)));
    site.signed_in("ada@acme.example").await;
    let told: Vec<String> = site.events("factor.").await.into_iter().map(|(action, _)| action).collect();
    assert_eq!(told, ["factor.removed", "factor.added"]);
}

#[tokio::test]
async fn an_app_is_added_once_and_protects_only_after_it_was_confirmed() {
    let site = Site::start().await;
    site.user("ada@acme.example", Role::User).await;
    let browser = site.signed_in("ada@acme.example").await;
    browser.post("/auth/factors/totp/confirm", json!({ "code": "123456" })).await.is_problem(409, "conflict");
    let first = browser.post("/auth/factors/totp", json!({})).await.is(200).json();
    assert!(first["url"].as_str().is_some_and(|url| url.starts_with("otpauth://totp/")), "{first}");
    site.signed_in("ada@acme.example").await; // the password is still enough
    let second = browser.post("/auth/factors/totp", json!({})).await.is(200).json();
    let code = |begun: &serde_json::Value| json!({ "code": site.code(begun["secret"].as_str().expect("a seed")) });
    browser.post("/auth/factors/totp/confirm", code(&first)).await.is_problem(401, "wrong_code");
    browser.post("/auth/factors/totp/confirm", code(&second)).await.is(200);
    browser.post("/auth/factors/totp", json!({})).await.is_problem(409, "conflict");
}

#[tokio::test]
async fn guessed_codes_close_the_account_like_guessed_passwords() {
    let site = Site::start().await;
    site.user("ada@acme.example", Role::User).await;
    site.signed_in("ada@acme.example").await.enrol(&site).await;
    let thief = site.browser();
    thief.sign_in("ada@acme.example", PASSWORD).await.is(200);
    for _ in 0..3 {
        thief.post("/auth/second-factor", json!({ "code": "000000" })).await.is_problem(401, "wrong_code");
    }
    thief.post("/auth/second-factor", json!({ "code": "000000" })).await.is_problem(429, "too_many_attempts");
    thief.sign_in("ada@acme.example", PASSWORD).await.is_problem(429, "too_many_attempts");
}
