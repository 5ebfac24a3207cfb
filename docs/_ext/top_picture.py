"""Draws docs/_static/top.svg: what ``aioxide top`` shows of a service that is busy, as it is printed.

python docs/_ext/top_picture.py
"""

from __future__ import annotations

import html
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PICTURE = Path(__file__).parent.parent / "_static" / "top.svg"

#: two thousand clients, workers that share a lock, and one that computes where it should not
SERVICE = """\
import asyncio


async def client(queue):
    while True:
        await queue.put("request")
        await asyncio.sleep(1)


async def worker(queue, database):
    while True:
        await queue.get()
        async with database:
            await asyncio.sleep(0)


async def thumbnails():
    while True:
        sum(range(2_000_000))
        await asyncio.sleep(0.06)


async def main():
    queue, database = asyncio.Queue(500), asyncio.Lock()
    async with asyncio.TaskGroup() as group:
        for _ in range(2000):
            group.create_task(client(queue))
        for number in range(8):
            group.create_task(worker(queue, database), name=f"worker {number}")
        group.create_task(thumbnails(), name="thumbnails")


asyncio.run(main())
"""

COLUMNS, LINE, LEFT, TOP = 7.83, 18, 16, 52


def shown() -> str:
    """One screen, of the second second."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "service.py").write_text(SERVICE)
        service = subprocess.Popen(
            [sys.executable, "-m", "aioxide", "service.py"], cwd=folder, stderr=subprocess.DEVNULL
        )
        try:
            time.sleep(1)
            command = [sys.executable, "-m", "aioxide", "top", "--once", str(service.pid)]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.rstrip()
        finally:
            service.kill()
            service.wait()


def drawn(text: str) -> str:
    lines = text.splitlines()
    width = round(2 * LEFT + COLUMNS * max(map(len, lines)))
    height = TOP + LINE * len(lines)
    rows = [
        f'  <text x="{LEFT}" y="{TOP + LINE * number}" xml:space="preserve"'
        + (' fill="#9ece6a" font-weight="bold"' if line[:1].isalpha() and line.isupper() else "")
        + f">{html.escape(line)}</text>"
        for number, line in enumerate(lines)
    ]
    buttons = [
        f'  <circle cx="{20 + 18 * number}" cy="18" r="6" fill="{colour}"/>'
        for number, colour in enumerate(("#f7768e", "#e0af68", "#9ece6a"))
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"',
            '  font-family="ui-monospace, DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="13" fill="#c0caf5">',
            f'  <title>aioxide top</title>\n  <rect width="{width}" height="{height}" rx="8" fill="#1a1b26"/>',
            *buttons,
            *rows,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    PICTURE.write_text(drawn(shown()))
    print(PICTURE)
