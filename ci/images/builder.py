"""Runs `docker buildx bake` once, on the engine itself, and reads what it reports."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from ci import docker
from ci.errors import ToolError
from ci.images.progress import Failure, Progress, Step

FILE = "docker-bake.json"
_METADATA = "metadata.json"
_ENVIRONMENT = {
    "BUILDX_NO_DEFAULT_ATTESTATIONS": "1",  # an image is one image, whatever the engine's store
    "BUILDX_BAKE_ENTITLEMENTS_FS": "0",  # the file is ours: contexts and secrets may lie anywhere
}


def bake(
    text: str, images: Sequence[str], *, place: Path, no_cache: bool, keep_open: int, out: TextIO | None
) -> tuple[tuple[Step, ...], dict[str, tuple[str, ...]]]:
    """Build all targets of the bake file `text`; `images` are their names, parents first.

    Returns the steps, and for each image the ids under which the engine may list it. The file is left in `place`, so
    that the build can be repeated by hand. The builder inherits the descriptor `keep_open`. ToolError where it fails.
    """
    file, metadata = place / FILE, place / _METADATA
    partial = file.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(file)
    metadata.unlink(missing_ok=True)
    command = ["docker", "buildx", "bake", "--builder", docker.builder(), "--file", str(file)]
    progress = Progress(images, out)
    code = _run(
        [*command, "--progress", "rawjson", "--metadata-file", str(metadata), *(["--no-cache"] if no_cache else [])],
        progress,
        place,
        keep_open,
    )
    if code:
        raise ToolError(_message(progress.failure(), shlex.join([*command, "--progress", "plain"])))
    try:
        found = json.loads(metadata.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ToolError(f"the build ended well, but left no {metadata} ({error}); run it again") from error
    names = ("containerimage.config.digest", "containerimage.digest")  # which of them depends on the engine's store
    return progress.steps(), {
        image: tuple(found[image][name] for name in names if name in found.get(image, {})) for image in images
    }


def _run(command: list[str], progress: Progress, place: Path, keep_open: int) -> int:
    try:
        builder = subprocess.Popen(
            command,
            cwd=place,
            env={**os.environ, **_ENVIRONMENT},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            errors="replace",
            pass_fds=(keep_open,),
        )
    except FileNotFoundError as error:
        raise ToolError("there is no docker command; install Docker with its buildx plugin") from error
    assert builder.stderr is not None
    with builder:
        try:
            for line in builder.stderr:
                progress.feed(line)
        except BaseException:  # Ctrl-C above all: the builder is told, and waited for
            builder.terminate()
            raise
    return builder.returncode


def _message(failure: Failure, repeat: str) -> str:
    lines = [f"the build failed in {failure.step}" if failure.step else "the build failed"]
    lines += [f"  | {line}" for line in failure.log]
    lines += [f"  {line}" for line in failure.said if line not in failure.log]
    return "\n".join([*lines, "no tag has moved; to repeat it by hand, with all output:", f"  {repeat}"])
