"""A bounded pipe of bytes from the event loop to a worker thread."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Iterator

from rpa_core.health.intake_api import UploadAborted


class ByteChannel:
    """Made on the event loop, which puts; a worker thread iterates. Holds at most `limit_bytes` and one chunk.

    It ends exactly once: by `close` (all bytes came), `abort` (they will not; `aborted` says why), or `abandon`
    (the reader left).
    """

    def __init__(self, limit_bytes: int = 256 * 1024) -> None:
        self._limit_bytes = limit_bytes
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Event()
        self._room.set()
        self._changed = threading.Condition()
        self._chunks: deque[bytes] = deque()
        self._held_bytes = 0
        self._closed = False
        self._abandoned = False
        self.aborted: str | None = None

    async def put(self, chunk: bytes) -> None:
        """Add a chunk, waiting while the channel is full; dropped once the reader has left."""
        await self._room.wait()
        with self._changed:
            if self._abandoned or not chunk:
                return
            self._chunks.append(chunk)
            self._held_bytes += len(chunk)
            if self._held_bytes >= self._limit_bytes:
                self._room.clear()
            self._changed.notify()

    def close(self) -> None:
        """Everything came."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def abort(self, why: str) -> None:
        """The rest will not come: the reader gets UploadAborted, even if there are chunks left."""
        with self._changed:
            if not self._closed and self.aborted is None:
                self.aborted = why
            self._changed.notify()

    def abandon(self) -> None:
        """The reader has left: what comes is dropped. Called from any thread."""
        with self._changed:
            self._abandoned = True
            self._chunks.clear()
            self._held_bytes = 0
        self._make_room()

    def __iter__(self) -> Iterator[bytes]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._chunks or self._closed or self.aborted is not None)
                if self.aborted is not None:
                    raise UploadAborted(self.aborted)
                if not self._chunks:
                    return
                chunk = self._chunks.popleft()
                was_full = self._held_bytes >= self._limit_bytes
                self._held_bytes -= len(chunk)
                room = was_full and self._held_bytes < self._limit_bytes
            if room:
                self._make_room()
            yield chunk

    def _make_room(self) -> None:
        if not self._loop.is_closed():  # closed only when the server has stopped: then nobody waits for room
            self._loop.call_soon_threadsafe(self._room.set)
