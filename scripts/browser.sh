#!/usr/bin/env bash
# Installs what the tests of the page need where it is missing and may be installed: Debian's Chromium, and fonts for
# Latin and Chinese text. Never fails: without a browser those tests are skipped, and say so (on CI they fail).
set -uo pipefail
packages=(chromium)
for name in "${MIAOTUI_CHROMIUM:-chromium}" chromium-browser google-chrome; do
  command -v "$name" >/dev/null 2>&1 && packages=()
done
if command -v dpkg-query >/dev/null 2>&1; then
  for font in fonts-inter fonts-wqy-microhei; do
    dpkg-query -W -f '${Status}' "$font" 2>/dev/null | grep -q 'ok installed' || packages+=("$font")
  done
fi
[[ ${#packages[@]} -eq 0 ]] && exit 0

if [[ $(id -u) -ne 0 ]] || ! command -v apt-get >/dev/null 2>&1; then
  [[ ${packages[0]} == chromium ]] &&
    echo "miaotui: tests of the page are skipped; they need Chromium (Debian: sudo apt install chromium)" >&2
  exit 0
fi

exec 9>/tmp/.miaotui-browser.lock
flock 9 # several runs may start at once
log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "miaotui setup: installing ${packages[*]} for the tests of the page" >&2
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get update && apt-get install -y --no-install-recommends "${packages[@]}"; } >"$log" 2>&1; then
  echo "miaotui: ${packages[*]} could not be installed ($(tail -n 1 "$log"))" >&2
fi
exit 0
