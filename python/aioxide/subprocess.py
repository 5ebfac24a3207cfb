"""asyncio.subprocess: other programs. What is not named here is asyncio's own."""

from asyncio import subprocess as _asyncio
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from functools import partial as _partial

from ._core import Process, SubprocessStreamProtocol, create_subprocess_exec, create_subprocess_shell

__all__ = _asyncio.__all__
__getattr__ = _partial(getattr, _asyncio)
