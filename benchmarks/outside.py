"""What the loop costs where it meets the rest of the world: servers, the resolver, other threads, signals.

Microseconds of CPU time (all threads of the process, user and system) per operation. Every sample runs in a process of
its own, on one core; whoever answers runs on another. Rounds are interleaved; medians.
"""

import argparse
import asyncio
import json
import os
import platform
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from . import report
from .implementations import NAMES, load
from .network import FASTER, installed, pinned
from .run import describe_machine, save

ROOT = Path(__file__).resolve().parents[1]
#: seconds a sample takes, at least half of it
WINDOW = 0.2


@dataclass(frozen=True)
class Case:
    """``goal``: how many times less CPU time than ``versus`` aioxide has to take; ``absent``: who cannot do it."""

    key: str
    title: str
    run: Callable[[Any, int, Any], Awaitable[None]]
    goal: float | None = None
    versus: str = "uvloop"
    absent: tuple[str, ...] = ()


CASES: dict[str, Case] = {}


def case(key: str, title: str, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
    def add(run: Any) -> Any:
        CASES[key] = Case(key, title, run, *args, **kwargs)
        return run

    return add


async def _connect(connect: Callable[[], Awaitable[tuple[Any, Any]]], n: int) -> None:
    for _ in range(n):
        transport, _ = await connect()
        transport.close()
    await asyncio.sleep(0)


@case("connect", "create_connection to an address, and close", 3, "asyncio")
async def connect(aio: Any, n: int, peers: Any) -> None:
    host, port = peers["tcp"]
    create = asyncio.get_running_loop().create_connection
    await _connect(lambda: create(asyncio.Protocol, host, port), n)


@case("connect_unix", "create_unix_connection, and close", 3, "asyncio", absent=("rloop",))
async def connect_unix(aio: Any, n: int, peers: Any) -> None:
    create = asyncio.get_running_loop().create_unix_connection
    await _connect(lambda: create(asyncio.Protocol, peers["unix"]), n)


@case("getaddrinfo", "getaddrinfo of a name", 1.8)
async def getaddrinfo(aio: Any, n: int, peers: Any) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(n):
        await loop.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)


@case("getaddrinfo_number", "getaddrinfo of an address")
async def getaddrinfo_number(aio: Any, n: int, peers: Any) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(n):
        await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)


@case("threadsafe", "call_soon_threadsafe, there and back", 1.25)
async def threadsafe(aio: Any, n: int, peers: Any) -> None:
    """Another thread calls into the loop, which answers it."""
    loop = asyncio.get_running_loop()
    answered = threading.Lock()
    answered.acquire()
    done = loop.create_future()

    def ask() -> None:
        for _ in range(n):
            loop.call_soon_threadsafe(answered.release)
            answered.acquire()
        loop.call_soon_threadsafe(done.set_result, None)

    thread = threading.Thread(target=ask)
    thread.start()
    await done
    thread.join()


@case("threadsafe_burst", "call_soon_threadsafe, many at once")
async def threadsafe_burst(aio: Any, n: int, peers: Any) -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def call() -> None:
        for _ in range(n):
            loop.call_soon_threadsafe(int)
        loop.call_soon_threadsafe(done.set_result, None)

    thread = threading.Thread(target=call)
    thread.start()
    await done
    thread.join()


@case("signal", "a signal, to its handler", 1.6)
async def deliver_signal(aio: Any, n: int, peers: Any) -> None:
    loop = asyncio.get_running_loop()
    done, left, pid = loop.create_future(), n, os.getpid()

    def handle() -> None:
        nonlocal left
        left -= 1
        if left:
            os.kill(pid, signal.SIGUSR1)
        else:
            done.set_result(None)

    loop.add_signal_handler(signal.SIGUSR1, handle)
    os.kill(pid, signal.SIGUSR1)
    await done


@case("executor", "run_in_executor, there and back")
async def executor(aio: Any, n: int, peers: Any) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(n):
        await loop.run_in_executor(None, int)


@case("spawn", "create_subprocess_exec, and wait for its end", 2.4, "asyncio")
async def spawn(aio: Any, n: int, peers: Any) -> None:
    """A program that does nothing. Its own time is not counted."""
    for _ in range(n):
        process = await aio.create_subprocess_exec("/bin/true")
        await process.wait()


@case("spawn_pipes", "create_subprocess_exec with three pipes, and communicate()")
async def spawn_pipes(aio: Any, n: int, peers: Any) -> None:
    pipe = subprocess.PIPE
    for _ in range(n):
        process = await aio.create_subprocess_exec("/bin/true", stdin=pipe, stdout=pipe, stderr=pipe)
        await process.communicate(b"")


@case("popen", "subprocess.Popen and its wait(), without a loop", versus="asyncio")
async def popen(aio: Any, n: int, peers: Any) -> None:
    """What is left of a spawn if the loop costs nothing."""
    for _ in range(n):
        subprocess.Popen(["/bin/true"]).wait()


# -- one sample, in its own process -------------------------------------------------------------------------


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def sample(name: str, key: str, peers: Any, window: float) -> float:
    """Microseconds per operation."""
    implementation = load(name)
    loop = implementation.new_event_loop()
    asyncio.set_event_loop(loop)
    run = CASES[key].run
    try:
        n = 50
        while True:
            loop.run_until_complete(run(implementation.aio, n, peers))
            began, used = perf_counter(), cpu()
            loop.run_until_complete(run(implementation.aio, n, peers))
            took, used = perf_counter() - began, cpu() - used
            if took > window / 2:
                return used / n * 1e6
            n = max(2 * n, int(n * window / took))
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


@contextmanager
def answering() -> Iterator[dict[str, Any]]:
    """Servers that take every connection and give it up at once."""
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "server")
        servers = [socket.create_server(("127.0.0.1", 0), backlog=4096), socket.socket(socket.AF_UNIX)]
        servers[1].bind(path)
        servers[1].listen(4096)

        def take(server: socket.socket) -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                connection.recv(1)
                connection.close()

        for server in servers:
            threading.Thread(target=take, args=(server,), daemon=True).start()
        try:
            yield {"tcp": servers[0].getsockname(), "unix": path}
        finally:
            for server in servers:
                server.close()


def ask(name: str, key: str, peers: dict[str, Any], window: float = WINDOW) -> float:
    one = ["--sample", name, key, json.dumps(peers), str(window)]
    command = [*pinned(0), sys.executable, "-m", "benchmarks.outside", *one]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(f"{key} on {name}: {done.stderr}")
    return float(done.stdout)


def measure(key: str, names: list[str], rounds: int) -> dict[str, list[float]]:
    names = [name for name in names if name not in CASES[key].absent]
    samples: dict[str, list[float]] = {name: [] for name in names}
    with answering() as peers:
        for turn in range(rounds):
            shift = turn % len(names)
            for name in [*names[shift:], *names[:shift]]:
                samples[name].append(ask(name, key, peers))
    return samples


def cells(row: dict[str, Any], names: list[str]) -> list[str]:
    """One line of the table."""
    medians = {name: figure["median"] for name, figure in row["figures"].items()}
    ours, other = medians.get("aioxide"), medians.get(row["versus"])
    line = [row["title"], *[f"{medians[name]:.2f}" if name in medians else "" for name in names]]
    line += [report.ratio(medians.get("asyncio"), ours), report.ratio(medians.get("uvloop"), ours)]
    line.append(f"{row['goal']:g}{FASTER.replace('uvloop', row['versus'])}" if row["goal"] else "")
    return [*line, "short" if row["goal"] and ours and other and other / ours < row["goal"] else ""]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.outside", description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], help=", ".join(CASES))
    parser.add_argument("--implementations", nargs="+", default=list(NAMES), choices=NAMES, metavar="NAME")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-save", action="store_true", help="prints the table, leaves results/ alone")
    parser.add_argument(
        "--sample", nargs=4, metavar=("NAME", "KEY", "PEERS", "WINDOW"), help="one sample, in this process"
    )
    options = parser.parse_args()
    if options.sample:
        name, key, peers, window = options.sample
        print(sample(name, key, json.loads(peers), float(window)))
        return 0
    names = [name for name in options.implementations if installed(name)]
    rows = []
    for key, one in CASES.items():
        if options.only and key not in options.only:
            continue
        print(f"… {key}", file=sys.stderr)
        figures = {
            name: {"median": round(statistics.median(samples), 2), "samples": [round(s, 2) for s in samples]}
            for name, samples in measure(key, names, options.rounds).items()
        }
        rows.append({"key": key, "title": one.title, "goal": one.goal, "versus": one.versus, "figures": figures})
    print(f"CPython {platform.python_version()}, {options.rounds} interleaved rounds")
    print(report.table(["CPU, µs", *names, "vs asyncio", "vs uvloop", "goal", ""], [cells(row, names) for row in rows]))
    if not options.no_save and not options.only:
        save(machine=describe_machine(), outside=rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
