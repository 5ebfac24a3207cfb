"""Connections by the thousand: what an idle one takes, and whether a minute of coming and going leaves anything.

A server of aioxide's echoes one message for each connection, up to 10,000 a second, while its resident memory,
descriptors and objects are counted. They may move, but not grow: the last third of the samples against the second.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .network import generator, pinned, served

#: more than chance
TOLERANCE = {"resident": 256 * 1024, "descriptors": 20, "objects": 200, "blocks": 400}


@dataclass(frozen=True)
class Endured:
    connections: int
    seconds: float
    samples: list[dict[str, int]]

    def growth(self, what: str) -> int:
        """From the second third to the last; the first one fills pools and arenas."""
        values = [sample[what] for sample in self.samples]
        third = len(values) // 3
        return round(statistics.median(values[2 * third :]) - statistics.median(values[third : 2 * third]))

    def grown(self) -> list[str]:
        return [what for what, allowed in TOLERANCE.items() if self.growth(what) > allowed]


def look(process: subprocess.Popen[str]) -> dict[str, int]:
    """What the process has, while it works."""
    process.send_signal(signal.SIGUSR1)
    counted: dict[str, int] = json.loads(process.stdout.readline())
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    descriptors = len(os.listdir(f"/proc/{process.pid}/fd"))
    return {"resident": pages * os.sysconf("SC_PAGE_SIZE"), "descriptors": descriptors, **counted}


def endure(binary: Path, seconds: float, rate: int, implementation: str = "aioxide") -> Endured:
    with served(implementation, "protocol") as (where, process):
        arguments = [
            "--to",
            where,
            "--pid",
            str(process.pid),
            "--churn",
            "--rate",
            str(rate),
            "--seconds",
            str(seconds),
        ]
        load = subprocess.Popen([*pinned(1), binary, *arguments], stdout=subprocess.PIPE, text=True)
        samples = []
        while load.poll() is None:
            time.sleep(seconds / 30)
            samples.append(look(process))
        if load.returncode:
            raise RuntimeError("the load generator has failed")
        done = json.loads(load.stdout.read())
        load.stdout.close()
    return Endured(done["messages"], done["seconds"], samples)


def idle(binary: Path, connections: int, implementation: str = "aioxide") -> int:
    """Bytes for each."""
    with served(implementation, "protocol") as (where, process):
        arguments = ["--to", where, "--pid", str(process.pid), "--idle", str(connections), "--connections", "1"]
        done = subprocess.run([*pinned(1), binary, *arguments], capture_output=True, text=True, check=True)
        figures: dict[str, Any] = json.loads(done.stdout)
    return figures["bytes_per_connection"]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.endurance", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate", type=int, default=10_000, help="connections a second, at most")
    parser.add_argument("--idle", type=int, default=10_000)
    options = parser.parse_args(arguments)
    binary = generator()
    sizes = {name: idle(binary, options.idle, name) for name in ("uvloop", "aioxide")}
    print(f"bytes per idle connection, of {options.idle:,}: " + ", ".join(f"{n} {size:,}" for n, size in sizes.items()))
    endured = endure(binary, options.seconds, options.rate)
    print(f"{endured.connections:,} connections in {endured.seconds:.0f} s")
    for what in TOLERANCE:
        first, last = endured.samples[len(endured.samples) // 3][what], endured.samples[-1][what]
        print(f"  {what:12} {first:>12,} → {last:>12,}   growth {endured.growth(what):,}")
    failures = [f"{what} grow" for what in endured.grown()]
    if sizes["aioxide"] > sizes["uvloop"]:
        failures.append("an idle connection takes more than uvloop's")
    print("; ".join(failures) or "nothing grows")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
