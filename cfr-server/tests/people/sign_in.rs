//! Who gets in, who does not, and what they learn.

use std::time::Duration;

use cfr_billing::identity::{Role, UserStatus};
use serde_json::json;

use super::support::{PASSWORD, Seen, Site};

#[tokio::test]
async fn who_knows_the_password_signs_in_sees_themselves_and_signs_out() {
    let site = Site::start().await;
    site.user("ada@acme.example", Role::User).await;
    let browser = site.browser();
    browser.get("/auth/session").await.is_problem(401, "not_signed_in");
    let seen = browser.sign_in(" Ada@ACME.example ", PASSWORD).await;
    assert_eq!(seen.is(200).json()["second_factor_needed"], false);
    assert_eq!(seen.header("cache-control"), "no-store");
    let me = browser.get("/auth/session").await.is(200).json();
    assert_eq!((&me["user"]["email"], &me["user"]["role"]), (&json!("ada@acme.example"), &json!("user")));
    assert_eq!((&me["session"]["methods"], &me["session"]["current"]), (&json!(["pwd"]), &json!(true)));
    assert_eq!(me["factors"]["second_factor_required"], false);
    assert!(me["permissions"].as_array().is_some_and(|list| list.contains(&json!("keys:read"))), "{me}");
    browser.delete("/auth/session").await.is(204);
    browser.get("/auth/session").await.is_problem(401, "not_signed_in");
    let told: Vec<String> = site.events("session.").await.into_iter().map(|(action, _)| action).collect();
    assert_eq!(told, ["session.ended", "session.opened"]);
}

#[tokio::test]
async fn a_session_never_keeps_what_the_browser_had_before() {
    let site = Site::start().await;
    site.user("ada@acme.example", Role::User).await;
    let (browser, planted) = (site.browser(), "a".repeat(43));
    browser.set_cookie("__Host-cfr", &planted);
    browser.sign_in("ada@acme.example", PASSWORD).await.is(200);
    let first = browser.cookie("__Host-cfr");
    assert!(first.len() == 43 && first != planted, "{first}");
    browser.sign_in("ada@acme.example", PASSWORD).await.is(200);
    assert_ne!(browser.cookie("__Host-cfr"), first);
    let thief = site.browser();
    thief.set_cookie("__Host-cfr", &planted);
    thief.get("/auth/session").await.is_problem(401, "not_signed_in");
}

#[tokio::test]
async fn nobody_learns_who_has_an_account_by_answers_or_by_work() {
    let site = Site::start().await;
    site.user("ada@acme.example", Role::User).await;
    site.admit("federated@acme.example", Role::User, UserStatus::Active, None).await;
    site.admit("pending@acme.example", Role::User, UserStatus::Pending, Some("$argon2id$broken")).await;
    let (before, browser) = (site.people().hashes_made(), site.browser());
    let mut answers: Vec<Seen> = Vec::new();
    let emails =
        ["nobody@acme.example", "ada@acme.example", "federated@acme.example", "pending@acme.example", "no address", ""];
    for email in emails {
        answers.push(browser.sign_in(email, "another password than hers").await);
    }
    assert_eq!(site.people().hashes_made() - before, 6, "each costs one comparison");
    for answer in &answers {
        answer.is_problem(401, "wrong_credentials");
        assert_eq!(answer.body, answers[0].body);
    }
    let told = site.events("session.refused").await;
    assert_eq!(told.len(), 6);
    assert!(!format!("{told:?}").contains("acme.example"), "no address is told: {told:?}");
}

#[tokio::test]
async fn who_tries_too_often_waits_and_others_do_not() {
    let site = Site::start().await;
    site.user("ada@acme.example", Role::User).await;
    site.user("bob@acme.example", Role::User).await;
    for email in ["ada@acme.example", "nobody@acme.example"] {
        let browser = site.browser();
        for _ in 0..3 {
            browser.sign_in(email, "wrong").await.is_problem(401, "wrong_credentials");
        }
        let waits = browser.sign_in(email, PASSWORD).await;
        assert_eq!(waits.is_problem(429, "too_many_attempts").header("retry-after"), "1");
    }
    site.signed_in("bob@acme.example").await;
    site.clock.advance(Duration::from_secs(1));
    site.signed_in("ada@acme.example").await;
}

#[tokio::test]
async fn what_failed_elsewhere_counts_here_and_after_a_hundred_times_only_a_letter_helps() {
    let site = Site::start().await;
    let ada = site.user("ada@acme.example", Role::User).await;
    let store = &site.app.books.store;
    let mut credentials = store.credentials(ada.id).await.expect("credentials");
    (credentials.failures, credentials.failed_at) = (13, Some(site.act().at));
    store.set_credentials(&credentials, None, &site.act()).await.expect("another replica counted");
    site.browser().sign_in("ada@acme.example", PASSWORD).await.is_problem(401, "wrong_credentials");
    site.clock.advance(Duration::from_mins(15));
    site.signed_in("ada@acme.example").await;
    let mut credentials = store.credentials(ada.id).await.expect("credentials");
    assert_eq!(credentials.failures, 0, "forgotten");
    credentials.failures = 100;
    store.set_credentials(&credentials, None, &site.act()).await.expect("another replica counted");
    site.clock.advance(Duration::from_hours(48));
    site.browser().sign_in("ada@acme.example", PASSWORD).await.is_problem(401, "wrong_credentials");
    site.browser().post("/auth/password-reset", json!({ "email": "ada@acme.example" })).await.is(202);
    let token = site.letter("reset_password").await.expect("a letter");
    let reset = json!({ "token": token, "password": PASSWORD });
    site.browser().post("/auth/password-reset/confirm", reset).await.is(204);
    site.clock.advance(Duration::from_mins(15));
    site.signed_in("ada@acme.example").await;
}

#[tokio::test]
async fn many_guesses_at_once_are_as_many_failures() {
    let site = Site::start().await;
    let ada = site.user("ada@acme.example", Role::User).await;
    let guesses = (0..20).map(|number| {
        let browser = site.browser();
        async move { browser.sign_in("ada@acme.example", &format!("guess {number}")).await.status }
    });
    let answers = futures_util::future::join_all(guesses).await;
    let compared = answers.iter().filter(|status| **status == 401).count();
    assert_eq!(compared, 3, "no more than were free: {answers:?}");
    assert_eq!(site.app.books.store.credentials(ada.id).await.expect("credentials").failures, 3);
}

#[tokio::test]
async fn who_is_not_active_learns_so_only_with_the_password() {
    let site = Site::start().await;
    let hash = site.people().hash_password(&cfr_core::secret::Secret::new(PASSWORD)).await.expect("a hash");
    site.admit("pending@acme.example", Role::User, UserStatus::Pending, Some(&hash)).await;
    let browser = site.browser();
    let waits = browser.sign_in("pending@acme.example", PASSWORD).await;
    let detail = waits.is_problem(403, "user_not_active").json()["detail"].to_string();
    assert!(detail.contains("waits for an administrator"), "{detail}");
    assert_eq!(browser.cookie("__Host-cfr"), "");
}

#[tokio::test]
async fn a_password_of_another_program_works_and_is_kept_our_way_from_then_on() {
    let site = Site::start().await;
    let bcrypt = bcrypt::hash(PASSWORD, 4).expect("a hash");
    let ada = site.admit("ada@acme.example", Role::User, UserStatus::Active, Some(&bcrypt)).await;
    site.browser().sign_in("ada@acme.example", "wrong").await.is_problem(401, "wrong_credentials");
    site.signed_in("ada@acme.example").await;
    let kept = site.app.books.store.credentials(ada.id).await.expect("credentials").password.expect("kept");
    assert!(kept.starts_with("$argon2id$"), "{kept}");
    site.signed_in("ada@acme.example").await;
}

#[tokio::test]
async fn the_address_behind_a_trusted_proxy_is_the_one_that_is_told() {
    let site = Site::start_with("[server]\ntrusted_proxies = [\"127.0.0.0/8\"]").await;
    site.user("ada@acme.example", Role::User).await;
    let browser = site.browser();
    let body = Some(json!({ "email": "ada@acme.example", "password": PASSWORD }));
    let forwarded = [("x-forwarded-for", "10.0.0.9, 203.0.113.7")];
    browser.send(reqwest::Method::POST, "/auth/sign-in", body, &forwarded).await.is(200);
    let me = browser.get("/auth/session").await.is(200).json();
    assert_eq!(me["session"]["address"], "203.0.113.7");
}
