"""Which test proves which requirement. Read from the sources: nothing is imported, nothing is run.

An id of docs/requirements.md has a test (`@pytest.mark.requirement("R1.4")`) or a line in ci/planned.txt, never both:
that list only shrinks.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ci.workspace import ROOT

_ID = re.compile(r"\b(?:[RDNQT]\d+(?:\.\d+)?|S\d+)\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """Every requirement's wording, its tests, and what is planned; ids keep the order of the document."""

    wording: dict[str, str]
    tests: dict[str, list[str]]
    planned: dict[str, str]

    def problems(self) -> list[str]:
        """What makes the check fail, one sentence each."""
        unknown = sorted(set(self.tests) - set(self.wording), key=_order)
        orphans = sorted(set(self.planned) - set(self.wording), key=_order)
        untested = [i for i in self.wording if i not in self.tests and i not in self.planned]
        done = [i for i in self.wording if i in self.tests and i in self.planned]
        return [
            *(f"{i} has no test and is not planned in ci/planned.txt: {self.wording[i]}" for i in untested),
            *(f"{i} is planned and has a test ({self.tests[i][0]}): take it off ci/planned.txt" for i in done),
            *(f"{i} is on a test ({self.tests[i][0]}) and not in docs/requirements.md" for i in unknown),
            *(f"{i} is in ci/planned.txt and not in docs/requirements.md" for i in orphans),
        ]

    def markdown(self) -> str:
        """The report for people."""
        tested = sum(i in self.tests for i in self.wording)
        lines = [
            f"# Traceability: {tested} of {len(self.wording)} requirements have tests",
            "",
            "| id | what holds | tests |",
            "|---|---|---|",
        ]
        for name, wording in self.wording.items():
            proof = (
                "<br>".join(f"`{test}`" for test in self.tests.get(name, ())) or f"planned: {self.planned.get(name)}"
            )
            lines.append(f"| {name} | {wording} | {proof} |")
        return "\n".join([*lines, ""])

    def document(self) -> dict[str, object]:
        """The report for programs."""
        return {
            "requirements": [
                {"id": i, "wording": w, "tests": self.tests.get(i, []), "planned": self.planned.get(i)}
                for i, w in self.wording.items()
            ],
            "problems": self.problems(),
        }


def read(root: Path = ROOT) -> Matrix:
    """Read the requirements, every test and the plan of the tree below `root`."""
    tests: dict[str, list[str]] = {}
    for path in sorted(root.glob("packages/*/tests/**/test_*.py")) + sorted(root.glob("tests/**/test_*.py")):
        for name, ids in marks(path.read_text(encoding="utf-8")):
            for requirement in ids:
                tests.setdefault(requirement, []).append(f"{path.relative_to(root)}::{name}")
    return Matrix(
        wording=requirements((root / "docs/requirements.md").read_text(encoding="utf-8")),
        tests=tests,
        planned=plan((root / "ci/planned.txt").read_text(encoding="utf-8")),
    )


def requirements(text: str) -> dict[str, str]:
    """The table rows that begin with an id: id -> wording. A row may hold several ids of one wording."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) >= 2 and all(map(_ID.fullmatch, cells[0].split() or [""])):
            found.update(dict.fromkeys(cells[0].split(), cells[1]))
    return found


def plan(text: str) -> dict[str, str]:
    """The lines of planned.txt: an id, then what it waits for. `#` begins a comment."""
    lines = (line.split("#")[0].split(maxsplit=1) for line in text.splitlines())
    return {line[0]: line[1].strip() if len(line) > 1 else "" for line in lines if line}


def marks(source: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every test of a module with its ids: from its decorators, its class's, and the module's `pytestmark`."""
    tree = ast.parse(source)
    yield from _marks(tree.body, prefix="", inherited=_pytestmark(tree.body))


def _marks(body: list[ast.stmt], *, prefix: str, inherited: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test"):
            ids = dict.fromkeys((*inherited, *_ids(node.decorator_list)))
            if ids:
                yield prefix + node.name, tuple(ids)
        elif isinstance(node, ast.ClassDef):
            own = (*inherited, *_ids(node.decorator_list), *_pytestmark(node.body))
            yield from _marks(node.body, prefix=f"{prefix}{node.name}::", inherited=own)


def _pytestmark(body: list[ast.stmt]) -> tuple[str, ...]:
    found: list[str] = []
    for node in body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "pytestmark" for t in node.targets):
            values = node.value.elts if isinstance(node.value, ast.List | ast.Tuple) else [node.value]
            found += _ids(values)
    return tuple(found)


def _ids(nodes: list[ast.expr]) -> list[str]:
    return [
        argument.value
        for node in nodes
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "requirement"
        for argument in node.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    ]


def _order(name: str) -> tuple[str, list[int]]:
    return name[0], [int(part) for part in name[1:].split(".") if part.isdigit()]


def main(folder: Path = ROOT / "reports/traceability") -> int:
    """Print the matrix, write it to `folder`, return 1 if anything is wrong."""
    matrix = read()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "traceability.md").write_text(matrix.markdown(), encoding="utf-8")
    (folder / "traceability.json").write_text(json.dumps(matrix.document(), indent=1) + "\n", encoding="utf-8")
    for name in matrix.wording:
        tests = matrix.tests.get(name, [])
        print(f"{name:6} {len(tests):3} tests" if tests else f"{name:6} planned: {matrix.planned.get(name, '-')}")
        for test in tests:
            print(f"           {test}")
    problems = matrix.problems()
    for problem in problems:
        print(problem, file=sys.stderr)
    tested = sum(i in matrix.tests for i in matrix.wording)
    print(f"{tested} of {len(matrix.wording)} requirements have tests, {len(matrix.planned)} are planned")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
