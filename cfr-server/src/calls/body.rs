//! Reads a request body once, within its limit.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;

use crate::error::ApiError;

/// A client that takes longer to send its body is cut off.
const READ_TIMEOUT: Duration = Duration::from_secs(120);
/// How much of a body that is too large is read and thrown away, as a multiple of the limit. A client that cannot finish
/// sending sees a broken connection, not our answer.
const DISCARD_FACTOR: usize = 4;

/// The body's bytes. A body that came in one piece is not copied.
pub(super) async fn read(request: Request<Body>, bytes_max: usize) -> Result<(HeaderMap, Bytes), ApiError> {
    let (parts, body) = request.into_parts();
    let read = tokio::time::timeout(READ_TIMEOUT, collect(body, bytes_max)).await;
    let bytes = read.unwrap_or_else(|_| Err(too_slow()))?;
    Ok((parts.headers, bytes))
}

/// The body as JSON of one kind.
pub(crate) async fn read_json<T: DeserializeOwned>(request: Request<Body>, bytes_max: usize) -> Result<T, ApiError> {
    let (_, body) = read(request, bytes_max).await?;
    serde_json::from_slice(&body).map_err(|error| ApiError::bad_request("invalid_json", error.to_string()))
}

async fn collect(mut body: Body, bytes_max: usize) -> Result<Bytes, ApiError> {
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(refuse(body, bytes_max, 0).await);
    }
    let Some(first) = next(&mut body).await? else { return Ok(Bytes::new()) };
    if first.len() > bytes_max {
        return Err(refuse(body, bytes_max, first.len()).await);
    }
    if body.is_end_stream() {
        return Ok(first);
    }
    let expected = usize::try_from(body.size_hint().lower()).unwrap_or(0).min(bytes_max);
    let mut whole = BytesMut::with_capacity(first.len().saturating_add(expected));
    whole.extend_from_slice(&first);
    while let Some(piece) = next(&mut body).await? {
        if whole.len() + piece.len() > bytes_max {
            return Err(refuse(body, bytes_max, whole.len() + piece.len()).await);
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

async fn next(body: &mut Body) -> Result<Option<Bytes>, ApiError> {
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| ApiError::bad_request("body_unreadable", "the body broke off").because(error))?;
        if let Ok(bytes) = frame.into_data() {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

async fn refuse(mut body: Body, bytes_max: usize, seen: usize) -> ApiError {
    let mut rest = bytes_max.saturating_mul(DISCARD_FACTOR).saturating_sub(seen);
    while rest > 0 {
        let Ok(Some(piece)) = next(&mut body).await else { break };
        rest = rest.saturating_sub(piece.len());
    }
    let message = format!("the body is larger than {bytes_max} bytes");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", "request_too_large", message)
}

fn too_slow() -> ApiError {
    let message = "the body did not arrive in time";
    ApiError::new(StatusCode::REQUEST_TIMEOUT, "invalid_request_error", "request_timeout", message)
}
