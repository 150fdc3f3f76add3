//! What is promised of every answer, whoever gave it.

use cfr_core::upstream::{Report, UpstreamError};
use serde_json::value::RawValue;

/// Above this a provider's count is taken for none: no model reads or says so much.
const QUANTITY_MAX: u64 = 1_000_000_000;

/// What a report of an answer of `answer_bytes` can say.
///
/// # Panics
/// When it says more.
pub fn check_report(report: &Report, answer_bytes: usize) {
    for (meter, quantity) in report.usage.iter().flat_map(|usage| usage.used()) {
        assert!(quantity <= QUANTITY_MAX, "{} of {}", quantity, meter.name());
    }
    assert!(report.output_bytes <= answer_bytes as u64, "{} bytes of output in {answer_bytes}", report.output_bytes);
    if let Some(cost) = report.provider_cost {
        assert!(cost.0 >= 0, "a cost below zero");
    }
}

/// An error has words, and a next step.
///
/// # Panics
/// When it has none.
pub fn check_error(error: &UpstreamError) {
    assert!(!error.to_string().is_empty() && !error.name().is_empty());
    let _ = error.retry();
}

/// A body that we wrote is JSON.
///
/// # Panics
/// When it is not.
#[track_caller]
pub fn check_json(body: &[u8]) {
    if let Err(cause) = serde_json::from_slice::<&RawValue>(body) {
        panic!("{cause}: {}", String::from_utf8_lossy(body));
    }
}

/// A stream that we wrote is whole frames with one line of JSON each.
///
/// # Panics
/// When it is not.
#[track_caller]
pub fn check_frames(stream: &[u8]) {
    let ended = stream.is_empty() || stream.ends_with(b"\n\n") || stream.ends_with(b"\r\n\r\n");
    assert!(ended, "half a frame: {}", String::from_utf8_lossy(stream));
    for line in stream.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end).filter(|line| !line.is_empty()) {
        match line.strip_prefix(b"data: ") {
            Some(b"[DONE]") => {}
            Some(data) => check_json(data),
            None => assert!(line.starts_with(b"event: ") || line.starts_with(b":"), "a line that is no field"),
        }
    }
}
