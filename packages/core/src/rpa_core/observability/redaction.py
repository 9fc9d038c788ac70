"""Keeping secrets out of lines: by registered value, by the key they stand under, and in connection strings."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

HIDDEN = "********"
_LONGEST_TEXT = 32 * 1024  # four times what a line may hold
_SHORTEST = 4  # shorter values would blot out half of every line; configuration asks for longer ones
_KEYS = r"(?:pass(?:word|wd|phrase)?|secret|token|api[_-]?key|private[_-]?key|credentials?|authorization|dsn)"
_SECRET_KEY = re.compile(rf"(?i)(?:^|[._\-\s]){_KEYS}s?$")
# Every repetition is bounded or can only be entered after a key: matching stays linear whatever the text is.
_ASSIGNED = re.compile(
    rf"""(?ix)(?P<key>{_KEYS}s?["']?\s{{0,8}}(?:=|:\s)\s{{0,8}})(?!\s)
        (?P<value>(?:(?:bearer|basic)\s{{1,8}})?
            (?:"(?:\\.|[^"\\]){{0,4096}}"|'(?:\\.|[^'\\]){{0,4096}}'|[^\s,;&)}}\]]+))"""
)
_BREAK = re.compile(r"([\s'\"]+)")
_USER = re.compile(r"://[^:/@]*:")
_LONGEST_PASSWORD = 1024
_BEARER = re.compile(r"(?i)\b(?P<head>bearer|basic)\s+[A-Za-z0-9._~+/=\-]{8,}")


class Redactor:
    """Replaces secrets in texts. Values are registered in every spelling in which they come by."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._values: frozenset[str] = frozenset()
        self._pattern: re.Pattern[str] | None = None
        self._margin = 512
        self.add(secrets)

    def add(self, secrets: Iterable[str]) -> None:
        """Register values; also as they look percent-encoded, in repr and in JSON."""
        found = set(self._values)
        for secret in secrets:
            if len(secret) >= _SHORTEST:
                found |= _spellings(secret)
        self._values = frozenset(found)
        if found:
            self._margin = max(512, *map(len, found))
            longest_first = sorted(found, key=lambda value: (-len(value), value))
            self._pattern = re.compile("|".join(re.escape(value) for value in longest_first))

    def text(self, text: str) -> str:
        """`text` without registered values, passwords of connection strings and values after telling keys.

        The middle of a very long text is left out; a secret that the cut goes through goes with it.
        """
        if len(text) > 2 * _LONGEST_TEXT:
            head, tail = self._hide(text[:_LONGEST_TEXT]), self._hide(text[-_LONGEST_TEXT:])
            left_out = len(text) - 2 * _LONGEST_TEXT
            return f"{head[: -self._margin]} … {left_out} characters left out … {tail[self._margin :]}"
        return self._hide(text)

    def _hide(self, text: str) -> str:
        text = self.values(text)
        if "://" in text:
            text = "".join(_without_passwords(part) if "://" in part else part for part in _BREAK.split(text))
        text = _ASSIGNED.sub(rf"\g<key>{HIDDEN}", text)
        return _BEARER.sub(rf"\g<head> {HIDDEN}", text)

    def values(self, text: str) -> str:
        """`text` without registered values, and otherwise as it is."""
        return self._pattern.sub(HIDDEN, text) if self._pattern is not None else text

    def key_is_secret(self, key: str) -> bool:
        """Whether what stands under `key` is a secret whatever it looks like."""
        return bool(_SECRET_KEY.search(key))


def _without_passwords(word: str) -> str:
    """A word without white space and quotes: what stands between `://user:` and the last `@` of the same address.

    A password may hold any sign: it ends at the last `@` within a limit. Each part of the word is read once, and each
    beginning of an address costs one search of bounded length.
    """
    parts: list[str] = []
    done, last, begin = 0, word.rfind("@"), _USER.search(word)
    while begin is not None and begin.end() < last:
        at = word.rfind("@", begin.end() + 1, begin.end() + _LONGEST_PASSWORD + 1)
        if at >= 0:
            parts += (word[done : begin.end()], HIDDEN)
            done = at
        begin = _USER.search(word, max(begin.end(), at))
    return "".join((*parts, word[done:]))


def _spellings(secret: str) -> set[str]:
    import json

    lines = [line for line in secret.splitlines() if len(line) >= _SHORTEST]
    plain = {secret, *lines}
    return {
        spelling
        for value in plain
        for spelling in (
            value,
            quote(value, safe=""),
            quote(value),
            quote_plus(value),
            json.dumps(value)[1:-1],
            json.dumps(value, ensure_ascii=False)[1:-1],
            repr(value)[1:-1],
            repr(value.encode())[2:-1],
            value.replace("'", "\\'"),
        )
    }
