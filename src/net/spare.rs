//! Descriptors that are kept open to be closed when another is needed and none is left.
//!
//! Between closing one and taking what it frees, another thread with the same table might take it. Whoever runs short
//! therefore holds the lock of the process meanwhile; who has not noticed the shortage yet does not, so a spare one can
//! still be lost, rarely.

use std::fs::File;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Held while a spare descriptor is in use, and by accepts while descriptors are short.
static SHORTAGE: Mutex<()> = Mutex::new(());

/// A spare descriptor, given back to the system when dropped; `None` when none is left.
pub fn open() -> Option<File> {
    File::open("/dev/null").ok()
}

/// Keeps other threads that are short of descriptors from taking any, for as long as the result lives.
pub fn enter_shortage() -> MutexGuard<'static, ()> {
    // It guards no data: a panic elsewhere leaves nothing half done.
    SHORTAGE.lock().unwrap_or_else(PoisonError::into_inner)
}
