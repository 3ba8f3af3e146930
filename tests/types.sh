#!/usr/bin/env bash
# mypy on each project and its tests, with that project's environment. Arguments: folders of projects.
set -u
cd "$(dirname "$0")/.."
top=$PWD code=0
check() {  # name, python, folder to run in, what to check…
  local name=$1 python=$2 folder=$3
  shift 3
  echo "mypy $name"
  (cd "$folder" && "$top/tests/.venv/bin/mypy" --config-file "$top/.mypy.ini" --cache-dir "$top/.mypy_cache/${name//\//-}" \
    --python-executable "$python" "$@") || code=1
}
for project in "$@"; do
  name=$(basename "$project")
  package=$(basename "$(ls -d "$project"/luthier_* | grep -v egg-info | head -1)")
  check "$name" "$top/$project/.venv/bin/python" "$project" "$package"
  tests=("tests/$name")
  case $name in
    kit) tests+=(tests/contracts tests/support) ;;
    pipeline) tests+=(tests/operations) ;;
  esac
  [ -d "tests/$name" ] && check "tests of $name" "$top/$project/.venv/bin/python" . "${tests[@]}"
done
check "tests of the whole" "$top/tests/.venv/bin/python" . tests/system.py tests/chart tests/images tests/cluster tests/e2e tests/faults tests/docs tests/bench/readability.py
exit $code
