"""Twenty programs that come to a standstill, and what a person would say of each: the cases of test_diag_deadlock.py.

    python -m tests.diag_deadlocks NAME        run one, to see its report

A line that a task waits at is marked with ``# T``, T being the task's name. Each program stops by itself after a while.
"""

from __future__ import annotations

import inspect
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import aioxide as asyncio


@dataclass(frozen=True)
class Case:
    """A program, and its deadlock: who waits for what, held by whom. An empty ``held``: nobody."""

    program: Callable[[], Coroutine[Any, Any, Any]]
    kind: str
    #: task: (the beginning of what it waits for, who holds it or whom it waits for)
    waits: dict[str, tuple[str, set[str]]]
    #: other tasks that are behind a ring
    behind: set[str] = field(default_factory=set)

    def lines(self) -> dict[str, int]:
        """Where each task waits."""
        source, first = inspect.getsourcelines(self.program)
        marked = {
            line.rpartition("# ")[2].strip(): first + number for number, line in enumerate(source) if "# " in line
        }
        return {name: line for name, line in marked.items() if name in self.waits}


CASES: dict[str, Case] = {}


def case(kind: str, behind: set[str] | None = None, /, **waits: tuple[str, set[str]]) -> Callable[[Any], Any]:
    def add(program: Any) -> Any:
        CASES[program.__name__] = Case(program, kind, waits, behind or set())
        return program

    return add


def spawn(coro: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
    return asyncio.create_task(coro, name=name)


@case("cycle", {"main"}, one=("Lock", {"two"}), two=("Lock", {"one"}))
async def two_locks_in_opposite_order() -> None:
    first, second = asyncio.Lock(), asyncio.Lock()

    async def one() -> None:
        async with first:
            await asyncio.sleep(0)
            async with second:  # one
                pass

    async def two() -> None:
        async with second:
            await asyncio.sleep(0)
            async with first:  # two
                pass

    await asyncio.gather(spawn(one(), "one"), spawn(two(), "two"))


@case("cycle", {"main"}, a=("Lock", {"b"}), b=("Lock", {"c"}), c=("Lock", {"a"}))
async def three_locks_in_a_ring() -> None:
    forks = [asyncio.Lock() for _ in range(3)]

    async def a() -> None:
        async with forks[0]:
            await asyncio.sleep(0.01)
            await forks[1].acquire()  # a

    async def b() -> None:
        async with forks[1]:
            await asyncio.sleep(0.01)
            await forks[2].acquire()  # b

    async def c() -> None:
        async with forks[2]:
            await asyncio.sleep(0.01)
            await forks[0].acquire()  # c

    async with asyncio.TaskGroup() as group:
        for coro in (a, b, c):
            group.create_task(coro(), name=coro.__name__)


@case("cycle", set(), main=("Lock lock", {"main"}))
async def lock_taken_twice() -> None:
    lock = asyncio.Lock()

    async def inner() -> None:
        async with lock:  # main
            pass

    async with lock:
        await inner()


@case("cycle", set(), main=("Task", {"child"}), child=("Lock", {"main"}))
async def lock_held_while_awaiting_who_wants_it() -> None:
    lock = asyncio.Lock()

    async def child() -> None:
        async with lock:  # child
            pass

    async with lock:
        await spawn(child(), "child")  # main


@case("cycle", set(), main=("TaskGroup", {"child"}), child=("Lock", {"main"}))
async def lock_held_over_a_task_group() -> None:
    lock = asyncio.Lock()

    async def child() -> None:
        await lock.acquire()  # child

    async with lock:
        async with asyncio.TaskGroup() as group:  # main
            group.create_task(child(), name="child")


@case("cycle", {"main"}, one=("Task", {"two"}), two=("Task", {"one"}))
async def tasks_that_await_each_other() -> None:
    tasks: dict[str, asyncio.Task[None]] = {}

    async def one() -> None:
        await asyncio.sleep(0)
        await tasks["two"]  # one

    async def two() -> None:
        await asyncio.sleep(0)
        await tasks["one"]  # two

    tasks["one"], tasks["two"] = spawn(one(), "one"), spawn(two(), "two")
    await tasks["one"]


@case("cycle", set(), main=("gather()", {"child"}), child=("Task main", {"main"}))
async def child_joins_its_parent() -> None:
    parent = asyncio.current_task()
    assert parent is not None

    async def child() -> None:
        await parent  # child

    await asyncio.gather(spawn(child(), "child"))  # main


@case("cycle", set(), main=("wait()", {"child"}), child=("shield()", {"main"}))
async def shielded_wait_for_who_waits() -> None:
    parent = asyncio.current_task()
    assert parent is not None

    async def child() -> None:
        await asyncio.shield(parent)  # child

    await asyncio.wait([spawn(child(), "child")])  # main


@case("cycle", {"main"}, one=("Semaphore", {"two"}), two=("Lock", {"one"}))
async def semaphore_and_lock() -> None:
    connections, table = asyncio.Semaphore(1), asyncio.Lock()

    async def one() -> None:
        async with table:
            await asyncio.sleep(0)
            async with connections:  # one
                pass

    async def two() -> None:
        async with connections:
            await asyncio.sleep(0)
            async with table:  # two
                pass

    await asyncio.wait([spawn(one(), "one"), spawn(two(), "two")])


@case("cycle", {"main"}, one=("BoundedSemaphore", {"one", "two"}), two=("BoundedSemaphore", {"one", "two"}))
async def semaphore_taken_twice_by_each() -> None:
    pool = asyncio.BoundedSemaphore(2)

    async def one() -> None:
        async with pool:
            await asyncio.sleep(0)
            async with pool:  # one
                pass

    async def two() -> None:
        async with pool:
            await asyncio.sleep(0)
            await pool.acquire()  # two

    await asyncio.gather(spawn(one(), "one"), spawn(two(), "two"))


@case("cycle", set(), main=("Task", {"child"}), child=("Condition's lock, of condition", {"main"}))
async def notified_but_never_let_in() -> None:
    condition = asyncio.Condition()

    async def child() -> None:
        async with condition:
            await condition.wait()  # child

    task = spawn(child(), "child")
    await asyncio.sleep(0)
    async with condition:
        condition.notify_all()
        await task  # main


@case("quiescent", main=("Event ready", set()))
async def event_that_nobody_sets() -> None:
    ready = asyncio.Event()
    await ready.wait()  # main


@case("quiescent", main=("Future", set()))
async def forgotten_future() -> None:
    answer = asyncio.get_running_loop().create_future()
    await answer  # main


@case("quiescent", main=("Queue.join jobs", set()), worker=("Queue.get jobs", set()))
async def task_done_forgotten() -> None:
    jobs: asyncio.Queue[int] = asyncio.Queue()

    async def worker() -> None:
        while True:
            await jobs.get()  # worker

    worker_task = spawn(worker(), "worker")
    for number in range(3):
        jobs.put_nowait(number)
    await jobs.join()  # main
    worker_task.cancel()


@case("quiescent", main=("Queue.put jobs", set()))
async def full_queue_without_consumer() -> None:
    jobs: asyncio.Queue[int] = asyncio.Queue(2)
    for number in range(3):
        await jobs.put(number)  # main


@case(
    "quiescent", main=("gather()", {"consumer", "producer"}), consumer=("Queue.get", set()), producer=("Event", set())
)
async def consumer_waits_for_a_producer_that_waits() -> None:
    jobs: asyncio.Queue[int] = asyncio.Queue()
    go = asyncio.Event()

    async def consumer() -> None:
        await jobs.get()  # consumer
        go.set()

    async def producer() -> None:
        await go.wait()  # producer
        await jobs.put(1)

    await asyncio.gather(spawn(consumer(), "consumer"), spawn(producer(), "producer"))  # main


@case("quiescent", main=("Barrier", set()), party=("Barrier", set()))
async def barrier_with_too_few_parties() -> None:
    barrier = asyncio.Barrier(3)

    async def party() -> None:
        await barrier.wait()  # party

    task = spawn(party(), "party")
    await asyncio.sleep(0)
    await barrier.wait()  # main
    await task


@case("quiescent", main=("Condition", set()))
async def notified_before_it_waited() -> None:
    condition = asyncio.Condition()
    async with condition:
        condition.notify_all()
    async with condition:
        await condition.wait()  # main


@case("quiescent", main=("Lock lock", {"Task-2 (it has ended)"}))
async def lock_of_a_task_that_has_ended() -> None:
    lock = asyncio.Lock()

    async def careless() -> None:
        await lock.acquire()

    await asyncio.create_task(careless())
    async with lock:  # main
        pass


@case("quiescent", main=("Semaphore", {"holder"}), holder=("Event", set()))
async def semaphore_that_is_never_given_back() -> None:
    slots = asyncio.Semaphore(1)

    async def holder() -> None:
        async with slots:
            await asyncio.Event().wait()  # holder

    task = spawn(holder(), "holder")
    await asyncio.sleep(0)
    async with slots:  # main
        pass
    await task


async def named(program: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.set_name("main")
    if os.environ.get("DIAG_TEST_STARTED"):
        print("begins", file=sys.stderr, flush=True)
    await program()


def main(name: str, seconds: str = "3") -> None:
    """Runs it. The end comes from the kernel, so that nothing in this process is left that could wake anybody."""
    signal.setitimer(signal.ITIMER_REAL, float(seconds))
    asyncio.run(named(CASES[name].program))


if __name__ == "__main__":
    main(*sys.argv[1:])
