"""getaddrinfo: what it answers, and what becomes of questions that nobody waits for."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import time
from typing import Any

import pytest

from tests.support import STDLIB, run, succeeds

TCP = {"type": socket.SOCK_STREAM}

QUESTIONS: list[tuple[tuple[Any, Any], dict[str, Any]]] = [
    (("localhost", 80), {}),
    (("localhost", 80), TCP),
    (("LOCALHOST", 80), TCP),
    (("localhost.", 80), TCP),
    (("localhost", "80"), TCP),
    (("localhost", b"80"), TCP),
    ((b"localhost", 80), TCP),
    ((bytearray(b"localhost"), 80), TCP),
    (("localhost", "http"), TCP),
    (("localhost", "domain"), {"type": socket.SOCK_DGRAM}),
    (("localhost", None), TCP),
    (("localhost", 0), {"proto": socket.IPPROTO_UDP}),
    (("localhost", 80), {"family": socket.AF_INET}),
    (("localhost", 80), {"family": socket.AF_INET6}),
    (("localhost", 80), {"flags": socket.AI_CANONNAME, **TCP}),
    (("localhost", 80), {"type": socket.SOCK_RAW}),
    (("localhost", -1), TCP),
    (("localhost", 1 << 16), TCP),
    (("localhost", 1 << 70), TCP),
    (("localhost", True), TCP),
    (("localhost", 1.5), TCP),
    ((None, 80), TCP),
    ((None, 80), {"flags": socket.AI_PASSIVE, **TCP}),
    ((None, None), TCP),
    (("", 80), TCP),
    ((b"", 80), TCP),
    (("127.0.0.1", "http"), TCP),
    (("127.1", 80), TCP),
    (("0x7f.1", 80), TCP),
    (("::1", 80), {"family": socket.AF_INET}),
    (("::1%lo", 80), TCP),
    (("fe80::1%1", 80), TCP),
    (("::ffff:1.2.3.4", "80"), TCP),
    (("::1.2.3.4", "80"), TCP),
    (("::1:2", "80"), TCP),
    (("1::2:0:0:3", "80"), TCP),
    (("localhost", "no such service"), TCP),
    (("no address", 80), {"flags": socket.AI_NUMERICHOST}),
    (("x" * 64, 80), {"flags": socket.AI_NUMERICHOST}),
    (("x..y", 80), {"flags": socket.AI_NUMERICHOST}),
    ((".x", 80), {"flags": socket.AI_NUMERICHOST}),
    (("b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher", 80), {"flags": socket.AI_NUMERICHOST}),
    (("\udcff", 80), {"flags": socket.AI_NUMERICHOST}),
    (("local\0host", 80), TCP),
    ((b"local\0host", 80), TCP),
    ((5, 80), TCP),
    (("localhost", 80), {"family": 999}),
    (("localhost", 80), {"type": 1 << 40}),
    (("localhost", 80), {"type": "stream"}),
]


@pytest.mark.parametrize(("arguments", "hints"), QUESTIONS)
def test_answers_are_those_of_the_socket_module(aio, arguments, hints):
    async def main() -> Any:
        return await aio.get_running_loop().getaddrinfo(*arguments, **hints)

    try:
        expected = socket.getaddrinfo(*arguments, **hints)
    except Exception as exception:
        with pytest.raises(type(exception)) as raised:
            run(aio, main())
        assert type(raised.value) is type(exception)
        assert raised.value.args == exception.args
        return
    answer = run(aio, main())
    assert answer == expected
    assert [[type(part) for part in line] for line in answer] == [[type(part) for part in line] for line in expected]


def test_many_at_once(aio):
    async def main() -> None:
        loop = aio.get_running_loop()
        expected = socket.getaddrinfo("localhost", 80, **TCP)
        answers = await aio.gather(*[loop.getaddrinfo("localhost", 80, **TCP) for _ in range(300)])
        assert answers == [expected] * 300

    run(aio, main())


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def until(condition: Any) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_threads_are_few_and_end_with_the_loop(aio):
    before = threads()

    async def main() -> None:
        loop = aio.get_running_loop()
        await aio.gather(*[loop.getaddrinfo("localhost", 80) for _ in range(100)])
        if not STDLIB:
            assert before < threads() <= before + 8

    run(aio, main())
    until(lambda: threads() <= before)


def test_cancelled_questions(aio):
    async def main() -> None:
        loop = aio.get_running_loop()
        for _ in range(20):
            asking = [aio.ensure_future(loop.getaddrinfo("localhost", 80, **TCP)) for _ in range(20)]
            await aio.sleep(0)
            for task in asking[1:]:
                task.cancel()
            results = await aio.gather(*asking, return_exceptions=True)
            assert results[0] == socket.getaddrinfo("localhost", 80, **TCP)
            assert all(isinstance(result, aio.CancelledError) for result in results[1:])

    run(aio, main())


def test_a_replacement_is_asked(aio, monkeypatch):
    """In a thread, as it may block; whatever it gives is the answer."""

    async def main() -> None:
        loop = aio.get_running_loop()
        asked: list[Any] = []

        def getaddrinfo(*args: Any) -> str:
            asked.append(args)
            return "the answer"

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        assert await loop.getaddrinfo("name", 80, family=1, type=2, proto=3, flags=4) == "the answer"
        assert asked == [("name", 80, 1, 2, 3, 4)]

    run(aio, main())


def test_the_audit_event():
    source = """
        import socket, sys

        heard = []
        object_to = set()

        class No(Exception): pass

        def hear(event, arguments):
            if event == "socket.getaddrinfo":
                heard.append(arguments)
                if arguments[0] in object_to:
                    raise No

        sys.addaudithook(hear)

        async def main() -> None:
            loop = aio.get_running_loop()
            await loop.getaddrinfo("localhost", "http", family=socket.AF_INET, type=socket.SOCK_STREAM)
            assert heard == [("localhost", "http", socket.AF_INET, socket.SOCK_STREAM, 0)], heard
            object_to.add("localhost")
            try:
                await loop.getaddrinfo("localhost", 80)
            except No:
                pass
            else:
                raise AssertionError

        aio.run(main())
    """
    succeeds(source)


@pytest.mark.skipif(STDLIB, reason="the threads of asyncio's executor stay in the parent")
def test_forked():
    """A child asks by itself, with the loop that it has inherited too; the parent does not notice."""
    source = """
        import asyncio, os, socket

        async def ask() -> None:
            loop = asyncio.get_running_loop()
            asking = [loop.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM) for _ in range(20)]
            for answer in await asyncio.gather(*asking):
                assert answer[0][4][1] == 80

        def complete(loop, asking) -> None:
            loop.run_until_complete(asyncio.wait_for(asking, 30))

        loop = aio.new_event_loop()
        complete(loop, ask())
        waiting = loop.create_task(ask())
        loop.run_until_complete(asyncio.sleep(0))
        pid = os.fork()
        if pid == 0:
            try:
                complete(loop, ask())
                aio.run(ask())
            except BaseException:
                os._exit(1)
            os._exit(0)
        complete(loop, waiting)
        assert os.waitpid(pid, 0)[1] == 0
        loop.close()
    """
    succeeds(source)


@pytest.fixture(scope="session")
def hanging(tmp_path_factory):
    """A library to be loaded first: ``getaddrinfo`` of "hang" takes a minute."""
    compiler = shutil.which("cc")
    assert compiler, "without a C compiler aioxide would not be there"
    directory = tmp_path_factory.mktemp("hanging")
    source, library = directory / "hanging.c", directory / "hanging.so"
    source.write_text("""
        #define _GNU_SOURCE
        #include <dlfcn.h>
        #include <netdb.h>
        #include <string.h>
        #include <unistd.h>

        typedef int function(const char *, const char *, const struct addrinfo *, struct addrinfo **);

        int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **found)
        {
            if (host && strcmp(host, "hang") == 0) {
                sleep(60);
                return EAI_AGAIN;
            }
            return ((function *)dlsym(RTLD_NEXT, "getaddrinfo"))(host, service, hints, found);
        }
    """)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return str(library)


@pytest.mark.skipif(STDLIB, reason="asyncio waits for them")
def test_questions_that_hang(hanging):
    """They keep nobody: neither the loop from closing, nor the process from ending, nor the executor from working."""
    source = """
        import asyncio, socket, time

        async def main() -> None:
            loop = asyncio.get_running_loop()
            asking = [asyncio.ensure_future(loop.getaddrinfo("hang", 80)) for _ in range(7)]
            assert await loop.getaddrinfo("localhost", 80)
            asking.append(asyncio.ensure_future(loop.getaddrinfo("hang", 80)))
            asking.append(asyncio.ensure_future(loop.getaddrinfo("hang", 80)))
            await asyncio.sleep(0.1)
            assert await loop.run_in_executor(None, len, "abc") == 3
            try:
                await asyncio.wait_for(loop.getaddrinfo("localhost", 80), 0.2)
            except TimeoutError:
                pass
            else:
                raise AssertionError("all threads hang: nobody can have answered")
            assert not any(task.done() for task in asking)

        began = time.monotonic()
        aio.run(main())
        assert time.monotonic() - began < 20
        aio.run(asyncio.sleep(0))
    """
    succeeds(source, env={"LD_PRELOAD": hanging}, timeout=40)


@pytest.mark.parametrize("flags", [0, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV, socket.NI_DGRAM])
def test_getnameinfo(aio, flags):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        address = ("127.0.0.1", 80)
        assert await loop.getnameinfo(address, flags) == socket.getnameinfo(address, flags)

    run(aio, main())
