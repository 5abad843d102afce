#!/bin/sh
# Builds the npm package in wasm/npm: WASM, and the JavaScript that loads it.
set -eu
cd "$(dirname "$0")/.."
settings=$(sh wasm/toolchain.sh)
(
    eval "$settings"
    # A target folder of its own: the compiler may be another than that of the native build.
    CARGO_TARGET_DIR=target/browser cargo rustc -q -p piecewise-wasm --lib --crate-type cdylib \
        --profile browser --target wasm32-unknown-unknown
)
CARGO_TARGET_DIR=target/bindgen cargo build -q --manifest-path wasm/bindgen/Cargo.toml
target/bindgen/debug/bindgen target/browser/wasm32-unknown-unknown/browser/piecewise_wasm.wasm wasm/npm/engine
cp LICENSE-MIT LICENSE-APACHE wasm/npm/
