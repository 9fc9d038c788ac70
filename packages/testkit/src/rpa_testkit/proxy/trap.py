"""A trap on an edge: a connection breaks at a moment that its own bytes decide, such as between COMMIT and answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, get_args

Snap = Literal["before", "after", "late", "cut"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trap:
    """What springs it, and what happens then. It springs once.

    signs    texts that one connection must send, one after the other; each in one piece, as a driver sends it.
    nth      the how-manyeth time that all signs were seen, over all connections of the edge.
    snap     before: the last piece does not arrive, both sides get an RST. after: it arrives, the server's answer is
             thrown away, and `delay_s` after the answer both sides get an RST. late: the client gets an RST now and
             the piece arrives `delay_s` later. cut: it arrives, and `delay_s` later both sides get an RST.
    """

    signs: tuple[str, ...]
    snap: Snap
    nth: int = 1
    delay_s: float = 0.0

    def __post_init__(self) -> None:
        """ValueError for what cannot be meant."""
        if not self.signs or self.snap not in get_args(Snap) or self.nth < 1 or self.delay_s < 0:
            raise ValueError(f"no such trap: {self}")

    def to_json(self) -> dict[str, Any]:
        """For the wire; `of` is the reverse."""
        return asdict(self)

    @classmethod
    def of(cls, given: dict[str, Any]) -> Trap:
        """From the wire."""
        return cls(**{**given, "signs": tuple(given["signs"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class Sprung:
    """What became of a trap. `answered`: the server answered what sprang it, and that answer was thrown away."""

    sprung: bool
    answered: bool


class Caught(Protocol):
    """The connection in the trap."""

    def reset(self) -> None:
        """RST to both sides."""
        ...

    def cut_late(self, delay_s: float, last: bytes) -> int:
        """RST to the client; what it had sent, and then `last`, arrives later."""
        ...

    def muffle(self, on_answer: Callable[[], None]) -> None:
        """Throw away what the server says from now on, and tell when it has said something."""
        ...


class SetTrap:
    """A trap that waits on one edge."""

    def __init__(self, trap: Trap, later: Callable[[float, Callable[[], None]], object]) -> None:
        self.trap = trap
        self.sprung = False
        self.answered = False
        """Whether the server answered what sprang it, and nobody heard the answer."""
        self._later = later
        self._left = trap.nth
        self._signs = [sign.encode() for sign in trap.signs]
        self._seen: dict[Caught, int] = {}

    def look(self, link: Caught, data: bytes) -> bool:
        """See a piece that a client has sent; True if it must not go on."""
        if self.sprung or not self._complete(link, data):
            return False
        self._left -= 1
        if self._left:
            return False
        self.sprung = True
        match self.trap.snap:
            case "before":
                link.reset()
                return True
            case "late":
                link.cut_late(self.trap.delay_s, data)
                return True
            case "cut":
                self._later(self.trap.delay_s, link.reset)
            case "after":
                link.muffle(lambda: self._heard(link))
        return False

    def _complete(self, link: Caught, data: bytes) -> bool:
        seen = self._seen.pop(link, 0)
        while seen < len(self._signs) and self._signs[seen] in data:
            seen += 1
        if seen == len(self._signs):
            return True
        if seen:
            self._seen[link] = seen
        return False

    def _heard(self, link: Caught) -> None:
        if not self.answered:
            self.answered = True
            self._later(self.trap.delay_s, link.reset)
