"""run() and Runner."""

from __future__ import annotations

import contextvars
import gc
import sys
from typing import Any

import pytest

from tests.support import STDLIB, Reports, newer, succeeds


async def value(result: Any) -> Any:
    return result


def test_run(aio):
    assert aio.run(value("r")) == "r"
    assert aio._get_running_loop() is None


def test_run_debug(aio):
    async def debugging() -> bool:
        return aio.get_running_loop().get_debug()

    assert aio.run(debugging(), debug=True) is True
    assert aio.run(debugging(), debug=False) is False


@newer((3, 12))
def test_run_loop_factory(aio):
    made = []

    def factory() -> Any:
        made.append(aio.new_event_loop())
        return made[-1]

    async def running() -> Any:
        return aio.get_running_loop()

    assert aio.run(running(), loop_factory=factory) is made[0]
    assert made[0].is_closed()


def test_run_exception(aio):
    async def fails() -> None:
        raise LookupError("x")

    with pytest.raises(LookupError, match="x"):
        aio.run(fails())


def test_run_wants_a_coroutine(aio):
    error = TypeError if sys.version_info >= (3, 14) else ValueError
    for bad in (5, None, value):
        with pytest.raises(
            error, match="a coroutine was expected|An asyncio.Future, a coroutine or an awaitable is required"
        ):
            aio.run(bad)


def test_run_inside_a_loop(aio):
    async def main() -> None:
        coroutine = value(1)
        with pytest.raises(RuntimeError, match=r"asyncio.run\(\) cannot be called from a running event loop"):
            aio.run(coroutine)
        coroutine.close()

    aio.run(main())


def test_run_cancels_what_is_left(aio):
    async def forever(name: str) -> None:
        try:
            await aio.sleep(100)
        finally:
            log.append(name)

    async def main() -> None:
        for name in "ab":
            aio.create_task(forever(name))
        await aio.sleep(0)

    log: list[str] = []
    aio.run(main())
    assert sorted(log) == ["a", "b"]


def test_run_reports_failing_clean_up(aio):
    reports = Reports()

    async def bad() -> None:
        try:
            await aio.sleep(100)
        finally:
            raise LookupError("clean-up")

    async def main() -> None:
        aio.get_running_loop().set_exception_handler(reports)
        aio.create_task(bad())
        await aio.sleep(0)

    aio.run(main())
    assert reports.messages == ["unhandled exception during asyncio.run() shutdown"]
    assert str(reports.contexts[0]["exception"]) == "clean-up"


def test_run_closes_generators_and_executor(aio):
    async def generator() -> Any:
        try:
            yield 1
        finally:
            log.append("closed")

    async def main() -> None:
        kept.append(generator())
        await anext(kept[0])
        await aio.to_thread(log.append, "thread")

    log: list[str] = []
    kept: list[Any] = []
    aio.run(main())
    assert log == ["thread", "closed"]


def test_event_loop_is_unset_afterwards(aio):
    succeeds(
        """
        async def main(): pass
        aio.run(main())
        try:
            aio.get_event_loop()
        except RuntimeError:
            print("none")
        """
    )


def test_runner(aio):
    with aio.Runner() as runner:
        loop = runner.get_loop()
        assert runner.run(value(1)) == 1
        assert runner.run(value(2)) == 2
        assert runner.get_loop() is loop
        assert not loop.is_closed()
    assert loop.is_closed()
    for call in (runner.get_loop, lambda: runner.run(None)):
        with pytest.raises((RuntimeError, ValueError, TypeError)):
            call()
    runner.close()


def test_runner_is_lazy(aio):
    made = []
    runner = aio.Runner(loop_factory=lambda: made.append(1))
    assert made == []
    runner.close()
    assert made == []


def test_runner_keeps_its_context(aio):
    var = contextvars.ContextVar("var", default=0)

    async def count() -> int:
        var.set(var.get() + 1)
        return var.get()

    with aio.Runner() as runner:
        assert [runner.run(count()) for _ in range(3)] == [1, 2, 3]
        own = contextvars.copy_context()
        assert runner.run(count(), context=own) == 1
        assert own[var] == 1
    assert var.get() == 0


def test_runner_tasks_live_on(aio):
    async def background() -> None:
        for n in range(10):
            log.append(n)
            await aio.sleep(0)

    async def start() -> Any:
        return aio.create_task(background())

    log: list[int] = []
    with aio.Runner() as runner:
        task = runner.run(start())
        runner.run(value(None))
        assert 0 < len(log) < 10

        async def finish() -> None:
            await task

        runner.run(finish())
        assert len(log) == 10


def test_runner_custom_loop_factory(aio):
    plain = aio.new_event_loop()
    plain.close()

    class Loop(type(plain)):
        pass

    with aio.Runner(loop_factory=Loop) as runner:
        assert type(runner.get_loop()) is Loop
        assert runner.run(value("x")) == "x"


def test_runner_debug(aio):
    with aio.Runner(debug=True) as runner:
        assert runner.get_loop().get_debug()


def test_runner_failed_factory(aio):
    def factory() -> Any:
        raise LookupError("factory")

    with pytest.raises(LookupError, match="factory"):
        with aio.Runner(loop_factory=factory) as runner:
            runner.run(value(1))


def test_system_exit(aio):
    async def main() -> None:
        aio.create_task(aio.sleep(100))
        await aio.sleep(0)
        raise SystemExit(7)

    with pytest.raises(SystemExit) as raised:
        aio.run(main())
    assert raised.value.code == 7
    gc.collect()


def test_cancelled_main(aio):
    async def main() -> None:
        aio.current_task().cancel("me")
        await aio.sleep(0)

    with pytest.raises(aio.CancelledError, match="me"):
        aio.run(main())


def test_run_in_threads(aio):
    """Not only the main thread may run a loop; there, no signal handler is installed."""
    import threading

    results: list[Any] = []
    threads = [threading.Thread(target=lambda n=n: results.append(aio.run(value(n)))) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [0, 1, 2, 3]


@pytest.mark.parametrize("times", [50])
def test_run_leaves_nothing_open(aio, times):
    import os

    before = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
    for n in range(times):
        assert aio.run(value(n)) == n
    gc.collect()
    if sys.platform == "linux":
        assert len(os.listdir("/proc/self/fd")) <= before + 1


@pytest.mark.skipif(STDLIB, reason="asyncio's own, of course")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_policy_that_was_set_is_honoured(aio):
    """`import aioxide as asyncio; asyncio.set_event_loop_policy(…)`: the program has said which loops it wants."""
    body = """
    import asyncio, warnings
    warnings.simplefilter("ignore")

    async def main():
        return aio.get_running_loop()

    assert isinstance(aio.run(main()), aio.EventLoop)

    class Loop(aio.EventLoop):
        pass

    class Policy(asyncio.DefaultEventLoopPolicy):
        def new_event_loop(self):
            return Loop()

    for policy, kind in ((Policy(), Loop), (aio.EventLoopPolicy(), aio.EventLoop), (None, aio.EventLoop)):
        aio.set_event_loop_policy(policy)
        assert type(aio.run(main())) is kind, policy
        with aio.Runner() as runner:
            assert type(runner.get_loop()) is kind, policy
        assert type(aio.run(main(), loop_factory=aio.EventLoop)) is aio.EventLoop
    """
    succeeds(body)
