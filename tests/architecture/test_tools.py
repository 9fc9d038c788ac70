"""The rooms of ci/, and the arrows between them."""

from __future__ import annotations

import pytest
from ci.sources import imports, where
from ci.workspace import ROOT

# A room may import those named here, itself, and the single modules of ci/.
ARROWS: dict[str, set[str]] = {
    "engine": set(),
    "bootstrap": {"engine"},
    "images": set(),
    "stack": {"images"},
    "develop": {"images", "stack"},
}


@pytest.mark.requirement("D2")
def test_rooms_of_the_tools_import_one_way() -> None:
    """engine <- bootstrap, images <- stack <- develop; none imports what it builds."""
    wrong = []
    for room, allowed in ARROWS.items():
        for path in sorted((ROOT / "ci" / room).rglob("*.py")):
            for name, line in imports(path):
                top, _, rest = name.partition(".")
                other = rest.partition(".")[0]
                if top.startswith("rpa_") or (top == "ci" and other in ARROWS.keys() - allowed - {room}):
                    wrong.append(f"{where(path, line)} imports {name}")
    assert not wrong, wrong


@pytest.mark.requirement("D2")
def test_every_room_is_named() -> None:
    """A new folder gets its arrows."""
    assert {path.name for path in (ROOT / "ci").iterdir() if (path / "__init__.py").exists()} == set(ARROWS)
