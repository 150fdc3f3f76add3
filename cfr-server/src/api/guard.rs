//! Who is let in to the management API: keys, people who signed in, and who opened the database itself.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::USER_AGENT;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;
use cfr_billing::audit_log::{AGENT_BYTES_MAX, Act, Actor, ActorKind};
use cfr_billing::identity::{TenantStatus, User, UserStatus};
use cfr_billing::people::SignedIn;
use cfr_core::id::UserId;

use super::desk::Shared;
use super::problem::Problem;
use super::{ApiState, impersonation};
use crate::auth::access::{Access, Subject};
use crate::auth::{AuthError, Principal, presented};
use crate::serve;

/// In answers to an administrator who looks like a user: the user's id.
const IMPERSONATING: HeaderName = HeaderName::from_static("x-cfr-impersonating");

/// Knows who is signed in by a browser's cookie.
#[async_trait]
pub(crate) trait SignIns: Debug + Send + Sync + 'static {
    /// Who is signed in, if somebody is.
    ///
    /// # Errors
    /// When they may do nothing yet, or the store cannot be read.
    async fn signed_in(&self, headers: &HeaderMap) -> Result<Option<SignedIn>, Problem>;

    /// Passes what our own pages sent.
    ///
    /// # Errors
    /// 403 for what another site made a browser send.
    fn check_browser(&self, method: &Method, headers: &HeaderMap) -> Result<(), Problem>;
}

/// Who acts, and when: what every change is told with.
#[derive(Debug, Clone)]
pub(crate) struct Acting(pub(crate) Act);

/// Lets keys and people in, with what they may do.
///
/// # Errors
/// 401 for everybody else, 403 for who is locked out.
pub(crate) async fn admit(State(shared): State<Shared>, request: Request, next: Next) -> Result<Response, Problem> {
    let (mut head, body) = request.into_parts();
    let access = access(shared.parts(), &head).await?;
    let impersonated = access.impersonated;
    let actor = actor(&head, &access);
    head.extensions.insert(Act { by: Arc::new(actor), at: shared.parts().clock.now() });
    head.extensions.insert(access);
    let mut response = next.run(Request::from_parts(head, body)).await;
    if let Some(value) = impersonated.and_then(|user| HeaderValue::try_from(user.to_string()).ok()) {
        response.headers_mut().insert(IMPERSONATING, value);
    }
    Ok(response)
}

/// Names the operator as the actor: the data folder was opened, so there is nothing left to prove.
pub(crate) async fn trust_the_operator(State(shared): State<Shared>, mut request: Request, next: Next) -> Response {
    let by = Arc::new(Actor::of_kind(ActorKind::Operator));
    request.extensions_mut().insert(Act { by, at: shared.parts().clock.now() });
    request.extensions_mut().insert(Access::of_operator());
    next.run(request).await
}

/// A key goes first: whoever sends one means it.
async fn access(state: &ApiState, head: &Parts) -> Result<Access, Problem> {
    let headers = &head.headers;
    if presented(headers).is_some() {
        let principal = state.keys.authenticate(headers, serve::address(&head.extensions)).await?;
        return of_key(&principal);
    }
    let signed_in = match &state.sign_ins {
        Some(sign_ins) => sign_ins.signed_in(headers).await?.map(|found| (sign_ins, found)),
        None => None,
    };
    let (sign_ins, signed_in) = signed_in.ok_or_else(Problem::unauthorized)?;
    sign_ins.check_browser(&head.method, headers)?;
    of_session(state, &signed_in, head).await
}

fn of_key(principal: &Principal) -> Result<Access, Problem> {
    if principal.is_operator() {
        return Ok(Access::of_operator());
    }
    let context = &principal.context;
    if context.tenant.as_ref().is_some_and(|tenant| tenant.status != TenantStatus::Active) {
        return Err(AuthError::TenantSuspended.into());
    }
    if context.user.as_ref().is_some_and(|user| user.status != UserStatus::Active) {
        return Err(AuthError::UserNotActive.into());
    }
    Access::of_key(&context.key).ok_or_else(|| Problem::forbidden("this key belongs to nobody"))
}

async fn of_session(state: &ApiState, signed_in: &SignedIn, head: &Parts) -> Result<Access, Problem> {
    let access = Access::of_session(signed_in);
    match impersonated(signed_in, state) {
        Some(user) if !impersonation::ends(head) => as_user(&access, &state.store.user(user).await?, &head.method),
        _ => Ok(access),
    }
}

/// Whom the session looks like now.
fn impersonated(signed_in: &SignedIn, state: &ApiState) -> Option<UserId> {
    let (user, until) = signed_in.session.impersonates?;
    (until > state.clock.now()).then_some(user)
}

fn as_user(access: &Access, user: &User, method: &Method) -> Result<Access, Problem> {
    if method.is_safe() {
        return Ok(access.impersonating(user));
    }
    Err(Problem::forbidden("you see what a user sees, and change nothing: end it with `DELETE /api/v1/impersonation`"))
}

/// The operator's own key is in no store, and so has no id. Whoever looks like somebody else is still who they are.
fn actor(head: &Parts, access: &Access) -> Actor {
    let agent = head.headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
    let (kind, id) = match access.subject {
        Subject::Operator => (ActorKind::Operator, None),
        Subject::Key(id) => (ActorKind::Key, Some(id.to_string().into())),
        Subject::User(id, _) => (ActorKind::User, Some(id.to_string().into())),
    };
    Actor {
        id,
        address: serve::address(&head.extensions),
        agent: agent.map(|agent| agent.get(..AGENT_BYTES_MAX).unwrap_or(agent).into()),
        request: head.extensions.get().copied(),
        ..Actor::of_kind(kind)
    }
}

impl FromRequestParts<Shared> for Acting {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Problem> {
        parts.extensions.get().cloned().map(Self).ok_or_else(|| Problem::internal("nobody acts"))
    }
}

/// What the log may know, the caller must not: every key that does not work gives the same answer.
impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Missing | AuthError::Unknown | AuthError::Expired => Self::unauthorized(),
            AuthError::Store(reason) => reason.into(),
            other => Self::forbidden(other),
        }
    }
}
