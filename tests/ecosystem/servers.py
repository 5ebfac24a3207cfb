"""The servers: each starts on a free port, in a temporary folder, on first use, and ends with the runner.

A server is a context manager that yields ``host:port``. It raises ``Missing`` where its binary is not installed.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from tests.certificates import SERVER

from . import networks
from .support import free_port, listens


class Missing(Exception):
    """The server is not installed."""


def binary(name: str, *folders: str) -> str:
    # Debian keeps servers where an ordinary user's PATH does not look
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", *folders]))
    if found is None:
        raise Missing(f"{name} is not installed")
    return found


@contextlib.contextmanager
def folder(owner: str | None = None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="aioxide-") as name:
        if owner is not None:
            os.chown(name, pwd.getpwnam(owner).pw_uid, -1)
        os.chmod(name, 0o755)
        yield Path(name)


class Server:
    """A server on a port of its own, in a folder of its own, that can be ended and started again."""

    def __init__(
        self, port: int, *command: str, user: str | None = None, directory: Path, says: bytes | None = None
    ) -> None:
        """``says``: what it writes into its log once it answers, if that is not as soon as it listens."""
        self.port, self._says = port, says
        self.address = f"127.0.0.1:{port}"
        self._command, self._user, self._directory = command, user, directory
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        log = self._directory / "log.txt"
        log.touch()
        before, end = log.stat().st_size, time.monotonic() + 30
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command, stdout=output, stderr=output, user=self._user, cwd=self._directory
            )
        while not listens(self.port) or (self._says and self._says not in log.read_bytes()[before:]):
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{self._command[0]} does not start: {log.read_text()}")
            time.sleep(0.02)

    def stop(self, how: int = signal.SIGTERM) -> None:
        """By this signal, and by SIGKILL if that does not help."""
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


@contextlib.contextmanager
def running(server: Server) -> Iterator[str]:
    try:
        server.start()
        yield server.address
    finally:
        server.stop()


@contextlib.contextmanager
def postgres_server() -> Iterator[Server]:
    """With TLS; the user is postgres, without a password. PostgreSQL refuses to run as root."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin")) if Path("/usr/lib/postgresql").exists() else []
    folders = [str(path) for path in reversed(installed)]
    initdb, server = binary("initdb", *folders), binary("postgres", *folders)
    user = None
    if os.getuid() == 0:
        known = {entry.pw_name for entry in pwd.getpwall()}
        user = "postgres" if "postgres" in known else "nobody"
    with folder(user) as directory:
        data, port = directory / "data", free_port()
        create = [initdb, "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        made = subprocess.run(create, capture_output=True, text=True, user=user, cwd=directory)
        if made.returncode:
            raise RuntimeError(f"initdb: {made.stderr}")
        certificate = data / "server.pem"
        shutil.copy(SERVER, certificate)
        certificate.chmod(0o600)
        if user is not None:
            os.chown(certificate, pwd.getpwnam(user).pw_uid, -1)
        options = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": directory,
            "fsync": "off",
            "ssl": "on",
            "ssl_cert_file": certificate,
            "ssl_key_file": certificate,
        }
        arguments = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        command = [server, "-D", str(data), *arguments]
        yield Server(port, *command, user=user, directory=directory, says=b"ready to accept connections")


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    # SIGTERM lets it wait for its clients; they are gone by then
    with postgres_server() as server, running(server) as address:
        yield address


@contextlib.contextmanager
def redis_server() -> Iterator[Server]:
    server, port = binary("redis-server"), free_port()
    with folder() as directory:
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(directory)]
        yield Server(port, server, *options, directory=directory)


@contextlib.contextmanager
def redis() -> Iterator[str]:
    with redis_server() as server, running(server) as address:
        yield address


@contextlib.contextmanager
def nginx() -> Iterator[str]:
    """A site of twenty pages, each with a link to the next."""
    server, port = binary("nginx"), free_port()
    with folder() as directory:
        site = directory / "site"
        site.mkdir()
        for n in range(20):
            link = f'<a href="/{n + 1}.html">next</a>' if n < 19 else ""
            (site / f"{n}.html").write_text(f"<html><h1>Page {n}</h1><p>{'x' * 1000 * n}</p>{link}</html>")
        config = directory / "nginx.conf"
        config.write_text(
            f"daemon off; pid {directory}/pid; error_log {directory}/error.log; worker_processes 1;\n"
            "events { worker_connections 512; }\n"
            f"http {{ access_log off; client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;\n"
            f"fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;\n"
            f"server {{ listen 127.0.0.1:{port}; root {site}; }} }}\n"
        )
        arguments = ["-p", str(directory), "-e", str(directory / "error.log"), "-c", str(config)]
        with running(Server(port, server, *arguments, directory=directory)) as address:
            yield address


@contextlib.contextmanager
def mosquitto() -> Iterator[str]:
    server, port = binary("mosquitto"), free_port()
    with folder() as directory:
        config = directory / "mosquitto.conf"
        config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n")
        with running(Server(port, server, "-c", str(config), directory=directory)) as address:
            yield address


@contextlib.contextmanager
def machines() -> Iterator[str]:
    """No server, but where some may run."""
    try:
        with networks.machines() as names:
            yield names
    except networks.NotPermitted as reason:
        raise Missing(str(reason)) from None


@contextlib.contextmanager
def nats() -> Iterator[str]:
    server, port = binary("nats-server"), free_port()
    with folder() as directory:
        with running(Server(port, server, "--addr", "127.0.0.1", "--port", str(port), directory=directory)) as address:
            yield address


SERVERS: dict[str, Callable[[], contextlib.AbstractContextManager[str]]] = {
    "postgres": postgres,
    "redis": redis,
    "nginx": nginx,
    "mosquitto": mosquitto,
    "nats": nats,
    "machines": machines,
}


class Started:
    """The servers that were asked for so far. One that failed to start, or is missing, says so each time."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._addresses: dict[str, str] = {}
        self._missing: dict[str, Missing] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def address(self, name: str) -> str:
        if name in self._missing:
            raise self._missing[name]
        if name not in self._addresses:
            try:
                self._addresses[name] = self._stack.enter_context(SERVERS[name]())
            except Missing as missing:
                self._missing[name] = missing
                raise
        return self._addresses[name]
