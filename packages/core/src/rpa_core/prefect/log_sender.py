"""Sending log lines, which have no id on the server: each once, as far as what is there can be seen."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any

from rpa_core.prefect.caller import Caller
from rpa_core.prefect.client import Reply
from rpa_core.prefect.entries import Letter, Line
from rpa_core.prefect.model import timestamp
from rpa_core.resilience.spool.model import Delivered, Later, Refused, Verdict

_PAGE = 200  # the most that the server gives at once


class LogSender:
    """Used by one thread. A run is certain while it is known which lines of it the server has; else it is asked."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._certain: set[str] = set()
        self._next_line: dict[str, int] = {}

    def is_new(self, run_id: str) -> None:
        """The run was made just now: the server has no lines of it."""
        self._certain.add(run_id)

    def forget(self, run_id: str) -> None:
        """Nothing more will be sent for the run, or its lines are gone."""
        self._certain.discard(run_id)
        self._next_line.pop(run_id, None)

    def send(self, letter: Letter, server_run: str) -> Verdict:
        """Send those lines that are not there. Raises ValueError, TypeError or LookupError for what are no lines."""
        run_id, first = letter.run.id, int(letter.data["first"])
        given = [Line(*fields) for fields in letter.data["lines"]]
        lines = self._with_gap(run_id, first, given)
        certain = run_id in self._certain
        if not certain:
            there = self._there(server_run, lines[0].timestamp, lines[-1].timestamp)
            if not isinstance(there, set):
                return there
            lines = [line for line in lines if datetime.fromisoformat(line.timestamp) not in there]
        self._certain.discard(run_id)
        if lines:
            answer = self._caller.post("/logs/", [{**line._asdict(), "flow_run_id": server_run} for line in lines])
            if not isinstance(answer, Reply):
                return answer
        self._next_line[run_id] = first + len(given)
        if certain or self._is_last(server_run, given[-1].timestamp):
            self._certain.add(run_id)
        return Delivered()

    def _with_gap(self, run_id: str, first: int, lines: list[Line]) -> list[Line]:
        missing = first - self._next_line.get(run_id, first)
        if missing <= 0:
            return lines
        text = f"{missing} lines are left out here: the spool had no room for them"
        return [Line("rpa.log", logging.WARNING, text, _moved(lines[0].timestamp, -1)), *lines]

    def _is_last(self, server_run: str, last: str) -> bool:
        """Whether the server has no line of the run after that time; if not, earlier reports are sent again."""
        page = self._page(server_run, {"after_": _moved(last, 1)}, 0, limit=1)
        return page == []

    def _there(self, server_run: str, after: str, before: str) -> set[datetime] | Later | Refused:
        found: set[datetime] = set()
        offset = 0
        while True:
            page = self._page(server_run, {"after_": after, "before_": before}, offset)
            if not isinstance(page, list):
                return page
            times = [line.get("timestamp") if isinstance(line, dict) else None for line in page]
            found |= {datetime.fromisoformat(each) for each in times if isinstance(each, str)}
            if len(page) < _PAGE:
                return found
            offset += len(page)

    def _page(
        self, server_run: str, time: dict[str, str], offset: int, *, limit: int = _PAGE
    ) -> list[Any] | Later | Refused:
        wanted = {"flow_run_id": {"any_": [server_run]}, "timestamp": time}
        body = {"logs": wanted, "limit": limit, "offset": offset, "sort": "TIMESTAMP_ASC"}
        answer = self._caller.post("/logs/filter", body)
        if not isinstance(answer, Reply):
            return answer
        return answer.body if isinstance(answer.body, list) else self._caller.not_prefect()


def _moved(at: str, microseconds: int) -> str:
    return timestamp(datetime.fromisoformat(at) + timedelta(microseconds=microseconds))
