#!/bin/sh
# Finds or makes a compiler for wasm32-unknown-unknown, and prints the settings that cargo needs as lines of shell.
#
#   WASM_TOOLCHAIN=auto    what is there; else rustup, if it is installed; else Debian's packages
#   WASM_TOOLCHAIN=rustup  `rustup target add`
#   WASM_TOOLCHAIN=debian  Debian's rustc-web in a folder of its own, for machines that reach nothing but a Debian mirror
#
# Debian ships the sources of the standard library with its rustc-web; it is built from them once (under a minute, offline).
set -eu
TARGET=wasm32-unknown-unknown
KEEP="${XDG_CACHE_HOME:-$HOME/.cache}/piecewise-wasm"
CHOICE="${WASM_TOOLCHAIN:-auto}"
say() { echo "wasm toolchain: $*" >&2; }
fail() { echo "error: $1" >&2; echo "hint: $2" >&2; exit 1; }
root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
install() { root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null; }
knows() { test -n "$(find "$("$1" --print target-libdir --target $TARGET 2>/dev/null)" -name 'libstd-*.rlib' 2>/dev/null)"; }

RUSTC=""
with_debian() {
    command -v apt-get >/dev/null || fail "there is no compiler for $TARGET" "install rustup and run \`rustup target add $TARGET\`"
    apt-cache show rustc-web >/dev/null 2>&1 || root apt-get update -qq
    version=$(apt-cache policy rustc-web | awk '/Candidate:/ { print $2 }')
    home="$KEEP/rustc-web-$version"
    RUSTC="$home/bin/rustc"
    if [ -x "$RUSTC" ] && knows "$RUSTC"; then return; fi
    say "unpacking Debian's rustc-web $version"
    work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
    newest() { apt-cache depends "$1" | awk '$1 == "Depends:" { print $2 }' | grep -E "^$2\$" | sort -V | tail -1; }
    runtime=$(newest "libstd-rust-web-dev=$version" 'libstd-rust-web-[0-9.]+')
    llvm=$(newest "$runtime=$version" 'libllvm[0-9]+')
    mkdir "$work/deb" "$work/root"
    (cd "$work/deb" && apt-get -qq download "rustc-web=$version" "libstd-rust-web-dev=$version" "rust-web-src=$version" "$runtime=$version" "$llvm" 2>/dev/null)
    for package in "$work"/deb/*.deb; do dpkg-deb -x "$package" "$work/root"; done
    mkdir -p "$home/bin" "$home/real" "$home/lib"
    cp "$work/root/usr/bin/rustc" "$home/real/"
    cp -a "$work"/root/usr/lib/*-linux-gnu/*.so* "$home/lib/"
    rm -rf "$home/lib/rustlib"; cp -a "$work/root/usr/lib/rustlib" "$home/lib/"; rm -rf "$home/lib/rustlib/src"
    mkdir -p "$home/lib/rustlib/src/rust"; cp -a "$work"/root/usr/src/rustc-*/library "$home/lib/rustlib/src/rust/"
    printf '#!/bin/sh\nhome=%s\nLD_LIBRARY_PATH="$home/lib" exec "$home/real/rustc" "$@"\n' "'$home'" > "$RUSTC"
    chmod +x "$RUSTC"
    host=$("$RUSTC" -vV | awk '/^host:/ { print $2 }')
    # rustc calls its linker by this name; rustup brings one along, Debian has it as wasm-ld.
    linker=$(find "$(rustc --print sysroot)/lib/rustlib/$host/bin" -maxdepth 1 -name rust-lld 2>/dev/null || true)
    if [ -z "$linker" ]; then command -v wasm-ld-19 >/dev/null || install lld-19; linker=$(command -v wasm-ld-19); fi
    mkdir -p "$home/lib/rustlib/$host/bin"; ln -sf "$linker" "$home/lib/rustlib/$host/bin/rust-lld"
    say "building its standard library, once"
    sources="$home/lib/rustlib/src/rust/library"
    mkdir -p "$work/std/src"; : > "$work/std/src/lib.rs"
    printf '[package]\nname = "std-for-wasm"\nversion = "0.0.0"\nedition = "2021"\n[profile.release]\npanic = "abort"\n[workspace]\n' > "$work/std/Cargo.toml"
    (cd "$work/std" && env -u CARGO_ENCODED_RUSTFLAGS RUSTC="$RUSTC" RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="$work/out" \
        RUSTFLAGS="-Cembed-bitcode=yes --remap-path-prefix=$sources=/rust" \
        cargo build -q --release --offline -Zbuild-std=std,panic_abort,proc_macro --target $TARGET \
        --config 'source.crates-io.replace-with="vendored"' --config "source.vendored.directory=\"$sources/vendor\"" >&2)
    mkdir -p "$home/lib/rustlib/$TARGET/lib"
    rm -f "$work/out/$TARGET"/release/deps/libstd_for_wasm*
    cp "$work/out/$TARGET"/release/deps/*.rlib "$home/lib/rustlib/$TARGET/lib/"
    rm -rf "$home/lib/rustlib/src" "$work"; trap - EXIT
    knows "$RUSTC" || fail "the compiler for $TARGET could not be made" "remove $KEEP and try again"
}
with_rustup() { rustup target add $TARGET >&2 && knows rustc; }

case "$CHOICE" in
    debian) with_debian ;;
    rustup) with_rustup || fail "\`rustup target add $TARGET\` failed" "is rustup installed, and the network up?" ;;
    auto)
        if knows rustc; then :
        elif command -v rustup >/dev/null && with_rustup; then :
        else with_debian; fi ;;
    *) fail "WASM_TOOLCHAIN is $CHOICE" "say auto, rustup or debian" ;;
esac

clang=""
for name in clang clang-22 clang-21 clang-20 clang-19 clang-18 clang-17 clang-16; do
    if command -v $name >/dev/null && $name --print-targets 2>/dev/null | grep -q wasm32; then clang=$name; break; fi
done
if [ -z "$clang" ]; then
    command -v apt-get >/dev/null || fail "there is no clang that knows wasm32" "install clang"
    apt-cache show clang-19 >/dev/null 2>&1 || root apt-get update -qq
    install clang-19; clang=clang-19
fi
[ -z "$RUSTC" ] || echo "export RUSTC='$RUSTC'"
echo "export CC_wasm32_unknown_unknown='$clang' AR_wasm32_unknown_unknown=ar"
