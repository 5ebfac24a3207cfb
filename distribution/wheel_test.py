"""The tests on an installed wheel, outside the checkout: a fresh environment, a copy of the tests, no PYTHONPATH.

    python3.13 -m distribution.wheel_test [--wheels dist] [pytest's arguments]

The wheel is the one in dist/ for the Python that runs this.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: what the tests read, and nothing of the package
COPIED = (
    *("tests", "examples", "benchmarks", "docs", "crates/python/src/docs"),
    *("pyproject.toml", "README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "DESIGN.md"),
    *("LICENSE-APACHE", "LICENSE-MIT"),
)
WHERE = "import aioxide, sys; print(aioxide.__file__); print(aioxide.__version__)"


def main() -> None:
    parser = argparse.ArgumentParser(prog="distribution.wheel_test")
    parser.add_argument("--wheels", type=Path, default=ROOT / "dist")
    options, arguments = parser.parse_known_args()
    tag = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    wheels = list(options.wheels.resolve().glob(f"aioxide-*-{tag}-{tag}-*{os.uname().machine}.whl"))
    if len(wheels) != 1:
        raise SystemExit(f"wheel_test: {len(wheels)} wheels for {tag} in {options.wheels}: make wheel")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    with tempfile.TemporaryDirectory(prefix="aioxide-wheel-") as directory:
        place = Path(directory)
        venv.create(place / "venv", with_pip=True)
        python = str(place / "venv" / "bin" / "python")

        def run(*command: str) -> str:
            return subprocess.run(
                [python, *command], cwd=place, env=environment, check=True, stdout=subprocess.PIPE, text=True
            ).stdout

        requirements = str(ROOT / "requirements" / "dev.txt")
        run("-m", "pip", "install", "--quiet", "--require-hashes", "-r", requirements)
        run("-m", "pip", "install", "--quiet", "--no-index", "--no-deps", str(wheels[0]))
        for name in COPIED:
            source, copy = ROOT / name, place / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__", "out"))
            else:
                shutil.copy(source, copy)
        where, version = run("-c", WHERE).splitlines()
        if not where.startswith(str(place / "venv")):
            raise SystemExit(f"wheel_test: aioxide comes from {where}")
        console_script = [str(place / "venv" / "bin" / "aioxide"), "--version"]
        script = subprocess.run(
            console_script, cwd=place, env=environment, check=True, capture_output=True, text=True
        ).stdout
        if not script.startswith(f"aioxide {version} on Python "):
            raise SystemExit(f"wheel_test: the script says {script!r}")
        print(f"wheel_test: {wheels[0].name} in a fresh environment", flush=True)
        tested = subprocess.run([python, "-m", "pytest", *arguments], check=False, cwd=place, env=environment)
    raise SystemExit(tested.returncode)


if __name__ == "__main__":
    main()
