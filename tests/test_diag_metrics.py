"""The figures of the loops: that they are right, and that Prometheus' parser and OpenTelemetry's SDK read them."""

import threading
import time
from dataclasses import FrozenInstanceError, fields

import prometheus_client.parser
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import aioxide
from aioxide import diag
from aioxide._core import diag as core
from tests.support import STDLIB, python

pytestmark = pytest.mark.skipif(STDLIB, reason="aioxide's own")


def histogram(**counts):
    """One with the bounds 1, 2 and 4 seconds; `at1` … are how many there were in each bucket."""
    buckets = (counts.get("at1", 0), counts.get("at2", 0), counts.get("at4", 0), counts.get("over", 0))
    return diag.Histogram((1.0, 2.0, 4.0), buckets, counts.get("sum", 0.0), counts.get("max", 0.0))


def figures(loop, tasks=False):
    """Those of one loop."""
    number = loop_number(loop)
    return next(found for found in diag.metrics(tasks=tasks).loops if found.number == number)


def loop_number(loop):
    """Loops are numbered by their first run; the one that has just been made is the last."""
    return loop.number


@pytest.fixture
def loop():
    loop = aioxide.new_event_loop()
    loop.run_until_complete(aioxide.sleep(0))
    loop.number = max(found.number for found in diag.metrics().loops)
    yield loop
    loop.close()


# -- histograms ---------------------------------------------------------------------------------------------------------


def test_quantiles_lie_in_their_bucket():
    spread = histogram(at1=10, at2=80, at4=10, sum=150.0, max=3.0)
    assert spread.count == 100
    assert spread.mean == 1.5
    assert spread.quantile(0.05) == 0.5
    assert spread.quantile(0.5) == 1.5
    assert spread.quantile(1.0) == 3.0
    assert histogram().quantile(0.5) is None
    assert histogram().mean is None
    assert histogram(over=1, sum=9.0, max=9.0).quantile(1) == 9.0
    with pytest.raises(ValueError, match="between 0 and 1"):
        spread.quantile(1.5)


def test_since_leaves_what_has_come_in_between():
    earlier = histogram(at1=3, sum=2.0, max=1.0)
    later = histogram(at1=4, at2=1, sum=4.0, max=1.5)
    assert later.since(earlier) == histogram(at1=1, at2=1, sum=2.0, max=1.5)


def test_figures_cannot_be_changed(loop):
    found = figures(loop)
    for part in (diag.metrics(), found, found.lag):
        with pytest.raises(FrozenInstanceError):
            setattr(part, fields(part)[0].name, None)


# -- what is counted ----------------------------------------------------------------------------------------------------


def test_turns_and_entries_are_exact(loop):
    before = figures(loop)

    async def steps():
        for _ in range(1000):
            await aioxide.sleep(0)

    loop.run_until_complete(steps())
    after = figures(loop)
    # and the first step, what wakes up run_until_complete, and the turn after stop()
    assert 1001 <= after.entries - before.entries <= 1005
    assert 1001 <= after.turns - before.turns <= 1005


def test_what_waits_is_counted(loop):
    async def main():
        handles = [loop.call_later(60, print) for _ in range(5)]
        waiting = [loop.create_task(aioxide.sleep(60)) for _ in range(7)]
        for _ in range(3):
            loop.call_soon(lambda: None)
        first = figures(loop)
        assert (first.tasks, first.timers) == (8, 5)
        assert first.ready == 10, "the tasks' first steps and the callbacks"
        await aioxide.sleep(0)
        second = figures(loop)
        assert (second.tasks, second.timers) == (8, 12)
        assert second.is_running
        for waiter in (*handles, *waiting):
            waiter.cancel()
        await aioxide.gather(*waiting, return_exceptions=True)
        assert figures(loop).tasks == 1

    loop.run_until_complete(main())
    assert not figures(loop).is_running
    assert figures(loop).tasks == 0


def test_steps_of_each_task_are_exact(loop):
    async def steps(count):
        for _ in range(count):
            await aioxide.sleep(0)
        await forever

    async def main():
        tasks = [loop.create_task(steps(count), name=f"counts {count}") for count in (0, 10, 300)]
        unnamed = loop.create_task(steps(5))
        for _ in range(305):
            await aioxide.sleep(0)
        found = {task.name: task for task in figures(loop, tasks=True).by_task}
        name = "test_steps_of_each_task_are_exact.<locals>.steps"
        for task, count in zip(tasks, (0, 10, 300), strict=True):
            assert found[task.get_name()].steps == count + 1
            assert found[task.get_name()].coroutine == name
        assert found[unnamed.get_name()].steps == 6
        assert len(found) == 5
        forever.set_result(None)
        await aioxide.gather(*tasks, unnamed)

    forever = loop.create_future()
    loop.run_until_complete(main())
    assert diag.metrics().loops[0].by_task == ()


def test_times_add_up(loop):
    async def main():
        await aioxide.sleep(0.2)
        time.sleep(0.1)
        until = time.thread_time() + 0.1
        while time.thread_time() < until:
            pass

    before = figures(loop)
    began = time.monotonic()
    loop.run_until_complete(main())
    ended = time.monotonic()
    after = figures(loop)
    running, idle = after.running - before.running, after.idle - before.idle
    assert 0.4 <= running <= ended - began + 0.001
    assert 0.2 <= idle <= running - 0.2
    assert 0 < after.utilisation < 1
    assert after.cpu is None, "no thread runs it now"


def test_cpu_time_is_that_of_the_thread(loop):
    async def main():
        first = figures(loop).cpu
        time.sleep(0.1)
        second = figures(loop).cpu
        until = time.thread_time() + 0.1
        while time.thread_time() < until:
            pass
        assert second - first < 0.09
        assert abs(figures(loop).cpu - time.thread_time()) < 0.05
        assert figures(loop).cpu - second >= 0.1

    loop.run_until_complete(main())


def test_waiting_for_the_gil_is_told_apart(loop):
    def hog():
        while not over.is_set():
            sum(range(10_000))

    async def main():
        thread = threading.Thread(target=hog)
        thread.start()
        for _ in range(30):
            await aioxide.sleep(0.001)
        over.set()
        thread.join()

    over = threading.Event()
    before = figures(loop)
    loop.run_until_complete(main())
    after = figures(loop)
    assert after.held - before.held > 0.03, "30 sleeps, and a switch interval of 5 ms after most of them"
    assert after.held + after.idle <= after.running


def test_a_timer_that_is_late_is_seen(loop):
    async def main():
        loop.call_later(0.01, lambda: None)
        loop.call_later(0.02, lambda: None)
        time.sleep(0.15)
        await aioxide.sleep(0)
        await aioxide.sleep(0)

    before = figures(loop).timer_lag
    loop.run_until_complete(main())
    after = figures(loop).timer_lag
    assert after.count - before.count == 1, "the first of those that are due together"
    assert 0.13 < after.sum - before.sum < 5
    assert after.max >= 0.13


@pytest.fixture
def unwatched():
    before = diag.settings()["block_ms"]
    diag.configure(block_ms=0)
    yield
    diag.configure(block_ms=before)


def test_lag_is_how_long_what_is_ready_has_to_wait(loop, unwatched):
    """By hand, what a watcher does: it looks while a callback runs, and in front of what it would add stand two more."""

    def slow():
        time.sleep(0.05)

    async def main():
        loop.call_soon(slow)
        loop.call_soon(slow)
        assert core._look(loop)
        assert not core._look(loop), "the loop knows"
        for _ in range(5):
            await aioxide.sleep(0)

    before = figures(loop).lag
    loop.run_until_complete(main())
    after = figures(loop).lag
    assert after.count - before.count == 2, "one for each look"
    assert after.max >= 0.1
    assert 0.2 <= after.sum - before.sum < 5


def test_lag_ends_where_the_loop_has_nothing_to_do(loop, unwatched):
    async def main():
        core._look(loop)
        await aioxide.sleep(0.2)

    before = figures(loop).lag
    loop.run_until_complete(main())
    after = figures(loop).lag
    assert after.count - before.count == 1
    assert after.sum - before.sum < 0.15, "the sleep does not count"


def test_callbacks_are_sampled(loop):
    async def main():
        for _ in range(3000):
            await aioxide.sleep(0)

    before = figures(loop).callbacks
    loop.run_until_complete(main())
    after = figures(loop).callbacks
    assert 3000 / 128 <= after.count - before.count <= 3000 / 96 + 1


def test_tasks_that_take_turns_are_all_sampled():
    """No period of the program hides a task from the sample."""
    program = """
    import aioxide, time
    from aioxide import diag

    async def steps(slow):
        for _ in range(400):
            if slow:
                time.sleep(0.0005)
            await aioxide.sleep(0)

    async def main():
        await aioxide.gather(*[steps(number == 5) for number in range(128)])
        callbacks = diag.metrics().loops[0].callbacks
        slow = sum(n for n, bound in zip(callbacks.counts, (*callbacks.bounds, 99)) if bound > 0.0005)
        # 1 in 128 of about 460 samples
        print(0 < slow < 30)

    aioxide.run(main())
    """
    done = python(program)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_closed_loops_and_dead_ones_are_not_listed(loop):
    def numbers():
        return {found.number for found in diag.metrics().loops}

    other = aioxide.new_event_loop()
    other.run_until_complete(aioxide.sleep(0))
    number = max(numbers())
    assert number != loop.number
    other.close()
    assert number not in numbers()
    assert loop.number in numbers()


def test_any_thread_may_ask(loop):
    async def main():
        thread = threading.Thread(target=lambda: found.append(figures(loop)))
        thread.start()
        thread.join()

    found = []
    loop.run_until_complete(main())
    assert found[0].is_running
    assert found[0].tasks == 1


def test_a_child_has_figures_of_its_own():
    program = """
    import os, time, warnings
    from aioxide import diag

    async def burn():
        until = time.thread_time() + 0.1
        while time.thread_time() < until:
            pass

    async def check():
        metrics = diag.metrics()
        assert metrics.pid == os.getpid()
        assert metrics.loops[0].cpu < 0.09, metrics.loops[0].cpu

    loop = aio.new_event_loop()
    loop.run_until_complete(burn())
    child = os.fork()
    if not child:
        loop.run_until_complete(check())
        os._exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    loop.close()
    """
    done = python(program)
    assert done.stdout == "7\n", done.stderr


def test_without_diagnostics_there_are_no_figures():
    program = """
    import aioxide
    from aioxide import diag

    async def main():
        await aioxide.sleep(0.01)
        print(diag.metrics().loops, diag.prometheus())

    aioxide.run(main())
    """
    done = python(program, env={"AIOXIDE_DIAG": "0"})
    assert (done.stdout, done.stderr) == ("() # no figures: AIOXIDE_DIAG=0 is set\n\n", "")


BLOCKS = """
import time, sys
from aioxide import diag
diag.configure(block_ms=50, on_event=lambda record: None, log="jsonl:/dev/null")

begun = []  # when steps began: what keeps the loop from going on lies between two of these

def figures():
    (loop,) = diag.metrics(tasks=True).loops
    return loop, {task.name: task.busy for task in loop.by_task}

async def short():
    for _ in range(300):
        begun.append(time.monotonic())
        time.sleep(0.001)
        await aio.sleep(0)

async def long():
    me = aio.current_task().get_name()
    for _ in range(3):
        begun.append(time.monotonic())
        loop, busy = figures()
        blocks, wanted = loop.blocks, busy.get(me, 0) + 0.1
        # until the watcher has noticed it, however late it is on a machine with other things to do
        while time.monotonic() < begun[-1] + 0.2 or loop.blocks == blocks or busy.get(me, 0) < wanted:
            if time.monotonic() > begun[-1] + 20:
                raise SystemExit("nobody has noticed")
            time.sleep(0.01)
            loop, busy = figures()
        await aio.sleep(0)
    begun.append(time.monotonic())
    await aio.sleep(60)

async def main():
    tasks = [aio.create_task(short(), name="short"), aio.create_task(long(), name="long")]
    unnamed = aio.create_task(long())
    await tasks[0]
    await aio.sleep(0.05)
    loop, busy = figures()
    gaps = [gap for gap in (after - before for before, after in zip(begun, begun[1:])) if gap >= 0.05]
    print(loop.blocks, loop.blocked, loop.lag.count, loop.lag.max, busy, gaps, file=sys.stderr)
    print(6 <= loop.blocks <= len(gaps), 6 * 0.05 <= loop.blocked <= sum(gaps) + 0.1)
    # (a look counts for the time since the one before)
    mine = (busy["long"], busy[unnamed.get_name()])
    print(all(0.3 <= each <= sum(gaps) for each in mine), sum(mine) <= sum(gaps) + 0.2, "short" in busy)
    # whatever was looked at while one of them kept the loop had to wait for what was left of that
    print(loop.lag.count >= 6, loop.lag.max > 0.1)
    for task in (tasks[1], unnamed):
        task.cancel()

aio.run(main())
"""


def test_the_watcher_counts_blocks_and_samples_tasks_and_lag():
    done = python(BLOCKS, timeout=150)
    assert done.stdout.splitlines() == ["True True", "True True False", "True True"], done.stderr


# -- who reads it -------------------------------------------------------------------------------------------------------


def test_prometheus_reads_it(loop):
    async def main():
        for _ in range(300):
            await aioxide.sleep(0)
        await aioxide.sleep(0.01)
        return diag.prometheus(), figures(loop)

    text, found = loop.run_until_complete(main())
    families = {family.name: family for family in prometheus_client.parser.text_string_to_metric_families(text)}
    assert all(family.documentation for family in families.values())
    assert {family.type for family in families.values()} == {"counter", "gauge", "histogram"}

    def value(family, name, **labels):
        wanted = {"loop": str(loop.number), **labels}
        return next(s.value for s in families[family].samples if s.name == name and s.labels == wanted)

    assert value("aioxide_loop_entries", "aioxide_loop_entries_total") == found.entries
    assert value("aioxide_loop_turns", "aioxide_loop_turns_total") == found.turns
    assert value("aioxide_loop_tasks", "aioxide_loop_tasks") == 1
    assert value("aioxide_loop_is_running", "aioxide_loop_is_running") == 1
    idle = value("aioxide_loop_idle_seconds", "aioxide_loop_idle_seconds_total")
    assert abs(idle - found.idle) < 1e-9
    for field, name in [
        ("lag", "aioxide_loop_lag_seconds"),
        ("timer_lag", "aioxide_loop_timer_lag_seconds"),
        ("callbacks", "aioxide_loop_callback_seconds"),
    ]:
        counts = getattr(found, field)
        buckets = [
            (float(s.labels["le"]), s.value)
            for s in families[name].samples
            if s.name == f"{name}_bucket" and s.labels["loop"] == str(loop.number)
        ]
        assert buckets == sorted(buckets)
        assert [bound for bound, _ in buckets] == [*counts.bounds, float("inf")]
        assert buckets[-1][1] == value(name, f"{name}_count") == counts.count
        assert abs(value(name, f"{name}_sum") - counts.sum) < 1e-6
    assert found.callbacks.count > 0
    assert found.timer_lag.count > 0


def test_opentelemetry_reads_it(loop):
    reader = InMemoryMetricReader()
    diag.opentelemetry(MeterProvider([reader]))

    def collected():
        data = reader.get_metrics_data()
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics]
        assert [(scope.scope.name, scope.scope.version) for scope in scopes] == [("aioxide", aioxide.__version__)]
        return {
            metric.name: {
                tuple(sorted(point.attributes.items())): point.value
                for point in metric.data.data_points
                if point.attributes["loop"] == loop.number
            }
            for scope in scopes
            for metric in scope.metrics
        }

    async def main():
        for _ in range(300):
            await aioxide.sleep(0)
        await aioxide.sleep(0.01)
        return collected(), figures(loop)

    found, expected = loop.run_until_complete(main())
    key = (("loop", loop.number),)
    assert found["aioxide.loop.entries"] == {key: expected.entries}
    assert found["aioxide.loop.tasks"] == {key: 1}
    assert found["aioxide.loop.callback_time.count"] == {key: expected.callbacks.count}
    assert found["aioxide.loop.time"][(*key, ("state", "idle"))] == expected.idle
    assert set(found["aioxide.loop.time"]) == {(*key, ("state", state)) for state in ("idle", "held", "active")}
    quantiles = found["aioxide.loop.callback_time"]
    assert quantiles[(*key, ("quantile", "1.0"))] == expected.callbacks.max
    assert quantiles[(*key, ("quantile", "0.5"))] == expected.callbacks.quantile(0.5)
    collected()
    assert not collected().get("aioxide.loop.callback_time"), "nothing has run since the collection before"


def test_without_opentelemetry_it_says_what_is_missing():
    program = """
    import sys
    sys.modules["opentelemetry"] = None
    from aioxide import diag
    try:
        diag.opentelemetry()
    except ImportError as error:
        print(error.name)
    """
    done = python(program)
    assert done.stdout == "opentelemetry.metrics\n", done.stderr
