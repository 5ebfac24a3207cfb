"""Child processes: what a protocol is told and in which order, who gets which signal, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import inspect
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
import weakref
from typing import Any

import pytest

import aioxide
from tests import hammer
from tests.support import STDLIB, Reports, place_of, run, succeeds, until

OLD = sys.version_info < (3, 14)


class Log(asyncio.SubprocessProtocol):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.data: dict[int, bytes] = {1: b"", 2: b""}
        self.transport: Any = None
        self.exited = asyncio.get_running_loop().create_future()
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.events.append("made")

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.events.append(("data", fd))
        self.data[fd] += data

    def pipe_connection_lost(self, fd: int, exc: BaseException | None) -> None:
        self.events.append(("gone", fd))

    def process_exited(self) -> None:
        self.events.append("exited")
        if not self.exited.done():
            self.exited.set_result(None)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.events.append("lost")
        if not self.lost.done():
            self.lost.set_result(exc)


NOTHING = {"stdin": None, "stdout": None, "stderr": None}


async def execute(*command: Any, protocol: Any = Log, **kwargs: Any) -> tuple[Any, Any]:
    return await asyncio.get_running_loop().subprocess_exec(protocol, *command, **kwargs)


async def shell(script: str, protocol: Any = Log, **kwargs: Any) -> tuple[Any, Any]:
    return await asyncio.get_running_loop().subprocess_shell(protocol, script, **kwargs)


async def end_of(*command: Any) -> None:
    """Spawns a program without pipes, and waits for its end."""
    transport, protocol = await execute(*command, **NOTHING)
    await protocol.lost
    transport.close()


def children() -> set[int]:
    """Of this process, dead ones that nobody has waited for included."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as file:
            if int(file.read().rpartition(")")[2].split()[1]) == os.getpid():
                found.add(int(pid))
    return found


def descriptors() -> set[str]:
    """The open ones, without those of the interpreter's own business with /proc."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.add(f"{fd} {os.readlink(f'/proc/self/fd/{fd}')}")
    return {one for one in found if "/proc/" not in one}


@pytest.fixture(autouse=True)
def nothing_is_left():
    """No test leaves a child or a descriptor behind."""
    aioxide.run(aioxide.sleep(0))  # the first loop of a process makes what all of them use
    gc.collect()
    before = children(), descriptors()
    yield
    gc.collect()
    subprocess._cleanup()
    assert children() <= before[0]
    assert descriptors() <= before[1]


# -- a child's life --------------------------------------------------------------------------------------------------------


def test_conversation(aio):
    async def main() -> None:
        transport, protocol = await execute("cat")
        assert protocol.transport is transport
        assert protocol.events == ["made"]
        stdin = transport.get_pipe_transport(0)
        stdin.write(b"hello")
        await until(lambda: protocol.data[1] == b"hello")
        assert transport.get_returncode() is None
        stdin.write(b" world")
        stdin.close()
        assert await protocol.lost is None
        assert protocol.data == {1: b"hello world", 2: b""}
        assert transport.get_returncode() == 0
        assert protocol.events[0] == "made"
        assert protocol.events[-1] == "lost"
        assert protocol.events.count("exited") == 1
        assert {event for event in protocol.events if event[0] == "gone"} == {("gone", fd) for fd in range(3)}
        transport.close()

    run(aio, main())


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -KILL $$", -9), ("kill -TERM $$", -15)],
)
@pytest.mark.parametrize("kwargs", [{}, NOTHING], ids=["pipes", "none"])
def test_returncode(aio, script, code, kwargs):
    async def main() -> None:
        transport, protocol = await shell(script, **kwargs)
        popen = transport.get_extra_info("subprocess")
        await protocol.exited
        assert transport.get_returncode() == code
        assert popen.returncode == code
        await protocol.lost
        assert await transport._wait() == code
        transport.close()

    run(aio, main())


def test_without_pipes(aio):
    async def main() -> None:
        transport, protocol = await execute("true", **NOTHING)
        assert [transport.get_pipe_transport(fd) for fd in range(4)] == [None] * 4
        await protocol.lost
        assert protocol.events == ["made", "exited", "lost"]
        transport.close()

    run(aio, main())


def test_some_pipes(aio):
    async def main() -> None:
        transport, protocol = await shell("echo out; echo err >&2", stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        assert transport.get_pipe_transport(0) is None
        assert isinstance(transport.get_pipe_transport(1), asyncio.ReadTransport)
        assert transport.get_pipe_transport(2) is None
        await protocol.lost
        assert protocol.data == {1: b"out\nerr\n", 2: b""}
        transport.close()

    run(aio, main())


def test_pipes_are_pipes(aio):
    """Not socket pairs: programs look."""

    async def main() -> None:
        transport, protocol = await shell("test -p /dev/stdin && test -p /dev/stdout && test -p /dev/stderr")
        await protocol.lost
        assert transport.get_returncode() == 0
        transport.close()

    run(aio, main())


def test_output_of_a_dead_child(aio):
    """Everything that it has written comes, and its end only after that, if somebody else has its pipes."""

    async def main() -> None:
        transport, protocol = await shell("{ sleep 0.05; echo last; } & echo first")
        await protocol.exited
        assert transport.get_returncode() == 0
        assert not protocol.lost.done()
        await protocol.lost
        assert protocol.data[1] == b"first\nlast\n"
        transport.close()

    run(aio, main())


def test_much_output(aio):
    async def main() -> None:
        transport, protocol = await shell("head -c 5000000 /dev/zero; head -c 300000 /dev/zero >&2")
        await protocol.lost
        assert [len(protocol.data[fd]) for fd in (1, 2)] == [5_000_000, 300_000]
        transport.close()

    run(aio, main())


def test_wait(aio):
    async def main() -> None:
        transport, protocol = await execute("cat", stdout=None, stderr=None)
        waiting = [asyncio.ensure_future(transport._wait()) for _ in range(3)]
        await asyncio.sleep(0.01)
        waiting[1].cancel()
        transport.get_pipe_transport(0).close()
        assert await waiting[0] == await waiting[2] == 0
        assert waiting[1].cancelled()
        await protocol.lost
        transport.close()

    run(aio, main())


def test_stdin_that_nobody_reads(aio):
    class Pauses(Log):
        def pause_writing(self) -> None:
            self.events.append("pause")

        def resume_writing(self) -> None:
            self.events.append("resume")

    async def main() -> None:
        transport, protocol = await shell("read line; cat", Pauses)
        stdin = transport.get_pipe_transport(0)
        stdin.write(b"x" * 300_000)
        assert protocol.events == ["made", "pause"]
        stdin.write(b"\nend")
        stdin.close()
        await protocol.lost
        assert protocol.data[1] == b"end"
        assert "resume" in protocol.events
        transport.close()

    run(aio, main())


# -- signals ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "arguments", "number"),
    [("kill", (), 9), ("terminate", (), 15), ("send_signal", (signal.SIGUSR1,), 10), ("send_signal", (1,), 1)],
)
def test_signals(aio, method, arguments, number):
    async def main() -> None:
        transport, protocol = await execute("sleep", "1000", **NOTHING)
        getattr(transport, method)(*arguments)
        await protocol.lost
        assert transport.get_returncode() == -number
        with pytest.raises(ProcessLookupError):
            getattr(transport, method)(*arguments)
        transport.close()

    run(aio, main())


def test_no_such_signal(aio):
    async def main() -> None:
        transport, protocol = await execute("sleep", "1000", **NOTHING)
        with pytest.raises(OSError, match="Invalid argument"):
            transport.send_signal(1000)
        transport.send_signal(0)
        transport.kill()
        await protocol.lost
        transport.close()

    run(aio, main())


@pytest.mark.skipif(STDLIB, reason="asyncio polls the Popen, and then does not know the return code any more")
def test_signal_to_a_dead_child(aio):
    """It takes nobody's status, and goes to nobody."""

    async def main() -> None:
        transport, protocol = await shell("exit 3", **NOTHING)
        time.sleep(0.2)  # it ends, and the loop does not hear of it yet
        transport.send_signal(signal.SIGTERM)
        transport.close()
        await protocol.lost
        assert transport.get_returncode() == 3

    run(aio, main())


# -- the end ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kwargs", [{}, NOTHING], ids=["pipes", "none"])
def test_close_kills(aio, kwargs):
    async def main() -> None:
        transport, protocol = await execute("sleep", "1000", **kwargs)
        assert not transport.is_closing()
        transport.close()
        transport.close()
        assert transport.is_closing()
        assert await transport._wait() == -9
        await protocol.lost
        assert protocol.events[-1] == "lost"

    run(aio, main())


def test_close_kills_by_the_programs_popen(aio, monkeypatch):
    """A program may have a Popen of its own, with or without an instance dict; it kills in its own way."""
    killed = []

    class Popen(subprocess.Popen):
        def kill(self) -> None:
            killed.append("derived")
            super().kill()

    class Other:
        __slots__ = ("popen",)

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.popen = subprocess_popen(*args, **kwargs)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.popen, name)

        @property
        def returncode(self) -> Any:
            return self.popen.returncode

        @returncode.setter
        def returncode(self, value: int) -> None:
            self.popen.returncode = value

        def kill(self) -> None:
            killed.append("other")
            self.popen.kill()

    async def main() -> None:
        transport, protocol = await execute("sleep", "1000", **NOTHING)
        transport.close()
        await protocol.lost
        assert transport.get_returncode() == -9

    subprocess_popen = subprocess.Popen
    for popen in (Popen, Other):
        monkeypatch.setattr(subprocess, "Popen", popen)
        run(aio, main())
    assert killed == ["derived", "other"]


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="asyncio sends signals itself since 3.13")
def test_signals_go_by_the_programs_popen(aio, monkeypatch):
    class Popen(subprocess.Popen):
        def send_signal(self, sig: int) -> None:
            calls.append(("send_signal", sig))
            super().send_signal(sig)

        def terminate(self) -> None:
            calls.append(("terminate",))
            subprocess_popen.send_signal(self, signal.SIGTERM)

        def kill(self) -> None:
            calls.append(("kill",))
            subprocess_popen.send_signal(self, signal.SIGKILL)

    async def main() -> None:
        for call in [("send_signal", signal.SIGUSR1), ("terminate",), ("kill",)]:
            process = await aio.create_subprocess_exec("sleep", "1000")
            getattr(process, call[0])(*call[1:])
            assert calls.pop() == call
            assert await process.wait() in (-signal.SIGUSR1, -signal.SIGTERM, -signal.SIGKILL)
        assert not calls

    calls: list[Any] = []
    subprocess_popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", Popen)
    run(aio, main())


def test_close_of_a_finished_one(aio):
    async def main() -> None:
        transport, protocol = await execute("true")
        await protocol.lost
        events = list(protocol.events)
        transport.close()
        await asyncio.sleep(0.01)
        assert protocol.events == events
        assert transport.get_returncode() == 0

    run(aio, main())


def test_unclosed(aio):
    async def main() -> None:
        transport, protocol = await execute("sleep", "1000", **NOTHING)
        reference, pid = weakref.ref(transport), transport.get_pid()
        protocol.transport = None
        del transport
        gc.collect()
        assert reference() is not None, "the loop keeps it as long as the child runs"
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            os.kill(pid, signal.SIGKILL)
            await protocol.lost
            await asyncio.sleep(0)
            gc.collect()
        texts, places = [str(warning.message) for warning in caught], [place_of(warning) for warning in caught]
        caught.clear()  # (a warning knows what it is about)
        assert reference() is None
        assert "unclosed transport <_UnixSubprocessTransport pid=" in texts[0]
        assert places[0] == "asyncio/base_subprocess.py"

    run(aio, main())


@pytest.mark.skipif(STDLIB and OLD, reason="asyncio before 3.14 stumbles over the closed loop")
@pytest.mark.parametrize("kwargs", [{}, NOTHING], ids=["pipes", "none"])
def test_loop_closed_before_the_end(aio, kwargs):
    async def main() -> int:
        transport, _ = await execute("sleep", "1000", **kwargs)
        return transport.get_pid()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pid = run(aio, main())
        gc.collect()
        end = time.monotonic() + 30
        while pid in children():  # the next Popen takes the status of those that nobody has any more
            subprocess.run(["true"], check=True)
            assert time.monotonic() < end


def test_cancelled(aio):
    """Whoever is cancelled while it waits for its child leaves none."""

    async def main() -> None:
        for kwargs in ({}, NOTHING):
            before = children()
            task = asyncio.ensure_future(execute("sleep", "1000", **kwargs))
            await asyncio.sleep(0)
            assert len(children() - before) == 1
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await until(lambda before=before: children() <= before)

    run(aio, main())


# -- nobody else's children ---------------------------------------------------------------------------------------------------


def test_other_children(aio):
    async def main() -> None:
        other = subprocess.Popen(["sh", "-c", "exit 5"])
        transport, protocol = await execute("true", **NOTHING)
        await protocol.lost
        time.sleep(0.1)
        assert other.wait() == 5
        transport.close()

    run(aio, main())


@pytest.mark.skipif(STDLIB, reason="asyncio says 255")
def test_status_that_the_program_has_asked_for(aio):
    """By way of the Popen, which then has it."""

    async def main() -> None:
        transport, protocol = await shell("exit 5", **NOTHING)
        assert transport.get_extra_info("subprocess").wait() == 5
        await protocol.lost
        assert transport.get_returncode() == 5
        transport.close()

    run(aio, main())


def test_status_that_somebody_else_has_taken(aio, caplog):
    async def main() -> None:
        transport, protocol = await shell("exit 5", **NOTHING)
        if STDLIB:
            transport.close()
            return  # (its thread may be faster)
        os.waitpid(transport.get_pid(), 0)
        await protocol.lost
        assert transport.get_returncode() == 255
        assert "will report returncode 255" in caplog.text
        transport.close()

    run(aio, main())


@pytest.mark.skipif(STDLIB, reason="asyncio fails, if the child is fast enough")
def test_status_that_nobody_can_take(caplog):
    """A process that ignores SIGCHLD has no status to take."""
    out = succeeds(
        """
        import asyncio, logging, signal, time
        logging.basicConfig()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)

        async def main():
            for _ in range(3):
                transport, _ = await asyncio.get_running_loop().subprocess_shell(
                    asyncio.SubprocessProtocol, "exit 3", stdin=None, stdout=None, stderr=None)
                print(await transport._wait())
                transport.close()

        aio.run(main())
        """
    )
    assert out == "255\n" * 3


# -- spawning --------------------------------------------------------------------------------------------------------------


def test_arguments(aio):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        for kwargs, text in [
            ({"universal_newlines": True}, "universal_newlines must be False"),
            ({"bufsize": 4096}, "bufsize must be 0"),
            ({"text": True}, "text must be False"),
            ({"encoding": "utf-8"}, "encoding must be None"),
            ({"errors": "ignore"}, "errors must be None"),
        ]:
            with pytest.raises(ValueError, match=text):
                await execute("true", **kwargs)
            with pytest.raises(ValueError, match=text):
                await shell("true", **kwargs)
        with pytest.raises(ValueError, match="shell must be False"):
            await execute("true", shell=True)
        with pytest.raises(ValueError, match="shell must be True"):
            await shell("true", shell=False)
        for command in (["true"], 5, None):
            with pytest.raises(ValueError, match="cmd must be a string"):
                await loop.subprocess_shell(Log, command)
        with pytest.raises(TypeError):
            await execute("true", nonsense=5)
        with pytest.raises(ZeroDivisionError):
            await execute("true", protocol=lambda: 1 / 0)

    run(aio, main())


def test_no_such_program(aio):
    async def main() -> None:
        for _ in range(3):
            with pytest.raises(FileNotFoundError):
                await execute("/nonexistent/program")

    run(aio, main())


def test_popen_arguments(aio, tmp_path):
    async def output(script: str, **kwargs: Any) -> bytes:
        transport, protocol = await shell(script, stdin=None, stderr=None, **kwargs)
        await protocol.lost
        assert transport.get_returncode() == 0
        transport.close()
        return protocol.data[1].strip()

    async def main() -> None:
        assert await output("pwd", cwd=tmp_path) == os.fsencode(tmp_path.resolve())
        assert await output("echo $GREETING", env={"GREETING": "hello"}) == b"hello"
        assert await output("ps -o sid= -p $$ || true", start_new_session=True) != str(os.getsid(0)).encode()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert await output("umask", preexec_fn=lambda: os.umask(0o77)) == b"0077"
        assert await output("umask", umask=0o55) == b"0055"
        read, write = os.pipe()
        assert await output(f"echo passed > /dev/fd/{write}; echo done", pass_fds=[write]) == b"done"
        assert os.read(read, 100) == b"passed\n"
        os.close(read)
        os.close(write)
        assert await output("exec echo $0", executable="/bin/sh") == b"/bin/sh"
        with open(tmp_path / "out", "w+b") as file:
            transport, protocol = await execute(b"echo", "to a file", stdout=file, stdin=None, stderr=None)
            await protocol.lost
            transport.close()
            file.seek(0)
            assert file.read() == b"to a file\n"

    run(aio, main())


def test_popen_is_looked_up(aio, monkeypatch):
    """Tools replace `subprocess.Popen`."""
    calls = []

    class Popen(subprocess.Popen):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            calls.append((args, kwargs))
            super().__init__(*args, **kwargs)

    async def main() -> None:
        monkeypatch.setattr(subprocess, "Popen", Popen)
        transport, protocol = await execute("true", "argument", stdin=None, stderr=subprocess.STDOUT)
        assert type(transport.get_extra_info("subprocess")) is Popen
        await protocol.lost
        transport.close()
        assert calls == [
            (
                (("true", "argument"),),
                {
                    "shell": False,
                    "stdin": None,
                    "stdout": subprocess.PIPE,
                    "stderr": subprocess.STDOUT,
                    "universal_newlines": False,
                    "bufsize": 0,
                },
            )
        ]

    run(aio, main())


def test_what_is_spawned_is_what_popen_spawns(aio):
    """Not every child takes Popen's own way, but nobody can tell."""

    def described(popen: Any) -> dict[str, Any]:
        plain = (bool, int, float, str, tuple, type(None))
        return {name: value if isinstance(value, plain) else type(value) for name, value in vars(popen).items()}

    async def main() -> None:
        nowhere, pipe, both = NOTHING, subprocess.PIPE, {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        everything = dict.fromkeys(NOTHING, pipe)
        for files in (
            nowhere,
            nowhere,
            everything,
            nowhere | both,
            nowhere | {"stdin": pipe},
            nowhere | {"stderr": pipe},
        ):
            script = "cat; echo out; echo err >&2; exit 7"
            # (the standard input of all tests is empty)
            theirs = subprocess.Popen(("sh", "-c", script), universal_newlines=False, bufsize=0, **files)
            transport, protocol = await execute("sh", "-c", script, **files)
            ours = transport.get_extra_info("subprocess")
            wanted, found = described(theirs), described(ours)
            assert type(ours) is subprocess.Popen
            assert found.pop("pid") != wanted.pop("pid")
            assert found == wanted
            said = theirs.communicate(b"in\n" if theirs.stdin else None)
            if files["stdin"]:
                transport.get_pipe_transport(0).write(b"in\n")
                transport.get_pipe_transport(0).close()
            await protocol.lost
            assert tuple(protocol.data.values()) == tuple(text or b"" for text in said)
            assert transport.get_returncode() == ours.wait() == theirs.returncode == 7
            transport.close()

    run(aio, main())


def test_failures_are_popens(aio, tmp_path):
    (tmp_path / "text").write_text("no program")
    (tmp_path / "forbidden").write_text("#!/bin/sh")
    (tmp_path / "broken").write_text("#!/nonexistent/shell")
    for name in ("text", "broken"):
        (tmp_path / name).chmod(0o755)

    async def main() -> None:
        await end_of("true")
        commands = [(str(tmp_path / name), "argument") for name in ("nothing", "forbidden", "text", "broken", "")]
        for command in [*commands, ("nonexistent-program",), ("",), ("nul\0",), ("true", "nul\0"), ("true", "\ud800")]:
            for files in (NOTHING, {}):
                with pytest.raises((OSError, ValueError)) as theirs:
                    subprocess.Popen(command, bufsize=0)
                with pytest.raises((OSError, ValueError)) as ours:
                    await execute(*command, **files)
                assert (type(ours.value), str(ours.value)) == (type(theirs.value), str(theirs.value)), command
                assert getattr(ours.value, "filename", None) == getattr(theirs.value, "filename", None)

    run(aio, main())


def test_it_says_so_to_audit_hooks(aio):
    """An audit hook is told what Popen tells, and may forbid it."""
    events: list[Any] = []

    def hook(event: str, args: Any) -> None:
        if event in ("subprocess.Popen", "os.posix_spawn") and events is not None:
            events.append((event, *args))
            if args[0] == "forbidden":
                raise PermissionError("not this one")

    def popens(*command: str) -> list[Any]:
        events.clear()
        with contextlib.suppress(OSError):
            subprocess.Popen(command, bufsize=0, universal_newlines=False).wait()
        told = events[:]
        events.clear()
        return told

    async def main() -> None:
        nonlocal events
        await end_of("true")
        for command in (("true", "argument"), ("/bin/true", "argument")):
            wanted = popens(*command)
            assert wanted
            await end_of(*command)
            assert events == wanted
        for command in (("forbidden",), ("nonexistent-program",), ("/nonexistent/program",)):
            wanted = popens(*command)
            assert wanted
            for files in (NOTHING, {}):
                with pytest.raises(OSError, match="not this one|No such file"):
                    await execute(*command, **files)
                assert events == wanted
                events.clear()
        events = None

    sys.addaudithook(hook)
    run(aio, main())


def test_what_is_called_while_spawning_may_spawn():
    """An audit hook, and whatever is in the place of io.open."""
    program = """
    import io, subprocess, sys
    events = []
    def again(what):
        events.append(what)
        if len(events) < 6:
            assert subprocess.run(["true"], stdout=subprocess.PIPE).returncode == 0
            loop = aio.new_event_loop()
            loop.close()
    real = io.open
    def opens(*args, **kwargs):
        again("open")
        return real(*args, **kwargs)
    sys.addaudithook(lambda event, args: again("audit") if event == "subprocess.Popen" else None)
    async def main():
        for stock in (real, opens):
            io.open = stock
            process = await aio.create_subprocess_exec("echo", "hello", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            print(await process.communicate(), process.returncode)
            del events[:]
    with aio.Runner(loop_factory=aio.new_event_loop) as runner:
        runner.run(main())
    """
    assert succeeds(program) == "(b'hello\\n', b'') 0\n" * 2


def test_interrupted_while_the_program_is_looked_for(aio, monkeypatch):
    """A signal handler that raises ends the call, and nothing is spawned."""
    original = os.get_exec_path

    def interrupted(*args: Any) -> Any:
        monkeypatch.setattr(os, "get_exec_path", original)
        signal.raise_signal(signal.SIGUSR1)
        return original(*args)

    def handle(*_: Any) -> None:
        raise Fault

    class Fault(Exception):
        pass

    async def main() -> None:
        await end_of("true")
        for files in (NOTHING, {}):
            monkeypatch.setattr(os, "get_exec_path", interrupted)
            with pytest.raises(Fault):
                await execute("true", **files)

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        run(aio, main())
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_popen_was_replaced_before_we_came():
    """By anything that can be called."""
    program = """
import subprocess
real, calls = subprocess.Popen, []
def popen(*args, **kwargs):
    calls.append(args)
    return real(*args, **kwargs)
subprocess.Popen = popen
import aioxide
async def main():
    for _ in range(2):
        process = await aioxide.create_subprocess_exec("true")
        assert await process.wait() == 0
aioxide.run(main())
print(len(calls))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False)
    assert (done.stdout, done.stderr) == ("2\n", "")


def test_defaults_of_popen_are_looked_up(aio, monkeypatch):
    """Tools change those, too."""
    names = list(inspect.signature(subprocess.Popen).parameters)
    defaults = list(subprocess.Popen.__init__.__defaults__)
    defaults[names.index("start_new_session") - 1] = True

    async def main() -> bytes:
        await end_of("true")
        monkeypatch.setattr(subprocess.Popen.__init__, "__defaults__", tuple(defaults))
        transport, protocol = await execute("sh", "-c", "cut -d' ' -f6 /proc/$$/stat; echo $$")
        await protocol.lost
        transport.close()
        return protocol.data[1]

    session, leader = run(aio, main()).split()
    assert session == leader


@pytest.mark.parametrize("name", ["__init__", "_execute_child", "_get_handles"])
def test_methods_of_popen_are_looked_up(aio, monkeypatch, name):
    """Tools replace those, too."""
    calls = []
    original = getattr(subprocess.Popen, name)

    def replaced(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        return original(self, *args, **kwargs)

    async def main() -> None:
        for _ in range(2):
            await end_of("true")
        monkeypatch.setattr(subprocess.Popen, name, replaced)
        await end_of("true")
        assert calls == [name]

    run(aio, main())


def test_class(aio):
    async def main() -> None:
        transport, _ = await execute("cat")
        assert isinstance(transport, asyncio.SubprocessTransport)
        assert isinstance(transport, asyncio.base_subprocess.BaseSubprocessTransport)
        assert type(transport).__name__ == "_UnixSubprocessTransport"
        assert isinstance(transport.get_extra_info("subprocess"), subprocess.Popen)
        assert transport.get_extra_info("nothing", 5) == 5
        assert transport.get_pid() == transport.get_extra_info("subprocess").pid
        transport.anything = 5
        assert transport.__dict__["anything"] == 5
        assert weakref.ref(transport)() is transport
        pipe = transport.get_pipe_transport(1)
        assert pipe.get_protocol().pipe is pipe
        assert pipe.get_protocol().fd == 1
        assert isinstance(pipe.get_protocol(), asyncio.Protocol)
        assert isinstance(transport.get_pipe_transport(0).get_protocol(), asyncio.BaseProtocol)
        pid = transport.get_pid()
        assert repr(transport).startswith(f"<_UnixSubprocessTransport pid={pid} running stdin=<_UnixWritePipeTransport")
        assert " stdout=<_UnixReadPipeTransport " in repr(transport)
        other = Log()
        transport.set_protocol(other)
        assert transport.get_protocol() is other
        transport.get_pipe_transport(0).close()
        await other.lost
        assert f" pid={pid} returncode=0 " in repr(transport)
        transport.close()
        assert repr(transport).startswith(f"<_UnixSubprocessTransport closed pid={pid} returncode=0")

    run(aio, main())


def test_threads(aio):
    """Loops in several threads spawn at the same time."""
    codes: list[int] = []
    failures: list[BaseException] = []

    async def main(code: int) -> None:
        for _ in range(10):
            transport, protocol = await shell(f"cat; exit {code}")
            transport.get_pipe_transport(0).write(b"x" * 1000)
            transport.get_pipe_transport(0).close()
            await protocol.lost
            assert len(protocol.data[1]) == 1000
            codes.append(transport.get_returncode())
            transport.close()

    def thread(code: int) -> None:
        try:
            run(aio, main(code))
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=thread, args=(code,)) for code in range(5)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not failures
    assert sorted(codes) == sorted(list(range(5)) * 10)


@pytest.mark.deadline(120)
@pytest.mark.skipif(STDLIB and OLD, reason="asyncio's return codes get lost, and its pipes warn")
def test_many(aio):
    """A third is killed, a third has its pipes closed: none is lost, and nothing is left."""
    count = 240

    async def one(number: int) -> int:
        transport, protocol = await shell(f"cat; exit {number % 100}")
        match number % 3:
            case 0:
                transport.kill()
                transport.get_pipe_transport(0).close()  # for the child's own child
                expected = -9
            case 1:
                for fd in range(3):
                    transport.get_pipe_transport(fd).close()
                expected = number % 100
            case _:
                transport.get_pipe_transport(0).write(b"data")
                transport.get_pipe_transport(0).close()
                expected = number % 100
        await protocol.lost
        assert transport.get_returncode() == expected
        assert protocol.events[0] == "made"
        assert protocol.events[-1] == "lost"
        assert protocol.events.count("exited") == 1
        assert number % 3 != 2 or protocol.data[1] == b"data"
        transport.close()
        return number

    async def main() -> None:
        for start in range(0, count, 24):
            done = await asyncio.gather(*map(one, range(start, start + 24)))
            assert done == list(range(start, start + 24))

    run(aio, main())


@pytest.mark.deadline(120)
@pytest.mark.skipif(STDLIB and OLD, reason="asyncio's return codes get lost, and its pipes warn")
def test_many_processes(aio):
    """The same with Process objects (tests/hammer.py, which can do it with 5,000)."""
    assert run(aio, hammer.run_children(240)) == []


# -- what the program's own code does -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method", ["connection_made", "pipe_data_received", "pipe_connection_lost", "process_exited", "connection_lost"]
)
def test_protocol_raises(aio, method):
    reports = Reports()

    def bad(self: Any, *args: Any) -> None:
        getattr(Log, method)(self, *args)
        raise ZeroDivisionError

    Bad = type("Bad", (Log,), {method: bad})

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(reports)
        transport, protocol = await shell("echo out", Bad)
        await protocol.lost
        await asyncio.sleep(0)
        assert protocol.data[1] == b"out\n"
        assert transport.get_returncode() == 0
        assert reports.contexts
        for context in reports.contexts:
            assert isinstance(context["exception"], ZeroDivisionError)
            assert context["message"].startswith("Exception in callback ")
        transport.close()

    run(aio, main())


def test_closed_by_the_protocol(aio):
    class Closes(Log):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.close()

    async def main() -> None:
        transport, protocol = await execute("sleep", "1000", protocol=Closes)
        await protocol.lost
        assert transport.get_returncode() == -9
        assert protocol.events[0] == "made"
        assert protocol.events[-1] == "lost"

    run(aio, main())


def test_contexts(aio):
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    seen = {}

    class Looks(Log):
        def connection_made(self, transport: Any) -> None:
            seen["made"] = variable.get()
            super().connection_made(transport)

        def pipe_data_received(self, fd: int, data: bytes) -> None:
            seen["data"] = variable.get()

        def process_exited(self) -> None:
            seen["exited"] = variable.get()

    async def main() -> None:
        variable.set("opener")
        transport, protocol = await shell("echo x", Looks)
        variable.set("later")
        await protocol.lost
        assert seen["made"] == seen["data"] == "opener"
        assert seen["exited"] == "opener" or STDLIB  # (a watcher of asyncio's calls from a thread of its own)
        transport.close()

    run(aio, main())


def test_overridden_pipes(aio):
    calls = []

    class Loop(aio.SelectorEventLoop):
        async def connect_read_pipe(self, factory, pipe):
            calls.append("read")
            return await super().connect_read_pipe(factory, pipe)

        async def connect_write_pipe(self, factory, pipe):
            calls.append("write")
            return await super().connect_write_pipe(factory, pipe)

    async def main() -> None:
        transport, protocol = await shell("cat; exit 3")
        transport.get_pipe_transport(0).write(b"data")
        transport.get_pipe_transport(0).close()
        await protocol.lost
        assert protocol.data[1] == b"data"
        assert transport.get_returncode() == 3
        assert calls == ["write", "read", "read"]
        transport.close()

    run_on(Loop(), main())


@pytest.mark.skipif(STDLIB and OLD, reason="asyncio before 3.14 waits for ever")
def test_pipe_that_cannot_be_connected(aio):
    """The child does not survive it, nor do its pipes."""
    pids = []

    class Loop(aio.SelectorEventLoop):
        async def connect_read_pipe(self, factory, pipe):
            pids.extend(children() - before)
            if STDLIB:
                pipe.close()
            raise ZeroDivisionError

    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            await execute("sleep", "1000", stderr=None)
        assert len(pids) == 1
        await until(lambda: not set(pids) & children())

    before = children()
    run_on(Loop(), main())


def test_overridden_transport(aio):
    calls = []

    class Loop(aio.SelectorEventLoop):
        async def _make_subprocess_transport(self, *args, **kwargs):
            calls.append((args[1:], kwargs))
            return await super()._make_subprocess_transport(*args, **kwargs)

    async def main() -> None:
        transport, protocol = await execute("true", "x", stdin=None, cwd="/")
        await protocol.lost
        transport.close()
        assert calls == [((("true", "x"), False, None, -1, -1, 0), {"cwd": "/"})]

    run_on(Loop(), main())


def run_on(loop: Any, main: Any) -> None:
    try:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(main)
    finally:
        asyncio.set_event_loop(None)
        loop.close()


# -- child watchers ----------------------------------------------------------------------------------------------------------

watchers = pytest.mark.skipif(not OLD, reason="there are none since 3.14")


@contextlib.contextmanager
def watcher_is(watcher: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_child_watcher(watcher)
        try:
            yield
        finally:
            asyncio.set_child_watcher(None)


@watchers
@pytest.mark.parametrize("name", ["SafeChildWatcher", "FastChildWatcher", "MultiLoopChildWatcher"])
def test_watcher_of_the_program(aio, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        watcher = getattr(asyncio, name)()
    pids = []
    add = watcher.add_child_handler

    def add_child_handler(pid: int, callback: Any, *args: Any) -> None:
        pids.append(pid)
        add(pid, callback, *args)

    watcher.add_child_handler = add_child_handler

    async def main() -> None:
        watcher.attach_loop(asyncio.get_running_loop())
        for code in (0, 3):
            transport, protocol = await shell(f"echo x; exit {code}")
            await protocol.lost
            assert transport.get_returncode() == code
            assert protocol.data[1] == b"x\n"
            assert pids[-1] == transport.get_pid()
            transport.close()
        transport, protocol = await execute("sleep", "1000", **NOTHING)
        transport.kill()
        await protocol.lost
        assert transport.get_returncode() == -9
        transport.close()
        assert len(pids) == 3
        if name != "MultiLoopChildWatcher":
            watcher.attach_loop(None)

    with watcher_is(watcher):
        run(aio, main())
        watcher.close()


@watchers
def test_watcher_that_is_not_active(aio):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # (deriving from it is deprecated)

        class Inactive(asyncio.AbstractChildWatcher):
            log: list[str]

            def __enter__(self):
                self.log = ["enter"]
                return self

            def __exit__(self, *args):
                self.log.append("exit")

            def is_active(self):
                return False

            def close(self):
                pass

            def attach_loop(self, loop):
                pass

            def add_child_handler(self, pid, callback, *args):
                raise AssertionError

            def remove_child_handler(self, pid):
                raise AssertionError

        watcher = Inactive()

    async def main() -> None:
        with pytest.raises(RuntimeError, match="is not activated, subprocess support is not installed"):
            await execute("true")
        assert watcher.log == ["enter", "exit"]

    with watcher_is(watcher):
        run(aio, main())


# -- debug mode --------------------------------------------------------------------------------------------------------------


def test_debug_mode(aio, caplog):
    caplog.set_level("DEBUG", "asyncio")

    async def main() -> None:
        transport, protocol = await execute("cat", "-", stderr=None)
        pid = transport.get_pid()
        transport.get_pipe_transport(0).close()
        await protocol.lost
        transport.close()
        assert "execute program 'cat' stdin=<pipe> stdout=<pipe>" in caplog.text
        assert f"process 'cat' created: pid {pid}" in caplog.text
        assert f"execute program 'cat': <_UnixSubprocessTransport pid={pid} running stdin=<" in caplog.text
        assert "exited with return code 0" in caplog.text
        caplog.clear()
        transport, protocol = await shell("cat >&2 % 2>&1; sleep 1000", stderr=subprocess.STDOUT)
        transport.close()
        await protocol.lost
        assert "run shell command 'cat >&2 % 2>&1; sleep 1000' stdin=<pipe> stdout=stderr=<pipe>" in caplog.text
        assert "Close running child process: kill <_UnixSubprocessTransport closed pid=" in caplog.text

    run(aio, main(), debug=True)


# -- streams -----------------------------------------------------------------------------------------------------------------


def test_communicate(aio):
    async def main() -> None:
        process = await aio.create_subprocess_shell("cat; echo err >&2; exit 3", stdin=-1, stdout=-1, stderr=-1)
        assert process.returncode is None
        assert await process.communicate(b"hello" * 100_000) == (b"hello" * 100_000, b"err\n")
        assert process.returncode == await process.wait() == 3

    run(aio, main())


def test_communicate_with_some(aio):
    async def main() -> None:
        for kwargs, expected in [
            ({}, (None, None)),
            ({"stdout": -1}, (b"out\n", None)),
            ({"stderr": -1}, (None, b"err\n")),
            ({"stdout": -1, "stderr": subprocess.STDOUT}, (b"out\nerr\n", None)),
            ({"stdin": -1}, (None, None)),
        ]:
            others = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} | kwargs
            process = await aio.create_subprocess_shell("echo out; echo err >&2", **others)
            assert await process.communicate(b"x" if "stdin" in kwargs else None) == expected

    run(aio, main())


def test_input_that_nobody_reads(aio):
    async def main() -> None:
        process = await aio.create_subprocess_exec("true", stdin=-1, stdout=-1)
        assert await process.communicate(b"x" * 1_000_000) == (b"", None)
        assert process.returncode == 0

    run(aio, main())


def test_process_by_streams(aio):
    async def main() -> None:
        process = await aio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
        assert isinstance(process.stdin, aio.StreamWriter)
        assert isinstance(process.stdout, aio.StreamReader)
        assert process.stderr is None
        assert process.pid in children()
        assert repr(process) == f"<Process {process.pid}>"
        for line in (b"one\n", b"two\n"):
            process.stdin.write(line)
            await process.stdin.drain()
            assert await process.stdout.readline() == line
        process.stdin.close()
        await process.stdin.wait_closed()
        assert await process.stdout.read() == b""
        assert await process.wait() == 0
        assert await process.wait() == 0

    run(aio, main())


def test_limit(aio):
    async def main() -> None:
        process = await aio.create_subprocess_shell("echo 12345678901234567890; echo x", stdout=-1, limit=10)
        with pytest.raises(ValueError, match="longer than limit|exceed the limit"):
            await process.stdout.readline()
        assert await process.wait() == 0
        await process.stdout.read()

    run(aio, main())


def test_reader_that_is_slow(aio):
    """The pipe is paused, and nothing is lost."""

    async def main() -> None:
        process = await aio.create_subprocess_shell("head -c 3000000 /dev/zero", stdout=-1, limit=1000)
        await asyncio.sleep(0.05)
        assert len(process.stdout._buffer) < 600_000
        assert len(await process.stdout.read()) == 3_000_000
        assert await process.wait() == 0

    run(aio, main())


@pytest.mark.parametrize("method", ["kill", "terminate"])
def test_process_signals(aio, method):
    async def main() -> None:
        process = await aio.create_subprocess_exec("sleep", "1000")
        getattr(process, method)()
        assert await process.wait() == (-9 if method == "kill" else -15)
        with pytest.raises(ProcessLookupError):
            getattr(process, method)()
        process = await aio.create_subprocess_exec("sleep", "1000")
        process.send_signal(signal.SIGHUP)
        assert await process.wait() == -1

    run(aio, main())


def test_many_at_once(aio):
    async def main() -> None:
        async def one(number: int) -> int:
            process = await aio.create_subprocess_shell(f"cat; exit {number}", stdin=-1, stdout=-1)
            out, _ = await process.communicate(b"%d" % number)
            assert out == b"%d" % number
            return process.returncode

        assert await aio.gather(*map(one, range(40))) == list(range(40))

    run(aio, main())


def test_cancelled_while_communicating(aio):
    async def main() -> None:
        process = await aio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(process.stdout.read(), 0.02)
        process.kill()
        assert await process.communicate() == (b"", None)
        assert process.returncode == -9

    run(aio, main())


def test_stdin_lost(aio):
    """`drain()` and `wait_closed()` say so, and nobody has to ask."""

    async def main() -> None:
        process = await aio.create_subprocess_shell("read line; exec <&-; sleep 0.05", stdin=-1)
        process.stdin.write(b"go\n" + b"x" * 1_000_000)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while True:  # (it may be told a turn later)
                await process.stdin.drain()
                await asyncio.sleep(0.001)
        with pytest.raises(BrokenPipeError):
            await process.stdin.wait_closed()
        await process.wait()
        process = await aio.create_subprocess_shell("read line; exec <&-; sleep 0.05", stdin=-1)
        process.stdin.write(b"go\n" + b"x" * 1_000_000)
        await process.wait()

    reports = Reports()

    async def reported() -> None:
        asyncio.get_running_loop().set_exception_handler(reports)
        await main()
        gc.collect()

    run(aio, reported())
    assert not reports.contexts


def test_process_on_a_loop_of_asyncio(aio):
    async def main() -> None:
        process = await aio.create_subprocess_shell("cat; exit 3", stdin=-1, stdout=-1)
        assert await process.communicate(b"hello") == (b"hello", None)
        assert await process.wait() == 3

    loop = asyncio.SelectorEventLoop()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            asyncio.set_event_loop(loop)
            if OLD:
                asyncio.get_child_watcher().attach_loop(loop)
            loop.run_until_complete(main())
        finally:
            if OLD:
                asyncio.set_child_watcher(None)
            asyncio.set_event_loop(None)
            loop.close()


def test_protocol_for_streams(aio):
    from importlib import import_module

    module = import_module(f"{aio.__name__}.subprocess")

    class Protocol(module.SubprocessStreamProtocol):
        def process_exited(self) -> None:
            super().process_exited()
            exits.append(self)

    exits: list[Any] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.subprocess_shell(
            lambda: Protocol(limit=1000, loop=loop), "cat; exit 3", stdin=-1, stdout=-1, stderr=None
        )
        process = module.Process(transport, protocol, loop)
        assert repr(protocol).startswith("<Protocol stdin=<StreamWriter ")
        assert protocol._limit == 1000
        assert await process.communicate(b"hello") == (b"hello", None)
        await until(lambda: exits == [protocol])  # (its return code is known a turn before)
        await until(lambda: protocol._pipe_fds == [])
        assert protocol._stdin_closed.done()

    run(aio, main())
