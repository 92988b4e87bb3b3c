#!/usr/bin/env bash
# Archives windows and has DuckDB and pandas read them. Both are installed into a virtual environment below bin/; where they
# cannot be had, this fails: a comparison that did not take place has not passed.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
venv=$root/bin/parquet-venv
wanted=$root/tests/parquet/requirements.txt

if ! cmp -s "$wanted" "$venv/installed.txt"; then
  echo "installing duckdb, pandas and pyarrow into bin/parquet-venv; once ..." >&2
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$wanted"
  cp "$wanted" "$venv/installed.txt"
fi

directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
cd "$root"
${GO:-go} run ./tests/parquet "$directory"
"$venv/bin/python" tests/parquet/compare.py "$directory"
