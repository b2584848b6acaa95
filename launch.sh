#!/usr/bin/env bash
# ./launch.sh run [flags]     the study:         experiments/run.py
# ./launch.sh classify ...    the classifier:    experiments/classify.py
# ./launch.sh predict ...     one sound:         experiments/predict.py
# ./launch.sh bench [flags]   measure:           experiments/benchmark.py
# ./launch.sh test [flags]    the tests:         pytest
# ./launch.sh python ...      anything else in the project's environment
#
# The first call makes .venv from requirements.txt; a changed requirements.txt is installed again.
# PYTHON=python3.12 ./launch.sh ... chooses the interpreter.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv="$root/.venv"

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python}; do
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "launch.sh: no Python 3.11 or newer with venv found; set PYTHON=/path/to/python3.11" >&2
  return 1
}

# The extra that fits the NVIDIA driver, or nothing.
cuda_extra() {
  local driver
  driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1) || return 0
  case "${driver%%.*}" in
    '' | *[!0-9]*) ;;
    *) if [ "${driver%%.*}" -ge 580 ]; then echo cuda13; elif [ "${driver%%.*}" -ge 525 ]; then echo cuda12; fi ;;
  esac
}

set_up() {
  local extra stamp python
  extra=$(cuda_extra)
  stamp="$(cd "$root" && cksum requirements.txt pyproject.toml) $extra"
  [ "$(cat "$venv/stamp" 2>/dev/null)" = "$stamp" ] && return
  python=$(find_python)
  echo "launch.sh: setting up .venv with $("$python" --version) (once; about 1.2 GB)" >&2
  [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    -r "$root/requirements.txt" -e "$root${extra:+[$extra]}"
  if [ -n "$extra" ]; then
    echo "launch.sh: NVIDIA driver found, JAX installed with $extra" >&2
  fi
  echo "$stamp" > "$venv/stamp"
}

usage() {
  sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
}

command=${1:-help}
[ $# -gt 0 ] && shift
case "$command" in
  run | classify | predict) program=("$root/experiments/$command.py") ;;
  bench) program=("$root/experiments/benchmark.py") ;;
  test) cd "$root" && program=(-m pytest -n 2 --dist loadfile --no-loadscope-reorder) ;;
  python) program=() ;;
  help | -h | --help) usage; exit ;;
  *) echo "launch.sh: unknown command '$command'" >&2; usage >&2; exit 2 ;;
esac
set_up
exec "$venv/bin/python" ${program[@]+"${program[@]}"} "$@"
