//! Passkeys: with and without the password, as a proof, and every way in which an answer can be wrong.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cfr_billing::identity::{Role, UserPatch, UserStatus};
use cfr_server::people::passkeys::PASSKEYS_MAX;
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::authenticator::{Authenticator, ORIGIN, encode};
use super::support::{Browser, PASSWORD, Seen, Site};

const ADA: &str = "ada@acme.example";
const SIGN_IN: &str = "/auth/sign-in/passkey";
const SECOND_FACTOR: &str = "/auth/second-factor/passkey";
const STEP_UP: &str = "/auth/step-up/passkey";
const OWN: &str = "/auth/factors/passkeys";

async fn site() -> Site {
    let site = Site::start_with(&format!("[server]\npublic_url = \"{ORIGIN}\"")).await;
    site.user(ADA, Role::User).await;
    site
}

/// What a browser is asked.
async fn asked(browser: &Browser, path: &str) -> Value {
    browser.post(&format!("{path}/begin"), json!({})).await.is(200).json()["publicKey"].clone()
}

async fn answer(browser: &Browser, path: &str, device: &mut Authenticator) -> Seen {
    let options = asked(browser, path).await;
    browser.post(path, json!({ "credential": device.answer(&options) })).await
}

async fn add(browser: &Browser, device: &mut Authenticator, name: &str) -> Seen {
    let options = asked(browser, OWN).await;
    browser.post(OWN, json!({ "name": name, "credential": device.make(&options) })).await
}

/// Ada's device with a passkey.
async fn device_of(site: &Site, email: &str) -> (Browser, Authenticator) {
    let (browser, mut device) = (site.signed_in(email).await, Authenticator::new());
    add(&browser, &mut device, "Phone").await.is(201);
    (browser, device)
}

/// Why people were refused, the newest first.
async fn reasons(site: &Site) -> Vec<String> {
    let told = site.events("session.refused").await;
    told.into_iter().map(|(_, changes)| changes["reason"].as_str().expect("a reason").to_owned()).collect()
}

#[tokio::test]
async fn a_passkey_signs_in_without_a_name_and_is_two_factors() {
    let site = site().await;
    let (elsewhere, browser) = (site.signed_in(ADA).await, site.signed_in(ADA).await);
    let mut device = Authenticator::new();
    let added = add(&browser, &mut device, "Phone").await.is(201).json();
    assert_eq!((&added["passkey"]["name"], &added["passkey"]["used_at"]), (&json!("Phone"), &Value::Null));
    assert_eq!(added["recovery_codes"].as_array().map(Vec::len), Some(10));
    assert_eq!(site.letter("sign_in_changed").await.as_deref(), Some(""), "a letter without a token");
    elsewhere.get("/auth/session").await.is_problem(401, "not_signed_in");
    browser.get("/auth/session").await.is(200);
    let other = site.browser();
    assert_eq!(answer(&other, SIGN_IN, &mut device).await.is(200).json()["state"], "signed_in");
    let me = other.get("/auth/session").await.is(200).json();
    assert_eq!((&me["user"]["email"], &me["session"]["methods"]), (&json!(ADA), &json!(["hwk", "mfa"])));
    assert_eq!((&me["factors"]["passkeys"], &me["factors"]["recovery_codes"]), (&json!(1), &json!(10)));
    let listed = other.get(OWN).await.is(200).json();
    assert!(listed["items"][0]["used_at"].is_string(), "{listed}");
    assert_eq!(site.events("factor.").await, [("factor.added".into(), json!({ "factor": "passkey" }))]);
}

#[tokio::test]
async fn who_must_have_a_second_factor_may_begin_with_a_passkey() {
    let site = site().await;
    site.user("chief@acme.example", Role::TenantAdmin).await;
    let browser = site.signed_in("chief@acme.example").await;
    browser.get("/api/v1/users").await.is_problem(403, "second_factor_needed");
    let mut device = Authenticator::new();
    add(&browser, &mut device, "Key").await.is(201);
    browser.get("/api/v1/users").await.is(200);
    let other = site.browser();
    answer(&other, SIGN_IN, &mut device).await.is(200);
    other.get("/api/v1/users").await.is(200);
}

#[tokio::test]
async fn a_passkey_or_a_recovery_code_follows_the_password() {
    let site = site().await;
    let (browser, mut device) = device_of(&site, ADA).await;
    let codes = browser.post("/auth/factors/recovery-codes", json!({})).await.is(200).json();
    let half = site.browser();
    let state = half.sign_in(ADA, PASSWORD).await.is(200).json();
    assert_eq!(state, json!({ "state": "second_factor_required", "passkey": true }));
    assert_eq!(answer(&half, SECOND_FACTOR, &mut device).await.is(200).json()["state"], "signed_in");
    let me = half.get("/auth/session").await.is(200).json();
    assert_eq!(me["session"]["methods"], json!(["pwd", "hwk", "mfa"]));
    let lost = site.browser();
    lost.sign_in(ADA, PASSWORD).await.is(200);
    lost.post("/auth/second-factor", json!({ "code": codes["recovery_codes"][0] })).await.is(200);
}

#[tokio::test]
async fn a_passkey_is_a_proof_and_removing_the_last_one_removes_the_recovery_codes() {
    let site = site().await;
    let (browser, mut device) = device_of(&site, ADA).await;
    let id = browser.get(OWN).await.is(200).json()["items"][0]["id"].as_str().expect("an id").to_owned();
    let one = format!("{OWN}/{id}");
    site.clock.advance(Duration::from_mins(5));
    browser.delete(&one).await.is_problem(403, "step_up_required");
    browser.post(&format!("{OWN}/begin"), json!({})).await.is_problem(403, "step_up_required");
    let before = browser.cookie("__Host-cfr");
    answer(&browser, STEP_UP, &mut device).await.is(200);
    assert_ne!(browser.cookie("__Host-cfr"), before, "another secret");
    browser.delete(&one).await.is(200);
    browser.delete(&one).await.is_problem(404, "not_found");
    let me = browser.get("/auth/session").await.is(200).json();
    assert_eq!((&me["factors"]["passkeys"], &me["factors"]["recovery_codes"]), (&json!(0), &json!(0)));
    answer(&site.browser(), SIGN_IN, &mut device).await.is_problem(401, "wrong_passkey");
    assert_eq!(site.signed_in(ADA).await.get(OWN).await.is(200).json(), json!({ "items": [] }));
    let told: Vec<String> = site.events("").await.into_iter().map(|(action, _)| action).collect();
    assert!(told.contains(&"factor.removed".into()) && told.contains(&"session.proved".into()), "{told:?}");
}

#[tokio::test]
async fn an_app_stays_when_a_passkey_goes_and_the_other_way_round() {
    let site = site().await;
    let (browser, mut device) = device_of(&site, ADA).await;
    browser.enrol(&site).await;
    let added = add(&browser, &mut device, "Key").await.is(201).json();
    assert_eq!(added["recovery_codes"], json!([]), "there are some");
    browser.delete("/auth/factors/totp").await.is(200);
    let me = browser.get("/auth/session").await.is(200).json();
    assert_eq!((&me["factors"]["passkeys"], &me["factors"]["recovery_codes"]), (&json!(2), &json!(10)));
    answer(&site.browser(), SIGN_IN, &mut device).await.is(200);
}

#[tokio::test]
async fn a_passkey_has_a_name_that_can_be_changed() {
    let site = site().await;
    let (browser, _) = device_of(&site, ADA).await;
    let id = browser.get(OWN).await.is(200).json()["items"][0]["id"].as_str().expect("an id").to_owned();
    let rename = |id: &str, name: &str| {
        let (path, body) = (format!("{OWN}/{id}"), json!({ "name": name }));
        let browser = &browser;
        async move { browser.send(Method::PATCH, &path, Some(body), &[]).await }
    };
    assert_eq!(rename(&id, "Old phone").await.is(200).json()["name"], "Old phone");
    rename(&id, "").await.is_problem(422, "invalid");
    rename("AAAA", "x").await.is_problem(404, "not_found");
    assert_eq!(browser.get(OWN).await.json()["items"][0]["name"], "Old phone");
    assert_eq!(site.events("factor.").await[0].0, "factor.renamed");
}

#[tokio::test]
async fn nobody_has_more_passkeys_than_one_may_have() {
    let site = site().await;
    let (browser, mut device) = device_of(&site, ADA).await;
    for number in 1..PASSKEYS_MAX {
        add(&browser, &mut device, &number.to_string()).await.is(201);
    }
    browser.post(&format!("{OWN}/begin"), json!({})).await.is_problem(409, "conflict");
}

/// What is wrong, and how the authenticator, the question with the right challenge, and the answer are changed for it.
type Wrong = (&'static str, fn(&mut Authenticator), fn(&mut Value, &str), fn(&mut Value));

#[tokio::test]
async fn an_answer_that_is_wrong_in_any_way_lets_nobody_in() {
    let site = site().await;
    let (_, mut device) = device_of(&site, ADA).await;
    let browser = site.browser();
    let challenge = encode(&[7; 32]);
    let wrong: [Wrong; 7] = [
        ("another site", |device| device.origin = "https://evil.example".into(), |_, _| (), |_| ()),
        ("another port", |device| device.origin = format!("{ORIGIN}:8443"), |_, _| (), |_| ()),
        ("nobody looked who holds it", |device| device.verified = false, |_, _| (), |_| ()),
        ("another challenge", |_| (), |options, challenge| options["challenge"] = challenge.into(), |_| ()),
        ("another party", |_| (), |options, _| options["rpId"] = "evil.example".into(), |_| ()),
        ("another signature", |_| (), |_, _| (), |answer| answer["response"]["signature"] = "MAYCAQECAQE".into()),
        ("nobody", |_| (), |_, _| (), |answer| answer["response"]["userHandle"] = encode(&[9; 16]).into()),
    ];
    for (what, disturb, ask, tamper) in wrong {
        let mut options = asked(&browser, SIGN_IN).await;
        disturb(&mut device);
        ask(&mut options, &challenge);
        let mut answer = device.answer(&options);
        tamper(&mut answer);
        (device.origin, device.verified) = (ORIGIN.into(), true);
        let seen = browser.post(SIGN_IN, json!({ "credential": answer })).await;
        assert_eq!((seen.status, &seen.json()["code"]), (401, &json!("wrong_passkey")), "{what}: {seen:?}");
        assert_eq!(browser.cookie("__Host-cfr"), "", "{what}");
    }
    assert_eq!(reasons(&site).await, ["wrong_passkey"; 7]);
    answer(&browser, SIGN_IN, &mut device).await.is(200);
}

#[tokio::test]
async fn a_challenge_is_answered_once_within_five_minutes_by_the_browser_that_got_it() {
    let site = site().await;
    let (_, mut device) = device_of(&site, ADA).await;
    let (browser, thief) = (site.browser(), site.browser());
    let stolen = json!({ "credential": device.answer(&asked(&browser, SIGN_IN).await) });
    thief.post(SIGN_IN, stolen.clone()).await.is_problem(410, "challenge_not_valid");
    let cookie = browser.cookie("__Host-cfr-challenge");
    browser.post(SIGN_IN, stolen.clone()).await.is(200);
    assert_eq!(browser.cookie("__Host-cfr-challenge"), "");
    browser.set_cookie("__Host-cfr-challenge", &cookie);
    browser.post(SIGN_IN, stolen.clone()).await.is_problem(410, "challenge_not_valid");
    asked(&thief, SIGN_IN).await;
    thief.post(SIGN_IN, stolen).await.is_problem(401, "wrong_passkey"); // of another challenge
    let late = asked(&browser, SIGN_IN).await;
    site.clock.advance(Duration::from_mins(5));
    let late = json!({ "credential": device.answer(&late) });
    browser.post(SIGN_IN, late).await.is_problem(410, "challenge_not_valid");
}

#[tokio::test]
async fn a_challenge_serves_what_it_was_made_for_only() {
    let site = site().await;
    let (browser, mut device) = device_of(&site, ADA).await;
    let body = |device: &mut Authenticator, options: &Value| json!({ "credential": device.answer(options) });
    let to_sign_in = asked(&browser, SIGN_IN).await;
    browser.post(STEP_UP, body(&mut device, &to_sign_in)).await.is_problem(410, "challenge_not_valid");
    let to_prove = asked(&browser, STEP_UP).await;
    browser.post(SIGN_IN, body(&mut device, &to_prove)).await.is_problem(410, "challenge_not_valid");
    let (half, other) = (site.browser(), site.browser());
    half.sign_in(ADA, PASSWORD).await.is(200);
    let answered = body(&mut device, &asked(&half, SECOND_FACTOR).await);
    other.sign_in(ADA, PASSWORD).await.is(200);
    other.set_cookie("__Host-cfr-challenge", &half.cookie("__Host-cfr-challenge"));
    other.post(SECOND_FACTOR, answered).await.is_problem(410, "challenge_not_valid");
}

#[tokio::test]
async fn somebody_elses_passkey_is_none() {
    let site = site().await;
    site.user("bob@acme.example", Role::User).await;
    let (_, _) = device_of(&site, ADA).await;
    let (bob, mut device) = device_of(&site, "bob@acme.example").await;
    let half = site.browser();
    half.sign_in(ADA, PASSWORD).await.is(200);
    answer(&half, SECOND_FACTOR, &mut device).await.is_problem(401, "wrong_passkey");
    let ada = site.browser();
    answer(&ada, SIGN_IN, &mut device).await.is(200);
    assert_eq!(ada.get("/auth/session").await.json()["user"]["email"], "bob@acme.example", "who holds it");
    bob.get("/auth/session").await.is(200);
}

#[tokio::test]
async fn a_counter_that_does_not_grow_betrays_a_copy() {
    let site = site().await;
    let (browser, mut device) = (site.signed_in(ADA).await, Authenticator::new());
    device.counter = 5;
    add(&browser, &mut device, "Key").await.is(201);
    answer(&site.browser(), SIGN_IN, &mut device).await.is(200);
    for said in [6, 3, 1, 2, 0] {
        device.counter = said;
        answer(&site.browser(), SIGN_IN, &mut device).await.is_problem(401, "wrong_passkey");
    }
    assert_eq!(reasons(&site).await, ["copied_passkey"; 5]);
    device.counter = 20;
    answer(&site.browser(), SIGN_IN, &mut device).await.is(200);
}

#[tokio::test]
async fn one_of_many_answers_with_the_same_counter_counts() {
    let site = site().await;
    let (browser, mut device) = (site.signed_in(ADA).await, Authenticator::new());
    device.counter = 1;
    add(&browser, &mut device, "Key").await.is(201);
    let mut answers = Vec::new();
    for _ in 0..3 {
        let browser = site.browser();
        let options = asked(&browser, SIGN_IN).await;
        device.counter = 9;
        answers.push((browser, json!({ "credential": device.answer(&options) })));
    }
    let sent = answers.iter().map(|(browser, body)| browser.post(SIGN_IN, body.clone()));
    let statuses: Vec<u16> = futures_util::future::join_all(sent).await.iter().map(|seen| seen.status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
}

#[tokio::test]
async fn who_is_suspended_is_told_so_once_they_proved_who_they_are() {
    let site = site().await;
    let (_, mut device) = device_of(&site, ADA).await;
    let store = &site.app.books.store;
    let ada = store.user_by_email(ADA).await.expect("a store").expect("Ada");
    let suspended = UserPatch { status: Some(UserStatus::Suspended), ..UserPatch::default() };
    store.update_user(ada.id, ada.version, &suspended, &site.act()).await.expect("suspended");
    answer(&site.browser(), SIGN_IN, &mut device).await.is_problem(403, "user_not_active");
    assert_eq!(reasons(&site).await, ["not_active"]);
}

#[tokio::test]
async fn wrong_answers_close_the_way_of_passwords_and_never_the_one_of_passkeys() {
    let site = site().await;
    let (_, mut device) = device_of(&site, ADA).await;
    for _ in 0..4 {
        device.verified = false;
        answer(&site.browser(), SIGN_IN, &mut device).await.is_problem(401, "wrong_passkey");
    }
    site.browser().sign_in(ADA, PASSWORD).await.is_problem(401, "wrong_credentials");
    device.verified = true;
    answer(&site.browser(), SIGN_IN, &mut device).await.is(200);
}

#[tokio::test]
async fn an_erased_person_leaves_no_passkey() {
    let site = site().await;
    let (_, mut device) = device_of(&site, ADA).await;
    let store = &site.app.books.store;
    let ada = store.user_by_email(ADA).await.expect("a store").expect("Ada");
    store.erase_user(ada.id, ada.version, &site.act()).await.expect("erased");
    answer(&site.browser(), SIGN_IN, &mut device).await.is_problem(401, "wrong_passkey");
    assert_eq!(store.credentials(ada.id).await.expect("a store").passkeys, []);
}

#[tokio::test]
async fn without_a_name_of_the_server_there_are_no_passkeys() {
    let site = Site::start().await;
    site.user(ADA, Role::User).await;
    let browser = site.signed_in(ADA).await;
    browser.post(&format!("{OWN}/begin"), json!({})).await.is_problem(409, "passkeys_off");
    site.browser().post(&format!("{SIGN_IN}/begin"), json!({})).await.is_problem(409, "passkeys_off");
    let page = site.browser().get("/auth/sign-in").await;
    assert!(!page.is(200).body.contains("data-path"), "{}", page.body);
}

#[tokio::test]
async fn pages_ask_for_passkeys_with_one_script_of_ours() {
    let site = site().await;
    let page = site.browser().get("/auth/sign-in?return_to=/x").await;
    assert!(
        page.is(200).body.contains("data-path=\"/auth/sign-in/passkey\" data-csrf=\"\" data-next=\"/x\""),
        "{}",
        page.body
    );
    let (_, script) = page.body.split_once("<script>").expect("a script");
    let hash = STANDARD.encode(Sha256::digest(script.split("</script>").next().expect("an end")));
    let policy = page.header("content-security-policy");
    assert!(policy.contains(&format!("; script-src 'sha256-{hash}'; connect-src 'self'")), "{policy}");
    let without = site.browser().get("/auth/forgot-password").await;
    assert!(!without.header("content-security-policy").contains("script-src"), "{without:?}");
}

#[tokio::test]
async fn people_change_their_passkeys_on_a_page() {
    let site = site().await;
    let stranger = site.browser().get("/auth/account").await;
    assert!(stranger.is(200).body.contains("name=\"return_to\" value=\"/auth/account\""), "{}", stranger.body);
    let (browser, mut device) = device_of(&site, ADA).await;
    let page = browser.get("/auth/account").await;
    assert!(
        page.is(200).body.contains("value=\"Phone\"") && page.body.contains("data-path=\"/auth/factors/passkeys\"")
    );
    let id = browser.get(OWN).await.json()["items"][0]["id"].as_str().expect("an id").to_owned();
    let csrf = browser.csrf();
    let fields = [("csrf_token", csrf.as_str()), ("passkey", id.as_str()), ("name", "Old phone")];
    let renamed = browser.submit("/auth/pages/passkeys/rename", &fields).await;
    assert!(renamed.is(200).body.contains("value=\"Old phone\""), "{}", renamed.body);
    site.clock.advance(Duration::from_mins(5));
    for asks in [browser.get("/auth/account").await, browser.submit("/auth/pages/passkeys/remove", &fields[..2]).await]
    {
        assert!(asks.is(200).body.contains("data-path=\"/auth/step-up/passkey\""), "{}", asks.body);
    }
    let wrong = [("csrf_token", csrf.as_str()), ("password", PASSWORD), ("code", "000000")];
    browser.submit("/auth/pages/prove", &wrong).await.is(401);
    answer(&browser, STEP_UP, &mut device).await.is(200);
    let csrf = browser.csrf();
    let removed =
        browser.submit("/auth/pages/passkeys/remove", &[("csrf_token", csrf.as_str()), ("passkey", id.as_str())]).await;
    assert!(!removed.is(200).body.contains("Old phone"), "{}", removed.body);
    assert_eq!(browser.get(OWN).await.is(200).json(), json!({ "items": [] }));
}
