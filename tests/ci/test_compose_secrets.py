"""Passwords, tokens and certificates: made once, readable to containers, closed to other accounts."""

from __future__ import annotations

import multiprocessing
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from ci.errors import ToolError
from ci.stack import secrets

pytest.importorskip("cryptography")
NOW = datetime.now(UTC)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.requirement("R7.2")
def test_what_is_missing_is_made_and_never_again(tmp_path: Path) -> None:
    """A second run changes nothing; one file that was lost comes back with another content."""
    made = secrets.ensure(tmp_path / "secrets")
    assert sorted(made) == sorted([*secrets.WORDS, "ca.key", "ca.crt", "server.key", "server.crt"])
    first = contents(tmp_path / "secrets")
    assert set(first) == set(made)
    assert len({first[name] for name in secrets.WORDS}) == len(secrets.WORDS)
    assert all(len(first[name]) >= 40 for name in secrets.WORDS)
    assert secrets.ensure(tmp_path / "secrets") == []
    assert contents(tmp_path / "secrets") == first
    (tmp_path / "secrets" / "intake_token").unlink()
    assert secrets.ensure(tmp_path / "secrets") == ["intake_token"]
    assert contents(tmp_path / "secrets")["intake_token"] != first["intake_token"]


@pytest.mark.requirement("R7.2")
def test_modes(tmp_path: Path) -> None:
    """The folder is closed to others, the files in it are open to the containers' users, the CA's key to nobody."""
    folder = tmp_path / "secrets"
    folder.mkdir(mode=0o777)
    secrets.ensure(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes.pop("ca.key") == 0o400
    assert set(modes.values()) == {0o444}


@pytest.mark.requirement("R7.2")
def test_two_runs_at_once_agree(tmp_path: Path) -> None:
    """Whoever comes second keeps what the first has written."""
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        made = pool.starmap(secrets.write, [(tmp_path / "word", f"{n}".encode(), 0o444) for n in range(8)])
    assert made.count(True) == 1
    assert (tmp_path / "word").read_text() == str(made.index(True))
    assert [path.name for path in tmp_path.iterdir()] == ["word"]


@pytest.mark.requirement("R7.3")
def test_the_server_certificate_is_the_cas(tmp_path: Path) -> None:
    """A client that trusts ca.crt accepts server.crt for `postgres`, and for no other name."""
    from cryptography import x509
    from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

    secrets.ensure(tmp_path)
    ca, server = (x509.load_pem_x509_certificate((tmp_path / f"{name}.crt").read_bytes()) for name in ("ca", "server"))

    def verify(name: str) -> None:
        policy = PolicyBuilder().store(Store([ca])).time(NOW)
        policy.build_server_verifier(x509.DNSName(name)).verify(server, [])

    verify("postgres")
    with pytest.raises(VerificationError):
        verify("elsewhere")
    assert secrets.warnings(tmp_path) == []


@pytest.mark.requirement("R7.3")
@pytest.mark.parametrize(("days", "name"), [(830, "server.crt"), (3660, "ca.crt")])
def test_certificates_that_run_out_are_named(tmp_path: Path, days: int, name: str) -> None:
    """A month before, a warning; afterwards an error. Both say which file, when, and what to do."""
    secrets.ensure(tmp_path, now=NOW)
    with pytest.raises(ToolError, match=rf"{name} ran out on .*: delete {name}.*invoke compose.up"):
        secrets.warnings(tmp_path, now=NOW + timedelta(days=days))
    if name == "server.crt":
        (warning,) = secrets.warnings(tmp_path, now=NOW + timedelta(days=810))
        assert "server.crt runs out on" in warning
        (tmp_path / "server.crt").unlink()
        (tmp_path / "server.key").unlink()
        assert secrets.ensure(tmp_path, now=NOW + timedelta(days=810)) == ["server.key", "server.crt"]
        assert secrets.warnings(tmp_path, now=NOW + timedelta(days=810)) == []


@pytest.mark.requirement("R7.3")
@pytest.mark.parametrize("lost", ["ca.crt", "ca.key", "server.crt", "server.key"])
def test_half_a_pair_is_refused(tmp_path: Path, lost: str) -> None:
    """A key without its certificate is not silently replaced."""
    secrets.ensure(tmp_path)
    (tmp_path / lost).unlink()
    with pytest.raises(ToolError, match="the other half"):
        secrets.ensure(tmp_path)


@pytest.mark.requirement("R7.3")
def test_a_new_ca_does_not_leave_an_old_server_behind(tmp_path: Path) -> None:
    """A server certificate that nobody would trust is named."""
    secrets.ensure(tmp_path)
    (tmp_path / "ca.crt").unlink()
    (tmp_path / "ca.key").unlink()
    with pytest.raises(ToolError, match=r"server\.crt without the CA"):
        secrets.ensure(tmp_path)


@pytest.mark.requirement("R7.3")
def test_a_file_that_is_no_certificate_is_named(tmp_path: Path) -> None:
    """Not a traceback of the library."""
    secrets.ensure(tmp_path)
    (tmp_path / "server.crt").unlink()
    (tmp_path / "server.crt").write_text("nothing")
    with pytest.raises(ToolError, match=r"server\.crt is no certificate"):
        secrets.warnings(tmp_path)
