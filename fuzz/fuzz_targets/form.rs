//! See [`cfr_fuzz::form`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cfr_fuzz::form::check(data));
