"""Programs that wait, and are well: no deadlock, no lost cancellation. The cases of test_diag_deadlock.py, and a soak.

python -m tests.diag_healthy --minutes 30       all of them at once; 1 if any has said anything
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

HEALTHY: dict[str, str] = {
    "a server": """
        async def main():
            server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
            queue = asyncio.Queue()
            workers = [asyncio.create_task(queue.get()) for _ in range(3)]
            await server.serve_forever()
        asyncio.run(main())
        """,
    "a timer": """
        async def main():
            event = asyncio.Event()
            asyncio.get_running_loop().call_later(60, event.set)
            await event.wait()
        asyncio.run(main())
        """,
    "another thread": """
        import threading, time
        async def main():
            loop, event = asyncio.get_running_loop(), asyncio.Event()
            def later():
                time.sleep(60)
                loop.call_soon_threadsafe(event.set)
            threading.Thread(target=later, daemon=True).start()
            await event.wait()
        asyncio.run(main())
        """,
    "an executor": """
        import time
        async def main():
            await asyncio.to_thread(time.sleep, 2.5)
        asyncio.run(main())
        """,
    "an executor of its own": """
        import concurrent.futures, time
        async def main():
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                await asyncio.get_running_loop().run_in_executor(pool, time.sleep, 2.5)
        asyncio.run(main())
        """,
    "a child process": """
        async def main():
            process = await asyncio.create_subprocess_exec("sleep", "60")
            await process.wait()
        asyncio.run(main())
        """,
    "a signal of the loop's": """
        import signal
        async def main():
            event = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, event.set)
            await event.wait()
        asyncio.run(main())
        """,
    "a signal of Python's": """
        import signal
        async def main():
            event = asyncio.Event()
            signal.signal(signal.SIGUSR1, lambda *_: event.set())
            await event.wait()
        asyncio.run(main())
        """,
    "a loop in another thread": """
        import threading, time
        threading.Thread(target=asyncio.run, args=(asyncio.Event().wait(),), daemon=True).start()
        time.sleep(60)
        """,
    "no task at all": """
        asyncio.new_event_loop().run_forever()
        """,
    "a ring that a timeout breaks": """
        async def main():
            lock = asyncio.Lock()
            async with lock:
                try:
                    async with asyncio.timeout(2):
                        await lock.acquire()
                except TimeoutError:
                    pass
                try:
                    await asyncio.wait_for(lock.acquire(), 2)
                except TimeoutError:
                    pass
        asyncio.run(main())
        """,
    "a ring that a timer breaks": """
        async def main():
            lock = asyncio.Lock()
            await lock.acquire()
            asyncio.get_running_loop().call_later(60, asyncio.current_task().cancel)
            try:
                await lock.acquire()
            except asyncio.CancelledError:
                asyncio.current_task().uncancel()
        asyncio.run(main())
        """,
    "a lock that is held for long": """
        async def main():
            lock = asyncio.Lock()
            async def hold():
                async with lock:
                    await asyncio.sleep(60)
            tasks = [asyncio.create_task(hold()) for _ in range(5)]
            await asyncio.gather(*tasks)
        asyncio.run(main())
        """,
    "a unit that a timer gives back": """
        async def main():
            units = asyncio.Semaphore(1)
            for _ in range(2):
                await units.acquire()
                asyncio.get_running_loop().call_later(60, units.release)
        asyncio.run(main())
        """,
    "a lock that another task gives back": """
        async def main():
            lock = asyncio.Lock()
            async def later():
                await asyncio.sleep(60)
                lock.release()
            await lock.acquire()
            task = asyncio.create_task(later())
            await lock.acquire()
            await task
        asyncio.run(main())
        """,
    "one of two": """
        async def main():
            lock = asyncio.Lock()
            await lock.acquire()
            async def stuck():
                await lock.acquire()
            await asyncio.wait(
                [asyncio.create_task(stuck()), asyncio.create_task(asyncio.sleep(60))], return_when="FIRST_COMPLETED"
            )
        asyncio.run(main())
        """,
}

#: a bit of everything, for as long as it is let
SERVICE = """
    import contextlib, random, time

    async def serve(reader, writer):
        with contextlib.suppress(ConnectionError):
            while data := await reader.readline():
                async with table:
                    await asyncio.sleep(random.random() / 100)
                writer.write(data)
                await writer.drain()
        writer.close()

    async def client(address):
        while True:
            reader, writer = await asyncio.open_connection(*address)
            for _ in range(random.randrange(20)):
                writer.write(b"hello\\n")
                async with asyncio.timeout(10):
                    await reader.readline()
                await asyncio.sleep(random.random())
            writer.close()
            await asyncio.sleep(random.random() * 3)

    async def worker():
        while True:
            item = await jobs.get()
            async with pool:
                await asyncio.to_thread(time.sleep, random.random() / 10)
            jobs.task_done()

    async def patient(event):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(event.wait(), 1 + random.random() * 4)

    async def cleans_up():
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(random.random() * 2)

    async def periodic():
        while True:
            event, condition = asyncio.Event(), asyncio.Condition()
            async with asyncio.TaskGroup() as group:
                for _ in range(5):
                    group.create_task(patient(event))
                for number in range(3):
                    await jobs.put(number)
                if random.random() < 0.3:
                    event.set()
            await jobs.join()
            tasks = [asyncio.create_task(cleans_up()) for _ in range(3)]
            await asyncio.sleep(random.random() * 3)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            process = await asyncio.create_subprocess_exec("sleep", "1.5")
            await process.wait()

    async def main():
        global table, jobs, pool
        table, jobs, pool = asyncio.Lock(), asyncio.Queue(2), asyncio.Semaphore(2)
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(client(address))
            for _ in range(3):
                group.create_task(worker())
            group.create_task(periodic())
            group.create_task(server.serve_forever())

    asyncio.run(main())
    """


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    minutes = parser.parse_args().minutes
    said = 0
    with tempfile.TemporaryDirectory() as directory:
        running = []
        for name, program in {**HEALTHY, "a service": SERVICE}.items():
            path, log = (Path(directory) / f"{name.replace(' ', '-')}{end}" for end in (".py", ".records"))
            path.write_text("import aioxide as asyncio\n" + textwrap.dedent(program))
            env = {**os.environ, "AIOXIDE_DIAG_LOG": f"jsonl:{log}", "AIOXIDE_BLOCK_MS": "0"}
            running.append((name, log, subprocess.Popen([sys.executable, str(path)], env=env)))
        time.sleep(minutes * 60)
        for name, log, process in running:
            ended = process.poll()
            process.kill()
            process.wait()
            text = log.read_text() if log.exists() else ""
            said += bool(text)
            print(f"{name}: {text or 'nothing'}" + ("" if ended is None else f" (it has ended, with {ended})"))
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
