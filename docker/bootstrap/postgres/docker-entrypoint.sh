#!/usr/bin/env bash
# Makes a database cluster at the first start, then becomes the server. Variables, places and order are those of the
# official image. Scripts that are sourced see this shell's options, so these are as plain as there.
set -Eeo pipefail

fail() {
  printf '%s\n' "$@" >&2
  exit 1
}

# NAME or the content of the file that NAME_FILE names, or else a default.
take() {
  local name=$1 file="${1}_FILE" default=${2:-}
  if [[ -n ${!name:-} && -n ${!file:-} ]]; then
    fail "error: both $name and $file are set (but are exclusive)"
  fi
  local value=${!name:-$default}
  if [[ -n ${!file:-} ]]; then
    value=$(<"${!file}")
  fi
  export "$name=$value"
  unset "$file"
}

is_server_start() {
  [[ ${1:-} == postgres ]] || return 1
  local word
  for word in "$@"; do # these print something and end
    case "$word" in -\? | --help | --describe-config | -V | --version) return 1 ;; esac
  done
}

own_directories() {
  mkdir -p "$PGDATA" /var/run/postgresql
  chmod 00700 "$PGDATA" || true
  chmod 03775 /var/run/postgresql || true
  if [[ -n ${POSTGRES_INITDB_WALDIR:-} ]]; then
    mkdir -p "$POSTGRES_INITDB_WALDIR"
    chmod 700 "$POSTGRES_INITDB_WALDIR"
  fi
  if [[ $(id -u) == 0 ]]; then
    find "$PGDATA" ${POSTGRES_INITDB_WALDIR:+"$POSTGRES_INITDB_WALDIR"} \! -user postgres -exec chown postgres '{}' +
    find /var/run/postgresql \! -user postgres -exec chown postgres '{}' +
  fi
}

check_settings() {
  if [[ -z $POSTGRES_PASSWORD && $POSTGRES_HOST_AUTH_METHOD != trust ]]; then
    fail "Error: Database is uninitialized and superuser password is not specified." \
      "       Set POSTGRES_PASSWORD (or POSTGRES_PASSWORD_FILE) to a non-empty value for the superuser," \
      "       for example \"-e POSTGRES_PASSWORD=password\" on \"docker run\"." \
      "" \
      "       POSTGRES_HOST_AUTH_METHOD=trust allows every connection without a password; do not use it" \
      "       where anybody else can reach the server."
  fi
  if [[ $POSTGRES_HOST_AUTH_METHOD == trust ]]; then
    echo "warning: POSTGRES_HOST_AUTH_METHOD is trust: anybody who reaches this port is superuser" >&2
  fi
}

make_cluster() {
  local arguments=(--pgdata="$PGDATA" --username="$POSTGRES_USER")
  if [[ -n ${POSTGRES_INITDB_WALDIR:-} ]]; then
    arguments+=(--waldir="$POSTGRES_INITDB_WALDIR")
  fi
  if ! getent passwd "$(id -u)" >/dev/null; then # initdb insists on a name for whoever runs it
    local wrapper
    for wrapper in /usr/lib/*/libnss_wrapper.so; do
      NSS_WRAPPER_PASSWD=$(mktemp)
      NSS_WRAPPER_GROUP=$(mktemp)
      echo "postgres:x:$(id -u):$(id -g):PostgreSQL:$PGDATA:/bin/false" >"$NSS_WRAPPER_PASSWD"
      echo "postgres:x:$(id -g):" >"$NSS_WRAPPER_GROUP"
      export LD_PRELOAD=$wrapper NSS_WRAPPER_PASSWD NSS_WRAPPER_GROUP
      break
    done
  fi
  # POSTGRES_INITDB_ARGS is one variable for several arguments, quoted as a shell would.
  eval 'initdb "${arguments[@]}" --pwfile=<(printf "%s\n" "$POSTGRES_PASSWORD") '"${POSTGRES_INITDB_ARGS:-}"
  if [[ -n ${NSS_WRAPPER_PASSWD:-} ]]; then
    rm -f "$NSS_WRAPPER_PASSWD" "$NSS_WRAPPER_GROUP"
    unset LD_PRELOAD NSS_WRAPPER_PASSWD NSS_WRAPPER_GROUP
  fi
}

allow_hosts() {
  local method=$POSTGRES_HOST_AUTH_METHOD
  if [[ -z $method ]]; then
    method=$(postgres -C password_encryption -D "$PGDATA")
  fi
  {
    echo
    if [[ $method == trust ]]; then
      echo "# trust: no password is asked for"
    fi
    echo "host all all all $method"
  } >>"$PGDATA/pg_hba.conf"
}

run_psql() {
  PGHOST='' PGHOSTADDR='' psql --set ON_ERROR_STOP=1 --no-psqlrc --username "$POSTGRES_USER" --no-password \
    ${POSTGRES_DB:+--dbname "$POSTGRES_DB"} "$@"
}

# Names that scripts for the official image may call.
docker_process_sql() { run_psql "$@"; }

make_database() {
  local known
  known=$(POSTGRES_DB='' run_psql --dbname postgres --set db="$POSTGRES_DB" --tuples-only \
    <<<"SELECT 1 FROM pg_database WHERE datname = :'db';")
  if [[ -z $known ]]; then
    POSTGRES_DB='' run_psql --dbname postgres --set db="$POSTGRES_DB" <<<'CREATE DATABASE :"db";'
  fi
}

run_scripts() {
  local script
  for script in /docker-entrypoint-initdb.d/*; do
    [[ -e $script ]] || continue # none: the pattern itself
    case "$script" in
      *.sh)
        if [[ -x $script ]]; then
          echo "$0: running $script"
          "$script"
        else
          echo "$0: sourcing $script"
          # shellcheck source=/dev/null
          . "$script"
        fi
        ;;
      *.sql) echo "$0: running $script" && run_psql --file "$script" ;;
      *.sql.gz) echo "$0: running $script" && gunzip --stdout "$script" | run_psql ;;
      *.sql.xz) echo "$0: running $script" && xzcat "$script" | run_psql ;;
      *.sql.zst) echo "$0: running $script" && zstd --decompress --stdout "$script" | run_psql ;;
      *) echo "$0: ignoring $script" ;;
    esac
    echo
  done
}

# Reached over its socket alone: nobody else sees the cluster before the scripts are through.
with_temporary_server() {
  shift # the word postgres
  PGUSER=${PGUSER:-$POSTGRES_USER} pg_ctl --pgdata="$PGDATA" --wait --options \
    "$(printf '%q ' "$@" -c listen_addresses='' -p "${PGPORT:-5432}")" start
  make_database
  run_scripts
  PGUSER=${PGUSER:-postgres} pg_ctl --pgdata="$PGDATA" --mode=fast --wait stop
}

if [[ ${1:-} == -* ]]; then
  set -- postgres "$@"
fi

if is_server_start "$@"; then
  own_directories
  if [[ $(id -u) == 0 ]]; then
    exec setpriv --reuid=postgres --regid=postgres --init-groups env HOME=/var/lib/postgresql USER=postgres \
      "$BASH_SOURCE" "$@"
  fi

  take POSTGRES_PASSWORD
  take POSTGRES_USER postgres
  take POSTGRES_DB "$POSTGRES_USER"
  take POSTGRES_INITDB_ARGS

  if [[ -s $PGDATA/PG_VERSION ]]; then
    printf '\n%s\n\n' "PostgreSQL Database directory appears to contain a database; Skipping initialization"
  else
    check_settings
    ls /docker-entrypoint-initdb.d/ >/dev/null # unreadable scripts are found before there is a cluster
    make_cluster
    allow_hosts
    export PGPASSWORD=$POSTGRES_PASSWORD
    with_temporary_server "$@"
    unset PGPASSWORD
    printf '\n%s\n\n' "PostgreSQL init process complete; ready for start up."
  fi
fi

exec "$@"
