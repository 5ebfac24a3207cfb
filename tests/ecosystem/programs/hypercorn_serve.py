"""hypercorn serves HTTP/1 and HTTP/2 from a program of ours."""

import asyncio

import httpx
from hypercorn.asyncio import serve
from hypercorn.config import Config

from tests.certificates import SERVER, client_context
from tests.ecosystem.programs.asgi import app
from tests.ecosystem.support import free_port, listens, run, until


async def main():
    plain, tls = free_port(), free_port()
    config = Config()
    config.insecure_bind = [f"127.0.0.1:{plain}"]
    config.bind = [f"127.0.0.1:{tls}"]
    config.certfile = config.keyfile = str(SERVER)
    config.accesslog = config.errorlog = None
    end = asyncio.Event()
    serving = asyncio.create_task(serve(app, config, shutdown_trigger=end.wait))
    await until(lambda: listens(plain) and listens(tls))
    for base in (f"http://127.0.0.1:{plain}", f"https://127.0.0.1:{tls}"):
        async with httpx.AsyncClient(base_url=base, verify=client_context()) as client:
            answers = await asyncio.gather(*(client.post("/", content=b"%d" % n * n) for n in range(100)))
            assert [answer.content.partition(b"\n")[2] for answer in answers] == [b"%d" % n * n for n in range(100)]
    end.set()
    await serving


if __name__ == "__main__":
    run(main)
