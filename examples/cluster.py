"""A Dask cluster: `cluster.py scheduler HOST`, twice `cluster.py worker HOST SCHEDULER`; `cluster.py ask SCHEDULER`.

Each may run on a machine of its own. Without arguments all of them run here, and one worker dies at its work.
"""

import asyncio
import sys

from distributed import Client, Scheduler, Worker


async def square(n):
    """A coroutine, which runs on a worker's loop."""
    await asyncio.sleep(0.01)
    return n * n


async def scheduler(host):
    async with Scheduler(host=host, port=8786, dashboard=False) as server:
        await server.finished()


async def worker(host, where):
    async with Worker(f"tcp://{where}:8786", host=host, nthreads=1) as server:
        await server.finished()


async def ask(where, accident=lambda: None):
    async with Client(f"tcp://{where}:8786", asynchronous=True) as client:
        await client.wait_for_workers(2)
        squares = client.map(square, range(300))
        await squares[10]
        accident()
        total = await client.submit(sum, squares)  # what the dead one had is done again
        print(f"300 squares, their sum is {total}; workers that are left: {len(await client.run(int))}")


async def everything(here="127.0.0.1"):
    roles = [("scheduler", here), ("worker", here, here), ("worker", here, here)]
    quiet = asyncio.subprocess.DEVNULL  # the scheduler says that it has lost a worker
    processes = [await asyncio.create_subprocess_exec(sys.executable, __file__, *role, stderr=quiet) for role in roles]
    await ask(here, processes.pop().kill)
    for process in processes:
        process.terminate()
        await process.wait()


if __name__ == "__main__":
    role, *arguments = sys.argv[1:] or ["everything"]
    asyncio.run({"scheduler": scheduler, "worker": worker, "ask": ask, "everything": everything}[role](*arguments))
