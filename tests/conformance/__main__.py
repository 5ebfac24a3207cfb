"""The command line: ``python -m tests.conformance --help``."""

import argparse
import sys
from collections import Counter
from pathlib import Path

from . import SEMI_SHARE
from .classify import classify
from .runner import PASSED, PREFIX, Allowlist, Interpreter, Limits, NoTestPackage, Runner, Share, Target


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--python", default=sys.executable, help="the interpreter under test (default: this one)")
    parser.add_argument("--mode", choices=["takeover", "loop", "stdlib"], default="takeover")
    parser.add_argument("--hook", default="", help="module:callable instead of aioxide's, for another implementation")
    parser.add_argument("--path", action="append", default=[], help="goes before sys.path (repeatable)")
    parser.add_argument("--files", nargs="+", help="test files (default: all that count)")
    parser.add_argument("--only", default="", help="only tests whose id contains this text")
    parser.add_argument("--retries", type=int, default=1, help="how often an ordinary failure is tried again alone")
    parser.add_argument("--test-timeout", type=float, default=60.0)
    parser.add_argument("--out", type=Path, help="folder of logs and cached baselines")
    parser.add_argument("-v", "--verbose", action="store_true", help="with tracebacks, and every kind of test")
    return parser.parse_args()


def run_only(runner: Runner, target: Target, files: list[str], text: str) -> int:
    """A few tests, each outcome on a line: for work on one failure."""
    status = Counter[str]()
    for file in files:
        chosen = [test for test in runner.tests(file) if text in test]
        for outcome in runner.run(target, file, chosen).values() if chosen else ():
            status[outcome.status] += 1
            print(outcome.line(), f"[{classify(outcome.id)}]")
            if outcome.status not in PASSED:
                print(outcome.text)
    print(dict(status))
    return sum(status.values()) != sum(status[name] for name in PASSED)


def main() -> int:
    options = arguments()
    try:
        interpreter = Interpreter.probe(options.python)
    except NoTestPackage as reason:
        print(reason, file=sys.stderr)
        return 2
    runner = Runner(interpreter, options.path, options.out, Limits(test=options.test_timeout))
    target = Target(options.mode, options.hook)
    known = {*interpreter.files, *interpreter.outside}
    wanted = options.files or interpreter.judged
    files = [file for file in wanted if file in known or "." in file]
    for file in set(wanted) - set(files):
        print(f"{file}: not among the tests of {interpreter.version}")
    if options.only:
        return run_only(runner, target, files, options.only)

    allowlist = Allowlist.read()
    total = Counter[str]()
    behavioural, semi = Share(), Share()
    for file in files:
        verdict = runner.judge(target, file, allowlist, options.retries)
        behavioural.add(verdict.behavioural)
        semi.add(verdict.semi)
        total.update(lost=len(verdict.lost), lost_semi=len(verdict.lost_semi), flaky=len(verdict.flaky))
        total.update(allowed=len(verdict.allowed), needless=len(verdict.needless))
        print(f"{verdict.explain(tracebacks=options.verbose)}  ({verdict.seconds} s)", flush=True)
        for outcome in verdict.flaky:
            print(f"--- {outcome.id.removeprefix(PREFIX)} failed, then passed alone")
        if options.verbose:
            for kind, counts in sorted(verdict.counts.items()):
                print(f"    {kind}: {dict(counts)}")
    print(
        f"{interpreter.version} {target.name}: {behavioural} behavioural tests pass, {semi} semi, "
        f"{total['lost']} lost, {total['allowed']} allowed, {total['flaky']} only on a second try"
    )
    return total["lost"] + total["needless"] > 0 or semi.passed < SEMI_SHARE * semi.total


if __name__ == "__main__":
    sys.exit(main())
