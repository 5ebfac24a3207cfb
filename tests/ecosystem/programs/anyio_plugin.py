"""anyio's plugin for pytest: tests and fixtures of it, on the loop of our plugin or in takeover."""

from tests.ecosystem.programs.pytest_run import passes
from tests.ecosystem.support import MODE, run

SUITE = """
import anyio
import pytest
from tests.ecosystem.support import check

pytestmark = pytest.mark.anyio

@pytest.fixture
async def stream():
    check()
    send, receive = anyio.create_memory_object_stream(1)
    async with anyio.create_task_group() as group:
        group.start_soon(send.send, "hello")
        yield receive
    send.close()
    receive.close()

@pytest.mark.parametrize("n", range(3))
async def test_stream(stream, n):
    check()
    assert await stream.receive() == "hello"

async def test_timeout():
    with pytest.raises(TimeoutError):
        with anyio.fail_after(0.01):
            await anyio.sleep(60)
"""
# without our plugin the tests would run on trio, too
ASYNCIO = """
@pytest.fixture
def anyio_backend():
    return "asyncio"
"""


async def main():
    await passes(SUITE if MODE == "loop" else SUITE + ASYNCIO, 4, "-p", "no:asyncio")


if __name__ == "__main__":
    run(main)
