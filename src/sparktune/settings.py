"""The configuration: /etc/sparktune.toml, drop-ins, `[[host]]` blocks and environment become one `Settings`.

Reading and merging is in `layers.py`, the wording of complaints in `complaints.py`. No setting is acted upon
here, and no other module reads the configuration's files.
"""

from __future__ import annotations

import hashlib
import socket
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ValidationError

from sparktune import lastgood
from sparktune.complaints import Key, complain
from sparktune.configfile import FileStamp, differs, list_drop_ins, show_path
from sparktune.cpulist import parse_cpu_list
from sparktune.durations import parse_duration
from sparktune.environment import read_environment
from sparktune.errors import ConfigurationError, Problem
from sparktune.frozen import frozen
from sparktune.lastgood import remember
from sparktune.layers import Layer, merge, read_stack
from sparktune.model import Policy
from sparktune.sections import (
    WRITTEN,
    ContestSettings,
    CpuidleSettings,
    HistorySettings,
    Keys,
    NvmeSettings,
    RoceSettings,
)
from sparktune.standins import Later, standing_in
from sparktune.storage import set_aside

with standing_in(asyncio=Later("asyncio")):  # for commands that are awaited; as in logs.py
    from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from pydantic.fields import FieldInfo

__all__ = [
    "ContestSettings",
    "CpuidleSettings",
    "Effective",
    "FileStamp",
    "HistorySettings",
    "NvmeSettings",
    "RoceSettings",
    "Settings",
    "check",
    "flatten",
    "host_names",
    "load",
    "load_or_fall_back",
    "on_disk_changed",
    "parse_cpu_list",
    "parse_duration",
    "remember",
]

MOST_PROBLEMS = 500
"""As many are listed; the rest of a hostile file is only counted."""
_MOST_IN_ERROR = 3

_merged: ContextVar[Mapping[str, Any]] = ContextVar("_merged", default={})  # noqa: B039 - never written to


class _LayersSource(PydanticBaseSettingsSource):
    """Hands the merged layers to pydantic-settings; its own file and environment sources know no origins."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return _merged.get().get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        return dict(_merged.get())


class Settings(Keys, BaseSettings):
    """The effective settings. Built directly (in code, in tests) it takes defaults and arguments only."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", strict=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - replaced by our own layers, which keep origins
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - replaced by our own layers, which keep origins
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - replaced by our own layers, which keep origins
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments first, then the merged layers."""
        return (init_settings, _LayersSource(settings_cls))


@frozen
class Effective:
    """A configuration in force.

    Attributes:
        settings: the values.
        origins: dotted key to the layer that set it: `default`, a file, `FILE [[host]] 2`, a variable,
            `last good`, `fallback`.
        sha256: of the canonical JSON of the settings.
        files: what was read, the main file first; for the last good configuration, what was read then.
        error: what is wrong with the files, when this is the last good configuration or the fallback.
    """

    settings: Settings
    origins: Mapping[str, str]
    sha256: str
    files: tuple[FileStamp, ...]
    error: str | None = None


def load(path: Path, *, host_names: Iterable[str], environ: Mapping[str, str]) -> Effective:
    """The configuration for the host of these names. No main file: all defaults.

    A file is refused for a mistake in any `[[host]]` block, also another host's: the same file gets the same
    verdict on every machine, and `check` tells it beforehand.

    Raises:
        ConfigurationError: with everything that is wrong in files and environment.
    """
    stack = read_stack(path)
    variables, unknown = read_environment(environ, flatten(_DEFAULTS))
    problems = [*stack.problems, *_judge(stack.layers), *unknown, *_judge(variables)]
    if problems:
        raise ConfigurationError(_limited(problems), hint=f"sparktune config check {show_path(path)}")
    names = tuple(host_names)
    merged, origins = merge([*(layer for layer in stack.layers if layer.applies_to(names)), *variables])
    return _effective(_settle(merged), origins=origins, files=stack.stamps)


def load_or_fall_back(
    path: Path, *, host_names: Iterable[str], environ: Mapping[str, str], last_good: Path
) -> Effective:
    """As `load`; for an invalid configuration the last good one, else mode `report` with the defaults.

    Both have `error` set. A damaged last good configuration is set aside. Raises nothing.
    """
    try:
        return load(path, host_names=host_names, environ=environ)
    except ConfigurationError as error:
        wrong = _summary(error.problems)
    kept = lastgood.recall(last_good)
    if kept is not None:
        try:
            settings = _settle(kept.values)
        except ValidationError:  # another version's: of no use to this one
            set_aside(last_good)
        else:
            origins = dict.fromkeys(flatten(settings), "last good")
            return _effective(
                settings, origins=origins, files=kept.files, error=f"{wrong}; the last good one is used"
            )
    return _effective(
        Settings(mode="report"),
        origins={"mode": "fallback"},
        files=(FileStamp(path=path, sha256=None),),
        error=f'{wrong}; there is no last good one: the defaults are used, with mode "report"',
    )


def check(path: Path) -> tuple[Problem, ...]:
    """Everything wrong with the file, its drop-ins and every host block; empty when they are valid.

    No rule spans two keys, so each layer is judged on its own: a mistake shows even where another layer hides
    it, and a host block is valid on the base exactly when it is valid. Needs no root and no GB10, and looks
    at no environment. A missing main file is valid.
    """
    stack = read_stack(path)
    return _limited([*stack.problems, *_judge(stack.layers)])


def on_disk_changed(effective: Effective) -> bool:
    """Whether the files on disk are others than those in force. Costs a stat each while nothing changes."""
    main, *drop_ins = effective.files
    try:
        there = list_drop_ins(main.path)
    except ConfigurationError:  # the directory became something else
        return True
    return there != tuple(stamp.path for stamp in drop_ins) or any(map(differs, effective.files))


def host_names() -> tuple[str, ...]:
    """The short name of this machine, and the full one if the kernel knows it (no DNS is asked)."""
    name = socket.gethostname()
    return tuple(dict.fromkeys((name.partition(".")[0], name)))


def flatten(settings: BaseModel) -> dict[str, Any]:
    """The values by dotted key, in the order of the documentation: `nvme.read_ahead_kb`."""
    values: dict[str, Any] = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            values.update({f"{name}.{inner}": leaf for inner, leaf in flatten(value).items()})
        else:
            values[name] = value
    return values


_DEFAULTS = Keys.model_construct()


def _judge(layers: Iterable[Layer]) -> Iterable[Problem]:
    for layer in layers:
        if not layer.values:  # the file as it comes: nothing but comments
            continue
        try:
            Keys.model_validate(layer.values, context=WRITTEN)
        except ValidationError as error:
            yield from complain(layer, error.errors(include_url=False), _known_keys())


def _known_keys() -> dict[str, Key]:
    keys = {}
    for name, default in flatten(_DEFAULTS).items():
        section, _, leaf = name.rpartition(".")
        model = type(getattr(_DEFAULTS, section)) if section else Keys
        info = model.model_fields[leaf]
        words = list(Policy) if isinstance(default, Policy) else _words(info.annotation)
        choices = tuple(str(word) for word in words)
        keys[name] = Key(name=name, expected=info.description or "", default=default, choices=choices)
    return keys


def _words(annotation: object) -> list[str]:
    """The texts of a Literal, also of one inside a union."""
    arguments = get_args(annotation)
    inner = [word for argument in arguments for word in _words(argument)]
    return [argument for argument in arguments if isinstance(argument, str)] + inner


def _limited(problems: list[Problem]) -> tuple[Problem, ...]:
    problems.sort(key=lambda problem: (problem.file, problem.line))  # drop-ins sort after FILE: FILE.d/…
    if len(problems) <= MOST_PROBLEMS:
        return tuple(problems)
    first = problems[:MOST_PROBLEMS]
    rest = f"and {len(problems) - MOST_PROBLEMS} more problems"
    return (*first, Problem(file=first[-1].file, line=0, key="", message=rest))


def _summary(problems: tuple[Problem, ...]) -> str:
    more = f"; and {len(problems) - _MOST_IN_ERROR} more" if len(problems) > _MOST_IN_ERROR else ""
    return "; ".join(str(problem) for problem in problems[:_MOST_IN_ERROR]) + more


def _settle(values: Mapping[str, Any]) -> Settings:
    token = _merged.set(values)
    try:
        return Settings()
    finally:
        _merged.reset(token)


def _effective(
    settings: Settings, *, origins: Mapping[str, str], files: tuple[FileStamp, ...], error: str | None = None
) -> Effective:
    text = lastgood.canonical(settings.model_dump(mode="json"))
    return Effective(
        settings=settings,
        origins={key: origins.get(key, "default") for key in flatten(settings)},
        sha256=hashlib.sha256(text.encode()).hexdigest(),
        files=files,
        error=error,
    )
