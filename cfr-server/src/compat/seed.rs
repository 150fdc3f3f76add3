//! What a program beside the gateway asks before its call and tells afterwards, and how it manages users: the billing API
//! that runs today (money.md §2.11).
//!
//! The key comes as `x-api-key`: an admin key, or a service key of a tenant with the scopes.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use cfr_core::id::{HoldId, TenantId};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::state::App;

mod check;
mod log;
mod users;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/api/check-budget", post(check::check_budget))
        .route("/api/usage/log", post(log::log_usage))
        .route("/api/users", get(users::list).post(users::create))
        .route("/api/users/{user}", get(users::show))
        .route("/api/users/{user}/reset-budget", post(users::reset_budget))
        .route("/api/users/{user}/budget", put(users::set_budget))
        .route("/api/health", get(health))
}

async fn health(State(app): State<Arc<App>>) -> Json<Value> {
    let problem = app.problem().await;
    Json(json!({ "status": if problem.is_none() { "ok" } else { "degraded" }, "problem": problem }))
}

/// The hold, and the usage record, of a request by the other program's own id of it. Tenants do not share ids.
fn hold_of(tenant: TenantId, request_id: &str) -> HoldId {
    let mut hash = Sha256::new_with_prefix("outside request:");
    hash.update(tenant.to_bytes());
    hash.update(request_id);
    let mut id = [0; 16];
    id.copy_from_slice(&hash.finalize()[..16]);
    HoldId::from_bytes(id)
}
