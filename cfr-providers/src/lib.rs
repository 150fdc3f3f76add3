//! The wires of the CloudFreedom Router: bytes in, meaning out.
//!
//! # Anatomy of a call
//!
//! ```text
//! Order ─ adapter.encode ─ signer.sign ─ transport.send ─┬─ adapter.decode        ─ Reply::Whole
//!                                                        ├─ framing ─ decoder     ─ Reply::Stream
//!                                                        └─ adapter.decode_error  ─ UpstreamError
//! ```
//!
//! An adapter is a wire format and nothing else: it sees no socket, no clock and no price. A server that speaks
//! OpenAI's dialect is a row in [`openai::quirks`]. Whoever brings another transport implements
//! [`transport::Transport`]; whoever brings another provider implements [`cfr_core::upstream::Upstream`] and runs the
//! suite in `conformance` on it.
//!
//! | feature | adds |
//! |---|---|
//! | `reqwest` (default) | the bundled transport, and the client that fetches pictures by their addresses |
//! | `conformance` | the public test suite for upstreams; not under semver |

pub mod adapter;
pub mod anthropic;
pub mod bedrock;
pub mod cohere;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod dialog;
pub mod embeddings;
pub mod fake;
pub mod framing;
pub mod gemini;
mod json;
pub mod media;
mod no_stream;
pub mod ollama;
pub mod openai;
pub mod patience;
pub mod realtime;
pub mod registry;
pub mod rerank;
pub mod responses;
pub mod sign;
#[cfg(test)]
mod testing;
pub mod transport;
pub mod upstream;
mod wav;

pub use fake::Fake;
pub use openai::Quirks;
pub use upstream::{BuildError, HttpUpstream};
