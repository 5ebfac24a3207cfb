"""A task group with a deadline: one task fails or the time is up, and the others are cancelled."""

import asyncio


async def step(name, delay):
    try:
        await asyncio.sleep(delay)
        print(f"{name}: done")
    except asyncio.CancelledError:
        print(f"{name}: cancelled")
        raise


async def fails():
    await asyncio.sleep(0.02)
    raise ValueError("no such page")


async def main():
    try:
        async with asyncio.timeout(0.05), asyncio.TaskGroup() as group:
            group.create_task(step("quick", 0.01))
            group.create_task(step("slow", 10))
    except TimeoutError:
        print("the time is up")

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(step("sibling", 10))
            group.create_task(fails())
    except* ValueError as group_of_errors:
        print(f"failed: {group_of_errors.exceptions[0]}")


asyncio.run(main())
