title="nginx nchan"
port=8120
load=(--url "ws://127.0.0.1:8120/ws/bench" --publish http --publish-url "http://127.0.0.1:8120/pub?id=bench")
checks=(post "ws://127.0.0.1:8120/ws/bench" "http://127.0.0.1:8120/pub?id=bench")

nchan_module=/usr/lib/nginx/modules/ngx_nchan_module.so
nginx_program() { PATH=$PATH:/usr/sbin command -v nginx; }
installed() { nginx_program >/dev/null && [ -f $nchan_module ]; }
install() { apt_install_idle nginx libnginx-mod-nchan; }
version() { printf '%s, nchan %s\n' "$("$(nginx_program)" -v 2>&1 | sed 's/.*version: //')" "$(debian_version libnginx-mod-nchan)"; }
serve() {
  local descriptors; descriptors=$(ulimit -n)
  [ "$descriptors" != unlimited ] || descriptors=1048576
  local config
  config=$(filled $peers/nchan/nginx.conf "nchan-$1/nginx.conf" PORT "$1" MODULE $nchan_module DESCRIPTORS "$descriptors" \
    FOLDER "$PWD/$peers_built/nchan-$1") || return
  exec "$(nginx_program)" -p "$PWD/$peers_built/nchan-$1" -c "$config" -e stderr
}
