#!/usr/bin/env python3
"""Runs the comparison: for each workload some rounds, in each round every engine once, in turns. See README.md."""

import argparse
import json
import os
import pathlib
import platform
import signal
import subprocess
import sys
import tempfile
import time

import engines
import onerun
import procs

ROUNDS = 2  # of a workload that does not say otherwise


def chosen(variable, all_names):
    """The names that an environment variable lists, separated by commas or blanks; all of them without it."""
    names = os.environ.get(variable, "").replace(",", " ").split()
    for name in names:
        if name not in all_names:
            sys.exit(f"compare: {variable}={name}: choose from {', '.join(all_names)}")
    return names or list(all_names)


def positive(variable):
    text = os.environ.get(variable, "")
    if text and (not text.isdigit() or int(text) < 1):
        sys.exit(f"compare: {variable}={text}: a number from 1")
    return int(text) if text else None


def builds():
    base = os.environ.get("MILLRACE_BASE")
    found = {"millrace": engines.ROOT, "millrace-again": engines.ROOT}
    if base:
        found["millrace-base"] = pathlib.Path(base).resolve()
    for directory in found.values():
        for program in ("worker", "millrace"):
            if not os.access(directory / "bin" / program, os.X_OK):
                sys.exit(f"compare: {directory}/bin/{program} is missing: MILLRACE_BASE names a directory with "
                         "bin/worker and bin/millrace")
    return found


def version_of(directory):
    command = [directory / "bin/millrace", "version"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")[0]


class Results:
    """The file of runs; a run that it has is not made again."""

    def __init__(self, directory):
        self.path = pathlib.Path(directory) / "runs.jsonl"
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        self.known = {self.identity(json.loads(line)) for line in lines}

    @staticmethod
    def identity(run):
        return run["workload"], run["engine"], run["round"]

    def add(self, run):
        self.known.add(self.identity(run))
        with self.path.open("a") as f:
            f.write(json.dumps(run) + "\n")


def plan(workloads, settings):
    """What is to be run: workload, round and engine. Each round begins with another engine: none is always first."""
    names = chosen("ENGINES", engines.ENGINES)
    rounds = positive("ROUNDS")
    steps = []
    for workload in chosen("WORKLOADS", workloads):
        w = workloads[workload]
        fit = [n for n in names if n in w.get("engines", names)]
        fit = [n for n in fit if n in settings.builds or engines.ENGINES[n].kind != "millrace"]
        for r in range(1, (rounds or w.get("rounds", ROUNDS)) + 1):
            turn = (r - 1) % len(fit) if fit else 0
            steps += [(workload, r, e) for e in fit[turn:] + fit[:turn]]
    return steps


def fill(settings, name, topic):
    print(f"filling {topic} ...", flush=True)
    command = [onerun.PEERS, "fill", "--workloads", "bench/peers/workloads.json", "--workload", name,
               "--brokers", settings.servers.kafka, "--topic", topic]
    subprocess.run(command, cwd=engines.ROOT, check=True, stdout=subprocess.DEVNULL)


def summary(run):
    if not run["complete"]:
        return "NOT COMPLETE " + run.get("error", json.dumps(run["verdict"])).strip().replace("\n", " ")[-300:]
    whole, n = run["whole"], run["records"]
    servers = sum(whole[f"{s}_cpu"] for s in ("kafka", "redis", "temporal"))
    wrong = "" if run["correct"] else ", WRONG " + json.dumps(run["verdict"])
    return (f"{n / whole['seconds'] / 1e6:.2f} M events/s, {whole['engine_cpu'] / n * 1e9:.0f} + {servers / n * 1e9:.0f} ns "
            f"of processor time an event, {run['rss_mb']} MB{wrong}")


def compare(steps, workloads, settings, results, commit, work):
    left = [s for s in steps if (s[0], s[2], s[1]) not in results.known]
    print(f"{len(steps)} runs, {len(steps) - len(left)} of them in {results.path} already", flush=True)
    versions = {e: version_of(d) for e, d in settings.builds.items()}
    topic, filled, began = "", None, time.time()
    try:
        for i, (name, number, engine) in enumerate(left):
            if filled != name:
                if filled:
                    onerun.clean(settings.servers, topic)
                topic, filled = f"peers-{os.getpid()}-{name}", name
                fill(settings, name, topic)
            run = onerun.Run(settings, engines.ENGINES[engine], name, workloads[name], topic, work)
            head = {"workload": name, "engine": engine, "round": number, "commit": commit, "time": int(time.time()),
                    "load": os.getloadavg()[0], "cores": os.cpu_count(), "machine": platform.machine(),
                    "build": versions.get(engine, "")}
            try:
                outcome = run.measure()
            finally:
                run.close()
            results.add({**head, **outcome})
            minutes = (time.time() - began) / (i + 1) * (len(left) - i - 1) / 60
            print(f"[{i + 1}/{len(left)}, {minutes:.0f} min left] {name} round {number} {engine}: {summary(outcome)}",
                  flush=True)
    finally:
        if filled:
            onerun.clean(settings.servers, topic)


def interrupt(*_):
    raise KeyboardInterrupt


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", required=True, help="directory of runs.jsonl")
    parser.add_argument("--commit", required=True, help="the commit that is measured")
    args = parser.parse_args()
    for s in (signal.SIGINT, signal.SIGTERM):
        signal.signal(s, interrupt)
    workloads = json.loads((engines.ROOT / "bench/peers/workloads.json").read_text())
    state = os.environ.get("MILLRACE_SERVERS_DIR", engines.ROOT / ".servers")
    kafka, redis = os.environ["MILLRACE_KAFKA_BROKERS"], os.environ["MILLRACE_REDIS_ADDRS"]
    servers = onerun.Servers(kafka, redis, procs.server_pids(state))
    settings = onerun.Settings(servers, builds(), os.environ.get("PEERS_HEAP", "3g"), positive("PEERS_WAIT") or 300)
    steps = plan(workloads, settings)
    try:
        with tempfile.TemporaryDirectory(prefix="peers-") as work:
            compare(steps, workloads, settings, Results(args.results), args.commit, work)
    except KeyboardInterrupt:
        sys.exit("compare: interrupted; the runs so far are kept, and the same command goes on behind them")


if __name__ == "__main__":
    main()
