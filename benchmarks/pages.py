"""A page server in a process of its own: plain blocking sockets, nothing of asyncio.

``server()`` starts it once per process and stops it at exit. ``python -m benchmarks.pages`` serves until its standard
input closes, and prints its port.
"""

import atexit
import functools
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

BODY = b"a line of the page, again and again\n" * 100


class Server:
    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.pages"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[1],
        )
        self.address = ("127.0.0.1", int(self._process.stdout.readline()))
        atexit.register(self.close)

    def close(self) -> None:
        self._process.communicate()


@functools.cache
def server() -> Server:
    return Server()


def exit_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    """One connection after the other: a client sends its request at once, and a selector would only cost."""
    threading.Thread(target=exit_with_parent, daemon=True).start()
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(listener.getsockname()[1], flush=True)
    while True:
        connection, _ = listener.accept()
        with connection:
            body = BODY + b"page %s\n" % connection.recv(4096).split()[1]
            connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


if __name__ == "__main__":
    main()
