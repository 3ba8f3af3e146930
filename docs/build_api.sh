#!/usr/bin/env bash
# Generates the API reference from the contracts: docs/api/index.html. `make docs` brings the environment and calls this.
set -eu
cd "$(dirname "$0")"
out=$PWD/api tools=$PWD/.venv/bin work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# google/rpc/status.proto lies in a Python package: buf gets it from there and fetches nothing
google=$("$tools/python" -c 'import google.rpc; print(list(google.rpc.__path__)[0])')
cp -r ../protos/luthier ../protos/buf.yaml ../protos/README.md sabledocs.toml "$work"
mkdir -p "$work/google/rpc" && cp "$google/status.proto" "$work/google/rpc/"

cd "$work"
"$tools/buf" build --output descriptor.binpb
"$tools/sabledocs" >log || { cat log; exit 1; }

# the pages are read from a disk: nothing of them may ask a server of fonts or styles, and there is no address of the source
sed -i '/static\/fontawesome\.js/d' sabledocs_output/*.html
sed -i 's/@import "https:[^;]*;//' sabledocs_output/static/mystyles.css
echo 'a[href=""] { display: none }' >>sabledocs_output/static/mystyles.css
rm sabledocs_output/static/fontawesome.js

rm -rf "$out" && mv sabledocs_output "$out"
echo "API reference: docs/api/index.html"
