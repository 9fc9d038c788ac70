"""Passwords, tokens and certificates of the stack, as files that Compose mounts into /run/secrets.

Modes. Compose mounts a file secret as it is: owner and mode inside the container are those on this machine, and no
setting of Compose changes that. The containers run as several users (10001, 999), none of whom this machine knows, so
the files are readable to all (0444). They lie in a folder that only its owner may enter (0700): another account of this
machine gets no further than the folder, while the engine, which is root, mounts the single file past it. A container
sees only the secrets that compose.yml lists for it. The CA's private key is for this machine alone (0400).

Nothing that exists is ever written again: PostgreSQL knows its passwords from the first start on.
"""

from __future__ import annotations

import contextlib
import os
import secrets as random
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ci.errors import ToolError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate, CertificateBuilder

WORDS = (
    "postgres_password",
    "database_rpa_db_password",
    "database_survey_hub_password",
    "intake_token",
    "delivery_token",
)
SERVER_NAMES = ("postgres", "localhost")
MOUNTED, OWN = 0o444, 0o400
_WORD_BYTES = 32
_CA_DAYS = 3650
_SERVER_DAYS = 825
_WARN_DAYS = 30


def ensure(folder: Path, *, now: datetime | None = None) -> list[str]:
    """Make what is missing; answers the names of the new files. Raises ToolError for certificates that do not serve."""
    moment = now or datetime.now(UTC)
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    made = [name for name in WORDS if write(folder / name, random.token_urlsafe(_WORD_BYTES).encode(), MOUNTED)]
    return [*made, *_certificates(folder, moment)]


def warnings(folder: Path, *, now: datetime | None = None) -> list[str]:
    """Certificates that run out soon, one sentence each; one that has run out raises ToolError."""
    moment = now or datetime.now(UTC)
    found = []
    for name, anew in (
        ("ca.crt", "ca.crt, ca.key, server.crt and server.key"),
        ("server.crt", "server.crt and server.key"),
    ):
        ends = _read_certificate(folder / name).not_valid_after_utc
        how = f"delete {anew} in {folder}, then: invoke compose.up, invoke compose.restart"
        if ends <= moment:
            raise ToolError(f"{folder / name} ran out on {ends:%Y-%m-%d}, no worker will trust PostgreSQL: {how}")
        if ends - moment < timedelta(days=_WARN_DAYS):
            found.append(f"{folder / name} runs out on {ends:%Y-%m-%d}: {how}")
    return found


def _certificates(folder: Path, now: datetime) -> list[str]:
    """The CA and what it signs: each pair is made whole, and never the half of one."""
    made = []
    if _missing_pair(folder, "ca"):
        if not _missing_pair(folder, "server"):
            raise ToolError(
                f"{folder} has server.crt without the CA that signed it: delete server.crt and server.key too"
            )
        made += _make_ca(folder, now)
    if _missing_pair(folder, "server"):
        made += _make_server(folder, now)
    return made


def _missing_pair(folder: Path, name: str) -> bool:
    there = [path for path in (folder / f"{name}.crt", folder / f"{name}.key") if path.exists()]
    if len(there) == 1:
        raise ToolError(f"{there[0]} has lost the other half of its pair: bring it back, or delete this one too")
    return not there


def _make_ca(folder: Path, now: datetime) -> list[str]:
    from cryptography import x509

    key = _new_key()
    unused = {"content_commitment": False, "key_encipherment": False, "data_encipherment": False}
    unused |= {"key_agreement": False, "encipher_only": False, "decipher_only": False}
    builder = (
        _builder("rpa stack CA", "rpa stack CA", key, now, _CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=True, key_cert_sign=True, crl_sign=True, **unused), critical=True
        )
    )
    return _store(folder, "ca", key, builder, key, key_mode=OWN)


def _make_server(folder: Path, now: datetime) -> list[str]:
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509.oid import ExtendedKeyUsageOID

    ca = _read_certificate(folder / "ca.crt")
    ca_key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
    if not isinstance(ca_key, EllipticCurvePrivateKey):
        raise ToolError(f"{folder / 'ca.key'} is not the key that was made here: delete ca.* and server.* in {folder}")
    days = min(_SERVER_DAYS, max(1, (ca.not_valid_after_utc - now).days))
    key = _new_key()
    names = [x509.DNSName(name) for name in SERVER_NAMES]
    builder = (
        _builder(SERVER_NAMES[0], "rpa stack CA", key, now, days)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
    )
    return _store(folder, "server", key, builder, ca_key, key_mode=MOUNTED)


def _new_key() -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _builder(subject: str, issuer: str, key: EllipticCurvePrivateKey, now: datetime, days: int) -> CertificateBuilder:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    return (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # clocks differ
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _store(
    folder: Path,
    name: str,
    key: EllipticCurvePrivateKey,
    builder: CertificateBuilder,
    signer: EllipticCurvePrivateKey,
    *,
    key_mode: int,
) -> list[str]:
    from cryptography.hazmat.primitives import hashes, serialization

    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    write(folder / f"{name}.key", private, key_mode)
    write(folder / f"{name}.crt", public, MOUNTED)
    return [f"{name}.key", f"{name}.crt"]


def _read_certificate(path: Path) -> Certificate:
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ToolError(
            f"{path} is no certificate ({error}): delete it and its .key, then: invoke compose.up"
        ) from error


def write(path: Path, content: bytes, mode: int) -> bool:
    """Whole or not at all, and never over what is there, not even another run's of the same moment.

    False where the file was there already.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(name).chmod(mode)
        with contextlib.suppress(FileExistsError):
            os.link(name, path)
            return True
        return False
    finally:
        Path(name).unlink()
