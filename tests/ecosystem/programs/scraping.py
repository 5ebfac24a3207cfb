"""A site of nginx is followed from link to link, and then read all at once."""

import asyncio

import aiohttp
from selectolax.lexbor import LexborHTMLParser

from tests.ecosystem.support import run, server


async def main():
    host, port = server("nginx")
    async with aiohttp.ClientSession(f"http://{host}:{port}") as session:

        async def read(path):
            async with session.get(path) as response:
                assert response.status == 200
                return LexborHTMLParser(await response.text())

        path, titles = "/0.html", []
        while path:
            page = await read(path)
            titles.append(page.css_first("h1").text())
            link = page.css_first("a")
            path = link.attributes["href"] if link else None
        assert titles == [f"Page {n}" for n in range(20)]

        pages = await asyncio.gather(*(read(f"/{n % 20}.html") for n in range(400)))
        assert [len(page.css_first("p").text()) for page in pages] == [1000 * (n % 20) for n in range(400)]


if __name__ == "__main__":
    run(main)
