"""gunicorn with two uvicorn workers."""

from tests.ecosystem.programs.visitors import every_worker
from tests.ecosystem.support import MODE, free_port, python, run, serving

WORKER = "aioxide.gunicorn.UvicornWorker" if MODE == "loop" else "uvicorn_worker.UvicornWorker"


async def main():
    port = free_port()
    command = python("-m", "gunicorn", "tests.ecosystem.programs.asgi:app", "--bind", f"127.0.0.1:{port}")
    async with serving(port, *command, "--workers", "2", "--worker-class", WORKER) as server:
        assert server.pid not in await every_worker(port, 2)


if __name__ == "__main__":
    run(main)
