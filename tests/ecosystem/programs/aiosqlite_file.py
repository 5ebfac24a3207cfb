"""aiosqlite: its threads answer the loop. A file, 1,000 rows, transactions, many connections at once."""

import asyncio
import tempfile
from pathlib import Path

import aiosqlite

from tests.ecosystem.support import run


async def main():
    with tempfile.TemporaryDirectory(prefix="aioxide-") as folder:
        file = Path(folder, "numbers.db")
        async with aiosqlite.connect(file) as database:
            await database.execute("create table numbers (n integer, text text)")
            await database.executemany("insert into numbers values (?, ?)", [(n, str(n)) for n in range(1000)])
            await database.commit()
            async with database.execute("select n, text from numbers order by n") as cursor:
                assert [row async for row in cursor] == [(n, str(n)) for n in range(1000)]
            await database.execute("delete from numbers")
            await database.rollback()
            try:
                await database.execute("select nothing")
            except aiosqlite.OperationalError:
                pass
            else:
                raise AssertionError("no error")

        async def count(n):
            async with aiosqlite.connect(file) as database:
                async with database.execute("select count(*) from numbers where n < ?", (n,)) as cursor:
                    return (await cursor.fetchone())[0]

        assert await asyncio.gather(*map(count, range(0, 1000, 20))) == list(range(0, 1000, 20))


if __name__ == "__main__":
    run(main)
