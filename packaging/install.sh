#!/bin/sh
# Installs the newest release of Piecewise, or one that is at hand, without root unless its place needs it:
#
#   sh install.sh [--version 0.1.0] [--from URL-OR-FOLDER] [--prefix ~/.local] [--bin-only]
#
# It downloads an archive and SHA256SUMS, compares, and copies binaries, manual pages and completions into the prefix:
# /usr/local for root, else ~/.local. How to verify the signature of SHA256SUMS first: RELEASING.md.
set -eu
REPOSITORY=https://github.com/piecewise/piecewise

fail() { echo "error: $1" >&2; [ -z "${2:-}" ] || echo "hint: $2" >&2; exit 1; }

version="" from="" prefix="" only_bin=""
while [ $# -gt 0 ]; do
    case "$1" in
        --version | --from | --prefix) [ $# -gt 1 ] || fail "$1 needs a value" "--help lists them" ;;
    esac
    case "$1" in
        --version) version=$2; shift ;;
        --from) from=$2; shift ;;
        --prefix) prefix=$2; shift ;;
        --bin-only) only_bin=yes ;;
        -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) fail "unknown argument $1" "--help lists them" ;;
    esac
    shift
done
if [ -z "$prefix" ]; then
    if [ "$(id -u)" = 0 ]; then prefix=/usr/local; else prefix=$HOME/.local; fi
fi
if [ -z "$from" ]; then
    from=$REPOSITORY/releases/latest/download
    [ -z "$version" ] || from=$REPOSITORY/releases/download/v$version
fi
case "$(uname -s) $(uname -m)" in
    "Linux x86_64") machine=x86_64-unknown-linux ;;
    "Linux aarch64") machine=aarch64-unknown-linux ;;
    *) fail "there is no archive for $(uname -s) on $(uname -m)" "build it: cargo install piecewise-cli piecewise-server" ;;
esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# A file of the release, by its name.
get() {
    case "$from" in
        http://* | https://* | file://*)
            if command -v curl >/dev/null; then curl -fsSL --proto =https,http,file -o "$work/$1" "$from/$1"
            elif command -v wget >/dev/null; then wget -q -O "$work/$1" "$from/$1"
            else fail "neither curl nor wget is installed"; fi ;;
        *) cp "$from/$1" "$work/$1" ;;
    esac || fail "$from/$1 could not be had" "is the version right, and the network up?"
}
sum() {
    if command -v sha256sum >/dev/null; then sha256sum "$1"; else shasum -a 256 "$1"; fi | cut -d ' ' -f 1
}

get SHA256SUMS
line=$(grep -E "^[0-9a-f]{64}  piecewise-${version:-[0-9][^ ]*}-$machine-[a-z]+\.tar\.gz$" "$work/SHA256SUMS" | head -n 1)
[ -n "$line" ] ||
    fail "$from has no archive for this machine" "SHA256SUMS there lists all"
archive=${line#*  }
get "$archive"
[ "$(sum "$work/$archive")" = "${line%%  *}" ] ||
    fail "$archive is not what SHA256SUMS says; nothing was installed" "try again; if it stays so, tell its authors"
tar -xzf "$work/$archive" -C "$work" --no-same-owner
unpacked=$work/${archive%.tar.gz}

# Moved into place as a whole: a program that runs goes on with its old file.
put() {
    mkdir -p "$2" || fail "$2 cannot be made" "say --prefix FOLDER"
    cp "$1" "$2/.${1##*/}.new" && chmod "$3" "$2/.${1##*/}.new" && mv "$2/.${1##*/}.new" "$2/${1##*/}" ||
        fail "$2 cannot be written" "say --prefix FOLDER"
}
for file in "$unpacked"/bin/*; do put "$file" "$prefix/bin" 755; done
if [ -z "$only_bin" ]; then
    for file in "$unpacked"/share/man/man1/*; do put "$file" "$prefix/share/man/man1" 644; done
    for file in "$unpacked"/share/bash-completion/completions/*; do put "$file" "$prefix/share/bash-completion/completions" 644; done
    for file in "$unpacked"/share/zsh/site-functions/*; do put "$file" "$prefix/share/zsh/site-functions" 644; done
    for file in "$unpacked"/share/fish/vendor_completions.d/*; do put "$file" "$prefix/share/fish/vendor_completions.d" 644; done
    for file in "$unpacked"/LICENSE-* "$unpacked"/THIRD-PARTY.md; do put "$file" "$prefix/share/doc/piecewise" 644; done
fi
echo "installed $("$prefix/bin/piecewise" --version) in $prefix/bin"
case ":$PATH:" in *":$prefix/bin:"*) ;; *) echo "add it to your PATH: export PATH=\"$prefix/bin:\$PATH\"" ;; esac
