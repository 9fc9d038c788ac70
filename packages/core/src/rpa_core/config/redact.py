"""Taking secrets out of what is shown."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

HIDDEN = "********"
_SECRET_NAME = re.compile(r"(?i)(pass|secret|token|key|sig|code|auth)")
_PLAIN_WORDS = frozenset({"services", "webhooks", "incoming", "workflows", "triggers", "messages"})
_SECRET_KEYS = ("password", "sslpassword", "oauth_client_secret")
_KEY_VALUE = re.compile(r"""(?i)\b((?:ssl)?password|oauth_client_secret)\s*=\s*('(?:\\.|[^'\\])*'|[^\s'&]+)""")


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
            if key.lower() in _SECRET_KEYS and value:
                found.append(value)
    else:
        for match in _KEY_VALUE.finditer(dsn):
            text = match[2]
            found.append(text[1:-1] if text.startswith("'") else text)
    decoded = [unquote(text) for text in found] + [re.sub(r"\\(.)", r"\1", text) for text in found]
    return tuple(dict.fromkeys(text for text in (*found, *decoded) if text))


def dsn_display(dsn: str) -> str:
    """A connection string for people: `postgresql://user:********@host:5432/database?sslmode=require`."""
    if "://" not in dsn:
        return _KEY_VALUE.sub(rf"\1={HIDDEN}", dsn)
    scheme, rest = dsn.split("://", 1)
    userinfo, at, tail = rest.rpartition("@")
    if at:
        user, colon, _ = userinfo.partition(":")
        rest = f"{user}{colon and ':' + HIDDEN}@{tail}"
    return re.sub(rf"(?i)([?&](?:{'|'.join(_SECRET_KEYS)})=)[^&]*", rf"\1{HIDDEN}", f"{scheme}://{rest}")


def url_display(url: str, *, secret: bool = False) -> str:
    """A URL without user information and query, and without those parts of its path that look like credentials.

    With `secret`, for an address whose path is the credential (a webhook's), without its path.
    """
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    if secret:
        return (
            f"{parts.scheme}://{host}/{HIDDEN}" if (parts.path + parts.query).strip("/") else f"{parts.scheme}://{host}"
        )
    path = "/".join(HIDDEN if _is_telling(part) else part for part in parts.path.split("/"))
    return f"{parts.scheme}://{host}{path}"


def url_secrets(url: str, *, secret: bool = False) -> tuple[str, ...]:
    """What in a URL may be a credential, in every spelling; empty for an address such as `http://host:4200/api`.

    These are values of its query and parts of its path that look like one, and the URL and its path with them. With
    `secret`, for an address whose path is the credential, they are all but the plainest words.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return (url,)
    pairs = [(name, value) for name, _, value in (pair.rpartition("=") for pair in parts.query.split("&")) if value]
    found = [value for name, value in pairs if secret or _is_telling(value) or _SECRET_NAME.search(name)]
    found += [
        part
        for part in parts.path.split("/")
        if _is_telling(part) or (secret and len(part) >= 8 and part not in _PLAIN_WORDS)
    ]
    if not found and not (secret and parts.path.strip("/")):
        return ()
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    return tuple(dict.fromkeys(text for one in (url, target, *found) for text in (one, unquote(one))))


def _is_telling(part: str) -> bool:
    """Whether a part of a path looks made by a machine: long, or with digits or both cases among its letters."""
    mixed = any(char.isdigit() for char in part) or (part != part.lower() and part != part.upper())
    return len(part) >= 20 or (len(part) >= 8 and mixed)
