"""What help() says of our names: the texts of crates/python/src/docs, and none is missing."""

import inspect
import re
import sys

import pytest

import aioxide
from aioxide import _core
from tests.support import ROOT, STDLIB

pytestmark = pytest.mark.skipif(STDLIB, reason="these are aioxide's own texts")

FOLDER = ROOT / "crates" / "python" / "src" / "docs"
TEXTS = dict(
    section.split("]\n", 1)
    for path in sorted(FOLDER.glob("*.txt"))
    for section in path.read_text().lstrip("[").rstrip("\n").split("\n\n[")
)
#: what only some Pythons have
SINCE_314 = ("future_add_to_awaited_by", "future_discard_from_awaited_by")
#: classes that are public, but not in aioxide.__all__
UNLISTED = ("Process", "EventLoopPolicy")


def of(path: str):
    found = _core
    for name in path.split("."):
        found = inspect.getattr_static(found, name)
    return found


@pytest.mark.parametrize("path", sorted(TEXTS))
def test_text_is_shown(path):
    if path in SINCE_314 and sys.version_info < (3, 14):
        pytest.skip("not on this Python")
    assert inspect.getdoc(of(path)) == TEXTS[path]


def ours() -> list[str]:
    """Every public class and function of ours, and every public member that its class defines."""
    paths = []
    for name in (*aioxide.__all__, *UNLISTED, "install", "uninstall"):
        thing = vars(_core).get(name)
        if name.startswith("_") or thing is None or getattr(aioxide, name, thing) is not thing:
            continue
        paths.append(name)
        if isinstance(thing, type):
            paths += [f"{thing.__name__}.{member}" for member in vars(thing) if not member.startswith("_")]
    return sorted(set(paths))


#: those that mean something only to asyncio's own protocols and policies keep asyncio's words, if it has any
ASYNCIOS = {"QueueShutDown", "SelectorEventLoop"}
CALLED_BY_OTHERS = ("StreamReaderProtocol.", "EventLoopPolicy.")


@pytest.mark.parametrize("path", ours())
def test_nothing_is_without_text(path):
    if path in ASYNCIOS or path.startswith(CALLED_BY_OTHERS):
        return
    assert path in TEXTS


def test_texts_keep_their_form():
    for path, text in TEXTS.items():
        first, *rest = text.split("\n\n")[0].splitlines()
        assert not rest or len(first) > 60, f"{path}: the first paragraph is one sentence or two"
        assert max(map(len, text.splitlines())) <= 100, path
        assert text.count("``") % 2 == 0, path
        assert first[0].isupper() or first.startswith((":meth:", "``", "socket.")), path


def test_what_a_text_refers_to_exists():
    for path, text in TEXTS.items():
        for role, target in re.findall(r":(\w+):`([^`]+)`", text):
            if target.startswith("concurrent."):
                continue
            target = target.lstrip(".")
            if role == "meth" and "." not in target:
                target = f"{path.split('.')[0]}.{target}"
            if target == "get_running_loop" or target in SINCE_314:  # asyncio's own; not on every Python
                continue
            assert of(target) is not None, (path, target)


def test_help_works():
    import pydoc

    text = pydoc.render_doc(aioxide.Queue)
    assert "First in, first out, between tasks of one loop." in text
    assert "How many items may be in the queue" in text
    assert sys.modules["aioxide._core"] is _core
