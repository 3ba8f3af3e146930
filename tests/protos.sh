#!/usr/bin/env bash
# Contracts: buf lint, and buf breaking against the newest release tag, else against the commit before this one.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
google=$(tests/.venv/bin/python -c 'import google.rpc; print(list(google.rpc.__path__)[0])')

tree() {  # folder: the .proto files there, with google/rpc/status.proto beside them
  mkdir -p "$1/google/rpc" && cp "$google/status.proto" "$1/google/rpc/"
}
mkdir "$work/new" && cp -r protos/luthier protos/buf.yaml "$work/new/" && tree "$work/new"
tests/.venv/bin/buf lint "$work/new" | sed "s#$work/new#protos#"
[ "${PIPESTATUS[0]}" -eq 0 ]

base=$(git describe --tags --abbrev=0 --match 'v*' 2>/dev/null || git rev-parse --quiet --verify HEAD~1 || true)
if [ -z "$base" ] || ! git cat-file -e "$base:protos/buf.yaml" 2>/dev/null; then
  echo "no earlier contracts to compare with"
  exit 0
fi
mkdir "$work/old" && git archive "$base" protos/luthier protos/buf.yaml | tar -x --strip-components=1 -C "$work/old" && tree "$work/old"
tests/.venv/bin/buf breaking "$work/new" --against "$work/old"
echo "contracts are as lint wants them and break nothing since $base"
