"""The env files: docker/env/NAME.env, copied from NAME.env.example where they are missing."""

from __future__ import annotations

import shutil
from pathlib import Path

from ci.errors import ToolError
from ci.stack.compose import Stack

EXAMPLES = "env"  # below docker/


def examples(stack: Stack) -> list[Path]:
    """The committed examples, sorted."""
    return sorted((stack.folder / EXAMPLES).glob("*.env.example"))


def ensure(stack: Stack) -> list[Path]:
    """Copy every example whose env file is missing; answers the new files. What is there is never touched."""
    made = []
    stack.env.mkdir(parents=True, exist_ok=True)
    for example in examples(stack):
        target = stack.env / example.name.removesuffix(".example")
        if not target.exists():
            shutil.copyfile(example, target)
            made.append(target)
    return made


def read(path: Path) -> dict[str, str]:
    """The variables of an env file, in its order. Raises ToolError naming the line that is none."""
    found: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, separator, value = text.partition("=")
        if not separator or not name.isidentifier():
            raise ToolError(f"{path}:{number}: is no NAME=value line; correct it, or start it with #")
        found[name] = value.strip().strip("\"'")
    return found


def check(stack: Stack) -> None:
    """Raise ToolError for what production cannot start without."""
    if stack.environment != "production":
        return
    path = stack.env / "rpa3.env"
    if not read(path).get("CONTAINER_DELIVERY_URL"):
        raise ToolError(
            f"{path} sets no CONTAINER_DELIVERY_URL: write there where rpa3 delivers to (https://HOST/PATH), and the "
            f"receiver's token into {stack.secrets / 'delivery_token'}"
        )
