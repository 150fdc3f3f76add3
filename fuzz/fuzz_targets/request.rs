//! See [`cfr_fuzz::request`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cfr_fuzz::request::check(data));
