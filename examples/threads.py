"""The border between threads and the loop, crossed both ways."""

import asyncio
import threading
import time


def blocking_read(name):
    time.sleep(0.01)
    here = "the main thread" if threading.current_thread() is threading.main_thread() else "a worker thread"
    return f"{name} was read in {here}"


async def double(number):
    await asyncio.sleep(0.01)
    return 2 * number


def other_thread(loop):
    future = asyncio.run_coroutine_threadsafe(double(21), loop)
    print(f"another thread asked the loop: {future.result(timeout=5)}")


async def main():
    print(await asyncio.to_thread(blocking_read, "the file"))
    thread = threading.Thread(target=other_thread, args=[asyncio.get_running_loop()])
    thread.start()
    await asyncio.to_thread(thread.join)


asyncio.run(main())
