//! See [`cfr_fuzz::framing`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cfr_fuzz::framing::check(data));
