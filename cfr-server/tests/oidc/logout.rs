//! Signing out, here and there.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::post;
use cfr_billing::oidc::Client;
use tokio::sync::mpsc;

use crate::support::{GOODBYE, Site, claims, encoded, part};

#[tokio::test]
async fn a_client_with_an_id_token_signs_somebody_out_everywhere() {
    let site = Site::start().await;
    let user = site.user("ada@acme.example").await;
    let (program, other) = (site.program(&user).await, site.program(&user).await);
    let cookie = site.cookie(&user).await;
    let signed_in = async |program| {
        let code = site.authorize(program, &cookie, &[]).await.sent("code").expect("a code");
        site.redeem(program, &code, &[]).await.is(200)
    };
    let (here, there) = (signed_in(&program).await, signed_in(&other).await);
    let id = here.text("id_token");
    let query = encoded([("id_token_hint", &*id), ("post_logout_redirect_uri", GOODBYE), ("state", "bye")]);
    let seen = site.get(&format!("/oauth/logout?{query}"), &[("cookie", &cookie)]).await.is(303);
    assert_eq!(seen.location(), format!("{GOODBYE}?state=bye"));
    let forgotten = seen.headers.get("set-cookie").and_then(|value| value.to_str().ok()).unwrap_or_default();
    assert!(forgotten.starts_with("__Host-cfr=; ") && forgotten.contains("Max-Age=0"), "{forgotten}");
    for tokens in [here, there] {
        site.userinfo(&tokens.text("access_token")).await.is(401);
    }
    let again = site.authorize(&program, &cookie, &[]).await.is(303);
    assert!(again.location().starts_with("/auth/sign-in?"), "{again:?}");
}

#[tokio::test]
async fn without_a_proof_somebody_is_asked_before_they_are_signed_out() {
    let site = Site::start().await;
    let user = site.user("ada@acme.example").await;
    let program = site.program(&user).await;
    let cookie = site.cookie(&user).await;
    let still = async || site.authorize(&program, &cookie, &[]).await.sent("code").is_some();
    let page = site.get("/oauth/logout", &[("cookie", &cookie)]).await.is(200);
    assert!(page.body.contains("Sign out") && still().await, "{page:?}");
    let rest = page.body.split("name=\"seal\" value=\"").nth(1).expect("a seal");
    let seal = rest.split('"').next().expect("its end");
    let foreign = [("cookie", cookie.as_str()), ("origin", "https://evil.example")];
    site.submit("/oauth/logout", &foreign, &[("seal", seal)]).await.is(200);
    assert!(still().await, "another site pressed it");
    let ours = [("cookie", cookie.as_str()), ("origin", site.base.as_str())];
    site.submit("/oauth/logout", &ours, &[("seal", seal)]).await.is(200);
    assert!(!still().await);
}

#[tokio::test]
async fn nobody_is_sent_to_a_strange_address_after_they_signed_out() {
    let site = Site::start().await;
    let user = site.user("ada@acme.example").await;
    let program = site.program(&user).await;
    let id = program.client.id.to_string();
    for address in ["https://evil.example", "https://chat.example/goodbye/"] {
        let query = encoded([("client_id", &*id), ("post_logout_redirect_uri", address)]);
        let seen = site.get(&format!("/oauth/logout?{query}"), &[]).await.is(200);
        assert!(seen.location().is_empty() && seen.body.contains("You are signed out"), "{seen:?}");
    }
}

#[tokio::test]
async fn a_client_is_told_that_somebody_signed_out_and_again_when_it_was_away() {
    let site = Site::start().await;
    let user = site.user("ada@acme.example").await;
    let (told, mut heard) = mpsc::unbounded_channel::<String>();
    let tries = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let listen = post(move |form: String| {
        let first = tries.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
        let _ = told.send(form);
        async move { if first { http::StatusCode::BAD_GATEWAY } else { http::StatusCode::OK } }
    });
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}/backchannel", socket.local_addr().expect("an address"));
    let mut serving = tokio::task::JoinSet::new();
    serving.spawn(async move { axum::serve(socket, Router::new().route("/backchannel", listen)).await });
    let program =
        site.program_with(&user, |client| Client { backchannel_uri: Some(address.as_str().into()), ..client }).await;
    let id = site.tokens(&program, &user).await.text("id_token");
    site.get(&format!("/oauth/logout?{}", encoded([("id_token_hint", &*id)])), &[]).await.is(200);
    for attempt in 0..2 {
        let form =
            tokio::time::timeout(Duration::from_secs(30), heard.recv()).await.expect("it is told").expect("a form");
        let token = form.strip_prefix("logout_token=").expect("a token");
        let said = claims(token);
        assert_eq!(said["aud"], program.client.id.to_string(), "{attempt}");
        assert_eq!((&said["sub"], &said["sid"]), (&claims(&id)["sub"], &claims(&id)["sid"]));
        assert!(said["events"].get("http://schemas.openid.net/event/backchannel-logout").is_some(), "{said}");
        assert!(said.get("nonce").is_none() && part(token, 0)["kid"].is_string());
        site.clock.advance(Duration::from_secs(61));
    }
}
