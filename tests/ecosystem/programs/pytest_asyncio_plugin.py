"""pytest-asyncio: tests and fixtures of it, on the loop of our plugin or in takeover."""

from tests.ecosystem.programs.pytest_run import passes
from tests.ecosystem.support import run

SUITE = """
import asyncio
import pytest
import pytest_asyncio
from tests.ecosystem.support import check

@pytest_asyncio.fixture
async def server():
    async def echo(reader, writer):
        writer.write(await reader.readline())
        writer.close()
        await writer.wait_closed()

    check()
    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]

@pytest.mark.asyncio
@pytest.mark.parametrize("n", range(3))
async def test_echo(server, n):
    check()
    reader, writer = await asyncio.open_connection("127.0.0.1", server)
    writer.write(b"%d\\n" % n)
    assert await reader.readline() == b"%d\\n" % n
    writer.close()
    await writer.wait_closed()

loops = []

@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("n", range(2))
async def test_one_loop_for_a_module(n):
    check()
    loops.append(asyncio.get_running_loop())
    assert len(set(loops)) == 1

@pytest.mark.asyncio
async def test_timeout():
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await asyncio.sleep(60)
"""


async def main():
    await passes(SUITE, 6, "-o", "asyncio_default_fixture_loop_scope=function")


if __name__ == "__main__":
    run(main)
