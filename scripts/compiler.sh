#!/usr/bin/env bash
# Prints the C++ compiler to use ($CXX, c++, g++ or clang++), or says in one sentence what is missing.
set -euo pipefail
for candidate in ${CXX:-c++ g++ clang++}; do
  if command -v "$candidate" >/dev/null; then
    if printf '#include <concepts>\n#include <span>\nint main() { return std::span<int>().size(); }\n' |
      "$candidate" -std=c++20 -x c++ -fsyntax-only - 2>/dev/null; then
      command -v "$candidate"
      exit 0
    fi
    found=$candidate
  fi
done
if [[ -n ${found:-} ]]; then
  echo "miaotui setup: $found does not understand C++20; install g++ 11 or newer, or clang++ 14 or newer, or name one with CXX=." >&2
else
  echo "miaotui setup: a C++20 compiler is needed and ${CXX:-c++, g++ and clang++} could not be found;" \
    "install one (Debian, Ubuntu: sudo apt install g++; Fedora: sudo dnf install gcc-c++)." >&2
fi
exit 1
