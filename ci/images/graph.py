"""The images, what they stand on and how much goes in: as a tree, as Mermaid, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping

from ci.errors import ToolError
from ci.images.model import Contents
from ci.images.reading import nearest

FORMATS = ("text", "mermaid", "json")


def draw(contents: Mapping[str, Contents], form: str = "text") -> str:
    """One of FORMATS."""
    if form not in FORMATS:
        raise ToolError(f'there is no format "{form}"{nearest(form, FORMATS)}')
    return {"text": _text, "mermaid": _mermaid, "json": _json}[form](contents)


def _files(one: Contents) -> str:
    count = len(one.entries)
    return f"{count} file{'s' if count != 1 else ''}"


def _text(contents: Mapping[str, Contents]) -> str:
    lines = list[str]()
    references = dict.fromkeys(reference for one in contents.values() for reference in one.image.bases.values())
    for reference in references:
        lines.append(reference)
        roots = [name for name, one in contents.items() if reference in one.image.bases.values()]
        lines += _below(contents, roots, "")
    loose = [name for name, one in contents.items() if not one.image.bases and not one.image.parents]
    return "\n".join([*lines, *_below(contents, loose, "")])


def _below(contents: Mapping[str, Contents], names: list[str], indent: str) -> list[str]:
    lines = list[str]()
    for name in names:
        last = name == names[-1]
        one = contents[name]
        lines.append(f"{indent}{'└── ' if last else '├── '}{name}  {_files(one)}, {one.image.title}")
        children = [child for child, other in contents.items() if name in other.image.parents]
        lines += _below(contents, children, indent + ("    " if last else "│   "))
    return lines


def _mermaid(contents: Mapping[str, Contents]) -> str:
    ids = {name: f"image{number}" for number, name in enumerate(contents)}
    references = dict.fromkeys(reference for one in contents.values() for reference in one.image.bases.values())
    bases = {reference: f"base{number}" for number, reference in enumerate(references)}
    lines = ["flowchart TD"]
    lines += [f'    {bases[reference]}(["{reference}"])' for reference in references]
    lines += [f'    {ids[name]}["{name}<br/>{_files(one)}"]' for name, one in contents.items()]
    for name, one in contents.items():
        lines += [f"    {bases[reference]} --> {ids[name]}" for reference in one.image.bases.values()]
        lines += [f"    {ids[parent]} --> {ids[name]}" for parent in one.image.parents]
    return "\n".join(lines)


def _json(contents: Mapping[str, Contents]) -> str:
    images = [
        {
            "image": name,
            "title": one.image.title,
            "environment": one.image.environment,
            "parents": list(one.image.parents),
            "bases": dict(one.image.bases),
            "flows": list(one.image.flows),
            "files": len(one.entries),
            "packages": sum(given.startswith("lock:") for given in one.manifest),
        }
        for name, one in contents.items()
    ]
    return json.dumps({"images": images}, indent=1)
