"""aiomqtt by mosquitto: it hands the loop a socket of its own to watch, and a thread's callbacks."""

import asyncio

import aiomqtt

from tests.ecosystem.support import run, server


async def main():
    host, port = server("mosquitto")
    async with aiomqtt.Client(host, port) as subscriber, aiomqtt.Client(host, port) as publisher:
        await subscriber.subscribe("numbers/#", qos=1)

        heard = []

        async def listen():
            async for message in subscriber.messages:
                heard.append((str(message.topic), message.payload))
                if len(heard) == 100:
                    return

        listening = asyncio.create_task(listen())
        for n in range(100):
            await publisher.publish(f"numbers/{n % 3}", payload=b"%d" % n * (n * 100), qos=1)
        async with asyncio.timeout(20):
            await listening
        assert heard == [(f"numbers/{n % 3}", b"%d" % n * (n * 100)) for n in range(100)]
    try:
        async with aiomqtt.Client(host, 1):
            pass
    except aiomqtt.MqttError:
        pass
    else:
        raise AssertionError("no error")


if __name__ == "__main__":
    run(main)
