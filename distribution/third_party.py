"""THIRD-PARTY-LICENSES: the Rust crates that are linked into the extension, and their licences.

    python -m distribution.third_party           writes the file
    python -m distribution.third_party --check   fails if it is not what it should be

The crates are those that cargo resolves for the extension on Linux. What runs only at build time is left out: none of
it is in the wheel. Where a crate may be had under several licences, all of its texts are here.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "THIRD-PARTY-LICENSES"
TARGETS = ("x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu")
TEXTS = ("LICENSE*", "LICENCE*", "COPYING*", "NOTICE*", "COPYRIGHT*", "UNLICENSE*")
HEAD = """\
The extension module aioxide._core contains the code of these Rust crates, and of Rust's standard library
(MIT OR Apache-2.0, https://github.com/rust-lang/rust; its texts are the same as the crates').
This file is made by `python -m distribution.third_party`.
"""


def metadata() -> dict[str, Any]:
    command = ["cargo", "metadata", "--locked", "--format-version=1"]
    command += [f"--filter-platform={target}" for target in TARGETS]
    return json.loads(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout)


def linked(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The packages whose code is in the extension, ours left out."""
    packages = {package["id"]: package for package in found["packages"]}
    nodes = {node["id"]: node for node in found["resolve"]["nodes"]}
    (start,) = (one for one, package in packages.items() if package["name"] == "aioxide-python")
    seen, waiting = set(), [start]
    while waiting:
        one = waiting.pop()
        if one in seen or any("proc-macro" in target["kind"] for target in packages[one]["targets"]):
            continue
        seen.add(one)
        waiting += [
            dependency["pkg"]
            for dependency in nodes[one]["deps"]
            if any(kind["kind"] is None for kind in dependency["dep_kinds"])
        ]
    others = [packages[one] for one in seen if packages[one]["source"] is not None]
    return sorted(others, key=lambda package: (package["name"], package["version"]))


def licence_texts(package: dict[str, Any]) -> list[str]:
    directory = Path(package["manifest_path"]).parent
    files = sorted({path for pattern in TEXTS for path in directory.glob(pattern) if path.is_file()})
    if not files:
        raise SystemExit(f"{package['name']} {package['version']} comes without the text of its licence")
    # (the ends of lines and the empty lines around are not part of what is said)
    return ["\n".join(line.rstrip() for line in path.read_text().splitlines()).strip("\n") for path in files]


def document(packages: list[dict[str, Any]]) -> str:
    texts: dict[str, list[str]] = {}
    lines = [HEAD]
    for package in packages:
        name = f"{package['name']} {package['version']}"
        if not package["license"]:
            raise SystemExit(f"{name} does not say what its licence is")
        lines.append(f"{name}: {package['license']} ({package['repository']})")
        for text in licence_texts(package):
            texts.setdefault(text, []).append(name)
    for text, names in texts.items():
        lines += ["", "=" * 80, f"For {', '.join(dict.fromkeys(names))}:", "", text]
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> None:
    wanted = document(linked(metadata()))
    if arguments != ["--check"]:
        OUTPUT.write_text(wanted)
    elif not OUTPUT.exists() or OUTPUT.read_text() != wanted:
        raise SystemExit(f"{OUTPUT.name} is not of these crates: make licences")


if __name__ == "__main__":
    main(sys.argv[1:])
