//! The flow as a client of others sees it, and everything that it must not do.

use openidconnect::core::{CoreClient, CoreProviderMetadata, CoreResponseType, CoreUserInfoClaims};
use openidconnect::{
    AuthenticationFlow, AuthorizationCode, ClientId, ClientSecret, CsrfToken, HttpRequest, HttpResponse, IssuerUrl,
    Nonce, OAuth2TokenResponse as _, PkceCodeChallenge, RedirectUrl, Scope, TokenResponse as _,
};

use crate::support::{CALLBACK, Site, challenge, claims, client};

/// How the crate sends its requests.
async fn exchange(request: HttpRequest) -> Result<HttpResponse, reqwest::Error> {
    let response = client().execute(request.try_into()?).await?;
    let mut answer = HttpResponse::new(Vec::new());
    *answer.status_mut() = response.status();
    *answer.headers_mut() = response.headers().clone();
    *answer.body_mut() = response.bytes().await?.to_vec();
    Ok(answer)
}

#[tokio::test]
async fn a_library_for_clients_signs_somebody_in_and_renews_their_tokens() {
    let site = Site::start().await;
    let user = site.user("ada@acme.example").await;
    let program = site.program(&user).await;
    let issuer = IssuerUrl::new(site.base.clone()).expect("an address");
    let metadata = CoreProviderMetadata::discover_async(issuer, &exchange).await.expect("a description");
    let rp = CoreClient::from_provider_metadata(
        metadata,
        ClientId::new(program.client.id.to_string()),
        Some(ClientSecret::new(program.secret.clone())),
    )
    .set_redirect_uri(RedirectUrl::new(CALLBACK.into()).expect("an address"));
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let flow = AuthenticationFlow::<CoreResponseType>::AuthorizationCode;
    let (address, state, nonce) = rp
        .authorize_url(flow, CsrfToken::new_random, Nonce::new_random)
        .add_scopes(["email", "profile"].map(|scope| Scope::new(scope.into())))
        .set_pkce_challenge(challenge)
        .url();
    let path = &address.as_str()[site.base.len()..];
    let cookie = site.cookie(&user).await;
    let sent = site.get(path, &[("cookie", &cookie)]).await.is(303);
    assert_eq!((sent.sent("state"), sent.sent("iss")), (Some(state.secret().clone()), Some(site.base.clone())));

    let code = AuthorizationCode::new(sent.sent("code").expect("a code"));
    let asked = rp.exchange_code(code).expect("a token endpoint").set_pkce_verifier(verifier);
    let tokens = asked.request_async(&exchange).await.expect("tokens");
    let id = tokens.id_token().expect("an id token");
    let told = id.claims(&rp.id_token_verifier(), &nonce).expect("signed for us, with our nonce");
    assert_eq!(told.subject().as_str(), user.id.to_string());
    assert_eq!(told.email().map(|email| email.as_str()), Some("ada@acme.example"));
    assert_eq!(tokens.expires_in().map(|left| left.as_secs()), Some(900));

    let info = rp.user_info(tokens.access_token().clone(), Some(told.subject().clone())).expect("an endpoint");
    let info: CoreUserInfoClaims = info.request_async(&exchange).await.expect("who they are");
    assert_eq!(info.email().map(|email| email.as_str()), Some("ada@acme.example"));

    let refresh = tokens.refresh_token().expect("without offline_access, too");
    let renewed = rp.exchange_refresh_token(refresh).expect("a token endpoint").request_async(&exchange).await;
    let renewed = renewed.expect("new tokens");
    assert_ne!(renewed.refresh_token().map(|token| token.secret()), Some(refresh.secret()));
    assert_eq!(site.told("client_session.opened").await, 1);
}

#[tokio::test]
async fn the_id_token_says_what_open_webui_reads() {
    let site = Site::start().await;
    let user = site.user("ada@acme.example").await;
    let program = site.program(&user).await;
    let tokens = site.tokens(&program, &user).await;
    let id = claims(&tokens.text("id_token"));
    assert_eq!(id["roles"], serde_json::json!(["user"]));
    assert_eq!(id["groups"], serde_json::json!(["acme"]));
    for (name, expected) in [("nonce", "my nonce"), ("name", "Ada"), ("email", "ada@acme.example"), ("iss", &site.base)]
    {
        assert_eq!(id[name], expected, "{name}");
    }
    let access = claims(&tokens.text("access_token"));
    assert_eq!((&id["exp"], &id["sid"], &id["amr"]), (&access["exp"], &access["sid"], &serde_json::json!(["pwd"])));
    assert!(id["exp"].as_i64() >= id["iat"].as_i64().map(|iat| iat + 900));
}

#[tokio::test]
async fn who_is_not_signed_in_is_asked_and_comes_back() {
    let site = Site::start().await;
    let user = site.user("ada@acme.example").await;
    let program = site.program(&user).await;
    let seen = site.authorize(&program, "", &[("login_hint", "ada@acme.example")]).await.is(303);
    assert!(seen.location().starts_with("/auth/sign-in?"), "{seen:?}");
    assert_eq!(seen.sent("login_hint").as_deref(), Some("ada@acme.example"));
    let cookie = site.cookie(&user).await;
    let back = site.get(&seen.sent("return_to").expect("the way back"), &[("cookie", &cookie)]).await.is(303);
    assert!(back.location().starts_with(CALLBACK) && back.sent("code").is_some(), "{back:?}");

    let silent = site.authorize(&program, "", &[("prompt", "none")]).await.is(303);
    assert_eq!(
        (silent.sent("error").as_deref(), silent.sent("state").as_deref()),
        (Some("login_required"), Some("my state"))
    );
}

#[tokio::test]
async fn who_must_prove_it_again_signs_in_again_and_only_once() {
    let site = Site::start().await;
    let user = site.user("ada@acme.example").await;
    let program = site.program(&user).await;
    let old = site.cookie(&user).await;
    site.clock.advance(std::time::Duration::from_secs(60));
    for wish in [("prompt", "login"), ("max_age", "30"), ("max_age", "0")] {
        let asked = site.authorize(&program, &old, &[wish]).await.is(303);
        assert!(asked.location().starts_with("/auth/sign-in?"), "{wish:?} {asked:?}");
        let way_back = asked.sent("return_to").expect("the way back");
        let unchanged = site.get(&way_back, &[("cookie", &old)]).await.is(303);
        assert!(unchanged.location().starts_with("/auth/sign-in?"), "nobody proved anything: {unchanged:?}");
        let fresh = site.cookie(&user).await;
        let back = site.get(&way_back, &[("cookie", &fresh)]).await.is(303);
        assert!(back.sent("code").is_some(), "{wish:?} {back:?}");
        let forged = way_back.replace("cfr_since=", "cfr_since=1");
        let forged = site.get(&forged, &[("cookie", &old)]).await.is(303);
        assert!(forged.location().starts_with("/auth/sign-in?"), "{forged:?}");
    }
}

#[tokio::test]
async fn nothing_is_sent_to_an_address_that_the_client_does_not_have() {
    let site = Site::start().await;
    let user = site.user("ada@acme.example").await;
    let program = site.program(&user).await;
    let cookie = site.cookie(&user).await;
    for change in [
        ("redirect_uri", "https://evil.example/cb"),
        ("redirect_uri", "https://chat.example/oauth/oidc/login/callback/"),
        ("redirect_uri", "https://chat.example/oauth/oidc/login/callback?x=1"),
        ("redirect_uri", ""),
        ("client_id", "app_01kahr4kz8fyksn1c1d5v2c9zt"),
        ("client_id", ""),
    ] {
        let seen = site.authorize(&program, &cookie, &[change]).await.is(400);
        assert!(seen.location().is_empty() && seen.body.contains("This does not work"), "{change:?} {seen:?}");
    }
    let twice = site.authorize(&program, &cookie, &[("state", "a"), ("state", "b")]).await;
    assert_eq!(twice.status, 400);
}

#[tokio::test]
async fn a_request_that_is_wrong_goes_back_to_the_client_with_an_error() {
    let site = Site::start().await;
    let user = site.user("ada@acme.example").await;
    let program = site.program(&user).await;
    let cookie = site.cookie(&user).await;
    for (change, error) in [
        (("response_type", "token"), "unsupported_response_type"),
        (("scope", "email"), "invalid_scope"),
        (("code_challenge", ""), "invalid_request"),
        (("code_challenge_method", "plain"), "invalid_request"),
        (("code_challenge_method", ""), "invalid_request"),
        (("request", "x"), "request_not_supported"),
        (("response_mode", "fragment"), "invalid_request"),
        (("max_age", "soon"), "invalid_request"),
    ] {
        let seen = site.authorize(&program, &cookie, &[change]).await.is(303);
        assert!(seen.location().starts_with(CALLBACK), "{seen:?}");
        assert_eq!(
            (seen.sent("error").as_deref(), seen.sent("iss")),
            (Some(error), Some(site.base.clone())),
            "{change:?}"
        );
        assert_eq!(seen.sent("code"), None);
    }
}

#[tokio::test]
async fn a_code_works_once_for_who_asked_for_it() {
    let site = Site::start().await;
    let user = site.user("ada@acme.example").await;
    let (program, other) = (site.program(&user).await, site.program(&user).await);
    let code = site.code(&program, &user).await;
    for change in [
        ("code_verifier", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
        ("code_verifier", ""),
        ("redirect_uri", "https://chat.example/other"),
        ("code", "nonsense"),
    ] {
        site.redeem(&program, &code, &[change]).await.is_error(400, "invalid_grant");
    }
    site.redeem(&other, &code, &[]).await.is_error(400, "invalid_grant");
    let wrong = crate::support::Program { secret: other.secret.clone(), ..program.clone() };
    site.redeem(&wrong, &code, &[]).await.is_error(401, "invalid_client");
    let tokens = site.redeem(&program, &code, &[]).await.is(200);
    site.userinfo(&tokens.text("access_token")).await.is(200);

    site.redeem(&program, &code, &[]).await.is_error(400, "invalid_grant");
    site.userinfo(&tokens.text("access_token")).await.is(401);
    site.refresh(&program, &tokens.text("refresh_token")).await.is_error(400, "invalid_grant");
}

#[tokio::test]
async fn a_code_ends_after_a_minute() {
    let site = Site::start().await;
    let user = site.user("ada@acme.example").await;
    let program = site.program(&user).await;
    let code = site.code(&program, &user).await;
    site.clock.advance(std::time::Duration::from_secs(61));
    site.redeem(&program, &code, &[]).await.is_error(400, "invalid_grant");
}

#[tokio::test]
async fn a_program_of_somebody_else_is_allowed_first() {
    let site = Site::start().await;
    let user = site.user("ada@acme.example").await;
    let program = site.program_with(&user, |client| cfr_billing::oidc::Client { first_party: false, ..client }).await;
    let cookie = site.cookie(&user).await;
    let silent = site.authorize(&program, &cookie, &[("prompt", "none")]).await.is(303);
    assert_eq!(silent.sent("error").as_deref(), Some("consent_required"));
    let page = site.authorize(&program, &cookie, &[]).await.is(200);
    assert!(page.body.contains("Chat &lt;b&gt;") && !page.body.contains("<b>Chat <b>"), "{page:?}");
    let field = |name: &str| {
        let rest = page.body.split(&format!("name=\"{name}\" value=\"")).nth(1).expect(name);
        rest.split('"').next().expect(name).replace("&amp;", "&")
    };
    let (request, seal) = (field("request"), field("seal"));
    let ours = [("cookie", cookie.as_str()), ("origin", site.base.as_str())];
    let form = |decision| [("request", request.as_str()), ("seal", seal.as_str()), ("decision", decision)];
    let allowed = site.submit("/oauth/consent", &ours, &form("allow")).await.is(303);
    assert!(allowed.sent("code").is_some(), "{allowed:?}");
    let denied = site.submit("/oauth/consent", &ours, &form("deny")).await.is(303);
    assert_eq!(denied.sent("error").as_deref(), Some("access_denied"));

    let foreign = [("cookie", cookie.as_str()), ("origin", "https://evil.example")];
    assert_eq!(site.submit("/oauth/consent", &foreign, &form("allow")).await.status, 400);
    let other = site.cookie(&user).await;
    let other = [("cookie", other.as_str()), ("origin", site.base.as_str())];
    assert_eq!(site.submit("/oauth/consent", &other, &form("allow")).await.status, 400, "another session's page");
    let more = format!("{request}&prompt=login");
    let changed = [("request", more.as_str()), ("seal", seal.as_str()), ("decision", "allow")];
    assert_eq!(site.submit("/oauth/consent", &ours, &changed).await.status, 400);
    let tokens = site.redeem(&program, &allowed.sent("code").expect("a code"), &[]).await.is(200);
    site.userinfo(&tokens.text("access_token")).await.is(200);
    site.chat(&tokens.text("access_token"), &[]).await.is(401); // it may know who they are, not spend their money
}

#[tokio::test]
async fn people_of_another_tenant_get_no_code() {
    let site = Site::start().await;
    let user = site.user("ada@acme.example").await;
    let program = site.program(&user).await;
    let books = &site.app.books;
    let zone = cfr_core::time::TimeZone::UTC;
    let other = cfr_server::seed::tenant(books, "globex", "Globex", zone).await.expect("a tenant");
    let terms = user.product_version.expect("a product");
    let bob = cfr_server::seed::user(books, other.id, "bob@globex.example", "Bob", terms).await.expect("a user");
    let cookie = site.cookie(&bob).await;
    let seen = site.authorize(&program, &cookie, &[]).await.is(200);
    assert!(seen.body.contains("belongs to another organisation"), "{seen:?}");
}

#[test]
fn the_challenge_is_the_one_of_the_standard() {
    assert_eq!(challenge(crate::support::VERIFIER), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
}
