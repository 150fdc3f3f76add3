//! The models that a key may use and that have a price, in the words of whoever asks: `/v1/models` for clients of OpenAI's
//! and Anthropic's, `/v1beta/models` for Gemini's.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use cfr_core::chat::Dialect;
use cfr_core::price::Mode;
use cfr_core::route::Model;
use cfr_core::time::Timestamp;
use serde_json::{Value, json};

use crate::auth::Asker;
use crate::error::ApiError;
use crate::state::App;

/// What Gemini's clients can do with a model that answers.
const METHODS: [&str; 3] = ["generateContent", "streamGenerateContent", "countTokens"];

/// `GET /v1/models` and `/v1beta/models`: all of them at once.
pub async fn list(State(app): State<Arc<App>>, uri: Uri, asker: Asker) -> Response {
    let dialect = dialect(&uri, &asker.headers);
    match visible(&app, &asker).await {
        Ok(models) => Json(worded_list(&app, dialect, &models)).into_response(),
        Err(error) => error.in_dialect(dialect).into_response(),
    }
}

/// `GET /v1/models/{id}` and `/v1beta/models/{id}`; the id may contain slashes. 404 for a model that does not exist or that
/// the key may not use.
pub async fn show(State(app): State<Arc<App>>, Path(id): Path<String>, uri: Uri, asker: Asker) -> Response {
    let dialect = dialect(&uri, &asker.headers);
    let found = visible(&app, &asker).await.and_then(|models| {
        let unknown =
            || ApiError::not_found("model_not_found", format!("the model `{id}` does not exist")).param("model");
        models.into_iter().find(|model| *model.name == *id).ok_or_else(unknown)
    });
    match found {
        Ok(model) => Json(worded(&app, dialect, &model)).into_response(),
        Err(error) => error.in_dialect(dialect).into_response(),
    }
}

/// The path says it, or the header that only clients of one dialect send.
fn dialect(uri: &Uri, headers: &HeaderMap) -> Dialect {
    if uri.path().starts_with("/v1beta/") || headers.contains_key("x-goog-api-key") {
        Dialect::Gemini
    } else if headers.contains_key("anthropic-version") {
        Dialect::Anthropic
    } else {
        Dialect::OpenAi
    }
}

async fn visible(app: &App, asker: &Asker) -> Result<Vec<Arc<Model>>, ApiError> {
    let (caller, _) = app.callers.caller(&asker.headers, asker.address).await?;
    Ok(app.gateway.models(&caller))
}

fn worded_list(app: &App, dialect: Dialect, models: &[Arc<Model>]) -> Value {
    let all: Vec<Value> = models.iter().map(|model| worded(app, dialect, model)).collect();
    let name = |model: Option<&Arc<Model>>| model.map(|model| Arc::clone(&model.name));
    match dialect {
        Dialect::Gemini => json!({ "models": all }),
        Dialect::Anthropic => {
            let (first, last) = (name(models.first()), name(models.last()));
            json!({ "data": all, "has_more": false, "first_id": first, "last_id": last })
        }
        _ => json!({ "object": "list", "data": all }),
    }
}

fn worded(app: &App, dialect: Dialect, model: &Model) -> Value {
    let (name, since) = (&model.name, app.started_at());
    match dialect {
        Dialect::Gemini => {
            let methods: &[&str] = if answers(app, model) { &METHODS } else { &[] };
            json!({ "name": format!("models/{name}"), "displayName": name, "supportedGenerationMethods": methods })
        }
        Dialect::Anthropic => {
            let since = Timestamp::from_second(since).unwrap_or_default().to_string();
            json!({ "type": "model", "id": name, "display_name": name, "created_at": since })
        }
        _ => {
            let owner = model.targets.first().map_or("cfr", |target| &target.provider);
            json!({ "id": name, "object": "model", "created": since, "owned_by": owner })
        }
    }
}

fn answers(app: &App, model: &Model) -> bool {
    let (offer, now) = (app.gateway.offer(), app.clock.now());
    let entry = model.targets.iter().find_map(|target| target.entry(&offer.prices, now));
    entry.is_some_and(|entry| entry.mode() == Mode::Chat)
}
