"""Certificates for the tests, and contexts made of them. ``python -m tests.certificates`` makes them anew (with openssl).

They are kept as files because whoever makes certificates in Python needs a package with a compiled part, which the
newest Python does not have for its first months. They are good for a hundred years, and worth nothing outside.

ca.pem                    who signs the others
server.pem                localhost, 127.0.0.1, ::1
other.pem                 other.example
client.pem                a client
self_signed.pem           localhost, signed by itself, and so its own authority
"""

import ssl
from pathlib import Path

HERE = Path(__file__).parent
CA = HERE / "ca.pem"
SERVER = HERE / "server.pem"
OTHER = HERE / "other.pem"
CLIENT = HERE / "client.pem"
SELF_SIGNED = HERE / "self_signed.pem"


def server_context(version: ssl.TLSVersion | None = None, *, certificate: Path = SERVER) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return _only(context, version)


def client_context(version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(CA)
    return _only(context, version)


def _only(context: ssl.SSLContext, version: ssl.TLSVersion | None) -> ssl.SSLContext:
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context
