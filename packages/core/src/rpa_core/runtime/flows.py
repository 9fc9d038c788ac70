"""Finding a flow: by the name its package registered, or as `module:attribute`."""

from __future__ import annotations

import difflib
import importlib
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from rpa_core.errors import UsageError
from rpa_core.processing.flow import Flow

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings

GROUP = "rpa.flows"


def installed() -> dict[str, str]:
    """Names of the installed flows, and where each is."""
    return {entry.name: entry.value for entry in entry_points(group=GROUP)}


def load(spec: str) -> Flow:
    """The flow called `spec`, or at `package.module:ATTRIBUTE`; raises UsageError saying what there is."""
    known = installed()
    place = spec if ":" in spec else known.get(spec)
    if place is None:
        near = difflib.get_close_matches(spec, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        names = ", ".join(sorted(known)) or "none"
        raise UsageError(f"no flow is called {spec!r}{hint} (installed: {names}; or give module:ATTRIBUTE)")
    module, _, attribute = place.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), attribute)):
        raise UsageError(f"{spec!r} is no place of a flow; write package.module:ATTRIBUTE")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"flow {spec!r} cannot be loaded from {place}: {error}") from error
    if not isinstance(found, Flow):
        raise UsageError(f"{place} is a {type(found).__name__}, not a rpa_core.Flow")
    return found


def settings_of_others() -> list[type[BaseSettings]]:
    """The settings models of all installed flows: their variables are no mistakes in a shared environment."""
    return [model for name in installed() if (model := load(name).settings) is not None]
