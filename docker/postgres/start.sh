#!/bin/sh
# PostgreSQL refuses a private key that anybody else may read, and a mounted secret keeps the mode it has on the host.
# So the key is copied to memory, closed to all but this user, before the image's own entrypoint takes over.
set -eu
install -m 0600 /run/secrets/server.key /run/tls/server.key
exec docker-entrypoint.sh "$@"
