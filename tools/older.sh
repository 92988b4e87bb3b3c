#!/usr/bin/env bash
# tools/older.sh COMMIT DIR builds millrace and worker of an older commit into DIR, from the repository's
# history. What is there already is not built again.
set -euo pipefail

commit=$(git rev-parse --verify --quiet "$1^{commit}") || {
  echo "older: the repository's history has no commit $1; fetch it, for example with: git fetch --unshallow" >&2
  exit 2
}
mkdir -p "$2"
dir=$(cd "$2" && pwd)
if [[ -e $dir/commit && $(<"$dir/commit") == "$commit" ]]; then exit; fi
source=$(mktemp -d)
trap 'rm -rf "$source"' EXIT
git archive "$commit" | tar -x -C "$source"
build=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/build.sh
version=$(git rev-parse --short "$commit")
cd "$source"
for program in millrace:starter worker:worker; do
  "$build" "$dir/${program%:*} of $version" "${GO:-go}" build -v -trimpath \
    -ldflags "-X millrace/internal/build.version=$version" -o "$dir/${program%:*}" "./${program#*:}"
done
echo "$commit" >"$dir/commit"
