//! The server's side of a run: starting it, finding it, its accounts in `/proc`, and the built-in
//! bare server that shows what the kernel alone costs.

pub mod accounts;
pub mod bare;
pub mod counters;
mod find;
pub mod process;
pub mod processes;
