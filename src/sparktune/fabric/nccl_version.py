"""Which NCCL does what, from the sources of its releases. docs/nccl.md has file and release of each fact."""

from __future__ import annotations

import re
from typing import NamedTuple

from sparktune.errors import UsageError
from sparktune.wording import quoted

_VERSION = re.compile(r"v?(\d{1,3})\.(\d{1,3})(?:\.(\d{1,3}))?(?:[-+][0-9A-Za-z.+~-]*)?", re.ASCII)


class Version(NamedTuple):
    """A release of NCCL; a patch that was not given counts as 0."""

    major: int
    minor: int
    patch: int = 0

    def __str__(self) -> str:
        """`2.21` or `2.30.7`."""
        return f"{self.major}.{self.minor}" + (f".{self.patch}" if self.patch else "")


KNOWS_EXACT_NAMES = Version(2, 5, 6)
"""From here on `=` before a list of names means exactly these."""
FUSES_BY_FUNCTION = Version(2, 20)
"""From here on NCCL fuses functions of one PCI device into one logical NIC; NCCL_IB_MERGE_NICS=0 stops it."""
CHOOSES_GIDS = Version(2, 21)
"""From here on NCCL chooses the GID of each device, unless NCCL_IB_GID_INDEX pins one for all."""
FUSES_BY_TOPOLOGY = Version(2, 24)
"""From here on NCCL_NET_MERGE_LEVEL=LOC stops fusing; NCCL_IB_MERGE_NICS=0 makes 2.24 and 2.25 fail."""
ROUTES_BY_SUBNET = Version(2, 30, 7)
"""From here on NCCL_IB_SUBNET_AWARE_ROUTING=1 finds the port that leads to a peer."""

UNSAID = f"{CHOOSES_GIDS} or later"
"""What a suggestion without a version is for."""


def parse_version(text: str) -> Version:
    """A version as people and programs write it: `2.27`, `2.27.3`, `v2.27.3-1`, `2.27.3+cuda12.9`.

    Raises:
        UsageError: it is no version, or of an NCCL that knows no exact names.
    """
    hint = (
        'write it as "2.27.3"; python3 -c "import torch; print(torch.cuda.nccl.version())" tells PyTorch\'s'
    )
    match = _VERSION.fullmatch(text)
    if match is None:
        raise UsageError(f"{quoted(text)} is no version of NCCL", hint=hint)
    version = Version(int(match[1]), int(match[2]), int(match[3] or 0))
    if version < KNOWS_EXACT_NAMES:
        raise UsageError(
            f"NCCL {version} cannot be told exact device names: that came with {KNOWS_EXACT_NAMES}", hint=hint
        )
    return version
