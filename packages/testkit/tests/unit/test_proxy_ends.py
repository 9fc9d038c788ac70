"""The end of a stream that the proxy passes on."""

from __future__ import annotations

import asyncio
import errno
from typing import Any

import pytest

from rpa_testkit.proxy.link import send_end


class _Gone(asyncio.Transport):
    """A peer that has sent an RST, which the loop has not seen yet: the kernel refuses to shut the socket down."""

    aborted = False

    def write_eof(self) -> None:
        raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def abort(self) -> None:
        self.aborted = True


@pytest.mark.requirement("R3.3")
def test_a_peer_that_is_gone_needs_no_end() -> None:
    """Healing an edge must not fail for a connection that nobody holds any more."""
    gone = _Gone()
    send_end(gone)
    assert gone.aborted
