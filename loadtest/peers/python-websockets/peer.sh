title="Python websockets"
port=8150
load=(--url "ws://127.0.0.1:8150/bench" --publish ws)
checks=(relay "ws://127.0.0.1:8150/bench")

folder=$peers/python-websockets
installed() { stamped $folder/.venv $folder/requirements.txt; }
install() {
  have python3 || apt_install python3 || return 1
  python3 -c 'import ensurepip, venv' 2>/dev/null || apt_install python3-venv || return 1
  say "installing the Python packages of $folder/requirements.txt"
  rm -rf $folder/.venv
  python3 -m venv $folder/.venv || return 1
  $folder/.venv/bin/python -m pip install --quiet --disable-pip-version-check -r $folder/requirements.txt || return 1
  stamp $folder/.venv $folder/requirements.txt
}
version() {
  $folder/.venv/bin/python -c 'import platform, uvloop, websockets
print(f"Python {platform.python_version()}, websockets {websockets.__version__}, uvloop {uvloop.__version__}")'
}
serve() { exec $folder/.venv/bin/python -O $folder/server.py "$1"; }
