"""The hour: ``python -m tests.ecosystem.soak --help``."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import asyncpg

from tests.ecosystem import servers
from tests.ecosystem.servers import Server
from tests.ecosystem.support import ROOT, VARIABLE

from .ledger import Journal, Ledger, Windows
from .trend import growth
from .visitors import Connection, visitors

RESULTS = Path(__file__).with_name("results.json")
#: how much a figure may grow from the end of the warm-up to the last sample before it counts as growing; of tasks as
#: many as there are clients by default, since a sample counts the requests that are under way, which are more while the
#: machine is busy
TOLERANCE = {"resident": 4 * 1024 * 1024, "descriptors": 4, "threads": 4, "objects": 2000, "blocks": 4000, "tasks": 32}
LIBRARIES = ("fastapi", "uvicorn", "httptools", "asyncpg", "redis")
TICKS = os.sysconf("SC_CLK_TCK")


class Service:
    """The process with the application."""

    def __init__(self, mode: str, folder: Path, addresses: dict[str, str]) -> None:
        self._log = folder / "log.txt"
        self.journal = folder / "journal.txt"
        with (
            socket.create_server(("127.0.0.1", 0), backlog=1024) as listening,
            self.journal.open("ab") as journal,
            self._log.open("wb") as log,
        ):
            self.port: int = listening.getsockname()[1]
            descriptors = (listening.fileno(), journal.fileno())
            how = ["-m", "aioxide"] if mode == "takeover" else []
            command = [sys.executable, "-X", "faulthandler", *how, "-m", f"{__package__}.app", *map(str, descriptors)]
            environment = {key: value for key, value in os.environ.items() if key != "AIOXIDE_TAKEOVER"}
            environment |= {f"AIOXIDE_ECOSYSTEM_{name.upper()}": address for name, address in addresses.items()}
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=environment | {VARIABLE: mode}, stdout=log, stderr=log, pass_fds=descriptors
            )

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def end(self) -> list[str]:
        """As it should, and what was wrong about it otherwise."""
        wrong = []
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                wrong.append("the service does not end at SIGTERM")
        if self._process.wait() != -signal.SIGTERM:
            wrong.append(f"the service ended with {self._process.returncode}")
        # (that the loop is blocked is the doing of the census, which counts all objects, and of whoever else uses the machine)
        lines = self._log.read_text().splitlines()
        said = [line for line in lines if not line.startswith("event loop blocked for ")]
        if text := "\n".join(said).strip():
            wrong.append(f"the service said: {text[-4000:]}")
        return wrong

    def figures(self) -> dict[str, float]:
        """What the kernel knows of it."""
        folder = Path(f"/proc/{self._process.pid}")
        cpu = folder.joinpath("stat").read_text().rpartition(")")[2].split()[11:13]
        return {
            "resident": int(folder.joinpath("statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"),
            "descriptors": len(list(folder.joinpath("fd").iterdir())),
            "threads": len(list(folder.joinpath("task").iterdir())),
            "cpu": sum(map(int, cpu)) / TICKS,
        }

    async def census(self) -> dict[str, int]:
        """What it knows itself, which it says also while it is restarted, a little later."""
        async with asyncio.timeout(60):
            while True:
                try:
                    connection = await Connection.open(self.port)
                    try:
                        connection.send(b"GET /census HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
                        status, body = await connection.answer()
                    finally:
                        await connection.close()
                except (OSError, EOFError):
                    if self._process.poll() is not None:
                        raise RuntimeError("the service has ended") from None
                    await asyncio.sleep(0.1)
                    continue
                if status != 200:
                    raise RuntimeError(f"the census: {status}, {body!r}")
                return json.loads(body)


class Hour:
    """Who does what while it lasts."""

    def __init__(self, service: Service, ledger: Ledger, chance: random.Random) -> None:
        self.service, self.ledger, self._chance = service, ledger, chance
        self.samples: list[dict[str, float]] = []
        #: what has been begun is still finished then
        self.over = asyncio.Event()

    async def _passes(self, seconds: float) -> bool:
        """False if it is over before."""
        try:
            async with asyncio.timeout(seconds):
                await self.over.wait()
        except TimeoutError:
            return True
        return False

    async def now_and_then(self, every: float, disturb: Callable[[], Awaitable[None]]) -> None:
        while await self._passes(every * self._chance.uniform(0.5, 1.5)):
            await disturb()

    async def restart(self, name: str, server: Server, how: tuple[int, ...]) -> None:
        with self.ledger.windows.open(name):
            await asyncio.to_thread(server.stop, self._chance.choice(how))
            await asyncio.sleep(self._chance.uniform(0, 3))
            await asyncio.to_thread(server.start)

    async def interrupt(self) -> None:
        with self.ledger.windows.open("service"):
            before = (await self.service.census())["generation"]
            self.service.interrupt()
            async with asyncio.timeout(60):
                while (await self.service.census())["generation"] == before:
                    await asyncio.sleep(0.1)

    async def sample(self, every: float) -> None:
        began = time.monotonic()
        while await self._passes(every - (time.monotonic() - began) % every):
            counts = self.ledger.counts
            self.samples.append(
                {"at": round(time.monotonic() - began, 1)}
                | self.service.figures()
                | await self.service.census()
                | {what: counts[what] for what in ("asked", "answered", "cut", "faults")}
            )
            if len(self.samples) % 6 == 0:
                print(" ".join(f"{what} {value:,}" for what, value in self.samples[-1].items()), flush=True)


async def hour(service: Service, ledger: Ledger, postgres: Server, redis: Server, options: argparse.Namespace) -> Hour:
    host, _, port = postgres.address.partition(":")
    where = {"host": host, "port": int(port), "user": "postgres", "database": "postgres"}
    connection = await asyncpg.connect(**where)
    await connection.execute("create table written (number bigint primary key, digest text not null)")
    await connection.close()
    await service.census()

    chance = random.Random(options.seed)
    running = Hour(service, ledger, chance)
    people = visitors(service.port, ledger, options.clients, options.rate, options.seed)
    at_work = [asyncio.create_task(visitor.run()) for visitor in people]
    # a fast shutdown, and one without any care, after which the log is played back; Redis has nothing to lose
    ways = {"postgres": (signal.SIGINT, signal.SIGQUIT), "redis": (signal.SIGTERM, signal.SIGKILL)}
    every = options.every
    around = [
        running.sample(options.sample),
        running.now_and_then(3 * every, lambda: running.restart("postgres", postgres, ways["postgres"])),
        running.now_and_then(3 * every, lambda: running.restart("redis", redis, ways["redis"])),
        running.now_and_then(3 * every, running.interrupt),
    ]
    tasks = [asyncio.create_task(coroutine) for coroutine in around]
    # none of them ends by itself, unless it fails
    await asyncio.wait([*tasks, *at_work], timeout=options.seconds, return_when=asyncio.FIRST_COMPLETED)
    running.over.set()
    for visitor in people:
        visitor.leaving = True
    for result in await asyncio.gather(*tasks, *at_work, return_exceptions=True):
        if isinstance(result, BaseException):
            ledger.fault(f"the soak itself: {result!r}")
    ledger.check_sum()
    connection = await asyncpg.connect(**where)
    ledger.check_table({row["number"] for row in await connection.fetch("select number from written")})
    await connection.close()
    return running


def document(running: Hour, ledger: Ledger, options: argparse.Namespace) -> dict[str, Any]:
    """What is kept of it."""
    samples = running.samples
    times = [sample["at"] for sample in samples]
    trends = {}
    for what, allowed in TOLERANCE.items():
        values = [sample[what] for sample in samples]
        warm = values[len(values) // 4 :]
        trends[what] = {
            "median": round(statistics.median(warm)),
            "min": min(warm),
            "max": max(warm),
            "growth": round(growth(times, values)),
            "allowed": allowed,
        }
    latencies = sorted(ledger.latencies)
    asked = ledger.counts["asked"]
    return {
        "python": platform.python_version(),
        "aioxide": version("aioxide"),
        "libraries": {name: version(name) for name in LIBRARIES},
        "mode": options.mode,
        "seconds": samples[-1]["at"],
        "clients": options.clients,
        "rate": options.rate,
        "counts": dict(ledger.counts),
        "restarts": {name: ledger.windows.count(name) for name in ("postgres", "redis", "service")},
        "cpu per request, µs": round((samples[-1]["cpu"] - samples[0]["cpu"]) / (asked - samples[0]["asked"]) * 1e6),
        "latency, ms": {
            name: round(latencies[min(int(len(latencies) * share), len(latencies) - 1)] * 1e3, 1)
            for name, share in (("median", 0.5), ("99 %", 0.99), ("99.9 %", 0.999), ("most", 1.0))
        },
        "trends": trends,
        "faults": ledger.faults,
        "samples": samples,
    }


def written_out(result: dict[str, Any]) -> str:
    """As JSON, with a line for each sample."""
    samples = ",\n  ".join(map(json.dumps, result["samples"]))
    head = json.dumps(result | {"samples": []}, indent=1)
    return head.replace('"samples": []', f'"samples": [\n  {samples}\n ]') + "\n"


def table(result: dict[str, Any]) -> str:
    """In Markdown."""
    counts, restarts, latency = result["counts"], result["restarts"], result["latency, ms"]
    lines = [
        f"Python {result['python']}, {result['mode']}, {result['seconds'] / 60:.0f} min, {result['clients']} clients,"
        f" {result['rate']:.0f} requests a second; "
        + ", ".join(f"{name} {number}" for name, number in result["libraries"].items()),
        "",
        "| | |",
        "|---|--:|",
        *(f"| {name} | {counts.get(name, 0):,} |" for name in ("asked", "answered", "written", "cut", "unavailable")),
        f"| asked again, turned away by a restart | {counts.get('asked again', 0):,} |",
        f"| lost | {counts.get('lost', 0):,} |",
        f"| faults | {counts.get('faults', 0):,} |",
        *(f"| restarts of {name} | {count} |" for name, count in restarts.items()),
        f"| CPU of the service per request, µs | {result['cpu per request, µs']:,} |",
        f"| latency in ms: {', '.join(latency)} | {', '.join(map(str, latency.values()))} |",
        "",
        "| after the warm-up | median | least | most | trend over the time | |",
        "|---|--:|--:|--:|--:|---|",
    ]
    for what, trend in result["trends"].items():
        values = " | ".join(f"{trend[key]:,}" for key in ("median", "min", "max", "growth"))
        lines.append(f"| {what} | {values} | {'GROWS' if trend['growth'] > trend['allowed'] else 'flat'} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.ecosystem.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--mode", choices=["takeover", "loop", "stdlib"], default="takeover")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--rate", type=float, default=150, help="requests a second, of all clients together")
    parser.add_argument("--every", type=float, default=20, help="seconds from one restart to the next, about")
    parser.add_argument("--sample", type=float, default=10, help="seconds from one sample to the next")
    parser.add_argument("--seed", type=int, default=20261126)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    # the servers are ended then, too
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("soak: stopped"))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aioxide-")))
        try:
            postgres = stack.enter_context(servers.postgres_server())
            redis = stack.enter_context(servers.redis_server())
        except servers.Missing as missing:
            print(f"soak: skipped, {missing}")
            return 0
        for server in (postgres, redis):
            stack.callback(server.stop)
            server.start()
        service = Service(options.mode, folder, {"postgres": postgres.address, "redis": redis.address})
        journal = Journal(service.journal)
        ledger = Ledger(Windows(), journal.__contains__)
        try:
            running = asyncio.run(hour(service, ledger, postgres, redis, options))
        finally:
            wrong = service.end()
            journal.close()
            print(*wrong, sep="\n")
        for text in wrong:
            ledger.fault(text)
    result = document(running, ledger, options)
    options.output.write_text(written_out(result))
    print(table(result), *ledger.faults, sep="\n")
    grown = [what for what, trend in result["trends"].items() if trend["growth"] > trend["allowed"]]
    return bool(grown or ledger.faults)


if __name__ == "__main__":
    sys.exit(main())
