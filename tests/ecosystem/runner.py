"""Runs the programs: which there are, what each needs, and how one went.

Each run is a process of its own, so that a library that dies or hangs takes nobody with it.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Literal

from .servers import Missing, Started
from .support import ROOT, VARIABLE

Mode = Literal["takeover", "loop", "stdlib"]
MODES: tuple[Mode, ...] = ("loop", "takeover")
#: seconds; one that takes longer hangs
LIMIT = 120.0


@dataclass(frozen=True)
class Program:
    """A module of programs/, and what it shows."""

    module: str
    #: for the table: the distributions, of which the first gives its version
    libraries: tuple[str, ...]
    shows: str
    servers: tuple[str, ...] = ()
    #: the names to import where they are not those of the distributions
    imports: tuple[str, ...] = ()
    modes: tuple[Mode, ...] = MODES

    def missing(self) -> str:
        """The first library that is not here."""
        names = self.imports or self.libraries
        return next((name for name in names if importlib.util.find_spec(name.replace("-", "_")) is None), "")

    @property
    def version(self) -> str:
        return importlib.metadata.version(self.libraries[0])


PROGRAMS = (
    Program("aiohttp_web", ("aiohttp",), "server, client, WebSockets, with TLS and without"),
    Program("aiohttp_run_app", ("aiohttp",), "`web.run_app(loop=…)`, ended by SIGTERM"),
    Program("scraping", ("selectolax", "aiohttp"), "a site of nginx, page by page and all at once", ("nginx",)),
    Program("uvicorn_h11", ("uvicorn", "h11", "aiohttp"), "h11"),
    Program("uvicorn_httptools", ("uvicorn", "httptools", "aiohttp"), "httptools"),
    Program("uvicorn_workers", ("uvicorn",), "`--workers 2`"),
    Program("uvicorn_reload", ("uvicorn",), "`--reload`, a file changed"),
    Program(
        "fastapi_app",
        ("fastapi", "starlette", "uvicorn", "httpx", "websockets"),
        "`async def` and `def` endpoints, streaming, WebSockets, lifespan",
    ),
    Program("hypercorn_serve", ("hypercorn", "httpx"), "`hypercorn.asyncio.serve`"),
    Program("hypercorn_workers", ("hypercorn",), "`--workers 2`", modes=("takeover",)),
    Program("gunicorn_uvicorn", ("gunicorn", "uvicorn-worker"), "two uvicorn workers"),
    Program("gunicorn_aiohttp", ("gunicorn", "aiohttp"), "two aiohttp workers"),
    Program("granian_server", ("granian",), "two workers"),
    Program("httpx_anyio", ("httpx", "anyio", "uvicorn"), "HTTPS, 100 requests at once, streaming"),
    Program("anyio_program", ("anyio",), "task groups, cancel scopes, threads, processes, TLS, `anyio.run`"),
    Program("anyio_plugin", ("anyio", "pytest"), "its pytest plugin"),
    Program("websockets_echo", ("websockets",), "server and client, with TLS and without, 100 at once"),
    Program("asyncpg_queries", ("asyncpg",), "a pool, 1,000 rows, COPY, LISTEN/NOTIFY, cancelling, TLS", ("postgres",)),
    Program("psycopg_queries", ("psycopg",), "1,000 rows, pipeline, COPY, LISTEN/NOTIFY, TLS", ("postgres",)),
    Program(
        "sqlalchemy_orm",
        ("sqlalchemy", "asyncpg", "aiosqlite", "greenlet"),
        "the ORM over asyncpg and over aiosqlite",
        ("postgres",),
    ),
    Program("redis_commands", ("redis",), "pipelines, transactions, publish/subscribe, blocking reads", ("redis",)),
    Program("aiosqlite_file", ("aiosqlite",), "a database in a file, 1,000 rows"),
    Program("aiofiles_file", ("aiofiles",), "reading, writing, lines"),
    Program("aiomqtt_topics", ("aiomqtt",), "100 messages by mosquitto", ("mosquitto",)),
    Program("nats_messages", ("nats-py",), "publish/subscribe, 100 requests at once", ("nats",), imports=("nats",)),
    Program("grpc_service", ("grpcio",), "unary calls and streams both ways, 100 at once", imports=("grpc",)),
    Program("asyncssh_session", ("asyncssh",), "server and client: a command, SFTP, a forwarded port"),
    Program("tornado_server", ("tornado",), "server, client, WebSockets, a subprocess"),
    Program("dask_cluster", ("distributed",), "a cluster in this process", modes=("loop",)),
    Program("dask_nannies", ("distributed",), "a cluster of two processes", modes=("takeover",)),
    Program(
        "dask_machines",
        ("distributed",),
        "scheduler and workers in networks of their own, one killed",
        ("machines",),
        modes=("takeover",),
    ),
    Program(
        "jupyter_kernel",
        ("ipykernel", "jupyter-client"),
        "a kernel runs cells with `await`, and is interrupted",
        modes=("takeover",),
    ),
    Program("pytest_asyncio_plugin", ("pytest-asyncio", "pytest"), "tests and fixtures"),
    Program("prompt_toolkit_session", ("prompt-toolkit",), "prompts, with completion, on a pipe"),
    Program("textual_app", ("textual",), "an application in its pilot's hands"),
)


@dataclass(frozen=True)
class Outcome:
    """``status`` is pass, fail or skip; ``text`` says why it is not pass."""

    program: Program
    mode: Mode
    status: Literal["pass", "fail", "skip"]
    text: str = ""
    seconds: float = 0.0

    def line(self) -> str:
        last = (self.text.strip().splitlines() or [""])[-1]
        return f"{self.status:4}  {self.mode:8}  {self.program.module:22}  {self.seconds:4.1f} s  {last[:160]}".rstrip()


def run(program: Program, mode: Mode, servers: Started, *options: str) -> Outcome:
    """With these options of Python's own."""
    if missing := program.missing():
        return Outcome(program, mode, "skip", f"{missing} is not installed")
    # children learn by their own command lines what they are: the runner may itself be in a program that is taken over
    environment = {key: value for key, value in os.environ.items() if key != "AIOXIDE_TAKEOVER"}
    environment[VARIABLE] = mode
    try:
        for name in program.servers:
            environment[f"AIOXIDE_ECOSYSTEM_{name.upper()}"] = servers.address(name)
    except Missing as missing:
        return Outcome(program, mode, "skip", str(missing))
    how = ["-m", "aioxide"] if mode == "takeover" else []
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-X", "faulthandler", *options, *how, "-m", f"tests.ecosystem.programs.{program.module}"],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)  # faulthandler shows where it stands
        out, err = process.communicate()
        err += f"\nnot done after {LIMIT:.0f} s"
    finally:
        # whatever the program has left running
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    seconds = time.monotonic() - began
    # an exception that nobody heard of is a failure, whatever the program's exit status says
    if process.returncode or "Traceback" in err or "was never" in err:
        return Outcome(program, mode, "fail", f"{out}\n{err}\nexit status {process.returncode}", seconds)
    if not out.splitlines() or not out.splitlines()[-1].startswith("ran on "):
        return Outcome(program, mode, "fail", f"{out}\n{err}\nit never said on which loop it ran", seconds)
    return Outcome(program, mode, "pass", err, seconds)
