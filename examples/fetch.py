"""Fetches 300 pages at the same time with the loop's own socket calls; the server is another process."""

import asyncio
import socket
import subprocess
import sys
import time

SERVER = """
import http.server
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"page %s\\n" % self.path.encode() * 100
        self.send_response(200)
        self.send_header("Content-Length", len(body))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 1024
server = Server(("127.0.0.1", 0), Page)
print(server.server_port, flush=True)
server.serve_forever()
"""


async def fetch(port, path):
    loop = asyncio.get_running_loop()
    with socket.socket() as connection:
        connection.setblocking(False)
        await loop.sock_connect(connection, ("127.0.0.1", port))
        await loop.sock_sendall(connection, f"GET {path} HTTP/1.0\r\n\r\n".encode())
        answer = bytearray()
        while data := await loop.sock_recv(connection, 65536):
            answer += data
    head, _, body = bytes(answer).partition(b"\r\n\r\n")
    assert head.split()[1] == b"200", head
    return body


async def main(port, pages):
    started = time.perf_counter()
    bodies = await asyncio.gather(*[fetch(port, f"/{number}") for number in range(pages)])
    print(f"{len(bodies)} pages, {sum(map(len, bodies))} bytes, {time.perf_counter() - started:.2f} s")


with subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True) as server:
    try:
        asyncio.run(main(int(server.stdout.readline()), pages=300))
    finally:
        server.terminate()
