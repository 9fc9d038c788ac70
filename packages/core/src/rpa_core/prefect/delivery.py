"""Delivering an entry: the REST calls of each kind of report, safe to repeat."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import orjson

from rpa_core.prefect.caller import Caller
from rpa_core.prefect.client import PrefectClient, Reply
from rpa_core.prefect.entries import Letter, read
from rpa_core.prefect.log_sender import LogSender
from rpa_core.prefect.model import KIND, Run
from rpa_core.prefect.verdicts import REFUSED_PAUSE_S, next_state, of_set_state
from rpa_core.resilience.spool.model import Delivered, Entry, Later, Refused, SpoolFull, Verdict
from rpa_core.resilience.spool.spool import Spool

_log = logging.getLogger("rpa.prefect")


class ServerIds(NamedTuple):
    """What the server calls a flow and a run of it."""

    flow: str
    run: str


class _Gone(NamedTuple):
    """The server does not know the run (any more)."""


class Delivery:
    """What a courier calls for each entry of kind `prefect`.

    Server ids are kept in the notes of the spool that the entry is in, so that who adopts it goes on with them; they
    are forgotten when the run's end is delivered. `on_refusal` is told once when the server no longer lets us in
    (the reason) and once when it does again (None).
    """

    def __init__(
        self,
        client: PrefectClient,
        *,
        refused_pause_s: float = REFUSED_PAUSE_S,
        on_refusal: Callable[[str | None], object] = lambda _: None,
    ) -> None:
        self._caller = Caller(client, refused_pause_s=refused_pause_s, on_refusal=on_refusal)
        self._logs = LogSender(self._caller)
        self._lock = threading.Lock()
        self._ids: dict[str, ServerIds] = {}

    def server_ids(self, run: Run) -> ServerIds | None:
        """What the server calls the run, once it is known there."""
        with self._lock:
            return self._ids.get(run.id)

    def deliver(self, spool: Spool, entry: Entry) -> Verdict:
        """Tell Prefect; safe to repeat."""
        try:
            letter = read(entry.body)
        except ValueError as error:
            return Refused(str(error))
        for _ in range(2):
            ids = self._known(spool, letter.run)
            if not isinstance(ids, ServerIds):
                return ids
            try:
                verdict = self._tell(letter, ids)
            except (LookupError, TypeError, ValueError) as error:
                return Refused(f"the entry cannot be read: {type(error).__name__}: {error}")
            if not isinstance(verdict, _Gone):
                if isinstance(verdict, Delivered) and letter.what == "end":
                    self._forget(spool, letter.run)
                return verdict
            _log.warning(
                "run %s is no longer on the Prefect server, it is made anew",
                letter.run.name,
                extra={"event.action": "prefect.run_gone"},
            )
            self._forget(spool, letter.run)
        return Refused("the run was deleted on the server, and again after it was made anew")

    def _tell(self, letter: Letter, ids: ServerIds) -> Verdict | _Gone:
        match letter.what:
            case "begin":
                return Delivered()  # the run is there, and was made RUNNING
            case "logs":
                return self._logs.send(letter, ids.run)
            case "progress":
                return self._send_progress(letter, ids)
            case "summary":
                return self._leave_summary(letter, ids)
            case "end":
                return self._end(letter, ids)

    # Who it is on the server

    def _known(self, spool: Spool, run: Run) -> ServerIds | Later | Refused:
        with self._lock:
            ids = self._ids.get(run.id)
        if ids is None and (noted := spool.note(KIND, f"server:{run.id}")) is not None:
            ids = ServerIds(**orjson.loads(noted))
        if ids is None:
            made = self._make(run)
            if not isinstance(made, ServerIds):
                return made
            ids = made
            _remember(spool, run, ids)
        with self._lock:
            self._ids[run.id] = ids
        return ids

    def _forget(self, spool: Spool, run: Run) -> None:
        _remember(spool, run, None)
        with self._lock:
            self._ids.pop(run.id, None)
        self._logs.forget(run.id)

    def _make(self, run: Run) -> ServerIds | Later | Refused:
        """By flow name and idempotency key: the same run however often it is asked for."""
        for _ in range(2):  # the flow may be deleted between the two calls
            flow = self._caller.post("/flows/", {"name": run.flow, "tags": ["rpa"]}, 404, 405)
            if not isinstance(flow, Reply):
                return flow
            flow_id = _id_in(flow) if flow.ok else None
            if flow_id is None:
                return self._caller.not_prefect()  # or its address is not whole
            answer = self._caller.post("/flow_runs/", _run_body(run, flow_id), 409)
            if not isinstance(answer, Reply):
                return answer
            if answer.ok:
                run_id = _id_in(answer)
                if run_id is None:
                    return self._caller.not_prefect()
                if answer.status == 201:
                    self._logs.is_new(run.id)
                return ServerIds(flow_id, run_id)
        return Refused("the flow was deleted on the server, and again after it was made anew")

    # What is told

    def _send_progress(self, letter: Letter, ids: ServerIds) -> Verdict:
        run, data = letter.run, letter.data
        event = {
            "id": data["id"],
            "occurred": data["at"],
            "event": "rpa.flow-run.progress",
            "resource": {"prefect.resource.id": f"rpa.flow-run.{run.id}", "prefect.resource.name": run.name},
            "related": [_related(ids.run, "flow-run", run.name), _related(ids.flow, "flow", run.flow)],
            "payload": data["payload"],
        }
        answer = self._caller.post("/events", [event])
        return Delivered() if isinstance(answer, Reply) else answer

    def _leave_summary(self, letter: Letter, ids: ServerIds) -> Verdict:
        key = letter.data["key"]
        wanted = {"key": {"any_": [key]}, "flow_run_id": {"any_": [ids.run]}}
        there = self._caller.post("/artifacts/filter", {"artifacts": wanted, "limit": 1})
        if not isinstance(there, Reply):
            return there
        if not isinstance(there.body, list):
            return self._caller.not_prefect()
        if there.body:
            return Delivered()
        artifact = {
            "key": key,
            "type": "markdown",
            "description": f"What became of the records of {letter.run.name}",
            "data": letter.data["markdown"],
            "flow_run_id": ids.run,
        }
        answer = self._caller.post("/artifacts/", artifact)
        return Delivered() if isinstance(answer, Reply) else answer

    def _end(self, letter: Letter, ids: ServerIds) -> Verdict | _Gone:
        data, path = letter.data, f"/flow_runs/{ids.run}"
        current = self._caller.get(path, 404)
        if not isinstance(current, Reply):
            return current
        if current.status == 404:
            return _Gone()
        state = state_type(current)
        if state is None:
            return self._caller.not_prefect()
        step = next_state(state, data["state"], by_another=data["by_another"])
        if step is None:
            if state != data["state"]:
                _log.warning(
                    "Prefect has run %s as %s already; it is not told %s",
                    letter.run.name,
                    state,
                    data["state"],
                    extra={"event.action": "prefect.ended_already"},
                )
            return Delivered()
        labelled = self._caller.patch(f"{path}/labels", data["labels"], 404)
        if not isinstance(labelled, Reply):
            return labelled
        wanted, force = step
        body = {
            "state": {
                "type": wanted,
                "message": data["message"],
                "state_details": {"transition_id": data["transition"]},
            },
            "force": force,
        }
        answer = self._caller.post(f"{path}/set_state", body, 404)
        if not isinstance(answer, Reply):
            return answer
        return _Gone() if answer.status == 404 else of_set_state(answer.body)


def state_type(reply: Reply) -> str | None:
    """Of a flow run that was read."""
    state = reply.body.get("state") if isinstance(reply.body, dict) else None
    kind = state.get("type") if isinstance(state, dict) else None
    return kind if isinstance(kind, str) else None


def _remember(spool: Spool, run: Run, ids: ServerIds | None) -> None:
    """Without a note the ids are asked for again, which makes nothing new."""
    with suppress(SpoolFull):
        spool.remember(KIND, f"server:{run.id}", orjson.dumps(ids._asdict()) if ids is not None else None)


def _run_body(run: Run, flow_id: str) -> dict[str, object]:
    return {
        "flow_id": flow_id,
        "name": run.name,
        "idempotency_key": run.idempotency_key,
        "flow_version": run.version,
        "tags": ["rpa", f"version:{run.version}"],
        "labels": {
            "started_at": run.started_at,
            "host": run.host,
            "version": run.version,
            "incarnation": run.incarnation,
        },
        "state": {
            "type": "RUNNING",
            "message": f"since {run.started_at} on {run.host}",
            "state_details": {"transition_id": run.unique("begin")},
        },
    }


def _related(server_id: str, role: str, name: str) -> dict[str, str]:
    return {
        "prefect.resource.id": f"prefect.{role}.{server_id}",
        "prefect.resource.role": role,
        "prefect.resource.name": name,
    }


def _id_in(reply: Reply) -> str | None:
    found = reply.body.get("id") if isinstance(reply.body, dict) else None
    return found if isinstance(found, str) else None
