//! Two servers over one database: what ends on one opens nothing on the other.

use std::time::Duration;

use cfr_billing::people::Credentials;
use cfr_testbed::Postgres;
use serde_json::Value;
use tokio::time::Instant;

use crate::support::{Door, Seen, Site, client, see};

/// What the issue promises of revocations.
const AT_ONCE: Duration = Duration::from_secs(1);
/// Between two looks at something outside.
const LOOK_EVERY: Duration = Duration::from_millis(20);

#[tokio::test]
async fn a_token_of_a_session_that_ended_on_one_server_is_void_on_the_other_within_a_second() {
    let postgres = Postgres::start().await;
    let url = postgres.database().await;
    let variable = |node: &'static str| {
        let url = url.clone();
        move |name: &str| match name {
            "CFR_DATABASE_URL" => Some(url.clone()),
            "CFR_KEY_PEPPER" => Some("pepper-of-the-tests-0123456789abcdef".into()),
            "CFR_MASTER_KEY" => Some("3f9a1c77e0524b8d96d1a2f4b85c6e0713da49f2c8b06e5197e4d3a2c1f08b56".into()),
            "CFR_NODE" => Some(node.into()),
            _ => None,
        }
    };
    let door = Door::open().await;
    let issuer = door.base.clone();
    let one = Site::start_at(door, "", &variable("one")).await;
    let other = Site::start_as(Door::open().await, &issuer, "", &variable("other")).await;
    let user = one.user("ada@acme.example").await;
    let program = one.program(&user).await;
    let signed_in = async || {
        let cookie = one.cookie(&user).await;
        let code = one.authorize(&program, &cookie, &[]).await.is(303).sent("code").expect("a code");
        let token = one.redeem(&program, &code, &[]).await.is(200).text("access_token");
        other.chat(&token, &[]).await.is(200);
        (cookie, token)
    };

    let (cookie, token) = signed_in().await;
    sign_out(&one, &cookie).await.is(204);
    assert!(is_void_soon(&other, &token).await, "signed out");

    let (_, token) = signed_in().await;
    one.app.books.people.sign_out_everywhere(user.id, &one.act()).await.expect("signed out");
    assert!(is_void_soon(&other, &token).await, "signed out everywhere");

    let (_, token) = signed_in().await;
    one.submit_as(&program, "/oauth/revoke", &[("token", &token)]).await.is(200);
    assert!(is_void_soon(&other, &token).await, "revoked");

    let (_, token) = signed_in().await;
    let store = &one.app.books.store;
    let known = store.credentials(user.id).await.expect("readable");
    let later = Credentials { epoch: known.epoch + 1, ..known };
    store.set_credentials(&later, None, &one.act()).await.expect("written");
    one.app.keys.sessions_ended().await;
    assert!(is_void_soon(&other, &token).await, "a new epoch");
}

/// Signs a browser out as its page does.
async fn sign_out(site: &Site, cookie: &str) -> Seen {
    let session: Value = site.get("/auth/session", &[("cookie", cookie)]).await.is(200).json();
    let request = client().delete(format!("{}/auth/session", site.base)).header("cookie", cookie);
    let csrf = session["csrf_token"].as_str().expect("a token of the session").to_owned();
    see(request.header("origin", &site.base).header("x-csrf-token", csrf)).await
}

/// The clock of the server stands still: what it believes does not end by itself.
async fn is_void_soon(site: &Site, token: &str) -> bool {
    let end = Instant::now() + AT_ONCE;
    while site.chat(token, &[]).await.status != 401 {
        if Instant::now() > end {
            return false;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    true
}
