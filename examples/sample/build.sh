#!/bin/sh
# Rebuild the binaries from server.c: ./build.sh for both, ./build.sh amd64|arm64 [FILE] for one.
# Debian's packages: gcc, and for the other architecture gcc-aarch64-linux-gnu or gcc-x86-64-linux-gnu.
set -eu
cd -- "$(dirname -- "$0")"

build() {
  case $1 in
    amd64) compiler=x86_64-linux-gnu-gcc ;;
    arm64) compiler=aarch64-linux-gnu-gcc ;;
    *) echo "build.sh: unknown architecture $1" >&2; exit 2 ;;
  esac
  "$compiler" -std=c11 -Os -Wall -Wextra -Werror -ffreestanding -fno-builtin -fno-stack-protector -fno-pie \
    -fno-tree-loop-distribute-patterns -fno-asynchronous-unwind-tables -fomit-frame-pointer \
    -static -no-pie -nostdlib -Wl,--build-id=none -Wl,-z,noseparate-code -Wl,-z,norelro -Wl,-z,noexecstack -s \
    -o "${2:-server-$1}" server.c
}

if [ $# -gt 0 ]; then build "$@"; else build amd64; build arm64; fi
