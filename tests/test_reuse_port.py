"""Several processes serve one port (``reuse_port=True``), and one is killed under load: it alone has losses."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from tests.support import ROOT, STDLIB, run

SERVER = """
import asyncio, os, sys

async def serve(reader, writer):
    writer.write(b"%d\\n" % os.getpid())
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    writer.close()

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]), reuse_port=True, backlog=1000)
    print(type(asyncio.get_running_loop()).__module__, flush=True)
    async with server:
        await server.serve_forever()

asyncio.run(main())
"""
EXPECTED = "asyncio.unix_events" if STDLIB else "aioxide"
#: what a connection ends with when its other end is gone
CUT = (ConnectionError, asyncio.IncompleteReadError)


@contextlib.contextmanager
def reserved() -> Iterator[int]:
    """A port that nobody else gets. As its holder does not listen, it gets no connection either."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@contextlib.contextmanager
def serving(port: int) -> Iterator[subprocess.Popen[str]]:
    how = [] if STDLIB else ["-m", "aioxide"]
    command = [sys.executable, *how, "-c", SERVER, str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == EXPECTED
            yield process
        finally:
            process.kill()


class Visit:
    """One connection: who answered, how many lines came back as they were sent, and how it ended."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.pid = 0
        self.echoes = 0
        self.error: Exception | None = None

    async def make(self, aio: Any, port: int, goes_on: Any) -> None:
        writer = None
        try:
            reader, writer = await aio.open_connection("127.0.0.1", port)
            self.pid = int(await reader.readuntil(b"\n"))
            while goes_on(self):
                sent = os.urandom(random.randrange(1, 3000)).hex().encode() + b"\n"
                writer.write(sent)
                assert await reader.readuntil(b"\n") == sent
                self.echoes += 1
                await aio.sleep(0.002)
        except CUT as error:
            self.error = error
        finally:
            if writer is not None:
                writer.close()


def test_only_the_connections_of_a_process_that_is_killed_are_cut(aio: Any) -> None:
    async def main() -> None:
        staying = [Visit() for _ in range(40)]
        passing: list[Visit] = []
        over = False

        async def keep_coming() -> None:
            while not over:
                visit = Visit()
                await visit.make(aio, port, lambda visit: visit.echoes < 1)
                passing.append(visit)

        async def served(condition: Any) -> None:
            async with aio.timeout(30):
                while not condition():
                    await aio.sleep(0.01)

        tasks = [aio.create_task(visit.make(aio, port, lambda _: not over)) for visit in staying]
        tasks += [aio.create_task(keep_coming()) for _ in range(4)]
        everybody = {process.pid for process in processes}
        await served(lambda: {visit.pid for visit in passing} == everybody and all(v.echoes > 5 for v in staying))
        victim = processes[0]
        victim.kill()
        await aio.to_thread(victim.wait)
        dead = time.monotonic()

        # new connections find the others, and at once
        before = len(passing)
        await served(lambda: len(passing) > before + 100)
        # and a process in its place is dealt its share
        with serving(port) as successor:
            await served(lambda: successor.pid in {visit.pid for visit in passing})
            over = True
            await aio.gather(*tasks)

        assert {visit.pid for visit in staying} == everybody
        assert all(isinstance(visit.error, CUT) for visit in staying if visit.pid == victim.pid)
        assert [visit.error for visit in staying if visit.pid != victim.pid and visit.error] == []
        # who was cut had come before its end, and nobody else had answered
        for visit in passing:
            if visit.error is not None:
                assert (visit.began < dead, visit.pid in (0, victim.pid)) == (True, True), vars(visit)
        after = [visit for visit in passing if visit.began > dead]
        assert {visit.pid for visit in after} == everybody - {victim.pid} | {successor.pid}
        assert all(visit.echoes == 1 for visit in after)

    with reserved() as port, contextlib.ExitStack() as stack:
        processes = [stack.enter_context(serving(port)) for _ in range(3)]
        run(aio, main())
