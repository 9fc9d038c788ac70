"""Looking at the beginning of a stream of byte chunks without losing it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain


def peek(chunks: Iterable[bytes], size_bytes: int) -> tuple[bytes, Iterator[bytes]]:
    """The first `size_bytes` (fewer if the input ends before), and the whole stream again, that beginning included."""
    iterator = iter(chunks)
    head = b""
    for chunk in iterator:
        head += chunk
        if len(head) >= size_bytes:
            break
    return head[:size_bytes], chain((head,) if head else (), iterator)
