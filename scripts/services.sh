#!/usr/bin/env bash
# Installs the database servers that the tests of answer stores need: PostgreSQL and Redis. Nothing is started or set up;
# the tests start servers of their own in throw-away folders (tests/answers/servers.py).
# Where they cannot be installed those tests are skipped, or, with MIAOTUI_SERVERS=required, this fails.
set -euo pipefail

missing=()
[[ -n $(command -v initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb') ]] || missing+=(postgresql)
command -v redis-server >/dev/null || missing+=(redis-server)
[[ ${#missing[@]} -eq 0 ]] && exit 0

give_up() {
  if [[ ${MIAOTUI_SERVERS:-} == required ]]; then
    echo "miaotui: the tests of answer stores need ${missing[*]}, and $1." >&2
    exit 1
  fi
  echo "miaotui: tests of answer stores are skipped: they need ${missing[*]}, and $1." >&2
  exit 0
}

command -v apt-get >/dev/null || give_up "they are installed by themselves only on Debian and Ubuntu; install them"
[[ $(id -u) -eq 0 ]] || give_up "root must install them: sudo apt install ${missing[*]}"

log=$(mktemp)
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then # the packages would start servers of their own
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod +x "$policy"
  trap 'rm -f "$policy" "$log"' EXIT
else
  trap 'rm -f "$log"' EXIT
fi
echo "miaotui: installing ${missing[*]} for the tests of answer stores" >&2
install() { DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}" >"$log" 2>&1; }
install || { apt-get update >"$log" 2>&1 && install; } || give_up "apt-get failed: $(tail -n 1 "$log")"
