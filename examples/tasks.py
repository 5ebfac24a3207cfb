"""Two tasks that wait at the same time: four seconds in all, not six."""

import asyncio


async def task(name, delay):
    await asyncio.sleep(delay)
    print(f"Task {name} completed")


async def main():
    await asyncio.gather(task("Task 1", 4), task("Task 2", 2))


asyncio.run(main())
