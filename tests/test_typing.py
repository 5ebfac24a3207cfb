"""The types: what the stubs say is what the modules have, and programs with types are checked as with asyncio's.

The programs are in tests/typing. An expected error is a `type: ignore` with its code: mypy refuses one that ignores nothing.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = sorted((Path(__file__).parent / "typing").glob("*.py"))
#: those that have asyncio's names only, and so mean the same with asyncio
PORTABLE = [program for program in PROGRAMS if program.stem not in ("interop", "ours")]
VERSIONS = ["3.11", "3.12", "3.13", "3.14", "3.15"]

#: What stubtest cannot compare, and why.
NOT_COMPARED = {
    "aioxide.windows_events": "not on this platform, as asyncio's",
    "aioxide.windows_utils": "not on this platform, as asyncio's",
}
if sys.version_info < (3, 14):
    NOT_COMPARED |= {
        "aioxide.graph": "asyncio has it since 3.14",
        "aioxide.tools": "asyncio has it since 3.14",
    }


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mypy")


def mypy(cache: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Not in the repository's directory: what is checked against are the types of the installed package."""
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={cache}", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cache)


@pytest.mark.deadline(300)
@pytest.mark.parametrize("version", VERSIONS)
def test_programs_have_the_types_of_asyncio(version: str, cache: Path) -> None:
    done = mypy(cache, "--python-version", version, *PROGRAMS)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.deadline(300)
def test_the_same_programs_with_asyncio(cache: Path, tmp_path: Path) -> None:
    """What the programs expect is what asyncio's own types say, not what ours happen to."""
    copies = [tmp_path / program.name for program in PORTABLE]
    for program, copy in zip(PORTABLE, copies, strict=True):
        source = program.read_text()
        assert "import aioxide as asyncio" in source
        copy.write_text(source.replace("import aioxide as asyncio", "import asyncio"))
    done = mypy(cache, "--python-version", VERSIONS[-1], *copies)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.deadline(300)
def test_a_wrong_program_is_refused(cache: Path, tmp_path: Path) -> None:
    program = tmp_path / "wrong.py"
    program.write_text("import aioxide\n\naioxide.Queue().put(3, 4)\naioxide.sleep(None)\naioxide.nothing()\n")
    done = mypy(cache, program)
    assert done.returncode == 1
    for line in (3, 4, 5):
        assert f"wrong.py:{line}: error:" in done.stdout


@pytest.mark.deadline(300)
def test_stubs_say_what_the_modules_have(tmp_path: Path) -> None:
    allowlist = tmp_path / "allowlist.txt"
    allowlist.write_text("".join(f"{name}  # {reason}\n" for name, reason in NOT_COMPARED.items()))
    command = [sys.executable, "-m", "mypy.stubtest", "aioxide", "--concise", "--allowlist", str(allowlist)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_module_has_its_stub() -> None:
    import aioxide

    package = Path(aioxide.__file__).parent
    assert (package / "py.typed").exists()
    modules = {path.stem for path in package.glob("*.py")}
    assert modules == {path.stem for path in package.glob("*.pyi")}
