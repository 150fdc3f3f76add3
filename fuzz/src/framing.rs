//! Where frames begin and end: however the network tears a stream, its events are the same.

use bytes::Bytes;
use cfr_providers::framing::Cut;
use cfr_providers::framing::aws_event_stream::AwsEventStream;
use cfr_providers::framing::json_lines::JsonLines;
use cfr_providers::framing::sse::{Blocks, frames};

use crate::input::Input;

/// Name and payload of each event, and whether the stream tore.
type Events = (Vec<(Vec<u8>, Vec<u8>)>, bool);

/// Choices: the framing, the size of a piece.
pub const FRAMINGS: [&str; 3] = ["sse", "json lines", "aws event stream"];

/// See the module.
///
/// # Panics
/// When the pieces make a difference, or server-sent events do not leave as they came.
pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let (framing, piece_bytes) = (input.choose(&FRAMINGS), usize::from(input.byte()).max(1));
    let stream = input.body();
    let read = match framing {
        "sse" => server_sent_events,
        "json lines" => |stream: &[u8], piece_bytes| events_of(JsonLines::default(), stream, piece_bytes),
        _ => |stream: &[u8], piece_bytes| events_of(AwsEventStream::default(), stream, piece_bytes),
    };
    assert_eq!(read(stream, piece_bytes), read(stream, usize::MAX), "{framing} in pieces of {piece_bytes}");
}

fn server_sent_events(stream: &[u8], piece_bytes: usize) -> Events {
    let (mut blocks, mut events, mut passed_on) = (Blocks::default(), Vec::new(), Vec::new());
    let mut take = |block: Bytes| {
        passed_on.extend_from_slice(&block);
        let found = frames(&block).filter_map(|frame| frame.event);
        events.extend(found.map(|event| (event.name.into_owned(), event.data.into_owned())));
    };
    for piece in stream.chunks(piece_bytes) {
        take(blocks.push(Bytes::copy_from_slice(piece)).expect("a small stream"));
    }
    take(blocks.finish());
    assert_eq!(passed_on, stream);
    (events, false)
}

fn events_of(mut cut: impl Cut, stream: &[u8], piece_bytes: usize) -> Events {
    let mut events = Vec::new();
    let torn = stream.chunks(piece_bytes).any(|piece| cut.push(piece, &mut events).is_err());
    let torn = torn || cut.finish(&mut events).is_err();
    (events.into_iter().map(|event| (event.name.into_owned(), event.data.into_owned())).collect(), torn)
}
