"""What BuildKit reports while it builds (`--progress rawjson`): shown to a person, kept as steps with their times."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TextIO

_NAME = re.compile(r"\[(?:(?P<image>[^\]\s]+) )?(?P<stage>[^\]\s]+) (?P<number>\d+)/\d+\] (?P<what>.*)", re.DOTALL)
_EXPORT = re.compile(r"(?:\[(?P<image>[^\]\s]+)\] )?(?P<what>exporting .*)", re.DOTALL)
_SHOWN = 72
_LOG_LINES = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of an image's build: `name` is the same from build to build, as long as the Dockerfile is."""

    image: str
    name: str  # "core 2 RUN --network=none ..."
    seconds: float
    cached: bool
    began: float  # seconds since the epoch
    ended: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a build failed: the step, the last lines it wrote, and the builder's own last words."""

    step: str
    log: tuple[str, ...]
    said: tuple[str, ...]


@dataclass(slots=True)
class _Vertex:
    names: list[str] = field(default_factory=list)
    began: float = 0.0
    ended: float = 0.0
    cached: bool = False
    error: str = ""
    log: bytes = b""


class Progress:
    """Fed with the builder's lines as they come.

    `images` are in build order. A step that several images share is counted for the first of them that has it. With
    `out`, each step that really ran is written as one line when it ends, failures' output at once.
    """

    def __init__(self, images: Sequence[str], out: TextIO | None = None) -> None:
        self._images = list(images)
        self._out = out
        self._vertices = dict[str, _Vertex]()
        self._partial = list[str]()
        self._said = list[str]()

    def feed(self, line: str) -> None:
        """One line of the builder's output; what is no JSON is the builder speaking plainly."""
        if not self._partial and not line.startswith("{"):
            if line.strip():
                self._said.append(line.rstrip("\n"))
            return
        self._partial.append(line)
        if not line.rstrip().endswith("}"):
            return
        try:
            event = json.loads("".join(self._partial))
        except ValueError:
            return  # one object over several lines, not at its end yet
        self._partial.clear()
        self._take(event)

    def _take(self, event: dict[str, Any]) -> None:
        for log in event.get("logs") or ():
            vertex = self._vertices.setdefault(log["vertex"], _Vertex())
            vertex.log += base64.b64decode(log.get("data") or "")
        for one in event.get("vertexes") or ():
            vertex = self._vertices.setdefault(one["digest"], _Vertex())
            if (name := one.get("name", "")) not in vertex.names:
                vertex.names.append(name)
            vertex.began = _moment(one.get("started")) or vertex.began
            ended = _moment(one.get("completed"))
            vertex.cached = bool(one.get("cached")) or vertex.cached
            vertex.error = one.get("error") or vertex.error
            if ended:
                first = not vertex.ended  # a step that several images share ends once for each
                vertex.ended = ended
                if first or vertex.error:
                    self._show(vertex)

    def _show(self, vertex: _Vertex) -> None:
        if self._out is None or vertex.cached or (named := self._named(vertex)) is None:
            return
        image, name = named
        mark = "failed" if vertex.error else f"{vertex.ended - vertex.began:5.1f}s"
        print(f"  {mark} {image}: {_short(name)}", file=self._out, flush=True)

    def steps(self) -> tuple[Step, ...]:
        """Every step of the images, in the order in which they ended."""
        found = [
            Step(
                image=named[0],
                name=_short(named[1]),
                seconds=round(vertex.ended - vertex.began, 3),
                cached=vertex.cached,
                began=vertex.began,
                ended=vertex.ended,
            )
            for vertex in self._vertices.values()
            if vertex.ended and not vertex.error and (named := self._named(vertex))
        ]
        return tuple(sorted(found, key=lambda step: step.ended))

    def failure(self) -> Failure:
        """What is known about a build that failed."""
        wrong = [
            vertex for vertex in self._vertices.values() if vertex.error and "context canceled" not in vertex.error
        ]
        first = min(wrong, key=lambda vertex: vertex.ended or float("inf"), default=None)
        if first is None:
            return Failure(step="", log=(), said=tuple(self._said[-_LOG_LINES:]))
        named = self._named(first)
        step = f"{named[0]}: {_short(named[1])}" if named else _short(first.names[0])
        log = first.log.decode("utf-8", "replace").splitlines()
        said = self._said or [first.error]
        once = list(dict.fromkeys(said[-2:] if log else said))  # an excerpt of the Dockerfile comes once for each image
        return Failure(step=step, log=tuple(log[-_LOG_LINES:]), said=tuple(once[-_LOG_LINES:]))

    def _named(self, vertex: _Vertex) -> tuple[str, str] | None:
        """(image, step); None for the builder's own housekeeping."""
        best: tuple[int, str, str] | None = None
        for text in vertex.names:
            if match := _NAME.match(text):
                name = f"{match['stage']} {match['number']} {match['what']}"
            elif match := _EXPORT.match(text):
                name = match["what"]
            else:
                continue
            image = match["image"] or self._images[0]
            if image in self._images and (best is None or self._images.index(image) < best[0]):
                best = (self._images.index(image), image, name)
        return best[1:] if best else None


def _moment(text: str | None) -> float:
    return datetime.fromisoformat(text).timestamp() if text else 0.0


def _short(name: str) -> str:
    name = " ".join(name.split())
    return name if len(name) <= _SHOWN else f"{name[: _SHOWN - 3]}..."
