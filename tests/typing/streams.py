"""Streams, servers and processes."""

import ssl
from typing import assert_type

import aioxide as asyncio


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    assert_type(await reader.readline(), bytes)
    assert_type(await reader.readuntil(b"\r\n"), bytes)
    assert_type(await reader.readexactly(3), bytes)
    assert_type(await reader.read(), bytes)
    async for line in reader:
        writer.write(line.upper())
    writer.write("text")  # type: ignore[arg-type]
    writer.writelines([b"a", bytearray(b"b")])
    await writer.drain()
    await writer.start_tls(ssl.create_default_context(), server_hostname="localhost")
    assert_type(writer.transport, asyncio.WriteTransport)
    print(writer.get_extra_info("peername"), writer.is_closing(), writer.can_write_eof())
    writer.close()
    await writer.wait_closed()


def odd(reader: asyncio.StreamReader) -> None:
    print(reader)


async def main() -> None:
    reader, writer = await asyncio.open_connection("localhost", 80, limit=1000, ssl=True)
    assert_type((reader, writer), tuple[asyncio.StreamReader, asyncio.StreamWriter])
    assert_type(await asyncio.open_unix_connection("path"), tuple[asyncio.StreamReader, asyncio.StreamWriter])
    server: asyncio.Server = await asyncio.start_server(serve, "localhost", 0)
    await asyncio.start_server(odd, "localhost", 0)  # type: ignore[arg-type]
    async with server, await asyncio.start_unix_server(serve, "path"):
        print(server.sockets, server.is_serving())
        await server.serve_forever()
    reader = asyncio.StreamReader(limit=3)
    protocol = asyncio.StreamReaderProtocol(reader, serve)
    transport, same = await asyncio.get_running_loop().create_connection(lambda: protocol, "localhost", 80)
    assert_type(transport, asyncio.Transport)
    assert_type(same, asyncio.StreamReaderProtocol)
    asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop())


async def processes() -> None:
    process = await asyncio.create_subprocess_exec("echo", "hello", stdout=asyncio.subprocess.PIPE)
    assert_type(process, asyncio.subprocess.Process)
    assert_type(process.stdin, asyncio.StreamWriter | None)
    assert_type(process.stdout, asyncio.StreamReader | None)
    assert_type(await process.communicate(b""), tuple[bytes, bytes])
    assert_type(await process.wait(), int)
    assert_type(process.returncode, int | None)
    process.send_signal(15)
    process.terminate()
    process.kill()
    shell: asyncio.subprocess.Process = await asyncio.create_subprocess_shell("true", stderr=asyncio.subprocess.DEVNULL)
    print(shell.pid, asyncio.subprocess.STDOUT)
    await asyncio.create_subprocess_exec("echo", text=True)  # type: ignore[call-overload, arg-type, unused-ignore]
