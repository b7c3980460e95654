"""Builds a guest's image and nothing else, to be done beside something that leaves a core free."""

from __future__ import annotations

import argparse
import sys

from vm import image, package
from vm.narrator import Narrator
from vm.platforms import PLATFORMS
from vm.workshop import MissingToolError, require_tools, start_undertaker


def main() -> int:
    """Have the image in the cache. Returns the exit code."""
    parser = argparse.ArgumentParser(description="Build the image of a guest, unless the cache has it.")
    parser.add_argument("--arch", choices=sorted(PLATFORMS), default="amd64", help="which guest")
    platform = PLATFORMS[parser.parse_args().arch]
    log = package.REPOSITORY / "build/vm" / f"{platform.name}-image.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    building = image.building_directory(platform)
    try:
        require_tools(platform)
        undertaker = start_undertaker(building)
        narrator = Narrator.to(sys.stdout)
        built = image.provide(platform, building, narrator, log)
        narrator.say(f"the {platform.name} image: {built.disk.parent}")
        undertaker.communicate()
    except (MissingToolError, PermissionError, RuntimeError) as error:
        sys.stderr.write(f"make vm-image: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
