"""Finding a flow: by the name its package registered, or as `module:attribute`."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import sys
import traceback
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from rpa_core.errors import UsageError, describe, text_of
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
    if not attribute.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        raise UsageError(f"{spec!r} is no flow: give module:ATTRIBUTE, such as my_package.flows:FLOW")
    if place is spec:
        _add_current_folder()
    try:
        imported = importlib.import_module(module)
    except ModuleNotFoundError as error:
        where = f"; it is looked for in {Path.cwd()} and on PYTHONPATH" if error.name == module.split(".")[0] else ""
        raise UsageError(f"flow {spec!r} cannot be loaded from {place}: {error}{where}") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # what the module does as it is imported, SystemExit too
        said = text_of(error) if isinstance(error, UsageError | ImportError) else describe(error)
        raise UsageError(f"flow {spec!r} cannot be loaded from {place}: {said}{_line_of(error)}") from error
    found = getattr(imported, attribute, None)
    if not isinstance(found, Flow):
        what = f"is a {type(found).__name__}, not a rpa_core.Flow" if hasattr(imported, attribute) else "is not there"
        flows = ", ".join(name for name, value in vars(imported).items() if isinstance(value, Flow)) or "no flow"
        raise UsageError(f"flow {spec!r} cannot be loaded: {place} {what} (in the module: {flows})")
    return found


def _add_current_folder() -> None:
    """A module beside which the command is run is found, as servers of web applications do; not with `python -P`."""
    with contextlib.suppress(OSError):  # a folder that is gone
        here = str(Path.cwd())
        if here not in sys.path and not sys.flags.safe_path:
            sys.path.insert(0, here)


def _line_of(error: BaseException) -> str:
    """Where a module was when it raised: the last line outside of this package and the import system."""
    others = ("<", str(Path(__file__).parent.parent), str(Path(importlib.__file__).parent))
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(others)]
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""


def settings_of_others() -> list[type[BaseSettings]]:
    """The settings models of all installed flows: their variables are no mistakes in a shared environment."""
    return [model for name in installed() if (model := load(name).settings) is not None]
