#!/usr/bin/env python3
"""Prints the tables of a comparison as Markdown, or puts them between the marks of a document."""

import argparse
import datetime
import json
import pathlib
import sys

import engines
import runs

BEGIN, END = "<!-- peers: begin -->", "<!-- peers: end -->"
HEADER = ("| engine | runs | events/s | engine | second half | Redis | broker | Temporal | sum | ÷ Millrace: engine | sum | "
          "events/s | RSS, MB | output |")
RULE = "|---|" + "--:|" * 12 + "---|"


def number(value, form="{:,.0f}"):
    return "–" if value is None else form.format(value)


def output(of_engine):
    """What became of the output: all right, or how many runs were not and in which way."""
    bad = [r for r in of_engine if not r["correct"]]
    if not bad:
        rows = of_engine[0]["verdict"]["expected"]
        revised = max(r["verdict"]["revised"] for r in of_engine)
        return f"{rows:,} rows, right" + (f"; {revised:,} revised" if revised else "")
    words = []
    for r in bad:
        v = r["verdict"]
        found = ["the engine ended"] if v is None else [f"{v[k]:,} {k}" for k in ("wrong", "missing", "strange") if v[k]]
        if not r["complete"]:
            found.append(f"{r['records']:,} events read")
        words.append(f"round {r['round']}: {', '.join(found)}")
    return f"**WRONG: {'; '.join(words)}**"


def line(engine, of_engine, base):
    good = runs.counted(of_engine)
    parts = [runs.median(runs.per_event(r, "whole", p) for r in good) for p in runs.SERVERS]
    cells = [
        engines.ENGINES[engine].title, f"{len(good)}/{len(of_engine)}",
        number(runs.median(runs.rate(r) for r in good)),
        number(runs.median(runs.engine_ns(r) for r in good)),
        number(runs.median(runs.per_event(r, "second_half", "engine") for r in good if "second_half" in r)),
        *map(number, parts),
        number(runs.median(runs.all_ns(r) for r in good)),
        *(number(runs.ratio(of_engine, base, f), "{:.2f}") for f in (runs.engine_ns, runs.all_ns, runs.rate)),
        number(runs.median(r["rss_mb"] for r in good)), output(of_engine),
    ]
    return "| " + " | ".join(cells) + " |"


def noise(found):
    """What two runs of the same build differ by, over all rounds of all workloads."""
    words = []
    for name, figure in (("engine", runs.engine_ns), ("sum", runs.all_ns), ("events/s", runs.rate)):
        ratios = []
        for by_engine in found.values():
            first = {r["round"]: r for r in runs.counted(by_engine.get("millrace", []))}
            ratios += [figure(r) / figure(first[r["round"]]) for r in runs.counted(by_engine.get("millrace-again", []))
                       if r["round"] in first]
        if ratios:
            words.append(f"{name} {min(ratios):.2f} to {max(ratios):.2f}" if len(ratios) > 1 else f"{name} {ratios[0]:.2f}")
    return f"Millrace against itself, ratios of single rounds: {', '.join(words)}." if words else ""


def head(found):
    every = [r for by_engine in found.values() for of in by_engine.values() for r in of]
    day = datetime.datetime.fromtimestamp(min(r["time"] for r in every), datetime.timezone.utc).date()
    builds = sorted({f"{engines.ENGINES[r['engine']].title}: {r['build']}" for r in every if r["build"]})
    loads = [r["load"] for r in every]
    wrong = sum(not r["correct"] for r in every)
    rounds = max(r["round"] for r in every)
    commits = ", ".join(sorted({r["commit"] for r in every}))
    verdict = f"**{wrong} of them with wrong or incomplete output**" if wrong else "the output of all of them right"
    return "\n".join([
        f"Commit {commits}, {day}, {every[0]['cores']} cores ({every[0]['machine']}), "
        f"{'one round' if rounds == 1 else f'up to {rounds} rounds'};",
        f"load before a run {min(loads):.1f} to {max(loads):.1f}. {'; '.join(builds)}.",
        f"{len(every)} runs, {verdict}.",
        noise(found),
        "",
        "Engine, Redis, broker, Temporal and their sum in ns of processor time an event, medians; second half: the engine,",
        "from half of the events read to the last result.",
    ])


def document(found):
    titles = json.loads((engines.ROOT / "bench/peers/workloads.json").read_text())
    blocks = [head(found)]
    for workload, by_engine in found.items():
        lines = [f"**{workload}**: {titles[workload]['title']}; {titles[workload]['records']:,} events", "", HEADER, RULE]
        lines += [line(e, of, by_engine.get("millrace", [])) for e, of in by_engine.items()]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def put_into(path, text):
    document_text = path.read_text()
    before, begin, rest = document_text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"table: {path} has no marks {BEGIN} and {END}")
    path.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", help="runs.jsonl")
    parser.add_argument("--into", type=pathlib.Path, help="document whose part between the marks is replaced")
    args = parser.parse_args()
    found = runs.read(args.runs)
    if not found:
        sys.exit(f"table: {args.runs} has no run")
    if args.into:
        put_into(args.into, document(found))
    else:
        print(document(found), end="")


if __name__ == "__main__":
    main()
