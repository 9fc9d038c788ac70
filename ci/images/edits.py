"""`python -m ci.images.edits`: the table of docs/images.md, edit -> images rebuilt, made by making the edits.

Each edit is made in a copy of the workspace, and the keys of all images are compared before and after.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from ci.images.contents import gather
from ci.images.declare import load
from ci.workspace import ROOT, files

PAGE = ROOT / "docs" / "images.md"
_BEGIN, _END = "<!-- edits: begin -->\n", "<!-- edits: end -->\n"
_BASE_ID = "sha256:" + "0" * 64

Edit = Callable[[Path], None]
Keys = dict[str, str]


def _append(path: str, text: str = "\n# edited\n") -> Edit:
    def edit(root: Path) -> None:
        with (root / path).open("a", encoding="utf-8") as file:
            file.write(text)

    return edit


def _write(path: str, text: str) -> Edit:
    def edit(root: Path) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")

    return edit


def _version(lock: str, package: str) -> Edit:
    def edit(root: Path) -> None:
        text = (root / lock).read_text(encoding="utf-8")
        changed = re.sub(rf"^{package}==\S+", f"{package}==99.0", text, count=1, flags=re.MULTILINE)
        if changed == text:
            raise LookupError(f"{package} is not in {lock}")
        (root / lock).write_text(changed, encoding="utf-8")

    return edit


def _touch(path: str) -> Edit:
    return lambda root: os.utime(root / path, (0, 0))


def _executable(path: str) -> Edit:
    return lambda root: (root / path).chmod(0o755)


def _rename(path: str, name: str) -> Edit:
    def edit(root: Path) -> None:
        (root / path).rename((root / path).with_name(name))

    return edit


_CORE = "packages/core/src/rpa_core"
_FLOWS = "packages/flows/src/rpa_flows"

EDITS: tuple[tuple[str, Edit], ...] = (
    ("a core module", _append(f"{_CORE}/errors.py")),
    ("a statement of core's SQL", _append(f"{_CORE}/store/sql/ledger.sql", "\n-- edited\n")),
    ("rpa1's handler", _append(f"{_FLOWS}/rpa1/flow.py")),
    ("rpa2's handler", _append(f"{_FLOWS}/rpa2/flow.py")),
    ("rpa3's delivery", _append(f"{_FLOWS}/rpa3/delivery.py")),
    ("how responses are scored", _append(f"{_FLOWS}/codebook/scoring.py")),
    ("a codebook", _append(f"{_FLOWS}/data/anes96.toml")),
    ("a migration of survey_hub", _write(f"{_FLOWS}/migrations/0002_more.sql", "SELECT 1;\n")),
    ("the generator, the summary page", _append(f"{_FLOWS}/generator.py")),
    ("a new module that nobody imports", _write(f"{_FLOWS}/rpa2/unused.py", "X = 1\n")),
    ("a new module that shadows a third-party one", _write("packages/flows/src/httpx.py", "X = 1\n")),
    ("a package the images run, in its lock", _version("requirements/runtime.txt", "httpx")),
    ("a package for Windows only, in the same lock", _version("requirements/runtime.txt", "tzdata")),
    ("the test tools' lock", _version("requirements/test.txt", "pytest")),
    ("the debugger's lock", _version("requirements/debug.txt", "debugpy")),
    ("the base's Dockerfile", _append("docker/base/Dockerfile")),
    ("the flows' Dockerfile", _append("docker/flow/Dockerfile")),
    ("a module becomes executable", _executable(f"{_FLOWS}/rpa2/flow.py")),
    ("a module is renamed", _rename(f"{_FLOWS}/rpa3/retry_after.py", "retry_later.py")),
    ("`touch` of a core module", _touch(f"{_CORE}/errors.py")),
    ("tests", _append("packages/core/tests/unit/conftest.py")),
    ("documentation", _append("README.md")),
    ("Compose files", _append("docker/compose.yml")),
)


def table(environments: tuple[str, ...] = ("production", "development")) -> str:
    """Markdown. Every edit starts from a fresh state of the copy."""
    with tempfile.TemporaryDirectory(prefix="rpa-edits-") as folder:
        root = Path(folder)
        for path in files():
            target = root / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)
        before = {environment: keys(root, environment) for environment in environments}
        lines = ["| edit | rebuilt |", "|---|---|"]
        for what, edit in EDITS:
            kept = _snapshot(root)
            edit(root)
            lines.append(f"| {what} | {_said({e: _changed(before[e], keys(root, e)) for e in environments})} |")
            _restore(root, kept)
        return "\n".join(lines) + "\n"


def keys(root: Path, environment: str) -> Keys:
    """The key of each image of the workspace at `root`."""
    declaration = load(root, environment=environment)
    references = {reference for image in declaration.images.values() for reference in image.bases.values()}
    contents = gather(declaration, root=root, base_ids=dict.fromkeys(references, _BASE_ID))
    return {name: one.key for name, one in contents.items()}


def page(text: str, made: str) -> str:
    """`text` with the table between its marks."""
    head, _, rest = text.partition(_BEGIN)
    _, mark, tail = rest.partition(_END)
    if not mark:
        raise LookupError(f"{PAGE.name} has no {_BEGIN.strip()} ... {_END.strip()}")
    return head + _BEGIN + made + _END + tail


def _changed(before: Keys, after: Keys) -> tuple[str, ...]:
    return tuple(name for name, key in after.items() if before.get(name) != key)


def _said(changed: dict[str, tuple[str, ...]]) -> str:
    both = set(changed.values())
    if len(both) == 1:
        return ", ".join(both.pop()) or "nothing"
    return "; ".join(f"{environment}: {', '.join(names) or 'nothing'}" for environment, names in changed.items())


def _snapshot(root: Path) -> dict[Path, tuple[bytes, os.stat_result]]:
    return {path: (path.read_bytes(), path.stat()) for path in root.rglob("*") if path.is_file()}


def _restore(root: Path, kept: dict[Path, tuple[bytes, os.stat_result]]) -> None:
    for path in [path for path in root.rglob("*") if path.is_file() and path not in kept]:
        path.unlink()
    for path, (content, status) in kept.items():
        if not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)
        path.chmod(status.st_mode)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def main() -> int:
    """Write the table into the page; `--check` only looks whether it is true. Returns the exit code."""
    text = PAGE.read_text(encoding="utf-8")
    made = page(text, table())
    if "--check" in sys.argv[1:]:
        if made != text:
            print(f"{PAGE.relative_to(ROOT)} is out of date; run: python -m ci.images.edits", file=sys.stderr)
        return int(made != text)
    PAGE.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
