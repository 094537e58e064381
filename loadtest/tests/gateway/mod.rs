//! The gateway as the server of a run, where it has been built.

use std::net::TcpListener;
use std::path::PathBuf;

/// The gateway, if it has been built beside this tool.
pub fn program() -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_BIN_EXE_tidegate-loadtest")).with_file_name("tidegate");
    if !path.exists() {
        eprintln!("skipped: there is no {}", path.display());
    }
    path.exists().then_some(path)
}

/// Ports on loopback that nobody listened on a moment ago, no two of them the same.
pub fn free_ports<const COUNT: usize>() -> [u16; COUNT] {
    let listeners = [(); COUNT].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("bound").port())
}
