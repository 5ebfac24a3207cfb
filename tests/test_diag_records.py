"""Records: their form, the ways they take, and what turns them off."""

import asyncio
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import textwrap
import threading

import pytest

import aioxide
from aioxide import diag
from aioxide._core import diag as core
from tests.support import STDLIB, until

pytestmark = pytest.mark.skipif(STDLIB, reason="aioxide's own")

HOSTILE = 'a"b\\c\n\x1b[2J\x00é日😀\u202e'


@pytest.fixture
def settings():
    before = diag.settings()
    yield
    diag.configure(
        block_ms=before["block_ms"],
        block_repeat=before["block_repeat"],
        log=before["log"],
        on_event=before["on_event"],
    )


def test_settings_are_those_of_the_documentation(settings):
    assert diag.settings() == {
        "enabled": True,
        "block_ms": 50.0 if sys.flags.dev_mode else 100.0,
        "block_repeat": "limited",
        "log": "logging",
        "flight": 0.0,
        "flight_dir": tempfile.gettempdir(),
        "on_event": None,
        "stacks": "yes",
        "lost": 0,
    }
    called = []
    diag.configure(block_ms=20, block_repeat="all", log="stderr,logging,jsonl:x", on_event=called.append)
    now = diag.settings()
    assert (now["block_ms"], now["block_repeat"], now["on_event"]) == (20.0, "all", called.append)
    assert now["log"] == f"logging,stderr,jsonl:{os.path.abspath('x')}"
    diag.configure(on_event=None)
    assert diag.settings() == {**now, "on_event": None}


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"block_ms": -1}, ValueError),
        ({"block_ms": float("nan")}, ValueError),
        ({"block_ms": "fast"}, (TypeError, ValueError)),
        ({"block_repeat": "some"}, ValueError),
        ({"log": "syslog"}, ValueError),
        ({"log": "jsonl:"}, ValueError),
        ({"on_event": 1}, TypeError),
        ({"unknown": 1}, TypeError),
    ],
)
def test_wrong_settings_are_refused_and_change_nothing(settings, wrong, error):
    before = diag.settings()
    with pytest.raises(error):
        diag.configure(**wrong)
    assert diag.settings() == before


def test_a_line_of_json(settings, tmp_path):
    path = tmp_path / "diag.jsonl"
    diag.configure(log=f"jsonl:{path}")
    core._emit("test", HOSTILE, None)
    core._emit("test", "x" * 5000, "not logged")
    assert path.stat().st_mode & 0o777 == 0o600
    lines = path.read_text().splitlines()
    assert all(line.isascii() and line.isprintable() for line in lines)
    first, second = map(json.loads, lines)
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d\d\dZ", first.pop("t"))
    assert first == {
        "v": 1,
        "ev": "test",
        "pid": os.getpid(),
        "text": HOSTILE,
        "nothing": None,
        "ms": 1234.6,
        "texts": [HOSTILE, "b"],
        "list": [{"text": HOSTILE, "true": True}],
    }
    assert second["text"] == "x" * 1000 + "..."


def test_the_loops_thread_hands_records_to_python(settings, caplog):
    seen = []
    diag.configure(on_event=lambda record: seen.append((record["ev"], threading.get_ident())))

    async def main():
        core._emit("one", "", "a message")
        core._emit("two", "", None)
        assert seen == []  # not inside of a callback
        await aioxide.sleep(0)
        return threading.get_ident()

    with caplog.at_level(logging.WARNING, "aioxide.diag"):
        here = aioxide.run(main())
    assert seen == [("one", here), ("two", here)]
    assert [(r.name, r.levelname, r.getMessage(), r.aioxide["ev"]) for r in caplog.records] == [
        ("aioxide.diag", "WARNING", "a message", "one")
    ]


def test_a_loop_that_sleeps_is_woken_for_a_record(settings):
    seen = []
    diag.configure(on_event=seen.append)

    async def main():
        emits = threading.Timer(0.05, core._emit, ("late", "", None))
        emits.start()
        sleeper = aioxide.ensure_future(aioxide.sleep(3600))
        while not seen:
            await aioxide.wait([sleeper], timeout=60)
            break
        sleeper.cancel()
        emits.join()

    # the wait above would take a minute: what ends it is the callable
    diag.configure(on_event=lambda record: (seen.append(record), aioxide.get_running_loop().stop()))
    with pytest.raises(RuntimeError, match="stopped before"):
        aioxide.run(main())
    assert [record["ev"] for record in seen] == ["late"]


def test_what_is_left_at_the_end_of_a_loop_is_handed_over(settings):
    seen = []
    diag.configure(on_event=seen.append)

    async def main():
        core._emit("last", "", None)

    aioxide.run(main())
    assert [record["ev"] for record in seen] == ["last"]


def test_a_callable_that_raises_harms_nobody(settings, monkeypatch):
    raised = []
    monkeypatch.setattr(sys, "unraisablehook", raised.append)
    seen = []

    def on_event(record):
        seen.append(record["ev"])
        raise ValueError("mine")

    diag.configure(on_event=on_event)

    async def main():
        core._emit("one", "", None)
        core._emit("two", "", None)
        await aioxide.sleep(0)
        return "fine"

    assert aioxide.run(main()) == "fine"
    assert seen == ["one", "two"]
    assert [str(entry.exc_value) for entry in raised] == ["mine", "mine"]


def test_a_callable_raises_at_the_end_of_a_loop_that_has_failed_already(settings, monkeypatch):
    """Whose tasks the flight recorder wants to know, and one of them is somebody else's, and raises."""
    heard, unraisable = [], []
    loop = aioxide.new_event_loop()

    class Foreign:
        _loop = loop

        def get_loop(self):
            return loop

        def done(self):
            core._emit("late", "", None)  # nothing is going to deliver it but the very end
            raise ArithmeticError

    def hears(record):
        heard.append((record["ev"], type(sys.exception())))
        raise RuntimeError

    foreign, hooks = Foreign(), sys.get_asyncgen_hooks()
    monkeypatch.setattr(sys, "unraisablehook", lambda info: unraisable.append(info.exc_type))
    asyncio._register_task(foreign)
    try:
        diag.configure(on_event=hears)
        loop.call_soon(loop.stop)
        loop.call_soon(lambda: diag.configure(flight=True))
        with pytest.raises(ArithmeticError):
            loop.run_forever()
    finally:
        asyncio._unregister_task(foreign)
        diag.configure(flight=False, on_event=None)
    assert (heard, unraisable) == ([("late", ArithmeticError)], [RuntimeError])
    assert (loop.is_running(), asyncio._get_running_loop(), sys.get_asyncgen_hooks()) == (False, None, hooks)
    assert loop.run_until_complete(asyncio.sleep(0, "goes on")) == "goes on"
    loop.close()


def test_a_callable_may_emit_again(settings):
    seen = []

    def on_event(record):
        seen.append(record["ev"])
        if len(seen) < 3:
            core._emit("again", "", None)
            aioxide.get_running_loop().call_soon(seen.append, "callback")

    diag.configure(on_event=on_event)

    async def main():
        core._emit("first", "", None)
        await until(lambda: len(seen) == 5)

    aioxide.run(main())
    assert sorted(seen) == ["again", "again", "callback", "callback", "first"]


def test_loops_are_known_while_they_run():
    async def main():
        return core._loops()

    assert core._loops() == []
    [(number, has_thread, entries, state)] = aioxide.run(main())
    assert has_thread
    assert entries > 0
    assert state == "Running"
    assert aioxide.run(main())[0][0] == number + 1
    assert core._loops() == []


def program(source: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


EMITS = """
    import aioxide
    from aioxide import diag
    from aioxide._core import diag as core
    async def main():
        core._emit("test", "text", "the message")
        print(len(core._loops()))
    aioxide.run(main())
    settings = diag.settings()
    print(settings["enabled"], settings["block_ms"], settings["block_repeat"], settings["log"])
"""


def test_environment(tmp_path):
    path = tmp_path / "log"
    done = program(
        EMITS,
        AIOXIDE_BLOCK_MS="2500.5",
        AIOXIDE_BLOCK_REPEAT="all",
        AIOXIDE_DIAG_LOG=f"stderr,jsonl:{path}",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[1] == f"True 2500.5 all stderr,jsonl:{path}"
    assert json.loads(done.stderr)["ev"] == "test"
    assert path.read_text() == done.stderr


def test_unconfigured_logging_shows_the_message_alone():
    done = program(EMITS)
    assert (done.stdout, done.stderr) == ("1\nTrue 100.0 limited logging\n", "the message\n")


def test_off():
    done = program(EMITS, AIOXIDE_DIAG="0", AIOXIDE_DIAG_LOG="stderr,logging")
    assert (done.stdout.split("\n")[0], done.stderr) == ("0", "")
    assert done.stdout.split("\n")[1].startswith("False ")


def test_development():
    done = program(EMITS, AIOXIDE_DEV="1")
    assert done.stdout.split("\n")[1] == "True 50.0 limited logging"
    done = program(EMITS, AIOXIDE_DEV="1", AIOXIDE_BLOCK_MS="70")
    assert done.stdout.split("\n")[1] == "True 70.0 limited logging"


@pytest.mark.parametrize(
    ("name", "value"),
    [("AIOXIDE_BLOCK_MS", "-1"), ("AIOXIDE_BLOCK_MS", "x"), ("AIOXIDE_BLOCK_REPEAT", "x"), ("AIOXIDE_DIAG_LOG", "x")],
)
def test_a_wrong_variable_is_no_reason_not_to_start(name, value):
    done = program(EMITS, **{name: value})
    assert done.stdout == "1\nTrue 100.0 limited logging\n"
    assert f"RuntimeWarning: {name}={value!r}".replace("'", '"') in done.stderr


def test_a_program_starts_where_modules_are_in_no_file():
    """As in a program that has the interpreter, and the standard library, within it."""
    done = program("import os; del os.__file__; import aioxide; print(aioxide.run(aioxide.sleep(0, 'ran')))")
    assert (done.stdout, done.stderr) == ("ran\n", "")


@pytest.mark.parametrize("directory", ["/nowhere", "/tmp/\udcff"])
def test_a_program_starts_where_there_is_no_place_for_files(directory):
    """And what the program says later of where its own are to go holds."""
    done = program(
        """
        import tempfile
        def nowhere():
            raise FileNotFoundError("No usable temporary directory found")
        tempfile._get_default_tempdir = nowhere
        import aioxide
        print(tempfile.tempdir)
        """,
        TMPDIR=directory,
    )
    assert (done.stdout, done.stderr) == ("None\n", "")


@pytest.mark.parametrize(
    ("name", "value"),
    [("AIOXIDE_BLOCK_MS", "-1"), ("AIOXIDE_FLIGHT", "x"), ("AIOXIDE_DIAG_LOG", "jsonl:/nowhere/log")],
)
def test_nor_is_it_where_warnings_are_errors(name, value):
    done = program(EMITS, PYTHONWARNINGS="error", **{name: value})
    assert done.stdout.startswith("1\nTrue 100.0 limited "), done.stderr
    assert done.stderr.startswith("Exception ignored in"), done.stderr
    assert f"RuntimeWarning: {name}=" in done.stderr


def test_records_whose_file_cannot_be_written_go_to_the_log(tmp_path):
    path = tmp_path / "none" / "log"
    done = program(EMITS, AIOXIDE_DIAG_LOG=f"jsonl:{path}")
    assert done.stdout == f"1\nTrue 100.0 limited jsonl:{path}\n"
    warning, message = [line for line in done.stderr.splitlines() if not line.startswith(" ")]
    assert f'RuntimeWarning: AIOXIDE_DIAG_LOG="jsonl:{path}": No such file or directory' in warning
    assert message == "the message"


def test_nothing_is_looked_for_when_all_is_off():
    done = program(EMITS, AIOXIDE_DIAG="0", AIOXIDE_DIAG_LOG="jsonl:/nowhere/log")
    assert done.stderr == ""


@pytest.mark.parametrize(("path", "error"), [("none/log", FileNotFoundError), (".", IsADirectoryError)])
def test_a_file_that_cannot_be_written_is_refused(settings, tmp_path, path, error):
    before = diag.settings()
    with pytest.raises(error) as raised:
        diag.configure(log=f"jsonl:{tmp_path / path}")
    assert raised.value.filename == str(tmp_path / path)
    assert diag.settings() == before


def test_a_file_that_cannot_be_written_any_more_is_told_of_once(settings, tmp_path, caplog):
    folder = tmp_path / "folder"
    folder.mkdir()
    diag.configure(log=f"jsonl:{folder / 'log'}")
    assert not (folder / "log").exists()
    folder.rmdir()
    lost = diag.settings()["lost"]

    async def main():
        core._emit("one", "", "a message")
        core._emit("two", "", None)
        await aioxide.sleep(0)
        folder.mkdir()
        core._emit("three", "", "another")

    with caplog.at_level(logging.WARNING, "aioxide.diag"):
        aioxide.run(main())
    told, one, two = caplog.records
    assert told.getMessage() == (
        f"Records of aioxide.diag cannot be written to {folder / 'log'}: No such file or directory (os error 2). "
        "While that is so, this log gets them."
    )
    assert (told.aioxide["ev"], told.aioxide["path"]) == ("unwritable", str(folder / "log"))
    assert (one.getMessage(), one.aioxide["ev"]) == ("a message", "one")
    assert json.loads(two.getMessage()) == two.aioxide
    assert two.aioxide["ev"] == "two"
    assert json.loads((folder / "log").read_text())["ev"] == "three"
    assert diag.settings()["lost"] == lost


def test_what_is_found_after_the_loop_has_ended_is_told():
    done = program(
        """
        import gc
        import aioxide
        from aioxide import diag

        async def fails():
            raise ValueError

        async def main():
            tasks = [
                aioxide.create_task(fails(), name="after the loop"),
                aioxide.create_task(fails(), name="at the end"),
            ]
            await aioxide.sleep(0)
            return tasks

        seen = []
        diag.configure(on_event=lambda record: seen.append(record["task"]))
        first, second = aioxide.run(main())
        del first
        print(seen)
        """,
        AIOXIDE_DEV="1",
    )
    assert done.stdout == "['after the loop']\n"
    told = re.findall(r"^The exception of (.*) \(ValueError\) was never retrieved", done.stderr, re.MULTILINE)
    assert told == ["after the loop", "at the end"], done.stderr


def test_what_no_loop_was_there_to_tell_is_told_at_the_end():
    done = program(
        """
        import aioxide
        from aioxide._core import diag as core
        core._emit("test", "text", "the message")
        print("end", flush=True)
        """
    )
    assert (done.stdout, done.stderr) == ("end\n", "the message\n")


FILLS = """
    import os, sys
    import aioxide
    from aioxide import diag
    from aioxide._core import diag as core

    async def main():
        count = int(sys.stdin.readline())
        for number in range(count):
            core._emit(str(number), "text" * 200, None)
            await aioxide.sleep(0)
        print(diag.settings()["lost"], flush=True)  # nothing has waited for a reader
        if how == "fork":  # Python warns of it if there is a thread
            if not (child := os.fork()):
                os._exit(0)
            os.waitpid(child, 0)
            print("forked", flush=True)
        sys.stdin.readline()
        core._emit("last", "", None)
        if how == "kill":
            os._exit(0)

    how = sys.argv[1]
    aioxide.run(main())
"""


def fills(how, count, read):
    """What a program has said, whose standard error was not read for a while."""
    process = subprocess.Popen(
        [sys.executable, "-W", "always", "-c", textwrap.dedent(FILLS), how],
        # (it stands still to hear from here)
        env={**os.environ, "AIOXIDE_DIAG_LOG": "stderr", "AIOXIDE_BLOCK_MS": "0"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        process.stdin.write(f"{count}\n")
        process.stdin.flush()
        lost = int(process.stdout.readline())
        if how == "fork":
            assert process.stdout.readline() == "forked\n"
        early = [process.stderr.readline() for _ in range(read)]
        _, late = process.communicate("go on\n", timeout=60)
    assert process.returncode == 0
    return lost, [json.loads(line) for line in [*early, *late.splitlines()]]


@pytest.mark.parametrize(
    ("how", "count", "read"), [("end", 3, 0), ("kill", 3, 0), ("end", 500, 0), ("kill", 500, 500), ("fork", 500, 0)]
)
def test_a_pipe_that_nobody_reads_stops_nothing_and_nothing_is_lost(how, count, read):
    lost, records = fills(how, count, read)
    assert lost == 0
    assert [record["ev"] for record in records] == [*map(str, range(count)), "last"]


def test_what_a_pipe_that_nobody_reads_has_no_room_for_is_counted():
    lost, records = fills("end", 2000, 0)
    assert 0 < lost < 1000
    told = [record for record in records if record["ev"] == "lost"]
    written = [record["ev"] for record in records if record["ev"] not in ("lost", "last")]
    assert written == [str(number) for number in range(len(written))]
    assert len(records) - len(told) + sum(record["count"] for record in told) == 2001


def test_a_child_of_a_fork_has_loops_of_its_own():
    done = program("""
        import os, sys
        import aioxide
        from aioxide._core import diag as core

        async def main():
            pid = os.fork()
            if pid == 0:
                async def child():
                    print("child", len(core._loops()), flush=True)
                aioxide.run(child())
                os._exit(0)
            os.waitpid(pid, 0)
            print("parent", len(core._loops()), flush=True)

        aioxide.run(main())
    """)
    assert done.stdout == "child 1\nparent 1\n", done.stderr


def test_a_child_has_loops_of_its_own_though_its_process_id_is_its_parents():
    """In a namespace of its own each is the process 1."""
    if subprocess.run(["unshare", "--pid", "--fork", "true"], check=False, capture_output=True).returncode:
        pytest.skip("no namespaces of process ids here")
    done = program("""
        import ctypes, os, sys, threading
        import aioxide
        from aioxide._core import diag as core

        def fork():
            assert not ctypes.CDLL(None).unshare(0x20000000)  # CLONE_NEWPID
            return os.fork()

        def ends(child):
            sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

        async def main():
            print(os.getpid(), len(core._loops()), flush=True)
            if child := fork():
                ends(child)
            async def within():
                print(os.getpid(), len(core._loops()), flush=True)
            # (for Python 3.11 the parent's loop, which it knows by the process id, still runs on this thread)
            thread = threading.Thread(target=aioxide.run, args=(within(),))
            thread.start()
            thread.join()
            os._exit(0)

        if child := fork():
            ends(child)
        aioxide.run(main())
    """)
    assert done.stdout == "1 1\n1 1\n", done.stderr
