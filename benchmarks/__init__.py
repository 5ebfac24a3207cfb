"""How fast aioxide is beside asyncio, uvloop and rloop.

    make bench                                  all of it, on python3.11
    python -m benchmarks.run --help             speed, and wake-ups beside a busy thread
    python -m benchmarks.network --help         CPU time of servers per message, with a native load generator
    python -m benchmarks.endurance --help       10,000 idle connections; a minute of connecting and disconnecting
    python -m benchmarks.outside --help         CPU time of clients, name look-ups, calls from threads, signals
    make services                               CPU time of uvicorn, aiohttp, FastAPI, redis, asyncpg per request
    python -m benchmarks.memory --help          bytes per task and future, and whether ten million tasks leave a trace
    python -m benchmarks.plot                   results/*.json as pictures and a table
    python -m benchmarks.demo                   the small table of `make demo`

``implementations`` says who takes part, ``operations`` what is measured and how much faster than uvloop it has to be.
Absolute figures differ between machines and hours; ratios, taken in one interleaved run, differ much less.
"""
