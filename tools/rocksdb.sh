#!/usr/bin/env bash
# Builds RocksDB's static library once into a cache folder and prints that folder.
#
# RocksDB is 350 C++ files: minutes of compiling that cargo would repeat for each profile and each
# target directory. The folder's name holds the version and the flags, so a change of either builds
# a new one and an old one is never linked by mistake. `librocksdb-sys` links what lies there when
# ROCKSDB_LIB_DIR and ROCKSDB_STATIC are set; without them it builds its bundled copy as usual.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
rocksdb_version=0.25.0
sys_version=$(awk '/^name = "librocksdb-sys"/ {getline; gsub(/version = |"/, ""); print}' "$here/Cargo.lock")
: "${sys_version:?Cargo.lock has no librocksdb-sys}"
compiler=c++
clang=$(command -v clang++ || ls /usr/bin/clang++-[0-9]* 2>/dev/null | sort -V | tail -n 1 || true)
[ -n "$clang" ] && compiler=$clang
# CRC32C in hardware: every x86-64 made since 2010 has these instructions.
flags=
[ "$(uname -m)" = x86_64 ] && flags='-Ctarget-feature=+sse4.2,+pclmulqdq'
key=$(printf '%s' "$compiler|$flags|lz4|O2" | sha256sum | cut -c1-12)
cache=${KONTIKI_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kontiki}
folder=$cache/rocksdb-$sys_version-$key

if [ ! -f "$folder/librocksdb.a" ]; then
  echo "building RocksDB $sys_version into $folder (once; about 12 minutes on two cores)" >&2
  work=$cache/build-rocksdb.$$
  trap 'rm -rf "$work"' EXIT
  mkdir -p "$work/src"
  cat >"$work/Cargo.toml" <<TOML
[package]
name = "rocksdb-cache"
version = "0.0.0"
edition = "2021"
[dependencies]
rocksdb = { version = "=$rocksdb_version", default-features = false, features = ["bindgen-runtime", "lz4"] }
librocksdb-sys = "=$sys_version"
[profile.release]
opt-level = 2
[workspace]
TOML
  : >"$work/src/lib.rs"
  (cd "$work" && env -u ROCKSDB_LIB_DIR -u ROCKSDB_STATIC -u CARGO_TARGET_DIR \
    CXX="$compiler" RUSTFLAGS="$flags" cargo build --release --quiet --target-dir "$work/target" >&2)
  built=$(find "$work/target/release/build" -name librocksdb.a | head -n 1)
  mkdir -p "$folder"
  cp "$built" "$folder/librocksdb.a.$$"
  mv "$folder/librocksdb.a.$$" "$folder/librocksdb.a"
fi
echo "$folder"
