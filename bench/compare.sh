#!/usr/bin/env bash
# Measures two builds of millrace in turns, on the same records and on the real servers of tools/servers.sh, which stay up.
# The same directory twice shows the noise.
#
#   bench/compare.sh BASE_BIN_DIR NEW_BIN_DIR [--rounds N] [--workloads NAME,...] [--out FILE]
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if (($# < 2)) || [[ ! -x $1/millrace || ! -x $2/millrace ]]; then
  sed -n '2,5s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
  exit 2
fi
base=$(cd "$1" && pwd) new=$(cd "$2" && pwd)
shift 2
cd "$root"
export MILLRACE_SERVERS_DIR=${MILLRACE_SERVERS_DIR:-$root/.servers}
for server in redis kafka; do tools/servers.sh start "$server"; done
variables=$(tools/servers.sh env)
eval "$variables"
exec "${GO:-go}" run ./bench/compare "$@" "$base/millrace" "$new/millrace"
