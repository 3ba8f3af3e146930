#!/usr/bin/env bash
# Stubs in another language: protos/stubs.sh go|typescript FOLDER, by buf and plugins of this machine (no remote ones).
# Go: a module in FOLDER with messages and gRPC stubs (protoc-gen-go, protoc-gen-go-grpc), which `go build ./...` takes.
# TypeScript: messages and services (@bufbuild/protoc-gen-es), as connect and grpc clients of protobuf-es take them.
set -eu
[ $# -eq 2 ] || { sed -n '2,4s/^# //p' "$0" >&2; exit 2; }
language=$1
mkdir -p "$2"
out=$(cd "$2" && pwd)
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
google=$(tests/.venv/bin/python -c 'import google.rpc; print(list(google.rpc.__path__)[0])')
mkdir -p "$work/protos/google/rpc" && cp -r protos/luthier protos/buf.yaml "$work/protos/"
cp "$google/status.proto" "$work/protos/google/rpc/"
case $language in
  go)
    export GOBIN=$work/bin PATH=$work/bin:$PATH
    go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.11
    go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.0
    ;;
  typescript)
    npm install --silent --no-audit --no-fund --prefix "$work/npm" @bufbuild/protobuf@2.10.0 @bufbuild/protoc-gen-es@2.10.0
    PATH=$work/npm/node_modules/.bin:$PATH
    ;;
  *) echo "no template for $language: go or typescript" >&2; exit 2 ;;
esac
tests/.venv/bin/buf generate "$work/protos" --template "protos/buf.gen.$language.yaml" --path "$work/protos/luthier" --output "$out"
if [ "$language" = go ]; then
  cd "$out" && { [ -e go.mod ] || go mod init luthier; } && go mod tidy
fi
