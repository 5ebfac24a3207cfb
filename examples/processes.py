"""One port and three processes: the kernel deals the connections out (SO_REUSEPORT). One process is killed."""

import asyncio
import os
import socket
import sys


async def answer(reader, writer):
    await reader.readline()
    writer.write(f"{os.getpid()}\n".encode())
    await writer.drain()
    writer.close()


async def serve(port):
    server = await asyncio.start_server(answer, "127.0.0.1", int(port), reuse_port=True)
    print("ready", flush=True)
    async with server:
        await server.serve_forever()


async def start(port):
    command = [sys.executable, __file__, str(port)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    await process.stdout.readline()
    return process


async def ask(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"who are you?\n")
    pid = await reader.readline()
    writer.close()
    return int(pid)


async def main():
    # this holds the port; as it does not listen, the kernel gives it no connection
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
        processes = [await start(port) for _ in range(3)]
        pids = await asyncio.gather(*[ask(port) for _ in range(100)])
        print(f"100 answers, of {len(set(pids))} processes")
        processes[0].kill()
        await processes[0].wait()
        pids = await asyncio.gather(*[ask(port) for _ in range(100)])
        print(f"100 answers, of {len(set(pids))} processes")
        for process in processes[1:]:
            process.terminate()
            await process.wait()


asyncio.run(serve(sys.argv[1]) if sys.argv[1:] else main())
