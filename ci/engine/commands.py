"""Running a program of the machine, with an error that a person can use."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from ci.errors import ToolError


def run(
    *command: str,
    check: bool = True,
    timeout_s: float = 900,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run it with its output captured; `env` is added to the environment.

    ToolError with the last lines it said where it is missing, takes too long or, with `check`, fails.
    """
    shown = " ".join(command[:3])
    try:
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=timeout_s,
            cwd=cwd,
            env={**os.environ, **env} if env else None,
        )
    except FileNotFoundError as error:
        raise ToolError(f"{command[0]} is missing on this machine; install it and run this again") from error
    except subprocess.TimeoutExpired as error:
        raise ToolError(f"{shown} did not end within {timeout_s:g} s; does what it asks answer?") from error
    if check and done.returncode:
        raise ToolError(f"{shown} failed with {done.returncode}:\n{last_lines(done.stderr or done.stdout)}")
    return done


def last_lines(text: str, count: int = 12) -> str:
    """The end of an output."""
    return "\n".join(text.strip().splitlines()[-count:]) or "(it said nothing)"
