//! Hands libFuzzer's bytes to `fuzz/src/request_head.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::request_head::run(data));
