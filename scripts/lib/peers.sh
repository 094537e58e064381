# Shared by scripts/compare, scripts/install-peers and loadtest/peers/serve: what a peer is. Run from the checkout's root.
#
# A peer is a folder loadtest/peers/NAME with a README.md (settings, and why they are its best) and a peer.sh that sets
#   title      how the table names it
#   port       where it listens, within 8100 to 8199
#   load       options of tidegate-loadtest that reach it: URL, protocol, who publishes; empty: the built-in bare server
#   checks     what loadtest/peers/check.py is told: a protocol and URLs; empty: nothing to check
# and defines
#   installed  true if it can be started
#   install    installs what is missing; says why it cannot
#   version    prints one line
#   serve      replaces this process by the server: `serve PORT`

peers=loadtest/peers
# Where peers are built and their configuration is filled in.
peers_built=target/peers

# All of them, the gateway first and the limit last.
peer_names() { printf '%s\n' tidegate node-ws nchan nats mosquitto python-websockets tokio-tungstenite fastwebsockets limit | tr '\n' ' '; }

# load_peer NAME: its settings and functions become ours.
load_peer() {
  load=() checks=()
  . "$peers/$1/peer.sh"
}

# filled TEMPLATE NAME [KEY VALUE]...: fills in each @KEY@, prints the path of what came out.
filled() {
  local template=$1 out=$peers_built/$2
  shift 2
  local expressions=()
  while [ $# -ge 2 ]; do expressions+=(-e "s|@$1@|$2|g"); shift 2; done
  mkdir -p "$(dirname "$out")" && sed "${expressions[@]}" "$template" >"$out" && printf '%s/%s\n' "$PWD" "$out"
}

debian_version() { dpkg-query -W -f '${Version}' "$1" 2>/dev/null; }

# stamped FOLDER FILE...: true if FOLDER was installed from exactly these files; `stamp` says that it was.
stamp_of() { cat "$@" | sha256sum | cut -d' ' -f1; }
stamped() { local folder=$1; shift; [ -f "$folder/.installed-from" ] && [ "$(cat "$folder/.installed-from")" = "$(stamp_of "$@")" ]; }
stamp() { local folder=$1; shift; stamp_of "$@" >"$folder/.installed-from"; }

# Both Rust peers are programs of one cargo project.
rust_peers_sources() { find $peers/rust -name target -prune -o -type f -print | LC_ALL=C sort; }
rust_peers_installed() { stamped $peers_built/rust $(rust_peers_sources); }
rust_peers_install() {
  scripts/install-build-tools || return 1
  say "building the programs of $peers/rust"
  cargo build --release --quiet --locked --manifest-path $peers/rust/Cargo.toml --target-dir $peers_built/rust || return 1
  stamp $peers_built/rust $(rust_peers_sources)
}
rust_peers_version() { sed -n "/^name = \"$1\"\$/{n;s/version = \"\(.*\)\"/$1 \1/p}" $peers/rust/Cargo.lock; }
