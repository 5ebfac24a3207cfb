"""The table of README.md: how many of CPython's tests pass on aioxide, by version of Python.

    python -m tests.conformance.table                      the table, from results.json
    python -m tests.conformance.table .venv-3.13 .venv     runs the tests in these virtual environments first
    python -m tests.conformance.table --write              … and puts the table into README.md

``make conformance-table`` runs them in the environments of every Python of ``PYTHONS`` that is here.
"""

import argparse
import json
from pathlib import Path

from .runner import HERE, Allowlist, Interpreter, Runner, Share, Target

RESULTS = HERE / "results.json"
README = HERE.parents[1] / "README.md"
BEGIN, END = "<!-- conformance: begin -->", "<!-- conformance: end -->"

Results = dict[str, dict[str, dict[str, list[int]]]]


def read() -> Results:
    """By minor version, group of files and kind: how many pass, of how many that asyncio itself passes."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def measure(python: str) -> tuple[str, dict[str, dict[str, list[int]]]]:
    """Runs everything on one interpreter."""
    interpreter = Interpreter.probe(python)
    runner, allowlist = Runner(interpreter), Allowlist.read()
    groups = {"test_asyncio": (Share(), Share()), "outside": (Share(), Share())}
    for file in interpreter.judged:
        verdict = runner.judge(Target("takeover"), file, allowlist)
        print(verdict.explain(tracebacks=False), f" ({verdict.seconds} s)", flush=True)
        behavioural, semi = groups["outside" if file in interpreter.outside else "test_asyncio"]
        behavioural.add(verdict.behavioural)
        semi.add(verdict.semi)
    counts = {
        group: {kind: [share.passed, share.total] for kind, share in zip(("behavioural", "semi"), shares, strict=True)}
        for group, shares in groups.items()
    }
    return interpreter.version, counts


def table(results: Results) -> str:
    """In Markdown."""
    lines = [
        "| Python | test_asyncio: behavioural | test_asyncio: semi | tests outside it |",
        "|---|---|---|---|",
    ]
    for version, groups in sorted(results.items(), key=lambda item: [int(part) for part in item[0].split(".")]):
        inside, outside = groups["test_asyncio"], groups["outside"]
        cells = [inside["behavioural"], inside["semi"], outside["behavioural"]]
        lines.append(f"| {version} | " + " | ".join(f"{passed} of {total}" for passed, total in cells) + " |")
    return "\n".join(lines)


def replaced(text: str, results: Results) -> str:
    """README.md with this table between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise ValueError(f"README.md has no {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{table(results)}\n{END}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.table", description=__doc__)
    parser.add_argument("environments", nargs="*", type=Path, help="virtual environments with aioxide in them")
    parser.add_argument("--write", action="store_true", help="write the table into README.md")
    options = parser.parse_args()
    for environment in options.environments:
        version, counts = measure(str(environment.resolve() / "bin" / "python"))
        minor = version.rpartition(".")[0]
        # one line for each minor version: the latest run
        results = {known: value for known, value in read().items() if known.rpartition(".")[0] != minor}
        results[version] = counts
        RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    print(table(read()))
    if options.write:
        README.write_text(replaced(README.read_text(), read()))


if __name__ == "__main__":
    main()
