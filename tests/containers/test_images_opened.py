"""What the flows really open, against what docker/images.toml puts into their images. Needs no engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ci.images import declare
from ci.images.contents import Gatherer
from ci.images.manifest import ABSENT
from ci.workspace import ROOT

# Whatever can be done without a database: load the flow by its registered name, its settings, open its resources.
_RUN = """
import json, os, sys
from importlib import import_module, resources
sources = [os.path.realpath(path) for path in json.loads(sys.argv[1])]
sys.path[:0] = [sys.argv[3], *sources]
opened = set()
def hook(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        path = os.path.realpath(os.fsdecode(arguments[0]))
        if any(path.startswith(f"{source}/") for source in sources) and not path.endswith(".pyc"):
            opened.add(path)
sys.addaudithook(hook)
flow = import_module(sys.argv[2]).FLOW
from rpa_core.processing.flow import OpenContext
from rpa_core.errors import TransientError
from rpa_core.store.database import Database
nowhere = {name: Database(name, "postgresql://127.0.0.1:1/none") for name in ("rpa_db", "survey_hub")}
settings = flow.settings() if flow.settings else None
try:
    with flow.open(OpenContext(flow=flow.name, settings=settings, databases=nowhere)):
        pass
except TransientError as error:
    print(error, file=sys.stderr)
import rpa_core
for name in rpa_core.__all__:
    getattr(rpa_core, name)
from rpa_core.cli.main import main
for command in (["--help"], ["config", "page"], *([name, "--help"] for name in ("run", "db", "records", "spool"))):
    sys.argv = ["rpa", *command]
    sys.stdout, kept = open(os.devnull, "w"), sys.stdout
    try:
        main()
    except SystemExit:
        pass
    sys.stdout = kept
print(json.dumps(sorted(opened)))
"""
_ENVIRON = {"CONTAINER_DELIVERY_URL": "https://receiver.example/", "CONTAINER_CODEBOOK": "anes96"}


@pytest.mark.requirement("R4.2", "R4.4")
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_flow_opens_nothing_that_its_image_does_not_hold(number: int, tmp_path: Path) -> None:
    """Watched by an audit hook, from the import to the opened resources: code, codebook, SQL."""
    declaration = declare.load(ROOT, environment="production")
    references = {reference for image in declaration.images.values() for reference in image.bases.values()}
    contents = Gatherer(declaration).contents(dict.fromkeys(references, ABSENT))
    inside = {
        str(entry.source)
        for name in ("rpa-base", f"rpa-flow{number}")
        for entry in contents[name].entries
        if entry.source is not None
    }
    for entry in contents[f"rpa-flow{number}"].entries:  # hides what this environment has installed
        if entry.content is not None and ".dist-info/" in entry.path:
            registered = tmp_path / entry.path.removeprefix("flow/")
            registered.parent.mkdir(exist_ok=True)
            registered.write_bytes(entry.content)
    sources = [str(ROOT / "packages" / member / "src") for member in ("core", "flows")]
    command = [sys.executable, "-I", "-B", "-c", _RUN, json.dumps(sources), f"rpa_flows.rpa{number}", str(tmp_path)]
    environ = {"PATH": os.environ["PATH"], **_ENVIRON}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environ)
    assert done.returncode == 0, done.stderr
    opened = set(json.loads(done.stdout.splitlines()[-1]))
    assert opened - inside == set()
    data = {1: "rpa1/insert_responses.sql", 2: "data/anes96.toml", 3: "rpa3/delivery.py"}[number]
    flow = f"{os.path.realpath(ROOT)}/packages/flows/src/rpa_flows/{data}"
    assert flow in opened, "the watched run got as far as its own files"
    assert any(Path(path).name == "ledger.sql" or Path(path).parent.name == "cli" for path in opened)
