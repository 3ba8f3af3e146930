#!/usr/bin/env bash
# mypy on each project, then its tests, with that project's environment, a project per core at a time. Arguments: folders of projects.
set -u
cd "$(dirname "$0")/.."
top=$PWD
export top
check() {  # name, python, then pairs: a folder to run in, and what to check there, its parts joined by commas
  local name=$1 python=$2 folder what said code=0
  shift 2
  while [ $# -gt 0 ]; do
    folder=$1 what=$2
    shift 2
    # one cache: the second finds what both import
    said+=$(cd "$folder" && "$top/tests/.venv/bin/mypy" --config-file "$top/.mypy.ini" --cache-dir "$top/.mypy_cache/$name" \
      --python-executable "$python" ${what//,/ } 2>&1) || code=1
    said+=$'\n'
  done
  printf 'mypy %s\n%s' "$name" "$said"
  return $code
}
export -f check
checks() {  # a line per check: its arguments
  for project in "$@"; do
    name=$(basename "$project")
    package=$(basename "$(ls -d "$project"/luthier_* | grep -v egg-info | head -1)")
    tests="tests/$name"
    case $name in
      kit) tests+=",tests/contracts,tests/support" ;;
      pipeline) tests+=",tests/operations" ;;
    esac
    echo "$name $top/$project/.venv/bin/python $project $package $([ -d "tests/$name" ] && echo ". $tests")"
  done
  echo "the-whole $top/tests/.venv/bin/python . tests/system.py,tests/chart,tests/images,tests/cluster,tests/e2e,tests/faults,tests/docs,tests/bench/readability.py,tests/bench/variations.py"
}
checks "$@" | xargs -P "$(nproc)" -I{} bash -c 'check {}'
