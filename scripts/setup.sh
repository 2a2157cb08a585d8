#!/usr/bin/env bash
# Creates .venv with what one habit needs and links the package into it; does nothing when that is already there.
# usage: scripts/setup.sh run|serve|bench|check|test
# run: runtime and build tools; serve: + the server's libraries; bench: + the load tool's; check: + drivers of databases,
# linters; test: + oracles
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
level=${1:-run}
log=.venv/setup.log

fail() {
  echo "miaotui setup: $*" >&2
  exit 1
}

# The first interpreter that is new enough, or nothing.
find_python() {
  local candidate
  for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
}

check_machine() {
  local python include found
  python=$(find_python)
  if [[ -z $python ]]; then
    found=$("${PYTHON:-python3}" --version 2>/dev/null) || found="no ${PYTHON:-python3}"
    fail "Python 3.11 or newer is needed, and there is $found; install one, or name it with PYTHON=/path/to/python3.12."
  fi
  include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
  [[ -f $include/Python.h ]] || fail "the C headers of $python are missing; install them (Debian, Ubuntu: sudo apt install python3-dev)."
  "$python" -c 'import venv, ensurepip' 2>/dev/null ||
    fail "$python cannot create virtual environments; install that part (Debian, Ubuntu: sudo apt install python3-venv)."
  scripts/compiler.sh >/dev/null
  chosen_python=$python
}

pip_install() {
  .venv/bin/python -m pip install --disable-pip-version-check --retries 2 "$@" >>"$log" 2>&1 && return
  if grep -qiE 'connection|timed out|name resolution|not known|unreachable|No matching distribution|proxy|SSLError' "$log"; then
    fail "Python packages could not be fetched: no network, or the package index does not answer; see the end of $log, then run this again."
  fi
  fail "pip failed ($(grep -iE '^ *error' "$log" | tail -n 1 || true)); the whole story is in $log."
}

# A plain path file in place of the editable install's import hook: it starts faster, and PYTHONPATH can put another
# build of the package (the sanitizer one) first.
link_sources() {
  local site
  site=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  rm -f "$site"/_editable_*miaotui*
  echo "$PWD/src" >"$site/miaotui.pth"
}

# Metadata and the command only; the native module is built by scripts/build.sh, incrementally.
install_package() {
  pip_install --no-build-isolation --config-settings=wheel.cmake=false --config-settings=editable.mode=inplace --editable "$1"
  link_sources
}

stamp_of() { echo ".venv/.ready-$1"; }

is_ready() { is_ours && [[ -e $(stamp_of "$1") && ! pyproject.toml -nt $(stamp_of "$1") ]]; }

# Whether .venv was made here and whole: one that an interrupt cut short, or that moved with its folder, does not work.
is_ours() { [[ $(cat .venv/.made-in 2>/dev/null) == "$PWD" ]]; }

install_level() {
  is_ready "$1" && return
  echo "miaotui setup: installing what '$1' needs into .venv" >&2
  case $1 in
    run)
      pip_install --upgrade 'pip>=25.1'
      pip_install --group build
      install_package .
      ;;
    serve | bench) install_package ".[$1]" ;;
    stores) install_package ".[postgres,redis]" ;;
    *) pip_install --group "$1" ;;
  esac
  touch "$(stamp_of "$1")"
}

case $level in
  run) levels="run" ;;
  serve) levels="run serve" ;;
  bench) levels="run serve bench" ;;
  check) levels="run serve bench stores check" ;;
  test) levels="run serve bench stores check test" ;;
  *) fail "unknown level '$level'; choose run, serve, bench, check or test." ;;
esac

ready=yes
for each in $levels; do is_ready "$each" || ready=no; done
[[ $ready == yes ]] && exit 0

check_machine
exec 9>.setup.lock
flock 9 # two shells may set up at once; the second finds the work done
if ! is_ours || ! .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
  "$chosen_python" -m venv --clear .venv || fail "$chosen_python could not create .venv (the reason is above)."
  echo "$PWD" >.venv/.made-in
fi
: >"$log"
for each in $levels; do install_level "$each"; done
