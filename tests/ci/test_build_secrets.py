"""What of this machine reaches a build, and what does not."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from ci import build_secrets as secrets
from ci.build_secrets import apt_config, build_secrets, ca_bundle, certificates, pip_config, proxy_arguments
from ci.errors import ToolError


def pem(content: str, width: int = 4) -> str:
    lines = [content[at : at + width] for at in range(0, len(content), width)]
    return "\n".join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""])


@pytest.fixture
def debian(tmp_path: Path) -> Path:
    folder = tmp_path / "debian"
    folder.mkdir()
    (folder / "a.crt").write_text(pem("AAAABBBB"))
    (folder / "b.crt").write_text(pem("CCCCDDDD"))
    return folder


@pytest.mark.requirement("R7.2")
def test_debians_own_certificates_are_no_secret(debian: Path, tmp_path: Path) -> None:
    """A bundle of Debian's certificates is not passed, however it is wrapped; one with another certificate is."""
    bundle = tmp_path / "bundle.crt"
    bundle.write_text(pem("CCCCDDDD", width=8) + pem("AAAABBBB"))
    assert ca_bundle({}, bundles=[str(bundle)], debian=str(debian)) is None
    bundle.write_text(bundle.read_text() + pem("EEEE"))
    assert ca_bundle({}, bundles=[str(bundle)], debian=str(debian)) == bundle.read_text()
    assert certificates(bundle.read_text()) == {"AAAABBBB", "CCCCDDDD", "EEEE"}


@pytest.mark.requirement("R7.2")
def test_a_bundle_that_a_variable_names_comes_first(debian: Path, tmp_path: Path) -> None:
    """pip's own variable before the general ones; a name that leads nowhere is an error, not silence."""
    (tmp_path / "pip").write_text(pem("PPPP"))
    (tmp_path / "ssl").write_text(pem("SSSS"))
    named = {"SSL_CERT_FILE": str(tmp_path / "ssl"), "PIP_CERT": str(tmp_path / "pip")}
    assert ca_bundle(named, debian=str(debian)) == pem("PPPP")
    with pytest.raises(ToolError, match=r"nowhere cannot be read"):
        ca_bundle({"SSL_CERT_FILE": str(tmp_path / "nowhere")}, debian=str(debian))
    assert ca_bundle({}, bundles=[str(tmp_path / "nowhere")], debian=str(debian)) is None


@pytest.mark.requirement("R7.2")
def test_pip_settings_are_those_that_hold_in_a_container(tmp_path: Path) -> None:
    """Addresses, hosts and timeouts pass; folders of this machine and its certificate's path do not."""
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://user:word@index.example/simple\ncert = /etc/ca\ntimeout = 10\n"
        "find-links = /srv/wheels\n    https://links.example/\n[install]\nextra_index_url = file:///srv/simple\n"
    )
    environment = {"PIP_DEFAULT_TIMEOUT": "90", "PIP_TRUSTED_HOST": "a.example b.example", "PIP_NO_INDEX": ""}
    assert pip_config(environment, files=[tmp_path / "pip.conf"]) == (
        "[global]\n"
        "index-url = https://user:word@index.example/simple\n"
        "find-links = https://links.example/\n"
        "trusted-host =\n    a.example\n    b.example\n"
        "timeout = 90\n"
    )


@pytest.mark.requirement("R7.2")
def test_without_settings_there_is_no_pip_configuration(tmp_path: Path) -> None:
    """No file, an empty one, or only what stays on this machine: no secret. A broken one is named."""
    assert pip_config({}, files=[tmp_path / "absent"]) is None
    assert pip_config({"PIP_FIND_LINKS": "/srv/wheels", "PIP_CERT": "/x"}, files=[]) is None
    (tmp_path / "pip.conf").write_text("no section\n")
    with pytest.raises(ToolError, match=r"pip\.conf is not a pip configuration"):
        pip_config({}, files=[tmp_path / "pip.conf"])


@pytest.mark.requirement("R7.2")
def test_pip_configurations_are_found_where_pip_looks(tmp_path: Path) -> None:
    """The user's file counts, and the one that PIP_CONFIG_FILE names wins; the null device switches files off."""
    home = tmp_path / "home"
    (home / ".config/pip").mkdir(parents=True)
    (home / ".config/pip/pip.conf").write_text("[global]\nindex-url = https://home.example/\n")
    found = pip_config({"HOME": str(home)})
    assert found is not None
    assert "https://home.example/" in found
    (tmp_path / "named").write_text("[global]\nindex-url = https://named.example/\n")
    found = pip_config({"HOME": str(home), "PIP_CONFIG_FILE": str(tmp_path / "named")})
    assert found is not None
    assert "https://named.example/" in found
    assert pip_config({"HOME": str(home), "PIP_CONFIG_FILE": "/dev/null"}) is None


@pytest.mark.requirement("R7.2")
def test_apt_learns_proxies_and_certificates_and_nothing_else() -> None:
    """Proxies of the machine's apt pass, for all hosts or one; with a bundle, https mirrors are checked against it."""
    dump = (
        'APT::Architecture "amd64";\nAcquire::http::Proxy "http://proxy.example:3128";\nAcquire::https::Proxy "";\n'
        'Acquire::http::Proxy::mirror.example "DIRECT";\nAcquire::http::Proxy-Auto-Detect "/usr/bin/x";\n'
    )
    assert apt_config(bundle=False, dump=dump) == (
        'Acquire::http::Proxy "http://proxy.example:3128";\nAcquire::http::Proxy::mirror.example "DIRECT";\n'
    )
    assert apt_config(bundle=True, dump="") == 'Acquire::https::CaInfo "/run/secrets/ca_bundle";\n'
    assert apt_config(bundle=False, dump="") is None


@pytest.mark.requirement("R7.2")
def test_the_files_are_for_this_account_and_go_when_their_reason_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else reads them; a setting that was taken back leaves no file behind."""
    monkeypatch.setattr(secrets, "ca_bundle", lambda: pem("EEEE"))
    monkeypatch.setattr(secrets, "pip_config", lambda: "[global]\n")
    monkeypatch.setattr(secrets, "apt_config", lambda *, bundle: "// apt\n" if bundle else None)
    given = build_secrets(tmp_path)
    assert {name: path.read_text() for name, path in given.items()} == {
        "ca_bundle": pem("EEEE"),
        "pip_config": "[global]\n",
        "apt_config": "// apt\n",
    }
    assert {stat.S_IMODE(path.stat().st_mode) for path in given.values()} == {0o600}
    monkeypatch.setattr(secrets, "ca_bundle", lambda: None)
    again = build_secrets(tmp_path)
    assert set(again) == {"pip_config"}
    assert [path.name for path in (tmp_path / secrets.PLACE).iterdir()] == ["pip_config"]


@pytest.mark.requirement("R7.2")
def test_proxy_variables_become_build_arguments() -> None:
    """Both spellings, and only those that are set."""
    given = {"HTTPS_PROXY": "http://p.example", "no_proxy": "a", "http_proxy": "", "PATH": "/bin"}
    assert proxy_arguments(given) == {"HTTPS_PROXY": "http://p.example", "no_proxy": "a"}
