#!/usr/bin/env bash
# Runs the native and the mutation tests against the sanitizer build in build/asan; the normal build is not touched.
# usage: scripts/test-asan.sh [pytest arguments instead of the usual tests]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
build_dir=build/asan
package=$build_dir/package/miaotui

# A package of links to the sources, with the sanitized module in place of the normal one.
rm -rf "$package"
mkdir -p "$package"
cp -rs "$PWD/src/miaotui/." "$package/"
find "$package" -name '_native*.so' -delete
ln -s "$PWD/$build_dir"/_native*.so "$package/"

cxx=$(cat "$build_dir/.compiler")
runtime=$("$cxx" -print-file-name=libasan.so)
[[ -e $runtime ]] || runtime=$("$cxx" -print-file-name="libclang_rt.asan-$(uname -m).so")
if [[ ! -e $runtime ]]; then
  echo "miaotui: $cxx has no AddressSanitizer runtime; install it (Debian, Ubuntu: sudo apt install libasan8)." >&2
  exit 1
fi

# The interpreter frees nothing at exit, so leaks are not looked for; its allocator is replaced so that overruns of its
# buffers are seen. A request for impossible memory must fail as it does without the sanitizer, not end the run.
export ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:allocator_may_return_null=1
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
export PYTHONMALLOC=malloc PYTHONPATH=$PWD/$build_dir/package
# The C++ library is loaded early with it: the runtime looks for the function that throws only once, at its start.
LD_PRELOAD="$runtime $("$cxx" -print-file-name=libstdc++.so.6)"
export LD_PRELOAD

loaded=$(.venv/bin/python -c 'import miaotui._native as n; print(n.__file__)')
if [[ $loaded != "$PWD/$build_dir"/* ]]; then
  echo "miaotui: the sanitizer build is not the one that is imported ($loaded); run 'make clean' and try again." >&2
  exit 1
fi
[[ $# -gt 0 ]] || set -- tests/native tests/formats/*hardening*.py tests/formats/test_dequantize.py
exec .venv/bin/python -m pytest -p no:cacheprovider --capture=sys "$@"
