title="tokio-tungstenite"
port=8160
load=(--url "ws://127.0.0.1:8160/bench" --publish ws)
checks=(relay "ws://127.0.0.1:8160/bench")

installed() { rust_peers_installed; }
install() { rust_peers_install; }
version() { printf '%s, %s\n' "$(rust_peers_version tokio-tungstenite)" "$(rust_peers_version tokio)"; }
serve() { exec $peers_built/rust/release/tokio-tungstenite "$1"; }
