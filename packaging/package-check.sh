#!/bin/sh
# Packages the crates that are published, and installs both commands from nothing but the packages, without a network.
set -eu
cd "$(dirname "$0")/.."
CARGO=${CARGO:-cargo}
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
$CARGO package -q --allow-dirty --no-verify -p piecewise-core -p piecewise-server -p piecewise-cli
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# What the registry will have once they are published.
patches=""
for crate in core server cli; do
    tar -xzf "target/package/piecewise-$crate-$version.crate" -C "$work"
    patches="$patches --config patch.crates-io.piecewise-$crate.path=\"$work/piecewise-$crate-$version\""
done
for crate in server cli; do
    # shellcheck disable=SC2086
    CARGO_TARGET_DIR="$PWD/target" $CARGO install -q --offline --debug --no-track --root "$work/installed" --path "$work/piecewise-$crate-$version" $patches
done
"$work/installed/bin/piecewise" --version
"$work/installed/bin/piecewise-server" --version
