"""What event loops get wrong when they replace asyncio's: small things on which programs rely.

Each test is about one of them, on asyncio as the oracle. What belongs to one concept stands in the file of that concept:
FAULTS is the index of them all, and `test_every_fault_has_its_test` holds it against the files.
"""

from __future__ import annotations

import array
import ast
import asyncio
import contextlib
import errno
import gc
import os
import signal
import socket
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import STDLIB, Log, newer, run, succeeds, until
from tests.test_servers import no_descriptors_left
from tests.test_transports import MANY, connected, receive

#: What was found wrong in a peer, and the tests that show ours right: in this file, or `file::test` for `tests/test_file.py`.
#: Not in the list is what no test of a library can show: for which platforms and Pythons it is built.
FAULTS = {
    # -- the loop
    "it is no AbstractEventLoop, has no __dict__ or weak references": "test_a_loop_is_an_event_loop_and_an_ordinary_object",
    "asyncio does not take it for a loop": "interop::test_loop_is_an_asyncio_loop",
    "running, stopping, closing": "event_loop::test_life event_loop::test_run_until_complete",
    "it spins, has helper threads, or needs io_uring": "test_a_loop_that_waits_sleeps",
    "a wake-up from another thread is lost": (
        "robustness::test_call_soon_threadsafe_from_four_threads robustness::test_threadsafe_wakes_a_sleeping_loop"
    ),
    "negative delays are an error, or first in, first out": "test_negative_delays_fire_in_the_order_of_their_deadlines",
    "timers do not follow a clock that is put in": (
        "test_a_clock_that_somebody_has_put_in_moves_the_timers event_loop::test_overridden_time"
    ),
    "handles are not asyncio's, and lack cancelled(), _callback, _args, get_context()": (
        "test_a_handle_shows_what_it_calls names::test_timer_handle_is_a_handle names::test_members"
    ),
    "tasks and futures are not asyncio's": "interop::test_isinstance interop::test_stdlib_functions_see_tested_tasks",
    "eager_task_factory makes lazy tasks, or raises": "interop::test_eager_factory tasks::test_eager",
    "create_task() does not take eager_start": "test_create_task_takes_eager_start",
    "set_debug() does nothing": "test_debug_mode_is_turned_on_and_off",
    "debug mode: slow callbacks are not logged": "event_loop::test_debug_slow_callback",
    "debug mode: the thread is not checked": "event_loop::test_debug_checks_the_thread",
    "debug mode: handles do not know where they were made": "event_loop::test_debug_handle_repr",
    "exception handlers are called with other arguments": "event_loop::test_exception_handler",
    "asynchronous generators are not closed": "test_asynchronous_generators_are_closed",
    "importing it changes asyncio, socket or ssl": "test_importing_changes_nothing_of_others",
    "a loop that cannot be made leaves something": "test_a_loop_without_descriptors_is_an_error_and_leaves_nothing",
    "locks, queues, groups and timeouts are left to Python": "names::test_brought gc::test_cycle_is_collected",
    # -- descriptors and sockets
    "add_reader() takes no sockets; remove_reader() says nothing": (
        "test_watching_takes_sockets_and_says_whether_it_stopped event_loop::test_reader event_loop::test_writer"
    ),
    "sock_* are no coroutines": "test_methods_that_wait_return_coroutines",
    "sock_recv, sock_recv_into, sock_sendall, sock_accept, sock_connect": (
        "sockets::test_bytes_have_the_size_of_what_has_come sockets::test_reading_into_buffers"
        " sockets::test_everything_is_sent sockets::test_accepting sockets::test_connecting_to_ipv6"
    ),
    "no sock_recvfrom, sock_recvfrom_into, sock_sendto": (
        "sockets::test_datagrams sockets::test_datagrams_of_unix_sockets"
    ),
    "no sock_sendfile, or one that copies": "sendfile::test_socket",
    "no sendfile, or one that copies": "sendfile::test_what_is_sent",
    # -- signals
    "a signal right after add_signal_handler() kills the process": "test_a_signal_right_after_its_handler_was_set",
    "remove_signal_handler() raises": "robustness::test_add_signal_handler",
    # -- names
    "gaierror becomes another exception": "dns::test_answers_are_those_of_the_socket_module",
    "literals are answered otherwise; an IPv6 zone is lost": "test_literals_resolve_as_the_socket_module_says",
    "names wait for the default executor": "test_names_are_resolved_beside_a_busy_executor",
    'host="" is an error': "test_an_empty_host_is_every_interface",
    # -- connections
    "no happy_eyeballs_delay, interleave, all_errors": (
        "connections::test_happy_eyeballs connections::test_interleaved connections::test_all_errors"
    ),
    "no connect_accepted_socket": "transports::test_conversation",
    "a factory that raises kills the process": "servers::test_raising_factory connections::test_raising_factory",
    "a connection that fails leaves something": "test_a_connection_without_descriptors_is_an_error_and_leaves_nothing",
    "no Unix sockets, no abstract names": (
        "servers::test_unix_server connections::test_unix transports::test_unix_names"
        " datagrams::test_abstract_names_need_no_file"
    ),
    "the socket's file stays when its server is closed": "servers::test_socket_file_is_removed",
    # -- servers
    "no close_clients(), no abort_clients()": "servers::test_clients",
    "wait_closed() does not wait for connections": "servers::test_wait_closed_waits_for_connections",
    "serve_forever() does not end with close()": "servers::test_serve_forever_ends_with_close",
    "EADDRINUSE without its number": "servers::test_address_in_use",
    # -- transports
    "they are not asyncio's, have no __dict__ or weak references": (
        "transports::test_class datagrams::test_a_transport_says_what_it_is"
        " tls::test_a_transport_has_a_dict_and_weak_references pipes::test_class subprocess::test_class"
    ),
    'get_extra_info("socket") is no TransportSocket': "transports::test_extra_info tls::test_extra_info",
    "no BufferedProtocol": "transports::test_buffered_protocol_and_switching tls::test_no_byte_is_lost",
    "callbacks run in the wrong context": (
        "transports::test_contexts tls::test_context_of_callbacks pipes::test_contexts subprocess::test_contexts"
        " datagrams::test_datagrams_come_in_the_context_in_which_the_endpoint_was_made"
    ),
    "what data_received() raises is swallowed, or ends the connection with None": (
        "transports::test_exceptions_of_the_protocol tls::test_exception_in"
    ),
    "what is written may not be changed": (
        "transports::test_mutable_buffers_are_copied test_a_waiting_write_keeps_its_bytes"
        " tls::test_what_is_written_may_be_changed_afterwards pipes::test_changed_after_the_write"
    ),
    "write() after close() is an error": "test_writing_after_the_end_is_no_error",
    "pause_writing() comes after the turn": (
        "transports::test_pause_and_resume_are_synchronous"
        " datagrams::test_the_protocol_is_paused_inside_of_sendto_and_resumed"
    ),
    "writelines() knows no marks": "test_writelines_heeds_the_marks",
    "the marks are others": "transports::test_limits",
    "a reset is told as something else, late or never": (
        "transports::test_reset_by_peer tls::test_a_reset_is_an_error network_faults::test_reset_in_every_state"
    ),
    "abort() calls connection_lost() itself": "transports::test_abort_drops_it tls::test_abort",
    "after write_eof() nothing is read": "transports::test_half_close",
    # -- datagrams
    "an empty datagram does not arrive": "datagrams::test_an_empty_datagram_comes_and_goes",
    "an error ends the endpoint; no Unix datagrams": (
        "datagrams::test_a_refused_datagram_is_told_and_closes_nothing"
        " datagrams::test_unix_endpoints_have_paths_for_addresses"
    ),
    # -- TLS
    "there is none": "tls::test_conversation",
    "settings of the SSLContext are ignored": (
        "tls::test_the_settings_of_a_context_count tls::test_key_log tls::test_sni_callback_chooses_the_certificate"
        " tls::test_post_handshake_authentication tls::test_class_of_the_ssl_object"
    ),
    "no ssl_object, cipher, ALPN or certificate of the peer": (
        "tls::test_extra_info tls::test_alpn tls::test_client_certificate"
    ),
    "a certificate that is not valid is a RuntimeError": "tls::test_verification_failure",
    "a self-signed certificate that is trusted is rejected": (
        "tls::test_a_self_signed_certificate_is_good_for_who_trusts_it"
    ),
    "no start_tls": "tls::test_start_tls streams::test_start_tls_asks_the_loop_and_takes_the_new_transport",
    "start_tls() loses what has been read ahead": "tls::test_start_tls_keeps_what_the_reader_has_read_ahead",
    "a closed connection keeps downloading": "tls::test_nothing_is_downloaded_after_close",
    # -- processes and pipes
    "no subprocess_exec, no subprocess_shell": "subprocess::test_conversation subprocess::test_communicate",
    "no preexec_fn": "subprocess::test_popen_arguments",
    "the child's streams are socket pairs, and cannot be opened again": (
        "subprocess::test_pipes_are_pipes test_a_child_may_open_its_standard_streams_again"
    ),
    "loops of several threads cannot spawn at once": "subprocess::test_threads",
    "a missing program is a RuntimeError": "subprocess::test_no_such_program",
    "no connect_read_pipe, no connect_write_pipe": "pipes::test_read pipes::test_write",
    # -- streams, libraries, processes
    "no native streams but of plain TCP": "streams::test_echo tls::test_python_of_the_other_kind",
    "a loop in the child of a fork disturbs the parent's": "robustness::test_fork_in_a_running_loop",
    "libraries do not run on it": "ecosystem::test_serves_real_requests",
}


def found_in(stem: str) -> set[str]:
    tree = ast.parse((Path(__file__).parent / f"test_{stem}.py").read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_every_fault_has_its_test():
    named: dict[str, set[str]] = {}
    for where in " ".join(FAULTS.values()).split():
        stem, _, name = where.rpartition("::")
        named.setdefault(stem or "peer_faults", set()).add(name)
    missing = {stem: names - found_in(stem) for stem, names in named.items() if names - found_in(stem)}
    assert not missing
    here = found_in("peer_faults") - {"test_every_fault_has_its_test"}
    assert here == named["peer_faults"], "a test of a fault that FAULTS does not have"


@pytest.fixture
def loop(aio: Any) -> Iterator[Any]:
    loop = aio.new_event_loop()
    yield loop
    loop.close()


# -- the loop --------------------------------------------------------------------------------------------------------------


def test_a_loop_is_an_event_loop_and_an_ordinary_object(aio, loop):
    assert isinstance(loop, asyncio.AbstractEventLoop)
    loop.anything = 5
    assert loop.__dict__["anything"] == 5
    assert weakref.ref(loop)() is loop
    assert hash(loop) == hash(loop)


def test_negative_delays_fire_in_the_order_of_their_deadlines(aio, loop):
    log: list[int] = []
    for delay in (-1, -3, 0, -2):
        loop.call_later(delay, log.append, delay)
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    assert log == [-3, -2, -1, 0]


def test_a_clock_that_somebody_has_put_in_moves_the_timers(aio, loop):
    """What helpers that travel in time do to a loop that is there already."""
    real, offset, log = loop.time, 0.0, []
    loop.time = lambda: real() + offset
    loop.call_later(100, log.append, "later")
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert log == []
    offset = 100.0
    loop.call_later(5, loop.stop)
    loop.call_soon(lambda: loop.call_soon(loop.stop))
    loop.run_forever()
    assert log == ["later"]


async def coroutine_function() -> None: ...


def test_debug_mode_is_turned_on_and_off(aio, loop):
    loop.set_debug(True)
    assert loop.get_debug() is True
    with pytest.raises(TypeError, match="coroutines cannot be used with call_soon"):
        loop.call_soon(coroutine_function)
    loop.set_debug(False)
    assert loop.get_debug() is False
    loop.call_soon(coroutine_function).cancel()


def test_a_handle_shows_what_it_calls(aio, loop):
    for handle in (
        loop.call_soon(print, 1, 2),
        loop.call_later(5, print, 1, 2),
        loop.call_soon_threadsafe(print, 1, 2),
    ):
        assert isinstance(handle, asyncio.Handle)
        assert isinstance(handle, asyncio.TimerHandle) == hasattr(handle, "when")
        assert (handle._callback, handle._args) == (print, (1, 2))
        if hasattr(handle, "get_context"):
            assert handle.get_context() is handle._context
        assert not handle.cancelled()
        handle.cancel()
        assert handle.cancelled()


def test_watching_takes_sockets_and_says_whether_it_stopped(aio, loop):
    left, right = socket.socketpair()
    with left, right:
        for thing in (left, left.fileno()):
            log: list[Any] = []
            assert loop.remove_reader(thing) is False
            assert loop.remove_writer(thing) is False
            loop.add_reader(thing, log.append, "read")
            loop.add_writer(thing, log.append, "write")
            right.send(b"x")
            loop.call_later(0.01, loop.stop)
            loop.run_forever()
            assert {"read", "write"} == set(log)
            assert loop.remove_reader(thing) is True
            assert loop.remove_writer(thing) is True


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("sock_recv", (1,)),
        ("sock_recv_into", (bytearray(1),)),
        ("sock_sendall", (b"x",)),
        ("sock_connect", (("127.0.0.1", 1),)),
        ("sock_accept", ()),
        ("sock_recvfrom", (1,)),
        ("sock_recvfrom_into", (bytearray(1),)),
        ("sock_sendto", (b"x", ("127.0.0.1", 1))),
    ],
)
def test_methods_that_wait_return_coroutines(aio, method, arguments):
    """So they do nothing before they are awaited, and `create_task` takes them."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.socket() as sock:
            sock.setblocking(False)
            coroutine = getattr(loop, method)(sock, *arguments)
            assert asyncio.iscoroutine(coroutine)
            task = loop.create_task(coroutine)
            await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await task

    run(aio, main())


@newer((3, 14))
@pytest.mark.skipif(sys.version_info < (3, 14), reason="since 3.14")
@pytest.mark.parametrize("eager", [True, False, None])
def test_create_task_takes_eager_start(aio, eager):
    async def main() -> None:
        log: list[int] = []

        async def child() -> None:
            log.append(1)

        task = asyncio.get_running_loop().create_task(child(), eager_start=eager)
        assert log == [1] * bool(eager)
        await task
        assert log == [1]

    run(aio, main())


def test_asynchronous_generators_are_closed(aio):
    log: list[str] = []

    async def generator() -> Any:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            log.append("closed")

    async def main() -> None:
        dropped = generator()
        async for _ in dropped:
            break
        del dropped
        gc.collect()
        await until(lambda: log == ["closed"])
        kept.append(generator())
        await kept[0].__anext__()

    kept: list[Any] = []
    run(aio, main())
    assert log == ["closed", "closed"]


def test_a_signal_right_after_its_handler_was_set(aio, loop):
    """The handler is there when `add_signal_handler` returns, and what was there before when it is removed."""
    log: list[int] = []
    before = signal.getsignal(signal.SIGUSR1)
    for n in range(20):
        loop.add_signal_handler(signal.SIGUSR1, log.append, n)
        os.kill(os.getpid(), signal.SIGUSR1)
        loop.call_later(0.001, loop.stop)
        while len(log) <= n:
            loop.run_forever()
            loop.call_later(0.001, loop.stop)
    assert log == list(range(20))
    assert loop.remove_signal_handler(signal.SIGUSR1) is True
    assert loop.remove_signal_handler(signal.SIGUSR1) is False
    assert signal.getsignal(signal.SIGUSR1) == before


@pytest.mark.skipif(STDLIB, reason="asyncio's half-made loop complains in its __del__")
def test_a_loop_without_descriptors_is_an_error_and_leaves_nothing(aio):
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    with no_descriptors_left(), pytest.raises(OSError, match="Too many open files") as info:
        aio.new_event_loop()
    assert info.value.errno == errno.EMFILE
    del info
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before
    aio.new_event_loop().close()


def test_a_loop_that_waits_sleeps(aio):
    """It does not spin, needs no thread of its own, and no way to the kernel that is forbidden in many containers."""
    succeeds(
        """
        import asyncio, os, time
        from pathlib import Path

        async def main():
            loop = asyncio.get_running_loop()
            server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
            transport, _ = await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname())
            await asyncio.sleep(0.05)
            began = time.process_time()
            await asyncio.sleep(1)
            # (one that spins takes nearly all of that second)
            assert time.process_time() - began < 0.3, "it spins"
            names = [Path(f"/proc/self/task/{thread}/comm").read_text().strip() for thread in os.listdir("/proc/self/task")]
            # (those that watch do no work of the loop's)
            assert len([name for name in names if not name.startswith(("aioxide-watch", "aioxide@"))]) == 1, names
            for number in os.listdir("/proc/self/fd"):
                try:
                    assert "io_uring" not in os.readlink(f"/proc/self/fd/{number}")
                except FileNotFoundError:
                    pass
            transport.close()
            server.close()

        with aio.Runner(loop_factory=aio.new_event_loop) as runner:
            runner.run(main())
        """
    )


def test_a_child_may_open_its_standard_streams_again(aio):
    """As programs do that are told to write to /dev/stdout; by a socket they could not."""

    async def main() -> None:
        process = await aio.create_subprocess_shell(
            "cat /proc/self/fd/0 > /proc/self/fd/1; echo error > /dev/stderr", stdin=-1, stdout=-1, stderr=-1
        )
        assert await process.communicate(b"hello") == (b"hello", b"error\n")
        assert process.returncode == 0

    run(aio, main())


def test_importing_changes_nothing_of_others():
    succeeds(
        """
        import asyncio, importlib, ssl, sys, socket
        modules = [asyncio, asyncio.events, asyncio.streams, ssl, socket, socket.socket, ssl.SSLContext]
        before = [dict(vars(module)) for module in modules]
        importlib.import_module(sys.argv[1])
        for module, names in zip(modules, before):
            now = dict(vars(module))
            for name in names:
                assert now[name] is names[name], (module, name)
        """,
        "aioxide",
        aio=False,
    )


# -- names and addresses -----------------------------------------------------------------------------------------------------


LITERALS = [
    "127.0.0.1",
    "::1",
    "fe80::1%lo",
    "::ffff:127.0.0.1",
    "",
    None,
    b"127.0.0.1",
    "1",
    "127.1",
    "0x7f.1",
    "::",
    "[::1]",
]


@pytest.mark.parametrize("host", LITERALS, ids=repr)
def test_literals_resolve_as_the_socket_module_says(aio, host):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        for port in (80, "80", b"80", None, 0, "http"):
            for family in (0, socket.AF_INET, socket.AF_INET6):
                for kind, proto in ((0, 0), (socket.SOCK_STREAM, 0), (socket.SOCK_DGRAM, 0), (socket.SOCK_STREAM, 6)):
                    for flags in (0, socket.AI_PASSIVE, socket.AI_NUMERICHOST):
                        hints = {"family": family, "type": kind, "proto": proto, "flags": flags}
                        try:
                            expected = socket.getaddrinfo(host, port, **hints)
                        except socket.gaierror as error:
                            with pytest.raises(socket.gaierror) as info:
                                await loop.getaddrinfo(host, port, **hints)
                            assert info.value.args == error.args
                        else:
                            assert await loop.getaddrinfo(host, port, **hints) == expected

    run(aio, main())


def test_names_are_resolved_beside_a_busy_executor(aio):
    """Functions that block every thread of the default executor do not keep names from being looked up."""
    if STDLIB:
        pytest.skip("asyncio looks them up in the default executor")
    free = threading.Event()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        busy = [loop.run_in_executor(None, free.wait, 50) for _ in range(40)]
        try:
            assert await asyncio.wait_for(loop.getaddrinfo("localhost", 80), 40)
            assert await asyncio.wait_for(loop.getnameinfo(("127.0.0.1", 80)), 40)
        finally:
            free.set()
        await asyncio.gather(*busy)

    run(aio, main())


def test_an_empty_host_is_every_interface(aio):
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "", 0, family=socket.AF_INET)
        assert server.sockets[0].getsockname()[0] == "0.0.0.0"
        server.close()

    run(aio, main())


def test_a_connection_without_descriptors_is_an_error_and_leaves_nothing(aio):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        made: list[Log] = []

        def factory() -> Log:
            made.append(Log())
            return made[-1]

        server = await loop.create_server(factory, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        for make in (
            lambda: loop.create_connection(asyncio.Protocol, *address),
            lambda: loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=address),
        ):
            gc.collect()
            before = len(os.listdir("/proc/self/fd"))
            with no_descriptors_left(), pytest.raises(OSError, match="Too many open files") as info:
                await make()
            assert info.value.errno == errno.EMFILE
            del info
            gc.collect()
            assert len(os.listdir("/proc/self/fd")) == before
        transport, _ = await loop.create_connection(asyncio.Protocol, *address)
        transport.abort()
        await until(lambda: made and made[0].lost.done())
        server.close()

    run(aio, main())


# -- transports ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["close", "abort"])
def test_writing_after_the_end_is_no_error(aio, ending):
    async def main() -> None:
        async with connected() as (transport, protocol, _):
            getattr(transport, ending)()
            transport.write(b"x")
            if not STDLIB:
                transport.writelines([b"x"])
            await protocol.lost
            for _ in range(3):
                transport.write(b"x")
            assert transport.get_write_buffer_size() == 0
            assert protocol.events == ["made", "lost"]

    run(aio, main())


def test_writelines_heeds_the_marks(aio):
    async def main() -> None:
        async with connected() as (transport, protocol, peer):
            transport.writelines([MANY, MANY])
            assert protocol.events == ["made", "pause"]
            assert await receive(peer, 2 * len(MANY)) == MANY * 2
            await until(lambda: protocol.events == ["made", "pause", "resume"])

    if STDLIB and (3, 12) <= sys.version_info < (3, 12, 8):
        pytest.skip("asyncio forgot it in these versions")
    if STDLIB and (3, 13) <= sys.version_info < (3, 13, 1):
        pytest.skip("asyncio forgot it in these versions")
    run(aio, main())


def test_a_waiting_write_keeps_its_bytes(aio):
    """Whatever the program does to what it has written, and from whatever it was written."""
    if STDLIB:
        pytest.skip("asyncio sends what is in the memory of a `writelines` by then")

    async def main() -> None:
        async with connected() as (transport, _, peer):
            transport.write(MANY)  # so that everything else has to wait
            expected = bytearray(MANY)
            for kind in (
                bytearray,
                lambda data: memoryview(bytearray(data)),
                lambda data: memoryview(array.array("B", data)),
            ):
                data = kind(b"0123456789" * 100)
                transport.write(data)
                transport.writelines([data, data])
                expected += bytes(data) * 3
                view = memoryview(data)
                view[:] = bytes(len(view))
            assert await receive(peer, len(expected)) == expected

    run(aio, main())
