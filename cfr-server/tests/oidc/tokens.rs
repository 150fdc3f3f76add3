//! Refresh tokens that follow each other, keys that follow each other, and tokens that are given back.

use std::time::Duration;

use cfr_billing::identity::{UserPatch, UserStatus};

use crate::support::{Site, part};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_refresh_token_gives_one_successor_however_often_it_is_sent_at_once() {
    let site = Site::start().await;
    let user = site.user("ada@acme.example").await;
    let program = site.program(&user).await;
    let first = site.tokens(&program, &user).await.text("refresh_token");
    let race = futures_util::future::join_all((0..8).map(|_| site.refresh(&program, &first))).await;
    let successors: Vec<String> = race.into_iter().map(|seen| seen.is(200).text("refresh_token")).collect();
    assert!(successors.iter().all(|token| *token == successors[0] && *token != first), "{successors:?}");
    let second = site.refresh(&program, &successors[0]).await.is(200).text("refresh_token");
    assert_ne!(second, successors[0]);
}

#[tokio::test]
async fn a_refresh_token_in_two_hands_ends_everything() {
    let site = Site::start().await;
    let user = site.user("ada@acme.example").await;
    let program = site.program(&user).await;
    let stolen = site.tokens(&program, &user).await.text("refresh_token");
    let second = site.refresh(&program, &stolen).await.is(200);
    site.clock.advance(2 * MINUTE);
    site.refresh(&program, &stolen).await.is_error(400, "invalid_grant");
    site.refresh(&program, &second.text("refresh_token")).await.is_error(400, "invalid_grant");
    site.userinfo(&second.text("access_token")).await.is(401);
    assert_eq!(site.told("client_session.ended").await, 1);
}

#[tokio::test]
async fn a_session_ends_when_it_is_idle_and_at_its_end() {
    let site = Site::start().await;
    let user = site.user("ada@acme.example").await;
    let program = site.program(&user).await;
    let idle = site.tokens(&program, &user).await.text("refresh_token");
    let mut used = site.tokens(&program, &user).await.text("refresh_token");
    for _ in 0..4 {
        site.clock.advance(6 * 24 * 60 * MINUTE);
        used = site.refresh(&program, &used).await.is(200).text("refresh_token");
    }
    site.refresh(&program, &idle).await.is_error(400, "invalid_grant");
    site.clock.advance(6 * 24 * 60 * MINUTE);
    site.refresh(&program, &used).await.is_error(400, "invalid_grant");
}

#[tokio::test]
async fn who_is_suspended_gets_no_new_tokens() {
    let site = Site::start().await;
    let user = site.user("ada@acme.example").await;
    let program = site.program(&user).await;
    let tokens = site.tokens(&program, &user).await;
    let patch = UserPatch { status: Some(UserStatus::Suspended), ..UserPatch::default() };
    site.app.books.store.update_user(user.id, user.version, &patch, &site.act()).await.expect("suspended");
    site.userinfo(&tokens.text("access_token")).await.is(401);
    site.refresh(&program, &tokens.text("refresh_token")).await.is_error(400, "invalid_grant");
}

#[tokio::test]
async fn a_client_gives_tokens_back_and_learns_nothing_of_others() {
    let site = Site::start().await;
    let user = site.user("ada@acme.example").await;
    let (program, other) = (site.program(&user).await, site.program(&user).await);
    for kind in ["refresh_token", "access_token"] {
        let tokens = site.tokens(&program, &user).await;
        let form = [("token", &*tokens.text(kind))];
        site.submit_as(&other, "/oauth/revoke", &form).await.is(200);
        site.userinfo(&tokens.text("access_token")).await.is(200);
        site.submit_as(&program, "/oauth/revoke", &form).await.is(200);
        site.userinfo(&tokens.text("access_token")).await.is(401);
        site.refresh(&program, &tokens.text("refresh_token")).await.is_error(400, "invalid_grant");
    }
    site.submit_as(&program, "/oauth/revoke", &[("token", "nonsense")]).await.is(200);
}

#[tokio::test]
async fn keys_change_and_what_the_one_before_signed_still_counts() {
    let site = Site::start().await;
    let user = site.user("ada@acme.example").await;
    let program = site.program(&user).await;
    let old = site.tokens(&program, &user).await;
    let provider = site.app.oidc.as_ref().expect("a provider");
    provider.signing().rotate().await.expect("another key");
    let new = site.refresh(&program, &old.text("refresh_token")).await.is(200);
    let kid = |tokens: &crate::support::Seen| part(&tokens.text("id_token"), 0)["kid"].clone();
    assert_ne!(kid(&old), kid(&new));
    let published = site.get("/.well-known/jwks.json", &[]).await.is(200).json();
    let kids: Vec<_> = published["keys"].as_array().expect("keys").iter().map(|key| key["kid"].clone()).collect();
    assert_eq!(kids, [kid(&new), kid(&old)]);
    assert!(published["keys"][0].get("d").is_none() && published["keys"][0]["alg"] == "RS256", "{published}");
    for tokens in [&old, &new] {
        site.userinfo(&tokens.text("access_token")).await.is(200);
    }
    site.clock.advance(91 * 24 * 60 * MINUTE);
    let cookie = site.code(&program, &user).await;
    let later = site.redeem(&program, &cookie, &[]).await.is(200);
    assert_ne!(kid(&later), kid(&new), "after 90 days there is a new one");
}

#[tokio::test]
async fn a_client_proves_itself_in_one_way() {
    let site = Site::start().await;
    let user = site.user("ada@acme.example").await;
    let program = site.program(&user).await;
    let code = site.code(&program, &user).await;
    let id = program.client.id.to_string();
    let posted = |secret: &str| {
        vec![
            ("grant_type", "authorization_code".to_owned()),
            ("code", code.clone()),
            ("redirect_uri", crate::support::CALLBACK.to_owned()),
            ("code_verifier", crate::support::VERIFIER.to_owned()),
            ("client_id", id.clone()),
            ("client_secret", secret.to_owned()),
        ]
    };
    let send = async |form: Vec<(&str, String)>| {
        let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
        site.submit("/oauth/token", &[], &form).await
    };
    send(posted("wrong")).await.is_error(401, "invalid_client");
    send(posted(&program.secret)[..5].to_vec()).await.is_error(401, "invalid_client");
    let both = [("client_secret", &*program.secret), ("grant_type", "refresh_token")];
    site.token(&program, &both).await.is_error(400, "invalid_request");
    site.token(&program, &[("grant_type", "password")]).await.is_error(400, "unsupported_grant_type");
    send(posted(&program.secret)).await.is(200);
}
