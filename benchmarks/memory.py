"""Bytes per idle task and per pending future, and whether millions of finished tasks leave something behind.

Each figure comes from a process of its own: the growth of its resident memory, divided by the number of objects.
"""

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from . import report
from .implementations import NAMES, Implementation, Unavailable, load
from .operations import nothing
from .run import save

CASES = {
    "idle_task": "idle task, with coroutine, context and the future it waits for",
    "future": "pending future",
}


def resident() -> int:
    """Bytes of this process in memory."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return int(subprocess.check_output(["ps", "-o", "rss=", "-p", str(os.getpid())])) * 1024


async def idle_task(aio, count: int) -> dict[str, float]:
    new_future = aio.get_running_loop().create_future

    async def wait():
        await new_future()

    async def make(slots):
        for index in range(len(slots)):
            slots[index] = aio.create_task(wait())
        await aio.sleep(0)

    async def drop(slots):
        for task in slots:
            task.cancel()
        await aio.gather(*slots, return_exceptions=True)

    warm: list[Any] = [None] * 1000
    await make(warm)
    await drop(warm)
    slots: list[Any] = [None] * count
    gc.collect()
    before = resident()
    await make(slots)
    gc.collect()
    taken = resident() - before
    await drop(slots)
    return {"bytes": taken / count}


async def future(aio, count: int) -> dict[str, float]:
    new_future = aio.get_running_loop().create_future
    slots: list[Any] = [new_future() for _ in range(1000)]
    slots = [None] * count
    gc.collect()
    before = resident()
    for index in range(count):
        slots[index] = new_future()
    gc.collect()
    return {"bytes": (resident() - before) / count}


async def churn(aio, count: int) -> dict[str, float]:
    """Resident memory after each million of tasks that were created, run and forgotten."""
    create, sleep, after = aio.create_task, aio.sleep, []
    for number in range(count // 1000):
        for _ in range(1000):
            create(nothing())
        await sleep(0)
        if number % 1000 == 999:
            gc.collect()
            after.append(resident())
    return {"first": after[0], "last": after[-1], "drift": max(abs(value - after[0]) for value in after)}


def in_child(name: str, case: str, count: int) -> None:
    implementation: Implementation = load(name)
    loop = implementation.new_event_loop()
    run = {"idle_task": idle_task, "future": future, "churn": churn}[case]
    print(json.dumps(loop.run_until_complete(run(implementation.aio, count))))
    loop.close()


def ask(name: str, case: str, count: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.memory", "--child", name, case, str(count)]
    return json.loads(subprocess.check_output(command, cwd=Path(__file__).parents[1]))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--objects", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=10_000_000, help="for the last row; at least a million, 0: not")
    parser.add_argument("--churn", nargs="*", default=["asyncio", "aioxide"], help="who runs the last row")
    parser.add_argument("--no-save", action="store_true")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    if options.child:
        name, case, count = options.child
        in_child(name, case, int(count))
        return
    names = []
    for name in NAMES:
        try:
            load(name)
            names.append(name)
        except Unavailable as reason:
            print(f"left out: {reason}", file=sys.stderr)
    memory: dict[str, Any] = {}
    rows = []
    for case, title in CASES.items():
        samples = {name: [] for name in names}
        for _ in range(options.rounds):
            for name in names:
                samples[name].append(ask(name, case, options.objects)["bytes"])
        memory[case] = {name: round(statistics.median(values), 1) for name, values in samples.items()}
        line = [title, *[f"{memory[case][name]:,.0f}" for name in names]]
        if "aioxide" in names:
            line.append(f"{100 * (memory[case]['aioxide'] / memory[case]['asyncio'] - 1):+.0f} %")
        rows.append(line)
    print(report.table(["bytes each", *names, *(["vs asyncio"] if "aioxide" in names else [])], rows))
    memory["churn"] = {}
    for name in set(options.churn) & set(names) if options.tasks else ():
        found = memory["churn"][name] = {"tasks": options.tasks, **ask(name, "churn", options.tasks)}
        print(
            f"{name}, {options.tasks:,} tasks created and finished: {found['first'] / 2**20:.1f} MB after the first "
            f"million, {found['last'] / 2**20:.1f} MB at the end, never more than {found['drift'] / 2**20:.1f} MB apart"
        )
    if not options.no_save:
        save(memory=memory)


if __name__ == "__main__":
    main()
