"""Run as a process of its own: imports entry modules and writes down which files of a folder were really opened.

python -I images_opened.py SOURCE STUBS ENTRY...: prints a JSON list of paths relative to SOURCE. With STUBS "yes",
what neither SOURCE nor the standard library has is a stand-in that takes every call, so that nothing need be installed.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import types
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from typing import Any


class _Kind(type):
    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything

    def __getitem__(cls, key: object) -> Any:
        return cls


class Anything(metaclass=_Kind):
    """Can be called, inherited from, used as a decorator, and asked for anything."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __init_subclass__(cls, **_: Any) -> None: ...

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything()

    def __call__(self, *arguments: Any, **_: Any) -> Any:
        return arguments[0] if len(arguments) == 1 and callable(arguments[0]) else Anything()

    def __getitem__(self, key: object) -> Any:
        return Anything()

    def __iter__(self) -> Any:
        return iter(())


class _StandIn(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything


class _Stubs(MetaPathFinder, Loader):
    """The last to be asked."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if fullname.partition(".")[0] in ("rpa_flows", "colours"):  # missing, and meant to be
            return None
        return ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: types.ModuleType) -> None: ...


def main(source: str, stubs: str, *entries: str) -> None:
    """Whatever an import raises: what was opened until then is what counts."""
    sys.path.insert(0, source)
    sys.dont_write_bytecode = True
    if stubs == "yes":
        sys.meta_path.append(_Stubs())
    opened = set[str]()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event != "open" or not isinstance(arguments[0], str) or "/__pycache__/" in arguments[0]:
            return
        if arguments[0].startswith(f"{source}/"):
            opened.add(os.path.relpath(arguments[0], source))  # a link is a file of its own

    sys.addaudithook(hook)
    failed = list[str]()
    for entry in entries:
        try:
            importlib.import_module(entry)
        except BaseException as error:  # noqa: BLE001 - an edited module may end in any way, SystemExit included
            failed.append(f"{entry}: {error!r}")
    print(json.dumps({"opened": sorted(opened), "failed": failed}))


if __name__ == "__main__":
    main(*sys.argv[1:])
