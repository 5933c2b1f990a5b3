#!/usr/bin/env bash
# Installs what building needs (`build`), and what lint and tests need besides (`test`).
# On Debian and Ubuntu as root it installs; elsewhere it says exactly what is missing.
set -euo pipefail
wanted=${1:-build}
cache=${KONTIKI_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kontiki}
deny_version=0.20.2

# program or file that must be there, and the package that brings it
packages=()
need() { command -v "$1" >/dev/null 2>&1 || packages+=("$2"); }
need c++ g++
need cc gcc
need make make
need nft nftables
need ip iproute2
ls /usr/lib/llvm-*/lib/libclang*.so* /usr/lib/*/libclang*.so* >/dev/null 2>&1 || packages+=(libclang-dev)
command -v clang++ >/dev/null 2>&1 || ls /usr/bin/clang++-[0-9]* >/dev/null 2>&1 || packages+=(clang)

if [ ${#packages[@]} -gt 0 ]; then
  if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
  else
    echo "kontiki needs these packages (named as Debian names them): ${packages[*]}" >&2
    echo "install them, or run this as root on Debian or Ubuntu" >&2
    exit 1
  fi
fi
# A full disk shows late, as an archive that cannot be written.
needed=4
[ "$wanted" = build ] || needed=8
free=$(df -Pk . | awk 'NR == 2 {print int($4 / 1048576)}')
if [ "$free" -lt "$needed" ] && [ ! -d "${CARGO_TARGET_DIR:-target}/release" ]; then
  echo "kontiki needs about $needed GB of disk to $wanted, and $free GB are free here; CARGO_TARGET_DIR=/some/where/else moves what is built" >&2
fi
if ! command -v cargo >/dev/null 2>&1; then
  echo "kontiki needs a Rust toolchain: https://rustup.rs" >&2
  exit 1
fi
if [ "$wanted" = test ] && ! "$cache/tools/bin/cargo-deny" --version >/dev/null 2>&1; then
  echo "building cargo-deny into $cache/tools (once)" >&2
  CARGO_TARGET_DIR="$cache/build-tools" cargo install --quiet --locked --root "$cache/tools" cargo-deny --version "$deny_version" >&2
  rm -rf "$cache/build-tools"
fi
