"""The three ways of use: `import aioxide as asyncio`, only the loop, and the whole program; each in a process of its own."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT, STDLIB, interpreter

pytestmark = pytest.mark.skipif(STDLIB, reason="these are aioxide's own ways of use")


def program(tmp_path: Path, source: str, name: str = "app.py") -> Path:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(source))
    return path


def ok(*args: Any, **kwargs: Any) -> str:
    done = interpreter(*map(str, args), **kwargs)
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def code(source: str, **kwargs: Any) -> str:
    return ok("-c", textwrap.dedent(source), **kwargs)


#: whether a task, a future and the loop are aioxide's, as a program with `asyncio` bound sees it
WHO = """
import sys
def who(asyncio):
    core = sys.modules["aioxide._core"]
    async def main():
        task = asyncio.create_task(asyncio.sleep(0, "slept"))
        loop, future = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()
        future.cancel()
        import aioxide
        kinds = [type(task) is aioxide.Task, type(future) is aioxide.Future, isinstance(loop, aioxide.EventLoop)]
        assert await task == "slept"
        assert await asyncio.gather(asyncio.sleep(0, 1), asyncio.sleep(0, 2)) == [1, 2]
        async with asyncio.timeout(5):
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(0))
        return kinds
    return main
"""


# -- 1: the alias --------------------------------------------------------------------------------------------------------------


def test_alias():
    out = code(
        WHO
        + """
import aioxide as asyncio
print(asyncio.run(who(asyncio)()))
"""
    )
    assert out == "[True, True, True]\n"


def test_alias_leaves_asyncio_alone():
    """Importing aioxide changes nothing that another library sees in asyncio."""
    out = code(
        """
        import asyncio
        before = {name: getattr(asyncio, name) for name in dir(asyncio)}
        parts = [getattr(asyncio, name) for name in ("tasks", "futures", "events", "locks", "queues", "base_events", "runners")]
        deep = [dict(vars(part)) for part in parts]
        import aioxide
        aioxide.run(aioxide.sleep(0))
        changed = [name for name, value in before.items() if getattr(asyncio, name) is not value]
        changed += [key for part, old in zip(parts, deep) for key, value in old.items() if vars(part).get(key) is not value]
        print(sorted(key for key in changed if not key.startswith("_event_loop_policy")))
        async def main(): return type(asyncio.get_running_loop()).__module__
        print(asyncio.run(main()).startswith("asyncio"))
        """
    )
    assert out == "[]\nTrue\n"


def test_alias_submodules():
    out = code(
        """
        import aioxide as asyncio
        import aioxide.tasks, aioxide.events, aioxide.futures, aioxide.locks, aioxide.queues, aioxide.subprocess
        from aioxide import *
        from aioxide.exceptions import CancelledError as one
        from aioxide import CancelledError as two
        assert one is two
        assert asyncio.tasks.Task is asyncio.Task and asyncio.log.logger.name == "asyncio"
        assert asyncio.coroutines.iscoroutinefunction and asyncio.subprocess.PIPE == -1
        print(Queue is asyncio.Queue, TaskGroup is asyncio.TaskGroup)
        """
    )
    assert out == "True True\n"


def test_alias_beside_a_library_on_asyncio():
    """The application imports aioxide, a library asyncio: one loop, one set of tasks."""
    out = code(
        """
        import asyncio as library
        import aioxide as app
        async def helper():
            async with library.timeout(5), library.Lock():
                await library.gather(library.sleep(0), app.sleep(0))
            queue = library.Queue()
            getter = library.create_task(queue.get())
            await app.sleep(0)
            queue.put_nowait("item")
            return await app.wait_for(getter, 5)
        async def main():
            assert library.current_task() is app.current_task()
            assert library.all_tasks() == app.all_tasks()
            async with app.TaskGroup() as group:
                one = group.create_task(helper())
                two = group.create_task(helper())
            return one.result(), two.result()
        print(app.run(main()), end=" ")
        print(library.run(main()))
        """
    )
    assert out == "('item', 'item') ('item', 'item')\n"


# -- 2: only the loop ------------------------------------------------------------------------------------------------------------


def test_run():
    assert code("import aioxide\nasync def main(): return 5\nprint(aioxide.run(main()))") == "5\n"


@pytest.mark.parametrize("how", ["runner", "run", "policy", "set_event_loop", "by_hand"])
def test_loop_below_asyncio(how):
    if how == "run" and sys.version_info < (3, 12):
        pytest.skip("asyncio.run() takes a loop_factory from 3.12 on")
    if how == "policy" and sys.version_info >= (3, 14):
        pytest.skip("policies are deprecated")
    start = {
        "runner": "with asyncio.Runner(loop_factory=aioxide.new_event_loop) as runner: print(runner.run(who(asyncio)()))",
        "run": "print(asyncio.run(who(asyncio)(), loop_factory=aioxide.new_event_loop))",
        "policy": "asyncio.set_event_loop_policy(aioxide.EventLoopPolicy()); print(asyncio.run(who(asyncio)()))",
        "set_event_loop": "loop = aioxide.new_event_loop(); asyncio.set_event_loop(loop);"
        " print(loop.run_until_complete(who(asyncio)())); loop.close()",
        "by_hand": "loop = aioxide.EventLoop(); print(loop.run_until_complete(who(asyncio)())); loop.close()",
    }[how]
    assert code(f"{WHO}\nimport asyncio, aioxide\n{start}") == "[True, True, True]\n"


def test_isolated_asyncio_test_case():
    """unittest's own runner, in debug mode, on aioxide's loop and taken over."""
    for head in ("import aioxide; aioxide.install()", "pass"):
        out = code(
            f"""
            {head}
            import asyncio, unittest
            class Test(unittest.IsolatedAsyncioTestCase):
                async def asyncSetUp(self):
                    self.queue = asyncio.Queue()
                async def test(self):
                    self.assertTrue(asyncio.get_running_loop().get_debug())
                    async with asyncio.TaskGroup() as group:
                        group.create_task(self.queue.put(1))
                    self.assertEqual(await self.queue.get(), 1)
            result = unittest.TextTestRunner(stream=open("/dev/null", "w")).run(unittest.TestSuite([Test("test")]))
            print(result.wasSuccessful(), result.testsRun)
            """
        )
        assert out == "True 1\n"


# -- 3: the whole program ----------------------------------------------------------------------------------------------------------


def test_install():
    out = code(WHO + "import aioxide\naioxide.install()\nimport asyncio\nprint(asyncio.run(who(asyncio)()))")
    assert out == "[True, True, True]\n"


def test_install_binds_what_was_imported_from_asyncio():
    """asyncio's own modules use aioxide's classes afterwards, also through `from asyncio.tasks import …` made later."""
    out = code(
        """
        import asyncio, aioxide
        aioxide.install()
        from asyncio.tasks import Task, gather
        from asyncio.futures import Future
        from asyncio import locks, queues
        print([Task is aioxide.Task, gather is aioxide.gather, Future is aioxide.Future,
               asyncio.base_events.tasks.Task is aioxide.Task, locks.Lock is aioxide.Lock, queues.Queue is aioxide.Queue,
               asyncio.current_task is aioxide.current_task or asyncio.tasks.current_task is aioxide.current_task])
        """
    )
    assert out == f"{[True] * 7}\n"


def test_install_twice_and_uninstall():
    out = code(
        """
        import asyncio
        before = asyncio.Task, asyncio.Future, asyncio.gather, asyncio.new_event_loop
        import aioxide
        aioxide.install()
        aioxide.install()
        assert asyncio.Task is aioxide.Task
        aioxide.uninstall()
        print((asyncio.Task, asyncio.Future, asyncio.gather, asyncio.new_event_loop) == before)
        async def main(): return type(asyncio.current_task()) is before[0]
        print(asyncio.run(main()))
        """
    )
    assert out == "True\nTrue\n"


@pytest.mark.parametrize("loop", ["asyncio", "aioxide"])
def test_install_refused_while_a_loop_runs(loop):
    out = code(
        f"""
        import asyncio, aioxide
        async def main():
            try:
                aioxide.install()
            except RuntimeError as error:
                print(error)
            assert asyncio.Task is not aioxide.Task
            await asyncio.sleep(0)
        {loop}.run(main())
        """
    )
    assert "running" in out
    assert len(out) < 300


def test_refusal_looks_at_other_threads():
    """A loop that runs in another thread is in the way, too, or goes on unharmed."""
    out = code(
        """
        import asyncio, threading, aioxide
        started, stop = threading.Event(), threading.Event()
        async def ticking():
            started.set()
            while not stop.is_set():
                await asyncio.gather(asyncio.sleep(0.001), asyncio.sleep(0.001))
            return "unharmed"
        results = []
        thread = threading.Thread(target=lambda: results.append(asyncio.run(ticking())))
        thread.start()
        started.wait()
        try:
            aioxide.install()
        except RuntimeError:
            pass
        stop.set()
        thread.join()
        print(results)
        """
    )
    assert out == "['unharmed']\n"


# -- python -m aioxide ---------------------------------------------------------------------------------------------------------------


REPORT = """
    import asyncio, json, sys
    async def main():
        task = asyncio.current_task()
        import aioxide
        return type(task) is aioxide.Task and isinstance(asyncio.get_running_loop(), aioxide.EventLoop)
    if __name__ == "__main__":
        report = {"argv": sys.argv[1:], "name": __name__, "native": asyncio.run(main()), "path0": sys.path[0]}
        report["file"] = globals().get("__file__")
        report["main"] = sys.modules["__main__"].__dict__ is globals()
        print(json.dumps(report))
"""


def test_file(tmp_path):
    path = program(tmp_path, REPORT)
    report = json.loads(ok("-m", "aioxide", path, "one", "--two", "-3"))
    assert report == {
        "argv": ["one", "--two", "-3"],
        "name": "__main__",
        "native": True,
        "path0": str(tmp_path),
        "file": str(path),
        "main": True,
    }


def test_module(tmp_path):
    program(tmp_path, REPORT, "package/app.py")
    program(tmp_path, "", "package/__init__.py")
    report = json.loads(ok("-m", "aioxide", "-m", "package.app", "x", "-m", cwd=tmp_path, env=path_to_tests()))
    assert (report["argv"], report["native"], report["name"]) == (["x", "-m"], True, "__main__")
    assert report["file"] == str(tmp_path / "package/app.py")


def test_package_with_main(tmp_path):
    program(tmp_path, REPORT, "tool/__main__.py")
    program(tmp_path, "", "tool/__init__.py")
    report = json.loads(ok("-m", "aioxide", "-m", "tool", cwd=tmp_path, env=path_to_tests()))
    assert report["native"] is True


def test_directory(tmp_path):
    program(tmp_path, REPORT, "__main__.py")
    assert json.loads(ok("-m", "aioxide", tmp_path, "a"))["argv"] == ["a"]


def test_command():
    report = json.loads(ok("-m", "aioxide", "-c", textwrap.dedent(REPORT), "a", "-b"))
    assert (report["argv"], report["native"]) == (["a", "-b"], True)


def test_standard_input():
    done = interpreter("-m", "aioxide", "-", "a", input=textwrap.dedent(REPORT))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["argv"] == ["a"]


def path_to_tests() -> dict[str, str]:
    """The processes that start elsewhere must find aioxide, wherever this one found it."""
    import aioxide

    return {"PYTHONPATH": str(Path(aioxide.__file__).parents[1])}


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ("raise SystemExit(7)", 7, ""),
        ("raise SystemExit('said')", 1, "said\n"),
        ("import asyncio\nasync def main(): raise SystemExit(9)\nasyncio.run(main())", 9, ""),
        ("raise ValueError('boom')", 1, "ValueError: boom\n"),
        (
            "import asyncio\nasync def main(): raise ValueError('inside')\nasyncio.run(main())",
            1,
            "ValueError: inside\n",
        ),
        ("def broken(:", 1, "SyntaxError: "),
    ],
)
def test_exit_status(tmp_path, body, status, text):
    """As if Python itself had run it; the traceback does not show our runner."""
    path = program(tmp_path, body)
    ours, plain = interpreter("-m", "aioxide", str(path)), interpreter(str(path))
    assert ours.returncode == plain.returncode == status
    assert text in ours.stderr
    assert "aioxide/__main__.py" not in ours.stderr
    if "asyncio.run" not in body:
        assert ours.stderr == plain.stderr


@pytest.mark.parametrize("arguments", [["app.py"], ["-m", "app"], ["-c", "import app"]])
def test_traceback_of_a_coroutine_that_was_never_awaited(tmp_path, arguments):
    """Where it was made, from the program's first line on."""
    source = """
        import asyncio
        async def forgotten(): ...
        async def main():
            forgotten()
        def start():
            asyncio.run(main())
        start()
        """
    (tmp_path / "app.py").write_text(textwrap.dedent(source))
    path = {"PYTHONPATH": str(ROOT / "python")}
    ours = interpreter("-X", "dev", "-m", "aioxide", *arguments, cwd=tmp_path, env=path)
    plain = interpreter("-X", "dev", *arguments, cwd=tmp_path, env=path)
    assert "coroutine 'forgotten' was never awaited" in ours.stderr
    assert "aioxide/__main__.py" not in ours.stderr
    first = "Coroutine created at (most recent call last)\n"

    def of_the_program(text: str) -> list[str]:
        shown = text.partition(first)[2].splitlines()
        return [line for line in shown if line.startswith("  File ") and "app.py" in line]

    assert of_the_program(ours.stderr) == of_the_program(plain.stderr)


def test_warning_about_a_coroutine_without_an_origin(tmp_path):
    path = program(tmp_path, "async def forgotten(): ...\nforgotten()")
    assert interpreter("-m", "aioxide", str(path)).stderr == interpreter(str(path)).stderr


def test_help():
    text = ok("-m", "aioxide", "-h")
    for option in ("-c command", "-m module", "file", "- ", "doctor", "-h, --help", "-V, --version", "AIOXIDE_TLS"):
        assert f"\n  {option}" in text


def test_missing_file(tmp_path):
    done = interpreter("-m", "aioxide", str(tmp_path / "nowhere.py"))
    assert done.returncode == 2
    assert "can't open file" in done.stderr
    assert "Traceback" not in done.stderr


def test_interrupted_program(tmp_path):
    """^C ends it as it ends a program under Python: KeyboardInterrupt, death by SIGINT."""
    path = program(
        tmp_path,
        """
        import asyncio, os, signal
        signal.signal(signal.SIGINT, signal.default_int_handler)
        async def main():
            asyncio.get_running_loop().call_later(0.05, os.kill, os.getpid(), signal.SIGINT)
            await asyncio.sleep(30)
        asyncio.run(main())
        """,
    )
    ours, plain = interpreter("-m", "aioxide", str(path)), interpreter(str(path))
    assert ours.returncode == plain.returncode
    assert ours.stderr.rstrip().endswith("KeyboardInterrupt")


def test_debug_from_the_environment(tmp_path):
    path = program(
        tmp_path, "import asyncio\nasync def main(): print(asyncio.get_running_loop().get_debug())\nasyncio.run(main())"
    )
    assert ok("-m", "aioxide", path, env={"PYTHONASYNCIODEBUG": "1"}) == "True\n"
    assert ok("-X", "dev", "-m", "aioxide", path) == "True\n"
    assert ok("-m", "aioxide", path, env={"PYTHONASYNCIODEBUG": ""}) == "False\n"


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_takeover_in_children(tmp_path, method):
    """However multiprocessing starts them: their asyncio is ours before their first import."""
    path = program(
        tmp_path,
        f"""
        import asyncio, multiprocessing
        async def double(n):
            await asyncio.sleep(0)
            return 2 * n, type(asyncio.get_running_loop()).__module__
        def work(n):
            return asyncio.run(double(n))
        if __name__ == "__main__":
            with multiprocessing.get_context({method!r}).Pool(1) as pool:
                print(pool.map(work, [1, 2]))
        """,
    )
    assert ok("-W", "ignore", "-m", "aioxide", path) == "[(2, 'aioxide'), (4, 'aioxide')]\n"


@pytest.mark.parametrize(("setting", "module"), [(None, "aioxide"), ("1", "aioxide"), ("0", "asyncio.unix_events")])
def test_takeover_of_a_program_that_is_started(tmp_path, setting, module):
    """A server's workers, say: Python is run again. AIOXIDE_TAKEOVER=0 leaves them alone."""
    path = program(
        tmp_path,
        """
        import asyncio, subprocess, sys
        source = "import asyncio; loop = asyncio.new_event_loop(); print(type(loop).__module__); loop.close()"
        subprocess.run([sys.executable, "-c", source], check=True)
        """,
    )
    env = {} if setting is None else {"AIOXIDE_TAKEOVER": setting}
    assert ok("-m", "aioxide", path, env=env) == f"{module}\n"


def test_takeover_by_the_environment():
    """Without python -m aioxide: for what starts Python by itself."""
    source = "import asyncio, aioxide; print(asyncio.Task is aioxide.Task)"
    assert ok("-c", source, env={"AIOXIDE_TAKEOVER": "1"}) == "True\n"
    assert ok("-c", source) == "False\n"
    assert ok("-c", "import sys; print('asyncio' in sys.modules)") == "False\n"


def test_readme_example(tmp_path):
    """The program that the project began with."""
    path = program(
        tmp_path,
        """
        import asyncio
        async def task(name, delay):
            await asyncio.sleep(delay)
            print(f"Task {name} completed")
        async def main():
            await asyncio.gather(task("Task 1", 0.04), task("Task 2", 0.02))
        asyncio.run(main())
        """,
    )
    assert ok("-m", "aioxide", path) == ok(path) == "Task Task 2 completed\nTask Task 1 completed\n"


@pytest.mark.parametrize("arguments", [["app.py", "a"], ["-m", "app", "a"], ["-c", "import app", "a"]])
def test_console_script(tmp_path, arguments):
    """`aioxide` on the command line: what pip installs runs console_script(), from another directory than the user's."""
    script = tmp_path / "bin" / "aioxide"
    script.parent.mkdir()
    script.write_text("import sys\nfrom aioxide.__main__ import console_script\nsys.exit(console_script())\n")
    (tmp_path / "app.py").write_text(
        "import asyncio, sys\nprint(asyncio.Task.__module__, asyncio.Lock, sys.argv[1:], sys.path[0])\n"
    )
    options = {"cwd": tmp_path, "env": path_to_tests()}
    ours = interpreter(str(script), *arguments, **options)
    module = interpreter("-m", "aioxide", *arguments, **options)
    assert ours.returncode == module.returncode == 0, ours.stderr
    assert ours.stdout == module.stdout
    assert str(script.parent) not in ours.stdout


def test_console_script_in_a_removed_directory(tmp_path):
    """As `python /path/app.py`, which does not need the directory either."""
    gone, script, app = tmp_path / "gone", tmp_path / "aioxide", tmp_path / "app.py"
    gone.mkdir()
    script.write_text("import sys\nfrom aioxide.__main__ import console_script\nsys.exit(console_script())\n")
    app.write_text("import aioxide, asyncio, sys\nprint(asyncio.Lock is aioxide.Lock, sys.path[0])\n")
    start = f"import os, sys; os.rmdir({str(gone)!r}); os.execv(sys.executable, [sys.executable, *{[str(script), str(app)]!r}])"
    done = interpreter("-c", start, cwd=gone, env=path_to_tests())
    assert (done.returncode, done.stdout) == (0, f"True {tmp_path}\n"), done.stderr
