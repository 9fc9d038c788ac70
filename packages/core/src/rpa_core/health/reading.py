"""An upload on its way in: bytes unpacked, bounded and digested; items as records, bad lines noted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO

from rpa_core.formats.formats import read
from rpa_core.formats.gzipped import decompressed
from rpa_core.formats.items import BadLine, Item
from rpa_core.health.intake_api import BadLines, BodyTooLarge, Upload
from rpa_core.resilience.spool.model import SpoolFull
from rpa_core.store.intake import NewRecord

_SHOWN = 100
_IN_MEMORY_BYTES = 1024 * 1024


class Stopped(Exception):
    """A bad line has come: nothing more is loaded."""


class Reading:
    """One upload, read once from front to back. `n` counts the records so far.

    What has passed is remembered, so that an upload that could not be loaded can be kept as a whole, for as long as
    `remember` says yes to its size in bytes; once it says no, all is forgotten. More than 1 MiB of it goes into an
    unnamed file in `folder`. `committing` says that it is unknown whether it was committed. Reading raises SpoolFull
    where the disk has no room for what is remembered. Closed by `forget`.
    """

    def __init__(
        self,
        upload: Upload,
        *,
        max_body_bytes: int,
        max_line_bytes: int,
        remember: Callable[[int], bool] = lambda _: False,
        folder: Path | None = None,
    ) -> None:
        self.upload = upload
        self.remember = remember
        self.committing = False
        self.n = 0
        self.bad_count = 0
        self._bad: list[BadLine] = []
        self._max_body_bytes = max_body_bytes
        self._sha = hashlib.sha256()
        self._size_bytes = 0
        self._folder = folder
        self._remembers = True
        self._kept: IO[bytes] | None = None
        self._chunks = self._pass(decompressed(upload.body, required=upload.gzip))
        self._items: Iterator[Item] = read(
            self._chunks,
            upload.form,
            key_field=upload.key_field,
            max_line_bytes=max_line_bytes,
            encoding=upload.encoding,
            header=upload.header,
        )
        prefixed = upload.idempotency_key is not None and not upload.key_field and not upload.own_key
        self._key_prefix = f"{upload.idempotency_key}:" if prefixed else None

    @property
    def size_bytes(self) -> int:
        """Unpacked bytes so far."""
        return self._size_bytes

    @property
    def remembers(self) -> bool:
        """Whether all bytes so far are remembered."""
        return self._remembers

    def kept(self) -> IO[bytes]:
        """The bytes that are remembered, as a file, all of them written. Raises SpoolFull."""
        with _disk():
            file = self._file()
            file.flush()
            return file

    def forget(self) -> None:
        """Remember no more of it."""
        self._remembers = False
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def wait_for_first(self) -> None:
        """Block until the first item, or the end, has come."""
        first = next(self._items, None)
        if first is not None:
            self._items = chain((first,), self._items)

    def records(self) -> Iterator[NewRecord]:
        """The records from here on; raises Stopped at the first bad line."""
        for item in self._items:
            if isinstance(item, BadLine):
                self._note(item)
                raise Stopped
            self.n += 1
            yield NewRecord(item.payload, f"{self._key_prefix}{item.line}" if self._key_prefix else item.key)

    def read_on(self) -> BadLines:
        """Look what else is wrong, to the end; returns what to answer."""
        for item in self._items:
            if isinstance(item, BadLine):
                self._note(item)
        return BadLines(tuple(self._bad), self.bad_count)

    def skip(self) -> None:
        """Read the rest for its digest alone."""
        for _ in self._chunks:
            pass

    def digest(self) -> bytes:
        """What makes two requests the same: the body, and how it is to be read."""
        upload = self.upload
        how = "\0".join((upload.form, upload.encoding, upload.key_field or "", *([] if upload.header else ["absent"])))
        return hashlib.sha256(self._sha.digest() + how.encode()).digest()

    def _pass(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self._size_bytes += len(chunk)
            if self._size_bytes > self._max_body_bytes:
                raise BodyTooLarge(
                    f"the body has more than {self._max_body_bytes} bytes unpacked; nothing was loaded. "
                    "Send it in parts"
                )
            self._sha.update(chunk)
            if self._remembers:
                if self.remember(self._size_bytes):
                    with _disk():
                        self._file().write(chunk)
                else:
                    self.forget()
            yield chunk

    def _file(self) -> IO[bytes]:
        if self._kept is None:
            folder = str(self._folder) if self._folder is not None else None
            self._kept = SpooledTemporaryFile(_IN_MEMORY_BYTES, dir=folder)  # noqa: SIM115 - closed by forget
        return self._kept

    def _note(self, bad: BadLine) -> None:
        self.bad_count += 1
        if len(self._bad) < _SHOWN:
            self._bad.append(bad)


@contextmanager
def _disk() -> Iterator[None]:
    """Around writing what is remembered."""
    try:
        yield
    except OSError as error:
        raise SpoolFull(f"the disk of the spool takes no more of this upload: {error.strerror}") from error
