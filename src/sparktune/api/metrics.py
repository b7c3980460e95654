"""What /metrics says, in Prometheus' terms: derived from the published documents at each scrape.

A registry of its own, so that no figures about this Python process mix with those about the host.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, TypeVar, get_args

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from sparktune import __version__
from sparktune.errors import DaemonNotRunningError
from sparktune.snapshot import StateName, VerdictName

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

    from sparktune.api.documents import Document, Publication, Snapshot, Standing
    from sparktune.snapshot import AdviceReport, Counters, Tunables

    Model = TypeVar("Model")

_US_PER_S = 1_000_000


class Exposition:
    """The text of a scrape.

    Attributes:
        content_type: says that it is Prometheus' text, and in which version.
    """

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, snapshot: Snapshot) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(SnapshotCollector(snapshot))

    def render(self) -> bytes:
        """The text. Raises DaemonNotRunningError when no status was ever published."""
        return generate_latest(self._registry)


class SnapshotCollector(Collector):
    """Yields the metric families of a snapshot.

    Without a status there is nothing to say and the scrape fails; any other missing document only costs its
    own families.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """All families, in a stable order. Raises DaemonNotRunningError without a status."""
        standing = self._snapshot.standing()
        yield from _state_families(standing)
        if tunables := _available(self._snapshot.tunables):
            areas = standing.status.model.areas
            yield _verdict_counts(tunables.model, tuple(areas))
            yield from self._not_holding(tunables.model)
        if advice := _available(self._snapshot.advice):
            yield from _advice_families(advice.model)
        if counters := _available(self._snapshot.counters):
            yield from _counter_families(counters.model)

    def _not_holding(self, tunables: Tunables) -> Iterator[Metric]:
        if not (drift := _available(self._snapshot.drift)):
            return
        family = GaugeMetricFamily(
            "sparktune_not_holding",
            "1 for each tunable or check that does not hold.",
            labels=("id", "area", "verdict"),
        )
        areas = {tunable.id: tunable.area for tunable in tunables.tunables}
        for entry in drift.model.not_holding:
            area = areas.get(entry.id) or entry.id.partition(".")[0]
            family.add_metric((entry.id, area, entry.verdict), 1)
        yield family


def _available(publication: Publication[Model]) -> Document[Model] | None:
    try:
        return publication.current()
    except DaemonNotRunningError:  # one missing document must not cost the scrape
        return None


def _state_families(standing: Standing) -> Iterator[Metric]:
    status = standing.status.model
    build = GaugeMetricFamily("sparktune_build_info", "The version of the API.", labels=("version",))
    build.add_metric((__version__,), 1)
    yield build
    state = GaugeMetricFamily(
        "sparktune_state", "The state of the host: 1 for the one it is in.", labels=("state",)
    )
    present = status.state if standing.trusted else "down"
    for name in get_args(StateName):
        state.add_metric((name,), int(name == present))
    yield state
    yield GaugeMetricFamily(
        "sparktune_snapshot_age_seconds",
        "How long ago everything was last read and judged.",
        value=standing.age_s,
    )
    yield GaugeMetricFamily(
        "sparktune_contested",
        "Tunables that somebody keeps writing back; sparktune has stopped fighting.",
        value=status.checked.contested,
    )


def _advice_families(advice: AdviceReport) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "sparktune_engines", "Processes of inference engines that are examined.", value=advice.summary.engines
    )
    family = GaugeMetricFamily(
        "sparktune_advice", "Findings about inference engines, by severity.", labels=("severity",)
    )
    counts = Counter(finding.severity for finding in advice.findings)
    for severity in ("warning", "info"):
        family.add_metric((severity,), counts[severity])
    yield family


def _verdict_counts(tunables: Tunables, areas: tuple[str, ...]) -> Metric:
    family = GaugeMetricFamily(
        "sparktune_tunables", "Tunables and checks by area and verdict.", labels=("area", "verdict")
    )
    counts = Counter((tunable.area, tunable.verdict) for tunable in tunables.tunables)
    for area in dict.fromkeys((*areas, *(area for area, _verdict in counts))):
        for verdict in get_args(VerdictName):
            family.add_metric((area, verdict), counts[area, verdict])
    return family


def _counter_families(counters: Counters) -> Iterator[Metric]:
    drifts = CounterMetricFamily(
        "sparktune_drifts",
        "Drifts since the daemon started, by area and what was done about them.",
        labels=("area", "action"),
    )
    for area, actions in counters.drifts.items():
        for action, count in actions.items():
            drifts.add_metric((area, action), count)
    yield drifts
    yield _heal_times(counters)
    for name, text, count in (
        (
            "sparktune_queue_overflows",
            "Overflows of event queues; each a full sweep.",
            counters.overflows,
        ),
        ("sparktune_history_dropped", "Episodes that could not be stored.", counters.history_dropped),
        ("sparktune_sweeps", "Sweeps since the daemon started.", counters.sweeps),
    ):
        yield CounterMetricFamily(name, text, value=count)
    yield GaugeMetricFamily(
        "sparktune_sweep_seconds", "How long the latest sweep took.", value=counters.sweep_last_us / _US_PER_S
    )


def _heal_times(counters: Counters) -> Metric:
    finite = [(str(bound_us / _US_PER_S), float(count)) for bound_us, count in counters.heal_us_buckets]
    return HistogramMetricFamily(
        "sparktune_heal_seconds",
        "From the wake-up for a drift to the verified write.",
        buckets=[*finite, ("+Inf", float(counters.heals))],
        sum_value=counters.heal_us_sum / _US_PER_S,
    )
