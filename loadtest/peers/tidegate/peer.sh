title="tidegate"
port=8100
load=(--url "ws://127.0.0.1:8100/ws/bench" --admin "http://127.0.0.1:8101")
checks=(tidegate "ws://127.0.0.1:8100/ws/bench" "http://127.0.0.1:8101/publish/bench")

gateway=${TIDEGATE_BIN_DIR:-target/release}/tidegate
installed() { [ -x "$gateway" ]; }
install() { scripts/install-build-tools && cargo build --release --quiet --bin tidegate; }
version() { printf '%s (%s)\n' "$("$gateway" --version)" "$(git describe --always --dirty 2>/dev/null || echo "no git")"; }
serve() {
  # The gateway takes TIDEGATE_ variables for options of its own.
  unset TIDEGATE_BIN_DIR
  exec "$gateway" serve --log-level warn --shards 1 --listen "127.0.0.1:$1" --admin-listen "127.0.0.1:$(($1 + 1))"
}
