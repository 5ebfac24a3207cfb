"""What a message costs an echo server: microseconds of its CPU time, on asyncio, uvloop, rloop and aioxide.

The server runs on one core, the load generator (``crates/load``, native, one thread) on another. Every round starts
every implementation's server anew, beginning with another one each time; medians. Throughput is printed beside it, but
on a shared machine it says less than the CPU time.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import report
from .implementations import NAMES, Unavailable, load
from .run import describe_machine, save

ROOT = Path(__file__).resolve().parents[1]
FASTER = "x uvloop"
#: of asyncio and uvloop: with TLS it is asyncio that takes less
BETTER = "the better"


@dataclass(frozen=True)
class Case:
    """``goal``: how many times less CPU time than `versus` aioxide has to take; ``absent``: who cannot do it.

    ``most``: the goal in microseconds, where nobody else can do it.
    """

    key: str
    title: str
    server: str
    load: tuple[str, ...] = ()
    goal: float | None = None
    absent: tuple[str, ...] = ()
    most: float | None = None

    @property
    def versus(self) -> str:
        return BETTER if self.server.startswith("tls_") else "uvloop"


CASES = [
    Case("tcp_1k", "TCP protocol, 1 KiB", "protocol", (), 1.15),
    Case("tcp_10k", "TCP protocol, 10 KiB", "protocol", ("--size", "10240")),
    Case("tcp_100k", "TCP protocol, 100 KiB", "protocol", ("--size", "102400"), 1.15),
    Case("tcp_1k_100", "TCP protocol, 1 KiB, 100 connections", "protocol", ("--connections", "100")),
    Case("tcp_1k_1000", "TCP protocol, 1 KiB, 1000 connections", "protocol", ("--connections", "1000")),
    Case("buffered_10k", "BufferedProtocol, 10 KiB", "buffered", ("--size", "10240"), 1.15),
    Case("unix_1k", "Unix protocol, 1 KiB", "unix", (), 1.15, ("rloop",)),
    Case("udp_1k", "UDP, 1 KiB", "udp", (), 1.4),
    Case("sock_1k", "sock_recv and sock_sendall, 1 KiB", "sock", (), 3.5),
    Case("pipelined", "pipelined, 16 of 64 B", "lines", ("--size", "64", "--pipeline", "16"), 8),
    Case("read_1k", "streams, read, 1 KiB", "read", (), 1.5),
    Case("readline_1k", "streams, readline, 1 KiB", "readline", (), 1.6),
    Case("readexactly_1k", "streams, readexactly, 1 KiB", "exactly:1024", (), 1.7),
    Case("timeout_1k", "streams, read under timeout(), 1 KiB", "timeout", (), 1.7),
    Case("read_100k", "streams, read, 100 KiB", "read", ("--size", "102400"), 2.2),
    Case("readline_100k", "streams, readline, 100 KiB", "readline", ("--size", "102400"), 1.7),
    Case("readexactly_100k", "streams, readexactly, 100 KiB", "exactly:102400", ("--size", "102400"), 1.3),
    Case("unix_read_1k", "Unix streams, read, 1 KiB", "unix_read", (), 1.6, ("rloop",)),
    Case("lines_pipelined", "streams, readline, 16 of 64 B", "readline", ("--size", "64", "--pipeline", "16"), 7),
    Case(
        "exactly_pipelined", "streams, readexactly, 16 of 64 B", "exactly:64", ("--size", "64", "--pipeline", "16"), 7
    ),
    Case("churn", "connect, 1 message, close", "protocol", ("--churn",), 1.15),
    # (rloop does not hear of the end)
    Case("accept", "connect and close", "protocol", ("--knock",), 1, ("rloop",)),
    Case("streams_churn", "streams: connect, 1 message, close", "read", ("--churn",), 1.6),
    Case(
        "sendfile_16k",
        "sendfile, 16 KiB",
        "sendfile:16384",
        ("--size", "64", "--answer", "16384"),
        absent=("uvloop", "rloop"),
        most=20,
    ),
    Case("tls_1k", "TLS protocol, 1 KiB", "tls_protocol", (), 2, ("rloop",)),
    Case("tls_10k", "TLS protocol, 10 KiB", "tls_protocol", ("--size", "10240"), 1.9, ("rloop",)),
    Case("tls_100k", "TLS protocol, 100 KiB", "tls_protocol", ("--size", "102400"), 1, ("rloop",)),
    Case("tls_buffered_10k", "TLS BufferedProtocol, 10 KiB", "tls_buffered", ("--size", "10240"), None, ("rloop",)),
    Case(
        "tls_pipelined", "TLS pipelined, 16 of 64 B", "tls_lines", ("--size", "64", "--pipeline", "16"), 6, ("rloop",)
    ),
    Case("tls_streams_1k", "TLS streams, read, 1 KiB", "tls_read", (), 2.2, ("rloop",)),
    Case("tls_streams_10k", "TLS streams, read, 10 KiB", "tls_read", ("--size", "10240"), 2, ("rloop",)),
    Case("tls_streams_100k", "TLS streams, read, 100 KiB", "tls_read", ("--size", "102400"), 1.25, ("rloop",)),
    Case(
        "tls_readline",
        "TLS streams, readline, 16 of 64 B",
        "tls_readline",
        ("--size", "64", "--pipeline", "16"),
        6,
        ("rloop",),
    ),
    Case("tls_churn", "TLS: connect, 1 message, close", "tls_protocol", ("--churn",), None, ("rloop",)),
    Case("tls_idle", "TLS: 1 KiB beside 2,000 idle connections", "tls_protocol", ("--idle", "2000"), None, ("rloop",)),
    Case("idle", "1 KiB beside 10,000 idle connections", "protocol", ("--idle", "10000"), None),
    Case("streams_idle", "streams: 1 KiB beside 10,000 idle connections", "read", ("--idle", "10000"), None),
]


@dataclass
class Samples:
    """Of one implementation in one case."""

    cpu: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    bytes_per_connection: list[float] = field(default_factory=list)

    def add(self, measured: dict[str, float]) -> None:
        self.cpu.append(measured["cpu"] / measured["messages"] * 1e6)
        self.rate.append(measured["messages"] / measured["seconds"])
        self.bytes_per_connection.append(measured["bytes_per_connection"])

    def as_json(self) -> dict[str, Any]:
        return {
            "median": round(statistics.median(self.cpu), 2),
            "min": round(min(self.cpu), 2),
            "max": round(max(self.cpu), 2),
            "samples": [round(sample, 2) for sample in self.cpu],
            "rate": round(statistics.median(self.rate)),
            "bytes_per_connection": round(statistics.median(self.bytes_per_connection)),
        }


def generator() -> Path:
    """Builds the load generator."""
    subprocess.run(["cargo", "build", "--release", "--locked", "--quiet", "-p", "aioxide-load"], cwd=ROOT, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return target / "release" / "aioxide-load"


def pinned(core: int) -> list[str]:
    """Two cores or more: the server has one, the load another."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2 or not shutil.which("taskset"):
        return []
    return ["taskset", "-c", str(cores[core])]


@contextmanager
def served(implementation: str, server: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A fresh server process: where it listens, and the process."""
    command = [*pinned(0), sys.executable, "-m", "benchmarks.servers", implementation, server]
    # (debug mode would be measured, and keeps a traceback for everything)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONASYNCIODEBUG"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment)
    try:
        where = process.stdout.readline().strip()
        if not where:
            raise RuntimeError(f"the {server} server of {implementation} has not started")
        yield where, process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def measure(binary: Path, names: Sequence[str], case: Case, rounds: int, seconds: float) -> dict[str, Samples]:
    figures: dict[str, Samples] = defaultdict(Samples)
    names = [name for name in names if name not in case.absent]
    for turn in range(rounds):
        shift = turn % len(names)
        for name in [*names[shift:], *names[:shift]]:
            with served(name, case.server) as (where, process):
                arguments = ["--to", where, "--pid", str(process.pid), "--seconds", str(seconds), *case.load]
                program = [sys.executable, "-m", "benchmarks.tls_load"] if where.startswith("tls:") else [binary]
                command = [*pinned(1), *program, *arguments]
                done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
                if done.returncode:
                    raise RuntimeError(f"{case.key} on {name}: {done.stderr}")
                figures[name].add(json.loads(done.stdout))
    return figures


def cells(row: dict[str, Any], names: Sequence[str]) -> list[str]:
    """One line of the table."""
    figures = row["figures"]

    def cpu(name: str) -> float | None:
        return figures[name]["median"] if name in figures else None

    line = [row["title"], *["" if cpu(name) is None else f"{cpu(name):.2f}" for name in names]]
    ours = cpu("aioxide")
    line.append(f"{figures['aioxide']['rate']:,}" if ours else "")
    line += [report.ratio(cpu("asyncio"), ours), report.ratio(cpu("uvloop"), ours)]
    most = row.get("most")
    versus = row.get("versus", "uvloop")
    line.append(f"{row['goal']:g}x {versus}" if row["goal"] else f"at most {most:g}" if most else "")
    rivals = [cpu(name) for name in (("asyncio", "uvloop") if versus == BETTER else (versus,))]
    theirs = min((rival for rival in rivals if rival is not None), default=None)
    short = row["goal"] and ours and theirs and theirs / ours < row["goal"]
    return [*line, "short" if short or (most and ours and ours > most) else ""]


def remarks(rows: list[dict[str, Any]], names: Sequence[str]) -> Iterator[str]:
    """What else was found out beside the processor time."""

    def line(row: dict[str, Any], what: str, field: str) -> str:
        figures = ((name, row["figures"][name][field]) for name in names if name in row["figures"])
        return f"{what} ({row['title']}): " + ", ".join(f"{name} {figure:,}" for name, figure in figures)

    for row in rows:
        if row["key"].endswith("idle"):
            yield line(row, "bytes per idle connection", "bytes_per_connection")
        if row["key"] == "accept":
            yield line(row, "connections per second", "rate")


def header(names: Sequence[str]) -> list[str]:
    return ["server CPU, µs per message", *names, "aioxide: messages/s", "vs asyncio", "vs uvloop", "goal", ""]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.network", description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], help=", ".join(case.key for case in CASES))
    parser.add_argument("--implementations", nargs="+", default=list(NAMES), choices=NAMES, metavar="NAME")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.25, help="of each sample")
    parser.add_argument("--no-save", action="store_true", help="prints the table, leaves results/ alone")
    return parser.parse_args()


def installed(name: str) -> bool:
    try:
        load(name)
    except Unavailable as reason:
        print(f"left out: {reason}", file=sys.stderr)
        return False
    return True


def main() -> int:
    options = arguments()
    names = [name for name in options.implementations if installed(name)]
    binary = generator()
    rows = []
    for case in CASES:
        if options.only and case.key not in options.only:
            continue
        print(f"… {case.key}", file=sys.stderr)
        figures = measure(binary, names, case, options.rounds, options.seconds)
        as_json = {name: samples.as_json() for name, samples in figures.items()}
        row = {"key": case.key, "title": case.title, "goal": case.goal, "versus": case.versus, "most": case.most}
        rows.append({**row, "figures": as_json})
    print(f"CPython {platform.python_version()}, {options.rounds} interleaved rounds")
    print(report.table(header(names), [cells(row, names) for row in rows]))
    print(*remarks(rows, names), sep="\n")
    if not options.no_save and not options.only:
        save(machine=describe_machine(), network=rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
