"""What the control socket may ask of the daemon. Each request is checked here before anything is done."""

from __future__ import annotations

from dataclasses import asdict
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from sparktune.errors import RefusedError, UsageError
from sparktune.marks import EVERYTHING
from sparktune.model import Cause, CauseKind, Noticed
from sparktune.tunables import AREAS

if TYPE_CHECKING:
    from collections.abc import Callable

    from sparktune.control import Answer, Peer
    from sparktune.daemon import Daemon
    from sparktune.engine import Engine

LONGEST_PAUSE_S = 30 * 86400.0


def check_names(engine: Engine, names: Any, *, also: tuple[str, ...] = ()) -> list[str] | None:
    """The names of a request: ids or areas of this engine. None stands for everything.

    Raises:
        UsageError: something else, or a name nobody knows (with the nearest one as the hint).
    """
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UsageError("ids must be a list of names")
    if not names:
        raise UsageError("no name given", hint="leave ids out for everything")
    originals = (entry.id for entry in engine.originals.all())
    known = {*engine.held, *originals, *(area.name for area in AREAS), *also}
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else "sparktune status --all lists them"
            raise UsageError(f"unknown tunable or area: {name[:80]}", hint=hint)
    return names


class Requests:
    """The table of requests."""

    def __init__(self, daemon: Daemon) -> None:
        """Answer for this daemon."""
        self._daemon = daemon
        self._table: dict[str, Callable[[dict[str, Any], Peer], Answer]] = {
            "apply": self._apply,
            "restore": self._restore,
            "pause": self._pause,
            "resume": self._resume,
            "reload": self._reload,
        }

    def answer(self, request: dict[str, Any], peer: Peer) -> Answer:
        """Do what is asked. Raises SparktuneError, which becomes the answer."""
        name = request.get("request")
        handle = self._table.get(name) if isinstance(name, str) else None
        if handle is None:
            raise UsageError(f"unknown request: {str(name)[:40]}", hint=f"one of {', '.join(self._table)}")
        answer = handle(request, peer)
        self._daemon.recorder.touch(at_once=True)
        self._daemon.log.info("request", what=name, by=str(peer), pid=peer.pid)
        return {"ok": True, **answer, "status": self._daemon.recorder.publish_now()}

    def _apply(self, request: dict[str, Any], peer: Peer) -> Answer:
        daemon = self._daemon
        if daemon.tuner.switched_off:
            raise RefusedError("sparktune=off is on the kernel command line", hint="remove it and reboot")
        ids = check_names(daemon.engine, request.get("ids"))
        drifts = daemon.engine.apply(ids, Noticed.REQUEST)
        cause = Cause(kind=CauseKind.UNKNOWN, detail=f"found when {peer} asked to apply")
        daemon.keeper.take_account(drifts, Noticed.REQUEST, cause)
        daemon.triggers.pinging.begin(at_once=True)
        return {"written": [asdict(drift) for drift in drifts]}

    def _restore(self, request: dict[str, Any], peer: Peer) -> Answer:
        ids = check_names(self._daemon.engine, request.get("ids"))
        outcomes = self._daemon.engine.restore(ids, by=str(peer))
        return {"outcomes": [asdict(outcome) for outcome in outcomes]}

    def _pause(self, request: dict[str, Any], peer: Peer) -> Answer:
        for_s = request.get("for_s")
        if not isinstance(for_s, int | float) or isinstance(for_s, bool) or not 0 < for_s <= LONGEST_PAUSE_S:
            raise UsageError("a pause lasts between 1 s and 30 days", hint="sparktune pause --for 1h")
        targets = check_names(self._daemon.engine, request.get("ids"), also=(EVERYTHING,)) or [EVERYTHING]
        self._daemon.engine.marks.pause(targets, for_s=for_s, by=str(peer))
        self._daemon.keeper.look_again(Cause(kind=CauseKind.UNKNOWN, detail=f"paused by {peer}"))
        return {"paused": targets, "for_s": for_s}

    def _resume(self, request: dict[str, Any], peer: Peer) -> Answer:
        targets = check_names(self._daemon.engine, request.get("ids"), also=(EVERYTHING,)) or [EVERYTHING]
        ended = self._daemon.engine.marks.resume(targets)
        self._daemon.keeper.look_again(
            Cause(kind=CauseKind.UNKNOWN, detail=f"found when {peer} ended a pause")
        )
        return {"resumed": list(ended)}

    def _reload(self, request: dict[str, Any], peer: Peer) -> Answer:
        return {"written": self._daemon.reload()}
