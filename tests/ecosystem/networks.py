"""Machines, nearly: network namespaces, each with an address of its own, that one bridge connects.

Whoever is not root, or lives where the kernel or a container does not permit it, has none: ``NotPermitted`` says why.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator


class NotPermitted(Exception):
    """Why there are none."""


#: of their addresses; a private one that hardly anybody has
PREFIX = "10.213.86"
COUNT = 3


def ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotPermitted(f"network namespaces are not permitted: ip {' '.join(arguments)}: {done.stderr.strip()}")


@contextlib.contextmanager
def machines() -> Iterator[str]:
    """``name=address`` for each, with blanks between them; this side of the bridge has the address that ends with 1."""
    if not shutil.which("ip"):
        raise NotPermitted("ip (iproute2) is not installed")
    if os.getuid():
        raise NotPermitted("network namespaces want root")
    # a name of an interface has 15 characters at most
    mark = f"ax{os.getpid() % 100_000}"
    bridge = f"{mark}b"
    names = [f"{mark}-{n}" for n in range(COUNT)]
    addresses = [f"{PREFIX}.{n + 2}" for n in range(COUNT)]
    with contextlib.ExitStack() as stack:
        ip("link", "add", bridge, "type", "bridge")
        stack.callback(ip, "link", "delete", bridge)
        ip("address", "add", f"{PREFIX}.1/24", "dev", bridge)
        ip("link", "set", bridge, "up")
        for number, (name, address) in enumerate(zip(names, addresses, strict=True)):
            ip("netns", "add", name)
            # (its end of the cable goes with it)
            stack.callback(ip, "netns", "delete", name)
            cable = f"{mark}c{number}"
            ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("link", "set", cable, "master", bridge, "up")
            ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield " ".join(f"{name}={address}" for name, address in zip(names, addresses, strict=True))
