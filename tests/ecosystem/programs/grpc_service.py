"""grpc.aio: its core has threads and a poller of its own, which wakes the loop by a socket."""

import asyncio

import grpc
import grpc.aio

from tests.ecosystem.support import check, run


class Service(grpc.GenericRpcHandler):
    def service(self, details):
        return {
            "/test/double": grpc.unary_unary_rpc_method_handler(self.double),
            "/test/count": grpc.unary_stream_rpc_method_handler(self.count),
            "/test/join": grpc.stream_unary_rpc_method_handler(self.join),
            "/test/echo": grpc.stream_stream_rpc_method_handler(self.echo),
            "/test/fail": grpc.unary_unary_rpc_method_handler(self.fail),
        }.get(details.method)

    async def double(self, request, context):
        check()
        await asyncio.sleep(0)
        return request * 2

    async def count(self, request, context):
        for n in range(int(request)):
            yield b"%d" % n

    async def join(self, requests, context):
        return b"".join([part async for part in requests])

    async def echo(self, requests, context):
        async for request in requests:
            yield request

    async def fail(self, request, context):
        if request == b"slow":
            await asyncio.sleep(60)
        await context.abort(grpc.StatusCode.NOT_FOUND, "nothing here")


async def main():
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Service(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        double = channel.unary_unary("/test/double")

        async def ask(n):
            return await double(b"%d" % n)

        assert await asyncio.gather(*map(ask, range(100))) == [b"%d" % n * 2 for n in range(100)]
        assert [part async for part in channel.unary_stream("/test/count")(b"100")] == [b"%d" % n for n in range(100)]

        async def parts():
            for n in range(100):
                await asyncio.sleep(0)
                yield b"%d" % n * 10

        joined = b"".join(b"%d" % n * 10 for n in range(100))
        assert await channel.stream_unary("/test/join")(parts()) == joined
        assert b"".join([part async for part in channel.stream_stream("/test/echo")(parts())]) == joined
        for request, timeout, code in (
            (b"", None, grpc.StatusCode.NOT_FOUND),
            (b"slow", 0.2, grpc.StatusCode.DEADLINE_EXCEEDED),
        ):
            try:
                await channel.unary_unary("/test/fail")(request, timeout=timeout)
            except grpc.aio.AioRpcError as error:
                assert error.code() == code
            else:
                raise AssertionError("no error")
    await server.stop(0)


if __name__ == "__main__":
    run(main)
