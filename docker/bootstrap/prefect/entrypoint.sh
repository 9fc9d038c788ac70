#!/usr/bin/env bash
# Packages that are asked for are installed first. Without a command a shell waits, as in the official image.
set -euo pipefail

if [[ -n ${EXTRA_PIP_PACKAGES:-} ]]; then
  echo "+ pip install $EXTRA_PIP_PACKAGES"
  # shellcheck disable=SC2086 # several packages in one variable
  python -m pip install $EXTRA_PIP_PACKAGES
fi
if [[ $# -eq 0 ]]; then
  exec bash --login
fi
exec "$@"
