#!/usr/bin/env bash
# mypy on each project, with that project's environment.
set -u
cd "$(dirname "$0")/.."
top=$PWD code=0
for project in "$@"; do
  package=$(basename "$(ls -d "$project"/luthier_* | grep -v egg-info | head -1)")
  echo "mypy $project"
  (cd "$project" && "$top/tests/.venv/bin/mypy" --config-file "$top/.mypy.ini" --cache-dir "$top/.mypy_cache/$package" \
    --python-executable .venv/bin/python "$package") || code=1
done
exit $code
