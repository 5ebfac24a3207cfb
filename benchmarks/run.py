"""Nanoseconds per operation on asyncio, uvloop, rloop and aioxide: a table, and results/<version>.json."""

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import report
from .implementations import NAMES, Implementation, Unavailable, load
from .measure import Figure, measure, measure_contention
from .operations import OPERATIONS

RESULTS = Path(__file__).with_name("results")

# key: title, whether loop and thread share a core, how many times faster than asyncio aioxide has to be
CONTENTION = {
    "wake_beside": ("wake-up beside a busy thread", False, 100),
    "wake_beside_one_core": ("wake-up beside a busy thread, on one core", True, None),
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], help=f"keys: {', '.join([*OPERATIONS, *CONTENTION])}")
    parser.add_argument("--implementations", nargs="+", default=list(NAMES), choices=NAMES, metavar="NAME")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--window", type=float, default=0.1, help="seconds a sample takes, about")
    parser.add_argument("--contention-window", type=float, default=0.4, help="seconds, at least 0.2")
    parser.add_argument("--no-save", action="store_true", help="prints the table, leaves results/ alone")
    return parser.parse_args()


def available(names: Sequence[str]) -> list[Implementation]:
    found = []
    for name in names:
        try:
            found.append(load(name))
        except Unavailable as reason:
            print(f"left out: {reason}", file=sys.stderr)
    return found


def describe_machine() -> dict[str, Any]:
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = models[0] if models else model
    return {"cpu": model, "cores": os.cpu_count(), "system": platform.system(), "arch": platform.machine()}


def save(**fields: Any) -> None:
    """Puts the fields into results/<version>.json, which keeps its other fields. A row is a line there."""
    path = RESULTS / f"{platform.python_version()}.json"
    document = (json.loads(path.read_text()) if path.exists() else {}) | fields
    lines = []
    for key, value in document.items():
        text = json.dumps(value)
        if key in ("rows", "network", "outside"):
            text = "[\n  " + ",\n  ".join(map(json.dumps, value)) + "\n ]"
        lines.append(f' "{key}": {text}')
    path.parent.mkdir(exist_ok=True)
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def median(row: dict[str, Any], name: str) -> float | None:
    figures = row["figures"]
    return figures[name]["median"] if name in figures else None


def as_row(
    key: str, title: str, goal: float | None, figures: dict[str, Figure], versus: str = "uvloop"
) -> dict[str, Any]:
    return {
        "key": key,
        "title": title,
        "goal": goal,
        "versus": versus,
        "figures": {name: figure.as_json() for name, figure in figures.items()},
    }


def cells(row: dict[str, Any], names: Sequence[str]) -> list[str]:
    """One line of the table: medians, aioxide's spread, ratios, goal."""
    line = [row["title"], *[report.nanoseconds(median(row, name)) for name in names]]
    ours = row["figures"].get("aioxide")
    if ours:
        line.append(f"{ours['min']:,.0f}-{ours['max']:,.0f}")
        line.append(report.ratio(median(row, "asyncio"), ours["median"]))
        line.append(report.ratio(median(row, "uvloop"), ours["median"]))
        line.append(f"{row['goal']:g}x {row['versus']}" if row["goal"] else "")
        line.append(shortfall(row))
    return line


def shortfall(row: dict[str, Any]) -> str:
    """What is wrong with aioxide's figure, if something is."""
    ours, stdlib, other = (median(row, name) for name in ("aioxide", "asyncio", row["versus"]))
    if ours and stdlib and ours > stdlib:
        return "SLOWER than asyncio"
    if ours and other and row["goal"] and other / ours < row["goal"]:
        return "short"
    return ""


def header(names: Sequence[str]) -> list[str]:
    ours = ["min-max", "vs asyncio", "vs uvloop", "goal: vs", ""] if "aioxide" in names else []
    return ["ns per operation, median", *names, *ours]


def main() -> int:
    options = arguments()
    unknown = set(options.only) - {*OPERATIONS, *CONTENTION}
    if unknown:
        print(f"no such operation: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    implementations = available(options.implementations)
    names = [implementation.name for implementation in implementations]
    wanted = options.only or [*OPERATIONS, *CONTENTION]
    rows = []
    for key in wanted:
        print(f"… {key}", file=sys.stderr, flush=True)
        if key in CONTENTION:
            title, one_core, goal = CONTENTION[key]
            rounds = max(5, options.rounds)
            wakes, shares = measure_contention(implementations, rounds, options.contention_window, one_core=one_core)
            row = as_row(key, title, goal, wakes, versus="asyncio")
            row["share"] = {name: round(figure.median, 1) for name, figure in shares.items()}
        else:
            operation = OPERATIONS[key]
            figures = measure(implementations, operation, options.rounds, options.window)
            row = as_row(key, operation.title, operation.goal, figures)
        rows.append(row)

    print(f"{platform.python_implementation()} {platform.python_version()}, {options.rounds} interleaved rounds")
    print(report.table(header(names), [cells(row, names) for row in rows]))
    for row in rows:
        if "share" in row:
            shares_text = ", ".join(f"{name} {share:.0f} %" for name, share in row["share"].items())
            print(f"{row['title']}: of its own speed the thread keeps {shares_text}")
    if not options.no_save and not options.only:
        save(
            python=platform.python_version(),
            machine=describe_machine(),
            versions={implementation.name: implementation.version for implementation in implementations},
            rounds=options.rounds,
            rows=rows,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
