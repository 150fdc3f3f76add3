//! The stream of what does not stream.

use bytes::Bytes;
use cfr_core::upstream::{Report, UpstreamError};

use crate::adapter::{Forward, StreamDecoder, WireEvent};

/// Refuses every event, under the name of what cannot come as a stream.
pub(crate) struct NoStream(pub(crate) &'static str);

impl NoStream {
    fn error(&self) -> UpstreamError {
        UpstreamError::Malformed { message: format!("a stream of {}", self.0).into() }
    }
}

impl StreamDecoder for NoStream {
    fn feed(&mut self, _: &WireEvent<'_>, _: &mut Report) -> Result<Forward, UpstreamError> {
        Err(self.error())
    }

    fn is_done(&self) -> bool {
        false
    }

    fn finish(&mut self, _: &mut Report) -> Result<Bytes, UpstreamError> {
        Err(self.error())
    }
}
