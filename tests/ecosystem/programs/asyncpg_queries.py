"""asyncpg against PostgreSQL: a pool, prepared statements, cursors, COPY, LISTEN/NOTIFY, cancelling, TLS."""

import asyncio
import io

import asyncpg

from tests.certificates import client_context
from tests.ecosystem.support import run, server


async def main():
    host, port = server("postgres")
    where = {"host": host, "port": port, "user": "postgres", "database": "postgres"}

    for tls in (False, client_context()):
        connection = await asyncpg.connect(**where, ssl=tls)
        assert await connection.fetchval("select 1") == 1
        used = "select ssl from pg_stat_ssl where pid = pg_backend_pid()"
        assert await connection.fetchval(used) is bool(tls)
        rows = await connection.fetch(
            "select n, n * n as square, repeat('x', n) as text from generate_series(1, 1000) n"
        )
        assert [row["square"] for row in rows] == [n * n for n in range(1, 1001)]
        assert len(rows[-1]["text"]) == 1000
        await connection.close()

    async with asyncpg.create_pool(**where, min_size=2, max_size=8) as pool:
        answers = await asyncio.gather(*(pool.fetchval("select $1::int + 1", n) for n in range(200)))
        assert answers == list(range(1, 201))

        async with pool.acquire() as connection:
            await connection.execute("create temporary table numbers (n int, text text)")
            await connection.executemany("insert into numbers values ($1, $2)", [(n, str(n)) for n in range(1000)])
            async with connection.transaction():
                seen = [row["n"] async for row in connection.cursor("select n from numbers order by n", prefetch=70)]
            assert seen == list(range(1000))
            try:
                async with connection.transaction():
                    await connection.execute("delete from numbers")
                    raise KeyError
            except KeyError:
                pass
            assert await connection.fetchval("select count(*) from numbers") == 1000
            out = io.BytesIO()
            await connection.copy_from_query("select n from numbers order by n", output=out)
            assert out.getvalue() == b"".join(b"%d\n" % n for n in range(1000))
            await connection.copy_records_to_table("numbers", records=((n, "copied") for n in range(5000)))
            assert await connection.fetchval("select count(*) from numbers") == 6000

        heard = asyncio.Queue()
        async with pool.acquire() as listener, pool.acquire() as speaker:
            await listener.add_listener("channel", lambda *args: heard.put_nowait(args[-1]))
            for n in range(10):
                await speaker.execute("select pg_notify('channel', $1)", str(n))
            async with asyncio.timeout(10):
                assert [await heard.get() for _ in range(10)] == [str(n) for n in range(10)]
            await listener.reset()

        # a query that is given up is cancelled on the server, and its connection is good again
        async with pool.acquire() as connection:
            try:
                async with asyncio.timeout(0.2):
                    await connection.execute("select pg_sleep(60)")
            except TimeoutError:
                pass
            else:
                raise AssertionError("no timeout")
            assert await connection.fetchval("select 2") == 2
            try:
                await connection.fetch("select pg_sleep(60)", timeout=0.2)
            except TimeoutError:
                pass
            else:
                raise AssertionError("no timeout")
            assert await connection.fetchval("select 3") == 3


if __name__ == "__main__":
    run(main)
