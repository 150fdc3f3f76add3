//! `/impersonation`: an administrator of the platform sees for a while what a user sees, and changes nothing.

use std::time::Duration;

use axum::Json as Answer;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use cfr_billing::audit_log::{Action, Event};
use cfr_billing::identity::Role;
use cfr_billing::people::Session;
use cfr_billing::store::Store;
use cfr_core::id::UserId;
use cfr_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::desk::Desk;
use super::guard::Acting;
use super::input::Json;
use super::problem::{Problem, Problems};
use super::{lookup, schema};
use crate::auth::access::Subject;

/// How long it lasts (money.md §5.1).
const LASTS: Duration = Duration::from_mins(15);
/// Below where the API is mounted.
const PATH: &str = "/impersonation";

/// Whom to look like.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Impersonate {
    /// The user's id or e-mail address.
    #[schema(example = "anna@acme.example")]
    pub(crate) user: String,
}

/// Whom a session looks like, and until when.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Impersonation {
    /// The user.
    #[schema(value_type = schema::UserId)]
    pub(crate) user: UserId,
    /// When it ends by itself.
    #[schema(value_type = schema::Time)]
    pub(crate) until: Timestamp,
}

/// Whether a request ends what makes its session look like somebody else.
pub(super) fn ends(head: &Parts) -> bool {
    head.method == Method::DELETE && head.uri.path() == PATH
}

/// See for a quarter of an hour what a user sees. Every answer has the header `x-cfr-impersonating` then, and nothing can be
/// changed.
#[utoipa::path(post, path = "/impersonation", operation_id = "impersonate", tag = "users", request_body = Impersonate,
    responses((status = 201, description = "Whom, and until when", body = Impersonation), Problems))]
pub(crate) async fn begin(
    desk: Desk,
    Acting(act): Acting,
    Json(body): Json<Impersonate>,
) -> Result<(StatusCode, Answer<Impersonation>), Problem> {
    let user = lookup::named("user", lookup::user(&*desk.store, &body.user).await)?;
    if user.role == Role::Admin {
        return Err(Problem::invalid_field("user", "nobody looks like an administrator of the platform"));
    }
    let store = desk.within(None)?;
    let mut session = own_session(&**store, &desk).await?;
    let until = act.at + LASTS;
    session.impersonates = Some((user.id, until));
    let event = Event::about(Action::ImpersonationBegun, &user, &json!({ "session": session.id, "until": until }));
    store.record(&event, &act).await?; // told before it can be used
    store.update_session(&session.hash.clone(), &session).await?;
    Ok((StatusCode::CREATED, Answer(Impersonation { user: user.id, until })))
}

/// Be yourself again.
#[utoipa::path(delete, path = "/impersonation", operation_id = "end_impersonation", tag = "users",
    responses((status = 204, description = "You are yourself"), Problems))]
pub(crate) async fn end(desk: Desk, Acting(act): Acting) -> Result<StatusCode, Problem> {
    let store = desk.within(None)?;
    let mut session = own_session(&**store, &desk).await?;
    if let Some((user, _)) = session.impersonates.take() {
        let user = store.user(user).await?;
        let event = Event::about(Action::ImpersonationEnded, &user, &json!({ "session": session.id }));
        store.update_session(&session.hash.clone(), &session).await?;
        store.record(&event, &act).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn own_session(store: &dyn Store, desk: &Desk) -> Result<Session, Problem> {
    let Subject::User(user, id) = desk.access.subject else {
        return Err(Problem::conflict("a key looks like nobody else: sign in"));
    };
    let mine = |session: &Session| session.id == id;
    let found = store.sessions(user, desk.now()).await?.into_iter().find(mine);
    found.ok_or_else(Problem::unauthorized)
}
