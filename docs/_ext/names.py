"""``{names}``: public names of aioxide, each with the docstring and the signature that it has at runtime.

Content: names, separated by white space. ``Lock`` shows the class with all that it defines, ``EventLoop.stop`` one
method; a class of which single members are named anywhere is given with ``:no-members:``. A name that is asyncio's own
object is a link to Python's documentation; one that this Python does not have says so.
"""

from __future__ import annotations

import inspect
import re
import sys
import warnings
from typing import ClassVar

import python_inventory
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

import aioxide
from aioxide import _core

EXCEPTIONS = {
    "BrokenBarrierError",
    "CancelledError",
    "IncompleteReadError",
    "InvalidStateError",
    "LimitOverrunError",
    "QueueEmpty",
    "QueueFull",
    "QueueShutDown",
    "SendfileNotAvailableError",
    "TimeoutError",
}


def look_up(path: str):
    """The object of a dotted name, and what holds it."""
    owner, thing = None, aioxide
    for name in path.split("."):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            owner, thing = thing, getattr(thing, name)
    return owner, thing


def directive_of(owner, path: str) -> str:
    """autodoc's directive for what is no class."""
    if not inspect.isclass(owner):
        return "autofunction"
    return "automethod" if callable(inspect.getattr_static(owner, path.rpartition(".")[2])) else "autoattribute"


def ours(owner, thing) -> bool:
    """Whether the object is made by the extension module, and shows its own docstring."""
    return inspect.isclass(owner) or any(thing is value for value in vars(_core).values())


class Names(SphinxDirective):
    has_content = True
    option_spec: ClassVar = {"no-members": directives.flag}

    def run(self):
        text = "\n\n".join(self.described(name) for line in self.content for name in line.split())
        return self.parse_text_to_nodes(f"```{{eval-rst}}\n.. py:currentmodule:: aioxide\n\n{text}\n```")

    def described(self, path: str) -> str:
        try:
            owner, thing = look_up(path)
        except AttributeError:
            version = f"{sys.version_info[0]}.{sys.version_info[1]}"
            return f".. py:data:: {path}\n\n   Not on Python {version}, with which this page was made."
        if path == "SelectorEventLoop":
            return f".. py:class:: {path}\n\n   Another name of :class:`EventLoop`."
        if not ours(owner, thing):
            return self.of_asyncio(path, thing)
        if inspect.isclass(thing):
            return self.of_class(path, thing)
        return f".. {directive_of(owner, path)}:: aioxide.{path}"

    def of_class(self, path: str, thing: type) -> str:
        if issubclass(thing, BaseException):
            return f".. autoexception:: aioxide.{path}"
        signature = inspect.signature(thing)
        if "args" in signature.parameters:  # whatever a derived class takes: __init__ says what this one does
            signature = inspect.signature(thing.__init__)
            signature = signature.replace(parameters=list(signature.parameters.values())[1:])
        lines = [f".. autoclass:: aioxide.{path}{signature}"]
        if thing.__base__.__name__ in aioxide.__all__ and thing.__base__ in vars(_core).values():
            lines.append("   :show-inheritance:")
        if "no-members" not in self.options:
            members = [name for name in vars(thing) if not name.startswith("_")]
            members.sort(key=lambda name: callable(vars(thing)[name]))
            lines += [f"\n   .. {directive_of(thing, name)}:: aioxide.{path}.{name}" for name in members]
        return "\n".join(lines)

    def of_asyncio(self, path: str, thing) -> str:
        kind = "exception" if path in EXCEPTIONS else "class" if inspect.isclass(thing) else "function"
        role = {"exception": "exc", "class": "class", "function": "func"}[kind]
        target = "TimeoutError" if path == "TimeoutError" else f"asyncio.{path}"
        if not callable(thing):
            kind, role = "data", "data"
        first = (inspect.getdoc(thing) or "").split("\n")[0] if callable(thing) else ""
        return f".. py:{kind}:: {path}\n\n   {first}\n\n   It is :{role}:`{target}` itself."


def link_source(app, what, name, thing, options, lines: list[str]) -> None:
    """``Source: asyncio.Lock, PEP 3156.`` leads there."""
    known = {entry.split()[0] for entry in python_inventory.entries()}
    for index, line in enumerate(lines):
        if line.startswith("Source: "):
            line = re.sub(r"asyncio(\.\w+)+", lambda m: f":py:obj:`{m[0]}`" if m[0] in known else m[0], line)
            lines[index] = re.sub(r"PEP (\d+)", r":pep:`\1`", line)


def setup(app):
    app.add_directive("names", Names)
    app.connect("autodoc-process-docstring", link_source)
    return {"parallel_read_safe": True}
