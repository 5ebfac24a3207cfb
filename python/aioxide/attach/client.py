"""Finding a process, and asking it.

Until somebody asks, a process has a thread that sleeps until a file ``PID.attach`` appears in a directory of its
user's; then it listens on ``PID.sock`` there. On the wire a message is four bytes of length and so many bytes of
UTF-8: requests are words, the first of them the version; answers are JSON.

Rules
1. The directory must be the process's user's, and closed to others; it is opened without following a link and held.
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
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Any, Self

VERSION = 1
#: The name of the thread that answers.
THREAD = "aioxide-attach"
#: How long it may take to open its socket, and to answer.
PATIENCE = 3.0
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
        #: its number where it lives: a container counts on its own
        self.inner = int(fields.get("NSpid", str(pid)).split()[-1])

    def has_thread(self) -> bool:
        """Is there somebody to ask? Also for those who may not."""
        try:
            threads = os.listdir(f"{self.proc}/task")
        except OSError:
            return False
        for thread in threads:
            try:
                if read(f"{self.proc}/task/{thread}/comm").rstrip("\n") == THREAD:
                    return True
            except OSError:  # it has just ended
                continue
        return False

    def comes_to_have_thread(self) -> bool:
        """Its loop may have begun a moment ago: if aioxide has been imported there, it is worth waiting."""
        try:
            if "/aioxide/_core." not in read(f"{self.proc}/maps"):
                return False
        except OSError:
            return False
        end = time.monotonic() + YOUTH
        while time.monotonic() < end:
            time.sleep(0.02)
            if self.has_thread():
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

    def _root(self) -> str:
        """What its / is from here; empty if it is ours."""
        try:
            theirs, ours = os.stat(f"{self.proc}/root"), os.stat("/")
        except OSError:
            return ""
        same = (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino)
        return "" if same else f"{self.proc}/root"

    def folders(self) -> Iterator[str]:
        """Where it may listen."""
        root = self._root()
        runtime = None
        try:
            for entry in read(f"{self.proc}/environ").split("\0"):
                if entry.startswith("XDG_RUNTIME_DIR="):
                    runtime = entry.partition("=")[2]
        except OSError:
            runtime = os.environ.get("XDG_RUNTIME_DIR")
        if runtime and runtime.startswith("/"):
            yield f"{root}{runtime}/aioxide"
        yield f"{root}/tmp/aioxide-{self.user}"


def processes() -> list[Process]:
    """All that have somebody to ask, whoever may."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                process = Process(int(name))
            except (Failure, OSError, KeyError):
                continue
            if process.has_thread():
                found.append(process)
    return sorted(found, key=lambda process: process.pid)


class Connection:
    """To ask one process."""

    def __init__(self, pid: int) -> None:
        self.process = process = Process(pid)
        if not process.has_thread() and not process.comes_to_have_thread():
            raise Failure(
                NO_LOOP,
                f"process {pid} has no event loop of aioxide's that could be asked (none has run yet, or it has "
                "AIOXIDE_DIAG=0, or its directory could not be made).\n"
                f"If it runs asyncio's own loop on Python 3.14 or later: python3.14 -m asyncio ps {pid}",
            )
        if os.geteuid() not in (0, process.user):
            raise self._not_permitted()
        self.socket = self._connect()

    def _not_permitted(self) -> Failure:
        user, pid = self.process.user, self.process.pid
        return Failure(
            NOT_PERMITTED,
            f"process {pid} is the user {user}'s, and answers to that user and root only.\n"
            f"Try: sudo -u '#{user}' aioxide …, or sudo aioxide …",
        )

    def _connect(self) -> _socket.socket:
        # by their paths: a process that begins makes its folder in a moment
        folders: dict[str, int] = {}
        requests: list[tuple[int, str]] = []
        name = f"{self.process.inner}.attach"
        end = time.monotonic() + PATIENCE
        pause = 0.0005
        try:
            while True:
                denied = False
                for path in self.process.folders():
                    try:
                        folder = folders.get(path) or self._open(path)
                    except PermissionError:
                        denied = True
                        continue
                    except OSError:
                        continue
                    folders[path] = folder
                    connected = self._try(folder)
                    if connected is not None:
                        return connected
                    if (folder, name) not in requests:
                        try:
                            self._request(folder, name)
                        except OSError as error:
                            denied = denied or error.errno in (errno.EACCES, errno.EPERM)
                        else:
                            requests.append((folder, name))
                if denied and not requests:
                    raise self._not_permitted()
                if time.monotonic() > end:
                    raise self._no_answer()
                time.sleep(pause)
                pause = min(pause * 1.5, 0.02)
        finally:
            for folder, name in requests:
                try:
                    os.unlink(name, dir_fd=folder)
                except OSError:  # it has been heard
                    pass
            for folder in folders.values():
                os.close(folder)

    def _open(self, path: str) -> int:
        """A folder, if it is to be trusted."""
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        found = os.fstat(folder)
        if found.st_uid != self.process.user or stat.S_IMODE(found.st_mode) & 0o077:
            os.close(folder)
            raise Failure(
                NOT_PERMITTED,
                f"{path} is not the user {self.process.user}'s alone, so what listens there is not to be "
                f"trusted.\nTry: chmod 700 {path}",
            )
        return folder

    def _no_answer(self) -> Failure:
        Process(self.process.pid)  # it may have ended meanwhile
        return Failure(
            INCONSISTENT,
            f"process {self.process.pid} has not answered in {PATIENCE:.0f} s: it is stopped, or its directory has "
            "been removed just now, or the machine is overloaded",
        )

    @staticmethod
    def _request(folder: int, name: str) -> None:
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            file = os.open(name, flags, 0o600, dir_fd=folder)
        except FileExistsError:  # somebody's who was not heard: only a new one is
            try:
                os.unlink(name, dir_fd=folder)
            except FileNotFoundError:
                pass
            file = os.open(name, flags, 0o600, dir_fd=folder)
        os.close(file)

    def _try(self, folder: int) -> _socket.socket | None:
        """Connects, if it listens already."""
        connected = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC, 0)
        try:
            connected.settimeout(ANSWER_PATIENCE)
            connected.connect(f"/proc/self/fd/{folder}/{self.process.inner}.sock")
            credentials = connected.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
            pid, user = (int.from_bytes(credentials[at : at + 4], sys.byteorder) for at in (0, 4))
            if pid == self.process.pid and user == self.process.user:
                return connected
        except PermissionError:
            connected.close()
            raise self._not_permitted() from None
        except OSError:
            pass
        connected.close()
        return None

    def ask(self, request: str) -> dict[str, Any]:
        """One question."""
        data = f"{VERSION} {request}".encode()
        try:
            self.socket.sendall(len(data).to_bytes(4) + data)
            length = int.from_bytes(self._receive(4))
            if length > LONGEST:
                raise Failure(INCONSISTENT, f"process {self.process.pid} answers {length} bytes, which is too much")
            answer = json.loads(self._receive(length))
        except (OSError, ValueError):
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

    def _receive(self, length: int) -> bytearray:
        data = bytearray(length)
        view = memoryview(data)
        while view:
            taken = self.socket.recv_into(view)
            if not taken:
                raise OSError
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
