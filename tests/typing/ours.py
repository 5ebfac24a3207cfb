"""What aioxide has and asyncio has not, or not on every version: on each of them it is typed."""

import asyncio
import selectors
import sys
from typing import Any, assert_type

import aioxide


async def number() -> int:
    return 3


class Loop(aioxide.EventLoop):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


assert_type(aioxide.__version__, str)
assert_type(aioxide.install(), None)
assert_type(aioxide.uninstall(), None)
assert_type(aioxide.new_event_loop(), aioxide.EventLoop)
assert_type(aioxide.EventLoopPolicy().new_event_loop(), aioxide.EventLoop)
assert_type(aioxide.EventLoop(selectors.DefaultSelector()), aioxide.EventLoop)
assert_type(aioxide.SelectorEventLoop(), aioxide.EventLoop)
assert_type(Loop("main").name, str)
assert_type(aioxide.run(number(), loop_factory=lambda: Loop("main")), int)
aioxide.EventLoop(3)  # type: ignore[arg-type]
print(aioxide.nothing)  # type: ignore[attr-defined]


async def newer(loop: aioxide.EventLoop) -> None:
    assert_type(aioxide.eager_task_factory(loop, number(), name="three", eager_start=False), aioxide.Task[int])
    loop.set_task_factory(aioxide.eager_task_factory)
    loop.set_task_factory(aioxide.create_eager_task_factory(aioxide.Task))
    async with aioxide.TaskGroup() as group:
        assert_type(group.create_task(number()), aioxide.Task[int])
        group.cancel()
    transport, protocol = await loop.create_connection(aioxide.Protocol, "localhost", 80, all_errors=True)
    assert_type((transport, protocol), tuple[aioxide.Transport, aioxide.Protocol])
    assert_type(await loop.create_server(aioxide.Protocol, "localhost", 80, keep_alive=True), aioxide.Server)
    assert_type(await loop.create_unix_server(aioxide.Protocol, "path", cleanup_socket=False), aioxide.Server)
    assert_type(await loop.shutdown_default_executor(3), None)
    queue: aioxide.Queue[int] = aioxide.PriorityQueue()
    queue.shutdown(immediate=True)


async def awaitables(future: aioxide.Future[int]) -> None:
    if sys.version_info >= (3, 14):
        aioxide.run(future)
    else:
        aioxide.run(future)  # type: ignore[arg-type]
    if sys.version_info >= (3, 13):
        async for done in aioxide.as_completed([aioxide.create_task(number())]):
            assert_type(done, aioxide.Future[int])


def modules(future: aioxide.futures.Future[Any]) -> None:
    assert_type(aioxide.locks.Lock(), asyncio.Lock)
    assert_type(aioxide.queues.Queue[int](), aioxide.Queue[int])
    assert_type(aioxide.log.logger.name, str)
    threshold: int = aioxide.constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES
    print(threshold)
    print(aioxide.trsock.TransportSocket, aioxide.sslproto.SSLProtocol, aioxide.streams.FlowControlMixin)
    print(aioxide.staggered.staggered_race, aioxide.format_helpers.extract_stack, aioxide.mixins, aioxide.base_tasks)
    print(aioxide.base_subprocess.BaseSubprocessTransport, aioxide.base_futures.isfuture, aioxide.selector_events)
    if sys.version_info >= (3, 14):
        assert_type(aioxide.capture_call_graph(future), aioxide.FutureCallGraph | None)
        assert_type(aioxide.graph.format_call_graph(), str)
        aioxide.print_call_graph(future, depth=2)
    else:
        aioxide.capture_call_graph(future)  # type: ignore[attr-defined]


def policies() -> None:
    if sys.version_info < (3, 14):
        aioxide.set_event_loop_policy(aioxide.EventLoopPolicy())
        assert_type(aioxide.get_event_loop_policy(), aioxide.AbstractEventLoopPolicy)
        print(aioxide.DefaultEventLoopPolicy, aioxide.ThreadedChildWatcher)
    else:
        print(aioxide.AbstractEventLoopPolicy)  # type: ignore[attr-defined]
