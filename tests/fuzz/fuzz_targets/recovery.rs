//! Feeds `ringmq_fuzz::recovery` with what libFuzzer makes up.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringmq_fuzz::recovery::run(data));
