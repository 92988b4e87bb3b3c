"""Reads runs.jsonl: medians of an engine's runs, and of its ratios to Millrace's run of the same round."""

import collections
import json
import pathlib
import statistics

import engines

SERVERS = ("redis", "kafka", "temporal")


def read(path):
    """Runs by workload and engine, both in the order of their definitions."""
    found = collections.defaultdict(lambda: collections.defaultdict(list))
    for line in pathlib.Path(path).read_text().splitlines():
        run = json.loads(line)
        found[run["workload"]][run["engine"]].append(run)
    titles = json.loads((engines.ROOT / "bench/peers/workloads.json").read_text())
    return {w: {e: found[w][e] for e in engines.ENGINES if e in found[w]} for w in titles if w in found}


def per_event(run, span, *parts):
    """Nanoseconds of processor time an event of these parts, in the span whole or second_half."""
    events = run["records"] if span == "whole" else run["records"] / 2
    return sum(run[span][f"{p}_cpu"] for p in parts) / events * 1e9


def engine_ns(run):
    return per_event(run, "whole", "engine")


def all_ns(run):
    return per_event(run, "whole", "engine", *SERVERS)


def rate(run):
    return run["records"] / run["whole"]["seconds"]


def median(values):
    values = list(values)
    return statistics.median(values) if values else None


def counted(runs):
    """The runs whose figures count: those whose output is complete and right."""
    return [r for r in runs if r["correct"]]


def ratio(runs, base, figure):
    """The median of the ratios to the base's run of the same round, or None."""
    by_round = {r["round"]: r for r in counted(base)}
    return median(figure(r) / figure(by_round[r["round"]]) for r in counted(runs) if r["round"] in by_round)
