# Shared by the install scripts: say things plainly, and install Debian packages when this machine lets us.

say() { printf '%s\n' "$*"; }
have() { command -v "$1" >/dev/null 2>&1; }

# Runs a command as root: as it is, or through sudo where that asks nothing.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif have sudo && sudo -n true 2>/dev/null; then sudo -n "$@"
  else return 126
  fi
}

# apt_install PACKAGE...: installs them, asking the mirror for its lists at most once. Quiet unless it fails.
apt_install() {
  if ! have apt-get; then say "no apt-get here: install $* by hand"; return 1; fi
  local log; log=$(mktemp)
  say "installing $*"
  if [ -z "${APT_UPDATED:-}" ]; then
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq >"$log" 2>&1
    if [ $? = 126 ]; then say "neither root nor sudo: install $* by hand"; rm -f "$log"; return 1; fi
    APT_UPDATED=1
  fi
  local try
  for try in 1 2; do
    if as_root env DEBIAN_FRONTEND=noninteractive \
      apt-get -o DPkg::Lock::Timeout=120 install -y -qq --no-install-recommends "$@" >"$log" 2>&1; then rm -f "$log"; return 0; fi
  done
  tail -n 5 "$log"; rm -f "$log"
  say "apt-get could not install $*"
  return 1
}

# apt_install_idle PACKAGE...: the same for servers, without having Debian start them.
apt_install_idle() {
  local policy=/usr/sbin/policy-rc.d ours= outcome
  if [ ! -e $policy ] && printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null 2>&1; then
    as_root chmod 755 $policy && ours=1
  fi
  apt_install "$@"
  outcome=$?
  [ -z "$ours" ] || as_root rm -f $policy
  return $outcome
}
