#!/usr/bin/env bash
# usage: tools/need.sh COMMAND PACKAGE      installs a Debian package, as root, when its command is missing
set -euo pipefail

say() { echo "need: $*" >&2; }

command -v "$1" >/dev/null && exit
if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
  say "$1 is missing: install it (Debian: apt-get install $2) and try again"
  exit 1
fi
say "installing $2"
apt-get update -qq >&2
# RUNLEVEL=1 keeps Debian from starting a server of its own on the usual port.
DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "$2" >&2
