"""What /metrics says, read back with Prometheus' own parser."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from documents import make_status, publish_everything, publish_status
from sparktune import __version__
from sparktune.api.documents import Snapshot
from sparktune.api.metrics import Exposition
from sparktune.errors import DaemonNotRunningError

if TYPE_CHECKING:
    from pathlib import Path

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run directory with everything published, fresh."""
    publish_everything(tmp_path)
    return tmp_path


def scrape(run_dir: Path) -> Samples:
    text = Exposition(Snapshot(run_dir)).render().decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def get(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, tuple(sorted(labels.items()))))


def named(samples: Samples, name: str) -> Samples:
    return {key: value for key, value in samples.items() if key[0] == name}


def test_the_state_is_one_hot(run_dir: Path) -> None:
    states = named(scrape(run_dir), "sparktune_state")
    assert len(states) == 7
    assert [key[1] for key, value in states.items() if value == 1] == [(("state", "degraded"),)]


def test_a_stale_snapshot_is_down_and_its_age_is_told(run_dir: Path) -> None:
    publish_status(run_dir, make_status(age_s=100))
    samples = scrape(run_dir)
    assert get(samples, "sparktune_state", state="down") == 1
    assert get(samples, "sparktune_state", state="degraded") == 0
    assert 100 <= (get(samples, "sparktune_snapshot_age_seconds") or 0) < 160


def test_an_unsupported_machine_is_not_down(run_dir: Path) -> None:
    publish_status(run_dir, replace(make_status(age_s=100), state="unsupported"))
    assert get(scrape(run_dir), "sparktune_state", state="unsupported") == 1


def test_verdicts_are_counted_by_area_and_zeros_are_told(run_dir: Path) -> None:
    samples = scrape(run_dir)
    assert get(samples, "sparktune_tunables", area="nvme", verdict="ok") == 1
    assert get(samples, "sparktune_tunables", area="roce", verdict="contested") == 1
    assert get(samples, "sparktune_tunables", area="roce", verdict="ok") == 0
    assert sum(named(samples, "sparktune_tunables").values()) == 3


def test_there_is_one_series_for_each_tunable_that_does_not_hold(run_dir: Path) -> None:
    samples = scrape(run_dir)
    assert len(named(samples, "sparktune_not_holding")) == 1
    assert (
        get(
            samples,
            "sparktune_not_holding",
            id="roce.rocep1s0f0.default_roce_mode",
            area="roce",
            verdict="contested",
        )
        == 1
    )


def test_drifts_are_counted_by_area_and_action(run_dir: Path) -> None:
    samples = scrape(run_dir)
    assert get(samples, "sparktune_drifts_total", area="cpuidle", action="healed") == 60
    assert get(samples, "sparktune_drifts_total", area="nvme", action="healed") == 2


def test_heal_times_are_a_cumulative_histogram_in_seconds(run_dir: Path) -> None:
    samples = scrape(run_dir)
    buckets = [
        get(samples, "sparktune_heal_seconds_bucket", le=bound) for bound in ("0.0001", "0.001", "+Inf")
    ]
    assert buckets == [2, 3, 3]
    assert get(samples, "sparktune_heal_seconds_count") == 3
    assert get(samples, "sparktune_heal_seconds_sum") == pytest.approx(0.00065)


def test_contested_overflows_and_the_version_are_told(run_dir: Path) -> None:
    samples = scrape(run_dir)
    assert get(samples, "sparktune_contested") == 1
    assert get(samples, "sparktune_queue_overflows_total") == 1
    assert get(samples, "sparktune_sweeps_total") == 42
    assert get(samples, "sparktune_build_info", version=__version__) == 1


def test_nothing_is_said_about_python_or_the_process(run_dir: Path) -> None:
    assert {name for name, _labels in scrape(run_dir) if not name.startswith("sparktune_")} == set()


@pytest.mark.parametrize("name", ["tunables", "drift", "counters"])
def test_a_missing_document_costs_only_its_own_families(run_dir: Path, name: str) -> None:
    (run_dir / f"{name}.json").unlink()
    samples = scrape(run_dir)
    families = {"tunables": "tunables", "drift": "not_holding", "counters": "sweeps_total"}
    assert not named(samples, f"sparktune_{families[name]}")
    assert get(samples, "sparktune_state", state="degraded") == 1


def test_a_damaged_document_costs_only_its_own_families(run_dir: Path) -> None:
    (run_dir / "counters.json").write_text("{")
    assert get(scrape(run_dir), "sparktune_contested") == 1


def test_without_a_status_the_scrape_fails(run_dir: Path) -> None:
    (run_dir / "status.json").unlink()
    with pytest.raises(DaemonNotRunningError):
        scrape(run_dir)
