"""The text of one setting as it was written down: what editors and platforms add to it is taken off, or named.

Line ends and a byte order mark around a value are never meant, and are taken off. Quotes around it (`docker --env-file`
keeps them), blanks around a secret or an address, line ends within, control and invisible characters are named with
what to do: to take them off silently might change a value that is right.
"""

from __future__ import annotations

import typing
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from rpa_core.config.fields import Variable, leaf_types
from rpa_core.observability.printable import printable

_MARK = "\ufeff"
_QUOTES = "\"'`"


def bare(text: str) -> str:
    """Without byte order mark and line ends around it."""
    return text.removeprefix(_MARK).strip("\r\n")


def quoted(text: str) -> bool:
    """Whether quotes stand around it."""
    inner = text.strip()
    return len(inner) > 1 and inner[0] == inner[-1] and inner[0] in _QUOTES


def home(text: str) -> str:
    """A path with the home folder in place of `~`; raises ValueError saying what to write where there is none."""
    try:
        return str(Path(text).expanduser()) if text.startswith("~") else text
    except RuntimeError:
        raise ValueError("begins with ~, and this user has no home folder; write the whole path") from None


def fault(variable: Variable, text: str) -> str | None:
    """What is wrong with the way the value is written, with what to do; None if nothing is.

    Own texts of a flow (plain `str`) are its own business, but for characters that nothing can store.
    """
    kinds = {typing.get_origin(leaf) or leaf for leaf in leaf_types(variable.field.annotation)}
    if "\0" in text:
        return "holds NUL characters, as UTF-16 does; save it as UTF-8"
    if printable(text) != text and not _is_unicode(text):
        return "is not UTF-8 text; write it in UTF-8"
    if not text.strip():
        return "holds white space alone; write the value, or unset it"
    if _is_structured(kinds, text) or (str in kinds and not variable.own and not variable.is_address):
        return None
    if quoted(text):
        return "is in quotes, which become part of the value; remove the quotes"
    if Path in kinds:
        try:
            home(text)
        except ValueError as error:
            return str(error)
    literal = variable.secret or variable.is_address or Path in kinds or str in kinds
    return _literal_fault(variable, text) if literal else None


def _literal_fault(variable: Variable, text: str) -> str | None:
    if text != text.strip():
        return "begins or ends with a blank; remove it"
    if variable.free_text or (variable.secret and not variable.own):
        return None  # a query or a key may have several lines
    if "\n" in text or "\r" in text:
        return "has a line end within; write it on one line"
    if printable(text) != text:
        return "has control or invisible characters in it; write it anew"
    if variable.is_address and "://" in text and any(sign.isspace() for sign in text):
        return "has a blank in it; write %20 instead"
    return None


def _is_structured(kinds: set[Any], text: str) -> bool:
    """Lists, and JSON, which has quotes and lines of its own."""
    return bool(kinds & {list, tuple, set, frozenset, dict}) or (SecretStr in kinds and text.lstrip()[:1] in ("[", "{"))


def _is_unicode(text: str) -> bool:
    return text.encode("utf-8", "replace").decode() == text
