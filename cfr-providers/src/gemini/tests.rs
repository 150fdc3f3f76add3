//! What the recordings and vectors of the suite do not say, over whole calls.

use std::time::Duration;

use cfr_core::cache::CacheUse;
use cfr_core::chat::{Envelope, Tags};
use cfr_core::id::RequestId;

use super::*;

/// A call of a client who speaks Google's dialect.
pub(super) fn call(model: &str, stream: bool, body: &str) -> Call {
    let body = Bytes::copy_from_slice(body.as_bytes());
    let operation = Operation::GenerateContent;
    let envelope = Envelope::parse_named(operation, model, stream, &body).expect("a body that can be read");
    let (tags, cache) = (Tags::default(), CacheUse::default());
    Call { id: RequestId::from_u128(1), operation, envelope, body, tags, cache, drop_params: false }
}

pub(super) fn order(call: &Call) -> Order<'_> {
    let (timeout, idle_timeout) = (Duration::ZERO, Duration::ZERO);
    Order { call, model: &call.envelope.model, output_tokens_max: None, timeout, idle_timeout }
}
