//! See [`cfr_fuzz::prices`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cfr_fuzz::prices::check(data));
