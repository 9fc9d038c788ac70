"""Taking secrets out of what is shown."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

HIDDEN = "********"
_KEY_VALUE = re.compile(r"""(?i)\bpassword\s*=\s*('(?:\\.|[^'\\])*'|[^\s'&]+)""")


def dsn_passwords(dsn: str) -> tuple[str, ...]:
    """The passwords in a URL or key=value connection string, as written and decoded."""
    found: list[str] = []
    if "://" in dsn:
        netloc = dsn.split("://", 1)[1]
        userinfo, at, _ = netloc.rpartition("@")
        if at and ":" in userinfo:
            found.append(userinfo.split(":", 1)[1])
        for part in netloc.partition("?")[2].split("&"):
            key, _, value = part.partition("=")
            if key == "password" and value:
                found.append(value)
    else:
        for match in _KEY_VALUE.finditer(dsn):
            text = match[1]
            found.append(text[1:-1] if text.startswith("'") else text)
    decoded = [unquote(text) for text in found] + [re.sub(r"\\(.)", r"\1", text) for text in found]
    return tuple(dict.fromkeys(text for text in (*found, *decoded) if text))


def dsn_display(dsn: str) -> str:
    """A connection string for people: `postgresql://user:********@host:5432/database?sslmode=require`."""
    if "://" not in dsn:
        return _KEY_VALUE.sub(f"password={HIDDEN}", dsn)
    scheme, rest = dsn.split("://", 1)
    userinfo, at, tail = rest.rpartition("@")
    if at:
        user, colon, _ = userinfo.partition(":")
        rest = f"{user}{colon and ':' + HIDDEN}@{tail}"
    return re.sub(r"(?i)([?&]password=)[^&]*", rf"\1{HIDDEN}", f"{scheme}://{rest}")


def url_display(url: str) -> str:
    """A service URL without user information and query: both may carry tokens."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"
