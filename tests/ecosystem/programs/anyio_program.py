"""anyio: task groups, cancel scopes, threads and portals, processes, memory streams, TCP, TLS, UDP, and its own run()."""

import asyncio
import os
import sys
import threading

import anyio
import anyio.from_thread
import anyio.to_process
import anyio.to_thread
from anyio.streams.tls import TLSListener, TLSStream

from tests.certificates import client_context, server_context
from tests.ecosystem.support import LOOP_FACTORY, check, loop_module, run


async def task_groups():
    done = []

    async def child(n, *, task_status=anyio.TASK_STATUS_IGNORED):
        task_status.started(n)
        await anyio.sleep(0)
        done.append(n)

    async with anyio.create_task_group() as group:
        assert await group.start(child, 0) == 0
        for n in range(1, 50):
            group.start_soon(child, n)
    assert sorted(done) == list(range(50))

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 60)
            await anyio.wait_all_tasks_blocked()
            raise KeyError("mine")
    except* KeyError as found:
        assert found.exceptions[0].args == ("mine",)

    with anyio.move_on_after(0.05) as outer:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.1)
        await anyio.sleep(60)
    assert outer.cancelled_caught
    try:
        with anyio.fail_after(0.02):
            await anyio.sleep(60)
    except TimeoutError:
        pass
    else:
        raise AssertionError("no timeout")


async def threads():
    def work():
        assert threading.current_thread() is not threading.main_thread()
        assert anyio.from_thread.run(back, 20) == 21
        return anyio.from_thread.run_sync(lambda: 1)

    async def back(n):
        check()
        await anyio.sleep(0)
        return n + 1

    results = []

    async def one():
        results.append(await anyio.to_thread.run_sync(work))

    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(one)
    assert results == [1] * 50


async def processes():
    done = await anyio.run_process([sys.executable, "-c", "print(input()[::-1])"], input=b"hello\n")
    assert done.stdout == b"olleh\n"
    async with await anyio.open_process([sys.executable, "-c", "import sys; print(sys.stdin.read()*2)"]) as process:
        await process.stdin.send(b"ab")
        await process.stdin.aclose()
        assert b"".join([part async for part in process.stdout]) == b"abab\n"
        assert await process.wait() == 0
    assert await anyio.to_process.run_sync(os.getpid) != os.getpid()


async def streams():
    send, receive = anyio.create_memory_object_stream(5)

    async def produce():
        async with send:
            for n in range(100):
                await send.send(n)

    async with anyio.create_task_group() as group:
        group.start_soon(produce)
        assert [n async for n in receive] == list(range(100))
    receive.close()


async def echo(client):
    async with client:
        try:
            while True:
                await client.send(await client.receive())
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            pass


async def network():
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    below = await anyio.create_tcp_listener(local_host="127.0.0.1")
    secure = TLSListener(below, server_context())
    async with anyio.create_task_group() as group:
        group.start_soon(listener.serve, echo)
        group.start_soon(secure.serve, echo)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(b"hello")
            assert await stream.receive() == b"hello"
        port = below.extra(anyio.abc.SocketAttribute.local_port)
        plain = await anyio.connect_tcp("127.0.0.1", port)
        async with await TLSStream.wrap(plain, ssl_context=client_context(), hostname="127.0.0.1") as stream:
            payload, got = bytes(range(256)) * 400, b""
            group.start_soon(stream.send, payload)
            while len(got) < len(payload):
                got += await stream.receive()
            assert got == payload
        group.cancel_scope.cancel()
    await listener.aclose()
    await secure.aclose()
    async with await anyio.create_udp_socket(local_host="127.0.0.1") as one:
        async with await anyio.create_udp_socket(local_host="127.0.0.1") as two:
            port = two.extra(anyio.abc.SocketAttribute.local_port)
            await one.sendto(b"hello", "127.0.0.1", port)
            assert (await two.receive())[0] == b"hello"


async def main():
    for part in (task_groups, threads, processes, streams, network):
        await part()


async def name():
    return loop_module()


if __name__ == "__main__":
    options = {"loop_factory": LOOP_FACTORY} if LOOP_FACTORY else {}
    loop = anyio.run(name, backend="asyncio", backend_options=options)
    with anyio.from_thread.start_blocking_portal("asyncio", options) as portal:
        assert portal.call(name) == loop
    run(main)
    assert loop in ("aioxide", "asyncio.unix_events")
    asyncio.run(asyncio.sleep(0))
