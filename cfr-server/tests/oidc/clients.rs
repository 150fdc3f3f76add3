//! Clients are registered in the management API.

use cfr_billing::identity::KeyKind;
use cfr_server::auth::KeyWish;
use serde_json::{Value, json};

use crate::support::{CALLBACK, Program, Site, client, see};

async fn manage(site: &Site, key: &str, method: reqwest::Method, path: &str, body: Value) -> crate::support::Seen {
    let request = client().request(method, format!("{}/api/v1{path}", site.base)).bearer_auth(key);
    see(request.header("content-type", "application/json").body(body.to_string())).await
}

#[tokio::test]
async fn a_client_is_registered_used_and_shut_out() {
    let site = Site::start().await;
    let user = site.user("ada@acme.example").await;
    let wish = KeyWish::new(KeyKind::Admin, "admin");
    let key = site.app.books.keys.issue(wish, &site.act()).await.expect("a key").0.expose().to_owned();
    let body = json!({"tenant": "acme", "name": "Chat", "redirect_uris": [CALLBACK], "first_party": true});
    let made = manage(&site, &key, reqwest::Method::POST, "/oidc-clients", body).await.is(201);
    let (id, secret) = (made.text("id"), made.text("client_secret"));
    let stored = site.app.books.store.client(id.parse().expect("an id")).await;
    let program = Program { client: stored.expect("it is there"), secret };
    let tokens = site.tokens(&program, &user).await;

    let path = format!("/oidc-clients/{id}");
    let shown = manage(&site, &key, reqwest::Method::GET, &path, json!({})).await.is(200).json();
    assert!(shown.get("client_secret").is_none() && shown["name"] == "Chat", "{shown}");
    let changed = manage(&site, &key, reqwest::Method::PATCH, &path, json!({"name": "Chat 2"})).await.is(200).json();
    assert_eq!((&changed["name"], &changed["version"]), (&json!("Chat 2"), &json!(2)));
    let rotated = manage(&site, &key, reqwest::Method::POST, &format!("{path}/rotate"), json!({})).await.is(201);
    site.refresh(&program, &tokens.text("refresh_token")).await.is_error(401, "invalid_client");
    assert_eq!(site.told("oidc_client.refused").await, 1);
    let program = Program { secret: rotated.text("client_secret"), ..program };
    site.refresh(&program, &tokens.text("refresh_token")).await.is(200);

    manage(&site, &key, reqwest::Method::POST, &format!("{path}/revoke"), json!({})).await.is(200);
    site.userinfo(&tokens.text("access_token")).await.is(401);
    site.refresh(&program, &tokens.text("refresh_token")).await.is_error(401, "invalid_client");
    manage(&site, &key, reqwest::Method::PATCH, &path, json!({"name": "Chat 3"})).await.is(409);
    let listed = manage(&site, &key, reqwest::Method::GET, "/oidc-clients?tenant=acme", json!({})).await.is(200).json();
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "{listed}");
}

#[tokio::test]
async fn addresses_that_are_not_safe_are_refused_with_their_field() {
    let site = Site::start().await;
    site.user("ada@acme.example").await;
    let wish = KeyWish::new(KeyKind::Admin, "admin");
    let key = site.app.books.keys.issue(wish, &site.act()).await.expect("a key").0.expose().to_owned();
    for (field, value) in [
        ("redirect_uris", json!([])),
        ("redirect_uris", json!(["http://chat.example/cb"])),
        ("redirect_uris", json!(["https://chat.example/#cb"])),
        ("post_logout_uris", json!(["chat.example"])),
        ("backchannel_uri", json!("javascript:alert(1)")),
        ("tenant", json!("nobody")),
    ] {
        let mut body = json!({"tenant": "acme", "name": "Chat", "redirect_uris": [CALLBACK]});
        body[field] = value;
        let refused = manage(&site, &key, reqwest::Method::POST, "/oidc-clients", body).await.is(422).json();
        assert_eq!(refused["errors"][0]["field"], field, "{refused}");
    }
}
