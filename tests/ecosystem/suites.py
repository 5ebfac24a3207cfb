"""The libraries' own test suites, on asyncio and on aioxide in its place: ``python -m tests.ecosystem.suites --help``.

Each suite runs twice from one virtual environment, and only the environment variable AIOXIDE_TAKEOVER differs. What
passes on asyncio and fails on aioxide is a difference; it is run once more, alone, since a test may be late on a busy
machine. What pytest said is in a log for each in ``--place``. docs/explanation/suites.md has what came of it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as xml
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from . import servers

ROOT = Path(__file__).resolve().parents[2]
PYTEST = "pytest -q -p no:cacheprovider --timeout 60"
#: seconds for a whole suite: aiohttp's takes a quarter of an hour on two busy cores
ENOUGH = 3600


@dataclass(frozen=True)
class Suite:
    """How one library's tests are run."""

    version: str
    #: requirements of the tests
    needs: str = ""
    #: the module, and its arguments
    command: str = f"{PYTEST} tests"
    #: where a checkout comes from if the sdist has no tests; the tag is the version
    repository: str = ""
    #: the library is installed with its tests
    installed: bool = False
    #: a folder of the sources that must not be found in the place of the library that is installed
    aside: str = ""
    #: a server, whose ``host:port`` takes the place of ``{server}`` in the command and ``variables``, and its parts
    #: that of ``{host}`` and ``{port}``
    server: str = ""
    #: of the environment
    variables: str = ""

    def filled(self, text: str, address: str) -> list[str]:
        """In words."""
        host, _, port = address.partition(":")
        for name, value in (("{server}", address), ("{host}", host), ("{port}", port)):
            text = text.replace(name, value)
        return shlex.split(text)


SUITES = {
    "aiohttp": Suite(
        "3.14.5",
        needs="pytest-cov pytest-mock pytest-xdist pytest-codspeed freezegun proxy.py blockbuster isal trustme zlib-ng"
        " re-assert time-machine",
        command=f"{PYTEST} -p no:asyncio -n 2 -o addopts= -m 'not dev_mode and not autobahn and not internal' tests",
        aside="aiohttp",
    ),
    "websockets": Suite(
        "17.0.1",
        command=f"{PYTEST} -p no:asyncio tests/asyncio tests/legacy",
        repository="https://github.com/python-websockets/websockets",
    ),
    "anyio": Suite(
        "4.16.0",
        needs="trustme psutil hypothesis pytest-mock truststore trio uvloop",
        command=f"{PYTEST} -p no:asyncio -m 'not network' -k 'not trio and not uvloop and not ipv6' tests",
    ),
    "uvicorn": Suite(
        "0.54.0",
        needs="uvicorn[standard] httpx httpx2 trustme cryptography a2wsgi wsproto pytest-mock pytest-codspeed",
        command=f"{PYTEST} -o addopts= -p no:asyncio tests",
    ),
    "tornado": Suite("6.6.1", command="tornado.test.runtests --verbose", installed=True),
    "redis": Suite(
        "8.1.0",
        needs="pytest-asyncio numpy redis-entraid pybreaker aiohttp xxhash cryptography opentelemetry-sdk"
        " opentelemetry-exporter-otlp-proto-http",
        command=f"{PYTEST} -o addopts= --redis-url redis://{{server}}/0 --ignore tests/test_asyncio/test_scenario"
        " -m 'not (onlycluster or redismod or cp_integration or multidb_integration or ssl or replica)' tests/test_asyncio",
        server="redis",
    ),
    # (its own clusters, which it starts by pg_ctl, fail when root runs it)
    "asyncpg": Suite(
        "0.32.0",
        needs="distro",
        command=f"{PYTEST} -p no:asyncio tests",
        aside="asyncpg",
        server="postgres",
        variables="PGHOST={host} PGPORT={port} PGUSER=postgres",
    ),
    "hypercorn": Suite(
        "0.18.0",
        needs="pytest-asyncio httpx trio",
        command=f"{PYTEST} -o addopts= -o asyncio_mode=auto --ignore tests/trio tests",
    ),
    "aiofiles": Suite("25.1.0", needs="pytest-asyncio"),
}


def environment(place: Path, suites: dict[str, Suite]) -> Path:
    """A virtual environment with the libraries, and with aioxide as it stands in this checkout. Its interpreter."""
    python = place / "venv/bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", place / "venv"], check=True)
    needs = {f"{name}=={suite.version}" for name, suite in suites.items()}
    needs |= {need for suite in suites.values() for need in suite.needs.split()} | {"pytest", "pytest-timeout"}
    subprocess.run([python, "-m", "pip", "install", "--quiet", *sorted(needs)], check=True)
    [packages] = (place / "venv/lib").glob("python*/site-packages")
    (packages / "aioxide.pth").write_text(f"{ROOT / 'python'}\n")
    shutil.copy(ROOT / "site/purelib/aioxide_takeover.pth", packages)
    for takeover in "01":
        check = "import asyncio, sys; sys.exit(type(asyncio.new_event_loop()).__module__ != sys.argv[1])"
        expected = "aioxide" if takeover == "1" else "asyncio.unix_events"
        subprocess.run([python, "-c", check, expected], env=os.environ | {"AIOXIDE_TAKEOVER": takeover}, check=True)
    return python


def sources(name: str, suite: Suite, place: Path, python: Path, given: dict[str, Path]) -> Path:
    """A folder with the tests."""
    if suite.installed:
        return place
    folder = given.get(name, place / f"{name}-{suite.version}")
    if not folder.exists() and suite.repository:
        clone = ["git", "clone", "--quiet", "--depth", "1", "--branch", suite.version, suite.repository, folder]
        subprocess.run(clone, check=True)
    elif not folder.exists():
        download = [python, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", name, "--dest", place]
        subprocess.run([*download, f"{name}=={suite.version}"], check=True)
        with tarfile.open(place / f"{name}-{suite.version}.tar.gz") as archive:
            archive.extractall(place, filter="data")
    if suite.aside and (folder / suite.aside).exists():
        (folder / suite.aside).rename(folder / f"{suite.aside}.aside")
    return folder


def from_junit(report: Path) -> dict[str, str]:
    """What came of each test: passed, failed or skipped."""
    outcomes = {}
    for case in xml.parse(report).iter("testcase"):
        kinds = {child.tag for child in case}
        status = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        outcomes[f"{case.get('classname')}::{case.get('name')}"] = status
    return outcomes


def from_unittest(text: str) -> dict[str, str]:
    """The same from what unittest says of each test, which may have said something itself before."""
    outcomes = {}
    names = r"^(\w+) \(([\w.]+)\)"
    verdict = r"(?:(?!^\w+ \([\w.]+\))[\s\S])*?(ok|FAIL|ERROR|skipped .*|expected failure)$"
    for found in re.finditer(names + verdict, text, re.MULTILINE):
        said = found[3].split()[0]
        outcomes[found[2]] = {"ok": "passed", "expected": "passed", "skipped": "skipped"}.get(said, "failed")
    outcomes.update((found[2], "failed") for found in re.finditer(r"^(?:FAIL|ERROR): " + names[1:], text, re.MULTILINE))
    return outcomes


def run(
    suite: Suite, python: Path, folder: Path, log: Path, *, takeover: bool, only: list[str] | None = None
) -> dict[str, str]:
    """What came of each test. ``log``: where what is said on the way is kept."""
    pytest = suite.command.startswith("pytest")
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        address = stack.enter_context(getattr(servers, suite.server)()) if suite.server else ""
        command = ["-m", *suite.filled(suite.command, address)]
        if pytest:
            command.append(f"--junitxml={place / 'report.xml'}")
        if only and pytest:
            # by the names of the functions, which is enough to choose few tests
            command += ["-k", " or ".join(sorted({name.rpartition("::")[2].partition("[")[0] for name in only}))]
        elif only:
            command += only
        source = folder / "src" if (folder / "src").exists() and suite.repository else None
        child = os.environ | {"AIOXIDE_TAKEOVER": str(int(takeover)), "PYTHONDONTWRITEBYTECODE": "1"}
        child |= {"PYTHONPATH": str(source)} if source else {}
        child |= dict(word.split("=", 1) for word in suite.filled(suite.variables, address))
        report = place / "report.xml"
        with log.open("wb") as output:
            status = subprocess.call(
                [python, *command], cwd=folder, env=child, timeout=ENOUGH, stdout=output, stderr=output
            )
        said = log.read_text(errors="replace")
        if status > 1:
            raise RuntimeError(f"the suite did not run:\n{said[-4000:]}")
        return from_junit(report) if pytest else from_unittest(said)


def failed(outcomes: dict[str, str]) -> set[str]:
    return {name for name, status in outcomes.items() if status == "failed"}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.ecosystem.suites", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=SUITES, default=list(SUITES))
    parser.add_argument("--place", type=Path, default=ROOT / "target/suites", help="for what is downloaded")
    parser.add_argument("--source", nargs="+", default=[], metavar="NAME=FOLDER", help="sources that are there already")
    options = parser.parse_args()
    place = options.place / f"{sys.version_info.major}.{sys.version_info.minor}"
    place.mkdir(parents=True, exist_ok=True)
    given = {name: Path(folder).resolve() for name, _, folder in (each.partition("=") for each in options.source)}
    suites = {name: SUITES[name] for name in options.only}
    python = environment(place.resolve(), suites)
    rows, worse = ["| suite | passed, asyncio | passed, aioxide | fail on both |", "|---|--:|--:|--:|"], []
    for name, suite in suites.items():
        folder = sources(name, suite, place.resolve(), python, given)
        asyncio = run(suite, python, folder, place / f"{name}-asyncio.log", takeover=False)
        ours = run(suite, python, folder, place / f"{name}-aioxide.log", takeover=True)
        late = sorted(test for test, status in ours.items() if status != "passed" and asyncio.get(test) == "passed")
        if late:
            again = run(suite, python, folder, place / f"{name}-again.log", takeover=True, only=late)
            ours |= {test: again[test] for test in late if test in again}
        worse += [test for test in late if ours[test] != "passed"]
        passed = [Counter(outcomes.values())["passed"] for outcomes in (asyncio, ours)]
        counts = [*passed, len(failed(asyncio) & failed(ours))]
        rows.append(f"| {name} {suite.version} | " + " | ".join(map(str, counts)) + " |")
        print(rows[-1], *(f"  {ours[test]}: {test}" for test in late), sep="\n", flush=True)
    print(*rows, *(f"only on aioxide: {test}" for test in worse), sep="\n")
    return bool(worse)


if __name__ == "__main__":
    sys.exit(main())
