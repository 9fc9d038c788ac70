"""Reads a codebook: a TOML file by its path, or a shipped one by its name."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from rpa_core.errors import ConfigError
from rpa_flows.codebook import conditions
from rpa_flows.codebook.check import check_references
from rpa_flows.codebook.model import (
    FIELD_TYPES,
    FLAG_KINDS,
    Codebook,
    Distance,
    Item,
    Jitter,
    Nearest,
    Scale,
    Segment,
    SummaryView,
)
from rpa_flows.codebook.problems import Problems, suggestion
from rpa_flows.codebook.settings import CodebookSettings

_Entry = TypeVar("_Entry", bound=BaseModel)


def shipped() -> list[str]:
    """The names of the codebooks in this package."""
    return sorted(
        entry.name.removesuffix(".toml")
        for entry in resources.files("rpa_flows.data").iterdir()
        if entry.name.endswith(".toml")
    )


def load_codebook(path_or_name: str | Path) -> Codebook:
    """The codebook of a path, or of a shipped name such as "anes96".

    Raises ConfigError with everything that is wrong with it, one line each: file, TOML path, problem, correction.
    """
    text = str(path_or_name)
    if text in shipped():
        return parse_codebook(resources.files("rpa_flows.data").joinpath(f"{text}.toml").read_bytes(), f"{text}.toml")
    try:
        content = Path(text).read_bytes()
    except OSError as error:
        hint = suggestion(text, shipped())
        raise ConfigError(
            (
                f"codebook {text}: {error.strerror or error}; "
                f"{hint}give the path of a TOML file or one of {', '.join(shipped())}",
            )
        ) from error
    return parse_codebook(content, Path(text).name)


def codebook_files(settings: CodebookSettings) -> list[Path]:
    """The file of the codebook, unless it is a shipped one."""
    return [] if settings.codebook in shipped() else [Path(settings.codebook)]


def check_codebook(settings: CodebookSettings) -> None:
    """Raise ConfigError as `load_codebook` does."""
    load_codebook(settings.codebook)


def parse_codebook(content: bytes, source: str) -> Codebook:
    """The codebook written in `content` (TOML, UTF-8); `source` names it in errors. Raises ConfigError."""
    try:
        raw = tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ConfigError((f"{source}: byte {error.start} is not UTF-8; save the file as UTF-8",)) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError((f"{source}: not TOML: {error}; mend that line",)) from error
    problems = Problems(source)
    book = _assemble(raw, problems)
    problems.check()
    assert book is not None, "a codebook without problems is complete"
    return book


def _assemble(raw: dict[str, Any], problems: Problems) -> Codebook | None:
    """Each entry on its own first, so that one bad entry does not hide what is wrong with the next."""
    if not raw.get("fields"):
        problems.add("fields", "missing", "add a table [fields.NAME] with a type for every column of the survey")
    parts: dict[str, Any] = {
        "fields": _by_kind(raw, "fields", "type", FIELD_TYPES, problems),
        "items": _entries(raw, "items", Item, problems),
        "scales": _entries(raw, "scales", Scale, problems),
        "distances": _entries(raw, "distances", Distance, problems),
        "nearest": _entries(raw, "nearest", Nearest, problems),
        "flags": _by_kind(raw, "flags", "kind", FLAG_KINDS, problems),
        "segments": _segments(raw.get("segments", []), problems),
        "jitter": _entries(raw, "jitter", Jitter, problems),
        "summary": problems.read(SummaryView, "summary", raw.get("summary", {})) or SummaryView(),
    }
    book = problems.read(Codebook, "", {**raw, **parts})
    check_references(book or _stand_in(raw, parts), raw, problems)
    return book


def _stand_in(raw: Mapping[str, Any], parts: Mapping[str, Any]) -> Codebook:
    """The entries under a sound heading, so that a bad heading does not hide what is wrong between them."""
    heading = {"encoding": raw.get("encoding", "utf-8"), "key": raw.get("key", ())}
    try:
        return Codebook(name="unread", title="", **heading, **parts)
    except ValidationError:
        return Codebook(name="unread", title="", **parts)


def _section(raw: Mapping[str, Any], name: str, problems: Problems) -> Mapping[str, Any]:
    section = raw.get(name, {})
    if isinstance(section, Mapping):
        return section
    problems.add(name, f"{section!r} is not a table", f"write [{name}] and its entries below it")
    return {}


def _read_all(
    raw: Mapping[str, Any], name: str, problems: Problems, read: Callable[[str, Any], _Entry | None]
) -> dict[str, _Entry]:
    found = {key: read(f"{name}.{key}", entry) for key, entry in _section(raw, name, problems).items()}
    return {key: entry for key, entry in found.items() if entry is not None}


def _entries(raw: Mapping[str, Any], name: str, model: type[_Entry], problems: Problems) -> dict[str, _Entry]:
    return _read_all(raw, name, problems, lambda path, entry: problems.read(model, path, entry))


def _by_kind(
    raw: Mapping[str, Any], name: str, tag: str, models: Mapping[str, type[_Entry]], problems: Problems
) -> dict[str, _Entry]:
    """Entries that say by their `tag` what they are."""

    def read(path: str, entry: Any) -> _Entry | None:
        kind = entry.get(tag) if isinstance(entry, Mapping) else None
        if not isinstance(kind, str) or kind not in models:
            what = "missing" if kind is None else f"{kind!r} is not one"
            hint = suggestion(str(kind), models) if kind is not None else ""
            problems.add(f"{path}.{tag}", what, f"{hint}write {tag} = one of {', '.join(models)}")
            return None
        if "when" in entry:
            entry = {**entry, "when": conditions.parse(entry["when"], f"{path}.when", problems)}
        return problems.read(models[kind], path, entry)

    return _read_all(raw, name, problems, read)


def _segments(raw: Any, problems: Problems) -> tuple[Segment, ...]:
    if not isinstance(raw, list):
        problems.add("segments", f"{raw!r} is not a list of tables", "write [[segments]] before each segment")
        return ()
    found: list[Segment] = []
    for number, entry in enumerate(raw):
        path = f"segments[{number}]"
        if isinstance(entry, Mapping) and "when" in entry:
            entry = {**entry, "when": conditions.parse(entry["when"], f"{path}.when", problems)}
        segment = problems.read(Segment, path, entry)
        if segment is not None:
            found.append(segment)
    return tuple(found)
