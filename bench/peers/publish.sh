#!/usr/bin/env bash
# usage: bench/peers/publish.sh [RESULTS]     puts table and plots of a run into docs/performance.md and docs/img
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"
results=${1:-${PEERS_RESULTS:-$(ls -td bench/peers/results/*/ 2>/dev/null | head -n 1)}}
if [[ ! -r $results/runs.jsonl ]]; then
  echo "publish: no runs in '$results': run make bench-peers first, or name a directory of results" >&2
  exit 1
fi
bin/peers/venv/bin/python bench/peers/plot.py "$results/runs.jsonl" docs/img
python3 bench/peers/table.py "$results/runs.jsonl" --into docs/performance.md
