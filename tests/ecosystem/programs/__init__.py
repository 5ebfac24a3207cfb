"""One program for each library. Each runs alone: ``python -m tests.ecosystem.programs.NAME`` (on asyncio, then)."""
