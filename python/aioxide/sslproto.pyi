from asyncio.sslproto import *
from asyncio.sslproto import _create_transport_context as _create_transport_context
from asyncio.sslproto import _SSLProtocolTransport as _SSLProtocolTransport
