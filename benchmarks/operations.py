"""What is measured. Each operation is one coroutine function ``(aio, n) -> Sample``.

``aio`` is the namespace under test, ``n`` how many operations to time, about: the sample says how many there were.
Setting up (making the queue, the tasks, the lists) stays outside the clock where it is not the thing measured.
"""

import math
import random
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any

from . import pages


@dataclass(frozen=True)
class Sample:
    nanoseconds: int
    operations: int

    @property
    def per_operation(self) -> float:
        return self.nanoseconds / self.operations


@dataclass(frozen=True)
class Operation:
    """``goal``: how many times faster than uvloop aioxide has to be. ``fixed``: the size, where it must not vary."""

    key: str
    title: str
    run: Callable[[Any, int], Awaitable[Sample]]
    goal: float | None = None
    fixed: int | None = None


OPERATIONS: dict[str, Operation] = {}


def operation(key: str, title: str, goal: float | None = None, fixed: int | None = None):
    """Adds the function to OPERATIONS."""

    def add(run):
        OPERATIONS[key] = Operation(key, title, run, goal, fixed)
        return run

    return add


async def nothing() -> None:
    pass


def no_callback() -> None:
    pass


# --- steps and wake-ups ---


@operation("sleep0", "await sleep(0), 100 tasks", goal=5)
async def sleep0(aio, n):
    rounds = math.ceil(n / 100)

    async def task():
        sleep = aio.sleep
        for _ in range(rounds):
            await sleep(0)

    started = perf_counter_ns()
    await aio.gather(*[task() for _ in range(100)])
    return Sample(perf_counter_ns() - started, rounds * 100)


@operation("wake_future", "two tasks waking each other, Future", goal=6)
async def wake_future(aio, n):
    rounds = math.ceil(n / 2)
    new_future = aio.get_running_loop().create_future

    async def player(mine, other):
        for _ in range(rounds):
            await mine[0]
            mine[0] = new_future()
            other[0].set_result(None)

    left, right = [new_future()], [new_future()]
    left[0].set_result(None)
    started = perf_counter_ns()
    await aio.gather(player(left, right), player(right, left))
    return Sample(perf_counter_ns() - started, rounds * 2)


@operation("wake_event", "two tasks waking each other, Event", goal=8)
async def wake_event(aio, n):
    rounds = math.ceil(n / 2)

    async def player(mine, other):
        for _ in range(rounds):
            await mine.wait()
            mine.clear()
            other.set()

    left, right = aio.Event(), aio.Event()
    left.set()
    started = perf_counter_ns()
    await aio.gather(player(left, right), player(right, left))
    return Sample(perf_counter_ns() - started, rounds * 2)


# --- tasks ---


@operation("create_task", "await create_task(trivial)", goal=8)
async def create_task(aio, n):
    create = aio.create_task
    started = perf_counter_ns()
    for _ in range(n):
        await create(nothing())
    return Sample(perf_counter_ns() - started, n)


@operation("spawn", "create_task and forget", goal=4)
async def spawn(aio, n):
    create, batches = aio.create_task, math.ceil(n / 1000)
    started = perf_counter_ns()
    for _ in range(batches):
        for _ in range(1000):
            create(nothing())
        await aio.sleep(0)
    return Sample(perf_counter_ns() - started, batches * 1000)


@operation("gather", "gather of 100, per child", goal=8)
async def gather(aio, n):
    rounds = math.ceil(n / 100)
    started = perf_counter_ns()
    for _ in range(rounds):
        await aio.gather(*[nothing() for _ in range(100)])
    return Sample(perf_counter_ns() - started, rounds * 100)


# --- queues and locks ---


async def through_queue(aio, n: int, maxsize: int, batch: int) -> Sample:
    async def producer(queue):
        put = queue.put
        for number in range(batch):
            await put(number)

    async def consumer(queue):
        get = queue.get
        for _ in range(batch):
            await get()

    rounds = math.ceil(n / batch)
    started = perf_counter_ns()
    for _ in range(rounds):
        queue = aio.Queue(maxsize)
        await aio.gather(producer(queue), consumer(queue))
    return Sample(perf_counter_ns() - started, rounds * batch)


@operation("queue", "Queue, unbounded", goal=3)
async def queue(aio, n):
    return await through_queue(aio, n, 0, 5000)


@operation("queue_10", "Queue, bounded 10", goal=5)
async def queue_10(aio, n):
    return await through_queue(aio, n, 10, 5000)


@operation("queue_1", "Queue, bounded 1", goal=10)
async def queue_1(aio, n):
    return await through_queue(aio, n, 1, 5000)


@operation("lock", "Lock, free", goal=2.5)
async def lock(aio, n):
    lock = aio.Lock()
    started = perf_counter_ns()
    for _ in range(n):
        async with lock:
            pass
    return Sample(perf_counter_ns() - started, n)


@operation("lock_contended", "Lock, 10 tasks contend", goal=8)
async def lock_contended(aio, n):
    rounds = math.ceil(n / 10)
    lock = aio.Lock()

    async def task():
        sleep = aio.sleep
        for _ in range(rounds):
            async with lock:
                await sleep(0)

    started = perf_counter_ns()
    await aio.gather(*[task() for _ in range(10)])
    return Sample(perf_counter_ns() - started, rounds * 10)


# --- callbacks and timers ---


@operation("call_soon", "call_soon, a chain", goal=5)
async def call_soon(aio, n):
    loop = aio.get_running_loop()
    end = loop.create_future()
    left = n

    def callback():
        nonlocal left
        left -= 1
        if left:
            loop.call_soon(callback)
        else:
            end.set_result(None)

    started = perf_counter_ns()
    loop.call_soon(callback)
    await end
    return Sample(perf_counter_ns() - started, n)


@operation("call_soon_bulk", "call_soon, 10k at once", goal=1.5)
async def call_soon_bulk(aio, n):
    call, rounds = aio.get_running_loop().call_soon, math.ceil(n / 10_000)
    started = perf_counter_ns()
    for _ in range(rounds):
        for _ in range(10_000):
            call(no_callback)
        await aio.sleep(0)
    return Sample(perf_counter_ns() - started, rounds * 10_000)


@operation("timers_cancel", "10k call_later and cancel", goal=4)
async def timers_cancel(aio, n):
    later, rounds = aio.get_running_loop().call_later, math.ceil(n / 10_000)
    delays = [60 + number % 97 for number in range(10_000)]
    started = perf_counter_ns()
    for _ in range(rounds):
        for handle in [later(delay, no_callback) for delay in delays]:
            handle.cancel()
        await aio.sleep(0)
    return Sample(perf_counter_ns() - started, rounds * 10_000)


@operation("timers_fire", "10k call_later(0), fired", goal=1.4)
async def timers_fire(aio, n):
    loop, rounds = aio.get_running_loop(), math.ceil(n / 10_000)
    later = loop.call_later
    started = perf_counter_ns()
    for _ in range(rounds):
        for _ in range(9_999):
            later(0, no_callback)
        end = loop.create_future()
        later(0, end.set_result, None)
        await end
    return Sample(perf_counter_ns() - started, rounds * 10_000)


@operation("timeout", "async with timeout(1): await sleep(0)", goal=5)
async def timeout(aio, n):
    sleep, timeout = aio.sleep, aio.timeout
    started = perf_counter_ns()
    for _ in range(n):
        async with timeout(1):
            await sleep(0)
    return Sample(perf_counter_ns() - started, n)


# --- pyperformance's async_tree: six levels of six branches, 55,987 nodes ---

LEVELS, BRANCHES = 6, 6
NODES = sum(BRANCHES**level for level in range(LEVELS + 1))


async def tree(aio, leaf: Callable[[], Awaitable[object]]) -> Sample:
    async def node(level):
        if level == 0:
            await leaf()
        else:
            await aio.gather(*[node(level - 1) for _ in range(BRANCHES)])

    started = perf_counter_ns()
    await node(LEVELS)
    return Sample(perf_counter_ns() - started, NODES)


@operation("tree_none", "async_tree none, per node", goal=4.5, fixed=NODES)
async def tree_none(aio, n):
    return await tree(aio, nothing)


@operation("tree_io", "async_tree io, per node", goal=3.5, fixed=NODES)
async def tree_io(aio, n):
    async def leaf():
        await aio.sleep(0.05)

    return await tree(aio, leaf)


@operation("tree_memoization", "async_tree memoization, per node", goal=3.5, fixed=NODES)
async def tree_memoization(aio, n):
    chance = random.Random(0)
    cache: dict[int, bool] = {}

    async def leaf():
        data = chance.randint(1, 100)
        if data <= 90:
            if cache.get(data):
                return data
            cache[data] = True
        await aio.sleep(0.05)
        return data

    return await tree(aio, leaf)


# --- sockets, against a server in another process ---


@operation("fetch", "fetch a page, 300 at a time")
async def fetch(aio, n):
    loop = aio.get_running_loop()
    address = pages.server().address

    async def page(number):
        with socket.socket() as connection:
            connection.setblocking(False)
            await loop.sock_connect(connection, address)
            await loop.sock_sendall(connection, b"GET /%d HTTP/1.0\r\n\r\n" % number)
            answer = bytearray()
            while data := await loop.sock_recv(connection, 65536):
                answer += data
            assert answer.endswith(b"page /%d\n" % number)

    rounds = math.ceil(n / 300)
    started = perf_counter_ns()
    for _ in range(rounds):
        await aio.gather(*[page(number) for number in range(300)])
    return Sample(perf_counter_ns() - started, rounds * 300)
