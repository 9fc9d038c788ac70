"""What keeps a run from beginning."""

from __future__ import annotations

_LINES = 8


class NotStartedError(RuntimeError):
    """The system did not come up, so there is nothing to break; the message ends with the log's last lines."""

    def __init__(self, what: str, log: str) -> None:
        super().__init__(f"{what} before anything was broken; its last lines:\n{_tail(log)}")


def _tail(log: str) -> str:
    return "\n".join(log.strip().splitlines()[-_LINES:])
