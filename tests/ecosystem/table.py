"""The table of README.md: which library runs on us, which way, on which Python.

    python -m tests.ecosystem.table      writes it anew, from results.json

``python -m tests.ecosystem --write`` puts what one interpreter made of the programs into results.json, in the place of
what the same version of Python made of them before.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .runner import PROGRAMS, Outcome

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
README = HERE.parents[1] / "README.md"
BEGIN, END = "<!-- ecosystem: begin -->", "<!-- ecosystem: end -->"
HEADINGS = {"loop": "loop", "takeover": "takeover"}

#: by minor version of Python: "python" is the full one, "programs" has by module the library's version, and the status of each mode
Results = dict[str, dict[str, Any]]


def read() -> Results:
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def record(outcomes: Iterable[Outcome]) -> None:
    """Keeps what was not run this time as it was."""
    version = platform.python_version()
    results = read()
    entry = results.setdefault(".".join(version.split(".")[:2]), {"programs": {}})
    entry["python"] = version
    for outcome in outcomes:
        if outcome.mode == "stdlib":
            continue
        status = outcome.status if outcome.status != "skip" else f"skip: {outcome.text}"
        program = entry["programs"].setdefault(outcome.program.module, {})
        if not outcome.program.missing():
            program["version"] = outcome.program.version
        program[outcome.mode] = status
    RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    write(results)


def table(results: Results) -> str:
    """In Markdown."""
    pythons = sorted(results, key=lambda minor: [int(part) for part in minor.split(".")])
    columns = [(minor, mode) for mode in HEADINGS for minor in pythons]
    lines = [
        "| library | what runs | " + " | ".join(f"{HEADINGS[mode]}, {minor}" for minor, mode in columns) + " |",
        "|---|---|" + ":-:|" * len(columns),
    ]
    for program in PROGRAMS:
        found = [results[minor]["programs"].get(program.module, {}) for minor in pythons]
        version = next((entry["version"] for entry in reversed(found) if "version" in entry), "")
        cells = []
        for minor, mode in columns:
            status = results[minor]["programs"].get(program.module, {}).get(mode, "not run")
            cells.append("" if mode not in program.modes else status.partition(":")[0])
        lines.append(f"| {program.libraries[0]} {version} | {program.shows} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write(results: Results) -> None:
    before, _, rest = README.read_text().partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise ValueError(f"README.md has no {BEGIN} and {END}")
    README.write_text(f"{before}{BEGIN}\n{table(results)}\n{END}{after}")


if __name__ == "__main__":
    write(read())
