//! `POST /security/token-leak`: whoever finds a key in the open reports it, and it stops working.
//!
//! The answer is the same whether the key exists, works or is no key at all: nobody learns here which keys there are. A
//! report with a wrong checksum costs no look-up.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequest as _, Request, State};
use axum::http::StatusCode;
use axum::routing::post;
use cfr_billing::audit_log::{Act, Actor, ActorKind};
use cfr_billing::store::PeopleStore;
use cfr_core::id::RequestId;
use cfr_core::secret::Secret;
use cfr_core::time::Clock;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api;
use crate::api::problem::Problem;
use crate::auth::{KeyText, Keys};
use crate::serve;
use crate::turns::{Quota, Turns};

/// Where reports go.
pub const PATH: &str = "/security/token-leak";
/// A report is one key.
const BODY_BYTES_MAX: usize = 4 * 1024;
const MINUTE: Duration = Duration::from_mins(1);
/// Reports in a minute from one network.
const PER_NETWORK: Quota = Quota { what: "leaks of a network", most: 30, window: MINUTE, step: 3 };
/// Reports in a minute in all.
const IN_ALL: Quota = Quota { what: "leaks in all", most: 600, window: MINUTE, step: 30 };

/// A key that was found.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct Report {
    /// The key as it was found. Fields that say where are welcome, and not looked at.
    #[schema(value_type = String, example = "cfr_live_2xTq0d8HkVnW3sYbL5mZp7RcJfGaE4u1Xn9fQa")]
    token: Secret,
}

/// What every report is answered.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Received {
    /// Always true.
    received: bool,
}

/// Takes reports.
#[derive(Debug)]
pub(crate) struct Desk {
    keys: Arc<Keys>,
    clock: Arc<dyn Clock>,
    turns: Turns,
}

/// The route that takes reports.
pub fn router(keys: Arc<Keys>, store: Arc<dyn PeopleStore>, clock: Arc<dyn Clock>) -> Router {
    let turns = Turns::new(store, Arc::clone(&clock));
    let desk = Arc::new(Desk { keys, clock, turns });
    Router::new().route(PATH, post(report)).layer(DefaultBodyLimit::max(BODY_BYTES_MAX)).with_state(desk)
}

/// Report an API key that was found where everybody can read it: it stops working at once.
#[utoipa::path(post, path = "/security/token-leak", operation_id = "report_leaked_key", tag = "keys", security(()),
    request_body = Report,
    responses((status = 202, description = "Received, whatever it is", body = Received),
        (status = "default", description = "What went wrong", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn report(
    State(desk): State<Arc<Desk>>,
    request: Request,
) -> Result<(StatusCode, Json<Received>), Problem> {
    let address = serve::address(request.extensions());
    desk.admit(address).await?;
    let id = request.extensions().get().copied();
    let api::Json(report) = api::Json::<Report>::from_request(request, &()).await?;
    desk.take(&report, address, id).await?;
    Ok((StatusCode::ACCEPTED, Json(Received { received: true })))
}

impl Desk {
    async fn admit(&self, address: Option<IpAddr>) -> Result<(), Problem> {
        for (quota, subject) in [(&PER_NETWORK, address.map_or(0, serve::network)), (&IN_ALL, 0)] {
            if let Some(after) = self.turns.take(quota, subject).await? {
                return Err(Problem::too_many(after));
            }
        }
        Ok(())
    }

    async fn take(&self, report: &Report, address: Option<IpAddr>, request: Option<RequestId>) -> Result<(), Problem> {
        let Some(text) = KeyText::parse(report.token.expose().trim()) else { return Ok(()) };
        let by = Arc::new(Actor { address, request, ..Actor::of_kind(ActorKind::System) });
        Ok(self.keys.revoke_found(&text, &Act { by, at: self.clock.now() }).await?)
    }
}
