"""Deadlocks are told, with the tasks, what they wait for, who holds it, and the lines; and nothing else is called one."""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aioxide.attach import NO_LOOP, NO_PROCESS, Failure, ps
from aioxide.attach.client import Connection, Process
from tests import diag_deadlocks
from tests.diag_deadlocks import CASES
from tests.diag_healthy import HEALTHY, SERVICE
from tests.support import STDLIB, records_in

pytestmark = pytest.mark.skipif(STDLIB, reason="asyncio has no diag")


def environment(log: Path, **more: str) -> dict[str, str]:
    log.touch()
    return {**os.environ, "AIOXIDE_DIAG_LOG": f"jsonl:{log}", "AIOXIDE_BLOCK_MS": "10000", **more}


def names(record: dict[str, Any]) -> set[str]:
    found = record.get("held_by", record.get("for", []))
    return {found} if isinstance(found, str) else set(found)


def wait_for(condition: Callable[[], Any], seconds: float) -> None:
    """Until it holds, or has not for so long. What is to hold is the caller's to assert."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)


def stop(process: subprocess.Popen[Any]) -> None:
    process.kill()
    process.wait()


def test_there_are_twenty():
    assert len(CASES) == 20


#: What `aioxide ps --check` has seen of each program, meanwhile: the names of tasks in rings.
SEEN: dict[str, list[set[str]] | None] = {}


def has_begun(process: subprocess.Popen[Any]) -> bool:
    """A loop has, or it has ended."""
    try:
        return process.poll() is not None or Process(process.pid).has_door()
    except Failure:
        return True


def rings_of(pid: int) -> list[set[str]] | None:
    """None: it cannot be asked."""
    try:
        with Connection(pid) as connection:
            names = {task["id"]: task["name"] for task in connection.tasks()["tasks"]}
            return [{names[task] for task in ring} for ring in ps.rings(connection) or []]
    except Failure as failure:
        assert failure.code in (NO_LOOP, NO_PROCESS), failure
        return None


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> dict[str, list[dict[str, Any]]]:
    """What each of the programs has said: all run at once."""
    directory = tmp_path_factory.mktemp("deadlocks")
    running = []
    for name in CASES:
        command = [sys.executable, "-m", "tests.diag_deadlocks", name, "90"]
        log = directory / name
        running.append(subprocess.Popen(command, env=environment(log), stderr=subprocess.DEVNULL))
    wait_for(lambda: all((directory / name).read_text() for name in CASES), 60)
    time.sleep(2.5)  # nothing is told twice
    SEEN.update({name: rings_of(process.pid) for name, process in zip(CASES, running, strict=True)})
    for process in running:
        stop(process)
    return {name: records_in(directory / name) for name in CASES}


@pytest.mark.parametrize("name", CASES)
def test_explained(name, said):
    case = CASES[name]
    [record] = said[name]
    assert (record["ev"], record["kind"]) == ("deadlock", case.kind)
    assert {task["t"] for task in record["tasks"]} == set(case.waits)
    lines = case.lines()
    for task in record["tasks"]:
        what, who = case.waits[task["t"]]
        assert task["waits"].startswith(what)
        assert names(task) == who
        file, number, _ = task["at"].rsplit(":", 2)
        assert (file, int(number)) == (diag_deadlocks.__file__, lines[task["t"]])
    assert set(record.get("behind", ())) == case.behind


@pytest.mark.parametrize("name", CASES)
def test_whoever_asks_sees_the_same(name, said):
    case = CASES[name]
    assert SEEN[name] == ([set(case.waits)] if case.kind == "cycle" else [])


def deadlocks(program: str, tmp_path: Path, *, least: float = 0, **more: str) -> list[dict[str, Any]]:
    """What a program says, and in the two and a half seconds after that; it may end sooner. It runs for `least` seconds
    though it may say nothing."""
    path, log = tmp_path / "program.py", tmp_path / "records"
    path.write_text("import aioxide as asyncio\n" + textwrap.dedent(program))
    process = subprocess.Popen([sys.executable, str(path)], env=environment(log, **more), stderr=subprocess.DEVNULL)
    wait_for(lambda: log.read_text() or process.poll() is not None, least or 60)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(2.5)
    stop(process)
    return records_in(log)


def seconds_until_told(log: Path) -> float:
    command = [sys.executable, "-m", "tests.diag_deadlocks", "event_that_nobody_sets", "20"]
    process = subprocess.Popen(command, env=environment(log, DIAG_TEST_STARTED="1"), stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert process.stderr.readline() == "begins\n"
    began = time.monotonic()
    wait_for(log.read_text, 15)
    took = time.monotonic() - began
    stop(process)
    process.stderr.close()
    return took


def test_within_a_second_and_a_half(tmp_path):
    """A machine that has other things to do may be late with anything; it is not so every time."""
    assert any(seconds_until_told(tmp_path / f"records{number}") < 1.5 for number in range(10))


@pytest.fixture(scope="module")
def said_when_healthy(tmp_path_factory) -> dict[str, list[dict[str, Any]]]:
    """What programs have said in their first seconds to which nothing is to be said: all run at once."""
    directory = tmp_path_factory.mktemp("healthy")
    running = {}
    for number, (name, program) in enumerate({**HEALTHY, "a service": SERVICE}.items()):
        path, log = directory / f"program{number}.py", directory / f"records{number}"
        path.write_text("import aioxide as asyncio\n" + textwrap.dedent(program))
        running[name] = (
            log,
            subprocess.Popen([sys.executable, str(path)], env=environment(log), stderr=subprocess.DEVNULL),
        )
    # They are watched for as long as those take that have something to say, and begin when these run: however fast that is.
    for _, process in running.values():
        wait_for(functools.partial(has_begun, process), 60)
    for name in ("event_that_nobody_sets", "two_locks_in_opposite_order"):
        command, log = [sys.executable, "-m", "tests.diag_deadlocks", name, "90"], directory / name
        running[name] = (log, subprocess.Popen(command, env=environment(log), stderr=subprocess.DEVNULL))
        wait_for(log.read_text, 60)
        assert log.read_text()
        for each in [*HEALTHY, "a service"]:
            SEEN[each] = SEEN.get(each) or rings_of(running[each][1].pid)
    time.sleep(1)
    for _, process in running.values():
        stop(process)
    return {name: records_in(log) for name, (log, _) in running.items()}


@pytest.mark.parametrize("name", [*HEALTHY, "a service"])
def test_nothing_is_said_of(name, said_when_healthy):
    assert said_when_healthy[name] == []
    assert not SEEN[name]


BUSY = """
    async def main():
        lock = asyncio.Lock()
        async def child():
            await lock.acquire()
        async def busy():
            while True:
                await asyncio.sleep({pause})
        asyncio.create_task(busy(), name="busy")
        async with lock:
            await asyncio.create_task(child(), name="child")
    asyncio.run(main())
"""


@pytest.mark.parametrize("pause", [0, 0.001, 0.2])
def test_ring_beside_a_busy_task(pause, tmp_path):
    [record] = deadlocks(BUSY.format(pause=pause), tmp_path)
    assert record["kind"] == "cycle"
    assert {task["t"] for task in record["tasks"]} == {"Task-1", "child"}


AGAIN = """
    from aioxide import diag

    async def twice(lock):
        async with lock:
            await lock.acquire()

    async def main():
        for _ in range(2):
            lock = asyncio.Lock()
            task = asyncio.create_task(twice(lock), name="twice")
            told = asyncio.Event()
            diag.configure(on_event=lambda record: told.set())
            await asyncio.wait_for(told.wait(), 30)
            await asyncio.sleep(1.5)  # so that it is looked once more
            task.cancel()
            await asyncio.wait([task])
            await asyncio.sleep(0.1)
    asyncio.run(main())
"""


def test_each_deadlock_is_told_once(tmp_path):
    path, log = tmp_path / "program.py", tmp_path / "records"
    path.write_text("import aioxide as asyncio\n" + textwrap.dedent(AGAIN))
    subprocess.run([sys.executable, str(path)], env=environment(log), timeout=80, check=True)
    assert [record["kind"] for record in records_in(log)] == ["cycle", "cycle"]


def test_an_idle_worker_of_the_executor_is_nobody(tmp_path):
    program = """
        async def main():
            await asyncio.to_thread(len, "")
            await asyncio.Event().wait()
        asyncio.run(main())
        """
    [record] = deadlocks(program, tmp_path)
    assert record["kind"] == "quiescent"


@pytest.mark.parametrize(
    "thread",
    [
        "from aioxide import diag; diag.register(signal.SIGUSR2)",
        # (one that lasts, in the place of one that has a large file to write)
        "threading.Thread(target=lambda: (ctypes.CDLL(None).prctl(15, b'aioxide-flight'), time.sleep(60)), daemon=True).start()",
    ],
    ids=["signal", "flight"],
)
def test_threads_of_ours_are_nobody(tmp_path, thread):
    program = f"""
        import ctypes, signal, threading, time
        {thread}
        asyncio.run(asyncio.Event().wait())
        """
    [record] = deadlocks(program, tmp_path, least=20)
    assert record["kind"] == "quiescent"


def test_off(tmp_path):
    program = "asyncio.run(asyncio.Event().wait())"
    assert deadlocks(program, tmp_path, least=2, AIOXIDE_DIAG="0") == []


def test_an_idle_loop_is_woken_once(tmp_path):
    """A server with nothing to do looks once, and then sleeps until something happens."""
    program = """
        import os, sys
        async def main():
            server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
            print("ready", flush=True)
            await server.serve_forever()
        asyncio.run(main())
        """
    path = tmp_path / "program.py"
    path.write_text("import aioxide as asyncio\n" + textwrap.dedent(program))
    process = subprocess.Popen(
        [sys.executable, str(path)], env=environment(tmp_path / "records"), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"

    def switches() -> int:
        text = Path(f"/proc/{process.pid}/status").read_text()
        return int(text.partition("\nvoluntary_ctxt_switches:")[2].split()[0])

    time.sleep(2.5)
    # (on a machine with other things to do the one look may come later)
    for _ in range(3):
        before = switches()
        time.sleep(3)
        if (after := switches()) == before:
            break
    stop(process)
    process.stdout.close()
    assert after == before


def test_the_logger_gets_a_report(tmp_path):
    command = [sys.executable, "-m", "tests.diag_deadlocks", "two_locks_in_opposite_order", "60"]
    env = {**os.environ, "AIOXIDE_BLOCK_MS": "0"}
    env.pop("AIOXIDE_DIAG_LOG", None)
    lines: list[str] = []
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(line.rstrip("\n"))
            if line.startswith("  Behind"):
                stop(process)
    assert lines[0] == "Deadlock: 2 tasks wait for each other."
    assert lines[1] == "  one waits for Lock second, held by two"
    assert lines[2].startswith(f"      at {diag_deadlocks.__file__}:")
    assert lines[-1] == "  Behind them: main"


def test_waits(aio):
    from aioxide import diag

    async def main() -> None:
        lock = asyncio_lock = aio.Lock()

        async def want() -> None:
            async with lock:
                pass

        async with asyncio_lock:
            task = aio.create_task(want(), name="want")
            await aio.sleep(0)
            [wait] = diag.waits()
            assert (wait["t"], wait["waits"], wait["held_by"]) == ("want", "Lock lock", "Task-1") or wait[
                "held_by"
            ].startswith("Task-")
            assert wait["at"].endswith(":test_waits.<locals>.main.<locals>.want")
        await task

    aio.run(main())
