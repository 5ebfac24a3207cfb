"""Finding a process, and asking it.

Until somebody asks, a process has a thread, ``aioxide@N``, that sleeps until somebody writes to its descriptor N: a
pipe without a name, of which it is both ends. Then it listens on a socket for a minute, whose file has no name any
more: ``/proc/PID/task/THREAD/fd`` shows what it was. Both are opened there, which the kernel allows to those who may
look into the process, wherever it lives: a container has its own files and its own network, but whoever is outside
sees it in his ``/proc``. On the wire a message is four bytes of length and so many bytes of UTF-8: requests are words,
the first of them the version; answers are JSON.

Rules
1. Nothing is written to but a pipe with the signs of ours (:meth:`Connection._ring`): the name of a thread is what
   somebody else has chosen, and who asks may be root.
2. Who answers must be the very process that was asked, by the kernel's word (``SO_PEERCRED``).
"""

from __future__ import annotations

import _socket
import errno
import json
import os
import stat
import sys
import time

from . import INCONSISTENT, NO_LOOP, NO_PROCESS, NOT_PERMITTED, Failure

# (importing typing takes longer than all the rest)
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Any, Self

VERSION = 1
#: What the name of the thread that answers begins with; the number of its pipe follows.
THREAD = "aioxide@"
#: What the file of the socket was called, in some directory.
SOCKET = "/.aioxide-"
#: How long it may take to open its socket, and to answer; and after how long one rings again.
PATIENCE = 3.0
AGAIN = 0.5
ANSWER_PATIENCE = 10.0
#: How long a loop may take from its first run until there is somebody to ask.
YOUTH = 1.0
#: An answer is no longer than this.
LONGEST = 256 * 1024 * 1024


def read(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


class Process:
    """A process, as /proc shows it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.proc = f"/proc/{pid}"
        try:
            fields = dict(line.split(":\t", 1) for line in read(f"{self.proc}/status").splitlines() if ":\t" in line)
        except (FileNotFoundError, ProcessLookupError):
            raise Failure(NO_PROCESS, f"there is no process {pid}") from None
        if fields.get("State", "").startswith(("Z", "X")):
            raise Failure(NO_PROCESS, f"process {pid} has ended, and its parent has not noticed yet")
        self.user = int(fields["Uid"].split()[1])
        self.group = int(fields["Gid"].split()[1])

    def doors(self) -> Iterator[tuple[str, str]]:
        """The folder of the thread that answers, and the number of the pipe at which to ring, if there is somebody to
        ask. Also for those who may not. (There may be another thread, that has waited in vain since the program closed
        all descriptors.)"""
        try:
            threads = os.listdir(f"{self.proc}/task")
        except OSError:
            return
        for thread in threads:
            try:
                folder = f"{self.proc}/task/{thread}"
                name = read(f"{folder}/comm").rstrip("\n")
            except OSError:  # it has just ended
                continue
            number = name.removeprefix(THREAD)
            if number != name and number.isdecimal():
                yield folder, number

    def has_door(self) -> bool:
        return next(self.doors(), None) is not None

    def comes_to_have_door(self) -> bool:
        """Its loop may have begun a moment ago: if aioxide has been imported there, it is worth waiting."""
        try:
            if "/aioxide/_core." not in read(f"{self.proc}/maps"):
                return False
        except OSError:
            return False
        end = time.monotonic() + YOUTH
        while time.monotonic() < end:
            time.sleep(0.02)
            if self.has_door():
                return True
        return False

    def directory(self) -> str | None:
        """Its working directory."""
        try:
            return os.readlink(f"{self.proc}/cwd")
        except OSError:
            return None

    def command(self) -> str:
        try:
            return read(f"{self.proc}/cmdline").replace("\0", " ").strip()
        except OSError:
            return ""


def processes() -> list[Process]:
    """All that have somebody to ask, whoever may."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                process = Process(int(name))
            except (Failure, OSError, KeyError):
                continue
            if process.has_door():
                found.append(process)
    return sorted(found, key=lambda process: process.pid)


class Connection:
    """To ask one process."""

    def __init__(self, pid: int) -> None:
        self.process = process = Process(pid)
        if not process.has_door() and not process.comes_to_have_door():
            raise Failure(
                NO_LOOP,
                f"process {pid} has no event loop of aioxide's that could be asked (none has run yet, or since "
                "it has closed all its descriptors, or it has AIOXIDE_DIAG=0).\n"
                f"If it runs asyncio's own loop on Python 3.14 or later: python3.14 -m asyncio ps {pid}",
            )
        if os.geteuid() not in (0, process.user):
            raise self._not_permitted()
        self.socket = self._reach()

    def _reach(self) -> _socket.socket:
        try:
            return self._connect()
        except PermissionError:
            return self._connect_as_its_user()

    def _not_permitted(self) -> Failure:
        user, pid = self.process.user, self.process.pid
        if os.geteuid() == user:
            return Failure(
                NOT_PERMITTED,
                f"process {pid} does not let its own user look into it (it has changed its user, or has more rights, "
                "or has asked for that).\nTry: sudo aioxide …",
            )
        return Failure(
            NOT_PERMITTED,
            f"process {pid} is the user {user}'s, and answers to that user and root only.\n"
            f"Try: sudo -u '#{user}' aioxide …, or sudo aioxide …",
        )

    def _connect_as_its_user(self) -> _socket.socket:
        """In a container root may be anybody, and yet not look into everybody's processes."""
        user, group = self.process.user, self.process.group
        if os.geteuid() != 0 or user == 0:
            raise self._not_permitted()
        before = os.getegid()
        try:
            os.setegid(group)
            os.seteuid(user)
            return self._connect()
        except PermissionError:
            raise self._not_permitted() from None
        finally:
            os.seteuid(0)
            os.setegid(before)

    def _connect(self) -> _socket.socket:
        """Rings until there is a socket."""
        end = time.monotonic() + PATIENCE
        pause, ring = 0.0005, 0.0
        while True:
            for path in self._sockets():
                connected = self._try(path)
                if connected is not None:
                    return connected
            now = time.monotonic()
            if now > end:
                raise self._no_answer()
            if now >= ring:
                ring = now + AGAIN
                self._ring()
            time.sleep(pause)
            pause = min(pause * 1.5, 0.02)

    def _sockets(self) -> Iterator[str]:
        """Where it may listen: among what its thread has open, which is not what the process has, if it can help it."""
        for thread, _ in self.process.doors():
            folder = f"{thread}/fd"
            for number in self._gone(os.listdir, folder) or ():
                path = f"{folder}/{number}"
                name = self._gone(os.readlink, path) or ""
                if SOCKET in name and name.endswith(" (deleted)"):
                    yield path

    def _ring(self) -> None:
        for _, number in self.process.doors():
            self._ring_at(number)

    def _ring_at(self, number: str) -> None:
        """Rule 1: its pipe is its user's alone, has no name, and is open for both ways, which no program's is. Else
        (the program may have closed it, and have something of its own there) it is left alone."""
        path = f"{self.process.proc}/fd/{number}"
        pipe = self._gone(os.open, path, os.O_PATH | os.O_CLOEXEC)
        if pipe is None:
            return
        try:
            held = f"/proc/self/fd/{pipe}"
            found = os.fstat(pipe)
            private = stat.S_ISFIFO(found.st_mode) and not found.st_mode & 0o077
            # (of root, if it has changed its user since)
            private = private and found.st_uid in (self.process.user, os.geteuid())
            flags = self._gone(read, f"{self.process.proc}/fdinfo/{number}") or ""
            both = any(
                line.startswith("flags:") and int(line.split()[1], 8) & os.O_ACCMODE == os.O_RDWR
                for line in flags.splitlines()
            )
            if private and both and self._gone(os.readlink, held) == f"pipe:[{found.st_ino}]":
                self._write(held)
        finally:
            os.close(pipe)

    @staticmethod
    def _write(pipe: str) -> None:
        try:
            door = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.ENXIO:  # the process has ended meanwhile: nobody has it open any more
                raise
            return
        try:
            os.write(door, b"?")
        except (
            BlockingIOError,
            BrokenPipeError,
        ):  # others have rung, and have not been heard either; or it has ended now
            pass
        finally:
            os.close(door)

    @staticmethod
    def _gone(call: Callable[..., Any], *arguments: Any) -> Any:
        """What a call says; ``None`` if what it is about has gone, the process or a descriptor of it."""
        try:
            return call(*arguments)
        except (FileNotFoundError, ProcessLookupError):
            return None

    def _no_answer(self) -> Failure:
        Process(self.process.pid)  # it may have ended meanwhile
        return Failure(
            INCONSISTENT,
            f"process {self.process.pid} has not answered in {PATIENCE:.0f} s: it is stopped, or has closed all its "
            "descriptors, or can open no more of them, or may write to no directory, or the machine is overloaded",
        )

    def _try(self, path: str) -> _socket.socket | None:
        """Connects, if it is the process that listens there."""
        connected = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC, 0)
        try:
            connected.settimeout(ANSWER_PATIENCE)
            connected.connect(path)
            credentials = connected.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
            pid, user = (int.from_bytes(credentials[at : at + 4], sys.byteorder) for at in (0, 4))
            if pid == self.process.pid and user == self.process.user:
                return connected
        except PermissionError:
            connected.close()
            raise
        except OSError:
            pass
        connected.close()
        return None

    def ask(self, request: str) -> dict[str, Any]:
        """One question."""
        return self._answer(self.ask_for_bytes(request))

    def ask_for_file(self, request: str) -> bytearray:
        """A question whose answer is what is to be in a file."""
        answer = self.ask_for_bytes(request)
        if answer.startswith(b'{"v":'):  # it is none
            self._answer(answer)
        return answer

    def ask_for_bytes(self, request: str) -> bytearray:
        """One question, and the answer as it is."""
        try:
            try:
                return self._exchange(request)
            except ConnectionError:
                # it has forked: its threads end before, and what they had open is closed
                self.socket.close()
                self.socket = self._reach()
                return self._exchange(request)
        except (OSError, ValueError):
            raise self._no_answer() from None

    def _answer(self, data: bytearray) -> dict[str, Any]:
        try:
            answer = json.loads(data)
        except ValueError:
            raise self._no_answer() from None
        if not isinstance(answer, dict) or answer.get("v") != VERSION:
            raise Failure(
                INCONSISTENT,
                f"process {self.process.pid} speaks version {answer.get('v') if isinstance(answer, dict) else '?'} of "
                f"the protocol, this aioxide version {VERSION}: install the same version of aioxide on both sides",
            )
        if "error" in answer:
            raise Failure(INCONSISTENT, f"process {self.process.pid}: {answer['error']}")
        return answer

    def _exchange(self, request: str) -> bytearray:
        data = f"{VERSION} {request}".encode()
        self.socket.sendall(len(data).to_bytes(4) + data)
        length = int.from_bytes(self._receive(4))
        if length > LONGEST:
            raise Failure(INCONSISTENT, f"process {self.process.pid} answers {length} bytes, which is too much")
        return self._receive(length)

    def _receive(self, length: int) -> bytearray:
        data = bytearray(length)
        view = memoryview(data)
        while view:
            taken = self.socket.recv_into(view)
            if not taken:
                raise ConnectionResetError
            view = view[taken:]
        return data

    def tasks(self, *, stacks: bool = False) -> dict[str, Any]:
        """All tasks, page by page, as one answer."""
        request = f"tasks stacks={int(stacks)} count=10000"
        answer = self.ask(f"{request} from=0")
        while len(answer["tasks"]) < answer["total"]:
            page = self.ask(f"{request} from={len(answer['tasks'])}")
            answer["consistent"] = answer["consistent"] and page["consistent"]
            if not page["tasks"]:
                break
            answer["tasks"] += page["tasks"]
        return answer

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
