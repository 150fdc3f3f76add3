//! Calls in other dialects than OpenAI's: translated to it and back, as for any server that speaks OpenAI's.

use bytes::Bytes;
use cfr_core::chat::{Call, Envelope, Operation};
use cfr_core::upstream::{EventStream, Order, Reply, StreamEvent, StreamReply, UpstreamError, WholeReply};
use futures_util::{StreamExt, stream};
use http::HeaderMap;

use super::Fake;
use super::prompt::Prompt;
use crate::adapter::{Adapter, Framing};
use crate::framing::Relay;
use crate::framing::relay::Relayed;
use crate::openai::quirks::CUSTOM;
use crate::openai::{OpenAi, without_body};

/// Nothing is ever sent there.
pub(super) const NOWHERE: &str = "http://fake.invalid/v1";

pub(super) async fn send(fake: &Fake, order: Order<'_>) -> Result<Reply, UpstreamError> {
    let nowhere = |_| UpstreamError::Unreachable { message: NOWHERE.into() };
    let adapter = OpenAi::new(&CUSTOM, Some(NOWHERE)).map_err(nowhere)?;
    let request = adapter.encode(&order)?;
    let chat = chat(order.call, request.body)?;
    let reply = fake.answer(Order { call: &chat, ..order }).await.map_err(without_body)?;
    let dropped = request.dropped;
    match reply {
        Reply::Whole(WholeReply { body, upstream_id, .. }) => {
            let reply = adapter.decode(order.call, &HeaderMap::new(), body)?;
            Ok(Reply::Whole(WholeReply { upstream_id, dropped, ..reply }))
        }
        Reply::Stream(StreamReply { events, upstream_id, .. }) => {
            let relay = Relay::new(Framing::Sse, adapter.stream_decoder(order.call));
            Ok(Reply::Stream(StreamReply { events: relayed(events, relay), upstream_id, dropped }))
        }
        other => Ok(other),
    }
}

/// What the same call's prompt costs.
pub(super) fn count(order: &Order<'_>) -> Result<u64, UpstreamError> {
    let nowhere = |_| UpstreamError::Unreachable { message: NOWHERE.into() };
    let request = OpenAi::new(&CUSTOM, Some(NOWHERE)).map_err(nowhere)?.encode(order)?;
    let chat = chat(order.call, request.body)?;
    Ok(Prompt::read(&Order { call: &chat, ..*order })?.tokens)
}

/// The same call in OpenAI's words.
fn chat(call: &Call, body: Bytes) -> Result<Call, UpstreamError> {
    let operation = Operation::ChatCompletions;
    let envelope = Envelope::parse(operation, &body)
        .map_err(|error| UpstreamError::Unsupported { message: error.to_string().into() })?;
    Ok(Call { operation, envelope, body, ..call.clone() })
}

/// What a relay makes of the events.
pub(super) fn relayed(events: EventStream, relay: Relay) -> EventStream {
    stream::unfold(Some((events, relay)), |open| async move {
        let (mut events, mut relay) = open?;
        loop {
            let (relayed, over) = match events.next().await {
                Some(Ok(event)) => (relay.push(event.bytes), relay.is_done()),
                Some(Err(error)) => return Some((Err(without_body(error)), None)),
                None => (relay.finish(), true),
            };
            match relayed {
                Relayed { error: Some(error), .. } => return Some((Err(error), None)),
                Relayed { event, .. } if over => return Some((Ok(event), None)),
                Relayed { event, .. } if is_empty(&event) => {}
                Relayed { event, .. } => return Some((Ok(event), Some((events, relay)))),
            }
        }
    })
    .boxed()
}

fn is_empty(event: &StreamEvent) -> bool {
    event.bytes.is_empty() && event.report == cfr_core::upstream::Report::default()
}
