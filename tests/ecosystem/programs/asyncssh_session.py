"""asyncssh, server and client: commands, a conversation, SFTP, a forwarded port, many sessions at once."""

import asyncio
import tempfile
from pathlib import Path

import asyncssh

from tests.ecosystem.support import check, run


class Server(asyncssh.SSHServer):
    def begin_auth(self, username):
        return True

    def password_auth_supported(self):
        return True

    def validate_password(self, username, password):
        return (username, password) == ("user", "secret")

    def connection_requested(self, *address):
        return True


async def session(process):
    check()
    if process.command == "fail":
        process.stderr.write("no\n")
        process.exit(3)
        return
    process.stdout.write(f"{process.command}\n")
    async for line in process.stdin:
        process.stdout.write(line.upper())
    process.exit(0)


async def main():
    with tempfile.TemporaryDirectory(prefix="aioxide-") as folder:
        key = asyncssh.generate_private_key("ssh-ed25519")
        listener = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=Server,
            server_host_keys=[key],
            process_factory=session,
            sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=folder.encode()),
        )
        known = asyncssh.import_known_hosts(f"* {key.export_public_key().decode()}")
        where = {
            "host": "127.0.0.1",
            "port": listener.get_port(),
            "known_hosts": known,
            "username": "user",
            "config": [],
        }
        async with asyncssh.connect(**where, password="secret") as connection:
            done = await connection.run("hello", input="a\nb\n")
            assert (done.stdout, done.exit_status) == ("hello\nA\nB\n", 0)
            failed = await connection.run("fail")
            assert (failed.stderr, failed.exit_status) == ("no\n", 3)

            async def ask(n):
                return (await connection.run(str(n), input="x" * n + "\n")).stdout

            assert await asyncio.gather(*map(ask, range(50))) == [f"{n}\n{'X' * n}\n" for n in range(50)]

            async with connection.start_sftp_client() as sftp:
                payload = bytes(range(256)) * 4000
                async with sftp.open("file", "wb") as file:
                    await file.write(payload)
                assert Path(folder, "file").read_bytes() == payload
                await sftp.get("file", Path(folder, "copy"))
                assert Path(folder, "copy").read_bytes() == payload
                assert {"file", "copy"} <= set(await sftp.listdir("."))

            async def echo(reader, writer):
                writer.write((await reader.readline())[::-1])
                writer.close()

            target = await asyncio.start_server(echo, "127.0.0.1", 0)
            forwarded = await connection.forward_local_port(
                "127.0.0.1", 0, "127.0.0.1", target.sockets[0].getsockname()[1]
            )
            reader, writer = await asyncio.open_connection("127.0.0.1", forwarded.get_port())
            writer.write(b"hello\n")
            assert await reader.read() == b"\nolleh"
            writer.close()
            await writer.wait_closed()
            forwarded.close()
            await forwarded.wait_closed()
            target.close()
            await target.wait_closed()
        try:
            await asyncssh.connect(**where, password="wrong", client_keys=None)
        except asyncssh.PermissionDenied:
            pass
        else:
            raise AssertionError("a wrong password was good enough")
        listener.close()
        await listener.wait_closed()


if __name__ == "__main__":
    run(main)
