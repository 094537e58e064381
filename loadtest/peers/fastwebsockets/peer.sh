title="fastwebsockets"
port=8170
load=(--url "ws://127.0.0.1:8170/bench" --publish ws)
checks=(relay "ws://127.0.0.1:8170/bench")

installed() { rust_peers_installed; }
install() { rust_peers_install; }
version() { printf '%s, %s\n' "$(rust_peers_version fastwebsockets)" "$(rust_peers_version tokio)"; }
serve() { exec $peers_built/rust/release/fastwebsockets "$1"; }
