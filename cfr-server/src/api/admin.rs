//! Who may use the management API, and who acts there.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::USER_AGENT;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;
use cfr_billing::audit_log::{AGENT_BYTES_MAX, Act, Actor, ActorKind};

use super::ApiState;
use super::problem::Problem;
use crate::auth::{AuthError, Principal};
use crate::serve::Peer;

/// Who acts, and when: what every change is told with.
#[derive(Debug, Clone)]
pub(crate) struct Acting(pub(crate) Act);

/// Lets only admin keys through.
///
/// # Errors
/// 401 without a key in use, 403 for a key that opens something else.
pub(crate) async fn require_admin_key(
    State(state): State<ApiState>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let principal = state.keys.authenticate(request.headers()).await?;
    if !principal.is_admin() {
        return Err(Problem::forbidden("this key calls models; the management API needs an admin key"));
    }
    let actor = from_request(&request, of_key(&principal));
    request.extensions_mut().insert(Arc::new(actor));
    Ok(next.run(request).await)
}

/// Names the operator as the actor: the data folder was opened, so there is nothing left to prove.
pub(crate) async fn trust_the_operator(mut request: Request, next: Next) -> Response {
    request.extensions_mut().insert(Arc::new(Actor::of_kind(ActorKind::Operator)));
    next.run(request).await
}

/// The operator's own key is in no store, and so has no id.
fn of_key(principal: &Principal) -> Actor {
    match principal.is_operator() {
        true => Actor::of_kind(ActorKind::Operator),
        false => Actor { id: Some(principal.context.key.id.to_string().into()), ..Actor::of_kind(ActorKind::Key) },
    }
}

fn from_request(request: &Request, actor: Actor) -> Actor {
    let agent = request.headers().get(USER_AGENT).and_then(|value| value.to_str().ok());
    Actor {
        address: request.extensions().get::<Peer>().map(|peer| peer.0),
        agent: agent.map(|agent| agent.get(..AGENT_BYTES_MAX).unwrap_or(agent).into()),
        request: request.extensions().get().copied(),
        ..actor
    }
}

impl FromRequestParts<ApiState> for Acting {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        let by = parts.extensions.get::<Arc<Actor>>().ok_or_else(|| Problem::internal("nobody acts"))?;
        Ok(Self(Act { by: Arc::clone(by), at: state.clock.now() }))
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
