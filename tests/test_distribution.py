"""A wheel names no folder of the machine that it was built on, and its RECORD is right."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

wheels = pytest.importorskip("distribution.wheels", reason="outside of the checkout")

INFO = "aioxide-1.dist-info"


def made(folder: Path, extension: bytes = b"code") -> Path:
    """As maturin makes it."""
    sbom = (
        f'{{"bom-ref": "path+file://{wheels.ROOT}/crates/python#1", "cargo": "{next(iter(wheels.machine_paths()))}/x"}}'
    )
    files = {
        "aioxide/__init__.py": b"",
        "aioxide/__init__.pyi": b"",
        "aioxide/py.typed": b"",
        "aioxide/_core.cpython-313-x86_64-linux-gnu.so": extension,
        **{f"{INFO}/licenses/{name}": b"free" for name in wheels.LICENCES},
        f"{INFO}/sboms/aioxide.cyclonedx.json": sbom.encode(),
    }
    path = folder / "aioxide-1-cp313-cp313-linux_x86_64.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        archive.writestr(f"{INFO}/RECORD", "".join(f"{name},sha256=old,1\n" for name in [*files, f"{INFO}/RECORD"]))
    return path


def test_folders_of_the_machine_are_forgotten(tmp_path):
    wheel = made(tmp_path)
    with pytest.raises(SystemExit, match=r"names folders of this machine in .*cyclonedx"):
        wheels.check(wheel)
    wheels.forget_machine(wheel)
    wheels.check(wheel)
    with zipfile.ZipFile(wheel) as archive:
        assert b"path+file:///aioxide/crates/python#1" in archive.read(f"{INFO}/sboms/aioxide.cyclonedx.json")
        record = list(csv.reader(io.StringIO(archive.read(f"{INFO}/RECORD").decode())))
        assert {row[0] for row in record} == set(archive.namelist())
        for name, digest, size in record:
            if name == f"{INFO}/RECORD":
                assert (digest, size) == ("", "")
                continue
            data = archive.read(name)
            expected = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            assert (digest, size) == (f"sha256={expected}", str(len(data)))


def test_an_extension_that_names_the_machine_is_refused(tmp_path):
    wheel = made(tmp_path, f"panicked at {wheels.ROOT}/crates/python/src/lib.rs".encode())
    wheels.forget_machine(wheel)
    with pytest.raises(SystemExit, match=r"names folders of this machine in .*_core"):
        wheels.check(wheel)


def test_a_source_distribution_that_could_not_be_built_is_refused(tmp_path):
    """maturin leaves the files for site-packages out, unless it is told."""
    archive = tmp_path / "aioxide-1.tar.gz"
    data = [str(path.relative_to(wheels.ROOT)) for path in (wheels.ROOT / "site").rglob("*") if path.is_file()]
    assert data
    names = [*data, *wheels.LICENCES, "README.md", "Cargo.lock", "pyproject.toml", "crates/python/Cargo.toml"]
    for left_out in (None, data[0]):
        with tarfile.open(archive, "w:gz") as files:
            for name in names:
                if name != left_out:
                    files.add(wheels.ROOT / name, f"aioxide-1/{name}")
        if left_out is None:
            wheels.check_source(archive)
        else:
            with pytest.raises(SystemExit, match=f"lacks .*{left_out}"):
                wheels.check_source(archive)
