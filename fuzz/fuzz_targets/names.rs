//! Hands libFuzzer's bytes to `fuzz/src/names.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::names::run(data));
