"""`aioxide ps` and its like, from one process to another: what they find, who may ask, and that nobody is harmed.

The programs that are asked run in processes of their own, with a runtime directory of their own.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aioxide.attach import client, command
from aioxide.attach.client import Connection
from aioxide.attach.text import safe
from tests.support import ROOT, STDLIB

pytestmark = pytest.mark.skipif(STDLIB, reason="aioxide's own")

MANY = 10_000
HOSTILE = "evil\x1b]0;title\x07\x1b[2J\n\u202eesrever\u2066\x9b31m\"'\\"


class Target:
    """A program that says `ready` and waits."""

    def __init__(self, process: subprocess.Popen[bytes], runtime: Path) -> None:
        self.process = process
        self.pid = process.pid
        self.runtime = runtime

    def line(self) -> str:
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], 30)
        assert ready, "the program says nothing"
        return self.process.stdout.readline().decode().strip()

    def attach_thread(self) -> Path | None:
        for thread in Path(f"/proc/{self.pid}/task").iterdir():
            if (thread / "comm").read_text().startswith(client.THREAD):
                return thread
        return None

    def opened(self, pid: int | None = None) -> dict[str, str]:
        """What descriptors lead to that need explaining: sockets, and pipes of one descriptor (which stdout is not)."""
        return opened_in(Path(f"/proc/{pid or self.pid}"))

    def opened_apart(self) -> dict[str, str]:
        """The same of the thread that answers, which has a table of its own if it can."""
        thread = self.attach_thread()
        assert thread is not None
        return opened_in(thread)


def opened_in(folder: Path) -> dict[str, str]:
    found = {}
    for path in (folder / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            what = os.readlink(path)
            flags = (folder / "fdinfo" / path.name).read_text().split("flags:")[1].split()[0]
            if what.startswith(("pipe:", "/")) and client.SOCKET not in what and int(flags, 8) & 3 != os.O_RDWR:
                continue
            found[path.name] = what
    return found


HEAD = """
import os, sys, threading, time, ctypes
import aioxide
def ready(*what):
    print("ready", *what, flush=True)
def block(seconds):
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))  # keeps the GIL
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    """Starts programs, and ends them."""
    running: list[Target] = []

    def starts(
        source: str, *arguments: object, wait: bool = True, env: dict[str, str] | None = None, stdin: int | None = None
    ) -> Target:
        # (a Unix socket's path is short; that of pytest's folder is not always)
        runtime = Path(tempfile.mkdtemp(prefix="aioxide-"))
        script = tmp_path / f"program{len(running)}.py"
        script.write_text(HEAD + textwrap.dedent(source))
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "python"), "XDG_RUNTIME_DIR": str(runtime), **(env or {})}
        process = subprocess.Popen(
            [sys.executable, str(script), *map(str, arguments)],
            stdin=stdin,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=tmp_path,
        )
        target = Target(process, runtime)
        running.append(target)
        if wait:
            assert target.line().startswith("ready")
        return target

    yield starts
    for target in running:
        target.process.kill()
        target.process.communicate()
        for folder, _, files in os.walk(target.runtime, topdown=False):
            for file in files:
                os.unlink(os.path.join(folder, file))
            os.rmdir(folder)


def ask(capsys: pytest.CaptureFixture[str], name: str, *arguments: object) -> tuple[int, str, str]:
    """What a command says here, in this process."""
    code = command.main(name, [str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def tasks(pid: int) -> dict[str, dict[str, Any]]:
    """By their names."""
    with Connection(pid) as connection:
        return {task["name"]: task for task in connection.tasks(stacks=True)["tasks"]}


SLEEPS = """
    async def main():
        ready()
        await aioxide.sleep(1000)
    aioxide.run(main())
"""


def until_it_listens(target) -> Path:
    """A thread of its own does, about when the loop begins to run."""
    end = time.monotonic() + 20
    while (thread := target.attach_thread()) is None:
        assert time.monotonic() < end
        time.sleep(0.005)
    return thread


def test_a_task_is_where_it_is(start, capsys):
    target = start("""
        async def inner(event):
            await event.wait()
        async def outer(event):
            await inner(event)
        async def main():
            event, queue = aioxide.Event(), aioxide.Queue()
            tasks = [
                aioxide.create_task(outer(event), name="waits"),
                aioxide.create_task(queue.get(), name="gets"),
                aioxide.create_task(aioxide.sleep(1000), name="sleeps"),
            ]
            await aioxide.sleep(0.01)
            ready()
            await aioxide.get_running_loop().create_future()
        aioxide.run(main())
    """)
    found = tasks(target.pid)
    script = str(target.process.args[1])
    lines = Path(script).read_text().splitlines()

    def line(text: str) -> int:
        return next(number for number, content in enumerate(lines, 1) if text in content)

    assert set(found) == {"Task-1", "waits", "gets", "sleeps"}
    assert found["waits"]["stack"] == [
        [script, line("await inner(event)"), "outer"],
        [script, line("await event.wait()"), "inner"],
        ["<aioxide>", 0, "Event.wait"],
    ]
    assert found["waits"]["at"] == [script, line("await event.wait()"), "inner"]
    assert {name: (task["state"], task["waits"]) for name, task in found.items()} == {
        "Task-1": ("waiting", "Future"),
        "waits": ("waiting", "Event.wait"),
        "gets": ("waiting", "Queue.get"),
        "sleeps": ("waiting", "sleep(1000)"),
    }
    code, out, err = ask(capsys, "ps", target.pid)
    assert (code, err) == (0, "")
    row = next(row for row in out.splitlines() if row.startswith("waits"))
    assert row.split() == [
        "waits",
        "waiting",
        "outer",
        f"{Path(script).name}:{line('event.wait()')}",
        "inner",
        "Event.wait",
    ]


def processor_time(thread: Path) -> float:
    """Of one thread, in seconds."""
    return int((thread / "schedstat").read_text().split()[0]) / 1e9


def test_ten_thousand_tasks_are_listed_while_the_loop_is_blocked(start, capsys):
    target = start(
        """
        async def leaf(event):
            await event.wait()
        async def worker(event):
            await leaf(event)
        async def main():
            event = aioxide.Event()
            tasks = [aioxide.create_task(worker(event)) for _ in range(int(sys.argv[1]) - 2)]
            await aioxide.sleep(0.01)
            ready()
            async def blocks():
                block(30)
            await aioxide.create_task(blocks(), name="blocks")
        aioxide.run(main())
    """,
        MANY,
    )
    time.sleep(0.2)
    thread = target.attach_thread()
    assert thread is not None
    times = []
    for _ in range(5):
        before = processor_time(thread)
        with Connection(target.pid) as connection:
            answer = connection.tasks()
        times.append(processor_time(thread) - before)
        assert answer["total"] == len(answer["tasks"]) == MANY
        assert answer["consistent"]
    # (by its processor time: how long that takes is a matter of what else this machine does)
    assert min(times) < 0.2
    waiting = [task for task in answer["tasks"] if task.get("waits") == "Event.wait"]
    assert len(waiting) == MANY - 2
    assert {task["coro"] for task in waiting} == {"worker"}
    assert {task["at"][2] for task in waiting} == {"leaf"}
    blocks = next(task for task in answer["tasks"] if task["name"] == "blocks")
    assert blocks["state"] == "running"
    [loop] = answer["loops"]
    assert (loop["state"], loop["task"]) == ("running", blocks["id"])
    assert [frame[2] for frame in loop["stack"][:2]] == ["block", "main.<locals>.blocks"]
    assert loop["at"] == loop["stack"][0]
    assert loop["busy"] > 0.1
    code, out, _ = ask(capsys, "ps", target.pid, "--check")
    assert code == 1
    assert "in blocks, at program0.py" in out


def test_pages_of_a_long_list(start):
    target = start("""
        async def main():
            tasks = [aioxide.create_task(aioxide.sleep(1000)) for _ in range(249)]
            await aioxide.sleep(0.01)
            ready()
            await aioxide.sleep(1000)
        aioxide.run(main())
    """)
    with Connection(target.pid) as connection:
        pages = [connection.ask(f"tasks from={begin} count=100")["tasks"] for begin in (0, 100, 200, 300)]
        too_many = connection.ask("tasks from=18446744073709551615 count=18446744073709551615")
    assert list(map(len, pages)) == [100, 100, 50, 0]
    assert len({task["id"] for page in pages for task in page}) == 250
    assert too_many["tasks"] == []


def test_tasks_that_come_and_go_are_read_all_the_same(start):
    target = start("""
        async def child():
            await aioxide.sleep(0)
        async def churn():
            while True:
                await aioxide.gather(*[child() for _ in range(50)])
        async def main():
            tasks = [aioxide.create_task(aioxide.sleep(1000), name=f"stays {n}") for n in range(500)]
            tasks += [aioxide.create_task(churn(), name=f"churns {n}") for n in range(4)]
            await aioxide.sleep(0.01)
            ready()
            await aioxide.sleep(1000)
        aioxide.run(main())
    """)
    stay = {f"stays {number}" for number in range(500)}
    with Connection(target.pid) as connection:
        for _ in range(50):
            answer = connection.tasks(stacks=True)
            ids = [task["id"] for task in answer["tasks"]]
            assert len(ids) == len(set(ids))
            if answer["consistent"]:
                assert stay <= {task["name"] for task in answer["tasks"]}
    assert target.process.poll() is None


def test_who_waits_for_whom(start, capsys):
    target = start("""
        async def leaf():
            await aioxide.sleep(1000)
        async def gathers():
            await aioxide.gather(*[aioxide.create_task(leaf(), name=f"g{n}") for n in range(2)])
        async def waits(tasks):
            await aioxide.wait(tasks)
        async def awaits(task):
            await task
        async def shields(task):
            await aioxide.shield(task)
        async def main():
            leaves = [aioxide.create_task(leaf(), name=f"leaf{n}") for n in range(4)]
            for leaf_ in leaves:
                leaf_.add_done_callback(print)  # so that who waits is not the first to be told
            async with aioxide.TaskGroup() as group:
                group.create_task(gathers(), name="gathers")
                group.create_task(waits(leaves[:2]), name="waits")
                group.create_task(awaits(leaves[2]), name="awaits")
                group.create_task(shields(leaves[3]), name="shields")
                await aioxide.sleep(0.01)
                ready()
        aioxide.run(main())
    """)
    time.sleep(0.1)
    found = tasks(target.pid)
    names = {task["id"]: name for name, task in found.items()}
    edges = {name: sorted(names[other] for other in task["for"]) for name, task in found.items() if "for" in task}
    assert edges == {
        "Task-1": ["awaits", "gathers", "shields", "waits"],
        "gathers": ["g0", "g1"],
        "waits": ["leaf0", "leaf1"],
        "awaits": ["leaf2"],
        "shields": ["leaf3"],
    }
    assert found["Task-1"]["waits"] == "TaskGroup.__aexit__"
    code, out, _ = ask(capsys, "ps", target.pid, "--tree")
    assert code == 0
    rows = out.splitlines()
    begin = next(index for index, row in enumerate(rows) if row.startswith("Task-1 "))
    drawn = [row.split("  program0")[0] for row in rows[begin:]]
    assert drawn == [
        "Task-1",
        "├ gathers",
        "│ ├ g0",
        "│ └ g1",
        "├ waits",
        "│ ├ leaf0",
        "│ └ leaf1",
        "├ awaits",
        "│ └ leaf2",
        "└ shields",
        "  └ leaf3",
    ]
    assert rows[begin + 2].endswith("leaf  [sleep(1000)]")


def test_why_of_a_ring(start, capsys):
    target = start("""
        tasks = {}
        async def awaits(name):
            await aioxide.sleep(0.01)
            await tasks[name]
        async def main():
            for name, other in (("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")):
                tasks[name] = aioxide.create_task(awaits(other), name=name)
            await aioxide.sleep(0.1)
            ready()
            await aioxide.sleep(1000)
        aioxide.run(main())
    """)
    code, out, _ = ask(capsys, "why", target.pid, "d")
    assert code == 1
    rows = out.splitlines()
    assert [row.split(" waits")[0] for row in rows[:4]] == ["d", "  a", "    b", "      c"]
    assert rows[0].startswith("d waits at program0.py:")
    assert rows[0].endswith(" awaits: for a")
    assert rows[4] == "        a ring: a → b → c → a"
    code, out, _ = ask(capsys, "why", target.pid, "Task-1")
    assert (code, len(out.splitlines())) == (0, 1)
    assert out.endswith("main: sleep(1000), until its time has come\n")
    assert ask(capsys, "ps", target.pid, "--check")[0] == 1
    # a tree of what is a ring ends
    code, out, _ = ask(capsys, "ps", target.pid, "--tree")
    assert code == 0
    assert "a ring: see above" in out


LOCKS = """
    async def holds(name, first, second=None):
        async with first:
            await aioxide.sleep(0.02)
            if second is not None:
                async with second:
                    pass
            await aioxide.sleep(1000)
    async def ends_without_letting_go(lock):
        await lock.acquire()
    async def main():
        lock, one, two, left = (aioxide.Lock() for _ in range(4))
        units = aioxide.Semaphore(2)
        def start(name, *locks, of=holds):
            return aioxide.create_task(of(name, *locks) if of is holds else of(*locks), name=name)
        tasks = [
            start("holder", lock), start("waits", lock), start("a", one, two), start("b", two, one),
            start("u1", units), start("u2", units), start("u3", units, lock),
            start("careless", left, of=ends_without_letting_go), start("hopeless", left),
        ]
        await aioxide.sleep(0.1)
        ready()
        await aioxide.sleep(1000)
    aioxide.run(main())
"""


def test_why_of_locks(start, capsys):
    target = start(LOCKS)

    def explained(task: str) -> tuple[int, list[str]]:
        code, out, _ = ask(capsys, "why", target.pid, task)
        places = [re.sub(r" at program0\.py:\d+ holds", "", row) for row in out.splitlines()]
        return code, places

    assert explained("waits") == (
        0,
        ["waits waits: Lock.acquire, held by holder", "  holder waits: sleep(1000), until its time has come"],
    )
    assert explained("a") == (
        1,
        [
            "a waits: Lock.acquire, held by b",
            "  b waits: Lock.acquire, held by a",
            "    a ring: a → b → a",
        ],
    )
    assert explained("u3") == (
        0,
        [
            "u3 waits: Semaphore.acquire, held by u1, u2",
            "  u1 waits: sleep(1000), until its time has come",
            "  u2 waits: sleep(1000), until its time has come",
        ],
    )
    code, rows = explained("hopeless")
    assert code == 0
    assert re.fullmatch(r"  a task that has ended \(n\d+\), without letting go: somebody else has to", rows[1])
    # two tasks that wait for each other are what --check looks for
    assert ask(capsys, "ps", target.pid, "--check")[0] == 1
    _, out, _ = ask(capsys, "ps", target.pid)
    assert any(re.search(r"^waits .* Lock.acquire held by holder$", row) for row in out.splitlines())


def test_a_ring_that_somebody_else_can_end_is_no_deadlock(start, capsys):
    """Who has called acquire() need not be who calls release(); and a timeout ends a wait."""
    target = start("""
        async def bare(first, second):
            await first.acquire()
            await aioxide.sleep(0.02)
            await second.acquire()
        async def timed(first, second):
            async with first:
                await aioxide.sleep(0.02)
                async with aioxide.timeout(1000), second:
                    pass
        async def main():
            locks = [aioxide.Lock() for _ in range(4)]
            tasks = [
                aioxide.create_task(bare(locks[0], locks[1]), name="a"),
                aioxide.create_task(bare(locks[1], locks[0]), name="b"),
                aioxide.create_task(timed(locks[2], locks[3]), name="c"),
                aioxide.create_task(timed(locks[3], locks[2]), name="d"),
            ]
            await aioxide.sleep(0.1)
            ready()
            await aioxide.sleep(1000)
        aioxide.run(main())
    """)
    assert ask(capsys, "ps", target.pid, "--check")[0] == 0
    for task, other in (("a", "b"), ("c", "d")):
        code, out, _ = ask(capsys, "why", target.pid, task)
        assert code == 0
        ring = f"a ring, but no deadlock: {task} → {other} → {task}; a timer or somebody else can end it"
        assert out.splitlines()[2].strip() == ring


def test_a_ring_on_a_busy_loop_is_looked_at_twice(start, capsys):
    target = start("""
        async def waits(first, second):
            async with first:
                await aioxide.sleep(0.02)
                async with second:
                    pass
        async def spins():
            while True:
                await aioxide.sleep(0)
        async def main():
            one, two = aioxide.Lock(), aioxide.Lock()
            tasks = [aioxide.create_task(waits(*pair)) for pair in ((one, two), (two, one))]
            tasks.append(aioxide.create_task(spins()))
            await aioxide.sleep(0.1)
            ready()
            await aioxide.sleep(1000)
        aioxide.run(main())
    """)
    with Connection(target.pid) as connection:
        [loop] = connection.ask("rings")["loops"]
    assert (loop["certain"], loop["rings"]) == (False, [["2", "3"]])
    code, out, _ = ask(capsys, "ps", target.pid, "--check", "--json")
    assert code == 1
    assert json.loads(out)["rings"] == [["2", "3"]]


@pytest.mark.parametrize("watched", [True, False])
def test_a_block_counts_from_its_beginning_and_its_culprit_is_named(start, capsys, tmp_path, watched):
    """As reports of blocks have it: also if nobody has asked before, it is not the first callback since the loop has woken
    up, and it stands in the standard library."""
    log = tmp_path / "records"
    log.touch()
    target = start(
        """
        import queue
        async def blocks():
            await aioxide.sleep(0)
            ready()
            queue.Queue().get(timeout=30)
        async def main():
            await aioxide.gather(aioxide.sleep(0), aioxide.sleep(0), aioxide.create_task(blocks(), name="blocks"))
        aioxide.run(main())
        """,
        env={"AIOXIDE_BLOCK_MS": "100" if watched else "0", "AIOXIDE_DIAG_LOG": f"jsonl:{log}"},
    )
    # whoever has told of it has seen it before; and until somebody asks the time goes on
    end = time.monotonic() + 20
    while watched and not log.read_text():
        assert time.monotonic() < end
        time.sleep(0.01)
    seen = time.monotonic()
    time.sleep(0.5)
    with Connection(target.pid) as connection:
        asked = time.monotonic()
        [loop] = connection.tasks()["loops"]
    assert loop["watched"] == watched
    assert loop["stack"][0][0].endswith("threading.py")
    assert loop["at"][::2] == [target.process.args[1], "blocks"]
    if watched:
        assert loop["busy"] > asked - seen
    code, out, _ = ask(capsys, "ps", target.pid, "--check")
    assert code == 1
    assert re.search(r"in one callback for [\d.]+ m?s, in blocks, at program0\.py:\d+ blocks$", out.splitlines()[1])


def test_why_of_what_a_blocked_loop_keeps(start, capsys):
    target = start("""
        async def blocks():
            await aioxide.sleep(0.1)
            block(30)
        async def kept():
            await aioxide.sleep(0.1)
        async def main():
            tasks = [aioxide.create_task(blocks(), name="blocks"), aioxide.create_task(kept(), name="kept")]
            ready()
            await aioxide.sleep(1000)
        aioxide.run(main())
    """)
    time.sleep(0.5)
    code, out, _ = ask(capsys, "why", target.pid, "blocks")
    assert code == 1
    assert out.startswith("blocks runs at program0.py:")
    assert "in one step: the loop is blocked" in out


def test_stuck_tasks(start, capsys):
    target = start("""
        async def ticks(queue):
            while True:
                await queue.get()
        async def main():
            queue = aioxide.Queue()
            tasks = [
                aioxide.create_task(ticks(queue), name="ticks"),
                aioxide.create_task(aioxide.Event().wait(), name="stuck"),
                aioxide.create_task(aioxide.sleep(1000), name="sleeps"),
            ]
            ready()
            while True:
                await aioxide.sleep(0.02)
                queue.put_nowait(None)
        aioxide.run(main())
    """)
    code, out, _ = ask(capsys, "ps", target.pid, "--stuck", "500ms", "--json")
    assert code == 1
    assert [task["name"] for task in json.loads(out)["tasks"]] == ["stuck"]


def test_names_that_would_command_the_terminal(start, capsys):
    target = start(f"""
        hostile = {HOSTILE!r}
        async def sleeps():
            await aioxide.sleep(1000)
        sleeps.__code__ = sleeps.__code__.replace(co_qualname=hostile, co_filename=hostile, co_name=hostile)
        async def main():
            tasks = [
                aioxide.create_task(sleeps(), name=hostile),
                aioxide.create_task(sleeps(), name="x" * 1_000_000),
                aioxide.create_task(sleeps(), name="\\ud800 lone"),
                aioxide.create_task(sleeps(), name="\\U0001f600 smiles"),
            ]
            await aioxide.sleep(0.01)
            ready()
            await aioxide.sleep(1000)
        aioxide.run(main())
    """)
    found = tasks(target.pid)
    assert HOSTILE in found
    assert found[HOSTILE]["coro"] == HOSTILE
    assert "\U0001f600 smiles" in found
    assert max(map(len, found)) < 500
    for arguments in (
        ["ps", target.pid],
        ["ps", target.pid, "--tree"],
        ["ps", target.pid, "--json"],
        ["dump", target.pid],
        ["dump", target.pid, "--json"],
        ["top", target.pid, "--once", "--interval", "50ms"],
        ["why", target.pid, HOSTILE],
        ["trace", target.pid, "-d", "50ms", "-o", "-"],
    ):
        code, out, err = ask(capsys, *arguments)
        assert (code, err) == (0, ""), arguments
        assert all(letter.isprintable() for letter in out if letter != "\n"), arguments
        assert "\u202e" not in out
    _, out, _ = ask(capsys, "ps", target.pid)
    assert r"evil\x1b]0;title\x07\x1b[2J\n\u202eesrever\u2066\x9b31m" in out


def test_safe_text():
    assert safe("naïve 名前 😀") == "naïve 名前 😀"
    assert safe("\x1b[31m\r\n\t\x7f\x9b") == r"\x1b[31m\r\n\t\x7f\x9b"
    assert safe("\u202e\u2067\u200f\ufeff\u2028") == r"\u202e\u2067\u200f\ufeff\u2028"
    assert safe("\ud800").isascii()
    assert len(safe("x" * 1000)) == 201


# --- who may ask, and exit codes --------------------------------------------------------------------------------------


def test_nobody_without_a_process(capsys):
    code, out, err = ask(capsys, "ps", 2**22 + 1)
    assert (code, out) == (3, "")
    assert err == f"aioxide ps: there is no process {2**22 + 1}\n"


def test_a_process_that_has_ended(start, capsys):
    target = start(SLEEPS)
    target.process.kill()
    os.waitid(os.P_PID, target.pid, os.WEXITED | os.WNOWAIT)
    code, _, err = ask(capsys, "ps", target.pid)
    assert code == 3
    assert "has ended" in err


@pytest.mark.parametrize(
    "source",
    [
        "ready(); time.sleep(1000)",
        "import asyncio; aioxide.new_event_loop().close(); asyncio.run(asyncio.sleep(0, ready())); time.sleep(1000)",
    ],
)
def test_a_process_without_a_loop(start, capsys, source):
    code, _, err = ask(capsys, "ps", start(source).pid)
    assert code == 5
    assert "no event loop of aioxide's" in err
    assert "-m asyncio ps" in err


def test_a_process_that_has_turned_it_off(start, capsys):
    target = start(SLEEPS, env={"AIOXIDE_DIAG": "0"})
    assert ask(capsys, "ps", target.pid)[0] == 5
    assert target.attach_thread() is None
    assert not any("pipe:" in what for what in target.opened().values())


#: `forbid()`: a filter of system calls that ends whoever calls what a service has no need of, as systemd's
#: `@system-service` does: `close_range` and `pidfd_getfd`, by their numbers, which are the same on every machine.
FILTER = """
    import platform, struct
    def forbid():
        instructions = [
            (0x20, 0, 0, 0),  # the number
            (0x15, 2, 0, 436),
            (0x15, 1, 0, 438),
            (0x06, 0, 0, 0x7FFF0000),  # SECCOMP_RET_ALLOW
            (0x06, 0, 0, 0x80000000),  # SECCOMP_RET_KILL_PROCESS
        ]
        code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in instructions))
        program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(instructions), ctypes.addressof(code)))
        libc = ctypes.CDLL(None)
        seccomp = {"x86_64": 317, "aarch64": 277}.get(platform.machine(), -1)
        # PR_SET_NO_NEW_PRIVS; SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC: for all threads
        if libc.prctl(38, 1, 0, 0, 0) or libc.syscall(seccomp, 1, 1, program):
            os._exit(77)
"""

BEHIND_IT = """
    async def main():
        if sys.argv[1] == "while it runs":
            while not any(name.startswith("aioxide@") for name in names()):
                await aioxide.sleep(0.001)
            await aioxide.sleep(0.1)  # (the thread has left by then, if it can)
            forbid()
        ready()
        await aioxide.sleep(1000)
    def names():
        return [open(f"/proc/self/task/{task}/comm").read() for task in os.listdir("/proc/self/task")]
    if sys.argv[1] == "before the loop":
        forbid()
    aioxide.run(main())
"""


@pytest.mark.parametrize("when", ["before the loop", "while it runs"])
def test_a_filter_of_system_calls_is_not_put_to_the_test(start, capsys, when):
    """It would end the process."""
    target = start(FILTER + BEHIND_IT, when, wait=False)
    if target.line() != "ready":
        assert target.process.wait(20) == 77
        pytest.skip("no filters here")
    # (this is what a loop is woken up for)
    assert ask(capsys, "ps", target.pid, "--check")[0] == 0
    assert target.process.poll() is None


def test_a_process_that_is_stopped(start, capsys, monkeypatch):
    monkeypatch.setattr(client, "PATIENCE", 0.5)
    target = start(SLEEPS)
    until_it_listens(target)
    os.kill(target.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, target.pid, os.WSTOPPED | os.WNOWAIT)
    code, _, err = ask(capsys, "ps", target.pid)
    assert code == 6
    assert "has not answered" in err
    os.kill(target.pid, signal.SIGCONT)
    assert ask(capsys, "ps", target.pid)[0] == 0
    assert list(target.runtime.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("ps", "x"),
        ("ps", "1", "2"),
        ("ps", "-5"),
        ("ps", "1", "--wide"),
        ("ps", "1", "--stuck"),
        ("ps", "1", "--stuck", "soon"),
        ("top",),
        ("top", "1", "--interval", "0"),
        ("why", "1"),
        ("trace", "1", "-d", "-1"),
    ],
)
def test_usage(capsys, arguments, start):
    # (a process that is there, so that nothing else is wrong)
    arguments = [os.getpid() if argument == "1" else argument for argument in arguments]
    code, out, err = ask(capsys, *arguments)
    if code == 5 and any("--" in str(argument) or argument == "-d" for argument in arguments):
        pytest.fail("the option was not looked at before the process was")
    assert (code, out) == (2, "")
    assert err


def fork() -> int:
    """(The deadline of the tests is a thread, of which Python warns.)"""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def as_nobody(*arguments: str) -> tuple[int, str]:
    """A command as another user: exit code and what it complains of."""
    reader, writer = os.pipe()
    child = fork()
    if child == 0:
        code = 99
        try:
            os.dup2(writer, 2)
            sys.stderr = os.fdopen(2, "w", buffering=1)
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            code = command.main(arguments[0], list(arguments[1:]))
        finally:
            sys.stderr.flush()
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        complaint = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), complaint


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_is_refused(start):
    target = start(SLEEPS)
    code, complaint = as_nobody("ps", str(target.pid))
    assert code == 4, complaint
    assert complaint.startswith(
        f"aioxide ps: process {target.pid} is the user 0's, and answers to that user and root only"
    )
    assert "sudo -u '#0'" in complaint
    # nor by the pipe or the socket themselves, if the kernel lets him at them
    with Connection(target.pid):
        pass
    folder = f"{target.attach_thread()}/fd"
    [path] = [f"{folder}/{fd}" for fd, what in target.opened_apart().items() if client.SOCKET in what]
    assert os.stat(path).st_mode & 0o777 == 0o600
    os.chmod(path, 0o666)
    held = os.open(path, os.O_PATH)
    child = fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os.setgroups([])
            os.setuid(65534)
            there = socket.socket(socket.AF_UNIX)
            there.connect(f"/proc/self/fd/{held}")
            try:
                there.sendall(b"\0\0\0\x051 now")
                os._exit(len(there.recv(100)))
            except ConnectionError:
                os._exit(0)
        os._exit(98)
    os.close(held)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


#: Becomes nobody; `dumpable`: others of that user may look into it, as if it had been started by him.
NOBODY = """
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    ctypes.CDLL(None).prctl(4, int(sys.argv[1]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("dumpable", [True, False])
def test_a_process_that_has_changed_its_user(start, capsys, dumpable):
    target = start(NOBODY + SLEEPS, int(dumpable))
    assert ask(capsys, "ps", target.pid)[0] == 0
    code, complaint = as_nobody("ps", str(target.pid))
    if dumpable:
        assert (code, complaint) == (0, "")
    else:
        assert code == 4
        assert "does not let its own user look into it" in complaint


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_root_that_may_not_look_into_others_asks_as_their_user(start, capsys):
    """As in a container, which has no CAP_SYS_PTRACE."""
    target = start(NOBODY + SLEEPS, 1)
    child = fork()
    if child == 0:
        code = 99
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            # struct __user_cap_header_struct and two of __user_cap_data_struct: effective, permitted, inheritable
            header = (ctypes.c_uint32 * 2)(0x20080522, 0)
            data = (ctypes.c_uint32 * 6)()
            assert libc.capget(header, data) == 0
            for index in (0, 1):
                data[index] &= ~(1 << 19)
            assert libc.capset(header, data) == 0
            with pytest.raises(PermissionError):
                os.readlink(f"/proc/{target.pid}/fd/0")
            code = command.main("ps", [str(target.pid)])
            assert (os.geteuid(), os.getegid()) == (0, 0)
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_what_lies_in_the_place_of_the_door_is_left_alone(start, capsys, monkeypatch):
    """The program has closed all descriptors, and has a pipe of its own there. (A thread that shares its table does not hear
    of it.)"""
    monkeypatch.setattr(client, "PATIENCE", 0.3)
    target = start(
        FILTER
        + """
    async def main():
        while not any(name.startswith("aioxide@") for name in names()):
            await aioxide.sleep(0.001)
        await aioxide.sleep(0.1)  # (it waits there by then)
        [number] = [int(name[8:]) for name in names() if name.startswith("aioxide@")]
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.dup2(reader, number)
        ready()
        await aioxide.sleep(1)
        try:
            ready(os.read(reader, 10))
        except BlockingIOError:
            ready("unharmed")
        await aioxide.sleep(1000)
    def names():
        return [open(f"/proc/self/task/{task}/comm").read() for task in os.listdir("/proc/self/task")]
    forbid()
    aioxide.run(main())
    """,
        wait=False,
    )
    if target.line() != "ready":
        assert target.process.wait(20) == 77
        pytest.skip("no filters here")
    code, _, err = ask(capsys, "ps", target.pid)
    assert code == 6
    assert "has closed all its descriptors" in err
    assert target.line() == "ready unharmed"


def test_one_who_waits_in_vain_is_not_taken_for_who_answers(start, capsys):
    """Of a program that has closed all descriptors, and forked, and runs a loop again. (A thread that shares its table does not
    hear of it.)"""
    target = start(
        FILTER
        + """
    def comes():
        tasks = os.listdir("/proc/self/task")
        return any(open(f"/proc/self/task/{task}/comm").read().startswith("aioxide@") for task in tasks)
    async def first():
        while not comes():
            await aioxide.sleep(0.001)
        await aioxide.sleep(0.1)  # (it waits at its pipe by then)
    async def main():
        ready()
        await aioxide.sleep(1000)
    import contextlib, warnings
    warnings.simplefilter("ignore")  # (for Python there is a thread too many)
    forbid()
    aioxide.run(first())
    for number in range(3, 256):  # (os.closerange() is what the filter forbids)
        with contextlib.suppress(OSError):
            os.close(number)
    kept = [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]
    if (child := os.fork()) == 0:
        os._exit(0)
    os.waitpid(child, 0)
    aioxide.run(main())
    """,
        wait=False,
    )
    if target.line() != "ready":
        assert target.process.wait(20) == 77
        pytest.skip("no filters here")
    assert ask(capsys, "ps", target.pid)[0] == 0
    threads = [(thread / "comm").read_text() for thread in Path(f"/proc/{target.pid}/task").iterdir()]
    assert sum(name.startswith(client.THREAD) for name in threads) == 2


@pytest.mark.parametrize("runtime", ["gone", "no/such", "relative", "/" + "x" * 200, ""])
def test_it_needs_no_directory_of_the_users(start, tmp_path, runtime):
    (tmp_path / "relative").mkdir()
    target = start(SLEEPS, env={"XDG_RUNTIME_DIR": str(tmp_path / "gone") if runtime == "gone" else runtime})
    assert tasks(target.pid)
    assert list((tmp_path / "relative").iterdir()) == []


#: Goes on with numbers of processes, a network, and files of its own.
CONTAINER = """
    import subprocess
    if os.getpid() != 1:
        unshare = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
        os.execvp(unshare[0], [*unshare, sys.executable, __file__])
    for folder in ("/dev/shm", "/var/tmp"):
        subprocess.run(["mount", "-t", "tmpfs", "none", folder], check=True)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make these namespaces")
def test_a_container_is_asked_from_outside(start, capsys):
    target = start(CONTAINER + SLEEPS, wait=False, env={"XDG_RUNTIME_DIR": ""})
    if target.line() != "ready":
        pytest.skip("no namespaces here")
    [inside] = Path(f"/proc/{target.pid}/task/{target.pid}/children").read_text().split()
    code, out, err = ask(capsys, "ps", inside)
    assert (code, err) == (0, "")
    assert out.startswith("process 1: ")


def test_what_is_no_question_is_no_harm(start):
    target = start(SLEEPS)
    with Connection(target.pid) as connection:
        for request in (
            "eval 1",
            "",
            "tasks from=x",
            "tasks =",
            "tasks from",
            "trace trace=-1",
            "\0",
            "now " + "x=1 " * 1000,
        ):
            with contextlib.suppress(command.Failure):
                answer = connection.ask(request)
                assert answer["v"] == 1
        with pytest.raises(command.Failure, match="does not know what was asked"):
            connection.ask("locals")
    with Connection(target.pid) as connection, pytest.raises(command.Failure, match="speaks version 1"):
        data = b"2 now"
        connection.socket.sendall(len(data).to_bytes(4) + data)
        answer = json.loads(connection._receive(int.from_bytes(connection._receive(4))))
        raise command.Failure(6, answer["error"])
    assert tasks(target.pid)


def test_an_answer_of_another_version_is_refused(capsys, monkeypatch, start):
    target = start(SLEEPS)
    monkeypatch.setattr(client, "VERSION", 2)
    code, _, err = ask(capsys, "ps", target.pid)
    assert code == 6
    assert "install the same version" in err


# --- processes, threads, loops ----------------------------------------------------------------------------------------


def test_two_loops_in_two_threads(start, capsys):
    target = start("""
        async def main(name, barrier):
            tasks = [aioxide.create_task(aioxide.sleep(1000), name=f"{name} {n}") for n in range(3)]
            await aioxide.sleep(0.01)
            barrier.wait()
            await aioxide.sleep(1000)
        barrier = threading.Barrier(3)
        for name in ("one", "two"):
            threading.Thread(target=lambda: aioxide.run(main(name, barrier)), daemon=True, name=name).start()
            time.sleep(0.2)
        barrier.wait()
        ready()
        time.sleep(1000)
    """)
    with Connection(target.pid) as connection:
        answer = connection.tasks()
        threads = connection.ask("threads")["threads"]
    names = {task["name"] for task in answer["tasks"]}
    assert {f"{name} {number}" for name in ("one", "two") for number in range(3)} < names
    assert len(answer["tasks"]) == 8
    assert [loop["loop"] for loop in answer["loops"]] == [0, 1]
    native = {loop["thread"] for loop in answer["loops"]}
    assert len(native) == 2
    assert target.pid not in native
    assert {thread["native"]: thread["loop"] for thread in threads if thread["loop"] is not None} == {
        loop["thread"]: loop["loop"] for loop in answer["loops"]
    }
    main = next(thread for thread in threads if thread["native"] == target.pid)
    assert main["loop"] is None
    assert main["stack"][-1][2] == "<module>"
    code, out, _ = ask(capsys, "dump", target.pid)
    assert code == 0
    assert f"thread {target.pid}, innermost call first" in out
    assert "task one 0 (" in out


def test_a_child_of_a_fork_answers_for_itself(start, capsys):
    target = start("""
        async def parent():
            await aioxide.sleep(1000)
        async def main():
            aioxide.create_task(aioxide.sleep(1000), name="the parent's")
            await aioxide.sleep(0.01)
            ready()
            sys.stdin.readline() if False else None
            while not os.path.exists("go"):
                await aioxide.sleep(0.01)
            child = os.fork()
            if child == 0:
                ready(os.getpid())
                while not os.path.exists("run"):
                    time.sleep(0.01)
                import asyncio
                asyncio._set_running_loop(None)
                threading.Thread(target=lambda: aioxide.run(children()), daemon=True).start()
                time.sleep(1000)
            await aioxide.sleep(1000)
        async def children():
            aioxide.create_task(aioxide.sleep(1000), name="the child's")
            await aioxide.sleep(0.01)
            ready()
            await aioxide.sleep(1000)
        aioxide.run(main())
    """)
    folder = Path(target.process.args[1]).parent
    with Connection(target.pid) as connection:
        # while the parent has a connection: the child must not keep it open
        assert "the parent's" in {task["name"] for task in connection.tasks()["tasks"]}
        (folder / "go").touch()
        child = int(target.line().split()[1])
        assert ask(capsys, "ps", child)[0] == 5
        opened = target.opened(child).values()
        assert not any(what.startswith(("socket:", "pipe:")) or client.SOCKET in what for what in opened)
        (folder / "run").touch()
        assert target.line() == "ready"
        found = set(tasks(child))
        assert "the child's" in found
        assert "the parent's" in {task["name"] for task in connection.tasks()["tasks"]}
    os.kill(child, signal.SIGKILL)


def test_a_fork_does_not_warn_of_our_threads(start, capsys):
    """Python 3.12 counts threads at a fork, and warns; of ours it hears nothing, and they go on."""
    target = start(
        """
        import warnings
        warnings.simplefilter("always")
        counts = []
        # (who is registered first is called last)
        os.register_at_fork(before=lambda: counts.append(len(os.listdir("/proc/self/task"))))
        def fork():
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                child = os.fork()
                if child == 0:
                    os._exit(0)
                os.waitpid(child, 0)
            return [counts.pop(), *(str(warning.message) for warning in caught)]
        async def main(*said):
            while len(os.listdir("/proc/self/task")) < 3:
                await aioxide.sleep(0.001)
            said = [*said, fork()]
            if len(said) == 1:
                await aioxide.sleep(0)
                return said
            ready(said)
            await aioxide.sleep(1000)
        said = aioxide.run(main())
        said += [fork()]
        aioxide.run(main(*said))
    """,
        wait=False,
    )
    assert target.line() == "ready [[1], [1], [1]]"
    assert len(tasks(target.pid)) == 1


@pytest.mark.parametrize("fork", ["os.fork", "ctypes.PyDLL(None).fork"])
def test_a_program_that_has_closed_all_descriptors_forks_and_keeps_its_own(start, fork):
    """As one does that goes into the background. What it opens then has numbers that were ours. A library forks without a
    word to Python."""
    target = start(
        f"""
        fork = {fork}
        aioxide.run(aioxide.sleep(0.01))
        os.closerange(3, 256)
        pipes = [os.pipe() for _ in range(10)]
        for _, writer in pipes:
            os.write(writer, b"of the program")
        for _ in range(2):
            if fork() == 0:
                lost = [end for pipe in pipes for end in pipe if not os.path.exists(f"/proc/self/fd/{{end}}")]
                os._exit(bool(lost) or any(os.read(reader, 100) != b"of the program" for reader, _ in pipes[::2]))
            print(os.waitstatus_to_exitcode(os.wait()[1]), end=" ")
            for _, writer in pipes[::2]:
                os.write(writer, b"of the program")
        print([os.read(reader, 100) for reader, _ in pipes[1::2]] == [b"of the program"] * 5, flush=True)
        aioxide.run(aioxide.sleep(0.01))
        ready()
    """,
        wait=False,
    )
    assert (target.line(), target.line()) == ("0 0 True", "ready")


def test_a_program_that_has_closed_all_descriptors_is_asked_when_its_next_loop_runs(start, capsys):
    """And the thread that has lost its pipe is gone: Python counts it at a fork."""
    target = start(
        """
        import warnings
        def names():
            return [open(f"/proc/self/task/{task}/comm").read() for task in os.listdir("/proc/self/task")]
        async def comes():
            while not any(name.startswith("aioxide@") for name in names()):
                await aioxide.sleep(0.001)
            await aioxide.sleep(0.1)  # (the thread has its pipe by then)
        async def main():
            ready(said)
            await aioxide.sleep(1000)
        counts = []
        # (who is registered first is called last)
        os.register_at_fork(before=lambda: counts.append(len(os.listdir("/proc/self/task"))))
        said = []
        for _ in range(2):
            aioxide.run(comes())
            os.closerange(3, 256)
            kept = [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                if (child := os.fork()) == 0:
                    os._exit(0)
            os.waitpid(child, 0)
            said += [counts.pop(), *(str(warning.message) for warning in caught)]
        aioxide.run(comes())
        os.closerange(3, 256)
        kept = [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]
        aioxide.run(main())
    """,
        wait=False,
    )
    assert target.line() == "ready [1, 1]"
    code, _, err = ask(capsys, "ps", target.pid)
    assert (code, err) == (0, "")
    threads = [(thread / "comm").read_text() for thread in Path(f"/proc/{target.pid}/task").iterdir()]
    assert sum(name.startswith(client.THREAD) for name in threads) == 1


def test_a_process_list(start, capsys):
    target, without = start(SLEEPS), start("ready(); time.sleep(1000)")
    code, out, _ = ask(capsys, "ps", "--json")
    assert code == 0
    listed = {process["pid"]: process for process in json.loads(out)}
    assert target.process.args[1] in listed[target.pid]["command"]
    assert without.pid not in listed
    code, out, _ = ask(capsys, "ps")
    assert any(row.startswith(f"{target.pid} ") for row in out.splitlines())


def test_nobody_asks_so_nothing_happens(start):
    """The thread is there, asleep, and has nothing but its pipe: no socket, no file, no wake-up."""
    target = start(SLEEPS)
    thread = until_it_listens(target)

    def switches() -> int:
        status = (thread / "status").read_text().splitlines()
        return sum(int(line.split()[1]) for line in status if "ctxt_switches" in line)

    end = time.monotonic() + 20
    while (before := switches()) == 0 or (thread / "wchan").read_text() in ("", "0"):
        assert time.monotonic() < end
        time.sleep(0.01)
    time.sleep(1.0)
    assert switches() == before
    mine = sorted(what.partition(":")[0] for what in target.opened().values() if not what.startswith("/"))
    # (of inotify's a user has 128 only: with one in each process the 129th could not be asked)
    assert mine == ["anon_inode", "anon_inode", "pipe"]
    assert not any("inotify" in what for what in target.opened().values())
    assert list(target.runtime.iterdir()) == []


@pytest.mark.parametrize("most", [4, 1])
def test_without_descriptors_it_waits_and_does_not_spin(start, most):
    """4: nobody can be let in. 1: it cannot even wait for several at once."""
    target = start(SLEEPS)
    with Connection(target.pid) as first, socket.socket(socket.AF_UNIX) as second:
        assert first.tasks()["total"] == 1
        thread = target.attach_thread()
        assert thread is not None
        [path] = [f"{thread}/fd/{fd}" for fd, what in target.opened_apart().items() if client.SOCKET in what]
        limits = resource.prlimit(target.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(target.pid, resource.RLIMIT_NOFILE, (most, limits[1]))
        second.settimeout(30)
        second.connect(path)
        second.sendall(b"\0\0\0\x051 now")
        before = processor_time(thread)
        time.sleep(1)
        assert processor_time(thread) - before < 0.2
        if most == 4:
            assert first.ask("now")["v"] == 1
        resource.prlimit(target.pid, resource.RLIMIT_NOFILE, limits)
        assert second.recv(4)


def test_nothing_is_left_of_the_dead(start):
    dead = start(SLEEPS)
    with Connection(dead.pid):
        assert any(client.SOCKET in what for what in dead.opened_apart().values())
        assert list(dead.runtime.iterdir()) == []
    dead.process.kill()
    dead.process.wait()
    assert list(dead.runtime.iterdir()) == []


@pytest.mark.skipif(sys.version_info < (3, 14), reason="before, asyncio keeps its tasks where only Python finds them")
def test_tasks_of_asyncio_on_the_loop(start):
    target = start("""
        import asyncio
        import _asyncio
        async def theirs():
            await aioxide.sleep(1000)
        async def main():
            task = _asyncio.Task(theirs(), loop=aioxide.get_running_loop(), name="of asyncio")
            await aioxide.sleep(0.01)
            ready()
            await aioxide.sleep(1000)
        aioxide.run(main())
    """)
    task = tasks(target.pid)["of asyncio"]
    assert task["id"].startswith("x")
    assert task["coro"] == "theirs"
    assert task["at"][2] == "theirs"


# --- top, trace, the command line -------------------------------------------------------------------------------------

BUSY = """
    async def spins():
        while True:
            await aioxide.sleep(0)
    async def main():
        task = aioxide.create_task(spins(), name="spins")
        ready()
        await aioxide.sleep(1000)
    aioxide.run(main())
"""


def test_top_of_a_busy_loop(start, capsys):
    target = start(BUSY)
    code, out, err = ask(capsys, "top", target.pid, "--once", "--interval", "0.2", "--json")
    assert (code, err) == (0, "")
    [loop] = json.loads(out)["loops"]
    assert loop["callbacks_per_second"] > 1000
    assert loop["utilisation"] > 0.9
    assert 0 < loop["processor"] < 1.1
    code, out, _ = ask(capsys, "top", target.pid, "--once", "--interval", "0.2")
    assert code == 0
    assert "\x1b" not in out
    assert "CALLBACKS/S" in out
    assert "spins at" in out or "spins" in out


def test_top_of_a_loop_that_sleeps(start, capsys):
    target = start(SLEEPS)
    code, out, _ = ask(capsys, "top", target.pid, "--once", "--interval", "0.3", "--json")
    assert code == 0
    [loop] = json.loads(out)["loops"]
    assert loop["utilisation"] < 0.1
    assert loop["processor"] < 0.1
    assert loop["state"] == "asleep"


def test_top_into_a_pipe_ends_with_its_reader(start):
    target = start(SLEEPS)
    script = "import sys; from aioxide.attach.command import main; sys.exit(main('top', sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(target.pid), "--interval", "50ms"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT / "python")},
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"process ")
    process.stdout.close()
    assert process.wait(20) == 0
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()


def test_a_trace_shows_every_step(start, tmp_path, capsys):
    target = start(BUSY)
    path = tmp_path / "trace.json"
    path.write_text("x" * 10_000)  # one that is named may be there
    path.chmod(0o600)
    code, _, err = ask(capsys, "trace", target.pid, "-d", "300ms", "-o", path)
    assert code == 0
    events = re.fullmatch(r"([\d,]+) events in .*trace.json(?: \([\d,]+ before them are lost\))?; open it in .*\n", err)
    assert events
    assert path.stat().st_mode & 0o777 == 0o600
    trace = json.loads(path.read_text())
    about = trace["otherData"]["loop 0"]
    assert (about["pid"], about["reason"]) == (target.pid, "trace")
    assert f"{about['events']:,}" == events[1]
    slices = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    steps = [event for event in slices if event["name"] == "spins (spins)"]
    # (one in the loop's lane and one in the task's; a sample every 2 ms would be 150)
    assert len(steps) > 2000
    assert ask(capsys, "trace", target.pid, "-d", "10ms", "-o", tmp_path / "no" / "where")[0] == 2


def test_a_trace_overwrites_nothing_and_follows_no_link(start, tmp_path, capsys, monkeypatch):
    target = start(BUSY)
    monkeypatch.chdir(tmp_path)
    link = tmp_path / f"aioxide-{target.pid}.json"
    link.symlink_to(tmp_path / "elsewhere")
    for number in (2, 3):
        assert ask(capsys, "trace", target.pid, "-d", "300ms")[0] == 0
        path = tmp_path / f"aioxide-{target.pid}-{number}.json"
        assert json.loads(path.read_text())["traceEvents"]
        assert path.stat().st_mode & 0o777 == 0o600
    assert link.is_symlink()
    assert not (tmp_path / "elsewhere").exists()
    # nothing is left of one that fails
    os.kill(target.pid, signal.SIGSTOP)
    monkeypatch.setattr(client, "ANSWER_PATIENCE", 0.2)
    monkeypatch.setattr(client, "PATIENCE", 0.2)
    assert ask(capsys, "trace", target.pid, "-d", "10ms")[0] == 6
    os.kill(target.pid, signal.SIGCONT)
    assert not (tmp_path / f"aioxide-{target.pid}-4.json").exists()


COUNTS = """
    from aioxide import diag
    async def spins():
        while True:
            await aioxide.sleep(0.001)
    async def main():
        task = aioxide.create_task(spins(), name="spins")
        ready()
        for line in sys.stdin:
            # (the loop stands still while it waits for a line)
            await aioxide.sleep(0.05)
            before = sum(diag.flight.counts().values())
            await aioxide.sleep(0.05)
            ready(sum(diag.flight.counts().values()) > before)
    aioxide.run(main())
"""


@pytest.mark.parametrize("how", ["end", "death"])
def test_the_recorder_is_off_when_nobody_traces(start, how):
    target = start(COUNTS, stdin=subprocess.PIPE)

    def records() -> bool:
        target.process.stdin.write(b"\n")
        target.process.stdin.flush()
        return target.line() == "ready True"

    assert not records()
    with Connection(target.pid) as connection, Connection(target.pid) as other:
        first = connection.ask("record")["trace"]
        assert records()
        second = other.ask("record")["trace"]
        assert b"spins" in connection.ask_for_file(f"trace trace={first}")
        assert records()
        if how == "end":
            other.ask_for_file(f"trace trace={second}")
            assert not records()
            with pytest.raises(command.Failure, match="nobody has begun this trace"):
                other.ask_for_file(f"trace trace={second}")
    end = time.monotonic() + 20
    while records():
        assert time.monotonic() < end


def test_a_trace_goes_on_over_forks(start, tmp_path, capsys):
    target = start("""
        async def main():
            ready()
            while True:
                await aioxide.sleep(0.05)
                if (child := os.fork()) == 0:
                    os._exit(0)
                os.waitpid(child, 0)
        aioxide.run(main())
    """)
    path = tmp_path / "trace.json"
    assert ask(capsys, "trace", target.pid, "-d", "500ms", "-o", path)[0] == 0
    trace = json.loads(path.read_text())
    steps = [event for event in trace["traceEvents"] if event["ph"] == "X" and event["name"] == "main (Task-1)"]
    assert len(steps) > 2


def test_a_trace_leaves_the_programs_own_recorder_alone(start, tmp_path, capsys):
    target = start(COUNTS, stdin=subprocess.PIPE, env={"AIOXIDE_FLIGHT": "1"})
    path = tmp_path / "trace.json"
    for _ in range(2):
        target.process.stdin.write(b"\n")
        target.process.stdin.flush()
        assert ask(capsys, "trace", target.pid, "-d", "50ms", "-o", path)[0] == 0
        assert target.line() == "ready True"
        # (what was before is not in it, and not lost)
        about = json.loads(path.read_text())["otherData"]["loop 0"]
        assert about["lost"] == 0


def test_a_trace_of_a_blocked_loop_says_so(start, tmp_path, capsys):
    target = start("""
        async def main():
            ready()
            block(30)
        aioxide.run(main())
    """)
    time.sleep(0.3)
    code, _, err = ask(capsys, "trace", target.pid, "-d", "100ms", "-o", tmp_path / "trace.json")
    assert code == 0
    assert re.match(r"loop 0 is in one callback at program0.py:\d+ block for [\d.]+ m?s\n0 events in ", err)


def test_help_says_what_options_mean(capsys):
    for name in ("ps", "top", "dump", "why", "trace"):
        code, out, _ = ask(capsys, name, "--help")
        assert code == 0
        assert out.startswith(f"usage: aioxide {name} ")
        assert all(option in out for option in command.VALUES.get(name, set()) | command.FLAGS.get(name, set()))
        assert "AIOXIDE_DIAG=0" in out
        assert max(map(len, out.splitlines())) <= 120


@pytest.mark.parametrize("module", ["aioxide", "aioxide_command"])
def test_the_command_line(start, tmp_path, module):
    target = start(SLEEPS)
    if module == "aioxide":
        line = ["-m", "aioxide"]
    else:
        line = ["-c", "import sys, aioxide_command; sys.exit(aioxide_command.main())"]
    path = os.pathsep.join([str(ROOT / "python"), str(ROOT / "site/purelib")])

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *line, *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path},
        )

    done = call("ps", str(target.pid))
    assert (done.returncode, done.stderr) == (0, "")
    assert "Task-1" in done.stdout
    assert call("ps", "nobody").returncode == 2
    # a program of that name is a program still
    (tmp_path / "ps").write_text(
        "import aioxide, asyncio, sys; print('program', sys.argv, asyncio.Task is aioxide.Task)"
    )
    assert call("./ps", "x").stdout == "program ['./ps', 'x'] True\n"


def test_the_script_does_not_wait_for_asyncio(start):
    target = start(SLEEPS)
    source = (
        "import sys, aioxide_command; sys.argv[1:] = ['ps', sys.argv[1]]; aioxide_command.main(); "
        "print('asyncio' in sys.modules, 'aioxide._core' in sys.modules)"
    )
    path = os.pathsep.join([str(ROOT / "python"), str(ROOT / "site/purelib")])
    done = subprocess.run(
        [sys.executable, "-c", source, str(target.pid)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "False False"
