"""Runs the advisor's passes as the daemon's loop does, over this machine's processes or those of a tree."""

from __future__ import annotations

import select
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sparktune import hardware, settings
from sparktune.advice.advisor import Advisor
from sparktune.kernel.root import Root
from sparktune.logs import get_logger
from sparktune.tuner import Tuner

if TYPE_CHECKING:
    from collections.abc import Callable

    from sparktune.snapshot import AdviceReport

PATIENCE_S = 100.0
"""A machine that swaps can take long; a pass itself takes a second or two."""
OFF = 'require_gb10 = false\nmode = "report"\n'


class Published:
    """Takes what is published, and runs the advisor as the daemon's loop does."""

    def __init__(self, tmp_path: Path, root: Path = Path("/"), config: str = OFF) -> None:
        self.report: AdviceReport | None = None
        self.handlers: dict[int, Callable[[], None]] = {}
        self.config = tmp_path / "sparktune.toml"
        self.tmp_path = tmp_path
        self.tuner = Tuner(hardware.detect(Root(root)), self.load(config), state_dir=tmp_path, repair=False)
        self.advisor = Advisor(self.tuner, self, self.handlers.__setitem__, self.forget, get_logger())

    def load(self, config: str) -> settings.Effective:
        self.config.write_text(config)
        return settings.load(self.config, host_names=("here",), environ={})

    def publish_advice(self, report: AdviceReport) -> None:
        self.report = report

    def forget(self, descriptor: int) -> None:
        self.handlers.pop(descriptor, None)

    def run_pass(self) -> AdviceReport:
        """One pass, with the children it started."""
        self.advisor.configure()
        self.advisor.swept()
        until = time.monotonic() + PATIENCE_S
        while self.advisor.due_s() is not None and time.monotonic() < until:
            self.advisor.turn()
            if self.handlers:
                for descriptor in select.select(list(self.handlers), [], [], 0.05)[0]:
                    self.handlers[descriptor]()
        assert self.report is not None
        return self.report
