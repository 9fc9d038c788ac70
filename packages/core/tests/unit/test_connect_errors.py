"""What a failed connection means."""

from __future__ import annotations

import errno
from typing import Any

import psycopg
import pytest

from rpa_core.errors import StoreUnavailable
from rpa_core.store.connect import connect


@pytest.mark.requirement("R2.2", "R8.1")
def test_a_machine_out_of_descriptors_is_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """psycopg opens a selector for each connection and lets the kernel's refusal through; it passes, as an outage."""

    def refused(*_: Any, **__: Any) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(psycopg, "connect", refused)
    with pytest.raises(StoreUnavailable, match=r"cannot be reached: .*Too many open files"):
        connect("postgresql://nowhere/none")
