//! See [`cfr_fuzz::stream`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cfr_fuzz::stream::check(data));
