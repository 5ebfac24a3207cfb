"""Worker classes for gunicorn whose loop is ours. It owns no loop: what makes one there is uvicorn, or aiohttp.

    gunicorn app:app -k aioxide.gunicorn.UvicornWorker      needs uvicorn-worker
    gunicorn app:app -k aioxide.gunicorn.AiohttpWorker      needs aiohttp

Each class is made when it is asked for, so that the library of the other one need not be there.
"""

from __future__ import annotations

import asyncio
from typing import Any

from . import new_event_loop


def _uvicorn_worker() -> type:
    from uvicorn_worker import UvicornWorker as Base

    class UvicornWorker(Base):
        """Serves ASGI applications by uvicorn, on our loop."""

        CONFIG_KWARGS = {**Base.CONFIG_KWARGS, "loop": "aioxide:new_event_loop"}  # noqa: RUF012

    return UvicornWorker


def _aiohttp_worker() -> type:
    from aiohttp.worker import GunicornWebWorker

    class AiohttpWorker(GunicornWebWorker):
        """Serves applications of aiohttp, on our loop."""

        def init_signals(self) -> None:
            # the first step that has a loop, and the first that leaves anything in it: aiohttp has just made asyncio's
            self.loop.close()
            self.loop = new_event_loop()
            asyncio.set_event_loop(self.loop)
            super().init_signals()

    return AiohttpWorker


def __getattr__(name: str) -> Any:
    maker = {"UvicornWorker": _uvicorn_worker, "AiohttpWorker": _aiohttp_worker}.get(name)
    if maker is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    made = globals()[name] = maker()
    return made
