#!/bin/sh
# Runs in image builds: installs the lock of the project in $1 into /app/.venv and removes nothing (--inexact). Further
# arguments go to `uv sync`. Everything is byte-compiled, since the file system is read-only at run time.
set -eu
project=$1
shift
export UV_PROJECT_ENVIRONMENT=/app/.venv UV_PYTHON=/usr/local/bin/python UV_PYTHON_DOWNLOADS=never
export UV_COMPILE_BYTECODE=1 UV_CACHE_DIR=/var/cache/uv UV_NO_PROGRESS=1
export UV_LINK_MODE=copy # the cache is another file system
exec /tools/bin/uv sync --project "$project" --frozen --no-dev --no-editable --inexact "$@"
