"""The flight recorder: what is in a file, when one is made unasked, and what it costs when it is off: nothing."""

import collections
import itertools
import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

import aioxide
from aioxide import diag
from tests.support import STDLIB, python

pytestmark = pytest.mark.skipif(STDLIB, reason="aioxide's own")


@pytest.fixture(autouse=True)
def off_again(tmp_path):
    before = diag.settings()
    diag.configure(flight_dir=tmp_path)
    yield
    diag.configure(flight=before["flight"], flight_dir=before["flight_dir"])


def recorded(main, tmp_path, flight=True):
    """What is in the file of a run."""
    diag.configure(flight=flight)
    with aioxide.Runner(loop_factory=aioxide.new_event_loop) as runner:
        runner.run(main)
        number = max(loop.number for loop in diag.metrics().loops)
        written = sum(diag.flight.counts().values())
        saved = diag.flight.save(tmp_path / "run.json")
    diag.configure(flight=False)
    assert saved.events + saved.lost == written
    return File(tmp_path / "run.json", number), saved


class File:
    """A file, and what stands in it of one loop; of all, if there is only one."""

    def __init__(self, path, number=None):
        whole = json.loads(path.read_text())
        assert set(whole) == {"displayTimeUnit", "traceEvents", "otherData"}
        assert whole["otherData"].pop("aioxide") == "1"
        self.loops = whole["otherData"]
        number = int(next(iter(self.loops)).split()[1]) if number is None else number
        self.about = self.loops[f"loop {number}"]
        base = 1003 * number
        self.events = [event for event in whole["traceEvents"] if base < event["tid"] <= base + 1003]
        self.lanes = {
            event["tid"]: event["args"]["name"]
            for event in self.events
            if event["ph"] == "M" and event["name"] == "thread_name"
        }
        assert self.lanes[base + 1] == f"loop {number}"

    def slices(self, lane):
        """`(name, start, end)` of those in a lane, in order."""
        found = [
            (event["name"], event["ts"], event["ts"] + event["dur"])
            for event in self.events
            if event["ph"] == "X" and self.lanes[event["tid"]] == lane
        ]
        return sorted(found, key=lambda each: each[1])

    def instants(self, lane=None):
        return [
            event["name"]
            for event in self.events
            if event["ph"] == "i" and (lane is None or self.lanes[event["tid"]] == lane)
        ]

    @property
    def loop(self):
        return min(self.lanes.items())[1]

    def arrows(self):
        """From lane to lane, for each that has both ends; each end lies in a slice of its lane."""
        ends = collections.defaultdict(dict)
        for event in self.events:
            if event["ph"] in "sf":
                assert event["ph"] not in ends[event["id"]]
                ends[event["id"]][event["ph"]] = event
                lane = self.lanes[event["tid"]]
                assert any(start <= event["ts"] <= end + 0.001 for _, start, end in self.slices(lane)), event
                assert event.get("bp") == ("e" if event["ph"] == "f" else None)
        pairs = [(both["s"], both["f"]) for both in ends.values() if len(both) == 2]
        assert all(start["ts"] <= finish["ts"] for start, finish in pairs)
        return [(self.lanes[start["tid"]], self.lanes[finish["tid"]]) for start, finish in pairs]


# -- what is in it ------------------------------------------------------------------------------------------------------


async def steps(count):
    for _ in range(count):
        await aioxide.sleep(0)


def test_each_task_has_a_lane_and_each_step_a_slice(tmp_path):
    async def main():
        first = aioxide.create_task(steps(3), name="the first")
        second = aioxide.create_task(steps(5))
        names.append(second.get_name())
        await aioxide.gather(first, second)

    names = []
    file, saved = recorded(main(), tmp_path)
    assert saved == diag.flight.Saved(os.fspath(tmp_path / "run.json"), saved.events, 0)
    assert sum(about["events"] for about in file.loops.values()) == saved.events
    assert len(file.slices("the first steps")) == 4
    assert len(file.slices(f"{names[0]} steps")) == 6
    assert file.instants(f"{names[0]} steps") == ["returned"]
    every = file.slices(file.loop)
    assert [name for name, *_ in every].count("steps (the first)") == 4
    for lane in file.lanes.values():
        slices = file.slices(lane)
        assert all(end <= start + 0.001 for (_, _, end), (_, start, _) in itertools.pairwise(slices)), lane


def test_arrows_lead_from_what_wakes_to_what_is_woken(tmp_path):
    async def waits(event):
        await event.wait()

    async def wakes(event):
        await aioxide.sleep(0)
        event.set()

    async def main():
        event = aioxide.Event()
        await aioxide.gather(aioxide.create_task(waits(event), name="A"), aioxide.create_task(wakes(event), name="B"))

    file, _ = recorded(main(), tmp_path)
    prefix = "test_arrows_lead_from_what_wakes_to_what_is_woken.<locals>."
    (main_lane,) = [lane for lane in file.lanes.values() if lane.endswith(".main")]
    counts = collections.Counter(file.arrows())
    assert counts[f"B {prefix}wakes", f"A {prefix}waits"] == 1
    assert counts[main_lane, f"A {prefix}waits"] == 1, "it has made it"
    assert counts[main_lane, f"B {prefix}wakes"] == 1


def test_callbacks_timers_and_sleeps_are_in_the_lane_of_the_loop(tmp_path):
    class Callable:
        def __call__(self):
            pass

        def method(self):
            pass

    def function():
        pass

    async def main():
        loop = aioxide.get_running_loop()
        for callback in (function, Callable(), Callable().method, [].append, lambda: None):
            loop.call_soon(callback, *([1] if callback.__class__ is type([].append) else []))
        loop.call_later(0.01, function)
        await aioxide.sleep(0.05)

    file, _ = recorded(main(), tmp_path)
    names = [name for name, *_ in file.slices(file.loop)]
    prefix = "test_callbacks_timers_and_sleeps_are_in_the_lane_of_the_loop.<locals>."
    assert names.count(f"{prefix}function") == 2
    for name in (
        "Callable",
        f"{prefix}Callable.method",
        "list.append",
        f"{prefix}main.<locals>.<lambda>",
        "sleep() is over",
    ):
        assert names.count(name) == 1, name
    slept = [end - start for name, start, end in file.slices(file.loop) if name == "sleep"]
    assert 45_000 < sum(slept) < 5_000_000, "microseconds"


def test_how_tasks_end_is_told(tmp_path):
    async def fails():
        raise ValueError

    async def waits():
        await aioxide.sleep(60)

    async def main():
        tasks = [aioxide.create_task(coro, name=name) for coro, name in [(fails(), "F"), (waits(), "W")]]
        await aioxide.sleep(0)
        tasks[1].cancel()
        await aioxide.gather(*tasks, return_exceptions=True)

    file, _ = recorded(main(), tmp_path)
    prefix = "test_how_tasks_end_is_told.<locals>."
    assert file.instants(f"F {prefix}fails") == ["raised"]
    assert file.instants(f"W {prefix}waits") == ["cancelled"]


def test_tasks_that_begin_eagerly_have_names(tmp_path):
    async def main():
        loop = aioxide.get_running_loop()
        loop.set_task_factory(aioxide.eager_task_factory)
        await loop.create_task(steps(2), name="eager")

    file, _ = recorded(main(), tmp_path)
    assert len(file.slices("eager steps")) == 2


def test_names_cannot_break_the_file(tmp_path):
    async def main():
        await aioxide.create_task(steps(1), name='a"b\\\n\x1b[2J\u202e')

    file, _ = recorded(main(), tmp_path)
    assert 'a"b\\\n\x1b[2J\u202e steps' in file.lanes.values()


def test_connections_are_named_by_their_transport(tmp_path):
    async def serve(reader, writer):
        writer.write(await reader.read(10))
        writer.close()

    async def main():
        server = await aioxide.start_server(serve, "127.0.0.1", 0)
        reader, writer = await aioxide.open_connection(*server.sockets[0].getsockname())
        writer.write(b"x")
        assert await reader.read() == b"x"
        writer.close()
        server.close()

    file, _ = recorded(main(), tmp_path)
    names = {name for name, *_ in file.slices(file.loop)}
    assert "_SelectorSocketTransport readable" in names


def test_what_is_lost_is_counted_exactly(tmp_path):
    """A ring of 64 KiB has room for 4095 records; each turn of a lone task writes one."""

    async def main():
        await steps(3)
        before = diag.flight.counts()[number()]
        await steps(10_000)
        assert diag.flight.counts()[number()] - before == 10_000

    def number():
        return max(loop.number for loop in diag.metrics().loops)

    file, saved = recorded(main(), tmp_path, flight=1 / 16)
    assert file.about["events"] == 4095
    assert file.about["lost"] > 5900
    assert saved.lost == file.about["lost"]
    assert f"{file.about['lost']} events before are lost" in file.instants(file.loop)


def test_a_recording_that_begins_late_knows_the_tasks(tmp_path):
    async def main():
        waiting = aioxide.create_task(waits(), name="old")
        await aioxide.sleep(0)
        diag.configure(flight=True)
        await aioxide.sleep(0)
        event.set()
        await waiting
        diag.flight.save(tmp_path / "late.json")
        diag.configure(flight=False)

    async def waits():
        await event.wait()

    diag.configure(flight=False)
    event = aioxide.Event()
    with aioxide.Runner(loop_factory=aioxide.new_event_loop) as runner:
        runner.run(main())
        number = max(loop.number for loop in diag.metrics().loops)
    file = File(tmp_path / "late.json", number)
    assert any(lane.startswith("old ") for lane in file.lanes.values()), file.lanes


def test_every_loop_has_lanes_of_its_own(tmp_path):
    diag.configure(flight=True)
    barrier = threading.Barrier(3)

    def run(name):
        async def main():
            await aioxide.create_task(steps(3), name=name)
            barrier.wait()
            barrier.wait()

        with aioxide.Runner(loop_factory=aioxide.new_event_loop) as runner:
            runner.run(main())

    threads = [threading.Thread(target=run, args=[name]) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    barrier.wait()
    diag.flight.save(tmp_path / "both.json")
    barrier.wait()
    for thread in threads:
        thread.join()
    whole = json.loads((tmp_path / "both.json").read_text())
    lanes = {e["args"]["name"]: e["tid"] // 1003 for e in whole["traceEvents"] if e["name"] == "thread_name"}
    assert lanes["one steps"] != lanes["two steps"]


# -- files --------------------------------------------------------------------------------------------------------------


def test_nothing_is_overwritten_and_nobody_else_may_read(tmp_path):
    recorded(steps(1), tmp_path)
    path = tmp_path / "run.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        diag.flight.save(path)
    assert path.read_bytes() == before
    with pytest.raises(FileNotFoundError):
        diag.flight.save(tmp_path / "none" / "x.json")


def test_off_there_is_nothing_to_save():
    program = """
    from aioxide import diag
    async def main():
        pass
    aio.run(main())
    print(diag.flight.counts())
    try:
        diag.flight.save("x.json")
    except RuntimeError as error:
        print(error)
    """
    done = python(program, env={"AIOXIDE_FLIGHT": "0"})
    assert done.stdout == "{}\nnothing has been recorded: the flight recorder is off\n", done.stderr


@pytest.mark.parametrize("wrong", [-1, 2000, "much", float("nan")])
def test_a_size_that_makes_no_sense_is_refused(wrong):
    with pytest.raises((ValueError, TypeError)):
        diag.configure(flight=wrong)


def test_loops_that_come_and_go_leave_no_rings_behind():
    diag.configure(flight=True)
    for _ in range(10):
        with aioxide.Runner(loop_factory=aioxide.new_event_loop) as runner:
            runner.run(steps(1))
    del runner
    assert len(diag.flight.counts()) <= 5


# -- unasked ------------------------------------------------------------------------------------------------------------


def files(tmp_path, reason, count=1):
    """Waits until there are so many whole ones."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = sorted(tmp_path.glob(f"aioxide-*-{reason}*.json"))
        if len(found) >= count and all(path.read_text().endswith("}\n") for path in found):
            return found
        time.sleep(0.02)
    raise AssertionError(f"{found}")


UNHANDLED = """
import logging
from aioxide import diag

async def main():
    loop = aio.get_running_loop()
    for _ in range(3):
        loop.call_soon(lambda: 1 / 0)
    await aio.sleep(0.01)

logging.basicConfig(format="%(levelname)s %(message)s", level=logging.ERROR)
diag.configure(log="stderr")
aio.run(main())
"""


def test_an_unhandled_exception_saves_once_for_many(tmp_path):
    done = python(UNHANDLED, env={"AIOXIDE_FLIGHT": "1", "AIOXIDE_FLIGHT_DIR": str(tmp_path)})
    assert done.returncode == 0
    (path,) = files(tmp_path, "exception")
    assert path.name.endswith("-exception.json")
    file = File(path)
    assert file.about["reason"] == "exception"
    names = [name for name, *_ in file.slices(file.loop)]
    assert names.count("main.<locals>.<lambda>") == 1, "what ran when it happened"
    records = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    (record,) = [record for record in records if record["ev"] == "flight"]
    assert (record["reason"], record["path"], record["lost"]) == ("exception", str(path), 0)
    assert record["events"] == file.about["events"]


def test_who_has_not_asked_gets_no_files(tmp_path):
    program = UNHANDLED + "print(diag.flight.counts())"
    for development in ("0", "1"):
        environment = {"AIOXIDE_FLIGHT": "", "AIOXIDE_FLIGHT_DIR": str(tmp_path), "AIOXIDE_DEV": development}
        done = python(program, env=environment)
        assert done.stdout == "{}\n", done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_not_there_is_told(tmp_path):
    done = python(UNHANDLED, env={"AIOXIDE_FLIGHT": "1", "AIOXIDE_FLIGHT_DIR": str(tmp_path / "none")})
    assert done.returncode == 0
    (record,) = [json.loads(line) for line in done.stderr.splitlines() if '"flight"' in line]
    assert (record["reason"], record["error"]) == ("exception", "No such file or directory (os error 2)")


SIGNALLED = """
import re, signal, sys, threading
from aioxide import diag

async def main():
    print("ready", flush=True)
    {block}

diag.register(signal.SIGUSR1)
diag.configure(log="stderr")
aio.run(main())
"""

#: what holds the GIL for longer than the test waits: a match that takes for ever
HOLDS_THE_GIL = "re.match('(a*)*b', 'a' * 40)"


def wait_until_settled(pid):
    """Until its first thread is asleep, or has been busy for a fiftieth of a second without a pause."""

    def look():
        thread = Path(f"/proc/{pid}/task/{pid}")
        used, *_ = (thread / "schedstat").read_text().split()
        asleep = (thread / "stat").read_text().rpartition(")")[2].split()[0] == "S"
        return asleep, int(used)  # in nanoseconds

    until = time.monotonic() + 30
    while time.monotonic() < until:
        _, before = look()
        time.sleep(0.1)
        asleep, used = look()
        if used - before > 20_000_000 or (asleep and used == before):
            return
    raise AssertionError("it does a little now and then")


@pytest.mark.parametrize("block", [HOLDS_THE_GIL, "await aio.sleep(60)"], ids=["holds the GIL", "asleep"])
def test_a_signal_is_answered_whatever_the_loop_does(tmp_path, block):
    program = "import aioxide as aio\n" + SIGNALLED.format(block=block)
    environment = {**os.environ, "AIOXIDE_FLIGHT": "1", "AIOXIDE_FLIGHT_DIR": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "ready\n"
        wait_until_settled(process.pid)
        process.send_signal(signal.SIGUSR1)
        (path,) = files(tmp_path, "signal")
        assert process.poll() is None
        process.send_signal(signal.SIGUSR1)
        assert len(files(tmp_path, "signal", 2)) == 2, "asked for, each is made"
        assert process.poll() is None
    finally:
        process.kill()
    records = [json.loads(line) for line in process.stderr if line.startswith("{")]
    process.wait()
    process.stdout.close()
    process.stderr.close()
    dump = next(record for record in records if record["ev"] == "dump")
    if block == HOLDS_THE_GIL:
        assert dump["state"] == "running"
        assert dump["stack"][0].endswith((":match", ":prefixmatch")), dump  # (its name since 3.15)
        line = next(number for number, text in enumerate(program.splitlines(), 1) if HOLDS_THE_GIL in text)
        assert f"<string>:{line}:main" in dump["stack"], dump
    else:
        assert dump["state"] == "asleep"
    file = File(path)
    assert file.about["reason"] == "signal"
    assert path.name == f"aioxide-{process.pid}-signal.json"
    last = file.slices(file.loop)[-1][0]
    assert last == ("main (Task-1)" if block == HOLDS_THE_GIL else "sleep")


def test_a_block_saves_while_it_lasts(tmp_path):
    program = """
    import json, os, time
    from aioxide import diag

    async def culprit():
        until = time.monotonic() + 20
        while not os.listdir(os.environ["AIOXIDE_FLIGHT_DIR"]) and time.monotonic() < until:
            pass
        time.sleep(0.3)

    async def main():
        await aio.create_task(culprit(), name="slow")

    diag.configure(block_ms=50, log="jsonl:/dev/null")
    aio.run(main())
    """
    done = python(program, env={"AIOXIDE_FLIGHT": "1", "AIOXIDE_FLIGHT_DIR": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    (path,) = files(tmp_path, "block")
    file = File(path)
    name, start, end = file.slices(file.loop)[-1]
    assert name == "culprit (slow)"
    assert end - start > 50_000, "microseconds up to when it was saved"
    assert file.instants(file.loop)[-1] == "saved: block"


def test_a_deadlock_saves(tmp_path):
    program = """
    async def both(first, second):
        async with first:
            await aio.sleep(0)
            async with second:
                pass

    async def main():
        one, two = aio.Lock(), aio.Lock()
        tasks = [aio.create_task(both(one, two), name="A"), aio.create_task(both(two, one), name="B")]
        await aio.wait(tasks, timeout=5)

    aio.run(main())
    """
    done = python(program, env={"AIOXIDE_FLIGHT": "1", "AIOXIDE_FLIGHT_DIR": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    (path,) = files(tmp_path, "deadlock")
    file = File(path)
    assert len(file.slices("A both")) == len(file.slices("B both")) == 2


def test_unregister_brings_back_what_was_before():
    program = """
    import os, signal
    from aioxide import diag
    signal.signal(signal.SIGUSR1, lambda *_: print("mine"))
    diag.configure(log="stderr")
    diag.register(signal.SIGUSR1)
    diag.register(signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGUSR1)
    print(diag.unregister(signal.SIGUSR1), diag.unregister(signal.SIGUSR1))
    os.kill(os.getpid(), signal.SIGUSR1)
    """
    done = python(program)
    assert (done.stdout, done.returncode) == ("True False\nmine\n", 0), done.stderr


@pytest.mark.parametrize(
    ("wrong", "error"),
    [(signal.SIGSEGV, ValueError), (signal.SIGKILL, OSError), (0, OSError), (1 << 40, ValueError), ("x", TypeError)],
)
def test_signals_that_cannot_be_registered(wrong, error):
    with pytest.raises(error):
        diag.register(wrong)


def test_a_child_answers_for_itself_from_its_first_loop_on(tmp_path):
    program = textwrap.dedent("""
    import os, signal, time
    from aioxide import diag

    async def main():
        await aio.sleep(0)

    diag.register(signal.SIGUSR1)
    loop = aio.new_event_loop()
    loop.run_until_complete(main())
    child = os.fork()
    if not child:
        os.kill(os.getpid(), signal.SIGUSR1)
        loop.run_until_complete(main())
        time.sleep(0.2)
        assert not os.listdir(os.environ["AIOXIDE_FLIGHT_DIR"])
        # (from then on it has been answering)
        os.kill(os.getpid(), signal.SIGUSR1)
        name = f"aioxide-{os.getpid()}-signal.json"
        while name not in os.listdir(os.environ["AIOXIDE_FLIGHT_DIR"]):
            time.sleep(0.01)
        diag._diag._finish_flights()
        assert diag.unregister(signal.SIGUSR1)
        assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
        os._exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    loop.close()
    """)
    done = python(program, env={"AIOXIDE_FLIGHT": "1", "AIOXIDE_FLIGHT_DIR": str(tmp_path)})
    assert done.stdout == "7\n", done.stderr
    (path,) = files(tmp_path, "signal")
    assert int(path.name.split("-")[1]) == File(path).events[0]["pid"]


def test_a_signal_is_answered_after_all_descriptors_have_been_closed(tmp_path):
    """And what the program opens instead is its own."""
    program = """
    import os, signal, time
    from aioxide import diag
    diag.register(signal.SIGUSR1)

    async def main():
        os.kill(os.getpid(), signal.SIGUSR1)
        await aio.sleep(0)

    os.closerange(3, 256)
    opened = [os.memfd_create("its own") for _ in range(64)]
    aio.run(main())
    folder = os.environ["AIOXIDE_FLIGHT_DIR"]
    while f"aioxide-{os.getpid()}-signal.json" not in os.listdir(folder):
        time.sleep(0.01)
    print([os.fstat(number).st_size for number in opened if os.fstat(number).st_size])
    """
    done = python(program, env={"AIOXIDE_FLIGHT": "1", "AIOXIDE_FLIGHT_DIR": str(tmp_path)})
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


# -- what it does not change --------------------------------------------------------------------------------------------


def test_the_order_of_things_is_the_same(tmp_path):
    def order():
        async def main():
            loop = aioxide.get_running_loop()

            async def say(name):
                for number in range(3):
                    said.append((name, number))
                    await aioxide.sleep(0)
                return name

            def called(number):
                said.append(number)
                if number:
                    loop.call_soon(called, number - 1)

            loop.call_soon(called, 3)
            loop.call_later(0, called, 2)
            tasks = [loop.create_task(say(name)) for name in "abc"]
            for task in tasks:
                task.add_done_callback(lambda task: said.append(task.result()))
            await aioxide.gather(*tasks)

        said = []
        with aioxide.Runner(loop_factory=aioxide.new_event_loop) as runner:
            runner.run(main())
        return said

    diag.configure(flight=False)
    expected = order()
    diag.configure(flight=True)
    assert order() == expected


def test_a_signal_is_caught_although_all_is_off():
    """A program that is started with AIOXIDE_DIAG=0 must not end by a signal that it catches otherwise."""
    program = """
        import os, signal, aioxide
        from aioxide import diag
        diag.register(signal.SIGUSR1)
        async def main():
            os.kill(os.getpid(), signal.SIGUSR1)
            await aioxide.sleep(0.1)
        aioxide.run(main())
        print(diag.unregister(signal.SIGUSR1))
    """
    done = python(program, env={"AIOXIDE_DIAG": "0", "AIOXIDE_DIAG_LOG": "stderr"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
