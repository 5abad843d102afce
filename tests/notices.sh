#!/bin/sh
# Writes THIRD-PARTY.md: what the binaries and the package are built from, and under which licences.
set -eu
cd "$(dirname "$0")/.."
{
  printf '# Third-party notices\n\nThe binaries and the npm package contain these crates, each under the licence of its own that is named here; the\n'
  printf 'texts are in the crates, which https://crates.io has under these names and versions. SQLite itself is in the public domain.\n'
  printf 'Written by `make notices`.\n\n| crate | licence |\n|---|---|\n'
  ${CARGO:-cargo} tree --locked -q -e normal --prefix none --workspace --format '{p}|{l}' |
    sed -e '/^$/d' -e 's/ (\*)$//' -e '/ (\//d' -e '/ (proc-macro)/s/ (proc-macro)//' -e 's/^\(.*\)|\(.*\)$/| \1 | \2 |/' | LC_ALL=C sort -u
} > THIRD-PARTY.md
