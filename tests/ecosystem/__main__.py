"""The command line: ``python -m tests.ecosystem --help``."""

import argparse
import sys
from collections import Counter

from . import table
from .runner import MODES, PROGRAMS, run
from .servers import Started


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.ecosystem", description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], help="programs whose name contains one of these")
    parser.add_argument("--mode", choices=["takeover", "loop", "stdlib"], action="append", help="default: both of ours")
    parser.add_argument("--write", action="store_true", help="write what came of it into results.json and README.md")
    options = parser.parse_args()
    programs = [each for each in PROGRAMS if not options.only or any(part in each.module for part in options.only)]
    count, outcomes = Counter[str](), []
    with Started() as servers:
        for program in programs:
            for mode in options.mode or MODES:
                if mode != "stdlib" and mode not in program.modes:
                    continue
                outcome = run(program, mode, servers)
                outcomes.append(outcome)
                count[outcome.status] += 1
                if outcome.status == "fail":
                    print(outcome.text)
                print(outcome.line(), flush=True)
    if options.write:
        table.record(outcomes)
    print(f"{count['pass']} passed, {count['fail']} failed, {count['skip']} skipped")
    return bool(count["fail"]) or not count["pass"]


if __name__ == "__main__":
    sys.exit(main())
