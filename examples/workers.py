"""A bounded queue between one producer and three workers."""

import asyncio


async def worker(queue, done):
    while True:
        number = await queue.get()
        await asyncio.sleep(0.001)
        done.append(number * number)
        queue.task_done()


async def main():
    queue = asyncio.Queue(maxsize=10)
    done = []
    workers = [asyncio.create_task(worker(queue, done), name=f"worker {n}") for n in range(3)]
    for number in range(100):
        await queue.put(number)  # waits while ten are pending
    await queue.join()
    for task in workers:
        task.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    print(f"{len(done)} squares, their sum is {sum(done)}")


asyncio.run(main())
