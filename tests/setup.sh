#!/bin/sh
# Makes sure that the tools the build and the tests use are there, and installs them where it may.
set -eu
cd "$(dirname "$0")/.."

if ! command -v cargo >/dev/null; then
    echo "error: cargo is not installed" >&2
    echo "hint: install Rust 1.95 or newer, see https://rustup.rs" >&2
    exit 1
fi

missing=""
need() { command -v "$1" >/dev/null || missing="$missing $2"; }
need cc gcc
need sqlite3 sqlite3
need python3 python3
python3 -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
need npm npm
need "${CHROMIUM:-chromium}" chromium
need "${FIREFOX:-firefox-esr}" firefox-esr
if [ -n "$missing" ]; then
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        echo "installing$missing"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
    else
        echo "error: these are not installed:$missing" >&2
        echo "hint: install them with your system's package manager, for example: sudo apt-get install$missing" >&2
        exit 1
    fi
fi

# Real data for the tests (cities and WordNet), bundlers and frameworks. No package here needs a script of its own to install.
if [ ! -e tests/node_modules/.package-lock.json ] || [ tests/package-lock.json -nt tests/node_modules/.package-lock.json ]; then
    (cd tests && npm ci --silent --ignore-scripts --no-audit --no-fund)
fi

# An ORM, for the applications that know nothing of sync.
if [ ! -e target/python/ready ]; then
    python3 -m venv target/python
    target/python/bin/pip install -q --disable-pip-version-check "SQLAlchemy>=2,<3"
    touch target/python/ready
fi
