"""CPython's own asyncio tests, run against aioxide.

    python -m tests.conformance                          the files that aioxide claims, in takeover mode
    python -m tests.conformance --files test_tasks -v    one file, with tracebacks
    python -m tests.conformance --mode stdlib            the same tests on asyncio itself: the baseline
    python -m tests.conformance --mode loop              aioxide's loop under asyncio's own tasks
    python -m tests.conformance --python python3.13      another interpreter (with aioxide installed, or --path)

Three processes deep: ``__main__`` or ``tests/test_conformance.py`` asks ``runner`` to judge a file; ``runner`` starts
``child.py`` in the interpreter under test, one process a file, and kills it when a test hangs, so that a hang or a
crash costs one test; ``child.py`` calls ``aioxide.install()`` before anything of asyncio's tests is imported.

What counts is decided by ``classify``: a *behavioural* test that asyncio itself passes must pass here, and must not
turn into a skip. Exceptions stand in ``allowlist.txt``, each with its reason.
"""

# What aioxide claims to replace today. Grows until it is every file of test.test_asyncio.
CLAIMED_FILES = (
    "test_base_events",
    "test_buffered_proto",
    "test_context",
    "test_eager_task_factory",
    "test_events",
    "test_futures",
    "test_futures2",
    "test_locks",
    "test_pep492",
    "test_protocols",
    "test_queues",
    "test_runners",
    "test_sendfile",
    "test_server",
    "test_sock_lowlevel",
    "test_ssl",
    "test_sslproto",
    "test_streams",
    "test_subprocess",
    "test_taskgroups",
    "test_tasks",
    "test_threads",
    "test_timeouts",
    "test_unix_events",
    "test_waitfor",
)
