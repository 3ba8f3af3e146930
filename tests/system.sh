#!/usr/bin/env bash
# System packages that tests need: brought by apt when root, else named.
set -u
tools=$(cd "$(dirname "$0")/.." && pwd)/.tools/bin
prometheus() {  # unpacked and not installed: Debian's package would start a server of its own
  local folder
  folder=$(mktemp -d) && cd "$folder" || return 1
  { [ "$(id -u)" -ne 0 ] || apt-get update -qq; } && apt-get download -qq prometheus && dpkg-deb -x prometheus_*.deb . \
    && mkdir -p "$tools" && cp usr/bin/prometheus usr/bin/promtool "$tools"
  rm -rf "$folder"
  [ -x "$tools/promtool" ]
}
if ! command -v promtool >/dev/null && [ ! -x "$tools/promtool" ] && command -v apt-get >/dev/null; then
  echo "bringing promtool"
  (prometheus >/dev/null 2>&1) || echo "missing: promtool; the tests of alerts and dashboards are skipped (it comes with Prometheus)"
fi
missing=()
command -v chromium >/dev/null || missing+=(chromium)
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || missing+=(postgresql)
command -v openssl >/dev/null || missing+=(openssl)
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
  echo "installing ${missing[*]}"
  apt-get update -qq >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null \
    && exit 0
fi
echo "missing: ${missing[*]}; the tests that need them are skipped (install them with your package manager)"
