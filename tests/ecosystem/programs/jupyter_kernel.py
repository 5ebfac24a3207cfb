"""A Jupyter kernel in takeover: cells with await, an error, output, an interrupt, input, a nested run."""

import asyncio
import sys
import tempfile

from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec

from tests.ecosystem.support import EXPECTED, MODE, run

CELLS = (
    ("import asyncio; type(asyncio.get_running_loop()).__module__", repr(EXPECTED)),
    ("await asyncio.sleep(0.01, 'slept')", "'slept'"),
    ("sum(await asyncio.gather(*(asyncio.sleep(0, n) for n in range(100))))", "4950"),
    ("async with asyncio.TaskGroup() as group:\n    task = group.create_task(asyncio.sleep(0, 7))\ntask.result()", "7"),
    ("[n async for n in (m async for m in agen())]", "[0, 1, 2]"),
    ("(await (await asyncio.create_subprocess_exec('echo', 'hi', stdout=-1)).communicate())[0]", r"b'hi\n'"),
    ("import threading; asyncio.run_coroutine_threadsafe(asyncio.sleep(0), asyncio.get_running_loop()) and 1", "1"),
)


async def main():
    manager = AsyncKernelManager()
    how = [sys.executable, *(["-m", "aioxide"] if MODE == "takeover" else [])]
    manager._kernel_spec = KernelSpec(
        argv=[*how, "-m", "ipykernel_launcher", "-f", "{connection_file}"], display_name="x", language="python"
    )
    with tempfile.TemporaryDirectory(prefix="aioxide-") as folder:
        await manager.start_kernel(cwd=folder)
        client = manager.client()
        client.start_channels()
        try:
            await client.wait_for_ready(timeout=40)
            await converse(manager, client)
        finally:
            client.stop_channels()
            await manager.shutdown_kernel()


async def execute(client, source):
    """The reply, and the text of what the cell came to."""
    texts = []

    def output(message):
        if message["msg_type"] == "execute_result":
            texts.append(message["content"]["data"]["text/plain"])
        elif message["msg_type"] == "stream":
            texts.append(message["content"]["text"])

    reply = await client.execute_interactive(source, output_hook=output, timeout=20, allow_stdin=False)
    return reply["content"], "".join(texts)


async def converse(manager, client):
    await execute(client, "async def agen():\n    for n in range(3):\n        yield n")
    for source, expected in CELLS:
        reply, text = await execute(client, source)
        assert reply["status"] == "ok", reply
        assert text == expected, (source, text)
    reply, _ = await execute(client, "1 / 0")
    assert reply["ename"] == "ZeroDivisionError"
    # what a cell has started goes on between cells
    await execute(client, "later = asyncio.create_task(asyncio.sleep(0.05, 'done'))")
    await asyncio.sleep(0.2)
    assert (await execute(client, "later.result()"))[1] == "'done'"
    # a cell that awaits for long is interrupted (ipykernel's signal handler cancels it, which wakes our loop and not asyncio's)
    if MODE == "takeover":
        waiting = asyncio.create_task(execute(client, "await asyncio.sleep(60)"))
        await asyncio.sleep(0.5)
        await manager.interrupt_kernel()
        reply, _ = await waiting
        assert reply["ename"] in ("KeyboardInterrupt", "CancelledError"), reply
    # and so is one that blocks
    waiting = asyncio.create_task(execute(client, "import time; time.sleep(60)"))
    await asyncio.sleep(0.5)
    await manager.interrupt_kernel()
    reply, _ = await waiting
    assert reply["ename"] == "KeyboardInterrupt", reply
    assert (await execute(client, "1 + 1"))[1] == "2"


if __name__ == "__main__":
    run(main)
