"""SQLAlchemy's ORM over asyncpg and over aiosqlite: relations, streaming, savepoints, many sessions at once."""

import asyncio
import tempfile
from pathlib import Path

from sqlalchemy import ForeignKey, func, select
from sqlalchemy.ext.asyncio import AsyncAttrs, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, selectinload

from tests.ecosystem.support import check, run, server


class Base(AsyncAttrs, DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    books: Mapped[list["Book"]] = relationship()


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))


async def use(url):
    engine = create_async_engine(url)
    session = async_sessionmaker(engine, expire_on_commit=False)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)
        await connection.run_sync(Base.metadata.create_all)
        # synchronous code in a greenlet, within the task
        await connection.run_sync(lambda _: check())
    async with session() as one, one.begin():
        one.add_all(Author(name=f"a{n}", books=[Book(title=f"b{n}.{m}") for m in range(5)]) for n in range(100))
    async with session() as one:
        authors = (await one.scalars(select(Author).options(selectinload(Author.books)).order_by(Author.id))).all()
        assert [len(author.books) for author in authors] == [5] * 100
        lazy = await one.scalar(select(Author).where(Author.name == "a7").execution_options(populate_existing=True))
        assert [book.title for book in await lazy.awaitable_attrs.books] == [f"b7.{m}" for m in range(5)]
        result = await one.stream_scalars(select(Book.title).order_by(Book.id))
        assert len([title async for title in result]) == 500
        try:
            async with one.begin_nested():
                one.add(Author(name="nobody"))
                await one.flush()
                raise KeyError
        except KeyError:
            pass
        assert await one.scalar(select(func.count()).select_from(Author)) == 100

    async def ask(n):
        async with session() as one:
            return await one.scalar(select(Author.name).where(Author.id == n))

    assert await asyncio.gather(*map(ask, range(1, 101))) == [f"a{n}" for n in range(100)]
    await engine.dispose()


async def main():
    host, port = server("postgres")
    await use(f"postgresql+asyncpg://postgres@{host}:{port}/postgres")
    with tempfile.TemporaryDirectory(prefix="aioxide-") as folder:
        await use(f"sqlite+aiosqlite:///{Path(folder, 'library.db')}")


if __name__ == "__main__":
    run(main)
