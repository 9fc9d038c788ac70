"""What of the machine that made an image stays in it: its Debian mirror and nothing else."""

from __future__ import annotations

import gzip
import re
import subprocess
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from ci import docker
from ci.bootstrap.images import LABEL, SERVICES, keys
from ci.bootstrap.make import bake, bake_file
from ci.build_secrets import build_secrets
from ci.workspace import ROOT

DEBIAN_CERTIFICATES = Path("/usr/share/ca-certificates/mozilla")
PREFECT = next(service for service in SERVICES if service.name == "prefect")


def blobs(reference: str) -> Iterator[tuple[str, bytes]]:
    """Everything that the image consists of, its configuration and history included, decompressed."""
    with subprocess.Popen(["docker", "save", reference], stdout=subprocess.PIPE) as saving:
        assert saving.stdout is not None
        with tarfile.open(fileobj=saving.stdout, mode="r|") as archive:
            for member in archive:
                if (file := archive.extractfile(member)) is not None:
                    content = file.read()
                    yield member.name, gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    assert saving.returncode == 0


def lines_of_certificates(text: str) -> set[bytes]:
    """One whole line from the middle of each certificate: as telling as the certificate, and found as a string."""
    found = re.findall(r"-----BEGIN CERTIFICATE-----\s(.*?)\s-----END CERTIFICATE-----", text, flags=re.DOTALL)
    return {lines[len(lines) // 2].strip().encode() for one in found if len(lines := one.splitlines()) > 2}


def of_this_machine(secrets: dict[str, Path]) -> set[bytes]:
    """What must not be found: certificates that Debian does not have, index addresses, proxies."""
    needles = set()
    if "ca_bundle" in secrets:
        debian = {
            line for file in DEBIAN_CERTIFICATES.glob("*.crt") for line in lines_of_certificates(file.read_text())
        }
        needles |= lines_of_certificates(secrets["ca_bundle"].read_text()) - debian
    for name in ("pip_config", "apt_config"):
        if name in secrets:
            needles |= {word.encode() for word in re.findall(r"\w+://[^\s\"]+", secrets[name].read_text())}
    return needles


def found(reference: str, needles: set[bytes]) -> list[str]:
    return [f"{needle!r} in {name}" for name, blob in blobs(reference) for needle in sorted(needles) if needle in blob]


@pytest.mark.slow
@pytest.mark.requirement("R7.2")
def test_the_images_that_were_made_here_hold_nothing_of_this_machines_trust(engine: str) -> None:
    """No certificate that is the machine's own, no index address and no proxy, in any layer, label or history."""
    needles = of_this_machine(build_secrets(ROOT)) | {b'/run/secrets/ca_bundle";'}
    tags = {tag: image for image in docker.images() for tag in image.tags}
    made = [one.reference for one in SERVICES if one.reference in tags and LABEL in tags[one.reference].labels]
    if not made:
        pytest.skip("no image was made here: invoke build.bootstrap")
    problems = [f"{reference}: {problem}" for reference in made for problem in found(reference, needles)]
    assert problems == []


@pytest.mark.slow
@pytest.mark.requirement("R7.2")
def test_what_a_build_is_given_as_secrets_is_in_none_of_its_layers(engine: str, tmp_path: Path) -> None:
    """Prefect's image, made anew with marked secrets: the marks are nowhere, and no mounted file leaves a trace."""
    mark = f"mark-{uuid.uuid4().hex}"
    given = build_secrets(ROOT)
    secrets = {}
    for name, comment in (("ca_bundle", "#"), ("pip_config", "#"), ("apt_config", "//")):
        secrets[name] = tmp_path / name
        content = given[name].read_text() if name in given else ""
        secrets[name].write_text(f"{content}{comment} {mark}\n")
    if "ca_bundle" not in given:  # a bundle that is given is the one that is used
        secrets["ca_bundle"].unlink()
        del secrets["ca_bundle"]
    prefix = f"test-{uuid.uuid4().hex[:8]}/"
    reference = prefix + PREFECT.reference
    try:
        bake(bake_file([PREFECT], keys(), root=ROOT, secrets=secrets, prefix=prefix), no_cache=True)
        assert found(reference, {mark.encode()}) == []
        assert b"3.8.8" in b"".join(content for name, content in blobs(reference) if len(content) < 100_000)
        script = "! find /run/secrets /etc/apt/apt.conf.d/99build-secret 2>/dev/null | grep ."
        docker.run("run", "--rm", "--entrypoint", "bash", reference, "-c", script)
    finally:
        docker.run("image", "rm", "--force", reference, check=False)
