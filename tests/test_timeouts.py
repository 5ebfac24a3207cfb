"""timeout(), timeout_at(), Timeout."""

from __future__ import annotations

import re
import sys
import time
from typing import Any

import pytest

from tests.support import run, run_hops


def test_expires(aio):
    async def main() -> None:
        loop = aio.get_running_loop()
        start = loop.time()
        with pytest.raises(TimeoutError) as raised:
            async with aio.timeout(0.01) as timeout:
                assert timeout.when() == pytest.approx(start + 0.01, abs=0.05)
                await aio.sleep(10)
        assert timeout.expired() is True
        assert 0.009 < loop.time() - start < 5
        assert isinstance(raised.value.__cause__, aio.CancelledError)
        assert aio.current_task().cancelling() == 0

    run(aio, main())


def test_does_not_expire(aio):
    async def main() -> str:
        async with aio.timeout(10) as timeout:
            await aio.sleep(0)
        assert timeout.expired() is False
        async with aio.timeout(None) as timeout:
            assert timeout.when() is None
        async with aio.timeout_at(None):
            pass
        return "fine"

    assert run(aio, main()) == "fine"


def test_takes_no_hop(aio):
    async def main() -> None:
        async with aio.timeout(10):
            pass

    assert run_hops(aio, main())[1] == 0


@pytest.mark.parametrize("delay", [0, -1])
def test_zero_and_past(aio, delay):
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with aio.timeout(delay):
                await aio.sleep(10)
        with pytest.raises(TimeoutError):
            async with aio.timeout_at(aio.get_running_loop().time() + delay):
                await aio.sleep(10)
        # it never suspends: nothing to cancel
        async with aio.timeout(delay):
            pass
        await aio.sleep(0)

    run(aio, main())


def test_fires_after_the_body(aio):
    """A deadline that passes while the body does not await is too late at the exit."""

    async def main() -> None:
        async with aio.timeout(0.001) as timeout:
            time.sleep(0.005)
        assert not timeout.expired()
        await aio.sleep(0.002)
        assert aio.current_task().cancelling() == 0

    run(aio, main())


def test_other_exceptions_pass(aio):
    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            async with aio.timeout(10):
                1 / 0  # noqa: B018
        with pytest.raises(KeyError):
            async with aio.timeout(0.001):
                try:
                    await aio.sleep(10)
                except aio.CancelledError:
                    raise KeyError from None

    run(aio, main())


def test_cancelled_from_outside(aio):
    async def body() -> None:
        async with aio.timeout(10):
            await aio.sleep(10)

    async def main() -> None:
        task = aio.create_task(body())
        await aio.sleep(0)
        task.cancel("outside")
        with pytest.raises(aio.CancelledError, match="outside"):
            await task
        assert task.cancelling() == 1

    run(aio, main())


def test_cancelled_from_outside_and_expired(aio):
    """Both at once: the cancellation is not turned into a timeout."""

    async def body() -> None:
        async with aio.timeout(0) as timeout:
            aio.current_task().cancel("outside")
            await aio.sleep(10)
        assert timeout

    async def main() -> None:
        task = aio.create_task(body())
        with pytest.raises(aio.CancelledError):
            await task
        assert task.cancelled()

    run(aio, main())


def test_nested(aio):
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with aio.timeout(10) as outer:
                async with aio.timeout(0.001) as inner:
                    await aio.sleep(10)
        assert (outer.expired(), inner.expired()) == (False, True)
        with pytest.raises(TimeoutError):
            async with aio.timeout(0.001) as outer:
                async with aio.timeout(10) as inner:
                    await aio.sleep(10)
        assert (outer.expired(), inner.expired()) == (True, False)
        with pytest.raises(TimeoutError):
            async with aio.timeout(0) as outer, aio.timeout(0) as inner:
                await aio.sleep(10)
        assert aio.current_task().cancelling() == 0

    run(aio, main())


def test_after_an_earlier_cancellation(aio):
    """A task that is being cancelled may still use a timeout for its clean-up."""

    async def body() -> str:
        try:
            await aio.sleep(10)
        except aio.CancelledError:
            with (
                pytest.raises(TimeoutError)
                if sys.version_info >= (3, 12)
                else pytest.raises((TimeoutError, aio.CancelledError))
            ):
                async with aio.timeout(0.001):
                    await aio.sleep(10)
            return "cleaned up"
        return "never"

    async def main() -> None:
        task = aio.create_task(body())
        await aio.sleep(0)
        task.cancel()
        assert await task == "cleaned up"

    run(aio, main())


def test_reschedule(aio):
    async def main() -> None:
        loop = aio.get_running_loop()
        async with aio.timeout(0.005) as timeout:
            timeout.reschedule(loop.time() + 10)
            assert timeout.when() > loop.time() + 9
            await aio.sleep(0.01)
            timeout.reschedule(None)
            assert timeout.when() is None
        with pytest.raises(TimeoutError):
            async with aio.timeout(None) as timeout:
                timeout.reschedule(loop.time() - 1)
                await aio.sleep(10)

    run(aio, main())


def test_misuse(aio):
    async def main() -> None:
        timeout = aio.timeout(1)
        with pytest.raises(RuntimeError, match="Timeout has not been entered"):
            timeout.reschedule(1)
        async with timeout:
            with pytest.raises(RuntimeError, match="Timeout has already been entered"):
                await timeout.__aenter__()
        with pytest.raises(
            RuntimeError, match="Cannot change state of finished Timeout|Cannot change state of expired Timeout"
        ):
            timeout.reschedule(1)
        with pytest.raises(RuntimeError, match="Timeout has already been entered"):
            async with timeout:
                pass
        with pytest.raises(TypeError):
            with aio.timeout(1):
                pass

    run(aio, main())


def test_needs_a_task(aio):
    loop = aio.new_event_loop()
    errors: list[Any] = []

    def callback() -> None:
        try:
            aio.timeout(1).__aenter__().send(None)
        except RuntimeError as error:
            errors.append(str(error))
        loop.stop()

    loop.call_soon(callback)
    loop.run_forever()
    loop.close()
    assert errors == ["Timeout should be used inside a task"]
    with pytest.raises(RuntimeError, match="no running event loop"):
        aio.timeout(1)


def test_repr(aio):
    async def main() -> None:
        timeout = aio.timeout(10)
        assert repr(timeout) == "<Timeout [created]>"
        async with timeout:
            assert re.fullmatch(r"<Timeout \[active\] when=[\d.]+>", repr(timeout))
        assert re.fullmatch(r"<Timeout \[finished\]( when=[\d.]+)?>", repr(timeout))
        with pytest.raises(TimeoutError):
            async with aio.timeout(0) as timeout:
                await aio.sleep(1)
        assert re.fullmatch(r"<Timeout \[expired\]( when=[\d.]+)?>", repr(timeout))

    run(aio, main())


def test_swallowed_timeout(aio):
    """A body that swallows the CancelledError runs on, and no timeout is raised."""

    async def main() -> None:
        async with aio.timeout(0.001) as timeout:
            try:
                await aio.sleep(10)
            except aio.CancelledError:
                pass
        assert timeout.expired()
        assert aio.current_task().cancelling() == 0

    run(aio, main())


def test_timeout_error_in_a_context_chain(aio):
    """3.13: the TimeoutError takes the CancelledError's place in the chain of another exception."""

    async def main() -> None:
        with pytest.raises(ZeroDivisionError) as raised:
            async with aio.timeout(0.001):
                try:
                    await aio.sleep(10)
                finally:
                    1 / 0  # noqa: B018
        expected = TimeoutError if sys.version_info >= (3, 13) else aio.CancelledError
        assert type(raised.value.__context__) is expected

    run(aio, main())


def test_thousands_of_timeouts(aio):
    async def quick(n: int) -> int:
        async with aio.timeout(60):
            await aio.sleep(0)
        return n

    async def main() -> None:
        for _ in range(20):
            assert len(await aio.gather(*(quick(n) for n in range(200)))) == 200

    run(aio, main())


def test_timers_that_are_gone_are_not_counted_as_cancelled(aio):
    """The loop counts cancelled timers to know when to clean up; those that have rung are no longer there."""

    async def main() -> None:
        loop = aio.get_running_loop()
        count = lambda: loop._timer_cancelled_count  # noqa: E731
        before = count()
        # rung, and then taken back
        await aio.wait([loop.create_future()], timeout=0.001)
        with pytest.raises(TimeoutError):
            await aio.wait_for(loop.create_future(), 0.001)
        with pytest.raises(TimeoutError):
            async with aio.timeout(0.001):
                await loop.create_future()
        # asleep until it rang, and cancelled before it could go on
        for delay in (0.001, 0.002):
            sleeper = aio.create_task(aio.sleep(delay))
            await aio.sleep(0)
            loop.call_at(loop.time() + delay, lambda sleeper=sleeper: sleeper.cancel())
            time.sleep(delay)
            await aio.wait([sleeper])
        assert count() == before == 0
        # still there, behind one that is not cancelled
        loop.call_later(500, print)
        async with aio.timeout(1000):
            pass
        sleeper = aio.create_task(aio.sleep(1000))
        await aio.sleep(0)
        sleeper.cancel()
        await aio.wait([sleeper])
        assert count() == 2

    run(aio, main())
