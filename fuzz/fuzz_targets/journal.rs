//! Hands libFuzzer's bytes to `fuzz/src/journal.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::journal::run(data));
