"""tornado on the running loop: server and client, WebSockets, streaming, periodic callbacks, a subprocess, TLS."""

import asyncio
import sys

import tornado.httpclient
import tornado.httpserver
import tornado.ioloop
import tornado.netutil
import tornado.process
import tornado.web
import tornado.websocket

from tests.certificates import CA, server_context
from tests.ecosystem.support import check, run

BINARY = {"content-type": "application/octet-stream"}


class Root(tornado.web.RequestHandler):
    async def get(self, n):
        check()
        await asyncio.sleep(0)
        self.write({"n": int(n)})

    def post(self, n):
        self.write(self.request.body)


class Stream(tornado.web.RequestHandler):
    async def get(self):
        for n in range(100):
            self.write(f"{n}\n")
            await self.flush()


class Threaded(tornado.web.RequestHandler):
    async def get(self):
        self.write(await tornado.ioloop.IOLoop.current().run_in_executor(None, lambda: "from a thread"))


class Socket(tornado.websocket.WebSocketHandler):
    async def on_message(self, message):
        await self.write_message(message + "!")


async def main():
    app = tornado.web.Application(
        [("/([0-9]+)", Root), ("/stream", Stream), ("/thread", Threaded), ("/socket", Socket)],
        log_function=lambda _: None,
    )
    for tls in (False, True):
        server = tornado.httpserver.HTTPServer(app, ssl_options=server_context() if tls else None)
        (socket,) = tornado.netutil.bind_sockets(0, "127.0.0.1")
        server.add_sockets([socket])
        base = f"{'https' if tls else 'http'}://127.0.0.1:{socket.getsockname()[1]}"
        client = tornado.httpclient.AsyncHTTPClient(force_instance=True, max_clients=50)
        options = {"ca_certs": str(CA)}
        answers = await asyncio.gather(*(client.fetch(f"{base}/{n}", **options) for n in range(100)))
        assert [answer.body for answer in answers] == [b'{"n": %d}' % n for n in range(100)]
        body = bytes(range(256)) * 2000
        assert (await client.fetch(f"{base}/0", method="POST", body=body, headers=BINARY, **options)).body == body
        assert (await client.fetch(f"{base}/stream", **options)).body == b"".join(b"%d\n" % n for n in range(100))
        assert (await client.fetch(f"{base}/thread", **options)).body == b"from a thread"
        request = tornado.httpclient.HTTPRequest(base.replace("http", "ws", 1) + "/socket", **options)
        websocket = await tornado.websocket.websocket_connect(request)
        await websocket.write_message("hello")
        assert await websocket.read_message() == "hello!"
        websocket.close()
        assert await websocket.read_message() is None
        client.close()
        server.stop()
        await server.close_all_connections()

    ticks = asyncio.Queue()
    ticker = tornado.ioloop.PeriodicCallback(lambda: ticks.put_nowait(1), 5)
    ticker.start()
    for _ in range(3):
        await ticks.get()
    ticker.stop()

    child = tornado.process.Subprocess(
        [sys.executable, "-c", "print(input() + '!')"],
        stdin=tornado.process.Subprocess.STREAM,
        stdout=tornado.process.Subprocess.STREAM,
    )
    await child.stdin.write(b"hello\n")
    assert await child.stdout.read_until_close() == b"hello!\n"
    assert await child.wait_for_exit() == 0
    child.stdin.close()


if __name__ == "__main__":
    run(main)
