//! Feeds `ringmq_fuzz::round_trip` with what libFuzzer makes up.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringmq_fuzz::round_trip::run(data));
