"""Dask: scheduler, two workers and client on the loop of this process, over TCP."""

import asyncio
import logging

from distributed import Client, LocalCluster

from tests.ecosystem.support import EXPECTED, loop_module, run


async def on_worker(n):
    await asyncio.sleep(0)
    return loop_module()


async def use(client):
    numbers = client.map(lambda n: n * n, range(300))
    assert await client.gather(numbers) == [n * n for n in range(300)]
    assert await client.submit(sum, numbers) == sum(n * n for n in range(300))
    # a coroutine function runs on the worker's loop
    assert set(await client.gather(client.map(on_worker, range(20)))) == {EXPECTED}
    (data,) = await client.scatter([b"x" * 5_000_000])
    assert await client.submit(len, data) == 5_000_000
    failing = client.submit(lambda: 1 / 0)
    try:
        await failing
    except ZeroDivisionError:
        pass
    else:
        raise AssertionError("no error")
    event_loops = await client.run(on_worker, 0)
    event_loops["scheduler"] = await client.run_on_scheduler(on_worker, 0)
    assert len(event_loops) == 3
    assert set(event_loops.values()) == {EXPECTED}, event_loops


async def main():
    options = {"n_workers": 2, "threads_per_worker": 2, "dashboard_address": None, "silence_logs": logging.CRITICAL}
    where = {"processes": False, "protocol": "tcp", "host": "127.0.0.1"}
    async with LocalCluster(asynchronous=True, **where, **options) as cluster:
        async with Client(cluster, asynchronous=True) as client:
            await use(client)


# a task that fails, and a connection that the end of the cluster cuts, are logged with their tracebacks; later than LocalCluster
# itself silences, too
logging.getLogger("distributed").setLevel(logging.CRITICAL)


if __name__ == "__main__":
    run(main)
