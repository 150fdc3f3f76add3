//! `idempotency-key`: a change that is asked for again, because nobody knows whether the first answer was lost, is made once.
//!
//! The caller's name for the request is claimed before the change and gets the answer after it. In between the process may
//! die. Whether the change was made then stands in the audit log, whose events are written in the transaction of the change
//! and name the request: a repetition does what was not done, and says so when it was. A caller who leaves stops nothing: the
//! change goes on in a task that the server waits for when it ends.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, ETAG, IF_MATCH, LOCATION};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use cfr_billing::audit_log::{Act, AuditFilter};
use cfr_billing::store::claims::{Claim, Claimed, KeptAnswer};
use cfr_billing::store::{PAGE_ROWS_MAX, PageRequest, Store};
use cfr_core::id::RequestId;
use cfr_core::time::Timestamp;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::desk::Shared;
use super::input::WORD_CHARS_MAX;
use super::problem::{PROBLEM_JSON, Problem};
use super::{BODY_BYTES_MAX, prices};
use crate::auth::access::Access;

/// The request header with the caller's name for the request.
pub(super) const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// In an answer that was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// How long answers are kept.
const KEPT_FOR: Duration = Duration::from_hours(24);
/// A request that runs longer belongs to a process that died.
const RUNNING_FOR: Duration = Duration::from_mins(5);
/// By how much the clocks of the store and of a server may differ.
const CLOCKS_DIFFER: Duration = Duration::from_mins(1);
/// A longer answer is not kept: its repetition is asked to look for itself.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// Headers that belong to an answer.
const KEPT_HEADERS: [HeaderName; 3] = [CONTENT_TYPE, ETAG, LOCATION];

/// An answer with something in it that is shown this once: who asks again gets `null` there.
#[derive(Debug)]
pub(crate) struct ShownOnce<T> {
    /// The answer.
    pub(crate) body: T,
    /// The fields that are not kept.
    pub(crate) secrets: &'static [&'static str],
}

/// What is kept in place of a body.
#[derive(Debug, Clone)]
struct Kept(Box<str>);

impl<T: Serialize> IntoResponse for ShownOnce<T> {
    fn into_response(self) -> Response {
        let mut response = (StatusCode::CREATED, axum::Json(&self.body)).into_response();
        let mut kept = serde_json::to_value(&self.body).unwrap_or_default();
        for secret in self.secrets {
            if let Some(value) = kept.get_mut(secret) {
                *value = Value::Null;
            }
        }
        response.extensions_mut().insert(Kept(kept.to_string().into()));
        response
    }
}

/// Makes every change that is asked for under a name once.
///
/// # Errors
/// 400 for a name that is none, 409 while the first request runs or when its answer is lost, 422 when something else was asked
/// under this name.
pub(super) async fn once(State(shared): State<Shared>, request: Request, next: Next) -> Result<Response, Problem> {
    let Some(key) = key_of(&request)? else { return Ok(next.run(request).await) };
    let (claim, request) = claim(key, request).await?;
    let store = Arc::clone(&shared.parts().store);
    if let Some(answer) = take(&*store, &claim).await? {
        return Ok(replay(answer));
    }
    let change = shared.parts().running.spawn(async move {
        let response = next.run(request).await;
        keep(&*store, &claim, response).await
    });
    change.await.map_err(Problem::internal)?
}

fn key_of(request: &Request) -> Result<Option<Arc<str>>, Problem> {
    let Some(value) = request.headers().get(IDEMPOTENCY_KEY) else { return Ok(None) };
    if request.method().is_safe() {
        return Ok(None);
    }
    let key = value.to_str().unwrap_or_default().trim();
    match (1..=WORD_CHARS_MAX).contains(&key.len()) {
        true => Ok(Some(key.into())),
        false => Err(Problem::bad_request("idempotency-key: 1 to 64 characters that no other request of yours has")),
    }
}

async fn claim(key: Arc<str>, request: Request) -> Result<(Claim, Request), Problem> {
    let known = |what| Problem::internal(format_args!("the request has no {what}"));
    let access = request.extensions().get::<Access>().ok_or_else(|| known("caller"))?;
    let subject = access.subject.to_string().into();
    let act = request.extensions().get::<Act>().ok_or_else(|| known("actor"))?;
    let (at, id) = (act.at, act.by.request.ok_or_else(|| known("id"))?);
    let (head, body) = request.into_parts();
    let whole = head.uri.path().starts_with(prices::TABLE_PATH);
    let limit = if whole { prices::TABLE_BYTES_MAX } else { BODY_BYTES_MAX };
    let body = to_bytes(body, limit).await.map_err(|_| Problem::too_large())?;
    let mut digest = Sha256::new();
    let target = head.uri.path_and_query().map_or("", |target| target.as_str());
    let if_match = head.headers.get(IF_MATCH).map_or(&[][..], HeaderValue::as_bytes);
    for part in [head.method.as_str().as_bytes(), target.as_bytes(), if_match, &body] {
        digest.update(part.len().to_be_bytes());
        digest.update(part);
    }
    let claim = Claim { subject, key, digest: digest.finalize().into(), request: id, at, until: at + KEPT_FOR };
    Ok((claim, Request::from_parts(head, Body::from(body))))
}

/// The answer that was given before; none when the change is to be made now.
async fn take(store: &dyn Store, claim: &Claim) -> Result<Option<KeptAnswer>, Problem> {
    match store.claim_request(claim, None).await? {
        Claimed::New => Ok(None),
        Claimed::Answered(answer) => Ok(Some(answer)),
        Claimed::Other => Err(another_request()),
        Claimed::Running { since, .. } if claim.at < since + RUNNING_FOR => {
            Err(Problem::conflict("the first request with this `idempotency-key` still runs: repeat this in a moment"))
        }
        Claimed::Running { request, since } => replace(store, claim, request, since).await,
    }
}

fn another_request() -> Problem {
    Problem::invalid_field(IDEMPOTENCY_KEY, "it was sent with another request: every request has a key of its own")
}

/// Takes the place of a request whose process died, unless it made its change.
async fn replace(
    store: &dyn Store,
    claim: &Claim,
    dead: RequestId,
    since: Timestamp,
) -> Result<Option<KeptAnswer>, Problem> {
    if was_made(store, dead, since).await? {
        return Err(Problem::answer_lost(dead));
    }
    match store.claim_request(claim, Some(dead)).await? {
        Claimed::New => Ok(None),
        Claimed::Answered(answer) => Ok(Some(answer)),
        Claimed::Other => Err(another_request()),
        Claimed::Running { .. } => Err(Problem::conflict("somebody else repeats this: repeat it in a moment")),
    }
}

/// Whether a request changed something: then an event tells of it.
async fn was_made(store: &dyn Store, request: RequestId, since: Timestamp) -> Result<bool, Problem> {
    let filter = AuditFilter { from: since.checked_sub(CLOCKS_DIFFER).ok(), ..AuditFilter::default() };
    let mut page = PageRequest { after: None, limit: PAGE_ROWS_MAX };
    loop {
        let events = store.audit_events(&filter, page).await?;
        if events.items.iter().any(|event| event.actor.request == Some(request)) {
            return Ok(true);
        }
        match events.next {
            Some(next) => page.after = Some(next),
            None => return Ok(false),
        }
    }
}

/// Keeps the answer of a change that was made. What changed nothing may be asked again under the same name.
async fn keep(store: &dyn Store, claim: &Claim, response: Response) -> Result<Response, Problem> {
    if !response.status().is_success() && !was_made(store, claim.request, claim.at).await? {
        store.forget_request(claim).await?;
        return Ok(response);
    }
    let (head, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.map_err(Problem::internal)?;
    let kept = head.extensions.get::<Kept>().map(|kept| kept.0.clone()).or_else(|| text(&body));
    let answer = match kept.filter(|_| head.status.is_success()) {
        Some(body) => {
            let header =
                |name: &HeaderName| Some((name.as_str().into(), head.headers.get(name)?.to_str().ok()?.into()));
            KeptAnswer { status: head.status.as_u16(), headers: KEPT_HEADERS.iter().filter_map(header).collect(), body }
        }
        None => lost(claim.request),
    };
    store.answer_request(claim, &answer).await?;
    Ok(Response::from_parts(head, Body::from(body)))
}

fn text(body: &Bytes) -> Option<Box<str>> {
    (body.len() <= ANSWER_BYTES_MAX).then(|| std::str::from_utf8(body).ok().map(Box::from)).flatten()
}

/// The change was made, and what was answered is not kept.
fn lost(request: RequestId) -> KeptAnswer {
    let problem = Problem::answer_lost(request);
    let headers = vec![(CONTENT_TYPE.as_str().into(), PROBLEM_JSON.into())];
    KeptAnswer { status: problem.status, headers, body: serde_json::to_string(&problem).unwrap_or_default().into() }
}

fn replay(answer: KeptAnswer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, answer.body.into_string()).into_response();
    let headers = response.headers_mut();
    for (name, value) in answer.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(&*name), HeaderValue::try_from(&*value)) {
            headers.insert(name, value);
        }
    }
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    response
}
