"""How the workers' containers are confined: asked of the Engine, and of the kernel from within."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from rpa_testkit.ports import HOST
from rpa_testkit.suite.security import Check, Found, Skipped, Target
from rpa_testkit.warden.mark import LABEL

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

_SECRET_NAMES = ("PASSWORD", "TOKEN", "SECRET", "PRIVATE_KEY", "CREDENTIAL")
_ROOT = ("", "0", "root")
_HOME = "/etc/rpa-testkit-probe"
_NO_CONTAINER = "a process of this machine runs as its starter, unconfined: run this with the driver docker"

One = Callable[["Container", Target], list[str]]


def ports(run_id: str) -> dict[str, int]:
    """The published ports of the workers' surfaces, by the nodes' names."""
    found = {}
    with _client() as client:
        for container in client.containers.list(filters={"label": f"{LABEL}={run_id}"}):
            published = container.attrs["NetworkSettings"]["Ports"].get("8080/tcp")
            if published:
                found[str(container.attrs["Config"]["Hostname"])] = int(published[0]["HostPort"])
    return found


@contextmanager
def _client() -> Iterator[DockerClient]:
    import docker

    client = docker.from_env()
    try:
        yield client
    finally:
        client.close()


def _each(check: One) -> Check:
    """Of every worker's container."""

    def made(target: Target) -> Found:
        with _client() as client:
            all_of_it = client.containers.list(filters={"label": f"{LABEL}={target.run_id}"})
            mine = [one for one in all_of_it if one.attrs["Config"]["Hostname"] in target.workers]
            if len(mine) != len(target.workers):
                return [f"{len(mine)} of {len(target.workers)} workers' containers were found"], {}
            wrong = [f"{one.name}: {says}" for one in mine for says in check(one, target)]
        return wrong, {"containers": [one.name for one in mine]}

    return made


def _not_root(container: Container, _: Target) -> list[str]:
    wrong = []
    if container.attrs["Config"]["User"].partition(":")[0] in _ROOT:
        wrong.append("it is started as root")
    uids = _status(container)["Uid"].split()
    if "0" in uids:
        wrong.append(f"its first process has the user ids {', '.join(uids)}")
    return wrong


def _image_not_root(container: Container, _: Target) -> list[str]:
    user = str(_image(container).attrs["Config"].get("User", ""))
    return [f"image {_image(container).tags} names no user but root"] if user.partition(":")[0] in _ROOT else []


def _no_capabilities(container: Container, _: Target) -> list[str]:
    status = _status(container)
    return [
        f"{name} is {status[name]}" for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb") if int(status[name], 16) != 0
    ]


def _no_new_privileges(container: Container, _: Target) -> list[str]:
    return [] if _status(container)["NoNewPrivs"] == "1" else ["its processes may gain privileges"]


def _read_only_root(container: Container, _: Target) -> list[str]:
    """By trying, as root too: it is the mount that must refuse."""
    code, said = _run(container, "touch", _HOME, user="0")
    if code == 0:
        return [f"{_HOME} could be written"]
    return [] if "Read-only file system" in said else [f"writing was refused for another reason: {said!r}"]


def _isolated(container: Container, target: Target) -> list[str]:
    """Of this machine it can write its own spool and nothing else."""
    spool = target.system.spool.resolve()
    host = container.attrs["HostConfig"]
    wrong = ["it is privileged"] if host["Privileged"] else []
    wrong += [f"{name} is the machine's" for name in ("NetworkMode", "PidMode", "IpcMode") if host[name] == "host"]
    for mount in container.attrs["Mounts"]:
        if mount["Source"].endswith("docker.sock"):
            wrong.append("it has the Engine's socket")
        if mount["RW"] and mount["Type"] == "bind" and not Path(mount["Source"]).is_relative_to(spool):
            wrong.append(f"it can write {mount['Source']} of this machine")
    for published in container.attrs["NetworkSettings"]["Ports"].values():
        wrong += [f"it is reachable at {each['HostIp']}" for each in published or () if each["HostIp"] != HOST]
    return wrong


def _inspect(container: Container, target: Target) -> list[str]:
    """All that the Engine tells but the environment, which has a check of its own."""
    told: dict[str, Any] = dict(container.attrs)
    told["Config"] = {name: value for name, value in told["Config"].items() if name != "Env"}
    text = orjson.dumps(told).decode()
    return ["what the Engine tells of it holds a secret"] if any(secret in text for secret in target.secrets) else []


def _image_environment(container: Container, target: Target) -> list[str]:
    """An image goes to whoever can pull it."""
    config = _image(container).attrs["Config"]
    wrong = []
    for line in config.get("Env") or ():
        name, _, value = line.partition("=")
        if value and any(word in name.upper() for word in _SECRET_NAMES) and not name.endswith("_FILE"):
            wrong.append(f"the image sets {name}")
    history = orjson.dumps([layer.get("CreatedBy", "") for layer in _image(container).history()]).decode()
    labels = orjson.dumps(config.get("Labels") or {}).decode()
    if any(secret in history + labels for secret in target.secrets):
        wrong.append("the image's history or labels hold a secret")
    return wrong


def _environment(container: Container, target: Target) -> list[str]:
    """The driver itself may have put a secret there, and then nothing can be said of the image."""
    given = [line.partition("=")[0] for line in container.attrs["Config"]["Env"] if _holds(line, target)]
    if given:
        raise Skipped(f"the driver gives secrets by environment ({', '.join(sorted(given))}), not as files")
    code, seen = _run(container, "cat", "/proc/1/environ")
    if code != 0:
        return [f"its environment could not be read: {seen}"]
    return ["its environment holds a secret"] if _holds(seen, target) else []


def _holds(text: str, target: Target) -> bool:
    return any(secret in text for secret in target.secrets)


def _image(container: Container) -> Any:
    """The image that it was made from."""
    return container.image


def _run(container: Container, *argv: str, user: str = "") -> tuple[int, str]:
    """The exit code and all that was written."""
    done: Any = container.exec_run(list(argv), user=user)
    return int(done.exit_code), bytes(done.output).decode(errors="replace")


def _status(container: Container) -> dict[str, str]:
    """What the kernel says of its first process."""
    code, written = _run(container, "cat", "/proc/1/status")
    if code != 0:
        raise RuntimeError(f"/proc/1/status of {container.name} cannot be read: {written}")
    lines = (line.partition(":") for line in written.splitlines())
    return {name: value.strip() for name, _, value in lines}


_OF_EACH: Mapping[str, One] = {
    "runs-as-no-root": _not_root,
    "image-names-a-user": _image_not_root,
    "no-capabilities": _no_capabilities,
    "no-new-privileges": _no_new_privileges,
    "read-only-root": _read_only_root,
    "isolated-from-the-machine": _isolated,
    "no-secret-in-inspect": _inspect,
    "no-secret-in-the-image": _image_environment,
    "no-secret-in-the-environment": _environment,
}
CHECKS: Mapping[str, Check] = {name: _each(check) for name, check in _OF_EACH.items()}


def _not_here(_: Target) -> Found:
    raise Skipped(_NO_CONTAINER)


ELSEWHERE: Mapping[str, Check] = dict.fromkeys(_OF_EACH, _not_here)
"""The same names where there are no containers: each is skipped."""
