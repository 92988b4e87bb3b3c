#!/usr/bin/env bash
# Builds the peers into bin/peers: the Go program, the engines' artifacts from Maven, the classes. What is there already
# and not older than its sources stays.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
here=$root/bench/peers
out=$root/bin/peers

"$root/tools/need.sh" mvn maven
"$root/tools/need.sh" javac default-jdk-headless
mkdir -p "$out"
(cd "$here/go" && "$root/tools/build.sh" bin/peers/peers "${GO:-go}" build -v -trimpath -o "$out/peers" .)

for engine in flink:FlinkPeer jet:JetPeer kstreams:KStreamsPeer; do
  name=${engine%%:*} class=${engine##*:}
  if [[ ! -e $out/lib/$name/.resolved || $here/java/$name/pom.xml -nt $out/lib/$name/.resolved ]]; then
    echo "resolving the artifacts of $name into bin/peers/lib; once ..." >&2
    rm -rf "$out/lib/$name"
    mvn -B -q -Dstyle.color=never -f "$here/java/$name/pom.xml" dependency:copy-dependencies -DincludeScope=runtime \
      -DoutputDirectory="$out/lib/$name" >&2
    touch "$out/lib/$name/.resolved"
  fi
  # Classes are few, and compiled anew every time.
  rm -rf "$out/classes/$name"
  mkdir -p "$out/classes/$name"
  javac -Xlint:unchecked -d "$out/classes/$name" -cp "$out/lib/$name/*" "$here/java/Peer.java" "$here/java/$name/$class.java"
done

venv=$out/venv
if ! cmp -s "$here/requirements.txt" "$venv/installed.txt"; then
  echo "installing matplotlib into bin/peers/venv; once ..." >&2
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
  cp "$here/requirements.txt" "$venv/installed.txt"
fi
