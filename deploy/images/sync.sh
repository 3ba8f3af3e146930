#!/bin/sh
# Inside an image being built: brings /app/.venv up to date with the lock of the project in $1; adds and never removes.
# Further arguments go to `uv sync`. Everything is byte-compiled, for at run time nobody may write.
set -eu
project=$1
shift
export UV_PROJECT_ENVIRONMENT=/app/.venv UV_PYTHON=/usr/local/bin/python UV_PYTHON_DOWNLOADS=never
export UV_COMPILE_BYTECODE=1 UV_CACHE_DIR=/var/cache/uv UV_NO_PROGRESS=1
export UV_LINK_MODE=copy # the cache is another file system
exec /tools/bin/uv sync --project "$project" --frozen --no-dev --no-editable --inexact "$@"
