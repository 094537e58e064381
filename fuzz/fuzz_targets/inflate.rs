//! Hands libFuzzer's bytes to `fuzz/src/inflate.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::inflate::run(data));
