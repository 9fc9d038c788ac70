"""Deployments on Prefect's server: made, brought up to date, listed. Registering again changes only what differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentUpdate, WorkPoolCreate
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL
from prefect.utilities.callables import parameter_schema

from rpa_core.errors import ConfigError, DependencyUnavailable, UsageError
from rpa_core.version import VERSION
from rpa_flows.deployments.flows import entrypoint, prefect_flow

_SLUG = "rpa"  # of the schedule that is ours; those that people add in the UI are left alone
_TAGS = ["rpa"]
_REFUSED = frozenset({401, 403})


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A flow's deployment: its pool, and what was asked for besides. None leaves what is there as it is.

    cron   when it starts, in UTC; the empty text takes our schedule away.
    image  for pools that run containers: the image, which needs the package with its extra `prefect`.
    """

    flow: str
    pool: str
    cron: str | None = None
    image: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A flow's deployment as it is on the server; `pool` is empty where there is none."""

    flow: str
    pool: str = ""
    schedules: Sequence[str] = field(default=())

    @property
    def name(self) -> str:
        """As the UI and `prefect deployment run` name it."""
        return full_name(self.flow)


def full_name(flow: str) -> str:
    """Of a deployment: its flow's name, and its own, which is the same."""
    return f"{flow}/{flow}"


class Registry:
    """The deployments on one server. Use `open_registry`."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def ensure_pool(self, pool: str, *, create: str | None) -> bool:
        """Raises UsageError if there is no such pool and `create`, the type to make it of, is None; True if made."""
        try:
            self._client.read_work_pool(pool)
        except ObjectNotFound:
            if create is None:
                raise UsageError(
                    f"Prefect has no work pool called {pool!r}: add --create-pool, "
                    f"or make it with `prefect work-pool create {pool} --type process`"
                ) from None
            self._client.create_work_pool(WorkPoolCreate(name=pool, type=create))
            return True
        return False

    def register(self, wanted: Wanted) -> str:
        """Make or correct a deployment; returns `created`, `updated` or `unchanged`."""
        there = self._read(wanted.flow)
        fields = _fields(wanted)
        if there is None:
            deployment_id = self._client.create_deployment(
                flow_id=self._client.create_flow_from_name(wanted.flow), name=wanted.flow, **fields
            )
            self._schedule(deployment_id, (), wanted.cron)
            return "created"
        if wanted.image is None:
            fields["job_variables"] = there.job_variables
        changed = any(getattr(there, name) != value for name, value in fields.items())
        if changed:
            self._client.update_deployment(there.id, DeploymentUpdate(**fields))
        moved = self._schedule(there.id, there.schedules, wanted.cron)
        return "updated" if changed or moved else "unchanged"

    def find(self, flow: str) -> Found:
        """The flow's deployment."""
        there = self._read(flow)
        if there is None:
            return Found(flow=flow)
        return Found(flow=flow, pool=there.work_pool_name or "", schedules=[_words(each) for each in there.schedules])

    def _read(self, flow: str) -> Any:
        try:
            return self._client.read_deployment_by_name(full_name(flow))
        except ObjectNotFound:
            return None

    def _schedule(self, deployment_id: Any, there: Sequence[Any], cron: str | None) -> bool:
        """Bring our schedule to `cron`; whether anything had to be done. One that somebody has paused stays paused."""
        if cron is None:
            return False
        ours = next((each for each in there if each.slug == _SLUG), None)
        if ours is not None and getattr(ours.schedule, "cron", "") == cron:
            return False
        if ours is not None:
            self._client.delete_deployment_schedule(deployment_id, ours.id)
        if cron:
            active = ours is None or ours.active
            schedule = CronSchedule(cron=cron, timezone="UTC")
            self._client.create_deployment_schedules(deployment_id, [(schedule, active)], slug=_SLUG)
        return bool(cron) or ours is not None


@contextmanager
def open_registry() -> Iterator[Registry]:
    """The registry of the server at PREFECT_API_URL. Errors of the server become errors that say what to do."""
    url = PREFECT_API_URL.value()
    if not url:
        raise UsageError("set PREFECT_API_URL to the address of Prefect's server, such as http://prefect:4200/api")
    import httpx

    try:
        with get_client(sync_client=True) as client:
            yield Registry(client)
    except PrefectHTTPStatusError as error:
        status = error.response.status_code
        if status in _REFUSED:
            hint = f"Prefect's server at {url} answers {status}: check PREFECT_API_KEY or PREFECT_API_AUTH_STRING"
            raise ConfigError((hint,)) from error
        raise DependencyUnavailable(
            f"Prefect's server at {url} answers {status}: {error.response.text[:500]}"
        ) from error
    except (httpx.HTTPError, RuntimeError) as error:  # the client wraps the first failure in a RuntimeError
        raise DependencyUnavailable(
            f"Prefect's server at {url} does not answer ({error.__cause__ or error}): "
            "start it, or correct PREFECT_API_URL"
        ) from error


def schedules(given: Sequence[str], known: Mapping[str, object]) -> dict[str, str]:
    """`FLOW=CRON` each; raises UsageError for a flow that is not installed, or a cron line that is none."""
    found: dict[str, str] = {}
    for text in given:
        flow, equals, cron = text.partition("=")
        if not equals or flow not in known:
            raise UsageError(f"--schedule takes FLOW=CRON with one of {', '.join(sorted(known))}, not {text!r}")
        if cron:
            try:
                CronSchedule(cron=cron, timezone="UTC")
            except ValueError:
                raise UsageError(f"{cron!r} is no cron line; 'rpa2=*/15 * * * *' means every 15 minutes") from None
        found[flow] = cron
    return found


def _fields(wanted: Wanted) -> dict[str, Any]:
    made = prefect_flow(wanted.flow)
    return {
        "version": VERSION,
        "description": made.description,
        "tags": _TAGS,
        "work_pool_name": wanted.pool,
        "entrypoint": entrypoint(wanted.flow),
        "parameter_openapi_schema": parameter_schema(made.fn).model_dump(mode="json", exclude_unset=True),
        "enforce_parameter_schema": True,
        "job_variables": {"image": wanted.image} if wanted.image else {},
    }


def _words(schedule: Any) -> str:
    what = getattr(schedule.schedule, "cron", None) or type(schedule.schedule).__name__
    return str(what) if schedule.active else f"{what} (paused)"
