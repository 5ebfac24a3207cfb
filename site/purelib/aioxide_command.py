"""The script ``aioxide``: what ``python -m aioxide`` is.

The commands that ask another process (``aioxide.attach``) need neither asyncio nor the extension, which the package
imports; they are there in a third of the time without.
"""

import importlib.util
import sys


def main():
    spec = importlib.util.find_spec("aioxide")
    package = importlib.util.module_from_spec(spec)
    sys.modules["aioxide"] = package  # as yet without its contents
    from aioxide.attach import COMMANDS

    if len(sys.argv) > 1 and sys.argv[1] in COMMANDS:
        from aioxide.attach import command

        return command.main(sys.argv[1], sys.argv[2:])
    for name in [name for name in sys.modules if name.partition(".")[0] == "aioxide"]:
        del sys.modules[name]
    from aioxide.__main__ import console_script

    return console_script()
