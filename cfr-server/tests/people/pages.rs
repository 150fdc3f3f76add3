//! The pages for browsers without a portal: they need no script.

use cfr_billing::identity::Role;
use reqwest::Method;

use super::support::{OTHER, PASSWORD, Seen, Site};

/// The value of a hidden field.
fn hidden(page: &Seen, name: &str) -> String {
    let (_, rest) = page.body.split_once(&format!("name=\"{name}\" value=\"")).expect("the field");
    rest.split('"').next().unwrap_or_default().replace("&amp;", "&")
}

#[tokio::test]
async fn a_form_signs_in_and_leads_back_to_where_somebody_came_from() {
    let site = Site::start().await;
    site.user("ada@acme.example", Role::User).await;
    let browser = site.browser();
    let page = browser.get("/auth/sign-in?return_to=%2Foauth%2Fauthorize%3Fa%3D1%26b%3D2").await;
    assert_eq!(hidden(page.is(200), "return_to"), "/oauth/authorize?a=1&b=2");
    assert!(!page.body.contains("<script"), "{}", page.body);
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert_eq!((page.header("cache-control"), page.header("referrer-policy")), ("no-store", "same-origin"));
    let back = "/oauth/authorize?a=1&b=2";
    let fields = [("email", "ada@acme.example"), ("password", "wrong"), ("return_to", back)];
    let wrong = browser.submit("/auth/pages/sign-in", &fields).await;
    assert!(wrong.is(401).body.contains("role=\"alert\"") && hidden(&wrong, "return_to") == back, "{wrong:?}");
    let fields = [("email", "ada@acme.example"), ("password", PASSWORD), ("return_to", back)];
    let entered = browser.submit("/auth/pages/sign-in", &fields).await;
    assert!(entered.is(200).body.contains("content=\"0;url=/oauth/authorize?a=1&amp;b=2\""), "{}", entered.body);
    browser.get("/auth/session").await.is(200);
    assert!(browser.get("/auth/sign-in?return_to=/x").await.is(200).body.contains("content=\"0;url=/x\""));
}

#[tokio::test]
async fn nobody_is_led_to_another_site() {
    let site = Site::start().await;
    for foreign in ["https://evil.example/", "//evil.example", "/%5Cevil.example", "javascript:alert(1)"] {
        let page = site.browser().get(&format!("/auth/sign-in?return_to={foreign}")).await;
        assert_eq!(hidden(page.is(200), "return_to"), "/", "{foreign}");
    }
}

#[tokio::test]
async fn pages_speak_german_to_who_likes_it_best() {
    let site = Site::start().await;
    let page = |language: &'static str| {
        let browser = site.browser();
        async move { browser.send(Method::GET, "/auth/sign-in", None, &[("accept-language", language)]).await.body }
    };
    assert!(page("de-AT,de;q=0.9,en;q=0.8").await.contains("<h1>Anmelden</h1>"));
    assert!(page("fr,en;q=0.8,de;q=0.5").await.contains("<h1>Sign in</h1>"));
    assert!(page("fr").await.contains("<h1>Sign in</h1>"));
}

#[tokio::test]
async fn an_administrator_adds_a_second_factor_by_forms_and_signs_in_with_it() {
    let site = Site::start().await;
    site.user("chief@acme.example", Role::TenantAdmin).await;
    let browser = site.browser();
    let password = [("email", "chief@acme.example"), ("password", PASSWORD), ("return_to", "/x")];
    let must = browser.submit("/auth/pages/sign-in", &password).await;
    let token = hidden(must.is(200), "csrf_token");
    browser.submit("/auth/pages/enrol", &[("csrf_token", "forged"), ("return_to", "/x")]).await.is(403);
    let begun = browser.submit("/auth/pages/enrol", &[("csrf_token", &token), ("return_to", "/x")]).await;
    let (_, rest) = begun.is(200).body.split_once("<pre>").expect("the seed");
    let seed = rest.split('<').next().expect("the seed").to_owned();
    let wrong = [("csrf_token", token.as_str()), ("code", "000000"), ("return_to", "/x")];
    browser.submit("/auth/pages/enrol/confirm", &wrong).await.is(401);
    let code = site.code(&seed);
    let right = [("csrf_token", token.as_str()), ("code", &code), ("return_to", "/x")];
    let done = browser.submit("/auth/pages/enrol/confirm", &right).await;
    assert!(done.is(200).body.contains("href=\"/x\"") && done.body.matches('-').count() >= 30, "{}", done.body);
    browser.get("/auth/sessions").await.is(200);

    site.clock.advance(std::time::Duration::from_secs(30));
    let browser = site.browser();
    let half = browser.submit("/auth/pages/sign-in", &password).await;
    assert!(half.is(200).body.contains("action=\"/auth/pages/second-factor\""), "{}", half.body);
    browser.submit("/auth/pages/second-factor", &[("code", "000000"), ("return_to", "/x")]).await.is(401);
    let code = site.code(&seed);
    let entered = browser.submit("/auth/pages/second-factor", &[("code", &code), ("return_to", "/x")]).await;
    assert!(entered.is(200).body.contains("content=\"0;url=/x\""), "{}", entered.body);
    browser.get("/auth/sessions").await.is(200);
}

#[tokio::test]
async fn a_forgotten_password_is_set_anew_by_forms_and_a_letter() {
    let site = Site::start().await;
    site.user("ada@acme.example", Role::User).await;
    let browser = site.browser();
    browser.get("/auth/forgot-password").await.is(200);
    browser.submit("/auth/pages/forgot-password", &[("email", "ada@acme.example")]).await.is(200);
    let token = site.letter("reset_password").await.expect("a letter");
    for _ in 0..2 {
        let page = browser.get(&format!("/auth/reset-password?token={token}")).await;
        assert_eq!(hidden(page.is(200), "token"), token, "looking at it uses nothing up");
    }
    browser.submit("/auth/pages/reset-password", &[("token", &token), ("password", "short")]).await.is(422);
    browser.submit("/auth/pages/reset-password", &[("token", &token), ("password", OTHER)]).await.is(200);
    browser.submit("/auth/pages/reset-password", &[("token", &token), ("password", OTHER)]).await.is(410);
    browser.sign_in("ada@acme.example", OTHER).await.is(200);
}
