//! Who may use the management API.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;

use super::ApiState;
use super::problem::Problem;
use crate::auth::AuthError;

/// Who acts, for the books.
#[derive(Debug, Clone)]
pub(crate) struct Actor(pub(crate) Arc<str>);

/// What the books call somebody who opened the data folder itself.
const OPERATOR: &str = "operator";

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
    request.extensions_mut().insert(Actor(principal.context.key.id.to_string().into()));
    Ok(next.run(request).await)
}

/// Names the operator as the actor: the data folder was opened, so there is nothing left to prove.
pub(crate) async fn trust_the_operator(mut request: Request, next: Next) -> Response {
    request.extensions_mut().insert(Actor(OPERATOR.into()));
    next.run(request).await
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
