"""psycopg against PostgreSQL: rows, pipeline mode, server cursors, COPY, LISTEN/NOTIFY, cancelling, TLS."""

import asyncio

import psycopg

from tests.certificates import CA
from tests.ecosystem.support import run, server


async def main():
    host, port = server("postgres")
    where = f"host={host} port={port} user=postgres dbname=postgres"

    for tls in ("sslmode=disable", f"sslmode=verify-full sslrootcert={CA}"):
        async with await psycopg.AsyncConnection.connect(f"{where} {tls}") as connection:
            cursor = await connection.execute("select ssl from pg_stat_ssl where pid = pg_backend_pid()")
            assert (await cursor.fetchone())[0] is ("full" in tls)
            cursor = await connection.execute("select n, repeat('x', n) from generate_series(1, 1000) n")
            assert [(n, len(text)) for n, text in await cursor.fetchall()] == [(n, n) for n in range(1, 1001)]

    async with await psycopg.AsyncConnection.connect(where, autocommit=True) as connection:
        async with connection.pipeline():
            cursors = [await connection.execute("select %s::int", (n,)) for n in range(100)]
            assert [(await cursor.fetchone())[0] for cursor in cursors] == list(range(100))
        await connection.execute("create temporary table numbers (n int)")
        async with connection.cursor() as cursor:
            async with cursor.copy("copy numbers from stdin") as copy:
                for n in range(1000):
                    await copy.write_row((n,))
            async with cursor.copy("copy (select n from numbers order by n) to stdout") as copy:
                copied = b"".join([bytes(part) async for part in copy])
        assert copied == b"".join(b"%d\n" % n for n in range(1000))
        async with connection.transaction(), connection.cursor("named") as cursor:
            await cursor.execute("select n from numbers order by n")
            assert [row[0] async for row in cursor] == list(range(1000))
        try:
            async with asyncio.timeout(0.2):
                await connection.execute("select pg_sleep(60)")
        except TimeoutError:
            pass
        else:
            raise AssertionError("no timeout")
        cursor = await connection.execute("select 2")
        assert await cursor.fetchone() == (2,)

    async with (
        await psycopg.AsyncConnection.connect(where, autocommit=True) as listener,
        await psycopg.AsyncConnection.connect(where, autocommit=True) as speaker,
    ):
        await listener.execute("listen channel")

        async def speak():
            for n in range(10):
                await speaker.execute("select pg_notify('channel', %s)", (str(n),))

        speaking = asyncio.create_task(speak())
        heard = [notify.payload async for notify in listener.notifies(timeout=10, stop_after=10)]
        await speaking
        assert heard == [str(n) for n in range(10)]

    async def ask(n):
        async with await psycopg.AsyncConnection.connect(where) as connection:
            return (await (await connection.execute("select %s::int * 2", (n,))).fetchone())[0]

    assert await asyncio.gather(*map(ask, range(30))) == [2 * n for n in range(30)]


if __name__ == "__main__":
    run(main)
