title="nats-server"
port=8130
load=(--url "ws://127.0.0.1:8130/" --protocol nats --publish ws --channel bench)
checks=(nats "ws://127.0.0.1:8130/")

nats_program() { PATH=$PATH:/usr/sbin command -v nats-server; }
installed() { nats_program >/dev/null; }
install() { apt_install_idle nats-server; }
version() { "$(nats_program)" --version; }
serve() {
  local config
  config=$(filled $peers/nats/nats.conf "nats-$1.conf" PORT "$1" CLIENT_PORT $(($1 + 1))) || return
  GOGC=400 exec "$(nats_program)" -c "$config"
}
