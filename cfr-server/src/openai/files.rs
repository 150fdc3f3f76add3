//! `/v1/files`: what callers keep at providers, under ids of ours.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use cfr_billing::batch::{FilePurpose, KeptFile, Owner};
use cfr_billing::store::{Cursor, Page, PageRequest};
use cfr_core::gateway::Caller;
use cfr_core::id::FileId;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, StatusCode};
use http_body_util::BodyDataStream;
use multer::Multipart;
use serde::{Deserialize, Serialize};

use crate::auth::Asker;
use crate::batches::BatchError;
use crate::error::ApiError;
use crate::serve;
use crate::state::App;

/// A client that takes longer to send a file is cut off.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(1_800);
/// Rows on a page when the caller does not say.
const PAGE_ROWS: u32 = 100;
const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// One file as OpenAI's SDKs read it.
#[derive(Debug, Serialize)]
pub struct FileObject {
    id: FileId,
    object: &'static str,
    bytes: u64,
    created_at: i64,
    filename: Arc<str>,
    purpose: &'static str,
    status: &'static str,
}

impl From<KeptFile> for FileObject {
    fn from(file: KeptFile) -> Self {
        Self {
            id: file.id,
            object: "file",
            bytes: file.bytes.unwrap_or(0),
            created_at: file.created_at.as_second(),
            filename: file.name,
            purpose: file.purpose.name(),
            status: "processed",
        }
    }
}

/// A page of a list as OpenAI's SDKs read it.
#[derive(Debug, Serialize)]
pub struct ObjectPage<T> {
    object: &'static str,
    data: Vec<T>,
    first_id: Option<String>,
    last_id: Option<String>,
    has_more: bool,
}

impl<T> ObjectPage<T> {
    /// The page with its rows as they are shown.
    pub(super) fn of<R>(page: Page<R>, id: fn(&R) -> String, show: impl Fn(R) -> T) -> Self {
        let (first_id, last_id) = (page.items.first().map(id), page.items.last().map(id));
        let data = page.items.into_iter().map(show).collect();
        Self { object: "list", data, first_id, last_id, has_more: page.next.is_some() }
    }
}

/// Which page of a list is wanted.
#[derive(Debug, Deserialize)]
pub struct PageQuery {
    after: Option<String>,
    limit: Option<u32>,
    purpose: Option<String>,
    order: Option<String>,
}

impl PageQuery {
    pub(super) fn page<I: std::str::FromStr>(&self, value: fn(I) -> u128) -> Result<PageRequest, ApiError> {
        let wrong =
            |param: &'static str, message: &'static str| ApiError::bad_request("invalid_value", message).param(param);
        if self.order.as_deref().is_some_and(|order| order != "desc") {
            return Err(wrong("order", "order: lists are shown newest first"));
        }
        let after = self.after.as_deref().map(|after| after.parse().map(|id| Cursor(value(id))));
        let after = after.transpose().map_err(|_| wrong("after", "after: not an id of this list"))?;
        Ok(PageRequest { after, limit: self.limit.unwrap_or(PAGE_ROWS).clamp(1, cfr_billing::store::PAGE_ROWS_MAX) })
    }

    fn purpose(&self) -> Result<Option<FilePurpose>, ApiError> {
        let known =
            |word: &str| [FilePurpose::Batch, FilePurpose::BatchOutput].into_iter().find(|known| known.name() == word);
        let Some(word) = self.purpose.as_deref() else { return Ok(None) };
        let wrong = || ApiError::bad_request("invalid_value", "purpose: `batch` or `batch_output`").param("purpose");
        known(word).map(Some).ok_or_else(wrong)
    }
}

/// `POST /v1/files`.
///
/// # Errors
/// When the file is none of requests that the caller could make, or the provider does not keep it.
pub async fn create_file(State(app): State<Arc<App>>, request: Request<Body>) -> Result<Json<FileObject>, ApiError> {
    let caller = caller(&app, request.headers(), serve::address(request.extensions())).await?;
    let kind = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let boundary = multer::parse_boundary(kind)
        .map_err(|error| ApiError::bad_request("invalid_form", format!("the form cannot be read: {error}")))?;
    let form = Multipart::new(BodyDataStream::new(request.into_body()), boundary);
    let kept = tokio::time::timeout(UPLOAD_TIMEOUT, app.batches.upload(&caller, form)).await;
    let kept = kept.map_err(|_| {
        let message = "the file did not arrive in time";
        ApiError::new(StatusCode::REQUEST_TIMEOUT, "invalid_request_error", "request_timeout", message)
    })?;
    Ok(Json(kept.map_err(|error| error.api(&app.settings))?.into()))
}

/// `GET /v1/files`.
///
/// # Errors
/// When the key is not let in, or the page is none.
pub async fn list_files(
    State(app): State<Arc<App>>,
    Query(query): Query<PageQuery>,
    asker: Asker,
) -> Result<Json<ObjectPage<FileObject>>, ApiError> {
    let caller = caller(&app, &asker.headers, asker.address).await?;
    let (page, purpose) = (query.page(FileId::as_u128)?, query.purpose()?);
    let files = app.batches.store().files(Owner::of(&caller.ids), purpose, page).await;
    let files = files.map_err(|error| BatchError::from(error).api(&app.settings))?;
    Ok(Json(ObjectPage::of(files, |file| file.id.to_string(), FileObject::from)))
}

/// `GET /v1/files/{id}`.
///
/// # Errors
/// 404 for a file that the caller does not have.
pub async fn show_file(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    asker: Asker,
) -> Result<Json<FileObject>, ApiError> {
    let caller = caller(&app, &asker.headers, asker.address).await?;
    let file = app.batches.store().file(Owner::of(&caller.ids), file_id(&id)?).await;
    Ok(Json(file.map_err(|error| BatchError::from(error).api(&app.settings))?.into()))
}

/// `GET /v1/files/{id}/content`.
///
/// # Errors
/// 404 for a file that the caller does not have; what the provider says.
pub async fn file_content(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    asker: Asker,
) -> Result<Response, ApiError> {
    let caller = caller(&app, &asker.headers, asker.address).await?;
    let content = app.batches.content(&caller, file_id(&id)?).await.map_err(|error| error.api(&app.settings))?;
    Ok(([(CONTENT_TYPE, BYTES)], Body::from_stream(content)).into_response())
}

/// A file that is gone.
#[derive(Debug, Serialize)]
pub struct DeletedFile {
    id: FileId,
    object: &'static str,
    deleted: bool,
}

/// `DELETE /v1/files/{id}`.
///
/// # Errors
/// As [`file_content`].
pub async fn delete_file(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    asker: Asker,
) -> Result<Json<DeletedFile>, ApiError> {
    let caller = caller(&app, &asker.headers, asker.address).await?;
    let id = file_id(&id)?;
    app.batches.forget_file(&caller, id).await.map_err(|error| error.api(&app.settings))?;
    Ok(Json(DeletedFile { id, object: "file", deleted: true }))
}

pub(super) async fn caller(app: &App, headers: &HeaderMap, address: Option<IpAddr>) -> Result<Arc<Caller>, ApiError> {
    Ok(app.callers.caller(headers, address).await?.0)
}

fn file_id(id: &str) -> Result<FileId, ApiError> {
    id.parse().map_err(|_| ApiError::not_found("file_not_found", "there is no such file"))
}
