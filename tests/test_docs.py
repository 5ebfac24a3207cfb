"""The programs of docs/ and of the README do what stands beside them; every public name is in the reference.

* A fence of ``python`` with an ``output`` fence right after it is run, and prints that, and nothing to stderr. Unless it
  speaks of aioxide, it is run on asyncio, too.
* One whose first line is ``# name.py`` is a file that the others of its folder can import.
* One with neither is run and prints nothing.
* A fence of ``console`` holds commands (``$ …``), each with what it prints, stderr included.
* ``...`` stands for anything, and seconds may differ.
* ``<!-- not run: why -->`` above a fence: it needs something that is not here. It must compile all the same.
  ``<!-- continues -->``: it goes on where the program above it ends. ``<!-- since: 3.12 -->``,
  ``<!-- until: 3.13 -->``: Pythons on which it is run.
"""

from __future__ import annotations

import ast
import builtins
import importlib.util
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import aioxide
from tests.support import ROOT, STDLIB, interpreter

pytestmark = pytest.mark.skipif(STDLIB, reason="the documentation is aioxide's")

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(
    r"^(?:<!-- (?P<note>[^\n]*) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass
class Block:
    page: Path
    line: int
    language: str
    text: str
    note: str
    output: str | None = None

    @property
    def name(self) -> str | None:
        """The file that it is, if it is one."""
        match = re.match(r"# (\w+\.py)\n", self.text)
        return match[1] if self.language == "python" and match else None

    @property
    def here(self) -> bool:
        """Whether this Python can run it."""
        kind, _, version = self.note.partition(": ")
        if kind not in ("since", "until"):
            return True
        wanted = tuple(map(int, version.split(".")))
        return sys.version_info[:2] >= wanted if kind == "since" else sys.version_info[:2] <= wanted

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    found: list[Block] = []
    end = 0
    for match in FENCE.finditer(text):
        if match["language"] == "output":
            assert not text[end : match.start()].strip(), f"{page}: output without a program"
            found[-1].output = match["text"]
        else:
            line = text.count("\n", 0, match.start("language")) + 1
            before = found[-1].text if match["note"] == "continues" else ""
            found.append(Block(page, line, match["language"], before + match["text"], match["note"] or ""))
        end = match.end()
    return found


BLOCKS = [block for page in PAGES for block in blocks(page)]
PYTHON = [block for block in BLOCKS if block.language == "python"]
PROGRAMS = [b for b in PYTHON if not b.note.startswith("not run") and (b.output is not None or not b.name)]
COMMANDS = [b for b in BLOCKS if b.language == "console" and not b.note.startswith("not run")]


def matches(expected: str, printed: str) -> bool:
    pattern = re.escape(expected).replace(re.escape("..."), ".*?")
    pattern = re.sub(r"\d+\\\.\d+(?=(\.\*\?)?\\? (s|ms|seconds)\b)", r"\\d+\\.\\d+", pattern)
    return re.fullmatch(pattern, printed, re.DOTALL) is not None


@pytest.fixture
def folder(tmp_path, request):
    """Where a block finds the files of its page and of the pages beside it."""
    block = request.node.callspec.params["block"]
    for other in PYTHON:
        if other.name and other.page.parent == block.page.parent:
            (tmp_path / other.name).write_text(other.text)
    return tmp_path


@pytest.mark.parametrize("block", PROGRAMS, ids=str)
def test_program(block, folder):
    if not block.here:
        pytest.skip(block.note)
    path = folder / (block.name or "program.py")
    path.write_text(block.text)
    ways = [[]] if "aioxide" in block.text else [[], ["-m", "aioxide"]]
    for way in ways:
        done = interpreter(*way, str(path), cwd=folder)
        assert done.returncode == 0, done.stderr
        assert matches(block.output or "", done.stdout), done.stdout
        assert done.stderr == ""


@pytest.mark.parametrize("block", COMMANDS, ids=str)
def test_commands(block, folder):
    if not block.here:
        pytest.skip(block.note)
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONUNBUFFERED": "1",
    }
    for step in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, expected = step.partition("\n")
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=50,
            check=False,
        )
        assert matches(expected, done.stdout), done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page(page):
    found = blocks(page)
    for block in found:
        assert block.language in ("python", "console", "toml", "ini", "json", "names", "text"), block
        if block.language == "python":
            assert block.name is None or block.name[:-3] not in sys.stdlib_module_names, block
            compile(block.text, str(block), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        if block.note:
            assert re.match(r"(not run: \w+|continues$|since: 3\.\d+$|until: 3\.\d+$)", block.note), block
    for target in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page}: {target}"


def test_the_matcher_can_fail():
    assert matches("a ... c\n", "a b c\n")
    assert matches("0.62 s\n", "1.87 s\n")
    assert not matches("a\n", "b\n")
    assert not matches("5 pages\n", "6 pages\n")
    assert not matches("", "x\n")
    assert len(PROGRAMS) > 20


# -- the reference -----------------------------------------------------------------------------------------------------------

REFERENCE = {
    name
    for page in PAGES
    for block in re.findall(r"^```\{names\}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    for name in block.split()
    if not name.startswith(":")
}


def test_reference_has_every_public_name():
    assert set(aioxide.__all__) - REFERENCE == set()
    assert {"install", "uninstall", "EventLoopPolicy", "subprocess.Process"} <= REFERENCE


def test_reference_has_every_method_of_the_loop():
    public = {f"EventLoop.{name}" for name in vars(aioxide.EventLoop) if not name.startswith("_")}
    assert public - REFERENCE == set()


#: what only some Pythons have
ELSEWHERE = """
    AbstractChildWatcher FastChildWatcher MultiLoopChildWatcher PidfdChildWatcher SafeChildWatcher ThreadedChildWatcher
    get_child_watcher set_child_watcher
    AbstractEventLoopPolicy DefaultEventLoopPolicy EventLoopPolicy get_event_loop_policy set_event_loop_policy
    FrameCallGraphEntry FutureCallGraph capture_call_graph format_call_graph print_call_graph
    future_add_to_awaited_by future_discard_from_awaited_by
"""


def test_reference_names_nothing_that_no_python_has():
    for name in REFERENCE - set(ELSEWHERE.split()):
        thing = aioxide
        for part in name.split("."):
            thing = getattr(thing, part)


def test_what_the_pages_refer_to_is_in_the_inventory():
    """Else `make docs` fails, which is not run here."""
    spec = importlib.util.spec_from_file_location("python_inventory", ROOT / "docs" / "_ext" / "python_inventory.py")
    inventory = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(inventory)
    modules = ("aioxide", "asyncio", *inventory.MODULES)
    role = re.compile(r"\{py:\w+\}`(?:[^`<]*<)?~?([\w.]+)>?`")
    names = {name for page in PAGES for name in role.findall(page.read_text())}
    assert len(names) > 10
    unknown = [
        name
        for name in names
        if not hasattr(builtins, name) and not any(f"{name}.".startswith(f"{module}.") for module in modules)
    ]
    assert unknown == []
