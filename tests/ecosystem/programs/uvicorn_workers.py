"""uvicorn from the command line, with two workers, which it spawns."""

from tests.ecosystem.programs.visitors import every_worker
from tests.ecosystem.support import MODE, free_port, python, run, serving

LOOP = ["--loop", "aioxide:new_event_loop"] if MODE == "loop" else []


async def main():
    port = free_port()
    command = python("-m", "uvicorn", "tests.ecosystem.programs.asgi:app", "--port", str(port), *LOOP)
    async with serving(port, *command, "--workers", "2") as server:
        assert server.pid not in await every_worker(port, 2)


if __name__ == "__main__":
    run(main)
