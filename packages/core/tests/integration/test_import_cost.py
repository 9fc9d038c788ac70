"""What importing and calling loads and says, in fresh interpreters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence

import pytest

import rpa_core

_LOADED = """
import json, sys
before = set(sys.modules)
{statement}
roots = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(json.dumps(sorted(roots - set(sys.stdlib_module_names) - {{"rpa_core"}})))
"""


def fresh(args: Sequence[str], **environ: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: text for name, text in os.environ.items() if not name.startswith("CONTAINER_")}
    return subprocess.run(
        [sys.executable, *args], capture_output=True, text=True, timeout=60, env=inherited | environ, check=False
    )


def loaded_by(statement: str) -> list[str]:
    answer = fresh(["-c", _LOADED.format(statement=statement)])
    assert answer.returncode == 0, answer.stderr
    found: list[str] = json.loads(answer.stdout)
    return found


@pytest.mark.requirement("D4")
def test_importing_the_package_loads_no_third_party_module() -> None:
    """Neither the facade nor the packages of its rooms import anything but the standard library."""
    assert loaded_by("import rpa_core") == []
    rooms = "config observability resilience services store health processing runtime cli formats"
    assert loaded_by("; ".join(f"import rpa_core.{room}" for room in rooms.split())) == []


@pytest.mark.requirement("D4")
def test_configuration_does_not_load_the_driver() -> None:
    """`rpa_core.config` alone needs pydantic, not psycopg; the models come without rich, click or starlette."""
    heavy = {"psycopg", "psycopg_pool", "click", "rich", "starlette", "uvicorn", "prometheus_client", "orjson"}
    assert heavy & set(loaded_by("import rpa_core.config.manager")) == set()


@pytest.mark.requirement("D4")
def test_every_public_name_resolves() -> None:
    """In a fresh interpreter, one by one; unknown names are AttributeErrors and `dir` is the list."""
    assert list(rpa_core.__all__) == sorted(rpa_core.__all__)
    statement = "import rpa_core; [getattr(rpa_core, name) for name in rpa_core.__all__]; from rpa_core import *"
    answer = fresh(["-W", "error", "-c", statement])
    assert answer.returncode == 0, answer.stderr
    assert dir(rpa_core) == list(rpa_core.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = rpa_core.no_such_name


@pytest.mark.requirement("D4")
def test_the_version_is_the_distributions() -> None:
    """The constant and the installed metadata are the same."""
    from importlib.metadata import version

    assert rpa_core.__version__ == version("rpa-core")


@pytest.mark.requirement("R5.1")
def test_the_health_probe_is_light() -> None:
    """It runs every few seconds in every container: standard library alone."""
    call = "from rpa_core.cli.main import main; main(['health', '--url', 'http://127.0.0.1:1/'])"
    assert loaded_by(f"import io; sys.stderr = io.StringIO(); {call}") == []


@pytest.mark.requirement("R1.1")
def test_a_bad_configuration_exits_78() -> None:
    """The process's exit code tells a platform not to try again."""
    answer = fresh(["-m", "rpa_core.cli.main", "config", "check"], CONTAINER_LEASE_TTL="x")
    assert answer.returncode == 78
    assert "Configuration invalid: 3 problems" in answer.stderr


@pytest.mark.requirement("R5.3", "R7.2")
def test_an_unhandled_exception_is_one_line() -> None:
    """The traceback that matters most is a JSON object on stdout like any other, without the secret."""
    program = (
        "from rpa_core.observability.logs import configure\n"
        "configure('json', 'info', secrets=['c4n4ry-secret'])\n"
        "import warnings; warnings.warn('old way c4n4ry-secret', UserWarning)\n"
        "raise RuntimeError('lost c4n4ry-secret')\n"
    )
    answer = fresh(["-c", program])
    assert answer.returncode == 1
    warned, died = (json.loads(line) for line in answer.stdout.splitlines())
    assert warned["event.action"] == "process.warning"
    assert died["event.action"] == "process.unhandled_exception"
    assert died["error.type"] == "RuntimeError"
    assert "Traceback" in died["error.stack_trace"]
    assert "c4n4ry" not in answer.stdout + answer.stderr
