#!/bin/sh
# Starts PostgreSQL. The first start creates the user POSTGRES_USER and the database POSTGRES_DB (default of both: luthier)
# with the password in the file POSTGRES_PASSWORD_FILE. Arguments are passed to the server.
set -eu
data=/var/lib/postgresql/data
user=${POSTGRES_USER:-luthier}
database=${POSTGRES_DB:-luthier}

if [ ! -d "$data" ]; then
  : "${POSTGRES_PASSWORD_FILE:?must be a file with the password of $user}"
  [ -s "$POSTGRES_PASSWORD_FILE" ] || { echo "POSTGRES_PASSWORD_FILE: $POSTGRES_PASSWORD_FILE is empty or missing" >&2; exit 2; }
  rm -rf "$data.new" # left by a first start that was interrupted
  initdb --pgdata="$data.new" --username="$user" --pwfile="$POSTGRES_PASSWORD_FILE" --auth=scram-sha-256 \
    --encoding=UTF8 --locale=C.UTF-8
  echo "host all all all scram-sha-256" >>"$data.new/pg_hba.conf"
  if [ "$database" != postgres ]; then
    echo "CREATE DATABASE \"$database\"" | postgres --single -D "$data.new" postgres
  fi
  mv "$data.new" "$data"
fi
chmod 0700 "$data" # fsGroup makes a volume's folders group-writable, which the server refuses
exec postgres -D "$data" -c listen_addresses='*' -c unix_socket_directories=/tmp "$@"
