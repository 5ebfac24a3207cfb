"""Runs CPython's test files in child processes and judges what came back.

A *target* is an interpreter and how asyncio is replaced in it. ``Runner.run`` gives the outcome of each test of one
module; ``Runner.judge`` compares a run with what asyncio itself does on the same interpreter. The baseline is lazy:
only tests that did not pass here are run on asyncio, and what they did is kept under out/, per interpreter.
"""

import json
import os
import re
import select
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from . import NOT_JUDGED, OUTSIDE_FILES
from .classify import classify

HERE = Path(__file__).parent
PREFIX = "test.test_asyncio."
RESOURCES = ("cpu", "walltime", "subprocess")

Mode = Literal["takeover", "loop", "stdlib"]
DEFAULT_HOOK = {"takeover": "aioxide:install", "loop": "aioxide:new_event_loop", "stdlib": ""}
PASSED = ("passed", "xfail")
DIED = ("crash", "timeout")

_PROBE = """
import hashlib, importlib.util, json, sys, sysconfig
from pathlib import Path

def exists(module):
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False

try:
    import test.test_asyncio as tests
except ImportError:
    files = None
else:
    files = sorted(path.stem for path in Path(tests.__file__).parent.glob("test_*.py"))
identity = hashlib.sha256(f"{sys.version} {sys.base_prefix} {sysconfig.get_platform()}".encode()).hexdigest()[:8]
found = [module for module in sys.argv[1:] if exists(module)]
# where a module has become a package, its modules have the tests
outside = [module for module in found if not any(other.startswith(module + ".") for other in found)]
print(json.dumps({"version": sys.version.split()[0], "identity": identity, "files": files, "outside": outside}))
"""


class NoTestPackage(Exception):
    """The interpreter came without CPython's tests."""

    def __init__(self, python: str, version: str) -> None:
        short = ".".join(version.split(".")[:2])
        super().__init__(
            f"{python} ({version}) has no test.test_asyncio: CPython's own tests are not installed. "
            f"Debian and Ubuntu: apt install libpython{short}-testsuite. Builds of pyenv, uv and python.org have them. "
            "AIOXIDE_CONFORMANCE=0 leaves conformance out of a test run."
        )


@dataclass(frozen=True)
class Interpreter:
    """An interpreter with CPython's tests: ``files`` of test.test_asyncio, and ``outside`` of it the modules of
    ``OUTSIDE_FILES`` that it has. ``key`` names its folder in the cache.
    """

    python: str
    version: str
    identity: str
    files: tuple[str, ...]
    outside: tuple[str, ...]

    @classmethod
    def probe(cls, python: str) -> "Interpreter":
        answer = subprocess.run(
            [python, "-W", "ignore", "-c", _PROBE, *OUTSIDE_FILES], capture_output=True, text=True, check=True
        )
        found = json.loads(answer.stdout.splitlines()[-1])
        if found["files"] is None:
            raise NoTestPackage(python, found["version"])
        files, outside = tuple(found["files"]), tuple(found["outside"])
        return cls(python, found["version"], found["identity"], files, outside)

    @property
    def judged(self) -> tuple[str, ...]:
        """Every file with a test that aioxide is judged by."""
        return (*(file for file in self.files if file not in NOT_JUDGED), *self.outside)

    @property
    def key(self) -> str:
        return f"{self.version}-{self.identity}"


@dataclass(frozen=True)
class Target:
    """How asyncio is replaced: ``hook`` is ``module:callable``."""

    mode: Mode = "takeover"
    hook: str = ""

    @property
    def name(self) -> str:
        return self.mode if self.mode == "stdlib" else f"{self.mode}-{self.spec.partition(':')[0]}"

    @property
    def spec(self) -> str:
        return self.hook or DEFAULT_HOOK[self.mode]


@dataclass(frozen=True)
class Outcome:
    """What one test did: passed, xfail, skipped, failed, error, crash, timeout."""

    id: str
    status: str
    text: str = ""
    seconds: float = 0.0

    def line(self) -> str:
        last = (self.text.strip().splitlines() or [""])[-1]
        return f"{self.id.removeprefix(PREFIX)}  {self.status}  {last[:200]}"


@dataclass
class Limits:
    """Seconds and restarts after which a test, or a file, is given up."""

    test: float = 60.0
    file: float = 900.0
    restarts: int = 20


@dataclass
class Share:
    """The tests of one kind that asyncio itself passes, and how many of them pass here."""

    total: int = 0
    passed: int = 0

    def add(self, other: "Share") -> None:
        self.total += other.total
        self.passed += other.passed

    def __str__(self) -> str:
        return f"{self.passed} of {self.total}"


@dataclass
class Verdict:
    """One file, judged. ``lost`` is what must be mended; of ``lost_semi`` a few are forgiven (``SEMI_SHARE``)."""

    file: str
    behavioural: Share = field(default_factory=Share)
    semi: Share = field(default_factory=Share)
    lost_semi: list[Outcome] = field(default_factory=list)
    lost: list[Outcome] = field(default_factory=list)
    allowed: list[Outcome] = field(default_factory=list)
    flaky: list[Outcome] = field(default_factory=list)  # failed, then passed when run again
    needless: list[str] = field(default_factory=list)  # allowlist lines whose test passes
    counts: dict[str, Counter[str]] = field(default_factory=dict)  # kind of test to status
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        return not self.lost and not self.needless

    def explain(self, tracebacks: bool = True) -> str:
        lines = [f"{self.file}: {self.behavioural} behavioural tests pass, {self.semi} semi; {len(self.lost)} lost"]
        for mark, outcomes in (("---", self.lost), ("--- semi:", self.lost_semi)):
            for outcome in outcomes:
                lines.append(f"{mark} {outcome.line()}")
                if tracebacks and outcome.text:
                    lines.append(outcome.text.rstrip() + "\n")
        lines += [f"--- {test}: stands in the allowlist, but passes" for test in self.needless]
        return "\n".join(lines)


class Child:
    """One child.py process, its events and its watchdog."""

    def __init__(self, config: dict[str, Any], python: str, log: Path, limits: Limits, deadline: float) -> None:
        self.outcomes: dict[str, Outcome] = {}
        self.listed: list[str] = []
        self.done = False
        self.current: str | None = None
        self._limits = limits
        self._deadline = deadline
        receiver, sender = os.pipe()
        environment = {**os.environ, "PYTHONFAULTHANDLER": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        environment.pop("PYTHONASYNCIODEBUG", None)
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [python, "-W", "default", str(HERE / "child.py"), json.dumps({**config, "events": sender})],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                pass_fds=[sender],
                start_new_session=True,
                cwd=tempfile.gettempdir(),
            )
        os.close(sender)
        try:
            self.fate = self._watch(receiver)
        finally:
            os.close(receiver)
            self._kill()
        self.returncode = self._process.returncode

    def _watch(self, receiver: int) -> str:
        """Reads events until the child ends, hangs or is out of time."""
        buffer = b""
        last_event = time.monotonic()
        while True:
            readable, _, _ = select.select([receiver], [], [], 0.2)
            chunk = os.read(receiver, 1 << 16) if readable else b""
            *lines, buffer = (buffer + chunk).split(b"\n")
            for line in lines:
                self._take(json.loads(line))
                last_event = time.monotonic()
            if not chunk and self._process.poll() is not None:
                return "ended"
            if readable and not chunk:  # every writer is gone, the process about to be
                time.sleep(0.01)
            now = time.monotonic()
            if now - last_event > self._limits.test or now > self._deadline:
                self._process.send_signal(signal.SIGABRT)  # faulthandler writes the stacks to the log
                try:
                    self._process.wait(5)
                except subprocess.TimeoutExpired:
                    pass
                return "timeout"

    def _take(self, event: dict[str, Any]) -> None:
        match event["event"]:
            case "start":
                self.current = event["id"]
            case "stop":
                self.current = None
                outcome = Outcome(event["id"], event["status"], event["text"], event["seconds"])
                before = self.outcomes.get(outcome.id)
                if before is None or before.status in (*PASSED, "skipped"):
                    self.outcomes[outcome.id] = outcome
            case "test":
                self.listed.append(event["id"])
            case "done" | "module skipped":
                self.done = True

    def _kill(self) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()


class Runner:
    """Runs and judges test modules on one interpreter. ``path`` goes before its own sys.path."""

    def __init__(
        self,
        interpreter: Interpreter,
        path: Iterable[str] = (),
        out: Path | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.interpreter = interpreter
        self.path = [str(Path(folder).resolve()) for folder in path]
        self.out = (out or HERE / "out") / interpreter.key
        self.limits = limits or Limits()

    def run(self, target: Target, file: str, only: Iterable[str] | None = None) -> dict[str, Outcome]:
        """Outcomes by test id. A test that hangs or crashes costs a restart, behind it."""
        outcomes: dict[str, Outcome] = {}
        log = self._new_log(target, file)
        config = self._config(target, file)
        config["only"] = None if only is None else sorted(only)
        deadline = time.monotonic() + self.limits.file
        for _ in range(self.limits.restarts + 1):
            child = Child({**config, "skip": list(outcomes)}, self.interpreter.python, log, self.limits, deadline)
            outcomes |= child.outcomes
            if child.done:
                return outcomes
            fate = "timeout" if child.fate == "timeout" else "crash"
            text = f"exit status {child.returncode}; the end of {log.name}:\n{_tail(log)}"
            if child.current is None:
                outside = f"{config['module']}.<outside a test>"
                return outcomes | {outside: Outcome(outside, fate, text)}
            outcomes[child.current] = Outcome(child.current, fate, text)
            if time.monotonic() > deadline:
                break
        abandoned = f"{config['module']}.<abandoned>"
        return outcomes | {abandoned: Outcome(abandoned, "timeout", "too many restarts, or no time left")}

    def tests(self, file: str) -> list[str]:
        """The ids that asyncio itself has in this file; cached."""
        path = self.out / "baseline" / f"{file}.list.json"
        if not path.exists():
            target = Target("stdlib")
            config = {**self._config(target, file), "list": True}
            log = self._new_log(target, file)
            child = Child(config, self.interpreter.python, log, self.limits, time.monotonic() + 60)
            if not child.done:
                raise RuntimeError(f"asyncio's own {file} cannot be imported:\n{_tail(log)}")
            _write(path, child.listed)
        return json.loads(path.read_text())

    def baseline(self, file: str, ids: Iterable[str]) -> dict[str, str]:
        """What asyncio itself does with these tests; cached."""
        wanted = set(ids)
        path = self.out / "baseline" / f"{file}.json"
        known: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
        missing = wanted - known.keys()
        if missing:
            found = self.run(Target("stdlib"), file, missing)
            known |= {test: found[test].status if test in found else "missing" for test in missing}
            _write(path, known)
        return {test: known[test] for test in wanted}

    def judge(self, target: Target, file: str, allowlist: "Allowlist", retries: int = 1) -> Verdict:
        """Runs the file on the target and compares it with asyncio.

        An ordinary failure is tried again, alone, ``retries`` times (the machine may be slow); a crash, a hang and a
        skip are not.
        """
        started = time.monotonic()
        verdict = Verdict(file)
        expected = self.tests(file)
        judged = [test for test in expected if classify(test) in ("behavioural", "semi")]
        outcomes = self.run(target, file, judged)
        for test, outcome in outcomes.items():
            verdict.counts.setdefault(classify(test), Counter())[outcome.status] += 1
        not_passed = [test for test in judged if _status(outcomes, test) not in PASSED]
        asyncio_passes = {test for test, status in self.baseline(file, not_passed).items() if status in PASSED}
        lost = [test for test in not_passed if test in asyncio_passes]

        for _ in range(retries):
            again = [test for test in lost if _status(outcomes, test) in ("failed", "error")]
            if not again:
                break
            second = self.run(target, file, again)
            passed = [test for test in again if _status(second, test) in PASSED]
            verdict.flaky += [outcomes[test] for test in passed]
            lost = [test for test in lost if test not in passed]

        for kind, share in (("behavioural", verdict.behavioural), ("semi", verdict.semi)):
            of_kind = [test for test in judged if classify(test) == kind]
            share.total = sum(test not in not_passed or test in asyncio_passes for test in of_kind)
            share.passed = share.total - sum(test in lost for test in of_kind)
        strays = [
            test for test, outcome in outcomes.items() if test not in expected and outcome.status in (*DIED, "error")
        ]
        flaky = {outcome.id for outcome in verdict.flaky}
        allowed = allowlist.reasons(self.interpreter.version)
        for test in lost + strays:
            outcome = outcomes.get(test) or Outcome(test, "missing", "the module has no such test any more")
            if test in allowed:
                verdict.allowed.append(outcome)
            elif classify(test) == "semi":
                verdict.lost_semi.append(outcome)
            else:
                verdict.lost.append(outcome)
        here = full_name(file) + "."
        verdict.needless = [test for test in allowed if test.startswith(here) and test not in {*lost, *flaky}]
        verdict.seconds = round(time.monotonic() - started, 1)
        return verdict

    def _config(self, target: Target, file: str) -> dict[str, Any]:
        return {
            "module": full_name(file),
            "mode": target.mode,
            "hook": target.spec,
            "path": self.path,
            "resources": RESOURCES,
            "list": False,
            "skip": [],
            "only": None,
        }

    def _new_log(self, target: Target, file: str) -> Path:
        path = self.out / target.name / f"{file}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        return path


class Allowlist:
    """allowlist.txt: the tests that may be lost, each with its reason."""

    _LINE = re.compile(r"(?P<test>\S+)(?: +\[(?P<versions>[\d. ]+)\])? +(?P<reason>[^[\s].*)")

    def __init__(self, text: str) -> None:
        self.lines: list[tuple[str, tuple[str, ...], str]] = []
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            found = self._LINE.fullmatch(line.rstrip())
            if not found:
                raise ValueError(f"allowlist, line {number}: wants a test, versions in brackets or none, a reason")
            versions = tuple((found["versions"] or "").split())
            self.lines.append((full_name(found["test"]), versions, found["reason"]))

    @classmethod
    def read(cls) -> "Allowlist":
        return cls((HERE / "allowlist.txt").read_text())

    def reasons(self, version: str) -> dict[str, str]:
        """The test ids that this Python may lose, with the reason."""
        short = ".".join(version.split(".")[:2])
        return {test: reason for test, versions, reason in self.lines if not versions or short in versions}


def full_name(name: str) -> str:
    """The module of a file, or the id of a test: what is not said to be elsewhere is in test.test_asyncio."""
    return name if name.startswith(("test.", "unittest.", "tests.")) else PREFIX + name


def _status(outcomes: dict[str, Outcome], test: str) -> str:
    return outcomes[test].status if test in outcomes else "missing"


def _tail(log: Path, lines: int = 40) -> str:
    """The last lines; of a crash all that faulthandler says, which since 3.14 are C frames too."""
    all_lines = log.read_text(errors="replace").splitlines()
    crash = max(
        (number for number, line in enumerate(all_lines) if line.startswith("Fatal Python error")), default=None
    )
    first = len(all_lines) - lines
    return "\n".join(all_lines[max(0, first if crash is None else min(first, crash)) :])


def _write(path: Path, value: object) -> None:
    """Whole or not at all: two runs may share the cache."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        json.dump(value, file, indent=0)
    os.replace(file.name, path)
