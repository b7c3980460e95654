"""Whether a package that was built is still that of this checkout: then there is nothing to do."""

from __future__ import annotations

import hashlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

INPUTS = (
    "src",
    "packaging",
    "systemd",
    "etc",
    "docs",
    "pyproject.toml",
    "requirements.lock",
    "requirements-dev.lock",
    "README.md",
    "CHANGELOG.md",
    "LICENSE",
)
"""Everything of a checkout that decides what is in the packages: another byte in it, another build."""


def fingerprint(project: Path, version: str) -> str:
    """One digest of every input, the version that was asked for and the Python that builds."""
    digest = hashlib.sha256(f"{version} {sys.version}".encode())
    for name in INPUTS:
        files = sorted(path for path in (project / name, *(project / name).rglob("*")) if path.is_file())
        for path in files:
            if path.suffix != ".pyc":
                digest.update(f"\n{path.relative_to(project)} {_digest(path)}".encode())
    return digest.hexdigest()


def is_fresh(package: Path, record: Path, inputs: str) -> bool:
    """Whether the record says that this very file was built from these inputs."""
    return package.is_file() and record.is_file() and record.read_text() == f"{inputs} {_digest(package)}\n"


def remember(package: Path, record: Path, inputs: str) -> None:
    """Write that record."""
    record.write_text(f"{inputs} {_digest(package)}\n")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
