"""The host as this process sees it itself: for plan, verify and explain, and for apply without a daemon."""

from __future__ import annotations

import os
import resource
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from sparktune import hardware, settings
from sparktune.errors import RefusedError, StoreError, UsageError
from sparktune.kernel.lock import HostLock
from sparktune.model import Note
from sparktune.places import make_directory
from sparktune.publishing import count, judge_host
from sparktune.requests import check_names
from sparktune.tunables import AREAS
from sparktune.tuner import Tuner

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sparktune.hardware import Host
    from sparktune.held import Held
    from sparktune.kernel.root import Root
    from sparktune.places import Places
    from sparktune.settings import Effective
    from sparktune.snapshot import Checked

AREA_NAMES = tuple(area.name for area in AREAS)


def host_names(root: Root, host: Host) -> tuple[str, ...]:
    """The names that `[[host]]` blocks are matched with: the machine's own, or the tree's."""
    return settings.host_names() if root.is_real else (host.name,)


@contextmanager
def open_tuner(places: Places, *, repair: bool = False, fall_back: bool = False) -> Iterator[Tuner]:
    """Detect, load, discover. Nothing of the host is written.

    Args:
        places: where everything is.
        repair: set damaged stores aside; only for the holder of the host's lock.
        fall_back: go on with the last good configuration, or the defaults, if the files are invalid.

    Raises:
        ConfigurationError: the configuration is invalid, without `fall_back`.
    """
    _allow_many_descriptors()
    host = hardware.detect(places.root)
    effective = _load(places, host, fall_back=fall_back)
    tuner = Tuner(host, effective, state_dir=places.state_dir, repair=repair)
    tuner.discover()
    try:
        yield tuner
    finally:
        for held in tuner.engine.held.values():
            held.tunable.attribute.close()


def _load(places: Places, host: Host, *, fall_back: bool) -> Effective:
    names = host_names(places.root, host)
    if not fall_back:
        return settings.load(places.config, host_names=names, environ=os.environ)
    return settings.load_or_fall_back(
        places.config, host_names=names, environ=os.environ, last_good=places.last_good
    )


@contextmanager
def take_host(places: Places, *, fall_back: bool = False) -> Iterator[Tuner]:
    """Be what the daemon would be, for one request: alone on this host, with stores that can be written.

    Raises:
        RefusedError: only root may.
        AlreadyRunningError: a daemon has the host, with another run directory.
        SparktuneError: the state directory cannot be made.
        ConfigurationError: as `open_tuner`.
    """
    if places.root.is_real and os.geteuid() != 0:
        raise RefusedError("only root may change the host", hint="try again with sudo")
    lock = HostLock(places.root)
    try:
        make_directory(places.state_dir, 0o750)
        with open_tuner(places, repair=True, fall_back=fall_back) as tuner:
            yield tuner
        for name, error in tuner.engine.failures:
            if isinstance(error, StoreError):
                raise StoreError(f"{name}: {error.message}", hint=error.hint)
    finally:
        lock.close()


def choose(tuner: Tuner, names: Sequence[str]) -> list[Held]:
    """The tunables that were named, all if none was.

    Raises:
        UsageError: nobody knows one of the names.
    """
    checked = check_names(tuner.engine, list(names) or None, also=AREA_NAMES)
    return tuner.engine.choose(checked)


def is_supported(tuner: Tuner) -> bool:
    """Whether this machine may be tuned under this configuration."""
    return tuner.host.verdict == "gb10" or not tuner.settings.require_gb10


def summarise(tuner: Tuner, chosen: Sequence[Held]) -> tuple[str, str, Checked]:
    """State, one sentence, and counts of what was just judged."""
    checked = count(chosen)
    paused = bool(tuner.engine.marks.pauses()) or tuner.switched_off
    state = judge_host(checked, error=tuner.effective.error, paused=paused).value
    says = f"{checked.hold} of {checked.of} hold; checked {checked.read} of {checked.of}"
    if not checked.read:
        says = f"nothing could be checked (0 of {checked.of})"
    return state, says, checked


def area_notes(tuner: Tuner, area: str) -> list[Note]:
    """What a person should know about an area, why it has no tunables first."""
    facts = tuner.areas.get(area)
    absent = [Note(area=area, level="absent", says=facts.absent)] if facts and facts.absent else []
    return absent + [note for note in tuner.notes() if note.area == area]


def is_hidden(places: Places, name: str) -> bool:
    """Whether a file of the state directory is there, or may be, for root's eyes only."""
    path = places.state_dir / name
    try:
        with path.open("rb"):
            return False
    except PermissionError:
        return True
    except OSError:  # not there: then there is nothing to hide
        return False


def find_nearest(name: str, known: Sequence[str]) -> UsageError:
    """The error for an id nobody knows, with the nearest ones."""
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=3, cutoff=0.4)
    hint = f"did you mean {', '.join(near)}?" if near else "sparktune status --all lists them"
    return UsageError(f"unknown tunable: {name[:80]}", hint=hint)


def _allow_many_descriptors() -> None:
    """Each attribute keeps a descriptor open, and machines have up to some thousand of them."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # what then cannot be opened says so
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
