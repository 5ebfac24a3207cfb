"""Who cancelled whom, from where and why; and cancellations that come to nothing."""

from __future__ import annotations

import gc
import inspect
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

import aioxide as asyncio
from aioxide import diag
from tests.support import STDLIB, interpreter, records_of

pytestmark = pytest.mark.skipif(STDLIB, reason="asyncio has no diag")


def line(mark: str) -> int:
    """The line of this file that ends with ``# mark``."""
    lines = Path(__file__).read_text().splitlines()
    [number] = [number for number, text in enumerate(lines, 1) if text.endswith("# " + mark)]
    return number


async def stopped(task: asyncio.Task[Any]) -> asyncio.CancelledError:
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    return caught.value


def test_who_and_from_where():
    async def main() -> None:
        task = asyncio.create_task(asyncio.sleep(60))
        await asyncio.sleep(0)
        assert diag.cancel_info(task) is None
        task.cancel("enough")  # who and where
        exception = await stopped(task)
        for info in (diag.cancel_info(task), diag.cancel_info(exception)):
            assert info is not None
            assert (info.by, info.reason, info.requests, info.deliveries) == ("the boss", "cancel()", 1, 1)
            file, number, function = info.site.rsplit(":", 2)
            assert (file, int(number)) == (__file__, line("who and where"))
            assert function == "test_who_and_from_where.<locals>.main"
            assert info.through is None
            assert 0 <= asyncio.get_running_loop().time() - info.at < 10

    async def named() -> None:
        await asyncio.create_task(main(), name="the boss")

    asyncio.run(named())


def test_from_a_callback():
    async def main() -> None:
        task = asyncio.create_task(asyncio.sleep(60))
        asyncio.get_running_loop().call_later(0.01, task.cancel)
        await stopped(task)
        assert diag.cancel_info(task).by is None

    asyncio.run(main())


def test_before_the_first_step_and_more_than_once():
    async def main() -> None:
        task = asyncio.create_task(asyncio.sleep(60))
        task.cancel()
        task.cancel()
        await stopped(task)
        info = diag.cancel_info(task)
        assert (info.requests, info.deliveries) == (2, 1)

    asyncio.run(main())


def test_timeout_is_the_reason():
    async def main() -> None:
        async def wait() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError as exception:
                seen.append(diag.cancel_info(exception))
                raise

        seen: list[Any] = []
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await wait()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wait(), 0.01)
        assert [(info.reason, info.by) for info in seen] == [("timeout", None), ("timeout", None)] or [
            info.reason for info in seen
        ] == ["timeout", "timeout"]

    asyncio.run(main())


def test_task_group_and_gather_are_the_reason():
    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError

    async def main() -> None:
        with pytest.raises(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                waiting = group.create_task(asyncio.sleep(60))
                group.create_task(fail())
        assert diag.cancel_info(waiting).reason == "task group"

        child = asyncio.create_task(asyncio.sleep(60))

        async def gatherer() -> None:
            await asyncio.gather(child)

        parent = asyncio.create_task(gatherer())
        await asyncio.sleep(0)
        parent.cancel()
        await stopped(parent)
        info = diag.cancel_info(child)
        assert info.reason == "gather"
        assert info.through is not None

    asyncio.run(main())


def test_the_one_who_waits_is_named():
    async def main() -> None:
        child = asyncio.create_task(asyncio.sleep(60))

        async def parent() -> None:
            await child

        task = asyncio.create_task(parent(), name="parent")
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        info = diag.cancel_info(child)
        assert (info.through, info.reason) == ("parent", "cancel()")
        await stopped(task)

    asyncio.run(main())


@pytest.mark.parametrize("name", ["parent", None])
def test_the_one_who_waited_is_named_when_he_is_no_more(name):
    async def main() -> None:
        child = asyncio.create_task(asyncio.sleep(60))

        async def parent() -> None:
            names.append(asyncio.current_task().get_name())
            await child

        names: list[str] = []
        task = asyncio.create_task(parent(), name=name)
        await asyncio.sleep(0)
        task.cancel()
        await stopped(task)
        del task
        gc.collect()
        assert [diag.cancel_info(child).through] == names
        # who is cancelled by himself next has nobody to thank
        other = asyncio.create_task(asyncio.sleep(60))
        await asyncio.sleep(0)
        other.cancel()
        await stopped(other)
        assert diag.cancel_info(other).through is None

    asyncio.run(main())


def test_the_end_of_the_program_is_the_reason():
    left: list[asyncio.Task[Any]] = []

    async def main() -> None:
        left.append(asyncio.create_task(asyncio.sleep(60)))
        await asyncio.sleep(0)

    asyncio.run(main())
    assert diag.cancel_info(left[0]).reason == "shutdown"


def test_what_is_no_task():
    with pytest.raises(TypeError, match="a task or a CancelledError was expected, got 5"):
        diag.cancel_info(5)  # type: ignore[arg-type]
    assert diag.cancel_info(asyncio.CancelledError()) is None


def test_nothing_is_kept_alive():
    """Tasks that cancel each other: no reference is left, and no cycle."""

    async def rounds(count: int) -> None:
        for _ in range(count):
            first = asyncio.create_task(asyncio.sleep(60), name="first")
            second = asyncio.create_task(asyncio.sleep(60))
            await asyncio.sleep(0)
            first.cancel()
            second.cancel()
            await asyncio.wait([first, second])

    async def main() -> None:
        await rounds(50)
        gc.collect()
        gc.disable()
        try:
            await rounds(5000)
            assert gc.collect() == 0
        finally:
            gc.enable()

    asyncio.run(main())


def program(body: str) -> str:
    return "import aioxide as asyncio\n" + textwrap.dedent(body) + "\nasyncio.run(main())\n"


def records(body: str, tmp_path: Path, *, wait: float = 30, **environment: str) -> list[dict[str, Any]]:
    """What a program whose main() has this body leaves in its file of records; lines counted from its first."""
    return records_of(program(body), tmp_path, timeout=wait, **{"AIOXIDE_BLOCK_MS": "0", **environment})


def number_of(body: str, mark: str) -> int:
    lines = program(body).splitlines()
    [number] = [number for number, text in enumerate(lines, 1) if text.endswith("# " + mark)]
    return number


SWALLOWS_AND_GOES_ON = """
    async def worker():
        while True:
            try:
                await asyncio.sleep(60)  # thrown
            except asyncio.CancelledError:
                pass
            await asyncio.Event().wait()  # now

    async def main():
        task = asyncio.create_task(worker(), name="worker")
        await asyncio.sleep(0)
        task.cancel()  # by
        await asyncio.sleep(3)
        import os
        os._exit(0)
"""


def test_swallowed_and_goes_on(tmp_path):
    [record] = records(SWALLOWS_AND_GOES_ON, tmp_path)
    assert (record["ev"], record["task"], record["by"]) == ("cancel_swallowed", "worker", "Task-1")
    for key, mark in (("at", "thrown"), ("now", "now"), ("by_site", "by")):
        assert int(record[key].split(":")[1]) == number_of(SWALLOWS_AND_GOES_ON, mark), key
    assert 900 < record["ms"] < 2900
    assert record["how"] == "goes on"


REQUEST = """
    import asyncio as stdlib

    async def fails():
        await asyncio.sleep(0)
        raise ValueError

    async def main():
        try:
            async with {group} as group:
                for _ in range({others}):
                    group.create_task(asyncio.sleep(60))
                group.create_task(fails())
                {body}
        except* ValueError:
            pass
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(60)
        except TimeoutError:
            await asyncio.sleep({pause})
"""


@pytest.mark.parametrize("group", ["asyncio.TaskGroup()", "stdlib.TaskGroup()"])
@pytest.mark.parametrize("pause", [0, 1.5])
@pytest.mark.parametrize("body", ["pass", "await asyncio.sleep(60)"], ids=["at the end", "in the block"])
@pytest.mark.parametrize("others", [0, 1])
def test_a_task_goes_on_after_its_group_has_failed(tmp_path, group, pause, body, others):
    """Up to 3.12 the group calls no uncancel() if it was waiting for its tasks. So `cancelling()` is 1 from then on."""
    text = REQUEST.format(group=group, body=body, pause=pause, others=others)
    assert records(text, tmp_path, AIOXIDE_DEV="1") == []


def test_who_swallows_the_cancellation_by_a_group_in_its_block_is_told_of(tmp_path):
    forgets = """
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    pass
                await asyncio.sleep(1.5)
    """
    for group in ("asyncio.TaskGroup()", "stdlib.TaskGroup()"):
        text = REQUEST.format(group=group, body=forgets.strip(), pause=0, others=1)
        [record] = records(text, tmp_path)
        assert (record["ev"], record["task"], record["how"]) == ("cancel_swallowed", "Task-1", "goes on")


@pytest.mark.parametrize("group", ["asyncio.TaskGroup()", "stdlib.TaskGroup()"])
def test_a_task_whose_groups_fail_again_and_again(tmp_path, group):
    body = f"""
    import asyncio as stdlib

    async def fails():
        raise ValueError

    async def main():
        for _ in range(20):
            try:
                async with {group} as group:
                    group.create_task(fails())
                    group.create_task(asyncio.sleep(60))
            except* ValueError:
                pass
            await asyncio.sleep(0.07)
    """
    assert records(body, tmp_path, AIOXIDE_DEV="1") == []


@pytest.mark.parametrize("group", ["asyncio.TaskGroup()", "stdlib.TaskGroup()"])
@pytest.mark.skipif(sys.version_info >= (3, 13), reason="the group hands it on since 3.13")
def test_what_a_failing_group_loses_for_another_is_told_of(tmp_path, group):
    body = f"""
    import asyncio as stdlib

    async def fails(parent):
        asyncio.get_running_loop().call_soon(parent.cancel)
        raise ValueError

    async def main():
        try:
            async with {group} as group:
                group.create_task(fails(asyncio.current_task()))
        except* ValueError:
            pass
    """
    [record] = records(body, tmp_path, AIOXIDE_DEV="1")
    assert (record["ev"], record["requests"]) == ("cancel_swallowed", 2)


def test_frames_of_ours_are_no_place_that_cancels(tmp_path):
    """In debug mode there is one around each callback."""
    body = """
    async def main():
        try:
            async with asyncio.timeout(0.01):
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    pass
        except TimeoutError:
            pass
    """
    [record] = records(body, tmp_path, PYTHONASYNCIODEBUG="1", AIOXIDE_DEV="1")
    assert (record["ev"], record["reason"], record["by_site"]) == ("cancel_swallowed", "timeout", None)


@pytest.mark.parametrize("dev", ["0", "1"])
def test_who_goes_on_is_warned_of_in_development_only(dev):
    """It may be emptying its queue, as workers do that are told to end."""
    done = interpreter("-c", program(SWALLOWS_AND_GOES_ON), env={"AIOXIDE_DEV": dev}, check=True)
    assert ("Cancellation swallowed: worker goes on" in done.stderr) == (dev == "1"), done.stderr


SWALLOWS_AND_RETURNS = """
    async def worker():
        try:
            await asyncio.sleep(60)  # thrown
        except asyncio.CancelledError:
            pass
        await asyncio.sleep(0.01)

    async def main():
        task = asyncio.create_task(worker(), name="worker")
        await asyncio.sleep(0)
        task.cancel()
        await task
"""


def test_swallowed_and_ends_with_a_result(tmp_path):
    [record] = records(SWALLOWS_AND_RETURNS, tmp_path)
    assert (record["ev"], record["how"]) == ("cancel_swallowed", "ended with a result")
    assert int(record["at"].split(":")[1]) == number_of(SWALLOWS_AND_RETURNS, "thrown")


HEALTHY = """
    async def cleans_up():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0.3)
            raise

    async def cleans_up_at_last():
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.3)

    async def keeps_it_for_later():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError as exception:
            later = exception
        await asyncio.sleep(1.3)
        raise later

    async def ends_at_once():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass

    async def takes_it_back():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            asyncio.current_task().uncancel()
        await asyncio.sleep(1.3)

    async def times_out():
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(60)
        except TimeoutError:
            await asyncio.sleep(1.3)

    async def group():
        async with asyncio.TaskGroup() as group:
            group.create_task(cleans_up())
            await asyncio.sleep(60)

    async def condition():
        condition = asyncio.Condition()
        async with condition:
            await condition.wait()

    async def fails_to_clean_up():
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            raise ValueError

    async def main():
        programs = [cleans_up, cleans_up_at_last, keeps_it_for_later, ends_at_once, takes_it_back, times_out, group, condition,
                    fails_to_clean_up]
        tasks = [asyncio.create_task(program()) for program in programs]
        await asyncio.sleep(0.1)
        for task in tasks:
            if task.get_coro().__name__ != "times_out":
                task.cancel()
        await asyncio.wait(tasks)
        [task.exception() for task in tasks if not task.cancelled()]
"""


def test_what_is_no_swallowing(tmp_path):
    assert records(HEALTHY, tmp_path) == []


SLOW = """
    async def worker():
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(30)  # here

    async def main():
        task = asyncio.create_task(worker(), name="worker")
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(7)
        import os
        os._exit(0)
"""


def test_slow(tmp_path):
    [record] = records(SLOW, tmp_path)
    assert (record["ev"], record["task"]) == ("cancel_slow", "worker")
    assert int(record["at"].split(":")[1]) == number_of(SLOW, "here")
    assert 4900 < record["ms"] < 6900


SWALLOWED_TIMEOUT = """
    async def main():
        async with asyncio.timeout(0.01):
            try:
                await asyncio.sleep(60)  # thrown
            except asyncio.CancelledError:
                pass
            await asyncio.sleep(0.01)
"""


def test_timeout_that_is_swallowed_in_its_block(tmp_path):
    [record] = records(SWALLOWED_TIMEOUT, tmp_path)
    assert (record["ev"], record["reason"]) == ("cancel_swallowed", "timeout")
    assert int(record["at"].split(":")[1]) == number_of(SWALLOWED_TIMEOUT, "thrown")


ENDS_AT_ONCE = """
    async def worker():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass

    async def main():
        task = asyncio.create_task(worker(), name="worker")
        await asyncio.sleep(0)
        task.cancel()
        await task
"""


def test_in_development_ending_at_once_is_told_too(tmp_path):
    assert records(ENDS_AT_ONCE, tmp_path) == []
    [record] = records(ENDS_AT_ONCE, tmp_path, AIOXIDE_DEV="1")
    assert (record["ev"], record["task"]) == ("cancel_swallowed", "worker")


def test_off(tmp_path):
    assert records(SWALLOWS_AND_RETURNS, tmp_path, AIOXIDE_DIAG="0") == []
    assert inspect.signature(diag.cancel_info).parameters
