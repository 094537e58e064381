//! The `tidegate` binary: maps outcomes to exit codes.
fn main() {}
