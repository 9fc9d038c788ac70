"""What is wrong with a configuration: one line each, with a stable code and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

SOURCE_ORDER = "environment > *_FILE > mounted secrets > default"


class Code(StrEnum):
    """Stable codes of configuration problems."""

    UNKNOWN = "CFG001"
    MISSING = "CFG002"
    INVALID = "CFG003"
    EXCLUSIVE = "CFG004"
    UNREADABLE = "CFG005"
    CONFLICT = "CFG006"
    SERVICE_LINK = "CFG007"
    DATABASE = "CFG008"
    SERVICE = "CFG009"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong. `text` says what was got (its form, never a secret's value) and how to correct it."""

    variable: str
    text: str
    code: Code

    def line(self, width: int = 0) -> str:
        return f"{self.variable:<{width}}  {self.text}  [{self.code}]"


def lines(problems: Sequence[Problem]) -> tuple[str, ...]:
    """One finished, aligned line per problem."""
    width = min(48, max((len(problem.variable) for problem in problems), default=0))
    return tuple(problem.line(width) for problem in problems)


def render(problem_lines: Sequence[str]) -> str:
    """The block that a person reads on stderr."""
    count = len(problem_lines)
    head = f"Configuration invalid: {count} problem{'s' * (count != 1)} (source order: {SOURCE_ORDER})"
    return "\n".join([head, *(f"  {line}" for line in problem_lines)])


def form(text: str) -> str:
    """What a value looks like, without saying what it is: values may be secrets in the wrong place."""
    if not text.strip():
        return "only white space" if text else "an empty value"
    if "\n" in text or "\r" in text:
        return f"{len(text.splitlines())} lines of text"
    if any(ord(char) < 32 for char in text):
        return f"{len(text)} characters with control characters in them"
    if text.lstrip("+-").isdigit():
        return f"a whole number of {len(text.lstrip('+-'))} digit{'s' * (len(text.lstrip('+-')) != 1)}"
    try:
        float(text)
    except ValueError:
        pass
    else:
        return "a number with a fraction"
    scheme, separator, _ = text.partition("://")
    if separator and scheme.isalnum():
        return f"a {scheme}:// address" if len(scheme) <= 12 else "an address"
    if text.isalpha():
        return f"a word of {len(text)} letters"
    return f"{len(text)} characters of text"
