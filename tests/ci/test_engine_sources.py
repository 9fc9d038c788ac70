"""Another release's sources, derived from the machine's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from ci.engine.sources import KEYRING, Source, derive, inside, parse_lines, parse_stanzas, read, render
from ci.errors import ToolError

STANZAS = """\
# A comment.
Types: deb deb-src
# URIs: http://old.example/debian
URIs: http://mirror.example/debian http://second.example/debian
Suites: bookworm bookworm-updates bookworm-backports
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
Check-Valid-Until: no

Types: deb
URIs: https://mirror.example/security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: https://vendor.example/apt
Suites: bookworm
Components: main
Signed-By: /etc/apt/keyrings/vendor.gpg

Types: deb
URIs: http://switched.example/debian
Suites: bookworm
Components: main
Enabled: no

Types: deb-src
URIs: http://sources.example/debian
Suites: bookworm
Components: main
"""


def uris(sources: list[Source]) -> list[str]:
    return [uri for source in sources for uri in source.uris]


@pytest.mark.requirement("R5.7")
def test_stanzas_of_the_release_and_its_parts_are_renamed() -> None:
    """Release, updates and security become the other release's; backports, other vendors and sources do not follow."""
    found = derive(parse_stanzas(STANZAS), codename="bookworm", suite="trixie")
    assert uris(found) == [
        "http://mirror.example/debian",
        "http://second.example/debian",
        "https://mirror.example/security",
    ]
    assert [source.suites for source in found] == [("trixie", "trixie-updates"), ("trixie-security",)]
    assert {source.components for source in found} == {("main",)}


@pytest.mark.requirement("R5.7")
def test_one_line_sources_say_the_same() -> None:
    """The older format gives the same, options and all."""
    text = """\
# deb http://commented.example/debian bookworm main
deb [ arch=amd64 signed-by=/keys/debian-archive-keyring.gpg trusted=yes ] http://a.example/debian bookworm main x # why
deb http://a.example/debian bookworm-updates main
deb http://a.example/security bookworm/updates main
deb-src http://a.example/debian bookworm main
deb cdrom:[disc]/ bookworm main
deb http://flat.example/apt ./
"""
    found = derive(parse_lines(text), codename="bookworm", suite="trixie")
    assert [(source.uris, source.suites) for source in found] == [
        (("http://a.example/debian",), ("trixie",)),
        (("http://a.example/debian",), ("trixie-updates",)),
        (("http://a.example/security",), ("trixie-security",)),
    ]
    assert found[0].signed_by == "/keys/debian-archive-keyring.gpg"
    assert found[0].options == (("Trusted", "yes"),)


@pytest.mark.requirement("R5.7")
def test_a_release_named_by_its_rank_is_understood() -> None:
    """`stable-security` is the machine's release too."""
    found = derive(parse_lines("deb http://a.example/d stable-security main\n"), codename="bookworm", suite="trixie")
    assert found[0].suites == ("trixie-security",)


@pytest.mark.requirement("R5.7")
def test_what_is_written_reads_back() -> None:
    """A rendered file holds exactly the sources it was made from."""
    found = derive(parse_stanzas(STANZAS), codename="bookworm", suite="trixie")
    assert parse_stanzas(render(found)) == found


@pytest.mark.requirement("R5.7")
def test_inside_an_image_the_keyring_is_the_one_it_has() -> None:
    """A keyring's place on this machine says nothing about the image."""
    source = Source(
        uris=("u",), suites=("s",), components=("main",), signed_by="/etc/apt/keyrings/debian-archive-12.gpg"
    )
    assert [one.signed_by for one in inside([source])] == [KEYRING]


@pytest.mark.requirement("R5.7")
def test_every_file_of_apt_is_read(tmp_path: Path) -> None:
    """Both formats, the old main file included; what apt itself ignores is ignored."""
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    (tmp_path / "sources.list").write_text("deb http://main.example/d bookworm main\n")
    (parts / "b.list").write_text("deb http://list.example/d bookworm main\n")
    (parts / "a.sources").write_text(STANZAS)
    (parts / "c.sources.disabled").write_text(STANZAS.replace("mirror", "disabled"))
    found = uris(read(tmp_path))
    assert found[:2] == ["http://main.example/d", "http://list.example/d"]
    assert "http://mirror.example/debian" in found
    assert not [uri for uri in found if "disabled" in uri]


@pytest.mark.requirement("R5.7")
@pytest.mark.parametrize(
    "text", ["", "deb http://a.example/ubuntu noble main\n", "deb http://a.example/d bookworm contrib\n"]
)
def test_a_machine_without_debian_sources_is_told_so(text: str) -> None:
    """Nothing usable: the message names the release that is missing and the keyring."""
    with pytest.raises(ToolError, match=f"bookworm.*{KEYRING}"):
        derive(parse_lines(text), codename="bookworm", suite="trixie")
