#!/usr/bin/env bash
# tools/build.sh WHAT COMMAND... runs a `go build -v` and says while it runs how many packages it has compiled, which is the
# latest, and for how long: the first build on a busy machine takes minutes. What is built already says nothing. Everything
# else that the command prints, which is why it failed, is passed on.
set -euo pipefail

what=$1
shift
every=${MILLRACE_BUILD_EVERY:-10} # seconds between two lines
compiled=0 latest='' next=$every

elapsed() {
  if ((SECONDS < 60)); then echo "$SECONDS s"; else echo "$((SECONDS / 60)) min $((SECONDS % 60)) s"; fi
}

# A package is a path alone on its line; "go: downloading ..." counts as work, too.
report() {
  local line status
  while true; do
    status=0
    IFS= read -r -t 1 line || status=$?
    if ((status == 0)); then
      if [[ $line =~ ^[A-Za-z0-9_.~/@+-]+$ ]]; then
        compiled=$((compiled + 1)) latest=$line
      elif [[ $line == "go: downloading "* ]]; then
        latest=${line#go: }
      else
        echo "$line" >&2
      fi
    elif ((status <= 128)); then # the end, not a second without a line
      break
    fi
    if ((SECONDS >= next)); then
      echo "building $what: $compiled packages compiled, latest ${latest:-none}, $(elapsed)" >&2
      next=$((SECONDS + every))
    fi
  done
  if ((next > every)); then echo "building $what took $(elapsed)" >&2; fi
}

"$@" 2>&1 | report
