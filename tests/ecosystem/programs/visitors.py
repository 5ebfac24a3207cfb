"""What the programs with a server in other processes ask it: an HTTP client of forty lines, on asyncio's streams."""

import asyncio
import contextlib
import json

from tests.ecosystem.support import EXPECTED


async def fetch(port, body=b""):
    """The server's own words, and what it sends back of the body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    answer = await reader.read()
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    head, _, rest = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise ConnectionError(head.decode())
    if b"chunked" in head.lower():
        rest = joined(rest)
    words, _, echo = rest.partition(b"\n")
    return json.loads(words), echo


def joined(chunks):
    body = b""
    while chunks:
        size, _, chunks = chunks.partition(b"\r\n")
        length = int(size, 16)
        body, chunks = body + chunks[:length], chunks[length + 2 :]
    return body


async def every_worker(port, workers):
    """Until so many processes have answered; each on the loop that is expected, and each answer complete."""
    seen = set()
    async with asyncio.timeout(30):
        while len(seen) < workers:
            bodies = [b"%d" % n * (n * 37) for n in range(20)]
            try:
                answers = await asyncio.gather(*(fetch(port, body) for body in bodies))
            except OSError:  # not all of them listen yet
                await asyncio.sleep(0.1)
                continue
            assert [echo for _, echo in answers] == bodies
            assert {words["loop"] for words, _ in answers} == {EXPECTED}, answers[0]
            seen |= {words["pid"] for words, _ in answers}
    return seen
