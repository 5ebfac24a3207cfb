"""aioxide.doctor: it finds who has asyncio's own objects, and says nothing where nothing is wrong."""

from __future__ import annotations

import pytest

from tests.support import ROOT, STDLIB, interpreter

pytestmark = pytest.mark.skipif(STDLIB, reason="aioxide's own")

EARLY = """
import asyncio
from asyncio import sleep, gather as together
class Mine(asyncio.Queue):
    pass
fine = asyncio.CancelledError
"""


def doctor(*args, cwd, before="", **kwargs):
    """In a folder with a module `early`, imported before takeover if `before` says so."""
    (cwd / "early.py").write_text(EARLY)
    source = f"{before}\nimport sys, runpy\nsys.argv[1:] = {['doctor', *args]!r}\nrunpy.run_module('aioxide', run_name='__main__')"
    return interpreter(
        "-c", source, cwd=cwd, env={"PYTHONPATH": str(ROOT / "python"), "PYTHONASYNCIODEBUG": ""}, **kwargs
    )


def complaints(done):
    problems, _, _ = done.stdout.partition("\nTo know:\n")
    return [line for line in problems.splitlines() if line.startswith("* ")]


def test_what_is_imported_after_takeover_is_fine(tmp_path):
    done = doctor("early", cwd=tmp_path)
    assert done.stderr == ""
    assert complaints(done) == []
    assert "objects of asyncio's are replaced" in done.stdout


def test_what_was_imported_before_is_found(tmp_path):
    done = doctor("early", cwd=tmp_path, before="import early")
    assert done.returncode == 1
    assert done.stderr == ""
    assert [line.partition(":")[0] for line in complaints(done)] == [
        "* early.sleep is asyncio's own asyncio.sleep",
        "* early.together is asyncio's own asyncio.gather",
        "* early.Mine derives from asyncio's own asyncio.Queue",
    ]


def test_a_policy_that_makes_other_loops_is_found(tmp_path):
    policy = """
import asyncio, warnings
warnings.simplefilter("ignore")
loops = asyncio.SelectorEventLoop
class Policy(asyncio.DefaultEventLoopPolicy):
    _loop_factory = loops
    def new_event_loop(self):
        return loops()
asyncio.set_event_loop_policy(Policy())
"""
    found = complaints(doctor(cwd=tmp_path, before=policy))
    assert any("an event loop policy has been set" in line for line in found), found


def test_debug_mode_is_mentioned(tmp_path):
    done = interpreter("-X", "dev", "-m", "aioxide", "doctor", cwd=tmp_path)
    assert complaints(done) == []
    assert "debug mode is on" in done.stdout
    assert done.returncode == 0


def test_another_loop_that_nobody_uses_is_no_problem(tmp_path):
    (tmp_path / "uvloop.py").write_text("")
    done = doctor(cwd=tmp_path)
    assert complaints(done) == []
    assert "* uvloop is installed" in done.stdout
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (None, "ModuleNotFoundError: No module named 'broken'"),
        ("import nothing_like_it", "ModuleNotFoundError: No module named 'nothing_like_it'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_module_that_cannot_be_imported_is_an_error(tmp_path, source, text):
    if source is not None:
        (tmp_path / "broken.py").write_text(source)
    done = doctor("broken", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == f"doctor: broken cannot be imported: {text}\n"
    assert done.stdout == ""


def test_options_are_no_modules(tmp_path):
    done = doctor("--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "doctor [module ...]" in done.stdout
    done = doctor("early", "--quick", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "unknown option --quick\nusage: " in done.stderr


def test_a_file_of_that_name_is_a_program(tmp_path):
    (tmp_path / "doctor").write_text("print('in')")
    done = interpreter("-m", "aioxide", "doctor", cwd=tmp_path)
    assert done.stdout == "in\n", done.stderr


def test_without_takeover_nobody_holds_anything(tmp_path):
    source = "from asyncio import sleep\nfrom aioxide import doctor\nprint(doctor.holders())\nprint(doctor.report())"
    done = interpreter("-c", source, env={"AIOXIDE_TAKEOVER": "0"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[]\n")
    assert "takeover: no" in done.stdout


def test_it_changes_nothing():
    source = """
import aioxide, asyncio
aioxide.install()
from aioxide import doctor
before = dict(vars(asyncio))
doctor.report()
assert dict(vars(asyncio)) == before
aioxide.uninstall()
assert doctor.holders() == []
"""
    done = interpreter("-c", source)
    assert done.returncode == 0, done.stderr
