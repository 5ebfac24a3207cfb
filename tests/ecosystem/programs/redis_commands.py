"""redis: pipelines, transactions, publish/subscribe, blocking reads, scripts, many clients of one pool."""

import asyncio

import redis.asyncio as redis

from tests.ecosystem.support import run, server


async def main():
    host, port = server("redis")
    pool = redis.BlockingConnectionPool(host=host, port=port, protocol=3, max_connections=20, timeout=20)
    async with redis.Redis.from_pool(pool) as client:
        await client.flushall()
        assert await client.set("key", "value")
        assert await client.get("key") == b"value"
        await client.set("large", b"x" * 1_000_000)
        assert len(await client.get("large")) == 1_000_000

        async with client.pipeline(transaction=False) as pipeline:
            for n in range(1000):
                pipeline.set(f"k{n}", n)
            assert all(await pipeline.execute())
        async with client.pipeline(transaction=False) as pipeline:
            for n in range(1000):
                pipeline.get(f"k{n}")
            assert await pipeline.execute() == [b"%d" % n for n in range(1000)]

        async def increment(pipeline):
            value = int(await pipeline.get("counter") or 0)
            pipeline.multi()
            pipeline.set("counter", value + 1)

        await asyncio.gather(*(client.transaction(increment, "counter") for _ in range(10)))
        assert await client.get("counter") == b"10"
        assert await asyncio.gather(*(client.incr("many") for _ in range(200))) != []
        assert await client.get("many") == b"200"

        async with client.pubsub() as subscriber:
            await subscriber.subscribe("channel")
            await subscriber.psubscribe("pat*")
            heard = []

            async def listen():
                async for message in subscriber.listen():
                    if message["type"] in ("message", "pmessage"):
                        heard.append(message["data"])
                    if message["data"] == b"end":
                        return

            listening = asyncio.create_task(listen())
            await asyncio.sleep(0.05)
            for n in range(100):
                await client.publish("channel" if n % 2 else "pattern", str(n))
            await client.publish("channel", "end")
            await listening
            assert heard == [b"%d" % n for n in range(100)] + [b"end"]

        waiting = asyncio.create_task(client.blpop("list", timeout=10))
        await asyncio.sleep(0.05)
        await client.rpush("list", "item")
        assert tuple(await waiting) == (b"list", b"item")
        # a command that is given up does not leave its answer to the next one
        try:
            async with asyncio.timeout(0.1):
                await client.blpop("nothing", timeout=10)
        except TimeoutError:
            pass
        else:
            raise AssertionError("no timeout")
        assert await client.echo("hello") == b"hello"
        assert await client.eval("return {1, 2, ARGV[1]}", 0, "x") == [1, 2, b"x"]
        assert [key async for key in client.scan_iter("k99*")] != []


if __name__ == "__main__":
    run(main)
