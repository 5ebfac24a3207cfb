from asyncio.transports import *
from asyncio.transports import _FlowControlMixin as _FlowControlMixin

__all__ = ("BaseTransport", "ReadTransport", "WriteTransport", "Transport", "DatagramTransport", "SubprocessTransport")
