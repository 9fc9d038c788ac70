"""Bearer tokens of the HTTP surface: what a sound one looks like, what each may do, and which one was presented."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import AfterValidator, SecretStr

Right = Literal["write", "read", "health"]
RIGHTS: Final = get_args(Right)
EVERY_FLOW: Final = "*"
_SHORTEST, _LONGEST = 16, 1024
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_MEMBERS = {"token", "sha256", "flows", "allow"}
_EXAMPLE = '[{"token": "...", "flows": ["rpa1"], "allow": ["write", "read"]}]'
_MAKE_ONE = "make one with `openssl rand -base64 32`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What the holder of one token may do. Holds the token's SHA-256, never the token.

    flows   names of flows, or `EVERY_FLOW` for all that are installed.
    allow   `write` posts records, `read` reads where a record is and its result, `health` sees the parts of /health.
    """

    digest: bytes = field(repr=False)
    flows: frozenset[str]
    allow: frozenset[str]

    def permits(self, right: Right, flow: str) -> bool:
        """Whether its holder has this right on the flow."""
        return right in self.allow and (flow in self.flows or EVERY_FLOW in self.flows)


def presented(grants: Iterable[Grant], token: str) -> tuple[Grant, ...]:
    """The grants of a token that a client sent; none where it is wrong. Compares with every one, in constant time."""
    digest = hashlib.sha256(token.encode()).digest()
    found = [(hmac.compare_digest(grant.digest, digest), grant) for grant in grants]
    return tuple(grant for same, grant in found if same)


def grant(token: str, flows: Iterable[str], allow: Iterable[str]) -> Grant:
    """The grant of a token in plain text. Raises ValueError for a token that is not sound."""
    check_token(token)
    return Grant(digest=hashlib.sha256(token.encode()).digest(), flows=frozenset(flows), allow=frozenset(allow))


def check_token(token: str) -> None:
    """Raise ValueError, which never repeats the token, unless it is 16 to 1,024 ASCII characters without blanks."""
    if not token.strip():
        raise ValueError(f"is empty or blank, which would admit no one; {_MAKE_ONE}, or unset it to close the intake")
    if not token.isascii() or any(character <= " " or character == "\x7f" for character in token):
        raise ValueError(f"must be ASCII without blanks, line ends and control characters; {_MAKE_ONE}")
    if not _SHORTEST <= len(token) <= _LONGEST:
        raise ValueError(f"has {len(token)} characters, but must have {_SHORTEST} to {_LONGEST}; {_MAKE_ONE}")


def parse_tokens(text: str, own_flow: str) -> tuple[Grant, ...]:
    """The grants of a JSON list of tokens. Raises ValueError, which names the entry and never repeats a token.

    Each entry has `token` or `sha256` (64 hex digits), and may have `flows` (default: `own_flow` alone) and `allow`
    (default: `write` alone).
    """
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not JSON; give {_EXAMPLE}") from error
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"must be a JSON list with at least one token; give {_EXAMPLE}")
    return tuple(_entry(number, entry, own_flow) for number, entry in enumerate(entries, 1))


def plain_tokens(text: str) -> tuple[str, ...]:
    """The tokens that a list, which `parse_tokens` takes, has in plain text: for the redaction of logs."""
    return tuple(entry["token"] for entry in json.loads(text) if "token" in entry)


def _entry(number: int, entry: Any, own_flow: str) -> Grant:
    where = f"token {number}"
    if not isinstance(entry, dict) or not entry.keys() <= _MEMBERS or len({"token", "sha256"} & entry.keys()) != 1:
        raise ValueError(f"{where} must be an object with `token` or `sha256`, and may have `flows` and `allow`")
    flows, allow = entry.get("flows", [own_flow]), entry.get("allow", ["write"])
    for name, given in (("flows", flows), ("allow", allow)):
        if not isinstance(given, list) or not given or not all(isinstance(each, str) and each for each in given):
            raise ValueError(f"`{name}` of {where} must be a list of texts with at least one in it")
    if not set(allow) <= set(RIGHTS):
        raise ValueError(f"`allow` of {where} may hold {', '.join(RIGHTS)}")
    if "token" in entry:
        if not isinstance(entry["token"], str):
            raise ValueError(f"`token` of {where} must be a text")
        try:
            return grant(entry["token"], flows, allow)
        except ValueError as error:
            raise ValueError(f"{where} {error}") from error
    if not isinstance(entry["sha256"], str) or not _DIGEST.fullmatch(entry["sha256"]):
        raise ValueError(f"`sha256` of {where} must be 64 hex digits")
    return Grant(digest=bytes.fromhex(entry["sha256"]), flows=frozenset(flows), allow=frozenset(allow))


def _checked(secret: SecretStr) -> SecretStr:
    check_token(secret.get_secret_value())
    return secret


def _checked_list(secret: SecretStr) -> SecretStr:
    parse_tokens(secret.get_secret_value(), EVERY_FLOW)
    return secret


Token = Annotated[SecretStr, AfterValidator(_checked)]
TokenList = Annotated[SecretStr, AfterValidator(_checked_list)]
