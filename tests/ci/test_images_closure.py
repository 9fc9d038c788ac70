"""The import closure of entry modules."""

from __future__ import annotations

from pathlib import Path

import pytest
from ci.errors import ToolError
from ci.images import imports
from ci.images.closure import Closure, trace
from ci.images.folders import Folder


def closure(root: Path, *entries: str) -> Closure:
    """Of the folder src."""
    return trace(Folder(root, "src"), entries, lambda path: imports.read((root / "src" / path).read_bytes()))


def write(root: Path, files: dict[str, str]) -> None:
    """Under src."""
    for name, text in files.items():
        path = root / "src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


_PACKAGE = {
    "a/__init__.py": "",
    "a/main.py": "",
    "a/b.py": "",
    "a/c.py": "",
    "a/deep/__init__.py": "",
    "a/deep/d.py": "",
    "a/deep/e.py": "",
    "top.py": "",
    "other/__init__.py": "",
    "other/x.py": "",
    "bare/y.py": "",
}
_ALWAYS = {"a/__init__.py", "a/main.py"}


@pytest.mark.requirement("R4.4")
@pytest.mark.parametrize(
    ("source", "more"),
    [
        ("", set()),
        ("import os, json.decoder", set()),
        ("import a.b", {"a/b.py"}),
        ("import a.deep.d", {"a/deep/__init__.py", "a/deep/d.py"}),
        ("import a.deep.d as d, top", {"a/deep/__init__.py", "a/deep/d.py", "top.py"}),
        ("from a import b", {"a/b.py"}),
        ("from a import nothing", set()),
        ("from a.deep import d, NAME", {"a/deep/__init__.py", "a/deep/d.py"}),
        ("from . import b", {"a/b.py"}),
        ("from .deep.d import NAME", {"a/deep/__init__.py", "a/deep/d.py"}),
        ("from .. import top", set()),
        ("from bare import y", {"bare/y.py"}),
        ("def f():\n    import a.b", {"a/b.py"}),
        ("if TYPE_CHECKING:\n    import a.b", {"a/b.py"}),
        ("try:\n    import a.b\nexcept ImportError:\n    import a.c", {"a/b.py", "a/c.py"}),
        ("class C:\n    from a import b", {"a/b.py"}),
        ("import importlib\nimportlib.import_module('a.b')", {"a/b.py"}),
        ("from importlib import import_module as load\nload('other.x')", {"other/__init__.py", "other/x.py"}),
        ("import importlib\nimportlib.import_module('.b', __package__)", {"a/b.py"}),
        ("__import__('a.b')", {"a/b.py"}),
        ("import runpy\nrunpy.run_module('a.b')", {"a/b.py"}),
        ("from pkgutil import resolve_name\nresolve_name('a.deep.d:NAME')", {"a/deep/__init__.py", "a/deep/d.py"}),
        ("from importlib import resources\nresources.files('other')", {"other/__init__.py"}),
        ("from importlib.resources import files\nfiles('other')", {"other/__init__.py"}),
        ("box.files('other')", set()),
        ("from other import *", {"other/__init__.py"}),
        ("# import a.b", set()),
        ("'import a.b'", set()),
    ],
)
def test_what_a_module_imports_is_in(tmp_path: Path, source: str, more: set[str]) -> None:
    """With the packages around it, and nothing else."""
    write(tmp_path, {**_PACKAGE, "a/main.py": source})
    found = closure(tmp_path, "a.main")
    assert (set(found.files), found.notes) == (_ALWAYS | more, ())


@pytest.mark.requirement("R4.4")
@pytest.mark.parametrize(
    "source",
    [
        "import importlib\nimportlib.import_module(name)",
        "import importlib\nimportlib.import_module(f'a.{name}')",
        "import importlib\nload = importlib.import_module",
        "from importlib import import_module\nlist(map(import_module, names))",
        "import importlib\ngetattr(importlib, 'import_module')(name)",
        "__import__(name)",
        "__import__('a', fromlist=names)",
        "import importlib\nimportlib.import_module('.b', package)",
        "import pkgutil\nfor module in pkgutil.iter_modules(path): pass",
        "from importlib import resources\nresources.files(name)",
        "import importlib.util\nimportlib.util.spec_from_file_location('x', path)",
        "def (",
        "x = 'nul \0'",
    ],
)
def test_what_cannot_be_known_takes_in_the_whole_package(tmp_path: Path, source: str) -> None:
    """And says so, with file and line; other packages stay out."""
    write(tmp_path, {**_PACKAGE, "a/deep/d.py": source, "a/main.py": "import a.deep.d"})
    found = closure(tmp_path, "a.main")
    assert set(found.files) == _ALWAYS | {"a/deep/__init__.py", "a/deep/d.py", "a/deep/e.py"}
    assert len(found.notes) == 1
    assert found.notes[0].startswith("src/a/deep/d.py:")
    assert found.notes[0].endswith("all of a.deep goes in")


@pytest.mark.requirement("R4.4")
@pytest.mark.parametrize(
    ("init", "more"),
    [
        ("", set()),
        ('__all__ = ["d"]', {"a/deep/d.py"}),
        ('__all__: list[str] = ["d", "NAME"]', {"a/deep/d.py"}),
        ("__all__ = [name for name in globals()]", {"a/deep/d.py", "a/deep/e.py"}),
        ('__all__ = ["d"]\n__all__ += more', {"a/deep/d.py", "a/deep/e.py"}),
        ("from somewhere import __all__", {"a/deep/d.py", "a/deep/e.py"}),
    ],
)
def test_a_star_takes_in_what_the_package_exports(tmp_path: Path, init: str, more: set[str]) -> None:
    """`__all__` may name modules, which the star then imports; where it cannot be read, all of the package."""
    write(tmp_path, {**_PACKAGE, "a/deep/__init__.py": init, "a/main.py": "from a.deep import *"})
    assert set(closure(tmp_path, "a.main").files) == _ALWAYS | {"a/deep/__init__.py"} | more


@pytest.mark.requirement("R4.4")
def test_a_new_file_takes_the_place_of_what_came_from_elsewhere(tmp_path: Path) -> None:
    """What was looked up in vain before is looked up again: third-party names, missing ones, packages over modules."""
    write(tmp_path, {**_PACKAGE, "a/main.py": "import httpx\nfrom a import later\nimport a.b"})
    assert set(closure(tmp_path, "a.main").files) == _ALWAYS | {"a/b.py"}
    write(tmp_path, {"httpx.py": "", "a/later/__init__.py": "from . import more", "a/later/more.py": ""})
    more = {"httpx.py", "a/later/__init__.py", "a/later/more.py", "a/b.py"}
    assert set(closure(tmp_path, "a.main").files) == _ALWAYS | more
    write(tmp_path, {"a/b/__init__.py": ""})  # a package comes before a module of the same name
    assert set(closure(tmp_path, "a.main").files) == _ALWAYS | more - {"a/b.py"} | {"a/b/__init__.py"}


@pytest.mark.requirement("R4.4")
def test_links_go_in_with_what_they_lead_to(tmp_path: Path) -> None:
    """A package under another name, a module that is a link; one that leads out of the folder is refused."""
    write(tmp_path, {**_PACKAGE, "a/main.py": "import alias.x\nfrom a import linked"})
    (tmp_path / "src/alias").symlink_to("other")
    (tmp_path / "src/a/linked.py").symlink_to("../other/../top.py")
    more = {"alias", "other/__init__.py", "other/x.py", "a/linked.py", "top.py"}
    assert set(closure(tmp_path, "a.main").files) == _ALWAYS | more
    for target in ("/etc/hostname", "../../outside.py", "../gone/../../../outside.py"):
        (tmp_path / "src/a/linked.py").unlink()
        (tmp_path / "src/a/linked.py").symlink_to(target)
        with pytest.raises(ToolError, match=r"src/a/linked\.py: links"):
            closure(tmp_path, "a.main")
    (tmp_path / "src/a/linked.py").unlink()
    (tmp_path / "src/a/linked.py").symlink_to("linked.py")  # to itself: nothing to import
    assert "a/linked.py" not in closure(tmp_path, "a.main").files


@pytest.mark.requirement("R4.8")
def test_the_chain_of_imports_leads_from_the_entry_to_the_file(tmp_path: Path) -> None:
    """The shortest one; nothing for a file that is not in."""
    write(
        tmp_path, {**_PACKAGE, "a/main.py": "import a.b", "a/b.py": "from .deep import d", "a/deep/d.py": "import a.c"}
    )
    found = closure(tmp_path, "a.main")
    assert found.chain("a/c.py") == ["a.main", "a.b", "a.deep.d", "a.c"]
    assert found.chain("a/main.py") == ["a.main"]
    assert found.chain("top.py") == []
