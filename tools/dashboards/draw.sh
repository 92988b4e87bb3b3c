#!/usr/bin/env bash
# Draws docs/img/dashboard-*.png: every panel of every dashboard, in the dashboards' own layout, from the answers of a Prometheus to the
# panels' own queries after the long run of tests/observability. matplotlib is installed into a virtual environment below bin/.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
venv=$root/bin/dashboards-venv
wanted=$root/tools/dashboards/requirements.txt

if ! cmp -s "$wanted" "$venv/installed.txt"; then
  echo "installing matplotlib into bin/dashboards-venv; once ..." >&2
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$wanted"
  cp "$wanted" "$venv/installed.txt"
fi

answers=$root/bin/dashboards.json # kept, for another look
cd "$root"
${GO:-go} test -count=1 -timeout 15m ./tests/observability -run '^TestEveryQueryAnswers$' -pictures "$answers"
"$venv/bin/python" tools/dashboards/draw.py "$answers" docs/img
