//! What tokens open on `/v1`, and for whose money.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cfr_billing::identity::{KeyKind, KeyRules, UserPatch, UserStatus};
use cfr_billing::oidc::Ending;
use cfr_billing::usage::UsageFilter;
use cfr_core::time::Clock as _;
use cfr_server::auth::KeyWish;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::support::{Site, claims, part};

#[tokio::test]
async fn a_chat_with_an_access_token_is_charged_to_the_user() {
    let site = Site::start().await;
    let user = site.user("ada@acme.example").await;
    let program = site.program(&user).await;
    let token = site.tokens(&program, &user).await.text("access_token");
    site.chat(&token, &[]).await.is(200);
    site.app.books.escrow.flush().await.expect("booked");
    let filter = UsageFilter { user: Some(user.id), ..UsageFilter::default() };
    let usage = site.app.books.store.usage(&filter, Default::default()).await.expect("readable").items;
    let [record] = &usage[..] else { panic!("one record: {usage:?}") };
    assert_eq!((record.caller.user, record.caller.key, record.caller.tenant), (Some(user.id), None, user.tenant));
    assert!(record.charged_nanos > 0);
    let models = site.get("/v1/models", &[("authorization", &format!("Bearer {token}"))]).await.is(200);
    assert!(models.json()["data"].as_array().is_some_and(|models| !models.is_empty()));
}

#[tokio::test]
async fn tokens_that_are_not_ours_or_not_for_this_open_nothing() {
    let site = Site::start().await;
    let user = site.user("ada@acme.example").await;
    let program = site.program(&user).await;
    let tokens = site.tokens(&program, &user).await;
    let (access, id) = (tokens.text("access_token"), tokens.text("id_token"));
    site.chat(&access, &[]).await.is(200);
    let (header, said) = (part(&access, 0), claims(&access));
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signature = access.rsplit('.').next().expect("three parts").to_owned();
    let with =
        |header: &Value, said: &Value, signature: &str| format!("{}.{}.{signature}", encode(header), encode(said));
    let header_with = |name: &str, value: Value| {
        let mut header = header.clone();
        header[name] = value;
        header
    };
    let richer = {
        let mut said = said.clone();
        said["epoch"] = json!(99);
        said
    };
    let modulus = site.get("/.well-known/jwks.json", &[]).await.json()["keys"][0]["n"].as_str().expect("n").to_owned();
    let confused = Header {
        typ: Some("at+jwt".into()),
        kid: header["kid"].as_str().map(Into::into),
        ..Header::new(Algorithm::HS256)
    };
    for (what, token) in [
        ("alg none", with(&header_with("alg", json!("none")), &said, "")),
        ("alg none with a signature", with(&header_with("alg", json!("none")), &said, &signature)),
        ("another typ", with(&header_with("typ", json!("JWT")), &said, &signature)),
        ("other claims", with(&header, &richer, &signature)),
        ("an unknown key", with(&header_with("kid", json!("other")), &said, &signature)),
        ("no key", with(&header_with("kid", Value::Null), &said, &signature)),
        (
            "signed with the public key",
            jsonwebtoken::encode(&confused, &said, &EncodingKey::from_secret(modulus.as_bytes())).expect("signed"),
        ),
        ("an id token", id),
        ("no signature", access.trim_end_matches(|letter| letter != '.').to_owned()),
    ] {
        assert_eq!(site.chat(&token, &[]).await.status, 401, "{what}");
    }
    site.clock.advance(Duration::from_secs(901));
    let late = site.chat(&access, &[]).await.is(401);
    assert_eq!(late.json()["error"]["code"], "api_key_expired");
}

#[tokio::test]
async fn a_token_is_void_when_its_session_its_user_or_their_epoch_is_over() {
    let site = Site::start().await;
    let user = site.user("ada@acme.example").await;
    let program = site.program(&user).await;
    let store = &site.app.books.store;
    let token = async || {
        let token = site.tokens(&program, &user).await.text("access_token");
        site.chat(&token, &[]).await.is(200);
        token
    };
    let ended = token().await;
    store.end_client_sessions(Ending::User(user.id), &site.act()).await.expect("ended");
    site.app.keys.changed().await;
    site.chat(&ended, &[]).await.is(401);

    let old = token().await;
    let credentials = store.credentials(user.id).await.expect("readable");
    let later = cfr_billing::people::Credentials { epoch: credentials.epoch + 1, ..credentials };
    store.set_credentials(&later, None, &site.act()).await.expect("a new password");
    site.app.keys.changed().await;
    site.chat(&old, &[]).await.is(401);

    let token = token().await;
    let patch = UserPatch { status: Some(UserStatus::Suspended), ..UserPatch::default() };
    let user = store.user(user.id).await.expect("they exist");
    store.update_user(user.id, user.version, &patch, &site.act()).await.expect("suspended");
    site.app.keys.changed().await;
    let refused = site.chat(&token, &[]).await.is(403);
    assert_eq!(refused.json()["error"]["code"], "user_not_active");
}

#[tokio::test]
async fn a_front_end_with_a_key_for_it_names_who_pays() {
    let site = Site::start().await;
    let user = site.user("ada@acme.example").await;
    let books = &site.app.books;
    books.store.verify_email(user.id, "ada@acme.example", &site.act()).await.expect("proved");
    let issue = async |on_behalf_of: bool| {
        let rules = KeyRules { on_behalf_of, ..KeyRules::default() };
        let wish = KeyWish { tenant: Some(user.tenant), rules, ..KeyWish::new(KeyKind::Service, "chat") };
        books.keys.issue(wish, &site.act()).await.expect("a key").0.expose().to_owned()
    };
    let (key, plain) = (issue(true).await, issue(false).await);
    let named = |email: &str, secret: &str| {
        let said =
            json!({ "iss": "open-webui", "sub": "1", "email": email, "exp": site.clock.now().as_second() + 300 });
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &said, &EncodingKey::from_secret(secret.as_bytes()))
            .expect("signed")
    };
    let header = "x-openwebui-user-jwt";
    site.chat(&key, &[(header, &named("Ada@acme.example", &key))]).await.is(200);
    site.app.books.escrow.flush().await.expect("booked");
    let filter = UsageFilter { user: Some(user.id), ..UsageFilter::default() };
    let usage = books.store.usage(&filter, Default::default()).await.expect("readable").items;
    assert!(usage.len() == 1 && usage[0].caller.key.is_some(), "{usage:?}");
    for wrong in [named("bob@acme.example", &key), named("ada@acme.example", "another secret"), "nonsense".into()] {
        let refused = site.chat(&key, &[(header, &wrong)]).await.is(403);
        assert_eq!(refused.json()["error"]["code"], "unknown_user");
    }
    let unflagged = site.chat(&plain, &[(header, &named("ada@acme.example", &plain))]).await;
    assert_eq!(unflagged.json()["error"]["code"], "no_budget", "the key itself asks, and has no money");
    let bare = site.chat(&key, &[("x-openwebui-user-email", "ada@acme.example")]).await;
    assert_eq!(bare.json()["error"]["code"], "no_budget", "a name that nobody signed counts for nothing");
}
