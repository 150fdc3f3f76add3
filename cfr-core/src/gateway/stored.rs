//! What a provider keeps for a caller, under an id of its own. All callers share the operator's account there, so that the
//! provider cannot tell whose it is: the id that leaves here says it, and is good for its owner alone.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;

use super::open_call::OpenCall;
use super::{Caller, Gateway, GatewayError, Inner};
use crate::chat::envelope::{Edit, Reference, splice};
use crate::chat::{Call, EnvelopeError};
use crate::ledger::CallerIds;
use crate::limit::RateState;
use crate::route::Plan;
use crate::upstream::{StoredAction, StoredOrder, Upstream, UpstreamError};

/// A shorter id could be any word of an answer. Those in use have thirty letters and more.
const ID_BYTES_MIN: usize = 6;
/// How long to wait for what a provider keeps.
const STORED_TIMEOUT: Duration = Duration::from_secs(60);

/// Makes ids for callers of the ids of providers.
pub trait IdSeal: Debug + Send + Sync + 'static {
    /// The id that the owner gets: always the same for the same one.
    fn seal(&self, owner: &CallerIds, upstream: &str, id: &str) -> Box<str>;

    /// The provider's id, when this is what the owner got for it and this upstream.
    fn open<'a>(&self, owner: &CallerIds, upstream: &str, sealed: &'a str) -> Option<&'a str>;
}

const _: fn(&dyn IdSeal) = |_| {};

/// A request about something that a provider keeps.
#[derive(Debug, Clone)]
pub struct StoredRequest {
    /// The id that the caller got for it.
    pub id: Box<str>,
    /// What is to be done.
    pub action: StoredAction,
    /// What stands behind the question mark, as it came.
    pub query: Option<Box<str>>,
}

/// What a provider says about it.
#[derive(Debug)]
pub struct Stored {
    /// The media type of `body`.
    pub content_type: HeaderValue,
    /// The provider's answer, but for ids.
    pub body: Bytes,
    /// Where the caller stands with its rate limit.
    pub rate: Option<RateState>,
}

impl Gateway {
    /// Asks for something that a provider keeps for this caller. It costs nothing.
    ///
    /// # Errors
    /// [`GatewayError::NotStored`] for whatever is not the caller's, whether it exists or not.
    ///
    /// # Cancel safety
    /// Dropping the future aborts the request; whether the provider did what was asked is then not known.
    pub async fn stored(&self, caller: &Caller, request: StoredRequest) -> Result<Stored, GatewayError> {
        let gateway = &self.inner;
        let permit = gateway.limits.admit(caller).await?;
        let not_stored = || GatewayError::NotStored { field: None, id: request.id.clone() };
        let (name, upstream, id) = gateway.owner_of(caller, &request.id).ok_or_else(not_stored)?;
        let timeout = gateway.config.header_timeout.min(STORED_TIMEOUT);
        let order = StoredOrder { id, action: request.action, query: request.query.as_deref(), timeout };
        let reply = upstream.stored(order).await.map_err(|error| match error {
            UpstreamError::Rejected { status: http::StatusCode::NOT_FOUND, .. } => not_stored(),
            error => GatewayError::Upstream { error: Box::new(error), attempts: Vec::new() },
        })?;
        let body = reply.ids.iter().fold(reply.body, |body, id| gateway.seal_in(caller, &name, &body, id));
        Ok(Stored { content_type: reply.content_type, body, rate: permit.rate })
    }
}

impl Inner {
    /// The call with the provider's own id of the earlier response that it refers to, and the upstream that keeps it,
    /// which alone can answer.
    pub(super) fn unseal(&self, caller: &Caller, mut call: Call) -> Result<(Call, Option<Keeper>), GatewayError> {
        if self.seal.is_none() {
            return Ok((call, None));
        }
        let Some(Reference { field, id, span }) = call.envelope.refers_to.as_deref().cloned() else {
            return Ok((call, None));
        };
        let no_id = || EnvelopeError::Field { param: field, reason: "must be an id, as a text".into() };
        let id = id.ok_or_else(no_id)?;
        let Some((upstream, _, own)) = self.owner_of(caller, &id) else {
            return Err(GatewayError::NotStored { field: Some(field), id });
        };
        let keeper = Keeper { field, upstream, own: own.into(), sealed: id.clone() };
        let json = serde_json::Value::from(own).to_string().into_bytes();
        let body = splice(&call.body, &[Edit::Replace { span, json: json.into() }]);
        call.rewrite(body)?;
        Ok((call, Some(keeper)))
    }

    fn owner_of<'a>(&self, caller: &Caller, sealed: &'a str) -> Option<(Arc<str>, Arc<dyn Upstream>, &'a str)> {
        let (seal, upstreams) = (self.seal.as_ref()?, self.upstreams.load());
        let owns = |name: &Arc<str>| seal.open(&caller.ids, name, sealed);
        let (name, upstream, id) = upstreams.iter().find_map(|(name, one)| Some((name, one, owns(name)?)))?;
        Some((Arc::clone(name), Arc::clone(upstream), id))
    }

    /// The body with the caller's id wherever the provider's stands as a text of its own.
    fn seal_in(&self, caller: &Caller, upstream: &str, body: &Bytes, id: &str) -> Bytes {
        match &self.seal {
            Some(seal) if is_id(id) => replaced(body, id, || seal.seal(&caller.ids, upstream, id)),
            _ => body.clone(),
        }
    }
}

impl OpenCall {
    /// Bytes of the answer with the caller's own ids in place of the provider's.
    pub(super) fn sealed(&self, bytes: Bytes) -> Bytes {
        let bytes = match &self.keeper {
            Some(keeper) => replaced(&bytes, &keeper.own, || keeper.sealed.clone()),
            None => bytes,
        };
        let (Some(id), Some(seal)) = (&self.report.kept_as, &self.gateway.seal) else { return bytes };
        let own = || match self.asked() {
            Some(target) => seal.seal(&self.caller().ids, &target.upstream, id),
            None => id.clone(),
        };
        if is_id(id) { replaced(&bytes, id, own) } else { bytes }
    }
}

fn is_id(text: &str) -> bool {
    text.len() >= ID_BYTES_MIN
}

/// Where an earlier response is kept, and what it is called there and here.
#[derive(Debug)]
pub(super) struct Keeper {
    field: &'static str,
    pub(super) upstream: Arc<str>,
    pub(super) own: Box<str>,
    pub(super) sealed: Box<str>,
}

impl Keeper {
    /// What is kept at one provider means nothing to another.
    pub(super) fn must_serve(&self, model: &str, plan: &Plan) -> Result<(), GatewayError> {
        if !plan.is_empty() {
            return Ok(());
        }
        let reason = format!("is of an answer that no provider of the model `{model}` keeps").into();
        Err(EnvelopeError::Field { param: self.field, reason }.into())
    }
}

/// The JSON with every text that is `from` replaced by `to`; neither needs escaping. What only quotes such a text stays,
/// for its quotes are escaped.
pub(super) fn replaced(json: &Bytes, from: &str, to: impl FnOnce() -> Box<str>) -> Bytes {
    let is_whole = |at: &usize| {
        let before = at.checked_sub(1).and_then(|before| json.get(before));
        before == Some(&b'"') && json.get(at + from.len()) == Some(&b'"')
    };
    let mut places = memchr::memmem::find_iter(json, from).filter(is_whole).peekable();
    if places.peek().is_none() {
        return json.clone();
    }
    let (to, mut out, mut copied) = (to(), Vec::with_capacity(json.len() + from.len()), 0);
    for at in places {
        out.extend_from_slice(json.get(copied..at).unwrap_or_default());
        out.extend_from_slice(to.as_bytes());
        copied = at + from.len();
    }
    out.extend_from_slice(json.get(copied..).unwrap_or_default());
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_texts_are_replaced_and_other_bytes_stay() {
        let json = Bytes::from_static(br#"{"id":"resp_1", "a":["resp_1"],"text":"\"resp_1\" resp_1","b":"resp_12"}"#);
        let expected = r#"{"id":"resp_1x", "a":["resp_1x"],"text":"\"resp_1\" resp_1","b":"resp_12"}"#;
        assert_eq!(replaced(&json, "resp_1", || "resp_1x".into()), expected);
        assert_eq!(replaced(&json, "resp_9", || "x".into()).as_ptr(), json.as_ptr(), "not copied");
    }
}
