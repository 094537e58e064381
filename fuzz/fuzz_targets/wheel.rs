//! Hands libFuzzer's bytes to `fuzz/src/wheel.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::wheel::run(data));
