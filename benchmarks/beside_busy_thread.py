"""What a wake-up costs beside one thread that computes, and what that thread has left.

    python benchmarks/beside_busy_thread.py [asyncio|aioxide|uvloop]

Two tasks wake each other for two seconds: by futures, and through a socket pair. A loop that lets go of
the GIL for every poll wins it back only after the switch interval of 5 ms. The rule for ours: less than
3 us a wake-up on average, while the busy thread gets its share of the slices (about half of the time).

What it keeps depends on what else the machine does: two threads that take turns suffer twice from a neighbour. So its
part of the processor time of the two is printed as well.
"""

import asyncio
import socket
import sys
import threading
import time

SECONDS = 2.0


def loop_factory(name):
    if name == "aioxide":
        from aioxide import _core

        return _core.EventLoop
    if name == "uvloop":
        import uvloop

        return uvloop.new_event_loop
    return asyncio.SelectorEventLoop


async def by_futures(until):
    """Each task sets the future that the other one awaits."""
    loop = asyncio.get_running_loop()
    futures = [loop.create_future(), loop.create_future()]
    count = 0

    async def player(me):
        nonlocal count
        while time.perf_counter() < until:
            await futures[me]
            futures[me] = loop.create_future()
            count += 1
            futures[1 - me].set_result(None)

    players = [loop.create_task(player(0)), loop.create_task(player(1))]
    futures[0].set_result(None)
    await asyncio.wait(players, return_when=asyncio.FIRST_COMPLETED)
    for task in players:
        task.cancel()
    return count


async def by_sockets(until):
    """Each task reads the byte that the other one has sent."""
    loop = asyncio.get_running_loop()
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
    count = 0

    async def player(me):
        nonlocal count
        while time.perf_counter() < until:
            await loop.sock_recv(ends[me], 1)
            count += 1
            await loop.sock_sendall(ends[me], b".")

    players = [loop.create_task(player(0)), loop.create_task(player(1))]
    ends[0].send(b".")
    await asyncio.wait(players, return_when=asyncio.FIRST_COMPLETED)
    for task in players:
        task.cancel()
    await asyncio.sleep(0)
    for end in ends:
        end.close()
    return count


class Busy(threading.Thread):
    """Computes, and counts how often."""

    def __init__(self):
        super().__init__(daemon=True)
        self.rounds = 0
        self.cpu = 0.0
        self.stop = False

    def run(self):
        while not self.stop:
            for _ in range(1000):
                pass
            self.rounds += 1
            self.cpu = time.thread_time()


def alone():
    """How many rounds a second the busy thread makes when nobody else wants the GIL."""
    busy = Busy()
    busy.start()
    time.sleep(1.0)
    busy.stop = True
    busy.join()
    return busy.rounds


def measure(factory, game, with_thread):
    busy = Busy()
    if with_thread:
        busy.start()
    loop = factory()
    began, mine = time.perf_counter(), time.thread_time()
    theirs = busy.cpu
    count = loop.run_until_complete(game(began + SECONDS))
    took, mine = time.perf_counter() - began, time.thread_time() - mine
    theirs = busy.cpu - theirs
    loop.close()
    busy.stop = True
    return took / max(count, 1) * 1e6, busy.rounds / took, theirs / (mine + theirs)


def main():
    name = sys.argv[1] if len(sys.argv) > 1 else "aioxide"
    factory = loop_factory(name)
    full = alone()
    for game in (by_futures, by_sockets):
        quiet, *_ = measure(factory, game, with_thread=False)
        cost, rounds, part = measure(factory, game, with_thread=True)
        print(
            f"{name:8} {game.__name__:10} alone {quiet:8.2f} us/wake-up"
            f"   beside a busy thread {cost:8.2f} us/wake-up, which keeps {rounds / full:.0%}"
            f" and has {part:.0%} of the time of the two"
        )


if __name__ == "__main__":
    main()
