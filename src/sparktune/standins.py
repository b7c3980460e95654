"""Keeps what a library imports for features we never use out of the process: start and memory have budgets.

Only for libraries that cannot be asked to leave it out. Nobody else's imports may see a stand-in.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class Later(ModuleType):
    """Stands for the module of this name, which is loaded when something of it is used."""

    def __getattr__(self, name: str) -> Any:
        """What the module has under this name."""
        if sys.modules.get(self.__name__) is self:  # used while it is still being handed out
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


@contextmanager
def standing_in(**modules: Later | None) -> Iterator[None]:
    """Give whoever imports these modules in the block what stands in for them; None refuses the import.

    What is loaded already stays what it is.
    """
    handed_out = {name: module for name, module in modules.items() if name not in sys.modules}
    sys.modules.update(handed_out)  # type: ignore[arg-type] # None: the documented way to refuse an import
    try:
        yield
    finally:
        for name, module in handed_out.items():
            if name in sys.modules and sys.modules[name] is module:
                del sys.modules[name]
