//! Hands libFuzzer's bytes to `fuzz/src/publish_json.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::publish_json::run(data));
