"""The areas of tunables, in the order they are applied and shown: a new one is one more name in the tuple."""

from sparktune.tunables.area import Area
from sparktune.tunables.cpuidle import AREA_CPUIDLE
from sparktune.tunables.nvme import AREA_NVME
from sparktune.tunables.roce import AREA_ROCE

AREAS: tuple[Area, ...] = (AREA_NVME, AREA_CPUIDLE, AREA_ROCE)
