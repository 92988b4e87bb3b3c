#!/usr/bin/env bash
# tools/vuln.sh DATABASE looks for known vulnerabilities that the code can reach. It ends with 0 when there is none, with 3 when there
# are some, and with 1 when nothing can be said, in one line when that is because the database does not answer.
set -uo pipefail

said=$(bin/govulncheck -db "$1" ./... 2>&1)
status=$?
# govulncheck finds the format of a database unrecognized also where nobody answers.
if ((status == 1)) && [[ $said == *"fetching vulnerabilities"* || $said == *"unrecognized vulndb format"* ]]; then
  echo "vuln: nothing was looked up, the database at $1 does not answer, or is none; name a mirror: make vuln VULN_DB=URL" >&2
  exit 1
fi
echo "$said"
exit "$status"
