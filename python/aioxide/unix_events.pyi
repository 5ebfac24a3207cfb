import asyncio.unix_events
import selectors
import sys
from typing import Any, Self

__all__: tuple[str, ...] = ("SelectorEventLoop", "EventLoop")
if sys.version_info < (3, 14):
    __all__ += (
        "AbstractChildWatcher",
        "SafeChildWatcher",
        "FastChildWatcher",
        "PidfdChildWatcher",
        "MultiLoopChildWatcher",
        "ThreadedChildWatcher",
        "DefaultEventLoopPolicy",
    )

if sys.version_info < (3, 14):
    from asyncio.unix_events import AbstractChildWatcher as AbstractChildWatcher
    from asyncio.unix_events import DefaultEventLoopPolicy as DefaultEventLoopPolicy
    from asyncio.unix_events import FastChildWatcher as FastChildWatcher
    from asyncio.unix_events import MultiLoopChildWatcher as MultiLoopChildWatcher
    from asyncio.unix_events import PidfdChildWatcher as PidfdChildWatcher
    from asyncio.unix_events import SafeChildWatcher as SafeChildWatcher
    from asyncio.unix_events import ThreadedChildWatcher as ThreadedChildWatcher

if sys.version_info < (3, 14):
    from asyncio.tasks import Task
    from collections.abc import Coroutine, Generator
    from contextvars import Context
    from typing import TypeVar

    _T = TypeVar("_T")

if sys.version_info < (3, 13):
    from asyncio.base_events import Server
    from asyncio.protocols import BaseProtocol
    from asyncio.transports import Transport
    from collections.abc import Callable, Sequence
    from socket import AddressFamily, AddressInfo, socket
    from ssl import SSLContext
    from typing import TypeVar

    from _typeshed import StrPath

    _ProtocolT = TypeVar("_ProtocolT", bound=BaseProtocol)

# An asyncio.BaseEventLoop; the selector loop's class says what its methods take and give. Until 3.12 with what
# these methods take on 3.13. A selector is accepted, and not used.
class EventLoop(asyncio.unix_events.SelectorEventLoop):
    def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...
    def __init__(self, selector: selectors.BaseSelector | None = None) -> None: ...
    if sys.version_info < (3, 14):
        # with 3.14's eager_start
        def create_task(
            self,
            coro: Coroutine[Any, Any, _T] | Generator[Any, None, _T],
            *,
            name: object = None,
            context: Context | None = None,
            eager_start: bool | None = None,
        ) -> Task[_T]: ...

    if sys.version_info < (3, 13):
        async def create_server(
            self,
            protocol_factory: Callable[[], BaseProtocol],
            host: str | Sequence[str] | None = None,
            port: int | None = None,
            *,
            family: int = ...,
            flags: int = ...,
            sock: socket | None = None,
            backlog: int = 100,
            ssl: SSLContext | bool | None = None,
            reuse_address: bool | None = None,
            reuse_port: bool | None = None,
            keep_alive: bool | None = None,
            ssl_handshake_timeout: float | None = None,
            ssl_shutdown_timeout: float | None = None,
            start_serving: bool = True,
        ) -> Server: ...
        async def create_unix_server(
            self,
            protocol_factory: Callable[[], BaseProtocol],
            path: StrPath | None = None,
            *,
            sock: socket | None = None,
            backlog: int = 100,
            ssl: SSLContext | bool | None = None,
            ssl_handshake_timeout: float | None = None,
            ssl_shutdown_timeout: float | None = None,
            start_serving: bool = True,
            cleanup_socket: bool = True,
        ) -> Server: ...
    if sys.version_info < (3, 12):
        async def create_connection(
            self,
            protocol_factory: Callable[[], _ProtocolT],
            host: str | None = None,
            port: int | None = None,
            *,
            ssl: SSLContext | bool | None = None,
            family: int = 0,
            proto: int = 0,
            flags: int = 0,
            sock: socket | None = None,
            local_addr: tuple[str, int] | None = None,
            server_hostname: str | None = None,
            ssl_handshake_timeout: float | None = None,
            ssl_shutdown_timeout: float | None = None,
            happy_eyeballs_delay: float | None = None,
            interleave: int | None = None,
            all_errors: bool = False,
        ) -> tuple[Transport, _ProtocolT]: ...
        async def shutdown_default_executor(self, timeout: float | None = None) -> None: ...

SelectorEventLoop = EventLoop
