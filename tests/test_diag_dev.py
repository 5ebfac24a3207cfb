"""Development mode: each planted mistake leaves exactly one record, with the program's line."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.support import STDLIB, interpreter, records_of

pytestmark = pytest.mark.skipif(STDLIB, reason="asyncio has no diag")

#: no audit event tells of it before
SLEEP_IS_AUDITED = sys.version_info >= (3, 13)

HEAD = "import aioxide as asyncio, contextlib, gc, os, socket, sqlite3, subprocess, sys, time\n"

#: name: the record's event, the key whose line is the one marked ``# here``, the program, more of the record
MISTAKES: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "coroutine not awaited": (
        "never_awaited",
        "created",
        """
        async def fetch():
            pass

        async def main():
            for _ in range(3):
                fetch()  # here
        """,
        {"coroutine": "fetch"},
    ),
    "coroutine kept, and not awaited": (
        "never_awaited",
        "created",
        """
        async def fetch():
            pass

        async def main():
            kept = fetch()  # here
            await asyncio.sleep(0)
            del kept
        """,
        {"coroutine": "fetch"},
    ),
    "sleep not awaited": (
        "never_awaited",
        "created",
        """
        async def main():
            asyncio.sleep(1)  # here
        """,
        {"coroutine": "sleep"},
    ),
    "exception of a task not retrieved": (
        "never_retrieved",
        "raised",
        """
        async def fails():
            raise ValueError("no")  # here

        async def main():
            task = asyncio.create_task(fails())
            await asyncio.sleep(0.01)
            del task
            gc.collect()
        """,
        {"exception": "ValueError"},
    ),
    "exception of a future not retrieved": (
        "never_retrieved",
        "created",
        """
        async def main():
            future = asyncio.get_running_loop().create_future()  # here
            future.set_exception(KeyError("no"))
            del future
            gc.collect()
        """,
        {"exception": "KeyError"},
    ),
    "task destroyed while it waits": (
        "destroyed_pending",
        "created",
        """
        async def waits():
            await asyncio.get_running_loop().create_future()

        async def main():
            asyncio.create_task(waits())  # here
            await asyncio.sleep(0.01)
            gc.collect()
        """,
        {},
    ),
    "task destroyed, and where it waited": (
        "destroyed_pending",
        "at",
        """
        async def waits():
            await asyncio.Event().wait()  # here

        async def outer():
            await waits()

        async def main():
            asyncio.create_task(outer())
            await asyncio.sleep(0.01)
            gc.collect()
        """,
        {},
    ),
    "timeout swallowed by the last statement of its block": (
        "cancel_swallowed",
        "at",
        """
        async def main():
            async with asyncio.timeout(0.01):
                try:
                    await asyncio.sleep(20)  # here
                except asyncio.CancelledError:
                    pass
        """,
        {"how": "left the block of the timeout as if in time", "reason": "timeout", "deliveries": 1},
    ),
    "timeout swallowed after cleaning up": (
        "cancel_swallowed",
        "at",
        """
        async def main():
            async with asyncio.timeout(0.01):
                try:
                    await asyncio.sleep(20)  # here
                except asyncio.CancelledError:
                    await asyncio.sleep(0)
        """,
        {"how": "left the block of the timeout as if in time"},
    ),
    "task forgotten": (
        "forgotten_task",
        "created",
        """
        async def background():
            await asyncio.sleep(20)

        async def main():
            asyncio.create_task(background())  # here
            await asyncio.sleep(2.5)
            os._exit(0)
        """,
        {},
    ),
    "time.sleep": (
        "blocking_call",
        "at",
        """
        async def main():
            for _ in range(3):
                time.sleep(0.01)  # here
        """,
        {"call": "time.sleep()", "task": "Task-1"},
    ),
    "file opened": (
        "blocking_call",
        "at",
        """
        import pathlib

        async def main():
            pathlib.Path("/dev/null").read_text()  # here
        """,
        {"call": "open()"},
    ),
    "blocking connect": (
        "blocking_call",
        "at",
        """
        async def main():
            with socket.socket() as listener, socket.socket() as client:
                listener.bind(("127.0.0.1", 0))
                listener.listen()
                client.connect(listener.getsockname())  # here
        """,
        {"call": "socket.connect()"},
    ),
    "subprocess": (
        "blocking_call",
        "at",
        """
        async def main():
            subprocess.run(["true"])  # here
        """,
        {"call": "subprocess.Popen()"},
    ),
    "database": (
        "blocking_call",
        "at",
        """
        async def main():
            asyncio.get_running_loop().call_soon(query)
            await asyncio.sleep(0.01)

        def query():
            sqlite3.connect(":memory:").close()  # here
        """,
        {"call": "sqlite3.connect()", "task": None},
    ),
    "cancellation swallowed": (
        "cancel_swallowed",
        "by_site",
        """
        async def worker():
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                pass

        async def main():
            task = asyncio.create_task(worker())
            await asyncio.sleep(0)
            task.cancel()  # here
            await task
        """,
        {"how": "ended with a result"},
    ),
    "slow callback": (
        "block",
        "culprit",
        """
        def work():
            until = time.monotonic() + 0.4
            while time.monotonic() < until: pass  # here

        async def main():
            work()
        """,
        {},
    ),
}


if not SLEEP_IS_AUDITED:
    del MISTAKES["time.sleep"]


def run(program: str, tmp_path: Path, *arguments: str, **environment: str) -> list[dict[str, Any]]:
    """The records of a program."""
    text = HEAD + textwrap.dedent(program) + "\nasyncio.run(main())\n"
    return records_of(text, tmp_path, *arguments, **environment)


def line(program: str) -> int:
    lines = (HEAD + textwrap.dedent(program)).splitlines()
    [number] = [number for number, text in enumerate(lines, 1) if text.endswith("# here")]
    return number


@pytest.mark.parametrize("name", MISTAKES)
def test_exactly_one_record(name, tmp_path):
    event, key, program, more = MISTAKES[name]
    quiet = {} if event == "block" else {"AIOXIDE_BLOCK_MS": "0"}
    records = run(program, tmp_path, AIOXIDE_DEV="1", **quiet)
    # (a block has a second record when it is over)
    [record] = [record for record in records if record.get("phase") != "end"]
    assert record["ev"] == event
    file, number, _ = record[key].rsplit(":", 2)
    assert (file, int(number)) == (str(tmp_path / "program.py"), line(program))
    for key, value in more.items():
        assert record[key] == value


@pytest.mark.parametrize("name", ["coroutine not awaited", "database", "exception of a task not retrieved"])
@pytest.mark.parametrize("how", [("-X", "dev"), ("-m", "aioxide", "run", "--dev")])
def test_ways_in(how, name, tmp_path):
    event, _, program, _ = MISTAKES[name]
    records = run(program, tmp_path, *how, AIOXIDE_BLOCK_MS="0")
    assert [record["ev"] for record in records] == [event]


def test_the_command_line_comes_before_the_environment(tmp_path):
    """And holds for the processes that the program starts."""
    program = MISTAKES["coroutine not awaited"][2]
    inner = tmp_path / "inner.py"
    inner.write_text(HEAD + textwrap.dedent(program) + "\nasyncio.run(main())\n")
    program += f"    subprocess.run([sys.executable, {str(inner)!r}], check=True)\n"
    how = ("-m", "aioxide", "run", "--dev")
    records = run(program, tmp_path, *how, AIOXIDE_DIAG="0", AIOXIDE_BLOCK_MS="0")
    assert sorted(record["ev"] for record in records) == ["blocking_call", "never_awaited", "never_awaited"]
    assert run(program, tmp_path, AIOXIDE_DIAG="0", AIOXIDE_DEV="1") == []


def test_a_program_that_is_not_let_develop_hears_of_it():
    done = interpreter("-c", "from aioxide import diag; diag.develop()", env={"AIOXIDE_DIAG": "0"})
    assert "RuntimeWarning: AIOXIDE_DIAG=0 is set: there is no development mode" in done.stderr
    assert done.returncode == 0
    done = interpreter("-c", "from aioxide import diag; diag.develop(); print(diag.settings()['block_ms'])")
    assert (done.stdout, done.stderr) == ("50.0\n", "")


@pytest.mark.parametrize(("kind", "mistake"), [("task", "exception of a task"), ("future", "exception of a future")])
def test_what_was_made_is_called_what_it_is(kind, mistake, tmp_path):
    _, _, program, _ = MISTAKES[f"{mistake} not retrieved"]
    path = tmp_path / "program.py"
    path.write_text(HEAD + textwrap.dedent(program) + "\nasyncio.run(main())\n")
    done = interpreter(str(path), env={"AIOXIDE_DEV": "1"}, check=True)
    assert f"\n  The {kind} was made at {path}:" in done.stderr


@pytest.mark.parametrize("name", MISTAKES)
def test_nothing_in_production(name, tmp_path):
    assert run(MISTAKES[name][2], tmp_path, AIOXIDE_BLOCK_MS="0") == []


NO_MISTAKES = """
    async def child():
        await asyncio.sleep(0.01)
        return 1

    async def main():
        loop = asyncio.get_running_loop()
        await asyncio.gather(child(), child())
        async with asyncio.TaskGroup() as group:
            group.create_task(child())
        task = asyncio.create_task(child())
        await asyncio.to_thread(time.sleep, 0.01)
        await loop.getaddrinfo("127.0.0.1", 80)
        await loop.run_in_executor(None, open, os.devnull)
        for program in ("true", "true", "/bin/true"):
            process = await asyncio.create_subprocess_exec(program)
            await process.wait()
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await reader.read()
        writer.close()
        server.close()
        client = socket.socket()
        client.setblocking(False)
        listener = socket.create_server(("127.0.0.1", 0))
        await loop.sock_connect(client, listener.getsockname())
        client.close()
        listener.close()
        import wsgiref.headers
        time.sleep(0)
        await task
        kept = None
        try:
            async with asyncio.timeout(0.01):
                try:
                    await asyncio.sleep(20)
                except asyncio.CancelledError as exception:
                    kept = exception  # to be raised later
        except TimeoutError:
            raise SystemExit("it was swallowed")
        kept = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.01):
                try:
                    await asyncio.sleep(20)
                except asyncio.CancelledError:
                    await asyncio.sleep(0)
                    raise
        await asyncio.sleep(1.5)
"""


def test_nothing_to_say_of_a_healthy_program(tmp_path):
    assert run(NO_MISTAKES, tmp_path, AIOXIDE_DEV="1", AIOXIDE_BLOCK_MS="0") == []


def test_it_is_not_the_debug_mode(tmp_path):
    program = """
    async def main():
        assert asyncio.get_running_loop().get_debug() is (sys.argv[1:] == ["debug"])
        assert sys.get_coroutine_origin_tracking_depth() == 1
        asyncio.get_running_loop().set_debug(True)
        assert sys.get_coroutine_origin_tracking_depth() == 10
        asyncio.get_running_loop().set_debug(False)
        assert sys.get_coroutine_origin_tracking_depth() == 1
    """
    assert run(program, tmp_path, AIOXIDE_DEV="1", AIOXIDE_BLOCK_MS="0") == []


def test_the_program_hears_of_it_as_ever(tmp_path):
    """The RuntimeWarning comes, from where Python itself gives it."""
    path = tmp_path / "program.py"
    path.write_text(
        "import aioxide as asyncio\nasync def fetch(): pass\nasync def main():\n    fetch()\nasyncio.run(main())\n"
    )
    texts = []
    for value in ("0", "1"):
        env = {**os.environ, "AIOXIDE_DEV": value, "AIOXIDE_DIAG_LOG": f"jsonl:{tmp_path / 'records'}"}
        result = subprocess.run([sys.executable, str(path)], env=env, timeout=50, capture_output=True, text=True)
        texts.append(result.stderr)
    for text in texts:
        assert f"{path}:4: RuntimeWarning: coroutine 'fetch' was never awaited" in text
    assert "Coroutine created at" in texts[1]
