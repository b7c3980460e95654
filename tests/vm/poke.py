"""A guest to look around in: `cd tests && ../.venv/bin/python -m vm.poke`; bash in it runs what is typed.

Boots the last kept installation (installs first if there is none); `--bare`: without the package. Lines
that begin with `!` are methods of the guest: `!reboot()`, `!power_cut()`, `!start("sparktune=off")`,
`!plug_nvme(1)`. Commands may also come through a pipe.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vm import package
from vm.figures import Figures
from vm.guest import CommandError
from vm.installation import Installation
from vm.link import LostError
from vm.narrator import Narrator
from vm.platforms import PLATFORMS
from vm.qmp import RefusedError
from vm.workshop import Workshop, claim_output

if TYPE_CHECKING:
    from vm.guest import Guest


def main() -> None:
    """Boot, obey until the end of input, tidy up."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--arch", choices=sorted(PLATFORMS), default="amd64")
    parser.add_argument("--bare", action="store_true")
    parser.add_argument("--deb", type=Path)
    parser.add_argument("--append", default="", help="for the kernel's command line")
    parser.add_argument("--no-gb10", action="store_true")
    options = parser.parse_args()
    narrator = Narrator.to(sys.stderr)
    with claim_output(package.REPOSITORY / "build/vm" / f"{options.arch}-poke") as output:
        workshop = Workshop(PLATFORMS[options.arch], narrator, output / "logs", patience=5)
        try:
            base = None
            if not options.bare:
                deb = options.deb or package.find(options.arch)
                cache = workshop.site.image.disk.parent
                installation = Installation.provide(workshop, deb, Figures(), cache)
                base = installation.disk
                if installation.guest is not None:  # it was only just installed
                    installation.guest.discard()
            guest = workshop.make("poke", base).start(options.append, gb10=not options.no_gb10)
            narrator.say(f"ready; logs in {output}/logs; Ctrl-D ends it")
            for line in sys.stdin:
                obey(guest, line.strip())
        finally:
            workshop.close()


def obey(guest: Guest, line: str) -> None:
    """Do one line and show what comes of it."""
    try:
        if line.startswith("!"):
            print(eval(f"guest.{line[1:]}", {"guest": guest}))  # noqa: S307, T201 - a prompt for developers
        elif line:
            result = guest.run(line, check=False)
            sys.stdout.write(result.out + result.err + (f"exit code {result.code}\n" if result.code else ""))
        sys.stdout.flush()
    except (AssertionError, CommandError, LostError, RefusedError) as error:
        print(error)  # noqa: T201


if __name__ == "__main__":
    main()
