title="mosquitto"
port=8140
load=(--url "ws://127.0.0.1:8140/mqtt" --protocol mqtt --publish ws --channel bench)
checks=(mqtt "ws://127.0.0.1:8140/mqtt")

mosquitto_program() { PATH=$PATH:/usr/sbin command -v mosquitto; }
installed() { mosquitto_program >/dev/null; }
install() { apt_install_idle mosquitto; }
version() { printf 'mosquitto %s\n' "$(debian_version mosquitto)"; }
serve() {
  local config
  config=$(filled $peers/mosquitto/mosquitto.conf "mosquitto-$1.conf" PORT "$1" PLAIN_PORT $(($1 + 1))) || return
  exec "$(mosquitto_program)" -c "$config"
}
