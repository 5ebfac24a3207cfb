"""An ASGI application without a framework: it answers with its process and its loop, and with what it was sent."""

import json
import os

from tests.ecosystem.support import loop_module


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    assert scope["type"] == "http"
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    head = json.dumps({"pid": os.getpid(), "loop": loop_module(), "version": VERSION}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": head + b"\n", "more_body": True})
    await send({"type": "http.response.body", "body": body})


VERSION = 1
