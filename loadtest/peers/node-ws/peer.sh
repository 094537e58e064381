title="Node ws"
port=8110
load=(--url "ws://127.0.0.1:8110/bench" --publish ws)
checks=(relay "ws://127.0.0.1:8110/bench")

folder=$peers/node-ws
installed() { have node && stamped $folder/node_modules $folder/package.json $folder/package-lock.json; }
install() {
  { have node && have npm; } || apt_install nodejs npm || return 1
  say "installing the Node packages of $folder/package.json"
  (cd $folder && npm ci --no-audit --no-fund --loglevel=error >/dev/null) || return 1
  stamp $folder/node_modules $folder/package.json $folder/package-lock.json
}
version() {
  node -p '["ws", "bufferutil"].reduce((line, name) =>
    `${line}, ${name} ${require(`./'$folder'/node_modules/${name}/package.json`).version}`, `Node ${process.version}`)'
}
# NODE_WS_DEFLATE=1: with permessage-deflate, for the row `ticks` of scripts/measure.
serve() { exec node $folder/server.js "$1" ${NODE_WS_DEFLATE:+deflate}; }
