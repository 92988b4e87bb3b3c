#!/usr/bin/env bash
# Real servers on loopback, without Docker: redis-server, Apache Kafka 4 (KRaft) from its Maven artifacts and Temporal's
# development server. State, logs and pid files are in .servers/; ports can be changed by the variables below.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
state=${MILLRACE_SERVERS_DIR:-$root/.servers}
kafka_port=${MILLRACE_SERVERS_KAFKA_PORT:-39092}
controller_port=${MILLRACE_SERVERS_KAFKA_CONTROLLER_PORT:-39093}
redis_port=${MILLRACE_SERVERS_REDIS_PORT:-36379}
temporal_port=${MILLRACE_SERVERS_TEMPORAL_PORT:-37233}
ui_port=${MILLRACE_SERVERS_TEMPORAL_UI_PORT:-38233}
namespace=${MILLRACE_SERVERS_NAMESPACE:-default}
heap=${MILLRACE_SERVERS_KAFKA_HEAP:-512m}
patience=90 # seconds until a server must answer, or be gone

usage() {
  cat <<EOF
usage: tools/servers.sh COMMAND
  up              install what is missing (as root), start all servers, wait until they answer; print their variables
  down            stop them; their data stays
  clean           stop them and delete their data
  status          say what runs
  env             print the variables that point millrace at them:  eval "\$(tools/servers.sh env)"
  start|stop|restart|kill SERVER    one of: redis kafka temporal (kill = kill -9)
  kafka-libs      print the directory of Apache Kafka's artifacts, resolved if need be
  flush-redis     delete everything in Redis, as an operator's mistake would
EOF
}

say() { echo "servers: $*" >&2; }
die() { say "$*"; exit 1; }

# running SERVER prints its pid, if the process that was started here runs. A pid file left by a crash may name somebody
# else's process by now: when the process began, and for which port, are written beside the pid.
running() {
  local pid began port
  [[ -r $state/$1/pid ]] || return 1
  read -r pid port began <"$state/$1/pid" || return 1
  kill -0 "$pid" 2>/dev/null || return 1
  [[ -n $began && $(began_at "$pid") == "$began" ]] || return 1
  echo "$pid"
}

# began_at PID prints when the process began, in a form that only serves to compare.
began_at() {
  if [[ -r /proc/$1/stat ]]; then
    # Ticks since the machine came up, behind the name in parentheses, which may hold anything.
    echo "$(cut -c1-8 /proc/sys/kernel/random/boot_id)-$(sed 's/.*) //' "/proc/$1/stat" | cut -d' ' -f20)"
  else
    ps -o lstart= -p "$1" | tr -s ' ' '-'
  fi
}

port_of() {
  case $1 in
    redis) echo "$redis_port" ;;
    kafka) echo "$kafka_port" ;;
    temporal) echo "$temporal_port" ;;
  esac
}

# listens PORT succeeds if anything accepts connections there.
listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# ours SERVER succeeds if what answers on the server's port is the process that was started here. Redis says where it keeps
# its data; the others hold a lock on theirs, so that while their process runs nobody else can serve it.
ours() {
  running "$1" >/dev/null || return 1
  [[ $1 != redis ]] || [[ $(redis_dir) == "$(cd "$state/redis" && pwd -P)" ]]
}

# same_port SERVER ends the script when the server that runs was started for another port: a second one on its data would
# destroy them.
same_port() {
  local pid port began
  read -r pid port began <"$state/$1/pid"
  [[ $port == "$(port_of "$1")" ]] ||
    die "$1 of $state listens on port $port, not on $(port_of "$1"): stop it first, or leave $(port_variable "$1") out"
}

# redis_dir prints the directory of the Redis on our port. A question changes nothing, whosever it is.
redis_dir() { redis-cli -h 127.0.0.1 -p "$redis_port" --raw config get dir 2>/dev/null | sed -n 2p; }

# must_be_ours SERVER ends the script when something else answers on the server's port: it is left alone.
must_be_ours() {
  ours "$1" || die "what answers on port $(port_of "$1") is not the $1 that was started here; it is left alone." \
    "Stop it, or choose another port with $(port_variable "$1")"
}

port_variable() { echo "MILLRACE_SERVERS_$(tr '[:lower:]' '[:upper:]' <<<"$1")_PORT"; }

# spawn SERVER COMMAND... starts a server in a session of its own, so that a Ctrl-C here does not reach it.
spawn() {
  local server=$1
  shift
  mkdir -p "$state/$server"
  if command -v setsid >/dev/null; then set -- setsid "$@"; else set -- nohup "$@"; fi
  "$@" >>"$state/$server/log" 2>&1 </dev/null &
  echo "$! $(port_of "$server") $(began_at $!)" >"$state/$server/pid"
}

# await SERVER waits until the server answers and fails with the end of its log if it does not.
await() {
  local deadline=$((SECONDS + patience))
  until ready "$1" >/dev/null 2>&1; do
    if ! running "$1" >/dev/null || ((SECONDS > deadline)); then
      tail -n 20 "$state/$1/log" >&2 || true
      die "$1 did not start; its log is $state/$1/log"
    fi
    sleep 0.2
  done
  must_be_ours "$1"
}

ready() {
  case $1 in
    redis) [[ $(redis-cli -h 127.0.0.1 -p "$redis_port" ping) == PONG ]] ;;
    # No pipe: grep ends at its match, and of a long log tail would then be killed while it writes, which fails a pipe.
    kafka) grep -q 'Kafka Server started' <(tail -n +"$(($(cat "$state/kafka/log-start") + 1))" "$state/kafka/log") ;;
    temporal) "$root/bin/temporal" operator namespace describe --address "127.0.0.1:$temporal_port" \
      --namespace "$namespace" --command-timeout 5s ;;
  esac
}

need() { "$root/tools/need.sh" "$@"; }

start_redis() {
  need redis-server redis-server
  mkdir -p "$state/redis"
  spawn redis redis-server --bind 127.0.0.1 --port "$redis_port" --dir "$state/redis" --protected-mode yes \
    --appendonly yes --appendfsync everysec --maxmemory-policy noeviction --save '' --daemonize no
}

java_is_recent() {
  local version
  version=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p') || return 1
  [[ -n $version && $version -ge 17 ]]
}

# The artifacts are resolved once, and again when the pom has changed.
resolve_kafka() {
  [[ -e $state/kafka/libs/.resolved && ! $root/tools/kafka/pom.xml -nt $state/kafka/libs/.resolved ]] && return
  need mvn maven
  say "resolving Apache Kafka's artifacts"
  rm -rf "$state/kafka/libs"
  mvn -B -q -f "$root/tools/kafka/pom.xml" dependency:copy-dependencies -DincludeScope=runtime \
    -DoutputDirectory="$state/kafka/libs" >&2
  touch "$state/kafka/libs/.resolved"
}

kafka_java() {
  java "-Xmx$heap" "-Dlog4j2.configurationFile=$root/tools/kafka/log4j2.properties" -cp "$state/kafka/libs/*" "$@"
}

start_kafka() {
  need java default-jre-headless
  java_is_recent || die "Apache Kafka 4 needs Java 17 or newer on PATH"
  mkdir -p "$state/kafka"
  resolve_kafka
  cat >"$state/kafka/server.properties" <<EOF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller_port
listeners=PLAINTEXT://127.0.0.1:$kafka_port,CONTROLLER://127.0.0.1:$controller_port
advertised.listeners=PLAINTEXT://127.0.0.1:$kafka_port
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$state/kafka/data
auto.create.topics.enable=false
num.partitions=4
default.replication.factor=1
# One broker cannot keep three copies.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=8
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# Tests do not want to wait for members that never come, and lose some on purpose.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
# Retention goes by the records' own timestamps: a replay of old data would vanish within minutes.
log.retention.ms=-1
log.segment.bytes=134217728
num.network.threads=2
num.io.threads=4
EOF
  if [[ ! -e $state/kafka/data/meta.properties ]]; then
    kafka_java kafka.tools.StorageTool format --cluster-id "$(head -c 16 /dev/urandom | base64 | tr '+/' 'ab' | cut -c1-22)" \
      --config "$state/kafka/server.properties" >>"$state/kafka/log" 2>&1 ||
      { tail -n 20 "$state/kafka/log" >&2; die "formatting Kafka's storage failed"; }
  fi
  (wc -l <"$state/kafka/log" 2>/dev/null || echo 0) >"$state/kafka/log-start"
  spawn kafka java "-Xmx$heap" "-Xms$heap" -XX:+UseG1GC "-Dlog4j2.configurationFile=$root/tools/kafka/log4j2.properties" \
    -cp "$state/kafka/libs/*" kafka.Kafka "$state/kafka/server.properties"
}

start_temporal() {
  [[ -x $root/bin/temporal ]] || make -C "$root" --no-print-directory bin/temporal >&2
  mkdir -p "$state/temporal"
  spawn temporal env -u TEMPORAL_ADDRESS -u TEMPORAL_NAMESPACE "$root/bin/temporal" server start-dev --ip 127.0.0.1 \
    --port "$temporal_port" --ui-port "$ui_port" --namespace "$namespace" --db-filename "$state/temporal/temporal.db" \
    --sqlite-pragma journal_mode=wal --sqlite-pragma synchronous=1 --log-level warn
}

finish_temporal() {
  "$root/bin/temporal" operator namespace update --address "127.0.0.1:$temporal_port" --namespace "$namespace" \
    --retention 30d >/dev/null
}

start() {
  if running "$1" >/dev/null; then
    same_port "$1"
    return
  fi
  if listens "$(port_of "$1")"; then must_be_ours "$1"; fi
  say "starting $1"
  "start_$1"
}

settle() {
  await "$1"
  if [[ $1 == temporal ]]; then finish_temporal; fi
}

# stop SERVER [SIGNAL] returns when the server is gone.
stop() {
  local pid deadline=$((SECONDS + patience))
  pid=$(running "$1") || return 0
  say "stopping $1"
  kill "-${2:-TERM}" "$pid"
  while running "$1" >/dev/null; do
    if ((SECONDS > deadline)); then
      say "$1 does not stop; killing it"
      kill -KILL "$pid" || true
    fi
    sleep 0.1
  done
  rm -f "$state/$1/pid"
}

print_env() {
  cat <<EOF
export MILLRACE_KAFKA_BROKERS=127.0.0.1:$kafka_port
export MILLRACE_REDIS_ADDRS=127.0.0.1:$redis_port
export TEMPORAL_ADDRESS=127.0.0.1:$temporal_port
export TEMPORAL_NAMESPACE=$namespace
EOF
}

one_of() {
  case ${1:-} in redis | kafka | temporal) ;; *) usage >&2; exit 2 ;; esac
}

case ${1:-} in
  up)
    for server in redis kafka temporal; do start "$server"; done
    for server in redis kafka temporal; do settle "$server"; done
    say "up; Temporal's UI is at http://127.0.0.1:$ui_port"
    print_env
    ;;
  down) for server in temporal redis kafka; do stop "$server"; done ;;
  clean)
    for server in temporal redis kafka; do stop "$server"; done
    rm -rf "$state/redis" "$state/temporal" "$state/kafka/data" "$state/kafka/log"
    ;;
  status)
    for server in redis kafka temporal; do
      if pid=$(running "$server"); then
        echo "$server runs, pid $pid"
      elif listens "$(port_of "$server")"; then
        echo "$server is down; port $(port_of "$server") is somebody else's"
      else
        echo "$server is down"
      fi
    done
    ;;
  env)
    for server in redis kafka temporal; do
      if listens "$(port_of "$server")"; then must_be_ours "$server"; fi
    done
    print_env
    ;;
  start) one_of "${2:-}"; start "$2"; settle "$2" ;;
  stop) one_of "${2:-}"; stop "$2" ;;
  restart) one_of "${2:-}"; stop "$2"; start "$2"; settle "$2" ;;
  kill) one_of "${2:-}"; stop "$2" KILL ;;
  kafka-libs)
    mkdir -p "$state/kafka"
    resolve_kafka
    echo "$state/kafka/libs"
    ;;
  flush-redis)
    running redis >/dev/null || die "redis is down: start it with tools/servers.sh start redis"
    must_be_ours redis
    redis-cli -h 127.0.0.1 -p "$redis_port" flushall
    ;;
  -h | --help | help) usage ;;
  *) usage >&2; exit 2 ;;
esac
