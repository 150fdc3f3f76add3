//! The paths of OpenID Connect, which programs find through discovery: shapes and errors are those of the protocols.

use utoipa::{OpenApi, ToSchema};

/// Describes what programs use that people sign in to.
#[derive(Debug, OpenApi)]
#[openapi(paths(discovery, discovery_oauth, keys, authorize, token, revoke, userinfo, logout))]
pub(super) struct OAuth;

/// What the provider is and can do (OpenID Connect Discovery 1.0).
#[derive(ToSchema)]
struct ProviderMetadata {
    /// Who signs tokens: the public address of this server.
    #[schema(example = "https://llm.example")]
    issuer: String,
    /// Where people are sent to sign in.
    authorization_endpoint: String,
    /// Where codes and refresh tokens become tokens.
    token_endpoint: String,
    /// Where access tokens show whose they are.
    userinfo_endpoint: String,
    /// Where tokens are given back.
    revocation_endpoint: String,
    /// Where sessions end.
    end_session_endpoint: String,
    /// The keys that tokens are checked with.
    jwks_uri: String,
    /// What may be asked for.
    scopes_supported: Vec<String>,
}

/// Keys that tokens are checked with (RFC 7517).
#[derive(ToSchema)]
struct KeySet {
    /// The keys, the newest first; one that is not used any more stays as long as its tokens live.
    keys: Vec<PublicKey>,
}

/// One key (RFC 7517, RFC 7518 §6).
#[derive(ToSchema)]
struct PublicKey {
    /// The family of the key.
    kty: String,
    /// Names it in the heads of tokens.
    kid: String,
    /// What it signs with.
    alg: Option<String>,
    /// What it is for.
    #[schema(rename = "use")]
    usage: Option<String>,
}

/// A code or a refresh token, to become tokens (RFC 6749 §4.1.3 and §6).
#[derive(ToSchema)]
struct TokenRequest {
    /// `authorization_code` or `refresh_token`.
    #[schema(example = "authorization_code")]
    grant_type: String,
    /// The code, with `authorization_code`.
    code: Option<String>,
    /// Where the code was sent, with `authorization_code`.
    redirect_uri: Option<String>,
    /// What the challenge was made of (RFC 7636), with `authorization_code`.
    #[schema(min_length = 43, max_length = 128)]
    code_verifier: Option<String>,
    /// With `refresh_token`.
    refresh_token: Option<String>,
    /// The program, unless it proves who it is with HTTP Basic.
    client_id: Option<String>,
    /// Its secret, likewise.
    client_secret: Option<String>,
}

/// Tokens (RFC 6749 §5.1, OpenID Connect Core 1.0 §3.1.3.3).
#[derive(ToSchema)]
struct TokenResponse {
    /// Opens `/v1` and `/oauth/userinfo` for whom it is of.
    access_token: String,
    /// Always `Bearer`.
    #[schema(example = "Bearer")]
    token_type: String,
    /// Seconds that the access token lives.
    expires_in: u64,
    /// Becomes new tokens, once.
    refresh_token: String,
    /// Says who signed in.
    id_token: String,
    /// What was granted.
    scope: String,
}

/// A token to give back (RFC 7009).
#[derive(ToSchema)]
struct RevocationRequest {
    /// The token.
    token: String,
    /// The program, unless it proves who it is with HTTP Basic.
    client_id: Option<String>,
    /// Its secret, likewise.
    client_secret: Option<String>,
}

/// Who somebody is, as far as the scopes of the token show it.
#[derive(ToSchema)]
struct UserInfo {
    /// Their id.
    sub: String,
    /// Their address.
    email: Option<String>,
    /// Whether they proved that they read it.
    email_verified: Option<bool>,
    /// Their name.
    name: Option<String>,
    /// What they are called by programs that know groups.
    groups: Option<Vec<String>>,
    /// What they may do here.
    roles: Option<Vec<String>>,
}

/// An error as OAuth's clients know it (RFC 6749 §5.2).
#[derive(ToSchema)]
struct OAuthProblem {
    /// A word of the protocol.
    #[schema(example = "invalid_grant")]
    error: String,
    /// For whoever writes the program.
    error_description: Option<String>,
}

/// Describe the OpenID provider.
#[utoipa::path(get, path = "/.well-known/openid-configuration", operation_id = "get_openid_configuration", tag = "oauth",
    security(()), responses((status = 200, description = "The description", body = ProviderMetadata),
        (status = "default", description = "It is not switched on", body = Value)))]
fn discovery() {}

/// Describe the OpenID provider, where clients of OAuth 2.0 look (RFC 8414).
#[utoipa::path(get, path = "/.well-known/oauth-authorization-server", operation_id = "get_oauth_configuration",
    tag = "oauth", security(()), responses((status = 200, description = "The description", body = ProviderMetadata),
        (status = "default", description = "It is not switched on", body = Value)))]
fn discovery_oauth() {}

/// List the keys that tokens are checked with.
#[utoipa::path(get, path = "/.well-known/jwks.json", operation_id = "get_signing_keys", tag = "oauth", security(()),
    responses((status = 200, description = "The keys", body = KeySet),
        (status = "default", description = "An error as OAuth's clients know it", body = OAuthProblem)))]
fn keys() {}

/// Let somebody sign in to a program. Browsers come here; the way goes on to the program's own address.
#[utoipa::path(get, path = "/oauth/authorize", operation_id = "authorize", tag = "oauth", security(()),
    params(("client_id" = String, Query, description = "The program"),
        ("redirect_uri" = String, Query, description = "One of its addresses, exactly"),
        ("response_type" = String, Query, description = "`code`"),
        ("scope" = String, Query, description = "`openid` and what else is asked for, with spaces between"),
        ("state" = Option<String>, Query, description = "Comes back as it is"),
        ("nonce" = Option<String>, Query, description = "Stands in the id token"),
        ("code_challenge" = String, Query, description = "SHA-256 of the verifier (RFC 7636)"),
        ("code_challenge_method" = String, Query, description = "`S256`")),
    responses((status = 200, description = "A page to sign in or to agree", content((String = "text/html"))),
        (status = 303, description = "On to the program, with a code or an error"),
        (status = "default", description = "A page that says why nobody is sent on", content((String = "text/html")))))]
fn authorize() {}

/// Turn a code or a refresh token into tokens.
#[utoipa::path(post, path = "/oauth/token", operation_id = "create_token", tag = "oauth", security(()),
    request_body(content((TokenRequest = "application/x-www-form-urlencoded"))),
    responses((status = 200, description = "The tokens", body = TokenResponse),
        (status = "default", description = "An error as OAuth's clients know it", body = OAuthProblem)))]
fn token() {}

/// Give a token back: everything that hangs on it ends.
#[utoipa::path(post, path = "/oauth/revoke", operation_id = "revoke_token", tag = "oauth", security(()),
    request_body(content((RevocationRequest = "application/x-www-form-urlencoded"))),
    responses((status = 200, description = "It is given back, or was none"),
        (status = "default", description = "An error as OAuth's clients know it", body = OAuthProblem)))]
fn revoke() {}

/// Show whose an access token is.
#[utoipa::path(get, path = "/oauth/userinfo", operation_id = "get_user_info", tag = "oauth",
    security(("access_token" = [])),
    responses((status = 200, description = "The person", body = UserInfo),
        (status = 401, description = "The token is over, or none"),
        (status = "default", description = "An error as OAuth's clients know it", body = OAuthProblem)))]
fn userinfo() {}

/// End the session of a browser here and in every program.
#[utoipa::path(get, path = "/oauth/logout", operation_id = "end_session", tag = "oauth", security(()),
    params(("id_token_hint" = Option<String>, Query, description = "Whose session it is"),
        ("client_id" = Option<String>, Query, description = "The program that asks"),
        ("post_logout_redirect_uri" = Option<String>, Query, description = "Where to go on, one of its addresses"),
        ("state" = Option<String>, Query, description = "Comes back as it is")),
    responses((status = 200, description = "A page that asks or says that it is done", content((String = "text/html"))),
        (status = 303, description = "On to the program"),
        (status = "default", description = "A page that says what went wrong", content((String = "text/html")))))]
fn logout() {}
