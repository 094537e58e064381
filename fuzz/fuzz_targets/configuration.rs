//! Hands libFuzzer's bytes to `fuzz/src/configuration.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::configuration::run(data));
