#!/usr/bin/env bash
# Builds the native module incrementally. Only build/dev is placed in the package; other folders keep theirs to themselves.
# usage: scripts/build.sh BUILD_DIR [CMake options, e.g. -DMIAOTUI_WERROR=ON]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
build_dir=$1
shift
export PATH="$PWD/.venv/bin:$PATH"
CXX=$(scripts/compiler.sh)
export CXX

mkdir -p "$build_dir"
exec 9>"$build_dir/.lock"
flock 9 # several shells may build at once
log=$build_dir/configure.log
echo "$CXX" >"$build_dir/.compiler"
options="$CXX $PWD $*"
if [[ ! -e $build_dir/build.ninja || $(cat "$build_dir/.options" 2>/dev/null) != "$options" ]]; then
  if ! cmake --fresh -S . -B "$build_dir" -G Ninja -DPython_EXECUTABLE="$PWD/.venv/bin/python" \
    -DCMAKE_EXPORT_COMPILE_COMMANDS=ON "$@" >"$log" 2>&1; then
    grep -A4 -E 'CMake Error' "$log" >&2 || tail -n 5 "$log" >&2
    echo "miaotui build: CMake could not configure the native module; the whole story is in $log." >&2
    exit 1
  fi
  echo "$options" >"$build_dir/.options"
fi
if [[ -z $(find "$build_dir" -maxdepth 1 -name '_native*.so') ]]; then
  echo "miaotui build: compiling the native core, which takes some minutes the first time …" >&2
fi
if ! cmake --build "$build_dir" --target _native -- --quiet; then
  echo "miaotui build: the native module does not compile; the compiler's message is above." >&2
  exit 1
fi
if [[ $build_dir == build/dev ]]; then
  module=$(find "$build_dir" -maxdepth 1 -name '_native*.so')
  # Renamed into place: processes that run the old module keep it.
  if ! cmp -s "$module" "src/miaotui/${module##*/}"; then
    cp "$module" "src/miaotui/.${module##*/}.new"
    mv "src/miaotui/.${module##*/}.new" "src/miaotui/${module##*/}"
  fi
fi
