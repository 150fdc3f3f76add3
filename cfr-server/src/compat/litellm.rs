//! What portals, scripts and Terraform use of LiteLLM's management API, with its fields. A team is a tenant here.
//!
//! Amounts are in the currency of the tenant; a team that is made here has budgets in dollars, as LiteLLM counts. What a
//! request limits and this gateway does not enforce is refused by name; what it only notes is kept and shown again.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::json;

use crate::state::App;

mod activity;
mod fields;
mod keys;
mod limit;
mod models;
mod notes;
mod teams;
mod users;

/// The tool whose names these are.
pub(crate) const LITELLM: &str = "litellm";

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/key/generate", post(keys::generate))
        .route("/key/service-account/generate", post(keys::generate))
        .route("/key/info", get(keys::info))
        .route("/key/list", get(keys::list))
        .route("/key/update", post(keys::update))
        .route("/key/delete", post(keys::delete))
        .route("/key/block", post(keys::block))
        .route("/key/unblock", post(keys::unblock))
        .route("/key/{key}/regenerate", post(keys::regenerate))
        .route("/user/new", post(users::create))
        .route("/user/info", get(users::info))
        .route("/user/list", get(users::list))
        .route("/user/update", post(users::update))
        .route("/user/delete", post(users::delete))
        .route("/user/daily/activity", get(activity::of_users))
        .route("/team/new", post(teams::create))
        .route("/team/info", get(teams::info))
        .route("/team/list", get(teams::list))
        .route("/team/update", post(teams::update))
        .route("/team/delete", post(teams::delete))
        .route("/team/block", post(teams::block))
        .route("/team/unblock", post(teams::unblock))
        .route("/team/daily/activity", get(activity::of_teams))
        .route("/model/info", get(models::info))
        .route("/v1/model/info", get(models::info))
        .route("/model_group/info", get(models::groups))
        .route("/spend/logs", get(activity::logs))
        .route("/global/spend/report", get(activity::report))
        .route("/health/liveliness", get(alive))
        .route("/health/liveness", get(alive))
        .route("/health/readiness", get(ready))
}

async fn alive() -> Json<&'static str> {
    Json("I'm alive!")
}

async fn ready(State(app): State<Arc<App>>) -> Response {
    match app.problem().await {
        None => Json(json!({"status": "healthy", "db": "connected"})).into_response(),
        Some(problem) => {
            let body = Json(json!({"status": "unhealthy", "db": "Not connected", "detail": problem}));
            (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
        }
    }
}
