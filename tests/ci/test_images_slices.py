"""Slices of locks."""

from __future__ import annotations

import pytest
from ci.errors import ToolError
from ci.images import slices
from ci.workspace import ROOT

_H = {letter: f"--hash=sha256:{letter * 64}" for letter in "abcdef"}
_LOCK = f"""# compiled on some day
click==8.5.1 \\
    {_H["b"]} \\
    {_H["a"]}
colorama==0.4.6 ; sys_platform == 'win32' \\
    {_H["c"]}
psycopg-binary==3.3.9 ; implementation_name != 'pypy' \\
    {_H["d"]}
"""
_SLICE = f"""click==8.5.1 \\
    {_H["a"]} \\
    {_H["b"]}
psycopg-binary==3.3.9 \\
    {_H["d"]}
"""


def cut(lock: str, python: str = "3.13", platform: str = "linux/amd64") -> str:
    """The slice's text."""
    return slices.text(slices.cut(lock, file="locks/run.txt", python=python, platform=platform))


@pytest.mark.requirement("R4.3")
@pytest.mark.parametrize(
    "lock",
    [
        _LOCK,
        _LOCK.replace("some day", "another day"),
        _LOCK.replace("click==", "# via app\nClick=="),
        "\n".join(_LOCK.split("\n")[4:]) + "\n".join(_LOCK.split("\n")[:4]),
        _LOCK.replace("0.4.6", "0.4.7").replace("c" * 64, "e" * 64),
        _LOCK + f"tzdata==1 ; python_version < '3.13' {_H['e']}\n",
        _LOCK + f"numpy==1 ; platform_machine == 'aarch64' {_H['e']}\n",
        _LOCK.replace(" \\\n    ", " "),
        _LOCK.replace("psycopg-binary==", "psycopg_binary=="),
        _LOCK + f"click==8.5.1 ; python_version > '3.0' {_H['a']}\n",
    ],
)
def test_what_would_be_installed_is_the_same(lock: str) -> None:
    """Comments, order, spelling and other platforms' packages change nothing; the text can be installed."""
    assert cut(lock) == _SLICE


@pytest.mark.requirement("R4.3")
@pytest.mark.parametrize(
    ("marker", "python", "platform", "holds"),
    [
        ("python_version < '3.13'", "3.12", "linux/amd64", True),
        ("python_version < '3.13'", "3.13", "linux/amd64", False),
        ("python_full_version < '3.15'", "3.13", "linux/amd64", True),
        ("python_full_version >= '3.13.4'", "3.13.5", "linux/amd64", True),
        ("platform_machine == 'aarch64'", "3.13", "linux/arm64", True),
        ("platform_machine == 'x86_64' and sys_platform == 'linux'", "3.13", "linux/arm64", False),
        ("platform_python_implementation != 'PyPy'", "3.13", "linux/amd64", True),
        ("os_name == 'nt' or platform_system == 'Darwin'", "3.13", "linux/amd64", False),
        ("extra == 'fast'", "3.13", "linux/amd64", False),
    ],
)
def test_markers_hold_for_the_images_python_not_for_ours(marker: str, python: str, platform: str, holds: bool) -> None:
    """Linux, CPython, the declared version and machine."""
    assert bool(cut(f"one==1 ; {marker} {_H['a']}", python, platform)) is holds


@pytest.mark.requirement("R4.3")
@pytest.mark.parametrize(
    ("lock", "said"),
    [
        ("click>=8", "run.txt:1: not a pinned package"),
        ("# x\n\nclick==8.5.1", "run.txt:3: click has no --hash"),
        ("--no-binary :all:\n", "run.txt:1: not a pinned package"),
        ("-e ./here", "not a pinned package"),
        (f"click==8 ; nonsense == '3' {_H['a']}", "marker .* cannot be evaluated"),
        (
            f"click==8 ; python_full_version < '3.13.4' {_H['a']}",
            "depends on the patch release; declare python with it",
        ),
        (f"click==8 {_H['a']}\nclick==9 {_H['b']}", "run.txt:2: click is 9 and 8 on Python 3.13"),
    ],
)
def test_a_line_that_is_no_locked_package_is_refused(lock: str, said: str) -> None:
    """With its number, and what to do."""
    with pytest.raises(ToolError, match=said):
        cut(lock)


@pytest.mark.requirement("R4.1")
def test_the_workspaces_locks_can_be_cut() -> None:
    """What images run, less what only another platform would."""
    lock = (ROOT / "requirements/runtime.txt").read_text()
    names = {one.name for one in slices.cut(lock, file="runtime.txt", python="3.13", platform="linux/amd64")}
    assert {"psycopg", "psycopg-binary", "pydantic", "uvicorn"} <= names
    assert "tzdata" not in names
