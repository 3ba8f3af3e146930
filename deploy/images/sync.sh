#!/bin/sh
# Runs in image builds: installs the lock of the project in $1 into /app/.venv and removes nothing (--inexact). Further
# arguments go to `uv sync`. With ABSENT=1, or on top of a layer built so, the packages of absent.py are left out.
set -eu
project=$1
shift
export UV_PROJECT_ENVIRONMENT=/app/.venv UV_PYTHON=/usr/local/bin/python UV_PYTHON_DOWNLOADS=never
export UV_CACHE_DIR=/var/cache/uv UV_NO_PROGRESS=1
export UV_LINK_MODE=copy # the cache is another file system
[ -n "${ABSENT:-}" ] && set -- "$@" $(/usr/local/bin/python /tools/bin/absent.py arguments)
/tools/bin/uv sync --project "$project" --frozen --no-dev --no-editable --inexact "$@"
exec /usr/local/bin/python /tools/bin/finish.py /app/.venv
