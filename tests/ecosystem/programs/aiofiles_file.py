"""aiofiles: files in the loop's executor."""

import asyncio
import tempfile
from pathlib import Path

import aiofiles
import aiofiles.os
import aiofiles.tempfile

from tests.ecosystem.support import run


async def main():
    with tempfile.TemporaryDirectory(prefix="aioxide-") as folder:

        async def one(n):
            path = Path(folder, f"{n}.txt")
            async with aiofiles.open(path, "w") as file:
                await file.writelines(f"{m}\n" for m in range(n))
            async with aiofiles.open(path) as file:
                assert [int(line) async for line in file] == list(range(n))
            async with aiofiles.open(path, "rb") as file:
                await file.seek(n)
                assert await file.read() == b"".join(b"%d\n" % m for m in range(n))[n:]
            return (await aiofiles.os.stat(path)).st_size

        sizes = await asyncio.gather(*map(one, range(100)))
        assert sizes == [sum(len(f"{m}\n") for m in range(n)) for n in range(100)]
        assert len(await aiofiles.os.listdir(folder)) == 100
        async with aiofiles.tempfile.NamedTemporaryFile("wb", dir=folder) as file:
            await file.write(b"x")
        try:
            async with aiofiles.open(Path(folder, "none")):
                pass
        except FileNotFoundError:
            pass
        else:
            raise AssertionError("no error")


if __name__ == "__main__":
    run(main)
