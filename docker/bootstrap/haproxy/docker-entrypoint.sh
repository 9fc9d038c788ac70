#!/bin/sh
# Bare options belong to haproxy; haproxy itself runs as master and worker, in the foreground.
set -eu

case "${1:-}" in
  -*) set -- haproxy "$@" ;;
esac
if [ "${1:-}" = haproxy ]; then
  shift
  set -- haproxy -W -db "$@"
fi
exec "$@"
