"""FastAPI by uvicorn: async and threaded endpoints, dependencies, streaming, WebSockets, background tasks, lifespan."""

import asyncio
import contextlib
import threading

import httpx
import uvicorn
import websockets
from fastapi import BackgroundTasks, Depends, FastAPI, WebSocket
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient
from pydantic import BaseModel

from tests.ecosystem.support import MODE, check, run, until

events = []


class Item(BaseModel):
    name: str
    price: float


@contextlib.asynccontextmanager
async def lifespan(app):
    events.append("start")
    yield
    events.append("end")


async def doubled(n: int):
    check()
    await asyncio.sleep(0)
    return 2 * n


app = FastAPI(lifespan=lifespan)


@app.get("/async/{n}")
async def asynchronous(answer: int = Depends(doubled)):
    return {"answer": answer}


@app.get("/sync/{n}")
def synchronous(n: int):
    return {"thread": threading.current_thread() is not threading.main_thread(), "n": n}


@app.post("/items")
async def items(item: Item, background: BackgroundTasks):
    background.add_task(events.append, item.name)
    return item


@app.get("/stream")
async def stream():
    async def rows():
        for n in range(100):
            yield f"{n}\n"
            await asyncio.sleep(0)

    return StreamingResponse(rows())


@app.websocket("/socket")
async def socket(websocket: WebSocket):
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text.upper())


async def main():
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", loop="none"))
    serving = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    base = f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    async with httpx.AsyncClient(base_url=f"http://{base}") as client:
        answers = await asyncio.gather(*(client.get(f"/async/{n}") for n in range(100)))
        assert [answer.json()["answer"] for answer in answers] == [2 * n for n in range(100)]
        answers = await asyncio.gather(*(client.get(f"/sync/{n}") for n in range(100)))
        assert [answer.json() for answer in answers] == [{"thread": True, "n": n} for n in range(100)]
        assert (await client.get("/async/x")).status_code == 422
        assert (await client.post("/items", json={"name": "a", "price": 1.5})).json() == {"name": "a", "price": 1.5}
        async with client.stream("GET", "/stream") as response:
            assert [int(line) async for line in response.aiter_lines()] == list(range(100))
    async with websockets.connect(f"ws://{base}/socket") as websocket:
        await websocket.send("hello")
        assert await websocket.recv() == "HELLO"
    server.should_exit = True
    await serving
    assert events == ["start", "a", "end"], events


def test_client():
    """Its test client runs the application on a loop of its own, in a thread, by anyio."""
    options = {"loop_factory": __import__("aioxide").new_event_loop} if MODE == "loop" else {}
    with TestClient(app, backend_options=options) as client:
        assert client.get("/async/21").json() == {"answer": 42}
        with client.websocket_connect("/socket") as websocket:
            websocket.send_text("hello")
            assert websocket.receive_text() == "HELLO"


if __name__ == "__main__":
    test_client()
    events.clear()
    run(main)
