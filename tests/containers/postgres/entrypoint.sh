#!/usr/bin/env bash
# What the official image does with POSTGRES_USER, POSTGRES_PASSWORD and POSTGRES_DB.
set -euo pipefail
as_postgres() { setpriv --reuid=postgres --regid=postgres --init-groups -- "$@"; }
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  install --directory --owner=postgres --mode=0700 "$PGDATA"
  install --owner=postgres --mode=0600 <(echo "$POSTGRES_PASSWORD") /tmp/password
  as_postgres initdb --username="$POSTGRES_USER" --pwfile=/tmp/password --auth-host=scram-sha-256 > /dev/null
  rm /tmp/password
  echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
  as_postgres pg_ctl --wait --options="-c listen_addresses=''" start > /dev/null
  as_postgres createdb --username="$POSTGRES_USER" "$POSTGRES_DB" 2> /dev/null || true
  as_postgres pg_ctl --wait stop > /dev/null
fi
exec setpriv --reuid=postgres --regid=postgres --init-groups -- postgres -c listen_addresses='*'
