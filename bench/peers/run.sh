#!/usr/bin/env bash
# usage: bench/peers/run.sh     compares Millrace with other engines on the real servers of this checkout; see README.md
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"
bench/peers/build.sh

# Their processor time is read from their processes, so they have to be those that are started here.
variables=$(tools/servers.sh up)
eval "$variables"
commit=$(git describe --tags --always --dirty 2>/dev/null || echo unknown)
results=${PEERS_RESULTS:-bench/peers/results/$commit}
mkdir -p "$results"

python3 bench/peers/compare.py --results "$results" --commit "$commit"
bin/peers/venv/bin/python bench/peers/plot.py "$results/runs.jsonl" "$results"
python3 bench/peers/table.py "$results/runs.jsonl" | tee "$results/table.md"
echo "written to $results: runs.jsonl, table.md, peers-*.png; make bench-peers-docs puts them into docs/" >&2
