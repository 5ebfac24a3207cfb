"""asyncio.subprocess: other programs. Not there yet: using them says so."""

from asyncio import subprocess as _asyncio
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from functools import partial as _partial

from ._core import Process, create_subprocess_exec, create_subprocess_shell

__all__ = _asyncio.__all__
__getattr__ = _partial(getattr, _asyncio)
