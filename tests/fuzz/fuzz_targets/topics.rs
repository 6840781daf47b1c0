//! Feeds `ringmq_fuzz::topics` with what libFuzzer makes up.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringmq_fuzz::topics::run(data));
