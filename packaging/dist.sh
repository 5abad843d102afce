#!/bin/sh
# Makes dist/: self-contained binaries as an archive, Debian packages and the content of a container, with their checksums.
set -eu
cd "$(dirname "$0")/.."
CARGO=${CARGO:-cargo}
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
machine=$(uname -m)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH

# musl where its target is installed; else glibc, as a static library.
musl=$machine-unknown-linux-musl
if ls "$(rustc --print target-libdir --target "$musl" 2>/dev/null)"/libstd-*.rlib >/dev/null 2>&1 && command -v musl-gcc >/dev/null; then
    target=$musl
    export "CC_$(echo "$target" | tr - _)=musl-gcc"
else
    target=$machine-unknown-linux-gnu
    export RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static"
fi
echo "building for $target"
# Random bytes come from the kernel by its own call: a static binary finds no other way in a root without /dev.
export RUSTFLAGS="${RUSTFLAGS:-} --cfg getrandom_backend=\"linux_getrandom\""
# Paths of this machine are nobody's business.
export RUSTFLAGS="${RUSTFLAGS:-} --remap-path-prefix=$PWD=/piecewise --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
$CARGO build -q --profile dist --target "$target" -p piecewise-cli -p piecewise-server --bins
unset RUSTFLAGS
built=target/$target/dist

rm -rf dist
stage=dist/stage
mkdir -p "$stage/bin" "$stage/share/man/man1"
for name in piecewise piecewise-server; do
    cp "$built/$name" "$stage/bin/"
    if readelf -d "$stage/bin/$name" | grep -q NEEDED || readelf -l "$stage/bin/$name" | grep -q INTERP; then
        echo "error: $name needs shared libraries" >&2
        exit 1
    fi
    "$stage/bin/$name" man --all "$stage/share/man/man1"
    mkdir -p "$stage/share/bash-completion/completions" "$stage/share/zsh/site-functions" "$stage/share/fish/vendor_completions.d"
    "$stage/bin/$name" completions bash > "$stage/share/bash-completion/completions/$name"
    "$stage/bin/$name" completions zsh > "$stage/share/zsh/site-functions/_$name"
    "$stage/bin/$name" completions fish > "$stage/share/fish/vendor_completions.d/$name.fish"
done
gzip -9n "$stage"/share/man/man1/*.1
cp LICENSE-MIT LICENSE-APACHE THIRD-PARTY.md README.md CHANGELOG.md "$stage/"
cp packaging/piecewise-server.service packaging/tls.conf "$stage/"

archive=piecewise-$version-$target
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" --transform "s,^stage,$archive," \
    -C dist -cf - stage | gzip -9n > "dist/$archive.tar.gz"

if command -v dpkg-deb >/dev/null; then
    command -v cargo-deb >/dev/null || test -x target/tools/bin/cargo-deb || $CARGO install -q --locked --root target/tools cargo-deb
    for package in piecewise-cli piecewise-server; do
        PATH="$PWD/target/tools/bin:$PATH" $CARGO deb -q -p "$package" --no-build --no-strip -o dist/
    done
fi

mkdir -p dist/container/data
cp "$stage/bin/piecewise-server" LICENSE-MIT LICENSE-APACHE THIRD-PARTY.md packaging/Containerfile dist/container/
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -C dist -cf - container | gzip -9n > "dist/piecewise-container-$version-$target.tar.gz"
cp packaging/install.sh dist/
(cd dist && sha256sum -- *.tar.gz *.deb 2>/dev/null > SHA256SUMS || test -s SHA256SUMS)
echo "dist/:"
(cd dist && cat SHA256SUMS)
