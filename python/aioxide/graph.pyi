import sys

if sys.version_info >= (3, 14):
    from asyncio.graph import *

    __all__ = ("capture_call_graph", "format_call_graph", "print_call_graph", "FrameCallGraphEntry", "FutureCallGraph")
