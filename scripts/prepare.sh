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
