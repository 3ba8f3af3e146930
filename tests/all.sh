#!/usr/bin/env bash
# Runs the end-to-end tests, each project's unit tests in its own environment, then what belongs to no project: LANES suites at a
# time (default 3: a suite often waits), each one's output as a piece when it ends. Goes on after a failure; exits 1 when any suite
# failed. Arguments: names of projects, the longest suites first.
set -um # each suite a process group of its own, to which SIGINT means what it means at a terminal
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'for job in $(jobs -rp); do kill -INT -- "-$job"; done; wait; exit 130' INT TERM
suite() {  # name, environment, paths…
  local name=$1 python=$2/.venv/bin/python output
  shift 2
  output=$(mktemp "$work/output.XXXXXX")
  "$python" -m pytest --rootdir tests -c tests/pyproject.toml -q "$@" >"$output" 2>&1
  local code=$?
  [ $code -eq 0 ] || [ $code -eq 5 ] || echo "$name" >>"$work/failed"
  { flock 9; echo "== $name"; cat "$output"; } 9>"$work/printing"
}
run() {
  while [ "$(jobs -rp | wc -l)" -ge "${LANES:-3}" ]; do wait -n; done
  suite "$@" &
}
told() { [ ! -e "$work/failed" ] || echo "FAILED so far: $(sort "$work/failed" | paste -sd' ')"; }
on_local_ports() {  # one after the other: both want the ports of a local installation
  local interrupted=
  trap interrupted=1 INT
  suite "end to end" tests tests/e2e tests/faults
  case "$interrupted $* " in " "*" local "*) OMP_NUM_THREADS=1 suite local deploy/local tests/local ;; esac
}
on_local_ports "$@" & # begun first: it is among the longest, and what ends last runs alone
export OMP_NUM_THREADS=1 # each suite has a core at most; what services do with threads of their own is seen end to end
for name in "$@"; do
  [ "$name" != local ] && [ -d "tests/$name" ] && run "$name" "services/$name" "tests/$name"
done
run "contracts of the store" services/kit tests/contracts
run "operations" services/pipeline tests/operations
run "chart, images and documents" tests tests/chart tests/images tests/docs
wait
told
[ ! -e "$work/failed" ]
