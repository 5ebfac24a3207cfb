"""Wheels for every Python that is named, and the source distribution.

    python -m distribution.wheels [--out dist] [--free-threaded] python3.11 python3.12 …

A wheel is for one version of Python and for every Linux with glibc 2.17 or newer (manylinux2014): zig, from PyPI, links
against that version's symbols. `--free-threaded` builds for python3.14t instead, which need not be there: it shows that
the extension compiles for Py_GIL_DISABLED.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from distribution.third_party import main as third_party

ROOT = Path(__file__).resolve().parents[1]
COMPATIBILITY = "manylinux2014"
OTHER_TARGETS = ("aarch64-unknown-linux-gnu",)
FREE_THREADED = "python3.14t"
#: what must be in each wheel, below aioxide-VERSION.dist-info
LICENCES = ("LICENSE", "LICENSE-APACHE", "LICENSE-MIT", "THIRD-PARTY-LICENSES")


def say(text: str) -> None:
    print(f"wheels: {text}", flush=True)


def machine_paths() -> dict[str, str]:
    """Folders of this machine whose names would be in what is built (in places of panics, in the list of what went into
    it), and what stands there instead."""
    cargo = os.environ.get("CARGO_HOME") or Path.home() / ".cargo"
    return {str(Path(cargo) / "registry" / "src"): "/cargo", str(ROOT): "/aioxide"}


def maturin(command: str, *arguments: str, target_dir: str = "") -> None:
    # (zig is found by the interpreter that PATH names first)
    environment = dict(os.environ, PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if target_dir:
        environment["CARGO_TARGET_DIR"] = str(ROOT / "target" / target_dir)
    remap = (f"--remap-path-prefix={here}={there}" for here, there in machine_paths().items())
    environment["RUSTFLAGS"] = " ".join([environment.get("RUSTFLAGS", ""), *remap]).strip()
    subprocess.run([sys.executable, "-m", "maturin", command, *arguments], cwd=ROOT, env=environment, check=True)


def version_of(python: str) -> str | None:
    """`3.13` for an interpreter that runs."""
    try:
        program = "import sys; print('%d.%d' % sys.version_info[:2])"
        done = subprocess.run([python, "-c", program], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def has_standard_library(target: str) -> bool:
    command = ["rustc", "--print", "target-libdir", "--target", target]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    return done.returncode == 0 and any(Path(done.stdout.strip()).glob("libstd-*"))


def build(python: str, target_dir: str, out: Path, *more: str) -> Path:
    before = set(out.glob("*.whl"))
    maturin("build", "--locked", "-i", python, "-o", str(out), *more, target_dir=target_dir)
    made = set(out.glob("*.whl")) - before
    if len(made) != 1:
        raise SystemExit(f"wheels: {python} gave {len(made)} wheels")
    wheel = made.pop()
    forget_machine(wheel)
    return wheel


def forget_machine(wheel: Path) -> None:
    """maturin's list of what went into the wheel names crates by where they lay: those names are made general, and the
    wheel's RECORD is brought up to date."""
    with zipfile.ZipFile(wheel) as archive:
        files = [(info, archive.read(info)) for info in archive.infolist()]
    fresh = wheel.with_suffix(".fresh")
    hashes = {}
    with zipfile.ZipFile(fresh, "w", zipfile.ZIP_DEFLATED) as archive:
        for info, data in sorted(files, key=lambda file: file[0].filename.endswith(".dist-info/RECORD")):
            name = info.filename
            if ".dist-info/sboms/" in name:
                for here, there in machine_paths().items():
                    data = data.replace(here.encode(), there.encode())
            if name.endswith(".dist-info/RECORD"):
                lines = (line.partition(",")[0] for line in data.decode().splitlines())
                data = "".join(f"{one},{hashes.get(one, ',')}\n" for one in lines).encode()
            else:
                digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
                hashes[name] = f"sha256={digest},{len(data)}"
            archive.writestr(info, data, zipfile.ZIP_DEFLATED)
    fresh.replace(wheel)


def check(wheel: Path) -> None:
    """What a wheel must have in it besides the code."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        private = [path.encode() for path in (*machine_paths(), str(Path.home()))]
        told = [name for name in names if any(path in archive.read(name) for path in private)]
    if told:
        raise SystemExit(f"wheels: {wheel.name} names folders of this machine in {told}")
    missing = [name for name in LICENCES if not any(n.endswith(f".dist-info/licenses/{name}") for n in names)]
    missing += [name for name in ("aioxide/py.typed", "aioxide/__init__.pyi") if name not in names]
    missing += [] if any(n.startswith("aioxide/_core.") and n.endswith(".so") for n in names) else ["the extension"]
    others = [name for name in names if name.endswith(".so") and not name.startswith("aioxide/_core.")]
    if missing or others or sum(name.endswith(".so") for name in names) != 1:
        raise SystemExit(f"wheels: {wheel.name} lacks {missing}, has {others or 'more than one extension'}")
    say(f"{wheel.name}, {wheel.stat().st_size >> 10} KiB")


def check_source(archive: Path) -> None:
    """What the source distribution must have in it to be built."""
    with tarfile.open(archive) as files:
        names = {name.partition("/")[2] for name in files.getnames()}
    data = [str(path.relative_to(ROOT)) for path in (ROOT / "site").rglob("*") if path.is_file()]
    needed = (*data, *LICENCES, "README.md", "Cargo.lock", "pyproject.toml", "crates/python/Cargo.toml")
    missing = [name for name in needed if name not in names]
    if missing or not data:
        raise SystemExit(f"wheels: {archive.name} lacks {missing or 'site/'}")
    say(f"{archive.name}, {archive.stat().st_size >> 10} KiB")


def free_threaded(out: Path) -> None:
    wheel = build(FREE_THREADED, "py314t", out, "--profile", "quick", "--compatibility", "linux")
    if "cp314-cp314t-" not in wheel.name:
        raise SystemExit(f"wheels: {wheel.name} is for no free-threaded Python")
    check(wheel)


def main() -> None:
    parser = argparse.ArgumentParser(prog="distribution.wheels")
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--free-threaded", action="store_true")
    parser.add_argument("pythons", nargs="*")
    options = parser.parse_args()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("aioxide-*"):
        old.unlink()
    third_party(["--check"])
    if options.free_threaded:
        free_threaded(out)
        return
    others = []
    for target in OTHER_TARGETS:
        if has_standard_library(target):
            others.append(target)
        else:
            say(f"none for {target}: this Rust has no standard library for it (rustup target add {target})")
    found = 0
    for python in options.pythons:
        version = version_of(python)
        if version is None:
            say(f"{python} is not on this machine, skipped")
            continue
        found += 1
        target_dir = f"wheel{version.replace('.', '')}"
        portable = ("--release", "--zig", "--compatibility", COMPATIBILITY, "--strip")
        check(build(python, target_dir, out, *portable))
        for target in others:
            check(build(f"python{version}", target_dir, out, *portable, "--target", target))
    if not found:
        raise SystemExit("wheels: none of these Pythons is here")
    maturin("sdist", "-o", str(out))
    check_source(next(out.glob("aioxide-*.tar.gz")))
    say(f"in {out.name}/")


if __name__ == "__main__":
    main()
