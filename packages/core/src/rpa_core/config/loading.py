"""From texts to models, turning every validation error into a problem that names its variable."""

from __future__ import annotations

import difflib
import json
import re
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from rpa_core.config.expects import expects, literals
from rpa_core.config.fields import Variable, leaf_types
from rpa_core.config.problems import Code, Problem, form
from rpa_core.config.sources import Found, Sources
from rpa_core.config.texts import fault, home

M = TypeVar("M", bound=BaseModel)
_QUANTITY = re.compile(r"[+-]?\d{1,15}(\.\d{1,6})?\s?[A-Za-z]{0,3}")


class Section:
    """The texts of one model: values by path, and which variable each path came from."""

    def __init__(self, sources: Sources, variables: Iterable[Variable], prefix: str = "") -> None:
        self.values: dict[str, Any] = {}
        self.found: dict[str, Found] = {}
        self._by_path: dict[tuple[str, ...], tuple[str, Variable]] = {}
        self._failed: set[tuple[str, ...]] = set()
        self.failed: set[str] = set()
        for variable in variables:
            name = f"{prefix}{variable.name}"
            self._by_path[variable.path] = (name, variable)
            before = len(sources.problems)
            found = sources.get(name)
            if found is not None:
                self.found[name] = found
                wrong = fault(variable, found.text)
                if wrong is None:
                    self.put(variable.path, prepared(variable, found.text))
                else:
                    where = "" if found.source == "environment" else f"{found.source}: "
                    sources.problems.append(Problem(variable=name, text=f"{where}{wrong}", code=Code.INVALID))
                    self._failed.add(variable.path)
                    self.failed.add(name)
            elif len(sources.problems) > before:
                self._failed.add(variable.path)  # said already: do not call it missing as well
                self.failed.add(name)

    def put(self, path: tuple[str, ...], value: Any) -> None:
        """Set the value at `path`."""
        target = self.values
        for part in path[:-1]:
            target = target.setdefault(part, {})
        target[path[-1]] = value

    def get(self, variable: Variable) -> Any:
        """What is to become `variable`'s value: what was put, or its declared default."""
        target: Any = self.values
        for part in variable.path:
            if not isinstance(target, dict) or part not in target:
                return variable.default
            target = target[part]
        return target

    def build(self, model: type[M], problems: list[Problem]) -> M | None:
        """The model, or None with its problems added. Nothing but `values` is read, whatever `model` derives from."""
        instance = model.__new__(model)
        try:
            # Not `model(...)`: pydantic-settings' own constructor would look into the process environment.
            BaseModel.__init__(instance, **self.values)
        except ValidationError as error:
            for detail in error.errors(include_url=False, include_input=False):
                problem = self._problem(detail)
                if problem is not None and problem not in problems:
                    problems.append(problem)
            return None
        return instance

    def valid_part(self, key: str, model: type[M]) -> M | None:
        """The section under `key` with its defaults in place of what failed; call after `build`."""
        values = dict(self.values.get(key, {}))
        for path in self._failed:
            if path[0] == key:
                values.pop(path[-1], None)
        try:
            return model(**values)
        except ValidationError:  # a validator of the whole section, already reported
            return None

    def _problem(self, detail: ErrorDetails) -> Problem | None:
        path = tuple(str(part) for part in detail["loc"])
        known = next(
            (self._by_path[path[:end]] for end in range(len(path), 0, -1) if path[:end] in self._by_path), None
        )
        if known is None:  # a validator of the whole model
            names = ", ".join(sorted(self.found)) or "these settings"
            return Problem(variable=names, text=self._safe(detail["msg"]), code=Code.CONFLICT)
        name, variable = known
        if variable.path in self._failed:
            return None
        self._failed.add(variable.path)
        self.failed.add(name)
        if detail["type"] == "missing":
            text = f"is required and not set; {expects(variable)}"
            return Problem(variable=name, text=text, code=Code.MISSING)
        text = f"got {self._shown(name, variable)}; {expects(variable)}{self._nearest(name, variable)}"
        own_words = detail["type"] in ("value_error", "assertion_error")
        if own_words:
            text = f"{self._safe(detail['msg'].removeprefix('Value error, '))} (got {self._shown(name, variable)})"
        return Problem(variable=name, text=text, code=Code.INVALID)

    def _shown(self, name: str, variable: Variable) -> str:
        found = self.found.get(name)
        if found is None:
            return "a value from the defaults"
        numeric = {int, float} & set(leaf_types(variable.field.annotation))
        if numeric and not variable.secret and _QUANTITY.fullmatch(found.text.strip()):
            return found.text.strip()
        return form(found.text)

    def _nearest(self, name: str, variable: Variable) -> str:
        """`. Did you mean production?` for a field with a closed set of values."""
        choices = [choice for leaf in leaf_types(variable.field.annotation) for choice in literals(leaf)]
        text = self.found[name].text.strip().lower() if name in self.found else ""
        close = difflib.get_close_matches(text, choices, n=1, cutoff=0.5)
        return f". Did you mean {close[0]}?" if close else ""

    def _safe(self, message: str) -> str:
        """A validator's own message without the values that it may repeat."""
        for found in sorted(self.found.values(), key=lambda each: -len(each.text)):
            if len(found.text) >= 3:
                message = message.replace(found.text, "…")
        return message


def prepared(variable: Variable, text: str) -> Any:
    """Lists may be written with commas, everything structured as JSON, closed sets of words in any case, paths with ~.

    The rest is the model's business.
    """
    choices = {choice.lower(): choice for leaf in leaf_types(variable.field.annotation) for choice in literals(leaf)}
    if choices:
        return choices.get(text.strip().lower(), text.strip())
    kinds = {typing.get_origin(leaf) or leaf for leaf in leaf_types(variable.field.annotation)}
    if kinds & {list, tuple, set, frozenset, dict}:
        if text.lstrip()[:1] in ("[", "{"):
            try:
                return json.loads(text)
            except json.JSONDecodeError:
                return text  # the model refuses it with the form that it wants
        if not kinds & {dict}:
            return [part.strip() for part in text.split(",") if part.strip()]
    if Path in kinds:
        return home(text)
    return text if str in kinds or variable.secret else text.strip()
