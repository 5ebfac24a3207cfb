"""asyncio.windows_utils: nothing here. aioxide runs on Linux, and asyncio's own is not there either."""

raise ImportError("win32 only")
