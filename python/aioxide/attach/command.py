"""The command line: reads it, runs the command, says what went wrong."""

from __future__ import annotations

import os
import sys

from . import COMMANDS, INCONSISTENT, OK, USAGE, Failure

# (importing typing takes longer than all the rest)
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Options:
    """What a command was called with."""

    def __init__(self) -> None:
        self.process: int | None = None
        self.task: str | None = None
        self.flags: set[str] = set()
        self.values: dict[str, str] = {}

    def __contains__(self, flag: str) -> bool:
        return flag in self.flags

    def seconds(self, option: str, default: float, *, least: float = 0.0) -> float:
        """A duration: a number, with or without its unit."""
        text = self.values.get(option)
        if text is None:
            return default
        number, unit = (text[:-2], 0.001) if text.endswith("ms") else (text.removesuffix("s"), 1.0)
        try:
            value = float(number) * unit
        except ValueError:
            value = -1.0
        if not least <= value <= 86400:
            raise Failure(USAGE, f"{option} takes seconds, as 5 or 0.5s or 200ms, and not {text!r}")
        return value


#: Options with a value, of each command, and those without.
VALUES = {"ps": {"--stuck"}, "top": {"--interval"}, "trace": {"-d", "-o"}}
FLAGS = {
    "ps": {"--tree", "--json", "--check"},
    "top": {"--once", "--json"},
    "dump": {"--json"},
    "why": {"--json"},
}


#: What `--help` says of them.
MEANINGS = {
    "ps": """\
The tasks of a process: where each stands, and what it waits for. Without PID: the processes that can be asked.

  --tree               who waits is above what it waits for
  --json               everything, in one line
  --check              the exit code is 1 if a loop is blocked, or if there is a deadlock
  --stuck SECONDS      only tasks that have not moved in so many seconds, and that no timer and no other task moves""",
    "top": """\
The loops of a process, live: how busy each is, and what it runs.

  --interval SECONDS   between two looks (default: 1)
  --once               one interval, without commands to the terminal
  --json               each interval in one line""",
    "dump": """\
Every thread of Python's and every task of a process, with their stacks.

  --json               everything, in one line""",
    "why": """\
What a task (its name, or its id in ps --json) waits for, and what that waits for. The exit code is 1 if that is a
deadlock or a blocked loop.

  --json               the chain, in one line""",
    "trace": """\
What the loops of a process do, step by step, as a file for https://ui.perfetto.dev.

  -d SECONDS           for how long (default: 5)
  -o FILE              where it is written; - is standard output (default: aioxide-PID.json, or aioxide-PID-2.json
                       and so on: nothing is overwritten then)""",
}
#: … and of all of them.
OF_ALL = """\
SECONDS may have a unit: 5, 0.5s, 200ms. The process is one of the same user (or any, for root) that has run a loop of
aioxide's. One that is started with AIOXIDE_DIAG=0 in its environment cannot be asked.

exit codes: 0 done; 1 it has found something; 2 wrong usage, or no such task; 3 no such process; 4 it is another user's;
5 no loop of aioxide's there; 6 no answer, or none that makes sense"""


def usage(command: str) -> str:
    return f"usage: aioxide {command} {COMMANDS[command]}"


def parse(command: str, arguments: list[str]) -> Options:
    options = Options()
    positional = []
    rest = iter(arguments)
    for argument in rest:
        name, given, value = argument.partition("=")
        if name in VALUES.get(command, ()):
            if not given:
                value = next(rest, "")
            if not value:
                raise Failure(USAGE, f"{name} takes a value\n{usage(command)}")
            options.values[name] = value
        elif argument in FLAGS.get(command, ()):
            options.flags.add(argument)
        elif argument.startswith("-") and argument != "-":
            raise Failure(USAGE, f"unknown option {argument}\n{usage(command)}")
        else:
            positional.append(argument)
    wanted = 2 if command == "why" else 1
    least = 0 if command == "ps" else wanted
    if not least <= len(positional) <= wanted:
        what = "a PID and a task" if wanted == 2 else "one PID"
        raise Failure(USAGE, f"it takes {what}\n{usage(command)}")
    if positional:
        if not positional[0].isdecimal() or not 0 < int(positional[0]) < 2**31:
            raise Failure(USAGE, f"a PID is a number, and not {positional[0]!r}\n{usage(command)}")
        options.process = int(positional[0])
    if len(positional) == 2:
        options.task = positional[1]
    return options


def find(command: str) -> Callable[[Options], int]:
    """The function of a command; the others are not imported."""
    from importlib import import_module

    run: Callable[[Options], int] = import_module(f"{__package__}.{command}").run
    return run


def dumps(value: Any) -> str:
    """JSON that any terminal may print: ASCII."""
    import json

    return json.dumps(value, ensure_ascii=True)


def main(command: str, arguments: list[str]) -> int:
    """Runs a command; its exit code."""
    if "-h" in arguments or "--help" in arguments:
        print(f"{usage(command)}\n\n{MEANINGS[command]}\n\n{OF_ALL}")
        return OK
    try:
        code = find(command)(parse(command, arguments))
        sys.stdout.flush()
        return code
    except Failure as failure:
        print(f"aioxide {command}: {failure}", file=sys.stderr)
        return failure.code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `| head`: nobody wants to read the rest
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except (KeyError, TypeError, IndexError) as error:
        print(f"aioxide {command}: an answer that makes no sense ({error!r})", file=sys.stderr)
        return INCONSISTENT
