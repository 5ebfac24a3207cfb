"""prompt_toolkit: keys come by a pipe that the loop watches; prompts, completion, background tasks, Ctrl-C."""

import asyncio

from prompt_toolkit import PromptSession
from prompt_toolkit.application import create_app_session, get_app
from prompt_toolkit.completion import WordCompleter
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from prompt_toolkit.patch_stdout import patch_stdout

from tests.ecosystem.support import check, run


async def main():
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        session = PromptSession(completer=WordCompleter(["hello", "help", "world"]))
        keys.send_text("hello\n")
        assert await session.prompt_async("> ") == "hello"

        async def type_slowly():
            check()
            for key in "wo\t\n":
                keys.send_text(key)
                await asyncio.sleep(0.1)

        typing = asyncio.create_task(type_slowly())
        assert await session.prompt_async("> ") == "world"
        await typing

        keys.send_text("\x03")
        try:
            await session.prompt_async("> ")
        except KeyboardInterrupt:
            pass
        else:
            raise AssertionError("Ctrl-C did nothing")

        ticks = []

        async def tick():
            while True:
                await asyncio.sleep(0.01)
                ticks.append(1)
                if len(ticks) == 5:
                    get_app().exit(result="by a task")

        with patch_stdout():
            session.app.create_background_task(tick())
            assert (
                await session.prompt_async("> ", pre_run=lambda: get_app().create_background_task(tick()))
                == "by a task"
            )


if __name__ == "__main__":
    run(main)
