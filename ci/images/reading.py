"""Reads tables of a TOML file strictly: every complaint names the file, the place, and what to write instead."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from ci.errors import ToolError


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean "trees"?`, or what there is."""
    from difflib import get_close_matches  # only on the way to an error

    choices = sorted(known)
    if found := get_close_matches(word, choices, n=1, cutoff=0.5):
        return f'; did you mean "{found[0]}"?'
    return f"; there is {', '.join(choices)}" if choices else ""


class Table:
    """One table: each key is taken with its type, and `close` refuses what nobody took."""

    def __init__(self, values: object, *, file: str, place: str) -> None:
        self.file = file
        self.place = place
        if not isinstance(values, Mapping):
            raise ToolError(f"{file}: {place}: must be a table, not {values!r}")
        self._values: Mapping[str, Any] = values
        self._taken = dict[str, None]()

    def fail(self, key: str, problem: str) -> NoReturn:
        """Raise ToolError naming file, place and key."""
        raise ToolError(f"{self.file}: {'.'.join(filter(None, (self.place, key)))}: {problem}")

    def has(self, key: str) -> bool:
        return key in self._values

    def raw(self, key: str, default: object = None) -> Any:
        """The value as it stands."""
        self._taken[key] = None
        return self._values.get(key, default)

    def text(self, key: str, default: str | None = None) -> str:
        """A text; required without `default`."""
        if key not in self._values and default is None:
            self._taken[key] = None
            self.fail(key, "is missing; every such table needs it")
        value = self.raw(key, default)
        if not isinstance(value, str) or not value:
            self.fail(key, f'must be a text like "...", not {value!r}')
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of different texts; empty where there is none."""
        value = self.raw(key, [])
        if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
            self.fail(key, f'must be a list of texts like ["..."], not {value!r}')
        if twice := [one for one in value if value.count(one) > 1]:
            self.fail(key, f'names "{twice[0]}" twice; once is enough')
        return tuple(value)

    def mapping(self, key: str) -> dict[str, str]:
        """A table of texts; empty where there is none."""
        value = self.raw(key, {})
        if not isinstance(value, dict) or not all(isinstance(one, str) and one for one in value.values()):
            self.fail(key, f'must be a table of texts like {{ name = "..." }}, not {value!r}')
        return dict(value)

    def path(self, key: str, value: str) -> str:
        """`value` as a clean relative path; anything that could leave its folder is refused."""
        parts = value.split("/")
        if value.startswith("/"):
            self.fail(key, f'"{value}" is absolute; write it relative to the workspace')
        if "\\" in value or any(ord(letter) < 32 for letter in value):
            self.fail(key, f"{value!r} has a backslash or control character; write folders with /")
        if any(part in ("", ".", "..") for part in parts):
            self.fail(key, f'"{value}" has an empty, "." or ".." part; write the plain path')
        return value

    def close(self, known: Iterable[str] = ()) -> None:
        """Refuse what stands here and was not taken; `known` are further names for the suggestion."""
        for key in self._values:
            if key not in self._taken:
                self.fail(key, f"unknown key{nearest(key, {*self._taken, *known})}")


def is_name(text: str) -> bool:
    """What an engine accepts as the last part of a repository's name."""
    return re.fullmatch(r"[a-z0-9]+([._-][a-z0-9]+)*", text) is not None
