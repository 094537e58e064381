//! Hands libFuzzer's bytes to `fuzz/src/offers.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::offers::run(data));
