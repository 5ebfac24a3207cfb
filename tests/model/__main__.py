"""python -m tests.model --programs 1000000 --seed 1

Runs random programs on two implementations and compares the traces. The programs run in a worker process that is
watched: a crash or a hang of the native code is a finding like any other. A failing program is made smaller, printed as
JSON with both traces, and written to a file for `--replay`.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import json
import os
import resource
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any

from .generate import FATAL, GROUPS, generate
from .implementations import FACTORIES, implementation
from .interpret import Trace, run
from .program import Program, dumps, size
from .reduce import reduce

ROOT = Path(__file__).resolve().parents[2]
#: programs that one worker runs before a fresh one takes over
BATCH = 20_000
#: seconds without a program done
HANG = 60.0


def program_of(seed: int, index: int, groups: list[str]) -> Program:
    """The index-th program of a seed: the same one whatever ran before it."""
    return generate(Random(f"{seed}:{index}"), groups[index % len(groups)])


def differs(program: Program, args: argparse.Namespace) -> bool:
    a, b = run(program, implementation(args.reference)), run(program, implementation(args.implementation))
    return a != b and not (args.loose and a.loose() == b.loose())


# -- the worker --------------------------------------------------------------------------------------------------------


def worker(args: argparse.Namespace) -> None:
    """Says `at INDEX EVENTS` now and then and before it may hang, `fail INDEX` for a difference."""
    faulthandler.enable()
    reference, tested = implementation(args.reference), implementation(args.implementation)
    groups = args.group or list(GROUPS)
    gc.collect()
    gc.freeze()  # a collection follows every program: it should only see the program's garbage
    events = 0
    started = time.monotonic()
    # where we are, for the watcher, should the process die
    with open(args.marker, "r+b", buffering=0) as marker:
        for index in range(args.start, args.start + args.programs):
            marker.seek(0)
            marker.write(b"%12d" % index)
            if os.environ.get("AIOXIDE_MODEL_ABORT_AT") == str(index):  # the test of the watcher
                os.abort()
            program = program_of(args.seed, index, groups)
            if program["virtual"] and args.exact:
                continue
            trace = run(program, reference)
            other = run(program, tested)
            if trace != other and not (args.loose and trace.loose() == other.loose()):
                print("fail", index, flush=True)
            events += len(trace.events)
            if time.monotonic() - started > 0.5:
                started = time.monotonic()
                print("at", index, events, flush=True)
                events = 0
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print("at", args.start + args.programs - 1, events, flush=True)
    print("rss", rss, flush=True)


# -- the watcher -------------------------------------------------------------------------------------------------------


class Run:
    """A long run: workers one after another, findings collected."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.done = 0
        self.events = 0
        self.findings: list[tuple[str, int, str]] = []
        self.started = self.reported = time.monotonic()
        self.rss = 0

    def all(self) -> None:
        args = self.args
        next_index, end = args.start, args.start + args.programs
        while next_index < end and len(self.findings) < args.max_failures:
            next_index = self.batch(next_index, min(BATCH, end - next_index))

    def batch(self, start: int, count: int) -> int:
        """One worker. Returns the index to go on with."""
        with tempfile.NamedTemporaryFile(prefix="model-") as marker, tempfile.TemporaryFile("w+") as stderr:
            marker.write(b"%12d" % start)
            marker.flush()
            process = subprocess.Popen(
                [*self.command(), "--worker", "--marker", marker.name, "--start", str(start), "--programs", str(count)],
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                cwd=ROOT,
            )
            try:
                hung = self.watch(process, marker.name)
            finally:
                process.kill() if process.poll() is None else None
                process.wait()
            if process.returncode == 0:
                self.done += count
                return start + count
            marker.seek(0)
            at = int(marker.read())
            stderr.seek(0)
            said = stderr.read()[-6000:]
            if len(self.findings) < self.args.max_failures:
                kind = "hang" if hung else f"crash (exit status {process.returncode})"
                self.findings.append((kind, at, said))
            self.done += at + 1 - start
            return at + 1

    def watch(self, process: subprocess.Popen[str], marker: str) -> bool:
        """Read what the worker says until it ends. True when it hung and was killed."""
        assert process.stdout is not None
        selector = selectors.DefaultSelector()
        selector.register(process.stdout, selectors.EVENT_READ)
        last, since = b"", time.monotonic()
        base = self.done
        first: int | None = None
        while True:
            if not selector.select(1.0):
                now = Path(marker).read_bytes()
                if now != last:
                    last, since = now, time.monotonic()
                elif time.monotonic() - since > HANG:
                    process.send_signal(signal.SIGABRT)  # faulthandler prints the stacks
                    process.wait(10)
                    return True
                continue
            line = process.stdout.readline()
            if not line:
                process.wait()
                return False
            since = time.monotonic()
            word, *rest = line.split()
            if word == "fail":
                self.findings.append(("difference", int(rest[0]), ""))
                if len(self.findings) >= self.args.max_failures:
                    process.kill()
                    process.wait()
                    return False
            elif word == "rss":
                self.rss = max(self.rss, int(rest[0]))
            elif word == "at":
                first = int(rest[0]) if first is None else first
                self.events += int(rest[1])
                self.progress(base + int(rest[0]) - first)

    def progress(self, done: int) -> None:
        now = time.monotonic()
        if now - self.reported < self.args.every:
            return
        self.reported = now
        seconds = now - self.started
        rate = done / seconds
        left = (self.args.programs - done) / rate if rate else 0
        print(
            f"{done:,} programs, {self.events:,} events, {len(self.findings)} findings,"
            f" {seconds:.0f} s ({rate:.0f}/s, {left:.0f} s left)",
            flush=True,
        )

    def command(self) -> list[str]:
        args = self.args
        out = [sys.executable, "-m", "tests.model", "--seed", str(args.seed)]
        out += ["--implementation", args.implementation, "--reference", args.reference]
        for group in args.group or ():
            out += ["--group", group]
        return out + ["--exact"] * args.exact + ["--loose"] * args.loose


def report(args: argparse.Namespace, kind: str, index: int, said: str) -> None:
    """A finding: the program made small, both traces, and a file to replay."""
    groups = args.group or list(GROUPS)
    program = program_of(args.seed, index, groups)
    print(f"\n=== {kind}: seed {args.seed}, program {index}, group {program['group']}")
    if kind == "difference":
        small = reduce(program, lambda candidate: differs(candidate, args))
    else:
        print(said)
        small = reduce(program, lambda candidate: dies(args, candidate), rounds=args.crash_rounds)
    path = Path(args.out) / f"model-{args.implementation.replace(':', '-')}-{args.seed}-{index}.json"
    path.write_text(dumps(small) + "\n")
    print(
        f"reduced from {size(program) // 1000} ops to {size(small) // 1000}; replay: python -m tests.model --replay {path}"
    )
    print(dumps(small))
    if kind == "difference":
        show(small, args.reference, args.implementation)


def dies(args: argparse.Namespace, program: Program) -> bool:
    """Whether the program kills or hangs a process."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(program, file)
        file.flush()
        command = [sys.executable, "-m", "tests.model", "--replay", file.name]
        command += ["--implementation", args.implementation, "--reference", args.reference]
        try:
            done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=10, check=False)
        except subprocess.TimeoutExpired:
            return True
        return done.returncode not in (0, 1)


def show(program: Program, reference: str, tested: str) -> bool:
    """Both traces in one list, the lines that differ marked. True when they are equal."""
    a, b = run(program, implementation(reference)), run(program, implementation(tested))
    print(f"--- {reference} (-) and {tested} (+)")
    for line in compared(a, b):
        print(line)
    return a == b


def compared(a: Trace, b: Trace) -> list[str]:
    """Line by line; what differs comes twice. No diff that realigns: the first difference is the one that counts."""
    out = []
    left, right = a.lines(), b.lines()
    differ = [x != y for x, y in zip(left, right, strict=False)]
    first = differ.index(True) if True in differ else min(len(left), len(right))
    for index in range(min(max(len(left), len(right)), first + 25)):
        x = left[index] if index < len(left) else None
        y = right[index] if index < len(right) else None
        if x == y:
            out.append(f"  {x}")
        else:
            out += [f"{sign} {line}" for sign, line in (("-", x), ("+", y)) if line is not None]
    return out


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__)
    parser.add_argument("--programs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", type=int, default=0, help="the index of the first program")
    default = os.environ.get("AIOXIDE_TEST_IMPL", "aioxide")
    parser.add_argument("--implementation", default=default, help=f"{', '.join(FACTORIES)} or mutant:NAME")
    parser.add_argument("--reference", default="asyncio")
    parser.add_argument("--group", action="append", choices=[*GROUPS, FATAL], help="only these; may be repeated")
    parser.add_argument("--exact", action="store_true", help="leave out programs with a virtual clock")
    parser.add_argument("--loose", action="store_true", help="let chains of exceptions and a few texts differ")
    parser.add_argument("--max-failures", type=int, default=3)
    parser.add_argument("--every", type=float, default=10.0, help="seconds between lines of progress")
    parser.add_argument("--out", default=".", help="where failing programs are written")
    parser.add_argument("--crash-rounds", type=int, default=150, help="tries at making a crashing program smaller")
    parser.add_argument("--replay", metavar="FILE", help="run this program and show both traces")
    parser.add_argument("--show", action="store_true", help="print program number --start, and both traces")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--marker", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.worker:
        worker(args)
        return 0
    if args.replay or args.show:
        faulthandler.enable()
        if args.replay:
            program: Program = json.loads(Path(args.replay).read_text())
        else:
            program = program_of(args.seed, args.start, args.group or list(GROUPS))
            print(dumps(program))
        return 0 if show(program, args.reference, args.implementation) else 1
    return long_run(args)


def long_run(args: Any) -> int:
    this = Run(args)
    this.all()
    for finding in this.findings:
        report(args, *finding)
    seconds = time.monotonic() - this.started
    print(
        f"\n{args.reference} / {args.implementation}, Python {sys.version.split()[0]}, seed {args.seed}:"
        f" {this.done:,} programs, {this.events:,} events in {seconds:.0f} s; {len(this.findings)} findings;"
        f" worker's peak RSS {this.rss // 1024} MiB"
    )
    return 1 if this.findings else 0


if __name__ == "__main__":
    sys.exit(main())
