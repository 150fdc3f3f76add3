//! Who is let in.

use std::sync::Arc;
use std::time::Duration;

use cfr_billing::audit_log::Act;
use cfr_billing::identity::{KeyKind, KeyRules, NewKey, TenantPatch, TenantStatus, UserPatch, UserStatus};
use cfr_core::secret::Secret;
use cfr_core::time::{Clock, ManualClock, Timestamp};
use cfr_server::auth::{KeyText, KeyWish, Pepper};
use cfr_server::config::Config;
use cfr_server::seed;
use cfr_server::state::Books;

use super::support::{FAKE, Site, chat, client, see, terms};

const EURO: i64 = 1_000_000_000;

#[tokio::test]
async fn a_wrong_key_is_a_401_whatever_is_wrong_with_it() {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(EURO)).await;
    let mistyped = format!("{}x", &key[..key.len() - 1]);
    let unknown = KeyText::generate(KeyKind::Live);
    for wrong in ["", "sk-nobody-has-this-key", &mistyped, unknown.expose()] {
        let seen = site.chat(wrong, &chat("hi")).await;
        let error = seen.is_error(401, "invalid_api_key");
        assert_eq!(error["type"], "invalid_request_error");
        assert!(!seen.body.contains(wrong) || wrong.is_empty(), "the key is not repeated");
    }
    see(client().post(site.url("/v1/chat/completions")).body(chat("hi").to_string()))
        .await
        .is_error(401, "invalid_api_key");
    site.get("/v1/models", "").await.is_error(401, "invalid_api_key");
}

#[tokio::test]
async fn a_revoked_key_ends_at_once_and_an_expired_one_by_itself() {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(EURO)).await;
    assert_eq!(site.chat(&key, &chat("hi")).await.status, 200);
    let books = &site.app.books;
    let row = books.store.keys(None, None, Default::default()).await.expect("keys").items[0].clone();
    books.store.revoke_key(row.id, &Act::of_system(books.clock.now())).await.expect("revoked");
    books.keys.forget();
    site.chat(&key, &chat("hi")).await.is_error(401, "invalid_api_key");

    let ended = KeyWish {
        kind: row.kind,
        tenant: row.tenant,
        user: row.user,
        expires_at: Some(Timestamp::UNIX_EPOCH),
        ..seed::admin_wish("ended")
    };
    let ended = books.keys.issue(ended, &Act::of_system(Timestamp::UNIX_EPOCH)).await.expect("a key").0;
    site.chat(ended.expose(), &chat("hi")).await.is_error(401, "api_key_expired");
}

#[tokio::test]
async fn an_admin_key_calls_no_models() {
    let site = Site::start(FAKE).await;
    let admin = site
        .app
        .books
        .keys
        .issue(seed::admin_wish("test"), &Act::of_system(Timestamp::UNIX_EPOCH))
        .await
        .expect("a key")
        .0;
    site.chat(admin.expose(), &chat("hi")).await.is_error(403, "wrong_key_kind");
    assert_eq!(site.get("/api/v1/tenants", admin.expose()).await.status, 200);
}

#[tokio::test]
async fn suspended_tenants_and_users_are_a_403() {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(EURO)).await;
    let books = &site.app.books;
    let user = books.store.users(&Default::default(), Default::default()).await.expect("users").items[0].clone();
    let suspended = UserPatch { status: Some(UserStatus::Suspended), ..UserPatch::default() };
    books
        .store
        .update_user(user.id, user.version, &suspended, &Act::of_system(books.clock.now()))
        .await
        .expect("suspended");
    books.keys.forget();
    site.chat(&key, &chat("hi")).await.is_error(403, "user_not_active");

    let tenant = books.store.tenant(user.tenant).await.expect("a tenant");
    let suspended = TenantPatch { status: Some(TenantStatus::Suspended), ..TenantPatch::default() };
    books
        .store
        .update_tenant(tenant.id, tenant.version, &suspended, &Act::of_system(books.clock.now()))
        .await
        .expect("suspended");
    books.keys.forget();
    site.chat(&key, &chat("hi")).await.is_error(403, "tenant_suspended");
}

#[tokio::test]
async fn a_key_without_any_budget_has_no_money() {
    let site = Site::start(FAKE).await;
    site.key(terms(EURO)).await;
    let books = &site.app.books;
    let tenant = books.store.tenant_by_slug("acme").await.expect("read").expect("a tenant");
    let service = KeyWish { kind: KeyKind::Service, tenant: Some(tenant.id), ..seed::admin_wish("robot") };
    let service = books.keys.issue(service, &Act::of_system(Timestamp::UNIX_EPOCH)).await.expect("a key").0;
    site.chat(service.expose(), &chat("hi")).await.is_error(403, "no_budget");
}

#[tokio::test]
async fn a_key_of_another_gateway_works_once_it_is_imported() {
    let site = Site::start(FAKE).await;
    site.key(terms(EURO)).await;
    let books = &site.app.books;
    let row = books.store.keys(None, None, Default::default()).await.expect("keys").items[0].clone();
    let foreign = KeyText::parse(&format!("sk-{}", "0123456789abcdef".repeat(4))).expect("well formed");
    let wish = KeyWish { kind: row.kind, tenant: row.tenant, user: row.user, ..seed::admin_wish("imported") };
    site.chat(foreign.expose(), &chat("hi")).await.is_error(401, "invalid_api_key");
    books.keys.import(wish, &foreign, &Act::of_system(Timestamp::UNIX_EPOCH)).await.expect("imported");
    assert_eq!(site.chat(foreign.expose(), &chat("hi")).await.status, 200);
}

#[tokio::test]
async fn a_known_key_is_believed_for_thirty_seconds_and_an_unknown_one_for_five() {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = Arc::new(ManualClock::new("2026-11-21T12:00:00Z".parse().expect("a time")));
    let pepper = "p".repeat(32);
    let mut config = Config::parse(None, "", &|name| (name == "CFR_KEY_PEPPER").then(|| pepper.clone())).expect("good");
    config.data = folder.path().into();
    let books = Books::open(&config, Arc::clone(&clock) as _).await.expect("books");
    let text = KeyText::parse("sk-0123456789abcdef").expect("well formed");
    let mut headers = http::HeaderMap::new();
    headers.insert("x-api-key", "sk-0123456789abcdef".parse().expect("a header"));
    let works = async || books.keys.authenticate(&headers, None).await.is_ok();
    assert!(!works().await);

    // Behind the cache's back, as another process with the same database would write it.
    let new = NewKey {
        tenant: None,
        user: None,
        name: "behind".into(),
        kind: KeyKind::Admin,
        mac: Pepper::new(&Secret::new(pepper.clone())).expect("long enough").mac(&text),
        prefix: "sk-".into(),
        last4: "cdef".into(),
        models: Vec::new(),
        rules: KeyRules::default(),
        budget: None,
        expires_at: None,
    };
    let key = books.store.create_key(&new, &Act::of_system(clock.now())).await.expect("written");
    clock.advance(Duration::from_secs(4));
    assert!(!works().await, "still taken for unknown");
    clock.advance(Duration::from_secs(1));
    assert!(works().await);

    books.store.revoke_key(key.id, &Act::of_system(clock.now())).await.expect("revoked");
    clock.advance(Duration::from_secs(29));
    assert!(works().await, "still believed");
    clock.advance(Duration::from_secs(1));
    assert!(!works().await);
    books.close().await.expect("closed");
}
