"""granian with two workers: a program that gives it its loop, and in takeover the command line."""

import sys

from tests.ecosystem.programs.visitors import every_worker
from tests.ecosystem.support import MODE, free_port, python, run, serving

APPLICATION = "tests.ecosystem.programs.asgi:app"


async def main():
    port = free_port()
    if MODE == "loop":
        command = [sys.executable, "-m", __spec__.name, str(port)]
    else:
        command = python("-m", "granian", APPLICATION, "--interface", "asgi", "--port", str(port), "--loop", "asyncio")
        command += ["--workers", "2"]
    async with serving(port, *command) as server:
        assert server.pid not in await every_worker(port, 2)


if __name__ in ("__main__", "__mp_main__"):
    from granian import Granian, loops

    if MODE == "loop":
        import asyncio

        import aioxide

        @loops.register("auto")
        def build_loop():
            loop = aioxide.new_event_loop()
            asyncio.set_event_loop(loop)
            return loop


if __name__ == "__main__":
    if sys.argv[1:]:
        Granian(APPLICATION, port=int(sys.argv[1]), interface="asgi", workers=2).serve()
    else:
        run(main)
