//! Counting a prompt, asked and answered in the words of each dialect.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use cfr_core::chat::Dialect;
use cfr_core::gateway::PromptCount;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Request};
use serde_json::{Value, json};

use super::answer::describe_rate;
use super::{Asked, api_error, read};
use crate::state::App;

/// Says that a number of tokens is an estimate of ours.
const ESTIMATE: HeaderName = HeaderName::from_static("x-cfr-estimate");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Counts the prompt of a call, or says in its dialect why not. It costs nothing.
pub async fn count(app: Arc<App>, asked: Asked, request: Request<Body>) -> Response {
    let dialect = asked.operation().dialect();
    let counted = match read(&app, asked, request).await {
        Ok((admitted, call)) => {
            app.gateway.count(&admitted.caller, call).await.map_err(|error| api_error(error, &app.settings))
        }
        Err(error) => Err(error),
    };
    match counted {
        Ok(count) => respond(dialect, count),
        Err(error) => error.in_dialect(dialect).into_response(),
    }
}

fn respond(dialect: Dialect, count: PromptCount) -> Response {
    let PromptCount { tokens, body, estimated, rate, .. } = count;
    let mut response = match body {
        Some(body) => ([(CONTENT_TYPE, JSON)], body).into_response(),
        None => Json(worded(dialect, tokens)).into_response(),
    };
    let headers = response.headers_mut();
    if let Some(rate) = rate {
        describe_rate(rate, headers);
    }
    if estimated {
        headers.insert(ESTIMATE, HeaderValue::from_static("1"));
    }
    response
}

fn worded(dialect: Dialect, tokens: u64) -> Value {
    match dialect {
        Dialect::Gemini => json!({ "totalTokens": tokens }),
        Dialect::Responses => json!({ "object": "response.input_tokens", "input_tokens": tokens }),
        _ => json!({ "input_tokens": tokens }),
    }
}
