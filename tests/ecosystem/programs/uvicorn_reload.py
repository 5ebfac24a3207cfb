"""uvicorn --reload: a changed file starts the process anew."""

import asyncio
import shutil
import tempfile
from pathlib import Path

from tests.ecosystem.programs import asgi
from tests.ecosystem.programs.uvicorn_workers import LOOP
from tests.ecosystem.programs.visitors import every_worker, fetch
from tests.ecosystem.support import EXPECTED, free_port, python, run, serving


async def main():
    with tempfile.TemporaryDirectory(prefix="aioxide-") as folder:
        module = Path(folder, "application.py")
        shutil.copy(asgi.__file__, module)
        port = free_port()
        where = ["--app-dir", folder, "--reload", "--reload-dir", folder]
        command = python("-m", "uvicorn", "application:app", "--port", str(port), *LOOP, *where)
        async with serving(port, *command):
            (before,) = await every_worker(port, 1)
            version = 1
            async with asyncio.timeout(30):
                while version == 1:
                    # again and again, as uvicorn does not see what changes before its first look; and never of the same
                    # size, as the time of change may be told in seconds
                    module.write_text(module.read_text() + "\nVERSION = 1234\n")
                    await asyncio.sleep(0.5)
                    try:
                        words, _ = await fetch(port)
                    except OSError:
                        continue
                    version = words["version"]
            assert version == 1234
            assert words["loop"] == EXPECTED
            assert words["pid"] != before


if __name__ == "__main__":
    run(main)
