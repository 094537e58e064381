//! Hands every input that fuzzing has kept to the targets of `fuzz/src/lib.rs`, so that what was once found is tried by everybody who
//! runs the tests, without a fuzzer.

#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::fs;
use std::path::{Path, PathBuf};

/// Bytes of the inputs of one target, all together.
const CORPUS_BYTES_MAX: usize = 100 * 1024;

/// The inputs of `target`, in the order of their names.
fn inputs(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(&path).expect("a readable file"))).collect()
}

#[test]
fn every_kept_input_passes_its_target() {
    for (target, run) in targets::TARGETS {
        let inputs = inputs(target);
        assert!(!inputs.is_empty(), "{target} has no inputs");
        for (path, bytes) in inputs {
            let outcome = std::panic::catch_unwind(|| run(&bytes));
            assert!(outcome.is_ok(), "{target} fails on {}", path.display());
        }
    }
}

#[test]
fn corpora_stay_small() {
    for (target, _) in targets::TARGETS {
        let bytes: usize = inputs(target).iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(
            bytes <= CORPUS_BYTES_MAX,
            "{target}: {bytes} bytes, at most {CORPUS_BYTES_MAX}: see CONTRIBUTING.md"
        );
    }
}
