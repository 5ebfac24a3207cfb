"""Draws results/<version>.json as results/<version>.svg, and prints the table for the README as markdown."""

import argparse
import json
import math
from html import escape
from pathlib import Path
from typing import Any

from . import report
from .network import cells, header, remarks
from .run import RESULTS, median

COLOURS = {"asyncio": "#8c8c8c", "uvloop": "#4c78a8", "rloop": "#72b7b2", "aioxide": "#d1532f"}
LABEL, PLOT, BAR, GAP, TOP = 300, 460, 9, 12, 56


def label(text: str, x: float, y: float, attributes: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {attributes}>{escape(text)}</text>'


def svg(document: dict[str, Any]) -> str:
    """Bars of speed relative to asyncio, on a logarithmic scale: every doubling is as wide as the next."""
    names = [name for name in COLOURS if name in document["versions"]]
    rows = [row for row in document["rows"] if median(row, "asyncio")]
    speeds = [{name: median(row, "asyncio") / (median(row, name) or math.inf) for name in names} for row in rows]
    highest = max(speed for row in speeds for speed in row.values())
    lowest = min(speed for row in speeds for speed in row.values() if speed)
    ticks = [2.0**power for power in range(math.floor(math.log2(lowest)), math.ceil(math.log2(highest)) + 1)]
    first, last = math.log2(ticks[0]), math.log2(ticks[-1])

    def x(speed: float) -> float:
        return LABEL + PLOT * (math.log2(speed) - first) / max(last - first, 1)

    step = BAR * len(names) + GAP
    height = TOP + step * len(rows) + 10
    width = LABEL + PLOT + 60
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">',
        '<g font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        label(f"Speed relative to asyncio, Python {document['python']} (longer is faster)", 10, 18, 'font-size="14"'),
    ]
    for index, name in enumerate(names):
        parts.append(f'<rect x="{10 + 130 * index}" y="27" width="10" height="10" fill="{COLOURS[name]}"/>')
        parts.append(label(f"{name} {document['versions'][name]}", 25 + 130 * index, 36))
    for tick in ticks:
        line = f'<line x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{TOP}" y2="{height}" stroke="#ddd"/>'
        parts += [line, label(f"{tick:g}x", x(tick), TOP - 4, 'text-anchor="middle" fill="#666" font-size="10"')]
    for number, (row, speed) in enumerate(zip(rows, speeds, strict=True)):
        top = TOP + step * number + GAP / 2
        parts.append(label(row["title"], LABEL - 8, top + step / 2 - 2, 'text-anchor="end"'))
        for index, name in enumerate(names):
            if not speed[name]:
                continue
            left, right = sorted([x(1), x(speed[name])])
            bar = f'x="{left:.1f}" y="{top + BAR * index:.1f}" width="{max(right - left, 1):.1f}" height="{BAR - 1}"'
            parts.append(f'<rect {bar} fill="{COLOURS[name]}"/>')
            if name == "aioxide":
                times = report.ratio(speed[name], 1)
                parts.append(label(times, right + 4, top + BAR * index + 8, 'font-size="10"'))
    return "\n".join([*parts, "</g>", "</svg>", ""])


def markdown(document: dict[str, Any]) -> str:
    names = [name for name in COLOURS if name in document["versions"]]
    rows = []
    for row in document["rows"]:
        ours = median(row, "aioxide")
        ratios = [report.ratio(median(row, name), ours) for name in ("asyncio", "uvloop")]
        rows.append([row["title"], *[report.nanoseconds(median(row, name)) for name in names], *ratios])
    return report.markdown(["ns per operation", *names, "vs asyncio", "vs uvloop"], rows)


def network(document: dict[str, Any]) -> str:
    names = [name for name in COLOURS if any(name in row["figures"] for row in document["network"])]
    rows = [[cell for cell in cells(row, names) if cell != "short"] for row in document["network"]]
    width = len(names) + 5
    table = report.markdown(header(names)[:width], [row[:width] for row in rows])
    lines = "\n".join(remarks(document["network"], names))
    return f"{table}\n\n{lines}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plot", description=__doc__)
    parser.add_argument("results", nargs="*", type=Path, default=sorted(RESULTS.glob("*.json")))
    for path in parser.parse_args().results:
        document = json.loads(path.read_text())
        path.with_suffix(".svg").write_text(svg(document))
        machine = document["machine"]
        print(f"\nPython {document['python']}, {machine['cpu']}, {machine['cores']} cores\n\n{markdown(document)}")
        if "network" in document:
            print(f"\n{network(document)}")


if __name__ == "__main__":
    main()
