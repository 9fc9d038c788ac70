"""Which files a pattern means: `*`, `?`, `[...]` within a name, `**` for any number of folders. Case counts.

`a/**` is everything below `a`. Links are met, not walked through unseen: see `ci.images.folders`.
"""

from __future__ import annotations

import re
from functools import lru_cache

_WILD = re.compile(r"[*?\[]")


def fixed(pattern: str) -> list[str]:
    """The parts before the first wildcard: the file itself, or the folder that is searched."""
    parts = pattern.split("/")
    return parts[: next((at for at, part in enumerate(parts) if _WILD.search(part)), len(parts))]


def is_literal(pattern: str) -> bool:
    """Without any wildcard."""
    return not _WILD.search(pattern)


def problem(pattern: str) -> str | None:
    """What is wrong with a pattern."""
    for part in pattern.split("/"):
        if "**" in part and part != "**":
            return "has ** inside a name; as a whole part it stands for any folders"
        if "[" in part and "]" not in part[part.index("[") + 2 :]:
            return "has [ without ]; write [[] for the letter itself"
        try:
            name_pattern(part)
        except re.error as error:
            return f"cannot be understood: {error}"
    return None


@lru_cache(maxsize=4096)
def name_pattern(part: str) -> re.Pattern[str]:
    """The regular expression of one part of a pattern, for a whole name."""
    return re.compile(_translate(part), re.DOTALL)


@lru_cache(maxsize=4096)
def path_pattern(pattern: str) -> re.Pattern[str]:
    """The regular expression of a whole pattern, for a whole relative path."""
    *folders, last = pattern.split("/")
    text = "".join("(?:[^/]+/)*" if part == "**" else f"{_translate(part)}/" for part in folders)
    return re.compile(text + (".+" if last == "**" else _translate(last)), re.DOTALL)


def _translate(part: str) -> str:
    out, at = "", 0
    while at < len(part):
        letter, at = part[at], at + 1
        end = part.find("]", at + 1) if letter == "[" else -1
        if letter == "*":
            out += "[^/]*"
        elif letter == "?":
            out += "[^/]"
        elif end > 0:
            inside, at = part[at:end], end + 1
            negated = inside[0] == "!" and len(inside) > 1
            chosen = re.sub(r"[\\\[\]^&~|]", r"\\\g<0>", inside[negated:])  # all but the - of ranges
            out += f"(?!/)[{'^' if negated else ''}{chosen}]"
        else:
            out += re.escape(letter)
    return out
