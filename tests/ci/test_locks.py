"""The locked requirements."""

from __future__ import annotations

from pathlib import Path

import pytest
from ci import locks
from ci.workspace import MEMBERS, ROOT

_ROOT = """
[project]
requires-python = ">=3.11"
[dependency-groups]
test = ["pytest>=9", { include-group = "more" }]
more = ["hypothesis>=6"]
"""
_CORE = """
[project]
dependencies = ["click>=8"]
optional-dependencies = { http = ["uvicorn>=0.40"] }
"""
_FLOWS = """
[project]
dependencies = ["rpa-core[http]==0.1.0", "httpx>=0.28"]
"""
_LOCK = locks.Lock(name="sample", use="a sample", members=("core[http]", "flows"), groups=("test",))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small workspace."""
    (tmp_path / "pyproject.toml").write_text(_ROOT)
    for name, text in {"core": _CORE, "flows": _FLOWS}.items():
        (tmp_path / "packages" / name).mkdir(parents=True)
        (tmp_path / "packages" / name / "pyproject.toml").write_text(text)
    return tmp_path


def test_a_lock_is_made_of_members_extras_and_groups(tree: Path) -> None:
    """The workspace's own members are not in it: they are installed from their wheels."""
    assert locks.inputs(_LOCK, tree) == ["click>=8", "httpx>=0.28", "hypothesis>=6", "pytest>=9", "uvicorn>=0.40"]


def test_a_changed_dependency_makes_its_locks_stale(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No network is needed to see it: the lock carries a digest of what it was made from."""
    monkeypatch.setattr(locks, "LOCKS", (_LOCK,))
    assert locks.stale(tree) == ["sample"]
    (tree / "requirements").mkdir()
    header = f"# inputs sha256:{locks.digest(_LOCK, tree)}\nclick==8.3.0\n"
    (tree / "requirements/sample.txt").write_text(header)
    assert locks.stale(tree) == []
    core = tree / "packages/core/pyproject.toml"
    core.write_text(core.read_text().replace("click>=8", "click>=9"))
    assert locks.stale(tree) == ["sample"]


@pytest.mark.requirement("D4")
@pytest.mark.parametrize("lock", locks.LOCKS, ids=lambda lock: lock.name)
def test_every_requirement_is_pinned_with_hashes(lock: locks.Lock) -> None:
    """Exact versions, at least one hash each, no addresses, no paths, none of our own packages."""
    lines = (ROOT / "requirements" / f"{lock.name}.txt").read_text().splitlines()[1:]
    pins = [number for number, line in enumerate(lines) if not line.startswith(" ")]
    assert pins
    for number, end in zip(pins, [*pins[1:], len(lines)], strict=True):
        assert "==" in lines[number]
        assert lines[number].split("==")[0] not in {f"rpa-{member}" for member in MEMBERS}
        assert all(line.strip().startswith("--hash=sha256:") for line in lines[number + 1 : end])
        assert end > number + 1, lines[number]
    assert not [line for line in lines if "://" in line or line.lstrip().startswith(("-e", "-i", "-f", "."))]
