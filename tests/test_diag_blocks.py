"""Blocked loops are told of while they are blocked, with the line that does it; and nothing else is.

The blocks here last half a second or more, so that a loaded machine has time to notice. `python -m benchmarks.blocks`
has the strict figures.
"""

import asyncio
import functools
import json
import logging
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path

import pytest

import aioxide
from aioxide import diag
from tests.support import STDLIB

pytestmark = pytest.mark.skipif(STDLIB, reason="aioxide's own")

#: seconds
BLOCK = 0.8


class Records:
    """A file that records go to, and what is in it."""

    def __init__(self, path):
        self.path = path

    def all(self):
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return [record for record in map(json.loads, lines) if record["ev"] == "block"]

    def phase(self, phase):
        """The first of each block: on a machine that stands still, one that lasts may be told of twice."""
        found = {}
        for record in self.all():
            if record["phase"] == phase:
                found.setdefault(record["id"], record)
        return list(found.values())


@pytest.fixture
def records(tmp_path):
    before = diag.settings()
    path = tmp_path / "records"
    diag.configure(block_ms=200, block_repeat="all", log=f"jsonl:{path}")
    yield Records(path)
    diag.configure(
        block_ms=before["block_ms"],
        block_repeat=before["block_repeat"],
        log=before["log"],
        on_event=before["on_event"],
    )


def line_of(function, mark="# blocks"):
    lines = Path(__file__).read_text().splitlines()
    first = function.__code__.co_firstlineno
    return next(number for number in range(first, len(lines) + 1) if lines[number - 1].endswith(mark))


def culprit(function):
    return f"{__file__}:{line_of(function)}:{function.__qualname__}"


def of_outermost_frame():
    frame = sys._getframe()
    while frame.f_back:
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}:{frame.f_code.co_qualname}"


def sleeps():
    time.sleep(BLOCK)  # blocks


def loops():
    end = time.monotonic() + BLOCK
    while time.monotonic() < end: pass  # fmt: skip # noqa: E701 # blocks


@functools.cache
def size(of):
    """What the two functions below need for blocking long enough on this machine."""
    size = 16
    while True:
        before = time.perf_counter()
        sum(range(1 << size)) if of == "sum" else re.match("(a+)+b", "a" * size)
        if time.perf_counter() - before > BLOCK / 3:
            return size + 2
        size += 1


def calls_c():
    sum(range(1 << size("sum")))  # blocks


def matches():
    re.match("(a+)+b", "a" * size("match"))  # blocks


def receives():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        answer = threading.Timer(BLOCK, theirs.send, (b"late",))
        answer.start()
        ours.recv(1)  # blocks
        answer.join()


def waits_for_sqlite():
    name = f"{tempfile.gettempdir()}/aioxide-{os.getpid()}.sqlite"
    holder, other = sqlite3.connect(name), sqlite3.connect(name, timeout=BLOCK)
    try:
        holder.execute("begin exclusive")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("begin exclusive")  # blocks
    finally:
        holder.close()
        other.close()
        os.unlink(name)


@pytest.mark.parametrize("function", [sleeps, loops, calls_c, matches, receives, waits_for_sqlite])
def test_the_line_that_blocks_is_named_while_it_does(records, function):
    during, took = [], []
    size("sum"), size("match")

    async def task():
        began = time.monotonic()
        function()
        took.append((time.monotonic() - began) * 1000)
        during.extend(records.all())  # it is still this callback

    async def main():
        await aioxide.sleep(0.01)
        await aioxide.create_task(task(), name="the task")  # makes it
        await aioxide.sleep(0)

    aioxide.run(main())
    live = [record for record in during if record["culprit"] == culprit(function)]
    assert len({record["id"] for record in live}) == 1, during
    live = live[0]
    assert live["phase"] == "live"
    assert live["task"] == "the task"
    assert live["task_site"] == f"{__file__}:{line_of(main, '# makes it')}"
    assert live["ms"] >= 200
    assert live["stack"][-1] == of_outermost_frame()
    assert f"{task.__qualname__}" in "".join(live["stack"])
    [end] = [record for record in records.phase("end") if record["id"] == live["id"]]
    assert end["culprit"] == live["culprit"]
    assert end["ms"] > live["ms"]
    # (it may have been seen late; and what blocks by working does so for less when the machine has come to rest)
    assert end["ms"] > took[0] * 0.5
    assert end["samples"] >= 1


def test_a_line_in_the_program_is_the_culprit_not_what_it_calls(records, tmp_path):
    package = tmp_path / "site-packages" / "installed"
    package.mkdir(parents=True)
    source = "import time\ndef call(function):\n    function()\ndef block():\n    time.sleep(0.6)\n"
    (package / "__init__.py").write_text(source)
    namespace = {}
    exec(compile(source, str(package / "__init__.py"), "exec"), namespace)

    def uses():
        namespace["block"]()  # blocks

    async def main():
        await aioxide.sleep(0.01)
        uses()
        await aioxide.sleep(0)
        # a program that is itself a package: its own frames are all that there is
        aioxide.get_running_loop().call_soon(namespace["block"])
        await aioxide.sleep(0)
        await aioxide.sleep(0)

    aioxide.run(main())
    first, second = records.phase("live")
    assert first["culprit"] == culprit(uses)
    assert first["stack"][0] == f"{package}/__init__.py:5:block"
    assert second["culprit"] in (f"{package}/__init__.py:5:block", second["stack"][1])


def test_callbacks_and_timers(records):
    async def main():
        loop = aioxide.get_running_loop()
        loop.call_soon(sleeps)
        await aioxide.sleep(0.01)
        loop.call_later(0.01, loops)
        await aioxide.sleep(0.05)

    aioxide.run(main())
    found = [(record["culprit"], record["task"]) for record in records.phase("live")]
    assert found == [(culprit(sleeps), None), (culprit(loops), None)]
    assert len(records.phase("end")) == 2


def test_a_length_is_exact_or_called_a_least(records, caplog):
    """A loop knows when it woke up, and not when a later callback of the same turn began."""
    diag.configure(log=f"logging,jsonl:{records.path}")

    async def main():
        loop = aioxide.get_running_loop()
        loop.call_later(0.1, sleeps)
        await aioxide.sleep(BLOCK + 0.3)
        loop.call_soon(time.sleep, 0.1)
        loop.call_soon(loops)
        await aioxide.sleep(0.01)

    aioxide.run(main())
    first, second = records.phase("end")
    assert (first["culprit"], first["exact"]) == (culprit(sleeps), True)
    assert first["ms"] >= BLOCK * 1000 * 0.99
    assert (second["culprit"], second["exact"]) == (culprit(loops), False)
    messages = [record.getMessage() for record in caplog.records if record.name == "aioxide.diag"]
    for message, record, least, function in zip(
        messages, (first, second), ("", "at least "), ("sleeps", "loops"), strict=True
    ):
        told = re.match(rf"event loop blocked for {least}(\d+) ms by {function} ", message)
        # (of two roundings, to a thousandth and to one, the second may go the other way)
        assert abs(int(told[1]) - record["ms"]) < 0.501


def test_the_first_step_of_the_main_coroutine(records):
    async def main():
        sleeps()

    aioxide.run(main())
    [live] = records.phase("live")
    assert live["culprit"] == culprit(sleeps)
    assert live["task"].startswith("Task-")
    [end] = records.phase("end")  # though the loop has ended with it
    assert end["id"] == live["id"]


def test_a_callback_that_raises(records):
    async def main():
        sleeps()
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        aioxide.run(main())
    assert len(records.phase("live")) == len(records.phase("end")) == 1


def test_a_protocol(records):
    class Slow(asyncio.Protocol):
        def data_received(self, data):
            sleeps()
            done.set_result(None)

    async def main():
        global done
        done = aioxide.get_running_loop().create_future()
        ours, theirs = socket.socketpair()
        transport, _ = await aioxide.get_running_loop().create_connection(Slow, sock=ours)
        theirs.send(b"x")
        await done
        transport.close()
        theirs.close()

    aioxide.run(main())
    [live] = records.phase("live")
    assert live["culprit"] == culprit(sleeps)
    assert Slow.data_received.__qualname__ in live["stack"][1]


@pytest.mark.parametrize("kind", ["coroutine function", "function", "closure"])
def test_a_handler_of_a_server_is_where_its_task_comes_from(records, kind):
    """No line of the program has made it."""

    async def plain(reader, writer):  # begins
        sleeps()
        writer.close()

    def closure(done):
        async def inner(reader, writer):  # of inner
            sleeps()
            writer.close()
            done.append(writer)

        return inner

    async def main():
        handler = {"coroutine function": plain, "function": lambda *both: plain(*both), "closure": closure([])}[kind]
        async with await aioxide.start_server(handler, "127.0.0.1", 0) as server:
            reader, writer = await aioxide.open_connection(*server.sockets[0].getsockname())
            assert await reader.read() == b""
            writer.close()

    aioxide.run(main())
    [live] = records.phase("live")
    assert live["culprit"] == culprit(sleeps)
    mark = "# of inner" if kind == "closure" else "# begins"
    here = test_a_handler_of_a_server_is_where_its_task_comes_from
    assert live["task_site"] == f"{__file__}:{line_of(here, mark)}"


def test_a_signal_handler(records):
    async def main():
        before = signal.signal(signal.SIGUSR1, lambda *_: sleeps())
        try:
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1)).start()
            await aioxide.sleep(0.3)
        finally:
            signal.signal(signal.SIGUSR1, before)

    aioxide.run(main())
    [live] = records.phase("live")
    assert live["culprit"] == culprit(sleeps)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks")
def test_an_eager_task(records):
    async def eager():
        sleeps()

    async def main():
        await aioxide.sleep(0.01)
        await aioxide.Task(eager(), loop=aioxide.get_running_loop(), name="eager", eager_start=True)

    aioxide.run(main())
    [live] = records.phase("live")
    assert (live["culprit"], live["task"]) == (culprit(sleeps), "eager")


def test_two_loops_in_two_threads(records):
    async def blocks():
        await aioxide.sleep(0.01)
        sleeps()

    async def waits():
        await aioxide.sleep(BLOCK)

    threads = [threading.Thread(target=aioxide.run, args=(main(),)) for main in (blocks, waits)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [live] = records.phase("live")
    assert live["culprit"] == culprit(sleeps)


def test_a_thread_that_keeps_the_gil_is_named(records):
    size("sum")

    async def main():
        thread = threading.Timer(0.05, calls_c)
        thread.start()
        while thread.is_alive():
            await aioxide.sleep(0.01)

    aioxide.run(main())
    # what has the GIL is a call into C: the loop has been woken, or is between two bytecodes of a callback
    found = [(record["gil"], record["culprit"], record["gil_holder"]) for record in records.phase("live")]
    assert any(
        (gil == "waiting" and line == culprit(calls_c)) or (gil == "other" and holder == culprit(calls_c))
        for gil, line, holder in found
    ), found


def test_names_that_a_program_chooses_harm_nobody(records, caplog):
    hostile = "\x1b[2J\n" + "é\u202e" * 5000
    diag.configure(log=f"logging,jsonl:{records.path}")

    async def main():
        await aioxide.sleep(0.01)
        await aioxide.create_task(named(), name=hostile)

    async def named():
        sleeps()

    aioxide.run(main())
    [live] = records.phase("live")
    assert live["task"] == hostile[:1000] + "..."
    [message] = [record.getMessage() for record in caplog.records if record.name == "aioxide.diag"]
    assert "\x1b" not in message
    assert "\n" not in message
    assert "\u202e" not in message
    assert r"\u{1b}[2J\u{a}" in message
    assert len(message) < 2500


class Name(str):
    __slots__ = ()


@pytest.mark.parametrize("name", [Name("own"), 17, b"bytes", None])
def test_names_that_are_no_texts(records, name):
    class Task(aioxide.Task):
        pass

    async def blocks():
        sleeps()

    async def main():
        await aioxide.sleep(0.01)
        task = Task(blocks(), loop=aioxide.get_running_loop())
        if name is not None:
            task.set_name(name)
        await task

    aioxide.run(main())
    [live] = records.phase("live")
    if name is None:
        assert live["task"].startswith("Task-")
    else:
        # asyncio's set_name() makes a str of it
        assert live["task"] in (str(name), None)


def test_one_culprit_is_reported_once_and_then_with_a_count(records, caplog):
    diag.configure(block_repeat="limited", log=f"logging,jsonl:{records.path}")

    def mine():
        time.sleep(0.5)

    def others():
        time.sleep(0.5)

    async def main():
        for function in (mine, mine, others, mine):
            await aioxide.sleep(0.01)
            function()
        await aioxide.sleep(0.01)
        diag.configure(block_repeat="all")
        mine()
        await aioxide.sleep(0)

    aioxide.run(main())
    found = [(record["culprit"].rsplit(".")[-1], record["suppressed"]) for record in records.phase("live")]
    assert found == [("mine", 0), ("others", 0), ("mine", 2)]
    assert [record["id"] for record in records.phase("end")] == [record["id"] for record in records.phase("live")]
    messages = [record.getMessage() for record in caplog.records if record.name == "aioxide.diag"]
    assert len(messages) == 3
    assert messages[2].endswith("2 more of it since the last report")


def test_the_log_and_the_callable(records, caplog):
    seen = []
    diag.configure(log="logging", on_event=lambda record: seen.append((record, threading.get_ident())))

    async def blocks():
        sleeps()

    async def main():
        await aioxide.sleep(0.01)
        await aioxide.create_task(blocks(), name="a task")
        await aioxide.sleep(0)

    aioxide.run(main())
    assert {thread for _, thread in seen} == {threading.get_ident()}
    assert [record["phase"] for record, _ in seen][:: len(seen) - 1] == ["live", "end"]
    [record] = [record for record in caplog.records if record.name == "aioxide.diag"]
    assert record.levelno == logging.WARNING
    assert record.aioxide == seen[-1][0]
    place = re.escape(f"sleeps ({__file__}:{line_of(sleeps)})")
    assert re.fullmatch(rf"event loop blocked for (at least )?\d+ ms by {place}, task 'a task'", record.getMessage())


def test_a_block_that_lasts_is_told_of_again(records):
    diag.configure(block_ms=20)

    async def main():
        await aioxide.sleep(0.01)
        time.sleep(2)

    aioxide.run(main())
    live = [record for record in records.all() if record["phase"] == "live"]
    assert len(live) >= 2
    assert live[0]["id"] == live[1]["id"]
    assert live[1]["ms"] >= 10 * live[0]["ms"]


@pytest.mark.parametrize("how", ["threshold", "off"])
def test_what_is_no_block_is_not_reported(records, how):
    diag.configure(block_ms=2000 if how == "threshold" else 0)

    async def main():
        await aioxide.sleep(0.01)
        time.sleep(0.3)

    aioxide.run(main())
    assert records.all() == []


def test_many_short_callbacks_and_sleeps_are_none(records):
    diag.configure(block_ms=300)

    async def busy(end):
        while time.monotonic() < end:
            await aioxide.sleep(0)

    async def main():
        await busy(time.monotonic() + 1)
        await aioxide.sleep(0.7)
        for _ in range(100):
            await aioxide.sleep(0.005)

    aioxide.run(main())
    assert records.all() == []


def switches(pid="self"):
    """How often the thread that watches has run and slept again."""
    for thread in os.listdir(f"/proc/{pid}/task"):
        folder = f"/proc/{pid}/task/{thread}"
        with open(f"{folder}/comm") as comm, open(f"{folder}/status") as status:
            if comm.read().strip() == "aioxide-watch":
                return int(re.search(r"^voluntary_ctxt_switches:\s*(\d+)", status.read(), re.MULTILINE)[1])
    return None


def test_nobody_wakes_up_while_the_loop_sleeps(records):
    async def main():
        await aioxide.sleep(0.01)
        waker = threading.Timer(4, aioxide.get_running_loop().call_soon_threadsafe, (lambda: None,))
        waker.start()
        looks = []

        def look():
            # (a second after it has come to rest the loop looks once who waits for whom)
            time.sleep(2)
            looks.append(switches())
            time.sleep(1)
            looks.append(switches())

        looker = threading.Thread(target=look)
        looker.start()
        await aioxide.sleep(5)
        looker.join()
        waker.join()
        assert looks[0] is not None
        assert looks[0] == looks[1]

    aioxide.run(main())


def program(source, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(source)],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    )


def test_a_process_that_was_stopped_has_not_been_blocked():
    with program(
        """
        import time, aioxide
        async def main():
            print("ready", flush=True)
            end = time.monotonic() + 4
            while time.monotonic() < end:
                time.sleep(0.002)
                await aioxide.sleep(0)
        aioxide.run(main())
        """,
        AIOXIDE_BLOCK_MS="500",
        AIOXIDE_DIAG_LOG="stderr",
    ) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGSTOP)
        time.sleep(1.5)
        process.send_signal(signal.SIGCONT)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")


def test_a_program_ends_while_a_loop_of_a_daemon_thread_runs():
    with program(
        """
        import threading, time, aioxide
        async def forever():
            started.set()
            while True:
                await aioxide.sleep(0.001)
        started = threading.Event()
        threading.Thread(target=lambda: aioxide.run(forever()), daemon=True).start()
        started.wait()
        time.sleep(0.2)
        """,
        AIOXIDE_DIAG_LOG="stderr",
    ) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "")


def test_a_child_of_a_fork_is_watched_too():
    with program(
        """
        import os, time, aioxide
        async def main():
            await aioxide.sleep(0.01)
            time.sleep(0.6)
        aioxide.run(main())
        pid = os.fork()
        aioxide.run(main())
        if pid:
            os.waitpid(pid, 0)
        """,
        AIOXIDE_DIAG_LOG="stderr",
        AIOXIDE_BLOCK_REPEAT="all",
    ) as process:
        _, err = process.communicate(timeout=60)
    records = [json.loads(line) for line in err.splitlines()]
    assert process.returncode == 0
    pids = {record["pid"] for record in records}
    assert len(pids) == 2
    of_parent = [record["phase"] for record in records if record["pid"] == process.pid]
    assert (of_parent.count("end"), len(records) - len(of_parent) >= 2) == (2, True)


def test_a_loop_that_has_forked_is_watched_again():
    with program(
        """
        import os, time, aioxide
        async def main():
            await aioxide.sleep(0.01)
            if not (child := os.fork()):
                os._exit(0)
            os.waitpid(child, 0)
            await aioxide.sleep(0.01)
            time.sleep(0.6)
        aioxide.run(main())
        """,
        AIOXIDE_DIAG_LOG="stderr",
    ) as process:
        _, err = process.communicate(timeout=60)
    assert [json.loads(line)["phase"] for line in err.splitlines()][-1] == "end"


def test_off_means_no_thread():
    source = """
        import os, time, aioxide
        async def main():
            time.sleep(0.3)
            names = [open(f"/proc/self/task/{task}/comm").read().strip() for task in os.listdir("/proc/self/task")]
            print("aioxide-watch" in names)
        aioxide.run(main())
    """
    for value, expected in (("0", "False\n"), ("1", "True\n")):
        with program(source, AIOXIDE_DIAG=value) as process:
            out, err = process.communicate(timeout=60)
        assert (out, err != "") == (expected, value == "1")


def test_a_block_that_nobody_has_configured_is_a_warning_on_stderr():
    with program("""
        import time, aioxide
        async def main():
            await aioxide.sleep(0.01)
            time.sleep(0.6)
        aioxide.run(main())
    """) as process:
        _, err = process.communicate(timeout=60)
    assert re.fullmatch(r"event loop blocked for (at least )?\d+ ms by main \(<string>:5\), task 'Task-1'\n", err)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="asyncio's guest loops")
def test_a_guest_is_not_blocked_while_its_host_does_something_else(records):
    loop = aioxide.new_event_loop()
    loop._run_forever_setup()
    try:
        time.sleep(0.4)
        loop.call_soon(lambda: None)
        loop._run_once()
        time.sleep(0.4)
        loop.call_soon(sleeps)
        loop._run_once()
    finally:
        loop._run_forever_cleanup()
        loop.close()
    assert [record["culprit"] for record in records.phase("live")] == [culprit(sleeps)]
