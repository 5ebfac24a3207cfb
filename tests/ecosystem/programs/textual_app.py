"""textual: an application in its pilot's hands: keys, clicks, timers, workers in tasks and threads."""

import asyncio

from textual import work
from textual.app import App
from textual.widgets import Button, Input, Static

from tests.ecosystem.support import check, run


class Application(App):
    def compose(self):
        yield Input(id="name")
        yield Button("go", id="go")
        yield Static("", id="answer")

    def on_mount(self):
        check()
        self.ticks = 0
        self.set_interval(0.01, self.tick)

    def tick(self):
        self.ticks += 1

    def on_button_pressed(self):
        self.ask(self.query_one(Input).value)

    @work(exclusive=True)
    async def ask(self, name):
        await asyncio.sleep(0.01)
        self.shout(name.upper())

    @work(thread=True)
    def shout(self, text):
        self.call_from_thread(self.query_one("#answer", Static).update, f"{text}!")


async def main():
    app = Application()
    async with app.run_test() as pilot:
        await pilot.click("#name")
        await pilot.press(*"hello")
        assert app.query_one(Input).value == "hello"
        await pilot.click("#go")
        await app.workers.wait_for_complete()
        await pilot.pause(0.1)
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert str(app.query_one("#answer", Static).content) == "HELLO!"
        assert app.ticks > 3
        await pilot.exit("done")
    assert app.return_value == "done"


if __name__ == "__main__":
    run(main)
