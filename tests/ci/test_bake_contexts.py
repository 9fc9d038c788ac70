"""Build contexts hold exactly what was declared, whatever was there before."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from ci.errors import ToolError
from ci.images import contexts, digests
from ci.images.model import Contents, Entry, Image
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

_NAMES = st.lists(st.sampled_from(["a", "b", "ü", "c d", "${x}"]), min_size=1, max_size=3).map("/".join)
_FILES = st.dictionaries(
    _NAMES,
    st.one_of(
        st.tuples(st.binary(max_size=4), st.booleans()),
        st.sampled_from(["a", "../b", "b//c", "nowhere"]),
    ),
    max_size=6,
)
Wanted = dict[str, tuple[bytes, bool] | str]


def entry(path: str, what: tuple[bytes, bool] | str) -> Entry:
    if isinstance(what, str):
        return Entry(path=path, digest=digests.of_link(what), link=what)
    return Entry(path=path, digest=digests.of_bytes(what[0]), content=what[0], executable=what[1])


def contents(wanted: Wanted) -> Contents:
    image = Image(name="one", title="one", environment="test", dockerfile="Dockerfile", trees=())
    entries = tuple(entry(path, what) for path, what in sorted(wanted.items()))
    return Contents(image=image, entries=entries, manifest={}, key="0" * 64)


def consistent(wanted: Wanted) -> Wanted:
    """Without those that would need a file to be a folder."""
    return {path: what for path, what in wanted.items() if not any(other.startswith(f"{path}/") for other in wanted)}


def found(place: Path) -> Wanted:
    result: Wanted = {}
    for parent, folders, files in os.walk(place):
        for name in [*files, *(one for one in folders if Path(parent, one).is_symlink())]:
            path = Path(parent, name)
            key = path.relative_to(place).as_posix()
            if path.is_symlink():
                result[key] = os.readlink(path)  # noqa: PTH115 - as it is written
            else:
                mode = stat.S_IMODE(path.stat().st_mode)
                assert mode in (0o644, 0o755), oct(mode)
                result[key] = (path.read_bytes(), mode == 0o755)
    return result


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(before=_FILES.map(consistent), after=_FILES.map(consistent))
@pytest.mark.requirement("R4.4")
def test_a_context_holds_the_entries_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, before: Wanted, after: Wanted
) -> None:
    """Whatever an earlier build left: files where folders are wanted, links, other modes."""
    place = tmp_path_factory.mktemp("contexts")
    assert found(contexts.materialise(contents(before), place)) == before
    assert found(contexts.materialise(contents(after), place)) == after
    empty = [path for path in place.rglob("*") if path.is_dir() and not any(path.iterdir())]
    assert empty in ([], [place / "one"])


@pytest.mark.requirement("R4.4")
def test_what_somebody_put_into_a_context_is_put_right(tmp_path: Path) -> None:
    """Other bytes under the right size and time, a torn file of a killed run, a file too many."""
    wanted: Wanted = {"a": (b"right", False), "b/c": (b"c", True)}
    place = contexts.materialise(contents(wanted), tmp_path)
    before = (place / "a").stat()
    (place / "a").write_bytes(b"wrong")
    os.utime(place / "a", ns=(before.st_atime_ns, before.st_mtime_ns))
    (place / ".partial-0011223344556677").write_bytes(b"to")
    (place / "b" / "extra").write_bytes(b"x")
    assert found(contexts.materialise(contents(wanted), tmp_path)) == wanted


@pytest.mark.requirement("R4.4")
def test_other_bytes_have_another_time_and_the_same_bytes_the_same(tmp_path: Path) -> None:
    """On every machine, in every folder, in the past."""
    times = set[int]()
    for number in range(300):
        place = contexts.materialise(contents({"f": (f"{number:03}".encode(), False)}), tmp_path / "here")
        times.add((place / "f").stat().st_mtime_ns)
    assert len(times) == 300
    again = contexts.materialise(contents({"elsewhere/g": (b"007", True)}), tmp_path / "there")
    seventh = contexts.materialise(contents({"f": (b"007", False)}), tmp_path / "here")
    assert (again / "elsewhere/g").stat().st_mtime_ns == (seventh / "f").stat().st_mtime_ns
    assert max(times) < 1_600_000_000 * 10**9


@pytest.mark.requirement("R4.4")
def test_a_file_that_changed_since_it_was_hashed_ends_the_build(tmp_path: Path) -> None:
    """What would be built is not what the key says."""
    source = tmp_path / "source.py"
    source.write_bytes(b"before")
    one = Entry(path="source.py", digest=digests.of_bytes(b"before"), source=source)
    image = Image(name="one", title="one", environment="test", dockerfile="Dockerfile", trees=())
    looked_at = Contents(image=image, entries=(one,), manifest={}, key="0" * 64)
    contexts.materialise(looked_at, tmp_path / "contexts")
    source.write_bytes(b"behind")
    with pytest.raises(ToolError, match="changed while the build was prepared"):
        contexts.materialise(looked_at, tmp_path / "contexts")
    source.unlink()
    with pytest.raises(ToolError, match="cannot be read any more"):
        contexts.materialise(looked_at, tmp_path / "contexts")


@pytest.mark.requirement("R4.4")
def test_every_prefix_and_environment_has_a_folder_of_its_own(tmp_path: Path) -> None:
    """Also those that look alike once they are a file's name."""
    prefixes = ["", "plain", "a/b/", "a_b_", "a/b_", "registry.example/team/", "x" * 100, "x" * 99 + "/"]
    places = {contexts.folder(tmp_path, environment, prefix) for environment in ("a", "b") for prefix in prefixes[2:]}
    assert len(places) == 2 * len(prefixes[2:])
    assert contexts.folder(tmp_path, "a", "") == tmp_path / ".rpa/contexts/a/plain"
    assert all(place.is_relative_to(tmp_path / ".rpa/contexts") for place in places)
