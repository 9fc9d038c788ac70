"""What this machine needs to reach its registries, as BuildKit secrets: there while a step runs, in no layer.

A network that inspects TLS has a certificate authority of its own, an index or mirror of one's own may need a password,
and neither has any business in an image. Dockerfiles mount what they need and do without where it is not given:

    ca_bundle    certificates, PEM; only where this machine trusts others than Debian does
    pip_config   a pip.conf: index addresses, trusted hosts, proxy, timeouts; only where some are set
    apt_config   an apt.conf: proxies, and ca_bundle for https mirrors; only where there is either
"""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from ci.errors import ToolError
from ci.workspace import ROOT

PLACE = ".rpa/build-secrets"
_BUNDLE_VARIABLES = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE")
_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
_DEBIAN_CERTIFICATES = "/usr/share/ca-certificates/mozilla"
_PIP_KEYS = ("index-url", "extra-index-url", "find-links", "trusted-host", "proxy", "timeout", "retries")
_PIP_PLACES = ("index-url", "extra-index-url", "find-links")  # a container sees none of this machine's folders
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


def build_secrets(root: Path = ROOT) -> dict[str, Path]:
    """Secret id -> file, for those that this machine has; the files are written anew, for this account alone."""
    bundle = ca_bundle()
    wanted = {"ca_bundle": bundle, "pip_config": pip_config(), "apt_config": apt_config(bundle=bundle is not None)}
    folder = root / PLACE
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    given = {}
    for name, content in wanted.items():
        path = folder / name
        if content is None:
            path.unlink(missing_ok=True)
            continue
        _write(path, content)
        given[name] = path
    return given


def proxy_arguments(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The proxy variables that are set, as build arguments: BuildKit knows them and leaves them out of the history."""
    names = [*_PROXIES, *(name.lower() for name in _PROXIES)]
    return {name: environment[name] for name in names if environment.get(name)}


def ca_bundle(
    environment: Mapping[str, str] = os.environ,
    *,
    bundles: Iterable[str] = _BUNDLES,
    debian: str = _DEBIAN_CERTIFICATES,
) -> str | None:
    """The certificates that programs on this machine are told to trust, or None where they are Debian's own."""
    named = next((environment[name] for name in _BUNDLE_VARIABLES if environment.get(name)), None)
    path = Path(named) if named else next((Path(one) for one in bundles if Path(one).is_file()), None)
    if path is None:
        return None
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ToolError(f"The CA bundle {path} cannot be read ({error.strerror}); correct the variable") from error
    known: set[str] = set()
    for certificate in Path(debian).glob("*.crt"):
        known |= certificates(certificate.read_text(encoding="utf-8", errors="replace"))
    return text if certificates(text) - known else None


def certificates(text: str) -> set[str]:
    """The certificates of a PEM text, each as its base64 without line ends."""
    found = re.findall(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", text, flags=re.DOTALL)
    return {re.sub(r"\s", "", one) for one in found}


def pip_config(environment: Mapping[str, str] = os.environ, *, files: Iterable[Path] | None = None) -> str | None:
    """A pip.conf of what is set here and holds in a container too, or None; the environment wins over files."""
    options: dict[str, str] = {}
    for path in _pip_files(environment) if files is None else files:
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except configparser.Error as error:
            raise ToolError(f"{path} is not a pip configuration: {str(error).splitlines()[0]}") from error
        for section in ("global", "download", "install"):
            if parser.has_section(section):
                options.update(_canonical(parser.items(section)))
    options.update(
        _canonical((name[4:], value) for name, value in environment.items() if name.startswith("PIP_") and value)
    )
    lines = []
    for key in _PIP_KEYS:
        words = options.get(key, "").split()
        if key in _PIP_PLACES:
            words = [word for word in words if word.startswith(("http://", "https://"))]
        if words:
            lines.append(
                f"{key} =" + ("".join(f"\n    {word}" for word in words) if len(words) > 1 else f" {words[0]}")
            )
    return "\n".join(["[global]", *lines, ""]) if lines else None


def _canonical(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    named = {name.lower().replace("_", "-").removeprefix("default-"): value for name, value in pairs}
    return {name: value for name, value in named.items() if name in _PIP_KEYS}


def _pip_files(environment: Mapping[str, str]) -> list[Path]:
    """Where pip looks, the weakest first."""
    home = Path(environment.get("HOME") or "~").expanduser()
    ours = Path(environment.get("XDG_CONFIG_HOME") or home / ".config")
    extra = environment.get("PIP_CONFIG_FILE")
    if extra == os.devnull:
        return []
    return [
        Path("/etc/xdg/pip/pip.conf"),
        Path("/etc/pip.conf"),
        home / ".pip" / "pip.conf",
        ours / "pip" / "pip.conf",
        Path(sys.prefix) / "pip.conf",
        *([Path(extra)] if extra else []),
    ]


def apt_config(*, bundle: bool, dump: str | None = None) -> str | None:
    """An apt.conf with this machine's proxies and, with `bundle`, the mounted certificates; None where neither is."""
    text = _apt_dump() if dump is None else dump
    lines = [line for line in text.splitlines() if re.match(r'Acquire::https?::Proxy(::\S+)? "[^"]+";', line)]
    if bundle:
        lines.append('Acquire::https::CaInfo "/run/secrets/ca_bundle";')
    return "\n".join([*lines, ""]) if lines else None


def _apt_dump() -> str:
    try:
        return subprocess.run(["apt-config", "dump"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""  # no apt here: then no proxy of its own


def _write(path: Path, content: str) -> None:
    """At once or not at all: two builds may do this at the same time."""
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(content)
    partial.replace(path)
