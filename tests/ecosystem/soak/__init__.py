"""An hour of a web service: FastAPI, asyncpg and redis on us, while everything around it comes and goes.

    make soak                                        an hour, by a takeover, on python3.11
    python -m tests.ecosystem.soak --seconds 600     shorter; --mode stdlib: on asyncio itself

Clients ask steadily, and cut some of their connections, at any point; PostgreSQL and Redis are restarted now and then;
the service itself gets a Ctrl-C, finishes what it has begun, and starts anew in the same process on a new loop.

app.py         the service
ledger.py      what became of each request: nothing may be lost, and nothing may be wrong
visitors.py    the clients, which run on asyncio itself
trend.py       whether a figure grows
__main__.py    the hour: disturbances, samples, the result
"""
