"""Tokens of the intake: what is refused when the configuration is read, and what each one may do."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from rpa_core.config.manager import ContainerConfigManager
from rpa_core.config.models import IntakeConfig, ResourceLimits
from rpa_core.config.tokens import grant, presented

BASE = {"CONTAINER_FLOW_NAME": "own", "CONTAINER_DATABASE_RPA_DB_URL": "postgresql://u@h/d"}
SOUND = "0123456789abcdef"
OTHER = "fedcba9876543210"
# What holds for every text is found before what holds for a token.
_WAYS_OUT = ("openssl rand", "write the value", "write it on one line", "save it as UTF-8")


def problems(**variables: str) -> list[str]:
    """What is wrong, a line each."""
    given = {f"CONTAINER_{name.upper()}": text for name, text in variables.items()}
    return [each.line() for each in ContainerConfigManager(BASE | given, limits=ResourceLimits).problems()]


def intake(**variables: str) -> IntakeConfig:
    given = {f"CONTAINER_INTAKE_{name.upper()}": text for name, text in variables.items()}
    return ContainerConfigManager(BASE | given, limits=ResourceLimits).load_container_config().intake


@pytest.mark.requirement("R7.3", "R1.1")
@pytest.mark.parametrize("where", ["intake_token", "intake_read_token"])
@pytest.mark.parametrize(
    "text",
    ["", "\n\n", "  ", "\t", "short", SOUND[:-1], "ä" * 16, "two words of a token", f"{SOUND}\n{OTHER}", "\x00" * 16],
    ids=["empty", "newlines", "blanks", "tab", "short", "one-short", "non-ascii", "blank-inside", "two-lines", "nul"],
)
def test_an_unsound_token_is_a_configuration_problem(tmp_path: Path, where: str, text: str) -> None:
    """In a file or a mounted secret: named with its variable and the way out, never the token, never an open door."""
    (tmp_path / where).write_text(text)
    mounted = problems(secrets_dir=str(tmp_path))
    from_file = problems(**{f"{where}_file": str(tmp_path / where)})
    for (found,) in (mounted, from_file):
        assert found.startswith(f"CONTAINER_{where.upper()}  ")
        assert any(way_out in found for way_out in _WAYS_OUT)
        assert found.endswith(("[CFG003]", "[CFG005]"))
        assert not text.strip() or text not in found


@pytest.mark.requirement("R7.3", "R1.1")
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[]", "at least one token"),
        ("{}", "must be a JSON list"),
        ("[" * 100_000, "is not JSON"),
        ("token", "is not JSON"),
        ('["0123456789abcdef"]', "token 1 must be an object"),
        ('[{"flows": ["a"]}]', "token 1 must be an object"),
        (json.dumps([{"token": SOUND, "sha256": "0" * 64}]), "token 1 must be an object"),
        (json.dumps([{"token": SOUND, "alow": ["read"]}]), "token 1 must be an object"),
        (json.dumps([{"token": SOUND}, {"token": ""}]), "token 2 is empty or blank"),
        (json.dumps([{"token": 1234567890123456}]), "`token` of token 1 must be a text"),
        (json.dumps([{"sha256": "0" * 63}]), "64 hex digits"),
        (json.dumps([{"token": SOUND, "flows": []}]), "`flows` of token 1"),
        (json.dumps([{"token": SOUND, "flows": "rpa1"}]), "`flows` of token 1"),
        (json.dumps([{"token": SOUND, "allow": ["delete"]}]), "may hold write, read, health"),
    ],
)
def test_an_unsound_list_of_tokens_is_a_configuration_problem(text: str, why: str) -> None:
    """Each mistake names its entry."""
    (found,) = problems(intake_tokens=text)
    assert found.startswith("CONTAINER_INTAKE_TOKENS  ")
    assert why in found
    assert SOUND not in found


@pytest.mark.requirement("R7.3")
def test_tokens_write_to_their_own_flow_unless_more_is_given() -> None:
    """Write-only by default; reading, other flows and all flows are asked for; several are valid at once."""
    more: list[dict[str, Any]] = [
        {"token": OTHER},
        {"token": "a-second-one-in-rotation", "flows": ["other"], "allow": ["write", "read"]},
        {"sha256": hashlib.sha256(b"known-by-its-digest").hexdigest().upper(), "flows": ["*"], "allow": ["read"]},
    ]
    grants = intake(token=SOUND, read_token="a-token-for-readers", tokens=json.dumps(more)).grants("own")

    def may(token: str) -> set[tuple[str, str]]:
        return {
            (right, flow)
            for each in presented(grants, token)
            for right in ("write", "read", "health")
            for flow in ("own", "other")
            if each.permits(right, flow)
        }

    assert may(SOUND) == {("write", "own")}
    assert may("a-token-for-readers") == {("read", "own")}
    assert may(OTHER) == {("write", "own")}
    assert may("a-second-one-in-rotation") == {("write", "other"), ("read", "other")}
    assert may("known-by-its-digest") == {("read", "own"), ("read", "other")}
    for wrong in ("", " ", SOUND[:-1], SOUND + "x", SOUND.upper(), "é" * 16):
        assert may(wrong) == set()


@pytest.mark.requirement("R7.3")
def test_no_token_means_no_grant() -> None:
    """Nothing opens the intake but a token; one token given twice has both rights."""
    assert intake().grants("own") == ()
    both = presented(intake(token=SOUND, read_token=SOUND).grants("own"), SOUND)
    assert {right for each in both for right in each.allow} == {"write", "read"}
    with pytest.raises(ValueError, match="empty or blank"):
        grant("", ["own"], ["write"])


@pytest.mark.requirement("R6.5")
def test_uploads_at_once_follow_the_memory_limit() -> None:
    """By cgroup or by variable; a number that is set wins."""

    def places(**variables: str) -> int:
        given = {f"CONTAINER_{name.upper()}": text for name, text in variables.items()}
        manager = ContainerConfigManager(BASE | given, limits=lambda: ResourceLimits(memory_bytes=1 << 40))
        return manager.load_container_config().intake.max_requests

    assert [places(memory_limit=each) for each in ("64MiB", "256MiB", "512MiB", "4GiB")] == [1, 2, 5, 8]
    assert places() == 8
    assert places(memory_limit="64MiB", intake_max_requests="7") == 7
