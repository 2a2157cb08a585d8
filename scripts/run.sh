#!/usr/bin/env bash
# Answers the question Q, or the one that is piped in, with MODEL; without either, on a terminal: chats.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
miaotui=.venv/bin/miaotui

if [[ -z ${Q:-} && ! (-t 0 && -t 1) && ! (-p /dev/stdin || -f /dev/stdin || -S /dev/stdin) ]]; then
  echo 'miaotui: there is no question; ask one with make run Q="What is the capital of France?", or chat on a terminal.' >&2
  exit 2
fi
"$miaotui" pull "$MODEL" </dev/null >/dev/null
if [[ -n ${Q:-} ]]; then
  exec "$miaotui" run "$MODEL" -- "$Q"
fi
exec "$miaotui" run "$MODEL"
