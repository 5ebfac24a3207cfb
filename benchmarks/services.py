"""What a request costs the libraries that people use: microseconds of CPU time on asyncio, uvloop and aioxide.

Servers (uvicorn, aiohttp, FastAPI) run on one core, and ``wrk`` asks them from another, over 32 connections. Clients
(redis, asyncpg) run on one core, and their database on another. aioxide takes part twice: as nothing but the loop, and
by a takeover, with its own tasks and futures. Rounds are interleaved, and every sample has a process of its own. What
else runs on the machine only adds to processor time (it empties the caches), and here much of it: so it is the least of
the samples that is compared, and for requests per second the most.
"""

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.ecosystem.servers import Missing, Started

from . import report
from .network import pinned
from .run import RESULTS, describe_machine

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
BEGIN, END = "<!-- services: begin -->", "<!-- services: end -->"
NAMES = ("asyncio", "uvloop", "aioxide", "takeover")
TITLES = {"takeover": "aioxide, takeover"}
CONNECTIONS = 32


@dataclass(frozen=True)
class Case:
    """``goal``: how many times less CPU time than asyncio; ``database``: it is a client of that one."""

    key: str
    title: str
    library: str
    goal: float
    path: str = "/"
    database: str = ""


CASES = (
    Case("uvicorn_httptools", "uvicorn, plain text, httptools", "uvicorn", 1.5),
    Case("uvicorn_h11", "uvicorn, plain text, h11", "uvicorn", 1.5),
    Case("aiohttp", "aiohttp server, plain text", "aiohttp", 1.3),
    Case("fastapi", "FastAPI on uvicorn, JSON", "fastapi", 1, "/items/42?short=yes"),
    Case("redis_pipeline", "redis, a pipeline of 50 commands", "redis", 1.05, database="redis"),
    Case("redis_get", "redis, one GET", "redis", 1.05, database="redis"),
    Case("asyncpg_select_1", "asyncpg, SELECT 1", "asyncpg", 1.05, database="postgres"),
    Case("asyncpg_1000_rows", "asyncpg, 1,000 rows", "asyncpg", 1.05, database="postgres"),
)


def command(name: str, case: Case, *arguments: str) -> list[str]:
    how = ["-m", "aioxide"] if name == "takeover" else []
    return [*pinned(0), sys.executable, *how, "-m", "benchmarks.service_apps", name, case.key, *arguments]


def environment() -> dict[str, str]:
    # (debug mode would be measured; who is taken over is said by the command line)
    unwanted = {"PYTHONASYNCIODEBUG", "AIOXIDE_TAKEOVER"}
    return {name: value for name, value in os.environ.items() if name not in unwanted}


@contextmanager
def served(name: str, case: Case) -> Iterator[tuple[int, int]]:
    """A fresh server process: its port and its process ID."""
    process = subprocess.Popen(command(name, case), stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment())
    try:
        port = process.stdout.readline().strip()
        if not port:
            raise RuntimeError(f"{case.key} on {name} has not started")
        yield int(port), process.pid
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def cpu_of(pid: int) -> float:
    """Seconds that all threads of a process have had: its CPU clock, whose number clock_getcpuclockid(3) makes so."""
    return time.clock_gettime((~pid << 3) | 2)


def wrk(port: int, path: str, seconds: float) -> tuple[int, float]:
    """How many requests were answered, and how many of them a second."""
    url = f"http://127.0.0.1:{port}{path}"
    asking = [*pinned(1), "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds:.0f}s", url]
    done = subprocess.run(asking, capture_output=True, text=True, check=True)
    if bad := re.search(r"(Non-2xx.*|Socket errors.*)", done.stdout):
        raise RuntimeError(bad[0])
    requests, rate = (re.search(what, done.stdout)[1] for what in (r"(\d+) requests in", r"Requests/sec: +([\d.]+)"))
    return int(requests), float(rate)


def sample(name: str, case: Case, seconds: float, databases: Started) -> tuple[float, float]:
    """Microseconds of CPU time per request, and requests per second."""
    if case.database:
        arguments = (databases.address(case.database), str(seconds))
        done = subprocess.run(
            command(name, case, *arguments), capture_output=True, text=True, cwd=ROOT, env=environment(), check=False
        )
        if done.returncode:
            raise RuntimeError(f"{case.key} on {name}: {done.stderr}")
        used, rate = done.stdout.split()
        return float(used), float(rate)
    with served(name, case) as (port, pid):
        wrk(port, case.path, 1)
        before = cpu_of(pid)
        requests, rate = wrk(port, case.path, seconds)
        return (cpu_of(pid) - before) / requests * 1e6, rate


def measure(case: Case, names: Sequence[str], rounds: int, seconds: float, databases: Started) -> dict[str, Any]:
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for turn in range(rounds):
        shift = turn % len(names)
        for name in [*names[shift:], *names[:shift]]:
            samples[name].append(sample(name, case, seconds, databases))
    return {
        name: {
            "least": round(min(used for used, _ in taken), 1),
            "median": round(statistics.median(used for used, _ in taken), 1),
            "rate": round(max(rate for _, rate in taken)),
            "samples": [round(used, 1) for used, _ in taken],
        }
        for name, taken in samples.items()
    }


def cells(row: dict[str, Any], names: Sequence[str]) -> list[str]:
    """One line of the table: CPU time, requests per second, and how many times less or more."""
    figures = row["figures"]

    def get(name: str, what: str) -> float | None:
        return figures[name][what] if name in figures else None

    line = [row["title"], *[f"{get(name, 'least'):,.1f}" if name in figures else "" for name in names]]
    line += [f"{get(name, 'rate'):,}" if name in figures else "" for name in names]
    for ours in ("aioxide", "takeover"):
        line += [ratio(get(other, "least"), get(ours, "least")) for other in ("asyncio", "uvloop")]
    return [*line, shortfall(row)]


def ratio(theirs: float | None, ours: float | None) -> str:
    return f"{theirs / ours:.2f}" if theirs and ours else ""


def shortfall(row: dict[str, Any]) -> str:
    used = {name: figure["least"] for name, figure in row["figures"].items()}
    ours = [used[name] for name in ("aioxide", "takeover") if name in used]
    wrong = []
    if ours and "asyncio" in used and used["asyncio"] / min(ours) < row["goal"]:
        wrong.append("short")
    if ours and "uvloop" in used and max(ours) > used["uvloop"]:
        wrong.append("above uvloop")
    return ", ".join(wrong)


def header(names: Sequence[str]) -> list[str]:
    titles = [TITLES.get(name, name) for name in names]
    ratios = [f"{ours}: x {other}" for ours in ("aioxide", "takeover") for other in ("asyncio", "uvloop")]
    return ["CPU, µs per request", *titles, *[f"{title}: 1/s" for title in titles], *ratios, ""]


def markdown(document: dict[str, Any]) -> str:
    """For README.md: CPU time by implementation, and how many times less it is. (Requests per second say more about the
    machine's other work; a server that has a core for itself answers a million divided by its microseconds.)"""
    names = [name for name in NAMES if any(name in row["figures"] for row in document["rows"])]
    lines = []
    for row in document["rows"]:
        figures = row["figures"]
        best = min(("aioxide", "takeover"), key=lambda name: figures[name]["least"])
        used = figures[best]["least"]
        lines.append(
            [
                row["title"],
                *[f"{figures[name]['least']:,.1f}" for name in names],
                f"{figures['asyncio']['least'] / used:.2f}",
                f"{figures['uvloop']['least'] / used:.2f}",
            ]
        )
    titles = ["CPU, µs per request", *[TITLES.get(name, name) for name in names]]
    return report.markdown([*titles, "vs asyncio", "vs uvloop"], lines)


def path() -> Path:
    return RESULTS / f"services-{platform.python_version()}.json"


def write(document: dict[str, Any]) -> None:
    before, _, rest = README.read_text().partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise ValueError(f"README.md has no {BEGIN} and {END}")
    README.write_text(f"{before}{BEGIN}\n{markdown(document)}\n{END}{after}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.services", description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], choices=[case.key for case in CASES], metavar="CASE")
    parser.add_argument("--implementations", nargs="+", default=list(NAMES), choices=NAMES, metavar="NAME")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1, help="of each sample")
    parser.add_argument("--no-save", action="store_true", help="prints the table, leaves results/ and README.md alone")
    parser.add_argument("--table", action="store_true", help="measures nothing: writes README.md from results/")
    options = parser.parse_args()
    if options.table:
        write(json.loads(path().read_text()))
        return 0
    rows = []
    with Started() as databases:
        for case in CASES:
            if options.only and case.key not in options.only:
                continue
            if not case.database and not shutil.which("wrk"):
                print(f"left out: {case.key}, wrk is not installed", file=sys.stderr)
                continue
            print(f"… {case.key}", file=sys.stderr)
            try:
                figures = measure(case, options.implementations, options.rounds, options.seconds, databases)
            except Missing as missing:
                print(f"left out: {case.key}, {missing}", file=sys.stderr)
                continue
            rows.append({"key": case.key, "title": case.title, "goal": case.goal, "figures": figures})
    print(f"CPython {platform.python_version()}, {options.rounds} interleaved rounds")
    print(report.table(header(options.implementations), [cells(row, options.implementations) for row in rows]))
    if not options.no_save:
        before = json.loads(path().read_text())["rows"] if path().exists() else []
        known = {row["key"]: row for row in [*before, *rows]}
        document = {
            "python": platform.python_version(),
            "machine": describe_machine(),
            "versions": {name: version(name) for name in ("uvloop", *sorted({case.library for case in CASES}))},
            # what was not run this time stays
            "rows": [known[case.key] for case in CASES if case.key in known],
        }
        path().write_text(json.dumps(document, indent=1) + "\n")
        write(document)
    return 0


if __name__ == "__main__":
    sys.exit(main())
