//! Hands libFuzzer's bytes to `fuzz/src/commands.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::commands::run(data));
