#!/usr/bin/env python3
"""Draws peers-cpu.png and peers-rate.png from runs.jsonl: a panel a workload, a bar an engine, a dot a run."""

import argparse
import pathlib

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

import engines  # noqa: E402
import runs  # noqa: E402

PARTS = {"engine": "#33658a", "redis": "#c1554e", "kafka": "#d9a441", "temporal": "#7b9e6b"}
LABELS = {"engine": "engine", "redis": "Redis", "kafka": "broker", "temporal": "Temporal"}


def draw_cpu(ax, by_engine):
    for i, of in enumerate(by_engine.values()):
        left = 0
        for part, color in PARTS.items():
            width = runs.median(runs.per_event(r, "whole", part) for r in runs.counted(of)) or 0
            ax.barh(i, width, left=left, color=color, label=LABELS[part] if i == 0 else None)
            left += width
        sums = [runs.all_ns(r) for r in runs.counted(of)]
        ax.plot(sums, [i] * len(sums), "o", color="black", markersize=3)
    ax.set_xlabel("ns of processor time an event (less is better)")


def draw_rate(ax, by_engine):
    for i, of in enumerate(by_engine.values()):
        rates = [runs.rate(r) / 1e6 for r in runs.counted(of)]
        ax.barh(i, runs.median(rates) or 0, color=PARTS["engine"])
        ax.plot(rates, [i] * len(rates), "o", color="black", markersize=3)
    ax.set_xlabel("million events/s, to the last result (more is better)")


def label(engine, of):
    return engines.ENGINES[engine].title + ("" if all(r["correct"] for r in of) else " (WRONG)")


def draw(found, panel, path):
    heights = [0.35 * len(e) + 1 for e in found.values()]
    figure, axes = plt.subplots(len(found), 1, figsize=(9, sum(heights)), squeeze=False, height_ratios=heights,
                                layout="constrained")
    for ax, (workload, by_engine) in zip(axes[:, 0], found.items()):
        panel(ax, by_engine)
        names = [label(e, of) for e, of in by_engine.items()]
        ax.set_yticks(range(len(names)), names)
        ax.invert_yaxis()
        ax.set_title(workload, loc="left")
        ax.spines[["top", "right"]].set_visible(False)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside upper right", ncols=len(handles), frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", help="runs.jsonl")
    parser.add_argument("directory", type=pathlib.Path, help="where the pictures go")
    args = parser.parse_args()
    found = runs.read(args.runs)
    draw(found, draw_cpu, args.directory / "peers-cpu.png")
    draw(found, draw_rate, args.directory / "peers-rate.png")


if __name__ == "__main__":
    main()
