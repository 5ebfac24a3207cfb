"""Dask: examples/cluster.py, a scheduler and two workers, each in a process and a network of its own; a worker dies."""

import asyncio
import contextlib
import logging
import os
import signal
import sys

from distributed import Client

from tests.ecosystem.support import EXPECTED, ROOT, python, run

CLUSTER = str(ROOT / "examples" / "cluster.py")


async def work(n):
    await asyncio.sleep(0.005)
    return n * n


async def place():
    """The loop, and the network."""
    return type(asyncio.get_running_loop()).__module__, os.stat("/proc/self/ns/net").st_ino


@contextlib.asynccontextmanager
async def on_machine(name, *arguments):
    inside = ["ip", "netns", "exec", name, *python(CLUSTER, *arguments)]
    process = await asyncio.create_subprocess_exec(*inside, stderr=asyncio.subprocess.PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        _, said = await process.communicate()
        if sys.exc_info()[0]:
            print(said.decode(), file=sys.stderr)


async def use(client, loops):
    """What everybody's loop is, and in how many networks they are; and enough work to be at it for a while."""
    assert {loop for loop, _ in loops} == {EXPECTED}, loops
    assert len({network for _, network in loops} | {os.stat("/proc/self/ns/net").st_ino}) == len(loops) + 1
    squares = client.map(work, range(400))
    assert await client.submit(sum, squares) == sum(n * n for n in range(400))


async def main():
    machines = [part.split("=") for part in os.environ["AIOXIDE_ECOSYSTEM_MACHINES"].split()]
    names, (host, *others) = zip(*machines, strict=True)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(on_machine(names[0], "scheduler", host))
        arguments = [("worker", other, host) for other in others]
        workers = [
            await stack.enter_async_context(on_machine(name, *each))
            for name, each in zip(names[1:], arguments, strict=True)
        ]
        client = await stack.enter_async_context(Client(f"tcp://{host}:8786", asynchronous=True, timeout=30))
        await client.wait_for_workers(2, timeout=30)
        loops = [*(await client.run(place)).values(), await client.run_on_scheduler(place)]
        assert len(loops) == 3
        await use(client, loops)

        # one falls over while both are at work: the other one does all of it
        squares = client.map(work, range(1000, 1400))
        await squares[20]
        workers[0].send_signal(signal.SIGKILL)
        assert await client.gather(squares) == [n * n for n in range(1000, 1400)]
        assert await workers[0].wait() == -signal.SIGKILL
        left = await client.run(place)
        assert [address.partition("://")[2].partition(":")[0] for address in left] == [others[1]]

        # and a new one takes its place
        await stack.enter_async_context(on_machine(names[1], *arguments[0]))
        await client.wait_for_workers(2, timeout=30)
        loops = [*(await client.run(place)).values(), await client.run_on_scheduler(place)]
        await use(client, loops)


logging.getLogger("distributed").setLevel(logging.CRITICAL)


if __name__ == "__main__":
    run(main)
