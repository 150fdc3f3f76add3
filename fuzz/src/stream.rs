//! Streamed answers of every provider, for callers of every dialect: however they are torn, they say the same, and nothing
//! after their end.

use bytes::{Bytes, BytesMut};
use cfr_core::chat::Call;
use cfr_core::upstream::{Report, UpstreamError};
use cfr_providers::adapter::{Adapter, Framing};
use cfr_providers::framing::Relay;

use crate::calls;
use crate::input::Input;
use crate::promises::{check_error, check_frames, check_report};
use crate::providers;

/// What a caller was handed.
#[derive(Debug, Default)]
struct Told {
    bytes: Bytes,
    report: Report,
    error: Option<UpstreamError>,
}

/// Choices: provider, call, the size of a piece. The body is the provider's stream.
///
/// # Panics
/// When a promise of `promises` is broken, or pieces make a difference.
pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let at = usize::from(input.byte()) % providers::all().len();
    let call = &calls::all()[usize::from(input.byte()) % calls::all().len()];
    let (piece_bytes, stream) = (usize::from(input.byte()).max(1), input.body());
    let (kind, adapter) = &providers::all()[at];
    if !adapter.capabilities().serves(call.operation) || !call.envelope.stream {
        return;
    }
    let whole = told(&**adapter, call, stream, usize::MAX);
    check_report(&whole.report, stream.len());
    whole.error.iter().for_each(check_error);
    if adapter.framing() != Framing::Sse {
        check_frames(&whole.bytes);
    }
    let torn = told(&**adapter, call, stream, piece_bytes);
    assert_eq!(torn.report, whole.report, "{} in pieces of {piece_bytes}", kind.name());
    let names = [&torn, &whole].map(|told| told.error.as_ref().map(UpstreamError::name));
    assert_eq!(names[0], names[1], "{} in pieces of {piece_bytes}", kind.name());
}

fn told(adapter: &dyn Adapter, call: &Call, stream: &[u8], piece_bytes: usize) -> Told {
    let mut relay = Relay::new(adapter.framing(), adapter.stream_decoder(call));
    let (mut told, mut bytes) = (Told::default(), BytesMut::new());
    for piece in stream.chunks(piece_bytes).map(Some).chain([None]) {
        if told.error.is_some() || relay.is_done() {
            break;
        }
        let relayed = match piece {
            Some(piece) => relay.push(Bytes::copy_from_slice(piece)),
            None => relay.finish(),
        };
        bytes.extend_from_slice(&relayed.event.bytes);
        told.report.absorb(relayed.event.report);
        told.error = relayed.error;
    }
    Told { bytes: bytes.freeze(), ..told }
}
