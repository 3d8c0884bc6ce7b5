#!/bin/sh
# Measures libmebo and, where go is on the PATH, the Go library beside it on the same data.
# Usage: bench/mebo/run.sh BENCH_MEBO [LAM_DIR]      (or: meson compile -C build bench-mebo)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
data=$(mktemp -d)
trap 'rm -rf "$data"' EXIT
if [ $# -ge 2 ]; then
    "$1" --export "$data" --lam "$2"
else
    "$1" --export "$data"
fi
if command -v go >/dev/null 2>&1; then
    (cd "$here/peer" && go build -o "$data/peer" . && "$data/peer" "$data")
else
    echo
    echo "go is not on the PATH: the Go library is not measured beside it."
fi
