"""The load generator of the TLS cases: ``python -m benchmarks.tls_load --to tls:HOST:PORT --pid PID``.

What `crates/load` is for the other cases, in Python: its own time does not count, only the server's. Every connection
has a message under way; prints the same JSON.
"""

import argparse
import json
import socket
import ssl
import time
from pathlib import Path

from .servers import CERTIFICATES


def cpu(pid: int) -> float:
    """Seconds of processor time of all threads of a process."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def resident(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


class Connections:
    def __init__(self, where: str) -> None:
        _, host, port = where.split(":")
        self.address = (host, int(port))
        self.context = ssl.create_default_context(cafile=str(CERTIFICATES / "ca.pem"))

    def open(self) -> ssl.SSLSocket:
        raw = socket.create_connection(self.address)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self.context.wrap_socket(raw, server_hostname="localhost")


def exchange(connections: list[ssl.SSLSocket], message: bytes, buffer: memoryview) -> None:
    for connection in connections:
        connection.sendall(message)
    for connection in connections:
        got = 0
        while got < len(message):
            count = connection.recv_into(buffer)
            if not count:
                raise SystemExit("the server has closed")
            got += count


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tls_load", description=__doc__)
    parser.add_argument("--to", required=True)
    parser.add_argument("--pid", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=0.25)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--connections", type=int, default=10)
    parser.add_argument("--pipeline", type=int, default=1, help="lines that are sent at once")
    parser.add_argument("--churn", action="store_true", help="a new connection for each message")
    parser.add_argument("--idle", type=int, default=0, help="connections that have been used and are silent")
    options = parser.parse_args()
    connections = Connections(options.to)
    message = (b"x" * (options.size - 1) + b"\n") * options.pipeline
    buffer = memoryview(bytearray(256 * 1024))

    before = resident(options.pid)
    idle = []
    for _ in range(options.idle):
        idle.append(connections.open())
        exchange(idle[-1:], message, buffer)
    per_connection = (resident(options.pid) - before) / len(idle) if idle else 0

    opened = [] if options.churn else [connections.open() for _ in range(options.connections)]
    for _ in range(20):
        exchange(opened, message, buffer)
    count, used, begin = 0, cpu(options.pid), time.perf_counter()
    while time.perf_counter() - begin < options.seconds:
        if options.churn:
            with connections.open() as one:
                exchange([one], message, buffer)
                count += 1
        else:
            exchange(opened, message, buffer)
            count += len(opened) * options.pipeline
    seconds = time.perf_counter() - begin
    measured = {"messages": count, "seconds": seconds, "cpu": cpu(options.pid) - used}
    print(json.dumps({**measured, "bytes_per_connection": per_connection}))


if __name__ == "__main__":
    main()
