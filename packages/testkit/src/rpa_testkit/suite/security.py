"""What a worker gives away and lets in, whatever it runs in."""

from __future__ import annotations

import http.client
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import orjson

from rpa_testkit.drivers.protocol import Driver, System
from rpa_testkit.ports import HOST
from rpa_testkit.scenario.model import Topology
from rpa_testkit.suite import hostile
from rpa_testkit.suite.results import SecurityResults, Status, TestResults, overall
from rpa_testkit.waits import WaitTimeoutError, until

if TYPE_CHECKING:
    from rpa_testkit.suite.runs import Runs

_READY_S = 90.0
_WORK_S = 60.0
_TOKEN = "CONTAINER_INTAKE_TOKEN"  # noqa: S105 - a variable's name
_OURS = "hostile"

Found = tuple[Sequence[str], Mapping[str, Any]]
"""What is wrong, and what was seen."""


class Skipped(Exception):
    """The check cannot be made here; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A running system: the workers' names, base URLs of their HTTP surfaces by name, and what must stay secret.

    `flow` is the workers'; `database_secrets` are in what the driver itself gives to workers.
    """

    system: System
    run_id: str
    flow: str
    workers: tuple[str, ...]
    ports: Mapping[str, int]
    token: str
    database_secrets: tuple[str, ...]

    @property
    def secrets(self) -> tuple[str, ...]:
        """All that nobody may see."""
        return (self.token, *self.database_secrets)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One HTTP answer."""

    status: int
    kind: str
    body: bytes


Check = Callable[[Target], Found]


def check_security(runs: Runs, driver: str | Driver, topology: Topology, *, seed: int) -> SecurityResults:
    """Start the topology with an intake, make every check that the driver allows, and end it."""
    from rpa_testkit.suite import confinement

    began = time.monotonic()
    token = secrets.token_urlsafe(24)
    folder = runs.reports / f".secrets-{secrets.token_hex(4)}"
    folder.mkdir(parents=True)
    try:
        name = driver if isinstance(driver, str) else driver.name
        with_token = _with_intake(topology, name, token, folder)
        with runs.start(with_token, driver, seed=seed, name="security") as (system, run_id):
            workers = with_token.workers
            until(
                lambda: all(system.nodes[worker].ready() for worker in workers),
                _READY_S,
                "the workers to be ready",
                lambda: "\n".join(system.nodes[worker].log_text()[-2000:] for worker in workers),
            )
            password = urlsplit(system.dsn).password
            target = Target(
                system=system,
                run_id=run_id,
                flow="probe" if ":" in topology.services[0].flow else topology.services[0].flow,
                workers=workers,
                ports=confinement.ports(run_id) if name == "docker" else getattr(system, "ports", {}),
                token=token,
                database_secrets=(password,) if password else (),
            )
            checks = {**SURFACE, **(confinement.CHECKS if name == "docker" else confinement.ELSEWHERE)}
            results = tuple(_made(title, check, target) for title, check in checks.items())
    finally:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    return SecurityResults(
        status=overall(result.status for result in results),
        duration=time.monotonic() - began,
        checks=results,
        runs=(runs.reports / run_id,),
    )


def _with_intake(topology: Topology, driver: str, token: str, folder: Path) -> Topology:
    """Processes get the token from a file; a container is given no file by its driver, so from its environment."""
    given = {_TOKEN: token}
    if driver == "process":
        file = folder / "intake_token"
        file.touch(mode=0o600)
        file.write_text(token)
        given = {f"{_TOKEN}_FILE": str(file.absolute())}
    services = (replace(service, env={**service.env, **given}) for service in topology.services)
    return replace(topology, services=tuple(services))


def _made(name: str, check: Check, target: Target) -> TestResults:
    """A check that cannot be made to its end has not passed."""
    began = time.monotonic()
    details: Mapping[str, Any] = {}
    status: Status
    try:
        errors, details = check(target)
        status = "failed" if errors else "passed"
    except Skipped as why:
        status, errors = "skipped", [str(why)]
    except Exception as error:  # noqa: BLE001 - the other checks are made all the same
        status, errors = "failed", [f"the check itself failed: {type(error).__name__}: {error}"]
    return TestResults(
        test_name=name, status=status, duration=time.monotonic() - began, details=details, errors=tuple(errors)
    )


def ask(target: Target, worker: str, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
    """One request to a worker's surface."""
    given = {"content-type": "application/x-ndjson"} if body else {}
    with closing(http.client.HTTPConnection(HOST, target.ports[worker], timeout=30)) as connection:
        connection.request(method, path, body or None, {**given, **headers})
        answer = connection.getresponse()
        return Answer(status=answer.status, kind=answer.getheader("content-type", ""), body=answer.read())


def _token_required(target: Target) -> Found:
    """Without the right token nothing is let in, and nothing is told."""
    wrong: list[str] = []
    before = _count(target)
    path, body = f"/records/{target.flow}", b'{"n": 1}\n'
    attempts: dict[str, dict[str, str]] = {
        "no token": {},
        "a wrong token": {"authorization": f"Bearer {target.token[:-1]}x"},
        "an empty token": {"authorization": "Bearer "},
        "another scheme": {"authorization": f"Basic {target.token}"},
    }
    for worker in target.workers:
        for what, headers in attempts.items():
            for method, where, sent in (("POST", path, body), ("GET", f"{path}/t1", b"")):
                answer = ask(target, worker, method, where, sent, **headers)
                if answer.status != 401:
                    wrong.append(f"{worker}: {method} {where} with {what} was answered with {answer.status}, not 401")
    if (after := _count(target)) != before:
        wrong.append(f"{after - before} records came in without the token")
    return wrong, {"attempts": sorted(attempts), "workers": list(target.workers)}


def _hostile_input(target: Target) -> Found:
    """Each bad body is refused whole with a problem that says why; what is good beside it is processed."""
    wrong: list[str] = []
    headers = {"authorization": f"Bearer {target.token}"}
    path = f"/records/{target.flow}"
    statuses: dict[str, int] = {}
    before = _count(target)
    for number, (what, body) in enumerate(hostile.BODIES):
        worker = target.workers[number % len(target.workers)]
        answer = ask(target, worker, "POST", path, body, **headers)
        statuses[what] = answer.status
        if not 400 <= answer.status < 500:
            wrong.append(f"{what}: answered with {answer.status}, not refused")
        elif not _says_why(answer):
            wrong.append(f"{what}: refused with {answer.status}, without saying why")
    if (after := _count(target)) != before:
        wrong.append(f"{after - before} records of refused bodies came in")
    lines = [{"n": number, "key": f"{_OURS}-{number}", "text": text} for number, text in enumerate(hostile.TEXTS)]
    sent = b"".join(orjson.dumps(line) + b"\n" for line in lines)
    answer = ask(target, target.workers[0], "POST", f"{path}?key=key", sent, **headers)
    if answer.status not in (200, 201, 202):
        return [*wrong, f"hostile texts in good JSON were answered with {answer.status}: {answer.body[:300]!r}"], {}
    try:
        until(lambda: _ended(target) == len(lines), _WORK_S, "the hostile texts to be processed", every_s=0.1)
    except WaitTimeoutError:
        wrong.append(f"{_ended(target)} of {len(lines)} hostile texts have an outcome after {_WORK_S:g} s")
    wrong += [f"{worker} has ended" for worker in target.workers if not target.system.nodes[worker].running]
    return wrong, {"refused": statuses, "texts": len(lines)}


def _process_list(target: Target) -> Found:
    """No command line of this machine holds a secret."""
    proc = Path("/proc")
    if not (proc / "self").exists():
        raise Skipped("command lines are read from /proc, which this system does not have")
    wrong, seen = [], 0
    for folder in proc.iterdir():
        if not folder.name.isdigit():
            continue
        with suppress(OSError):  # it has ended
            line = (folder / "cmdline").read_bytes()
            seen += 1
            if any(secret.encode() in line for secret in target.secrets):
                wrong.append(f"the command line of process {folder.name} holds a secret")
    return wrong, {"processes": seen}


def _logs(target: Target) -> Found:
    """What was logged while all of the above went on."""
    wrong, size = [], 0
    for name, node in target.system.nodes.items():
        text = node.log_text()
        size += len(text)
        if any(secret in text for secret in target.secrets):
            wrong.append(f"the log of {name} holds a secret")
    return wrong, {"characters": size}


def _surface(target: Target) -> Found:
    """Probes, metrics and refusals."""
    wrong: list[str] = []
    pages = ("/metrics", "/health", "/health/ready", "/health/live", "/nowhere", f"/records/{target.flow}")
    for worker in target.workers:
        for page in pages:
            answer = ask(target, worker, "GET", page, authorization=f"Bearer {target.token[:-1]}x")
            if any(secret.encode() in answer.body for secret in target.secrets):
                wrong.append(f"{worker}: {page} shows a secret")
            if answer.status >= 500 and page != "/health":
                wrong.append(f"{worker}: {page} was answered with {answer.status}")
    return wrong, {"pages": list(pages)}


SURFACE: Mapping[str, Check] = {
    "intake-needs-its-token": _token_required,
    "hostile-input-is-refused": _hostile_input,
    "no-secret-on-a-command-line": _process_list,
    "no-secret-in-metrics-and-answers": _surface,
    "no-secret-in-logs": _logs,
}


def _says_why(answer: Answer) -> bool:
    try:
        said = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return False
    return answer.kind.startswith("application/problem+json") and bool(said.get("detail"))


def _count(target: Target) -> int:
    return _number(target, "SELECT count(*) FROM rpa.record")


def _ended(target: Target) -> int:
    """Hostile records with a result or a dead letter."""
    return _number(
        target,
        f"""
        SELECT count(*) FROM rpa.record r WHERE r.key LIKE '{_OURS}-%'
        AND (EXISTS (SELECT FROM rpa.result s WHERE s.period = r.period AND s.record_id = r.id)
          OR EXISTS (SELECT FROM rpa.dead_letter d WHERE d.period = r.period AND d.record_id = r.id))
        """,  # noqa: S608 - ours
    )


def _number(target: Target, statement: str) -> int:
    import psycopg

    with psycopg.connect(target.system.dsn, application_name="rpa-testkit security") as connection:
        row = connection.execute(statement.encode()).fetchone()
    return int(row[0]) if row else 0
