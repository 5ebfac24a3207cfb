"""``python -m asyncio ps`` and ``pstree`` (3.14), which read another process: they see our tasks and who awaits whom."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator

import pytest

from tests.support import IMPLEMENTATION, ROOT, STDLIB, interpreter

pytestmark = pytest.mark.skipif(sys.version_info < (3, 14), reason="the tools came with 3.14")

PROGRAM = """
import asyncio

async def leaf():
    await asyncio.sleep(100)

async def branch():
    async with asyncio.TaskGroup() as group:
        group.create_task(leaf(), name="in group 1")
        group.create_task(leaf(), name="in group 2")

async def main():
    gathered = asyncio.gather(asyncio.create_task(leaf(), name="gathered"))
    alone = asyncio.create_task(leaf(), name="alone")
    waited = asyncio.create_task(branch(), name="branch")
    asyncio.get_running_loop().call_later(0.05, print, "ready", 0)
    await asyncio.wait_for(waited, 100)

asyncio.run(main())
"""


@pytest.fixture
def pid(tmp_path) -> Iterator[int]:
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(PROGRAM).replace("print, ", "lambda *args: print(*args, flush=True), "))
    how = [] if STDLIB else ["-m", IMPLEMENTATION]
    program = subprocess.Popen([sys.executable, *how, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert program.stdout.readline() == "ready 0\n"
        yield program.pid
    finally:
        program.kill()
        program.communicate()


def ask(command: str, pid: int) -> str:
    done = interpreter("-m", "asyncio", command, str(pid))
    if "Permission" in done.stderr or "not permitted" in done.stderr:
        pytest.skip("this user may not read other processes")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_ps(pid):
    lines = ask("ps", pid).splitlines()[2:]
    awaiter = {}
    for line in lines:
        for name in ("in group 1", "in group 2", "gathered", "alone", "branch", "Task-1"):
            if f" {name} " in line[:60]:
                rest = line[60:]
                awaiter[name] = next((one for one in ("branch", "Task-1") if f" {one} " in rest[70:]), None)
    assert awaiter == {
        "Task-1": None,
        "alone": None,
        "branch": "Task-1",
        "gathered": "Task-1",
        "in group 1": "branch",
        "in group 2": "branch",
    }


def test_pstree(pid):
    depth = {}
    for line in ask("pstree", pid).splitlines():
        if "(T) " in line:
            before, _, name = line.partition("(T) ")
            depth[name.strip()] = len(before)
    assert depth["alone"] == depth["Task-1"]
    assert depth["branch"] == depth["gathered"] > depth["Task-1"]
    assert depth["in group 1"] == depth["in group 2"] > depth["branch"]
