"""docker/images.toml, read strictly."""

from __future__ import annotations

from pathlib import Path

import pytest
from ci.errors import ToolError
from ci.images import declare
from ci.images.model import Tree
from ci.workspace import ROOT

_DECLARATION = """
python = "3.13"
platform = "linux/amd64"
environments = ["development", "production"]

[images.app]
title = "the application"
dockerfile = "docker/app/Dockerfile"
parents = ["base"]
trees = [{ source = "src", to = "app", at = "/app", entry = ["pkg.main"], files = ["pkg/data/*.toml"] }]
flows = []
args = { A = "1", B = "2" }

[images.app.development]
target = "debug"
args = { B = "3" }
trees = [{ source = "docker/app", to = "bin", files = ["start"] }]
locks = { "locks/debug.txt" = "locks/debug.txt" }

[images.base]
title = "the base"
dockerfile = "docker/base/Dockerfile"
bases = { python = "python:3.13" }
locks = { "locks/run.txt" = "locks/run.txt" }
"""
_FILES = ("docker/app/Dockerfile", "docker/app/start", "docker/base/Dockerfile", "locks/run.txt", "locks/debug.txt")
_SOURCES = ("src/pkg/__init__.py", "src/pkg/main.py", "src/pkg/data/a.toml")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small workspace."""
    for name in (*_FILES, *_SOURCES):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "docker/images.toml").write_text(_DECLARATION)
    return tmp_path


def swap(tree: Path, before: str, after: str) -> None:
    """Change the declaration."""
    path = tree / "docker/images.toml"
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after, 1))


@pytest.mark.requirement("R4.1")
def test_an_environment_is_merged_over_its_image(tree: Path) -> None:
    """Trees are appended, locks and arguments merged, the stage is set; parents come first."""
    development = declare.load(tree, environment="development")
    production = declare.load(tree, environment="production")
    assert list(development.images) == list(production.images) == ["base", "app"]
    app, plain = development.images["app"], production.images["app"]
    assert (app.target, dict(app.args), dict(app.locks)) == (
        "debug",
        {"A": "1", "B": "3"},
        {"locks/debug.txt": "locks/debug.txt"},
    )
    assert (plain.target, dict(plain.args), dict(plain.locks)) == (None, {"A": "1", "B": "2"}, {})
    assert [tree.to for tree in app.trees] == ["app", "bin"]
    assert plain.trees == (Tree(source="src", to="app", at="/app", entry=("pkg.main",), files=("pkg/data/*.toml",)),)


@pytest.mark.requirement("R4.1")
@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('python = "3.13"', 'python = "three"', r'python: "three" is not a Python version; write "3.13"'),
        ('platform = "linux/amd64"', 'platform = "linux/amd46"', 'platform: .*did you mean "linux/amd64"'),
        ('platform = "linux/amd64"', "", "platform: is missing"),
        ("python =", 'pyhton = ""\npython =', 'pyhton: unknown key; did you mean "python"'),
        ('title = "the base"', 'titel = "the base"', "images.base.title: is missing"),
        (
            'title = "the base"',
            'title = "the base"\ntrees2 = []',
            'images.base.trees2: unknown key; did you mean "trees"',
        ),
        ('title = "the base"', "title = 3", "images.base.title: must be a text"),
        ('parents = ["base"]', 'parents = ["bass"]', 'images.app.parents: "bass" is not declared; did you mean "base"'),
        (
            'title = "the base"',
            'title = "t"\nparents = ["app"]',
            "parents: a circle, (app -> base -> app|base -> app -> base)",
        ),
        ('parents = ["base"]', 'parents = ["base", "base"]', 'images.app.parents: names "base" twice'),
        ('parents = ["base"]', 'parents = "base"', "images.app.parents: must be a list of texts"),
        ('entry = ["pkg.main"]', 'entry = ["pkg.mian"]', r'no module "pkg.mian" in src; did you mean "pkg.main"'),
        ('entry = ["pkg.main"]', 'entry = ["pkg/main"]', "is not the name of a module"),
        ('source = "src"', 'source = "../src"', r'trees\[0\].source: "../src" has an empty, "." or ".." part'),
        ('source = "src"', 'source = "/src"', r'trees\[0\].source: "/src" is absolute'),
        ('source = "src"', 'source = "srcs"', r'there is no folder srcs; did you mean "src"'),
        ('at = "/app"', 'at = "app"', r'trees\[0\].at: "app" must be an absolute path'),
        ('to = "app", at', 'too = "app", at', r"images.app.trees\[0\].to: is missing"),
        (
            "pkg/data/*.toml",
            "pkg/date/*.toml",
            r'"pkg/date/\*.toml": there is no src/pkg/date; did you mean "src/pkg/data"',
        ),
        ("pkg/data/*.toml", "pkg/da**/x", r"has \*\* inside a name"),
        ("pkg/data/*.toml", "pkg/data/[a.toml", r"has \[ without \]"),
        ("pkg/data/*.toml", "pkg/data/[z-a].toml", "cannot be understood"),
        ('entry = ["pkg.main"], files = ["pkg/data/*.toml"]', "exclude = []", "has neither files nor entry"),
        (
            '"docker/base/Dockerfile"',
            '"docker/base/Dockerfil"',
            'no file docker/base/Dockerfil; did you mean ".*Dockerfile"',
        ),
        (
            '{ "locks/run.txt" = "locks/run.txt" }',
            '{ "l.txt" = "locks/none.txt" }',
            "images.base.locks.l.txt: there is no file",
        ),
        ('{ "locks/run.txt" =', '{ "../run.txt" =', 'images.base.locks: "../run.txt" has'),
        ('args = { B = "3" }', "args = { B = 3 }", "images.app.development.args: must be a table of texts"),
        ('target = "debug"', 'targets = "debug"', 'images.app.development.targets: unknown key; did you mean "target"'),
        ('target = "debug"', 'parents = ["base"]', "images.app.development.parents: unknown key"),
        ("[images.base]", "[images.Base]", "images.Base: is no name for an image"),
        ('"python:3.13"', '"python 3.13"', "images.base.bases.python: .* is no image reference"),
        ("flows = []", 'flows = ["rpa1"]', "packages/flows/pyproject.toml: cannot be read"),
        ("[images.base]", "[images.base", "docker/images.toml: not TOML"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_its_remedy(tree: Path, before: str, after: str, said: str) -> None:
    """The message alone is enough to correct it."""
    swap(tree, before, after)
    with pytest.raises(ToolError, match=said) as caught:
        declare.load(tree, environment="production")
    assert ".toml: " in str(caught.value)


@pytest.mark.requirement("R4.1")
def test_an_environment_that_is_not_declared_is_refused(tree: Path) -> None:
    """With the nearest that is."""
    with pytest.raises(ToolError, match='no environment "prod"; did you mean "production"'):
        declare.load(tree, environment="prod")


@pytest.mark.requirement("R4.2")
def test_a_flow_that_nobody_has_is_refused(tree: Path) -> None:
    """An image registers flows of packages/flows, from its sources."""
    (tree / "packages/flows/src").mkdir(parents=True)
    (tree / "packages/flows/pyproject.toml").write_text(
        '[project]\nname = "rpa-flows"\nversion = "1"\nentry-points."rpa.flows".rpa1 = "pkg.main:FLOW"\n'
    )
    swap(tree, "flows = []", 'flows = ["rpa9"]')
    with pytest.raises(ToolError, match=r'images\.app\.flows: .* has no flow "rpa9"; did you mean "rpa1"'):
        declare.load(tree, environment="production")
    swap(tree, '["rpa9"]', '["rpa1"]')
    with pytest.raises(ToolError, match="needs one tree with source packages/flows/src"):
        declare.load(tree, environment="production")


@pytest.mark.requirement("R4.1", "R4.2")
@pytest.mark.parametrize("environment", ["development", "production"])
def test_the_workspaces_own_images_are_declared(environment: str) -> None:
    """A base, and each flow on it with nothing of its own to install."""
    images = declare.load(ROOT, environment=environment).images
    assert list(images) == ["rpa-base", "rpa-flow1", "rpa-flow2", "rpa-flow3"]
    for number in (1, 2, 3):
        flow = images[f"rpa-flow{number}"]
        assert (flow.parents, dict(flow.locks), flow.flows) == (("rpa-base",), {}, (f"rpa{number}",))
