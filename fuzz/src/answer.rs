//! Complete answers of every provider, for callers of every dialect: an answer, or a typed error.

use bytes::Bytes;
use cfr_core::chat::Call;
use cfr_core::upstream::{UpstreamError, WholeReply};
use cfr_providers::adapter::Adapter;
use http::{HeaderMap, StatusCode};

use crate::calls;
use crate::input::Input;
use crate::promises::{check_error, check_frames, check_json, check_report};
use crate::providers;

/// What an answer may come with.
pub const STATUSES: [u16; 8] = [200, 400, 401, 403, 404, 429, 500, 529];

/// Choices: provider, call, status. The body is the provider's.
///
/// # Panics
/// When a promise of `promises` is broken.
pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let at = usize::from(input.byte()) % providers::all().len();
    let call = &calls::all()[usize::from(input.byte()) % calls::all().len()];
    let (status, body) = (input.choose(&STATUSES), Bytes::copy_from_slice(input.body()));
    let (_, adapter) = &providers::all()[at];
    if !adapter.capabilities().serves(call.operation) {
        return;
    }
    let (status, headers) = (StatusCode::from_u16(status).expect("a status"), HeaderMap::new());
    if !status.is_success() {
        return check_error(&adapter.decode_error(call, status, &headers, &body));
    }
    check_whole(&**adapter, call, &headers, &body);
    check_as_stream(&**adapter, call, &headers, &body);
}

fn check_whole(adapter: &dyn Adapter, call: &Call, headers: &HeaderMap, body: &Bytes) {
    let reply = taken(adapter.decode(call, headers, body.clone()), body);
    if let Some(reply) = reply.filter(|reply| reply.body != body) {
        check_json(&reply.body); // what the provider wrote is handed on as it came
    }
}

fn check_as_stream(adapter: &dyn Adapter, call: &Call, headers: &HeaderMap, body: &Bytes) {
    if call.envelope.stream
        && let Some(reply) = taken(adapter.stream_of_whole(call, headers, body.clone()), body)
    {
        check_frames(&reply.body);
    }
}

fn taken(reply: Result<WholeReply, UpstreamError>, body: &Bytes) -> Option<WholeReply> {
    match reply {
        Ok(reply) => {
            check_report(&reply.report, body.len());
            Some(reply)
        }
        Err(error) => {
            check_error(&error);
            None
        }
    }
}
