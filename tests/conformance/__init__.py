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

# Every file of test.test_asyncio is judged but these, where no test is behavioural or semi:
# Windows, and Python code of CPython's that an installed aioxide leaves as it is.
NOT_JUDGED = (
    "test_proactor_events",
    "test_selector_events",
    "test_tools",
    "test_windows_events",
    "test_windows_utils",
)

# The tests outside test.test_asyncio that run on asyncio, where the interpreter has them. 3.12 and 3.15 moved some.
OUTSIDE_FILES = (
    "test.test_asyncgen",
    "test.test_builtin",
    "test.test_code",
    "test.test_concurrent_futures.test_interpreter_pool",
    "test.test_contextlib_async",
    "test.test_coroutines",
    "test.test_external_inspection",
    "test.test_gc",
    "test.test_inspect.test_inspect",
    "test.test_logging",
    "test.test_monitoring",
    "test.test_os",
    "test.test_os.test_os",
    "test.test_pdb",
    "test.test_sys_settrace",
    "test.test_type_params",
    "test.test_unittest.test_async_case",
    "test.test_unittest.testmock.testasync",
    "test.test_warnings",
    "unittest.test.test_async_case",
    "unittest.test.testmock.testasync",
)

# The part of the semi tests that must pass, over all files.
SEMI_SHARE = 0.95
