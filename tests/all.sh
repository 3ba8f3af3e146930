#!/usr/bin/env bash
# Runs each project's unit tests in its own environment, then the suites that need more than one service. Goes on after a failure;
# exits 1 when any suite failed. Arguments: names of projects.
set -u
cd "$(dirname "$0")/.."
failed=()
run() {  # name, environment, paths…
  local name=$1 python=$2/.venv/bin/python
  shift 2
  echo "== $name"
  "$python" -m pytest --rootdir tests -c tests/pyproject.toml -q "$@"
  local code=$?
  [ $code -eq 0 ] || [ $code -eq 5 ] || failed+=("$name")
}
for name in "$@"; do
  case $name in
    local) home=deploy/local ;;
    *) home=services/$name ;;
  esac
  [ -d "tests/$name" ] && run "$name" "$home" "tests/$name"
done
[ ${#failed[@]} -eq 0 ] || echo "FAILED so far: ${failed[*]}"
run "contracts of the store" services/kit tests/contracts
[ ${#failed[@]} -eq 0 ] || echo "FAILED so far: ${failed[*]}"
run "operations" services/pipeline tests/operations
[ ${#failed[@]} -eq 0 ] || echo "FAILED so far: ${failed[*]}"
run "chart, images and documents" tests tests/chart tests/images tests/docs
[ ${#failed[@]} -eq 0 ] || echo "FAILED so far: ${failed[*]}"
run "end to end" tests tests/e2e tests/faults
[ ${#failed[@]} -eq 0 ]
