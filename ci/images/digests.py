"""The one hash of everything: BLAKE2b, short for contents, long for keys."""

from __future__ import annotations

import hashlib

FORMAT = "1"  # of manifests; another number is another key for every image


def of_bytes(data: bytes) -> str:
    """The digest of a file's content: 40 hex digits."""
    return hashlib.blake2b(data, digest_size=20).hexdigest()


def of_link(target: str) -> str:
    """The digest of a symbolic link: never that of a file, whatever the file holds."""
    return hashlib.blake2b(target.encode(), digest_size=20, person=b"link").hexdigest()


def of_manifest(canonical: str) -> str:
    """An image's key: 64 hex digits of its manifest's canonical JSON."""
    return hashlib.blake2b(canonical.encode(), digest_size=32, person=b"image key").hexdigest()
