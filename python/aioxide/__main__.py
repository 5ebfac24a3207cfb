"""``python -m aioxide app.py``: a program as it is, with asyncio being aioxide.

    python -m aioxide [-c command | -m module | file | -] [argument ...]
    python -m aioxide run [--dev] ...
    python -m aioxide doctor [module ...]
    python -m aioxide ps | top | dump | why | trace [PID] ...

Without arguments: asyncio's interactive console. The program finds sys.argv, sys.path and __main__ as Python itself
would leave them to it; its exit code and its traceback are those that it would have there. ``aioxide app.py``, the
script that is installed with the package, is the same.

``run`` is the same, spelled out; ``run --dev`` looks for mistakes meanwhile (aioxide.diag).

The doctor tells what is here, and what of the imported modules takeover does not reach (unless there is a file of that
name: that is a program). What another process does is asked by ``ps`` and its like (``aioxide.attach``); a program of
such a name is run as ``./ps``.

Python processes that it starts (multiprocessing, workers of a server) have aioxide too: they find AIOXIDE_TAKEOVER=1 in
their environment. AIOXIDE_TAKEOVER=0 keeps them from it.
"""

import builtins
import io
import linecache
import os
import pkgutil
import runpy
import sys
import textwrap
import traceback
import types
import warnings
from importlib.machinery import SourceFileLoader, SourcelessFileLoader

import aioxide
from aioxide._core import diag
from aioxide.attach import COMMANDS

USAGE = "usage: python -m aioxide [-h] [-V] [-c command | -m module | file | - | doctor | ps | ...] [argument ...]"
HELP = f"""{USAGE}

{__doc__.partition(chr(10))[0]}

  -c command           runs the command, as `python -c`
  -m module            runs the module, as `python -m`
  file                 runs the file, or the directory or zip file with a __main__.py
  -                    runs what comes from standard input
  (nothing)            asyncio's interactive console, with await at the prompt
  run [--dev] ...      the same, spelled out; --dev: in development mode, which tells of mistakes (aioxide.diag)
  doctor [module ...]  tells what is replaced, and what of the modules takeover does not reach; its exit code is 1 if
                       there is a problem, 2 if a module cannot be imported
  ps [PID]             lists the tasks of another process, or the processes that can be asked
  top PID              shows the loops of another process, live
  dump PID             shows its threads and tasks with their stacks
  why PID TASK         tells what a task waits for, and what that waits for
  trace PID            writes what its loops do, step by step, for ui.perfetto.dev
  -h, --help           shows this
  -V, --version        shows the version
  argument ...         for the program, in sys.argv[1:]

in the environment:
  AIOXIDE_TAKEOVER     1: a Python process begins with asyncio being aioxide; 0: those that the program starts do not
  AIOXIDE_DEV          1: development mode
  AIOXIDE_DIAG         0: nothing is watched, and nobody can ask from outside
  AIOXIDE_BLOCK_MS     from when on a loop is blocked, in milliseconds (default: 100, in development mode 50); 0: never
  AIOXIDE_BLOCK_REPEAT all: each block is reported (default: limited, of one culprit one in ten seconds)
  AIOXIDE_DIAG_LOG     where findings go: logging (default), stderr, jsonl:PATH, or several with commas
  AIOXIDE_FLIGHT       the flight recorder, of so many MiB for each loop (default: 0, none)
  AIOXIDE_FLIGHT_DIR   where its files go that are made unasked (default: that of temporary files)
  AIOXIDE_TLS          portable: TLS by Python's ssl objects alone"""


class Unusable(Exception):
    """A command line, or a file, that is no program. Python's exit code for those is 2."""


def main(arguments: list[str]) -> None:
    first, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    option, attached = first[:2], first[2:]
    if first in ("-h", "--help"):
        print(HELP)
    elif first in ("-V", "--version"):
        print(f"aioxide {aioxide.__version__} on Python {sys.version.split()[0]}")
    elif option in ("-c", "-m"):
        if not attached and not rest:
            raise Unusable(f"Argument expected for the {option} option\n{USAGE}")
        what, *rest = [attached, *rest] if attached else rest
        run_command(what, ["-c", *rest]) if option == "-c" else run_module(what, ["-m", *rest])
    elif first == "-":
        execute(sys.stdin.buffer.read(), "<stdin>", ["-", *rest], "")
    elif first.startswith("-"):
        raise Unusable(f"unknown option {first}\n{USAGE}")
    elif first == "doctor" and not os.path.exists(first):
        if {"-h", "--help"} & set(rest):
            print(HELP)
            return
        for module in rest:
            if module.startswith("-"):
                raise Unusable(f"unknown option {module}\n{USAGE}")
        take_over()
        from aioxide import doctor

        sys.exit(doctor.main(rest))
    elif first in COMMANDS:
        from aioxide.attach import command

        sys.exit(command.main(first, rest))
    elif first == "run" and not os.path.exists(first):
        if rest[:1] == ["--dev"]:
            develop_too()
            del rest[0]
        if not rest:
            raise Unusable(USAGE)
        main(rest)
    elif first:
        run_file(first, arguments)
    else:
        print(f"aioxide {aioxide.__version__}: asyncio is aioxide in this console.", file=sys.stderr)
        run_module("asyncio", [sys.argv[0]], alter_argv=False)


def develop_too() -> None:
    """Development mode, for this process and those that it starts, whatever the environment says."""
    from aioxide.diag import develop

    if os.environ.get("AIOXIDE_DIAG") == "0":
        os.environ["AIOXIDE_DIAG"] = "1"
        diag._turn_on()
    os.environ["AIOXIDE_DEV"] = "1"
    develop()


def take_over() -> None:
    """This process, and those that it starts."""
    aioxide.install()
    # read by aioxide_takeover.pth, before anything else of the child is
    os.environ.setdefault("AIOXIDE_TAKEOVER", "1")


def set_up(argv: list[str], first_path: str | None) -> types.ModuleType:
    """What a program finds when it begins: our asyncio, a __main__ of its own, its arguments, where it imports from."""
    take_over()
    # (in development diag has taken its place, and hands on)
    warner = diag if hasattr(diag, "_warn_unawaited_coroutine") else warnings
    warner._warn_unawaited_coroutine = warn_unawaited
    sys.argv[:] = argv
    if first_path is not None and not sys.flags.safe_path:
        sys.path[0] = first_path
    module = sys.modules["__main__"] = types.ModuleType("__main__")
    module.__builtins__ = builtins
    if sys.version_info < (3, 14):
        module.__annotations__ = {}
    return module


def execute(source, filename: str, argv: list[str], first_path: str, **attributes) -> None:
    """Source text, or code, as the program."""
    module = set_up(argv, first_path)
    vars(module).update(attributes)
    code = source if isinstance(source, types.CodeType) else compile(source, filename, "exec", dont_inherit=True)
    exec(code, vars(module))


def run_module(name: str, argv: list[str], *, alter_argv: bool = True) -> None:
    set_up(argv, None)
    runpy._run_module_as_main(name, alter_argv)  # what Python itself does for -m


def run_command(source: str, argv: list[str]) -> None:
    if sys.version_info >= (3, 14):
        source = textwrap.dedent(source)
    if sys.version_info >= (3, 13):  # its tracebacks show the line
        linecache.cache["<string>"] = (len(source), None, source.splitlines(keepends=True), "<string>")
    execute(source, "<string>", argv, "")


def run_file(path: str, argv: list[str]) -> None:
    full = os.path.abspath(path)
    if os.path.isdir(full) or pkgutil.get_importer(full) is not None:
        # a directory or a zip file with a __main__.py
        set_up(argv, full)
        runpy._run_module_as_main("__main__", False)
        return
    try:
        with io.open_code(full) as file:
            source = file.read()
    except OSError as error:
        raise Unusable(f"{sys.executable}: can't open file {full!r}: [Errno {error.errno}] {error.strerror}") from None
    compiled = path.endswith(".pyc")
    loader = (SourcelessFileLoader if compiled else SourceFileLoader)("__main__", full)
    if compiled:
        source = loader.get_code("__main__")
    attributes = {"__file__": full, "__loader__": loader}
    if sys.version_info < (3, 15):
        attributes["__cached__"] = None
    execute(source, full, argv, os.path.dirname(os.path.realpath(path)), **attributes)


def warn_unawaited(coroutine) -> None:
    """What Python calls for a coroutine that was never awaited. Where that was made is shown from the program on."""
    lines = [f"coroutine '{coroutine.__qualname__}' was never awaited"]
    if coroutine.cr_origin is not None:
        frames = list(reversed(coroutine.cr_origin))
        ours = [index for index, (file, _, _) in enumerate(frames) if file == __file__]
        # (runpy's for -m stand there with Python, too)
        frames = frames[ours[-1] + 1 :] if ours else frames
        lines.append("Coroutine created at (most recent call last)\n")
        summary = traceback.StackSummary.from_list(
            [(file, line, name, linecache.getline(file, line)) for file, line, name in frames]
        )
        lines[-1] += "".join(summary.format()).rstrip("\n")
    warnings.warn("\n".join(lines), RuntimeWarning, stacklevel=2, source=coroutine)


def hide_our_frames() -> None:
    """The traceback that Python is about to print begins where the program does."""
    show = sys.excepthook

    def excepthook(kind, value, shown):
        while shown is not None and shown.tb_frame.f_code.co_filename != __file__:
            shown = shown.tb_next
        while shown is not None and shown.tb_frame.f_code.co_filename == __file__:
            shown = shown.tb_next
        sys.last_traceback = value.__traceback__ = shown
        show(kind, value, shown)

    sys.excepthook = excepthook


def run() -> None:
    """The program that the command line names, ending as Python itself would end it."""
    try:
        main(sys.argv[1:])
    except SystemExit:
        raise
    except Unusable as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    except BaseException:
        hide_our_frames()
        raise


def console_script() -> None:
    """``aioxide app.py``: the same. A script begins with its own directory in sys.path, and not with the user's."""
    if not sys.flags.safe_path:
        try:
            sys.path[0] = os.getcwd()
        except OSError:  # it has been removed, which keeps no program from beginning
            sys.path[0] = ""
    run()


if __name__ == "__main__":
    run()
