"""Writes a report into its run's folder. A file is replaced whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import NamedTemporaryFile

from rpa_testkit.reports.model import Report


def write(report: Report, folder: Path) -> Sequence[Path]:
    """report.json, junit.xml, report.md and report.html; returns their paths. The folder is made if it is not there."""
    from rpa_testkit.reports.html import html
    from rpa_testkit.reports.junit import junit
    from rpa_testkit.reports.markdown import markdown

    contents = {
        "report.json": as_json(report),
        "junit.xml": junit(report),
        "report.md": markdown(report).encode(errors="replace"),
        "report.html": html(report).encode(errors="replace"),
    }
    return [replace(folder / name, content) for name, content in contents.items()]


def as_json(report: Report) -> bytes:
    """The model as it is, with the verdict at the top."""
    data = {"status": report.status, **asdict(report)}
    # The standard library's: evidence may hold lone surrogates, which no UTF-8 can carry and orjson refuses.
    text = json.dumps(data, default=str, separators=(",", ":"), ensure_ascii=False)
    return text.encode(errors="replace") + b"\n"


def replace(path: Path, content: bytes) -> Path:
    """Write beside it, then take its place: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        written = Path(file.name)
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            written.chmod(0o644)
            written.replace(path)
        except BaseException:
            written.unlink(missing_ok=True)
            raise
    return path
