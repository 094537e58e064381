//! Hands libFuzzer's bytes to `fuzz/src/frame_session.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::frame_session::run(data));
