//! Responses that a server keeps: shown, forgotten, stopped, and asked what they answer (providers.md §3).

use std::sync::Arc;

use bytes::Bytes;
use cfr_core::upstream::{StoredAction, StoredOrder, StoredReply, UpstreamError};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::Deserialize;

use super::error;
use super::host::Host;
use super::wire::Word;
use crate::adapter::KeepsResponses;
use crate::transport::{WireRequest, path_segment};

const JSON: HeaderValue = HeaderValue::from_static("application/json");

impl KeepsResponses for Host {
    fn request(&self, order: &StoredOrder<'_>) -> Result<WireRequest, UpstreamError> {
        let (method, below) = match order.action {
            StoredAction::Show => (Method::GET, ""),
            StoredAction::Delete => (Method::DELETE, ""),
            StoredAction::Cancel => (Method::POST, "/cancel"),
            StoredAction::InputItems => (Method::GET, "/input_items"),
            _ => return Err(UpstreamError::Unsupported { message: "this on a stored response".into() }),
        };
        let query = order.query.map(|query| format!("?{query}")).unwrap_or_default();
        let path = format!("/{}{below}{query}", path_segment(order.id));
        let unusable = |_| UpstreamError::Unsupported { message: format!("the id `{}`", order.id).into() };
        let endpoint = self.responses()?.join(&path).map_err(unusable)?;
        Ok(self.request_to(Arc::new(endpoint.with_method(method)), Bytes::new()))
    }

    fn reply(&self, headers: &HeaderMap, body: Bytes) -> StoredReply {
        #[derive(Default, Deserialize)]
        struct Ids<'a> {
            #[serde(borrow, default)]
            id: Word<'a>,
            #[serde(borrow, default)]
            previous_response_id: Word<'a>,
        }
        let Ids { id, previous_response_id } = serde_json::from_slice(&body).unwrap_or_default();
        let ids = [id, previous_response_id].into_iter().filter_map(|id| id.boxed()).collect();
        StoredReply { content_type: headers.get(header::CONTENT_TYPE).cloned().unwrap_or(JSON), body, ids }
    }

    fn error(&self, status: StatusCode, headers: &HeaderMap, body: &Bytes) -> UpstreamError {
        error::read(status, headers, body)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::openai::quirks::OPENAI;

    fn host() -> Host {
        Host::new(&OPENAI, None).unwrap()
    }

    #[test]
    fn each_action_has_its_method_and_place() {
        for (action, id, query, expected) in [
            (StoredAction::Show, "resp_1", Some("include%5B%5D=a"), "GET /v1/responses/resp_1?include%5B%5D=a"),
            (StoredAction::Delete, "resp_1", None, "DELETE /v1/responses/resp_1"),
            (StoredAction::Cancel, "resp_1", None, "POST /v1/responses/resp_1/cancel"),
            (StoredAction::InputItems, "a/../b", Some("limit=2"), "GET /v1/responses/a%2F..%2Fb/input_items?limit=2"),
        ] {
            let order = StoredOrder { id, action, query, timeout: Duration::ZERO };
            let request = KeepsResponses::request(&host(), &order).unwrap();
            let uri = request.endpoint.uri();
            assert_eq!(format!("{} {}", request.endpoint.method(), uri.path_and_query().unwrap()), expected);
            assert!(request.body.is_empty());
        }
        let order = StoredOrder { id: "..", action: StoredAction::Show, query: None, timeout: Duration::ZERO };
        KeepsResponses::request(&host(), &order).unwrap_err();
    }

    #[test]
    fn ids_of_responses_are_told() {
        let ids = |body: &'static str| host().reply(&HeaderMap::new(), body.into()).ids;
        let kept = r#"{"id":"resp_1","previous_response_id":"resp_0","output":[{"id":"msg_1"}]}"#;
        assert_eq!(ids(kept), ["resp_1".into(), "resp_0".into()]);
        assert_eq!(ids(r#"{"id":"resp_1","previous_response_id":null}"#), ["resp_1".into()]);
        assert_eq!(ids(r#"{"object":"list","first_id":"msg_1"}"#), []);
        assert_eq!(ids("no JSON"), []);
    }
}
