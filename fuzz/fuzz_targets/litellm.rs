//! See [`cfr_fuzz::litellm`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cfr_fuzz::litellm::check(data));
