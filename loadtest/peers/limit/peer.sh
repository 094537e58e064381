title="limit (bare send)"
port=
installed() { true; }
install() { true; }
version() { printf 'built into %s, Linux %s\n' "$("${TIDEGATE_BIN_DIR:-target/release}/tidegate-loadtest" --version)" "$(uname -r)"; }
serve() { :; }
