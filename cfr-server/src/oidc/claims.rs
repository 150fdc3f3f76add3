//! What tokens say of somebody.

use std::sync::Arc;
use std::time::Duration;

use cfr_billing::identity::{Role, Tenant, User};
use cfr_billing::oidc::{Client, ClientSession};
use cfr_core::id::{ClientSessionId, TenantId, UserId};
use cfr_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::Issuer;

/// How long an access token lives. Open WebUI renews its tokens when less than 5 minutes are left.
pub const ACCESS_TOKEN_LASTS: Duration = Duration::from_mins(15);
/// How long an id token lives: as long as the access token, because Open WebUI goes by whichever ends first.
pub const ID_TOKEN_LASTS: Duration = ACCESS_TOKEN_LASTS;
/// Who access tokens are for that open `/v1`.
pub const GATEWAY_AUDIENCE: &str = "cfr-gateway";
/// The type of access tokens (RFC 9068).
pub const ACCESS_TOKEN: &str = "at+jwt";
/// The type of id tokens.
pub const ID_TOKEN: &str = "JWT";
/// The type of logout tokens.
pub const LOGOUT_TOKEN: &str = "logout+jwt";

/// Scopes that a client may ask for. Others are ignored, as OpenID Connect wants it.
pub const SCOPES: &[&str] = &["openid", "email", "profile", "groups", "offline_access", "models"];
/// The scope by which the client of somebody else may call models in a user's name and for their money.
pub(super) const MODELS: &str = "models";

/// What an access token says (RFC 9068).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AccessClaims {
    pub(super) iss: String,
    /// The user.
    pub sub: UserId,
    /// Who it is for.
    pub aud: Vec<String>,
    /// When it ends, in seconds since 1970.
    pub exp: i64,
    pub(super) iat: i64,
    pub(super) jti: String,
    pub(super) client_id: String,
    /// What it may do.
    pub scope: String,
    /// The session at the client; the token is void when that has ended.
    pub sid: ClientSessionId,
    /// The tenant.
    pub tid: TenantId,
    /// The user's epoch; the token is void in a later one.
    pub epoch: i64,
    pub(super) auth_time: i64,
}

/// What an id token says (OpenID Connect Core 1.0 §2).
#[derive(Debug, Clone, Serialize)]
pub(super) struct IdClaims {
    iss: String,
    aud: String,
    exp: i64,
    iat: i64,
    auth_time: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<Arc<str>>,
    sid: ClientSessionId,
    amr: Vec<Arc<str>>,
    #[serde(flatten)]
    person: Person,
}

/// What a scope shows of somebody.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Person {
    sub: UserId,
    tid: TenantId,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email_verified: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    locale: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<i64>,
    /// In the words of Open WebUI: `admin` for who runs the tenant or the platform, else `user`.
    #[serde(skip_serializing_if = "Option::is_none")]
    roles: Option<[&'static str; 1]>,
    /// The tenant's short name.
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<[Arc<str>; 1]>,
}

impl Person {
    /// What these scopes show of a user.
    pub(super) fn shown<'a>(user: &User, tenant: &Tenant, scopes: impl IntoIterator<Item = &'a str>) -> Self {
        let scopes: Vec<&str> = scopes.into_iter().collect();
        let has = |scope| scopes.contains(&scope);
        let (profile, email) = (has("profile"), has("email"));
        let language = user.locale.unwrap_or(tenant.settings.locale);
        Self {
            sub: user.id,
            tid: tenant.id,
            email: email.then(|| Arc::clone(&user.email)),
            email_verified: email.then_some(user.email_verified_at.is_some()),
            name: profile.then(|| Arc::clone(&user.name)),
            locale: profile.then(|| language.code()),
            updated_at: profile.then(|| user.updated_at.as_second()),
            roles: profile.then(|| [role(user.role)]),
            groups: (profile || has("groups")).then(|| [Arc::clone(&tenant.slug)]),
        }
    }
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Admin | Role::TenantAdmin => "admin",
        _ => "user",
    }
}

impl AccessClaims {
    /// Of somebody at a client. It opens `/v1` where the client is the tenant's own, or was allowed to.
    pub(super) fn new(
        issuer: &Issuer,
        client: &Client,
        session: &ClientSession,
        scopes: &[Arc<str>],
        now: Timestamp,
    ) -> Self {
        let opens_models = client.first_party || scopes.iter().any(|scope| &**scope == MODELS);
        let gateway = opens_models.then(|| GATEWAY_AUDIENCE.to_owned());
        Self {
            iss: issuer.to_string(),
            sub: session.user,
            aud: gateway.into_iter().chain([userinfo(issuer)]).collect(),
            exp: (now + ACCESS_TOKEN_LASTS).as_second(),
            iat: now.as_second(),
            jti: format!("{:032x}", rand::random::<u128>()),
            client_id: client.id.to_string(),
            scope: scopes.join(" "),
            sid: session.id,
            tid: session.tenant,
            epoch: session.epoch,
            auth_time: session.auth_time.as_second(),
        }
    }
}

impl IdClaims {
    pub(super) fn new(
        issuer: &Issuer,
        session: &ClientSession,
        nonce: Option<Arc<str>>,
        person: Person,
        now: Timestamp,
    ) -> Self {
        Self {
            iss: issuer.to_string(),
            aud: session.client.to_string(),
            exp: (now + ID_TOKEN_LASTS).as_second(),
            iat: now.as_second(),
            auth_time: session.auth_time.as_second(),
            nonce,
            sid: session.id,
            amr: session.methods.clone(),
            person,
        }
    }
}

/// The audience of tokens that show who somebody is.
pub(super) fn userinfo(issuer: &Issuer) -> String {
    issuer.at(super::USERINFO)
}
