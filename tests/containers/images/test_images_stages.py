"""What is in the images, and how they run."""

from __future__ import annotations

import re
import subprocess
import tarfile
from collections.abc import Callable, Iterator

import pytest
from ci import docker
from tests.containers.images.workbench import Workspace, config, layers, size_bytes

_FLOWS = ("rpa-flow1", "rpa-flow2", "rpa-flow3")
_ALL = ("rpa-base", *_FLOWS)
_BASE = "python:3.13-slim-trixie"
Run = Callable[..., subprocess.CompletedProcess[str]]
# Programs that install, compile or fetch: none of them may be anywhere in an image.
_UNWANTED = re.compile(
    r"(.*/)?s?bin/(pip[\d.]*|uvx?|gcc.*|cc|c\+\+|g\+\+.*|clang.*|make|ld|wheel|curl|wget|git|su|sudo)"
    r"|.*/(ensurepip|_distutils_hack)/.*|.*/(site|dist)-packages/(pip|setuptools|uv)/.*|.*/python-wheels/.*"
)


def files_of(image: str) -> Iterator[tarfile.TarInfo]:
    """Everything in an image, as the engine streams it."""
    container = docker.run("create", "--network", "none", image, "nothing").stdout.strip()
    try:
        with (
            subprocess.Popen(["docker", "export", container], stdout=subprocess.PIPE) as export,
            tarfile.open(fileobj=export.stdout, mode="r|") as archive,
        ):
            yield from archive
    finally:
        docker.run("rm", "--force", container)


@pytest.mark.slow
@pytest.mark.requirement("R4.1", "R7.1")
@pytest.mark.parametrize("environment", ["production", "development"])
def test_an_image_holds_nothing_that_installs_compiles_or_changes_the_user(built: Workspace, environment: str) -> None:
    """No pip, uv, compiler or downloader, no setuid or setgid file, nothing of ours that its user could write."""
    wrong = []
    seen = set[str]()
    for member in files_of(built.name("rpa-flow1", environment)):
        name = f"/{member.name}"
        seen.add(name)
        if member.isfile() and member.mode & 0o6000:
            wrong.append(f"{name} has mode {member.mode:o}")
        if (member.isfile() or member.issym()) and _UNWANTED.fullmatch(name):
            wrong.append(f"{name} does not belong here")
        if name.startswith(("/app/", "/opt/rpa/")) and (member.uid, member.gid) != (0, 0):
            wrong.append(f"{name} belongs to {member.uid}")
        if name.startswith(("/app/", "/opt/rpa/")) and not member.issym() and member.mode & 0o022:
            wrong.append(f"{name} can be written by others: {member.mode:o}")
        if name.startswith("/app/") and re.search(r"/(tests?|conftest\.py|test_[^/]*)(/|$)", name):
            wrong.append(f"{name} is a test")
    assert not wrong, "\n".join(wrong)
    assert {"/app/core/rpa_core/__init__.py", "/app/flow/rpa_flows/rpa1/flow.py", "/opt/rpa/bin/rpa"} <= seen


@pytest.mark.requirement("R4.1", "R7.1")
@pytest.mark.parametrize("image", _ALL)
def test_an_image_says_how_it_is_started_and_asked(built: Workspace, image: str) -> None:
    """Entry point and health check without a shell, a numeric user, a stop signal, the port."""
    found = config(built.name(image))
    assert found["Entrypoint"] == ["rpa"]
    assert found["Healthcheck"]["Test"] == ["CMD", "rpa", "health"]
    assert found["User"] == "10001:10001"
    assert found["StopSignal"] == "SIGTERM"
    assert "8080/tcp" in found["ExposedPorts"]
    variables = dict(line.split("=", 1) for line in found["Env"])
    assert (variables["HOME"], variables["PYTHONDONTWRITEBYTECODE"]) == ("/tmp", "1")
    if image != "rpa-base":
        assert found["Cmd"] == ["run"]
        assert variables["CONTAINER_FLOW_NAME"] == image.replace("rpa-flow", "rpa")
        assert variables["CONTAINER_HEALTH_HOST"] == "0.0.0.0"


@pytest.mark.requirement("R4.1")
@pytest.mark.parametrize("image", _ALL)
def test_an_image_says_what_it_is(built: Workspace, image: str) -> None:
    """OCI labels, its key, and the manifest that the key is the hash of."""
    labels = config(built.name(image))["Labels"]
    (decision,) = [one for one in built.plan().decisions if one.contents.image.name == image]
    assert labels["rpa.key"] == decision.contents.key
    assert labels["rpa.image"] == image
    oci = {name.removeprefix("org.opencontainers.image."): value for name, value in labels.items()}
    assert oci["title"] == image
    assert oci["licenses"] == "MIT"
    assert re.fullmatch(r"\d+\.\d+\.\d+", oci["version"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", oci["created"])
    assert oci["description"]
    assert oci["base.name"] == _BASE if image == "rpa-base" else "rpa-base:k-" in oci["base.name"]
    assert oci["base.digest"]


@pytest.mark.requirement("R7.1", "R7.4")
@pytest.mark.parametrize("environment", ["production", "development"])
@pytest.mark.parametrize("image", _FLOWS)
def test_a_flow_starts_without_rights(built: Workspace, hardened: Run, image: str, environment: str) -> None:
    """Read-only, no capability, no new privileges, no network: the command answers, the configuration is checked."""
    name = built.name(image, environment)
    assert hardened(name, "--version").stdout.startswith("rpa, version")
    databases = ("RPA_DB", "SURVEY_HUB")
    environ = {f"CONTAINER_DATABASE_{one}_URL": "postgresql://someone@nowhere:5432/some" for one in databases}
    if image == "rpa-flow3":
        environ["CONTAINER_DELIVERY_URL"] = "https://receiver:9000/"
    checked = hardened(name, "config", "check", **environ)
    assert (checked.returncode, "Ready to start" in checked.stdout) == (0, True), checked.stdout + checked.stderr
    refused = hardened(name, "run")
    assert refused.returncode == 78, refused.stderr
    assert "CONTAINER_DATABASE_RPA_DB_URL" in refused.stderr
    assert hardened(name, "health").returncode == 1, "nothing runs in there, so its health check fails"


@pytest.mark.requirement("R7.1", "R7.4")
def test_the_user_of_an_image_is_nobody(built: Workspace, hardened: Run) -> None:
    """As the image itself says it: uid 10001, and no place but /tmp to write to."""
    program = (
        "import os, pathlib\n"
        "print(os.getuid(), os.getgid())\n"
        "for place in ('/tmp', '/app', '/opt/rpa', '/etc', '/'):\n"
        "    try: pathlib.Path(place, 'x').write_text('x'); print('written', place)\n"
        "    except OSError: pass\n"
    )
    done = docker.run(
        "run", "--rm", "--network", "none", "--entrypoint", "python", built.name("rpa-flow1"), "-c", program
    )
    assert done.stdout.split("\n")[:-1] == ["10001 10001", "written /tmp"]


@pytest.mark.requirement("R4.2")
@pytest.mark.parametrize("environment", ["production", "development"])
@pytest.mark.parametrize("image", _FLOWS)
def test_a_flow_adds_one_small_layer_to_the_base(built: Workspace, image: str, environment: str) -> None:
    """Its code alone, at most 1 MB; nothing is installed."""
    base, flow = built.name("rpa-base", environment), built.name(image, environment)
    below, above = layers(base), layers(flow)
    assert (above[: len(below)], len(above)) == (below, len(below) + 1)
    assert size_bytes(flow) - size_bytes(base) <= 1_000_000


@pytest.mark.requirement("R4.2")
def test_a_flow_registers_itself_alone(built: Workspace, hardened: Run) -> None:
    """rpa2's image knows rpa2 and no other flow, and holds no other flow's code."""
    done = hardened(built.name("rpa-flow2"), "run", "rpa1")
    assert (done.returncode, "(installed: rpa2;" in done.stderr) == (64, True), done.stderr
    program = "import importlib.util as u; print(u.find_spec('rpa_flows.rpa1'), u.find_spec('rpa_flows.rpa2').name)"
    shown = hardened(built.name("rpa-flow2"), "-c", program, entrypoint="python")
    assert shown.stdout.split() == ["None", "rpa_flows.rpa2"], shown.stderr


@pytest.mark.requirement("R4.1")
def test_the_base_is_small(built: Workspace) -> None:
    """At most 120 MB over its Python."""
    assert size_bytes(built.name("rpa-base")) - size_bytes(_BASE) <= 120_000_000


@pytest.mark.requirement("R4.1", "R4.6")
def test_development_adds_to_production_and_changes_nothing(built: Workspace, hardened: Run) -> None:
    """The layers of production, then the debugger and the supervisor, which production has not."""
    production, development = (layers(built.name("rpa-base", one)) for one in ("production", "development"))
    assert development[: len(production)] == production
    assert len(development) == len(production) + 2
    program = (
        "import importlib.util, shutil; print(bool(importlib.util.find_spec('debugpy')), shutil.which('rpa-reload'))"
    )
    answers = {
        one: hardened(built.name("rpa-flow1", one), "-c", program, entrypoint="python").stdout.split()
        for one in ("production", "development")
    }
    assert answers == {"production": ["False", "None"], "development": ["True", "/opt/rpa/bin/rpa-reload"]}


@pytest.mark.requirement("R4.1", "R5.1")
def test_a_health_check_imports_next_to_nothing(built: Workspace, hardened: Run) -> None:
    """It runs every few seconds in every container: no third-party package is loaded for it, nothing is compiled."""
    program = (
        "import os, sys; sys.argv = ['rpa', 'health']\n"
        "from rpa_core.cli.main import main\n"
        "code = main()\n"
        "loaded = [one for name, one in sys.modules.items() if getattr(one, '__file__', None) and name != '__main__']\n"
        "foreign = [one.__name__ for one in loaded if 'site-packages' in one.__file__]\n"
        "caches = {one.__name__: getattr(one, '__cached__', None) for one in loaded}\n"
        "cold = [name for name, cache in caches.items() if cache and not os.path.exists(cache)]\n"
        "print(code, foreign, cold)\n"
    )
    done = hardened(built.name("rpa-flow1"), "-c", program, entrypoint="python")
    assert done.stdout.strip() == "1 [] []", done.stdout + done.stderr
