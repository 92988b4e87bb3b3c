"""Draws what the panels of each dashboard showed, three in a row as in Grafana: draw.py ANSWERS DIRECTORY."""

import datetime
import json
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.dates as dates
import matplotlib.pyplot as plt
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

COLUMNS = 3
LEGEND = 7  # lines with a name; those with the highest values come first

plt.rcParams.update({
    "figure.facecolor": "#111217", "axes.facecolor": "#181b1f", "savefig.facecolor": "#111217", "text.color": "#d8d9da",
    "axes.labelcolor": "#d8d9da", "axes.edgecolor": "#2c3235", "xtick.color": "#9fa7b3", "ytick.color": "#9fa7b3",
    "grid.color": "#2c3235", "font.size": 7.5, "legend.fontsize": 6.5,
})
COLOURS = ["#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#8ab8ff", "#96d98d", "#ffa6b0", "#fade2a", "#ca95e5", "#c0d8ff"]


def scaled(value, steps):
    for limit, suffix in steps:
        if abs(value) >= limit:
            return f"{value / limit:.4g}{suffix}"
    return f"{value:.3g}"


def shown(unit):
    """How a value of a unit is written."""
    thousands = [(1e9, "G"), (1e6, "M"), (1e3, "k")]
    return {
        "s": lambda v: "0" if v == 0 else scaled(v, [(3600, " h"), (60, " min"), (1, " s"), (1e-3, " ms"), (1e-6, " µs")]),
        "bytes": lambda v: scaled(v, [(2**30, " GiB"), (2**20, " MiB"), (2**10, " KiB")]) + ("" if abs(v) >= 1024 else " B"),
        "percentunit": lambda v: f"{100 * v:.3g} %",
        "cps": lambda v: scaled(v, thousands) + " /s",
        "bool_yes_no": lambda v: "yes" if v > 0.5 else "no" if v == 0 else "",
    }.get(unit, lambda v: scaled(v, thousands))


def broken(points):
    """The points, with a gap wherever Prometheus had no value."""
    times = [t for t, _ in points]
    step = min((b - a for a, b in zip(times, times[1:])), default=0)
    for i, (t, v) in enumerate(points):
        if i > 0 and t - times[i - 1] > 1.5 * step:
            yield t - step, float("nan")
        yield t, v


def moment(t):
    return datetime.datetime.fromtimestamp(t, datetime.timezone.utc)


def time_axis(ax, begin, end):
    ax.set_xlim(moment(begin), moment(end))
    ax.xaxis.set_major_formatter(dates.DateFormatter("%H:%M"))
    ax.xaxis.set_major_locator(dates.AutoDateLocator(minticks=3, maxticks=5))
    ax.grid(True, lw=0.5)


def draw_lines(ax, panel):
    lines = sorted(panel["lines"], key=lambda l: -max(v for _, v in l["points"]))
    for i, line in enumerate(lines):
        points = list(broken(line["points"]))
        ax.plot([moment(t) for t, _ in points], [v for _, v in points], lw=1, color=COLOURS[i % len(COLOURS)],
                label=line["name"] if i < LEGEND else None)
    top = max(v for l in lines for _, v in l["points"])
    if panel["unit"] == "bytes":  # ticks at round numbers of KiB or MiB
        power = next((p for p in (2**30, 2**20, 2**10) if top >= p), 1)
        ax.yaxis.set_major_locator(FixedLocator([power * x for x in MaxNLocator(4).tick_values(0, top / power)]))
    elif panel["unit"] == "bool_yes_no":
        ax.yaxis.set_major_locator(FixedLocator([0, 1]))
    else:
        ax.yaxis.set_major_locator(MaxNLocator(4))
    ax.set_ylim(0, top * 1.1 if top > 0 else 1)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: shown(panel["unit"])(v)))
    if len(lines) > LEGEND:
        ax.plot([], [], " ", label=f"and {len(lines) - LEGEND} more")
    longest = max(len(l["name"]) for l in lines)
    ax.legend(loc="upper left", bbox_to_anchor=(0, -0.15), ncols=1 if longest > 36 else 2 if longest > 17 else 3, frameon=False,
              borderaxespad=0, handlelength=1.2, columnspacing=1, labelspacing=0.25)


def draw_states(ax, panel):
    """A bar for each series, where it is above 0."""
    rows = [l for l in panel["lines"] if any(v > 0 for _, v in l["points"])]
    for y, line in enumerate(reversed(rows)):
        times = [t for t, _ in line["points"]]
        step = min((b - a for a, b in zip(times, times[1:])), default=1)
        spans = [(dates.date2num(moment(t)), step / 86400) for t, v in line["points"] if v > 0]
        ax.broken_barh(spans, (y - 0.3, 0.6), color=COLOURS[3])
        ax.text(0.01, y + 0.34, line["name"], transform=ax.get_yaxis_transform(), fontsize=6.5)
    ax.set_ylim(-0.6, max(len(rows), 3))
    ax.set_yticks([])


def draw_values(ax, panel):
    ax.set_axis_off()
    for i, line in enumerate(panel["lines"]):
        x = (i + 0.5) / len(panel["lines"])
        ax.text(x, 0.6, shown(panel["unit"])(line["points"][-1][1]), ha="center", fontsize=22, color=COLOURS[0], transform=ax.transAxes)
        ax.text(x, 0.42, line["name"], ha="center", transform=ax.transAxes)


DRAW = {"timeseries": draw_lines, "state-timeline": draw_states, "stat": draw_values}


def draw(dashboard, directory):
    rows = -(-len(dashboard["panels"]) // COLUMNS)
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(13, 2.35 * rows + 0.5), squeeze=False)
    tall = 2.35 * rows + 0.5
    figure.suptitle("Millrace / " + dashboard["title"], x=0.012, ha="left", fontsize=11, y=1 - 0.1 / tall, va="top")
    begin = min(l["points"][0][0] for p in dashboard["panels"] for l in p["lines"])
    end = max(l["points"][-1][0] for p in dashboard["panels"] for l in p["lines"])
    for ax in axes.flat[len(dashboard["panels"]):]:
        ax.set_axis_off()
    for ax, panel in zip(axes.flat, dashboard["panels"]):
        ax.set_title(panel["title"], loc="left", fontsize=8.5)
        if not panel["lines"]:
            sys.exit(f"{dashboard['title']}, {panel['title']}: nothing to draw")
        DRAW[panel["kind"]](ax, panel)
        if panel["kind"] != "stat":
            time_axis(ax, begin, end)
    figure.subplots_adjust(left=0.05, right=0.99, top=1 - 0.6 / tall, bottom=0.75 / tall, hspace=0.72, wspace=0.18)
    figure.savefig(f"{directory}/dashboard-{dashboard['name']}.png", dpi=95)
    plt.close(figure)


answers, directory = sys.argv[1:]
with open(answers, encoding="utf-8") as file:
    for one in json.load(file):
        draw(one, directory)
