"""Collects everything that is wrong with a codebook, so that one reading of the report mends it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from rpa_core.errors import ConfigError

_Entry = TypeVar("_Entry", bound=BaseModel)


class Problems:
    """Problems of one codebook, in the order found; `source` is the file's name, for the messages."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._lines: list[str] = []

    def add(self, path: str, what: str, correction: str) -> None:
        """Note one problem at a TOML path such as `fields.age.range`."""
        self._lines.append(f"{self._source}: {path}: {what}; {correction}")

    def check(self) -> None:
        """Raise ConfigError with every problem, if there is any."""
        if self._lines:
            raise ConfigError(tuple(self._lines))

    def read(self, model: type[_Entry], path: str, raw: Any) -> _Entry | None:
        """`raw` as a `model`, or None with its problems noted."""
        if not isinstance(raw, Mapping):
            self.add(path, f"{raw!r} is not a table", f"write [{path}] and its settings below it")
            return None
        try:
            return model.model_validate(raw)
        except ValidationError as error:
            for problem in error.errors(include_url=False):
                steps = (str(step) for step in problem["loc"])
                where = ".".join((path, *steps)) if path else ".".join(steps)
                self.add(where, *_explain(problem, model))
            return None


def _explain(problem: Any, model: type[BaseModel]) -> tuple[str, str]:
    """What pydantic found, as (what is wrong, the correction)."""
    name = str(problem["loc"][-1]) if problem["loc"] else ""
    kind = problem["type"]
    if kind == "missing":
        return "missing", f"add {name} = ..."
    if kind == "extra_forbidden":
        known = [field.alias or key for key, field in model.model_fields.items()]
        return "unknown setting", f"{suggestion(name, known)}known are {', '.join(sorted(known))}"
    detail = str(problem["msg"]).removeprefix("Value error, ")
    return f"{problem['input']!r} does not fit", detail[:1].lower() + detail[1:]


def suggestion(name: str, known: Iterable[str]) -> str:
    """`did you mean 'x'? ` or nothing."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return f"did you mean {by_lower[close[0]]!r}? " if close else ""
