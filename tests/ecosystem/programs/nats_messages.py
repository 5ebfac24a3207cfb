"""nats-py: publish/subscribe, requests, a queue of workers, timeouts."""

import asyncio

import nats
import nats.errors

from tests.ecosystem.support import run, server


async def main():
    host, port = server("nats")
    client = await nats.connect(f"nats://{host}:{port}")
    heard = asyncio.Queue()

    async def hear(message):
        heard.put_nowait((message.subject, message.data))

    await client.subscribe("numbers.*", cb=hear)
    for n in range(200):
        await client.publish(f"numbers.{n % 3}", b"%d" % n * n)
    async with asyncio.timeout(10):
        assert [await heard.get() for _ in range(200)] == [(f"numbers.{n % 3}", b"%d" % n * n) for n in range(200)]

    async def answer(message):
        await message.respond(message.data[::-1])

    for _ in range(3):
        await client.subscribe("reverse", queue="workers", cb=answer)
    answers = await asyncio.gather(*(client.request("reverse", b"%d." % n, timeout=10) for n in range(100)))
    assert [reply.data for reply in answers] == [(b"%d." % n)[::-1] for n in range(100)]
    try:
        await client.request("nobody", b"", timeout=0.2)
    except nats.errors.NoRespondersError:
        pass
    else:
        raise AssertionError("somebody answered")
    subscription = await client.subscribe("never")
    try:
        await subscription.next_msg(timeout=0.05)
    except nats.errors.TimeoutError:
        pass
    else:
        raise AssertionError("no timeout")
    await client.drain()
    assert client.is_closed


if __name__ == "__main__":
    run(main)
