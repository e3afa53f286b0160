# Sourced by the other scripts: goes to the project's root, installs what the build needs, and
# keeps the build outside the checkout, because RocksDB takes many minutes to compile.
# shellcheck shell=bash

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$HOME/.cache/quorate/target}"
# Checkouts share the build directory, and cargo knows what is out of date by the files' times alone:
# what another checkout built a moment ago would pass for this one's. So all of ours is new then.
mkdir -p "$CARGO_TARGET_DIR"
if [ "$(cat "$CARGO_TARGET_DIR/checkout" 2>/dev/null)" != "$PWD" ]; then
    find crates tests proto -type f -exec touch {} +
    printf '%s\n' "$PWD" >"$CARGO_TARGET_DIR/checkout"
fi
# rustup's default place, for shells that have not read its profile yet.
export PATH="$HOME/.cargo/bin:$PATH"

say() { printf '%s\n' "$*" >&2; }

if ! command -v cargo >/dev/null; then
    say "There is no cargo. Install Rust's stable toolchain with rustup, see https://rustup.rs"
    exit 1
fi

# Installs Debian packages by name.
install() {
    if ! command -v apt-get >/dev/null; then
        say "Install these first, by whatever name your system has them: $*"
        exit 1
    fi
    local as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo)
    say "Installing Debian packages: $*"
    "${as_root[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends \
        "$@" >/dev/null
}

# Installs the packages of commands that are not there; each argument is COMMAND:PACKAGE.
install_missing() {
    local packages=() pair
    for pair in "$@"; do
        command -v "${pair%%:*}" >/dev/null || packages+=("${pair##*:}")
    done
    [ ${#packages[@]} -eq 0 ] || install "${packages[@]}"
}

# g++ and libclang-dev: RocksDB is C++, and its bindings are generated from its headers. What is
# looked for is libclang itself; libclang-cpp, which other packages bring, is another library.
missing=()
command -v g++ >/dev/null || missing+=(g++)
if ! { ls /usr/lib/llvm-*/lib/libclang.so* /usr/lib/*/libclang*.so* /usr/lib64/libclang*.so* \
    "${LIBCLANG_PATH:-/nonexistent}"/libclang*.so* 2>/dev/null || true; } | grep -qv libclang-cpp; then
    missing+=(libclang-dev)
fi
[ ${#missing[@]} -eq 0 ] || install "${missing[@]}"

# RocksDB takes longer to compile than everything else together, and cargo compiles it again whenever
# some library that only takes part in generating its bindings changes. So it is compiled once for each
# version, kept beside the build, and linked from there.
rocksdb="$(awk '/^name = "librocksdb-sys"/ { getline; gsub(/"/, "", $3); print $3 }' Cargo.lock)"
# What it is compiled with is said in the line that asks for it.
rocksdb="$rocksdb-$(grep '^rocksdb = ' Cargo.toml | sha256sum | cut -c 1-8)"
kept="$CARGO_TARGET_DIR/rocksdb/$rocksdb"
if [ ! -f "$kept/librocksdb.a" ]; then
    say "Compiling RocksDB ($rocksdb), once: 10 to 20 minutes on two processors."
    (unset ROCKSDB_LIB_DIR ROCKSDB_STATIC && cargo build --release --locked -p librocksdb-sys)
    mkdir -p "$kept"
    # The newest is the one that was made, or found to be up to date, a moment ago.
    made="$(ls -t "$CARGO_TARGET_DIR"/release/build/librocksdb-sys-*/out/librocksdb.a | head -n 1)"
    cp "$made" "$kept/librocksdb.a.part" && mv "$kept/librocksdb.a.part" "$kept/librocksdb.a"
fi
export ROCKSDB_LIB_DIR="$kept" ROCKSDB_STATIC=1
