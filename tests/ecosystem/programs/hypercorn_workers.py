"""hypercorn from the command line, with two workers, which it spawns."""

from tests.ecosystem.programs.visitors import every_worker
from tests.ecosystem.support import free_port, python, run, serving


async def main():
    port = free_port()
    application = "tests.ecosystem.programs.asgi:app"
    command = python("-m", "hypercorn", application, "--bind", f"127.0.0.1:{port}", "--workers", "2")
    async with serving(port, *command) as server:
        assert server.pid not in await every_worker(port, 2)


if __name__ == "__main__":
    run(main)
