"""gunicorn with two of aiohttp's workers."""

import json
import os

from aiohttp import web

from tests.ecosystem.programs.visitors import every_worker
from tests.ecosystem.support import MODE, free_port, loop_module, python, run, serving

WORKER = "aioxide.gunicorn.AiohttpWorker" if MODE == "loop" else "aiohttp.GunicornWebWorker"


async def answer(request):
    words = json.dumps({"pid": os.getpid(), "loop": loop_module()}).encode()
    return web.Response(body=words + b"\n" + await request.read())


application = web.Application()
application.add_routes([web.post("/", answer)])


async def main():
    port = free_port()
    command = python("-m", "gunicorn", f"{__spec__.name}:application", "--bind", f"127.0.0.1:{port}")
    async with serving(port, *command, "--workers", "2", "--worker-class", WORKER) as server:
        assert server.pid not in await every_worker(port, 2)


if __name__ == "__main__":
    run(main)
