//! `/v1/models`: only what the key may use and what has a price.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use cfr_core::route::Model;
use serde::Serialize;

use crate::error::ApiError;
use crate::state::App;

/// A list as OpenAI's SDKs read it.
#[derive(Debug, Serialize)]
pub struct ModelList {
    object: &'static str,
    data: Vec<ModelCard>,
}

/// One model as OpenAI's SDKs read it.
#[derive(Debug, Serialize)]
pub struct ModelCard {
    id: Arc<str>,
    object: &'static str,
    created: i64,
    owned_by: Arc<str>,
}

impl ModelCard {
    fn of(model: &Model, created: i64) -> Self {
        let owner = model.targets.first().map_or_else(|| Arc::from("cfr"), |target| Arc::clone(&target.provider));
        Self { id: Arc::clone(&model.name), object: "model", created, owned_by: owner }
    }
}

/// `GET /v1/models`.
///
/// # Errors
/// When the key is not let in.
pub async fn list_models(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Json<ModelList>, ApiError> {
    let data = visible(&app, &headers).await?.iter().map(|model| ModelCard::of(model, app.started_at())).collect();
    Ok(Json(ModelList { object: "list", data }))
}

/// `GET /v1/models/{id}`; the id may contain slashes.
///
/// # Errors
/// 404 for a model that does not exist or that the key may not use.
pub async fn show_model(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<ModelCard>, ApiError> {
    let models = visible(&app, &headers).await?;
    let model = models.iter().find(|model| *model.name == *id).ok_or_else(|| {
        ApiError::not_found("model_not_found", format!("the model `{id}` does not exist")).param("model")
    })?;
    Ok(Json(ModelCard::of(model, app.started_at())))
}

async fn visible(app: &App, headers: &HeaderMap) -> Result<Vec<Arc<Model>>, ApiError> {
    let principal = app.keys.authenticate(headers).await?;
    Ok(app.gateway.models(principal.caller()?))
}
