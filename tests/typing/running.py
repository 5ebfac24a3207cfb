"""Runners, and what starts a program."""

from contextvars import Context, copy_context
from typing import assert_type

import aioxide as asyncio


async def main() -> int:
    return 3


async def nothing() -> None: ...


assert_type(asyncio.run(main()), int)
assert_type(asyncio.run(nothing(), debug=True), None)
asyncio.run(main(), loop_factory=asyncio.EventLoop)
asyncio.run(main(), loop_factory=asyncio.new_event_loop)
asyncio.run(main)  # type: ignore[arg-type]
asyncio.run(3)  # type: ignore[arg-type]
asyncio.run(main(), True)  # type: ignore[call-arg, misc, unused-ignore]

with asyncio.Runner(debug=False, loop_factory=asyncio.SelectorEventLoop) as runner:
    assert_type(runner, asyncio.Runner)
    assert_type(runner.run(main()), int)
    context: Context = copy_context()
    assert_type(runner.run(main(), context=context), int)
    assert_type(runner.get_loop(), asyncio.AbstractEventLoop)
