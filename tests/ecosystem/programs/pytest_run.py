"""What the two programs about pytest share: a suite of the given source, in a folder and a process of its own."""

import asyncio
import tempfile
from pathlib import Path

from tests.ecosystem.support import MODE, python

PLUGIN = ["-p", "aioxide.pytest_plugin"] if MODE == "loop" else []


async def passes(source, tests, *options):
    """So many tests pass, and none does anything else."""
    with tempfile.TemporaryDirectory(prefix="aioxide-") as folder:
        Path(folder, "test_suite.py").write_text(source)
        Path(folder, "pytest.ini").write_text("[pytest]\n")
        command = python("-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", *PLUGIN, *options, folder)
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        output, _ = await process.communicate()
    text = output.decode()
    assert process.returncode == 0, text
    assert f"\n{tests} passed" in text, text
