//! What must hold for any bytes at all: properties of the readers that strangers reach, for libFuzzer to break.
//!
//! Each module is one target of `fuzz_targets/`. Its `check` takes an input apart ([`input`]), runs the code as the
//! gateway does, and panics where a promise is broken. `scripts/fuzz` builds, seeds and runs them; what they find becomes
//! a test beside the code that was mended.

pub mod answer;
pub mod calls;
pub mod envelope;
pub mod form;
pub mod framing;
pub mod input;
pub mod litellm;
pub mod prices;
pub mod promises;
pub mod providers;
pub mod request;
pub mod seeds;
pub mod stream;
