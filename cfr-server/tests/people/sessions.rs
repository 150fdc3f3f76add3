//! How long a browser stays signed in, and what ends it.

use std::time::Duration;

use cfr_billing::identity::{Role, TenantPatch, TenantStatus, UserPatch, UserStatus};
use serde_json::json;

use super::support::{Browser, OTHER, PASSWORD, Site};

const HOUR: Duration = Duration::from_hours(1);

async fn is_signed_in(browser: &Browser) -> bool {
    browser.get("/auth/session").await.status == 200
}

#[tokio::test]
async fn a_session_ends_when_nobody_uses_it_for_half_a_day() {
    let site = Site::start().await;
    site.user("ada@acme.example", Role::User).await;
    let browser = site.signed_in("ada@acme.example").await;
    site.clock.advance(HOUR * 11);
    assert!(is_signed_in(&browser).await);
    site.clock.advance(HOUR * 11);
    assert!(is_signed_in(&browser).await, "it was used in between");
    site.clock.advance(HOUR * 12);
    assert!(!is_signed_in(&browser).await);
}

#[tokio::test]
async fn a_session_ends_after_a_week_however_much_it_is_used() {
    let site = Site::start().await;
    site.user("ada@acme.example", Role::User).await;
    let browser = site.signed_in("ada@acme.example").await;
    for _ in 0..15 {
        site.clock.advance(HOUR * 11);
        assert!(is_signed_in(&browser).await);
    }
    site.clock.advance(HOUR * 3);
    assert!(!is_signed_in(&browser).await);
}

#[tokio::test]
async fn administrators_are_signed_out_after_an_idle_hour_and_after_a_day() {
    let site = Site::start().await;
    site.user("root@acme.example", Role::Admin).await;
    let browser = site.signed_in("root@acme.example").await;
    site.clock.advance(HOUR);
    assert!(!is_signed_in(&browser).await);
    let browser = site.signed_in("root@acme.example").await;
    for _ in 0..28 {
        site.clock.advance(Duration::from_mins(50));
        assert!(is_signed_in(&browser).await);
    }
    site.clock.advance(Duration::from_mins(45));
    assert!(!is_signed_in(&browser).await);
}

#[tokio::test]
async fn who_becomes_an_administrator_has_their_short_sessions_at_once() {
    let site = Site::start().await;
    let ada = site.user("ada@acme.example", Role::User).await;
    let browser = site.signed_in("ada@acme.example").await;
    let patch = UserPatch { role: Some(Role::Admin), ..UserPatch::default() };
    site.app.books.store.update_user(ada.id, ada.version, &patch, &site.act()).await.expect("changed");
    site.clock.advance(HOUR);
    assert!(!is_signed_in(&browser).await);
}

#[tokio::test]
async fn people_see_their_browsers_and_sign_others_out() {
    let site = Site::start().await;
    site.user("ada@acme.example", Role::User).await;
    site.user("bob@acme.example", Role::User).await;
    let first = site.signed_in("ada@acme.example").await;
    site.clock.advance(HOUR / 60);
    let (second, stranger) = (site.signed_in("ada@acme.example").await, site.signed_in("bob@acme.example").await);
    site.clock.advance(HOUR / 60);
    let third = site.signed_in("ada@acme.example").await;
    let listed = first.get("/auth/sessions").await.is(200).json();
    let items = listed["items"].as_array().expect("a list");
    assert_eq!(
        items.iter().map(|item| item["current"].as_bool()).collect::<Vec<_>>(),
        [Some(false), Some(false), Some(true)]
    );
    assert_eq!(items[0]["address"], "127.0.0.1");
    let newest = format!("/auth/sessions/{}", items[0]["id"].as_str().expect("an id"));
    stranger.delete(&newest).await.is_problem(404, "not_found");
    assert!(is_signed_in(&third).await);
    first.delete(&newest).await.is(204);
    assert!(!is_signed_in(&third).await && is_signed_in(&second).await);
    assert_eq!(first.delete("/auth/sessions").await.is(200).json(), json!({ "ended": 1 }));
    assert!(!is_signed_in(&second).await && is_signed_in(&first).await && is_signed_in(&stranger).await);
}

#[tokio::test]
async fn another_password_ends_every_other_session_and_renews_this_one() {
    let site = Site::start().await;
    site.user("ada@acme.example", Role::User).await;
    let (here, elsewhere) = (site.signed_in("ada@acme.example").await, site.signed_in("ada@acme.example").await);
    let (secret, thief) = (here.cookie("__Host-cfr"), site.browser());
    let change = json!({ "current_password": PASSWORD, "password": OTHER });
    here.put("/auth/password", change).await.is(200);
    thief.set_cookie("__Host-cfr", &secret);
    assert!(is_signed_in(&here).await && !is_signed_in(&elsewhere).await && !is_signed_in(&thief).await);
}

#[tokio::test]
async fn a_raised_epoch_ends_sessions() {
    let site = Site::start().await;
    let ada = site.user("ada@acme.example", Role::User).await;
    let browser = site.signed_in("ada@acme.example").await;
    let store = &site.app.books.store;
    let mut credentials = store.credentials(ada.id).await.expect("credentials");
    credentials.epoch += 1;
    store.set_credentials(&credentials, None, &site.act()).await.expect("raised");
    assert!(!is_signed_in(&browser).await);
}

#[tokio::test]
async fn who_is_suspended_is_signed_out_and_of_a_suspended_tenant_administrators_stay() {
    let site = Site::start().await;
    let ada = site.user("ada@acme.example", Role::User).await;
    site.user("bob@acme.example", Role::User).await;
    site.user("chief@acme.example", Role::TenantAdmin).await;
    let (ada_, bob) = (site.signed_in("ada@acme.example").await, site.signed_in("bob@acme.example").await);
    let chief = site.signed_in("chief@acme.example").await;
    let store = &site.app.books.store;
    let patch = UserPatch { status: Some(UserStatus::Suspended), ..UserPatch::default() };
    store.update_user(ada.id, ada.version, &patch, &site.act()).await.expect("changed");
    assert!(!is_signed_in(&ada_).await && is_signed_in(&bob).await);
    let tenant = store.tenant(ada.tenant).await.expect("a tenant");
    let patch = TenantPatch { status: Some(TenantStatus::Suspended), ..TenantPatch::default() };
    store.update_tenant(tenant.id, tenant.version, &patch, &site.act()).await.expect("changed");
    assert!(!is_signed_in(&bob).await && is_signed_in(&chief).await);
    site.browser().sign_in("bob@acme.example", PASSWORD).await.is_problem(403, "tenant_suspended");
}
