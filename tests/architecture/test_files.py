"""What every file keeps to."""

from __future__ import annotations

import ast
import re

import pytest
from ci.sources import at_import, modules, python_files, tree, where
from ci.workspace import MEMBERS, ROOT, files, manifest, read_toml

LONGEST = 500
# Files over the limit: path -> (lines, why). This only shrinks: no new entry, no larger number.
TOO_LONG: dict[str, tuple[int, str]] = {}

# A wait in a module of another name would be one that nobody can interrupt.
MAY_SLEEP = {"waits.py"}


@pytest.mark.requirement("D1")
def test_files_stay_small() -> None:
    """A file has one reason to change; over 500 lines it has several."""
    lengths = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8").count("\n") for path in python_files()}
    wrong = [
        f"{name} has {n} lines; split it by responsibility"
        for name, n in lengths.items()
        if n > max(LONGEST, TOO_LONG.get(name, (0, ""))[0])
    ]
    wrong += [
        f"{name} is short enough now: take it off TOO_LONG" for name in TOO_LONG if lengths.get(name, 0) <= LONGEST
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.requirement("D4")
def test_versions_are_in_step() -> None:
    """The workspace and its members have one version, and pin each other to it."""
    version = read_toml(ROOT / "pyproject.toml")["project"]["version"]
    wrong = []
    for member in MEMBERS:
        project = manifest(member)["project"]
        wrong += [f"{project['name']} is {project['version']}"] if project["version"] != version else []
        for line in project["dependencies"]:
            if line.startswith("rpa-") and not line.endswith(f"=={version}"):
                wrong.append(f"{project['name']} needs {line}")
    assert not wrong, f"the workspace is {version}, but {wrong}"


@pytest.mark.requirement("R5.5")
def test_only_waits_sleep() -> None:
    """Everything else waits on events and conditions, so that a shutdown ends it at once."""
    wrong = []
    for path in python_files():
        if path.name in MAY_SLEEP:
            continue
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Attribute) and ast.unparse(node) == "time.sleep":
                wrong.append(where(path, node.lineno))
            elif isinstance(node, ast.ImportFrom) and node.module == "time":
                wrong += [where(path, node.lineno) for alias in node.names if alias.name == "sleep"]
    assert not wrong, f"time.sleep outside waits.py: {wrong}"


@pytest.mark.requirement("R1.2")
def test_no_package_reads_the_environment_when_imported() -> None:
    """What a process is configured with is passed in; importing has no say."""
    names = {"os.environ", "os.getenv", "os.environb"}
    wrong = [
        where(path, node.lineno)
        for package in ("rpa_core", "rpa_flows", "rpa_testkit")
        for path in modules(package)
        for node in at_import(tree(path))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in names
    ]
    assert not wrong, wrong


@pytest.mark.requirement("D4")
def test_modules_keep_annotations_lazy() -> None:
    """`from __future__ import annotations` is the first import of every module with functions or classes."""
    wrong = [
        str(path.relative_to(ROOT))
        for path in python_files()
        if any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in tree(path).body)
        and "from __future__ import annotations" not in path.read_text(encoding="utf-8")
    ]
    assert not wrong, wrong


@pytest.mark.requirement("R7.2")
def test_no_file_names_a_registry() -> None:
    """Where packages come from is each installation's own business, not the repository's."""
    hosts = re.compile(
        "|".join(["pypi" + r"\.org", "python" + "hosted", "--(extra-)?index" + "-url", "--find" + "-links"])
    )
    wrong = [
        where(path, text.count("\n", 0, match.start()) + 1)
        for path in files()
        if path.suffix not in {".csv", ".png"} and path.name != "locks.py"
        for text in [path.read_text(encoding="utf-8", errors="replace")]
        if (match := hosts.search(text))
    ]
    assert not wrong, wrong


@pytest.mark.requirement("D4")
def test_sql_files_say_what_they_are() -> None:
    """The first line of an SQL file is a comment: its name, or what it answers."""
    wrong = [
        str(path.relative_to(ROOT))
        for path in files()
        if path.suffix == ".sql" and not path.read_text(encoding="utf-8").startswith("-- ")
    ]
    assert not wrong, wrong


@pytest.mark.requirement("D1")
def test_test_files_have_unique_names_and_their_tests_say_what_holds() -> None:
    """One name, one file; every test has a docstring."""
    found = [path for path in python_files() if path.name.startswith("test_")]
    names = [path.name for path in found]
    wrong = [f"{name} exists twice" for name in sorted(set(names)) if names.count(name) > 1]
    wrong += [
        f"{where(path, node.lineno)}: {node.name} has no docstring"
        for path in found
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and ast.get_docstring(node) is None
    ]
    assert not wrong, "\n".join(wrong)
