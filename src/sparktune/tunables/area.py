"""What an area of tunables is made of. Areas declare; the engine acts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from sparktune.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sparktune.fabric.model import Fabric
    from sparktune.hardware import Host
    from sparktune.model import Note, Policy, Reading, Tunable, Verdict
    from sparktune.settings import Settings


@frozen
class Discovery:
    """What an area found.

    Attributes:
        tunables: in the order to be shown.
        absent: why there are none; empty if there are.
        notes: what a person should know beside them.
        fabric: gives the fabric as it was read last, where the area is about one.
    """

    tunables: tuple[Tunable, ...]
    absent: str = ""
    notes: tuple[Note, ...] = ()
    fabric: Callable[[], Fabric] | None = None


class View(Protocol):
    """What an area may see of a judged tunable when it says how it stands."""

    @property
    def tunable(self) -> Tunable:
        """The tunable."""

    @property
    def verdict(self) -> Verdict:
        """What the engine concluded."""

    @property
    def reading(self) -> Reading:
        """What was read last."""


class Discover(Protocol):
    """Finds an area's tunables; with a device name only those of that device, where that is cheaper."""

    def __call__(self, host: Host, settings: Settings, device: str | None = None) -> Discovery:
        """Read the host and declare what is to be held. Writes nothing."""


@frozen
class Area:
    """One area: a name and a few functions.

    Attributes:
        name: `nvme`.
        subsystems: udev subsystems whose events call for a new discovery.
        policy: the configured policy.
        discover: finds the tunables.
        observe: notes that change while nothing of ours does (PM QoS); asked at each sweep, so cheap.
        inventory: a value that differs when discovery would; the net under lost events; cheap.
        say: one sentence for the status, about tunables that were judged.
        remark: notes about tunables that were judged; most areas have none.
        patience_s: for how long events alone do not make the engine let go of what is there and is no longer
            found: for areas that find devices by way of others, which they lose before they leave.
    """

    name: str
    subsystems: tuple[str, ...]
    policy: Callable[[Settings], Policy]
    discover: Discover
    observe: Callable[[Host, Settings], tuple[Note, ...]]
    inventory: Callable[[Host, Settings], object]
    say: Callable[[Host, Settings, Sequence[View]], str]
    remark: Callable[[Sequence[View]], tuple[Note, ...]] = lambda _views: ()
    patience_s: float = 0.0
