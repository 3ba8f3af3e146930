#!/usr/bin/env bash
# mypy on each project and its tests, with that project's environment, a check per core at a time. Arguments: folders of projects.
set -u
cd "$(dirname "$0")/.."
top=$PWD
export top
check() {  # name, python, folder to run in, what to check…
  local name=$1 python=$2 folder=$3 said code
  shift 3
  said=$(cd "$folder" && "$top/tests/.venv/bin/mypy" --config-file "$top/.mypy.ini" --cache-dir "$top/.mypy_cache/${name//\//-}" \
    --python-executable "$python" "$@" 2>&1)
  code=$?
  printf 'mypy %s\n%s\n' "$name" "$said"
  return $code
}
export -f check
checks() {  # a line per check: its arguments
  for project in "$@"; do
    name=$(basename "$project")
    package=$(basename "$(ls -d "$project"/luthier_* | grep -v egg-info | head -1)")
    echo "$name $top/$project/.venv/bin/python $project $package"
    tests="tests/$name"
    case $name in
      kit) tests+=" tests/contracts tests/support" ;;
      pipeline) tests+=" tests/operations" ;;
    esac
    [ -d "tests/$name" ] && echo "tests-of-$name $top/$project/.venv/bin/python . $tests"
  done
  echo "tests-of-the-whole $top/tests/.venv/bin/python . tests/system.py tests/chart tests/images tests/cluster tests/e2e tests/faults tests/docs tests/bench/readability.py tests/bench/variations.py"
}
checks "$@" | xargs -P "$(nproc)" -I{} bash -c 'check {}'
