"""Dask: two workers in processes of their own, which nannies spawn; a worker dies, and its nanny starts another."""

import asyncio
import logging
import os
import signal

from distributed import Client, LocalCluster

from tests.ecosystem.programs.dask_cluster import use
from tests.ecosystem.support import run


async def main():
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "silence_logs": logging.CRITICAL}
    async with LocalCluster(asynchronous=True, processes=True, host="127.0.0.1", **options) as cluster:
        async with Client(cluster, asynchronous=True) as client:
            await use(client)
            before = await client.run(os.getpid)
            assert os.getpid() not in before.values()
            os.kill(next(iter(before.values())), signal.SIGKILL)
            async with asyncio.timeout(30):
                while True:
                    await asyncio.sleep(0.2)
                    after = await client.run(os.getpid, on_error="ignore")
                    if len(after) == 2 and set(after.values()) != set(before.values()):
                        break
            await use(client)


if __name__ == "__main__":
    run(main)
