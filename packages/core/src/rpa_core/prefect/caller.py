"""Calling Prefect and judging the answer, and noticing when it no longer lets us in."""

from __future__ import annotations

import logging
from collections.abc import Callable

from rpa_core.prefect.client import PrefectClient, Reply, Unanswered
from rpa_core.prefect.verdicts import not_let_in, of_answer
from rpa_core.resilience.spool.model import Later, Refused

_log = logging.getLogger("rpa.prefect")
Answer = Reply | Later | Refused


class Caller:
    """Each call returns the answer itself where it is a success or a status that the caller knows what to do with.

    `on_refusal` is told once when key or password are refused (the reason) and once when they are taken again (None).
    """

    def __init__(
        self, client: PrefectClient, *, refused_pause_s: float, on_refusal: Callable[[str | None], object]
    ) -> None:
        self._client = client
        self._pause_s = refused_pause_s
        self._on_refusal = on_refusal
        self._shut_out = False

    def get(self, path: str, *known: int) -> Answer:
        """`known`: statuses besides 2xx that are no trouble."""
        return self._judge(self._client.get(path), known)

    def post(self, path: str, body: object, *known: int) -> Answer:
        """The same for POST."""
        return self._judge(self._client.post(path, body), known)

    def patch(self, path: str, body: object, *known: int) -> Answer:
        """The same for PATCH."""
        return self._judge(self._client.patch(path, body), known)

    def not_prefect(self) -> Later:
        """For an answer that Prefect would not give: something else stands at its address, for now."""
        return Later("what answers is not Prefect's API", self._pause_s)

    def _judge(self, answer: Reply | Unanswered, known: tuple[int, ...]) -> Answer:
        self._watch_door(answer)
        if isinstance(answer, Reply) and (answer.ok or answer.status in known):
            return answer
        return of_answer(answer, pause_s=self._pause_s) or self.not_prefect()

    def _watch_door(self, answer: Reply | Unanswered) -> None:
        if not isinstance(answer, Reply):
            return
        if not_let_in(answer) and not self._shut_out:
            self._shut_out = True
            reason = f"HTTP {answer.status} {answer.words}".strip()
            _log.error(
                "Prefect does not let us in (%s); reports wait in the spool. Correct CONTAINER_PREFECT_API_KEY"
                " or CONTAINER_PREFECT_AUTH_STRING",
                reason,
                extra={"event.action": "prefect.unauthorized"},
            )
            self._on_refusal(reason)
        elif self._shut_out and answer.ok:
            self._shut_out = False
            _log.info("Prefect lets us in again", extra={"event.action": "prefect.authorized"})
            self._on_refusal(None)
