"""Changes of a tuned value that no event tells of: the sweep finds them, and the cause is not guessed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from vm.guest import READ_AHEAD
from vm.ledger import Ledger, measure, record

if TYPE_CHECKING:
    from vm.figures import Figures
    from vm.guest import Guest

WANTED = 8192
SH = f"echo 128 > {READ_AHEAD}"
SWEEP_S = 10.0
SLACK_S = 1.0
"""On an emulated CPU; the budget on a real one is 0.1 s."""


@pytest.fixture
def calm(spark: Guest) -> Guest:
    """The shared guest, with no fight on sparktune's books."""
    spark.run(["sparktune", "apply"])
    return spark


def disturb_unseen(guest: Guest, command: str, found: int) -> tuple[list[int], dict[str, Any]]:
    """Disturb without an event: healed by the sweep, cause unknown. How long it was seen wrong; by whom."""
    ledger = Ledger.open(guest)
    times_us = measure(guest, [READ_AHEAD], wanted=WANTED, count=1, command=["bash", "-c", command])
    [episode] = ledger.await_new()
    assert (episode["noticed"], episode["action"]) == ("sweep", "healed")
    assert [(drift["tunable"], drift["found"]) for drift in episode["drifts"]] == [
        ("nvme.nvme0n1.read_ahead_kb", found)
    ]
    assert (episode["by"]["kind"], episode["by"]["comm"], episode["by"]["pid"]) == ("unknown", None, None)
    assert all(took_us <= (SWEEP_S + SLACK_S * guest.site.patience) * 1e6 for took_us in times_us)
    return times_us, episode["by"]


def test_blockdev_setra_has_no_event_and_the_last_writer_is_merely_suspected(
    calm: Guest, figures: Figures
) -> None:
    ledger = Ledger.open(calm)
    pid = int(calm.out(["sh", "-c", f"echo $$; {SH}"]))
    calm.wait_for_value(READ_AHEAD, WANTED)
    ledger.await_new()
    times_us, by = disturb_unseen(calm, "blockdev --setra 1024 /dev/nvme0n1", 512)
    assert by["suspects"] == [f"sh[{pid}]"]
    record(figures, "blockdev --setra", times_us)


@pytest.mark.parametrize(
    ("what", "command"),
    [
        ("container with its own sysfs", f"unshare --mount --net sh -c 'mount -t sysfs sysfs /sys; {SH}'"),
        ("ip netns exec", f"ip netns add lab; ip netns exec lab sh -c '{SH}'; ip netns delete lab"),
    ],
)
def test_a_writer_with_a_sysfs_of_its_own_has_no_event(
    calm: Guest, figures: Figures, what: str, command: str
) -> None:
    times_us, _ = disturb_unseen(calm, command, 128)
    record(figures, what, times_us)
