"""One look at everything that may be told to set what sparktune sets, in steps of a few ms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparktune.conflicts.claim import Claim, Tuner
from sparktune.conflicts.files import Files
from sparktune.conflicts.judging import judge
from sparktune.published import timestamp
from sparktune.snapshot import Conflicts, Neighbour

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sparktune.conflicts.ours import Ours

MOST_FOUND = 100
"""Conflicts that are published; who has more knows by then."""


class Look:
    """A look that is under way. Each step reads about one file."""

    def __init__(self, ours: Ours, *, show_all_text: bool = False) -> None:
        """Read nothing yet.

        Args:
            ours: what sparktune holds.
            show_all_text: also lines of files that not every user may read: for who reads them himself.
        """
        self._ours = ours
        self._show_all_text = show_all_text
        self._files = Files(ours.root)
        self._claims: dict[tuple[str, int, str, tuple[str, ...]], Claim] = {}
        self._tuners: list[Tuner] = []
        self._reading = ""
        self._readers = self._list_readers()
        self._steps: Iterator[Claim | Tuner | None] = iter(())

    def step(self) -> bool:
        """Do the next step; False when there is none left. What a reader trips over costs its own kind."""
        try:
            found = next(self._steps)
        except StopIteration:
            return self._go_on()
        except (ValueError, LookupError, OSError, RecursionError) as error:  # a file that nobody thought of
            self._files.miss(f"{self._reading}: given up, {type(error).__name__}: {error}")
            return self._go_on()
        if isinstance(found, Claim):
            ids = tuple(tunable.id for tunable in found.tunables)
            self._claims.setdefault((found.file, found.line, found.value, ids), found)
        elif isinstance(found, Tuner):
            self._tuners.append(found)
        return True

    def finish(self) -> Conflicts:
        """Do all steps that are left, and give what was found."""
        while self.step():
            pass
        claims = list(self._claims.values())[:MOST_FOUND]
        acting = {claim.unit for claim in claims}
        return Conflicts(
            looked_at=timestamp(),
            files=self._files.count,
            found=tuple(
                judge(one, self._ours, show_text=self._show_all_text or self._files.is_public(one.file))
                for one in claims
            ),
            neighbours=tuple(
                Neighbour(unit=tuner.unit, file=tuner.file, says=tuner.says)
                for tuner in self._tuners
                if tuner.unit not in acting
            ),
            gaps=tuple(self._files.gaps),
        )

    def _go_on(self) -> bool:
        """Begin with the next reader; False if there is none."""
        self._reading, steps = next(self._readers, ("", None))
        if steps is not None:
            self._steps = steps
        return steps is not None

    def _list_readers(self) -> Iterator[tuple[str, Iterator[Claim | Tuner | None]]]:
        """Each kind of file with its reader, imported when its turn comes: all at once would take long."""
        ours, files = self._ours, self._files
        from sparktune.conflicts.units import Units

        units = Units(files)
        yield "units", units.collect()
        from sparktune.conflicts import bootline

        yield "kernel command line", bootline.read_command_line(ours, files)
        from sparktune.conflicts import tuned

        yield "TuneD", tuned.read_tuned(ours, files, units)
        from sparktune.conflicts import tuners

        yield "laptop-mode-tools", tuners.read_laptop_mode(ours, files, units)
        yield "known tuners", tuners.read_neighbours(units)
        from sparktune.conflicts import rules

        yield "udev rules", rules.read_rules(ours, files)
        from sparktune.conflicts import dropins

        yield "tmpfiles.d", dropins.read_tmpfiles(ours, files)
        yield "sysctl.d", dropins.read_sysctls(ours, files)
        yield "sysfsutils", dropins.read_sysfs_conf(ours, files, units)
        from sparktune.conflicts import jobs

        yield "services", jobs.read_services(ours, files, units)
        yield "rc.local, hooks and cron", jobs.read_other_jobs(ours, files)
