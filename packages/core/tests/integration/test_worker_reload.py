"""A mounted file or secret changes: the worker drains and goes on with the new settings, in the same process."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rpa_testkit.ports import free_port
from rpa_testkit.waits import until

from .engine import Engine, Running


def _accepts(worker: Running, token: str) -> bool:
    """Whether the intake knows the token: another one is refused before anything else."""
    with closing(http.client.HTTPConnection("127.0.0.1", worker.port, timeout=5)) as connection:
        headers = {"authorization": f"Bearer {token}", "content-type": "application/x-ndjson"}
        try:
            connection.request("POST", "/records/act", b'{"n": 1}\n', headers)
            return connection.getresponse().status != 401
        except (OSError, http.client.HTTPException):  # between two lives nobody listens
            return False


def _lives(worker: Running) -> int:
    return worker.process.log_text().count("worker.started")


class PlainFile:
    """One file, written in place."""

    def __init__(self, folder: Path, text: str) -> None:
        self.path = folder / "token"
        self.set(text)

    def set(self, text: str) -> None:
        self.path.write_text(text)

    def settings(self) -> dict[str, Any]:
        return {"intake_token_file": self.path}


class Renamed(PlainFile):
    """One file, replaced by another of its name, as editors and `docker cp` do."""

    def set(self, text: str) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(text)
        new.replace(self.path)


class Kubernetes:
    """A Secret volume: entries link through `..data`, which is swapped as a whole."""

    def __init__(self, folder: Path, text: str) -> None:
        self._folder = folder / "volume"
        self._folder.mkdir()
        self._generation = 0
        self.set(text)
        (self._folder / "intake_token").symlink_to("..data/intake_token")

    def set(self, text: str) -> None:
        self._generation += 1
        data = self._folder / f"..{self._generation}"
        data.mkdir()
        (data / "intake_token").write_text(text)
        link = self._folder / "..data_new"
        link.symlink_to(data.name)
        link.replace(self._folder / "..data")

    def settings(self) -> dict[str, Any]:
        return {"secrets_dir": self._folder}


@pytest.mark.requirement("R1.5")
@pytest.mark.parametrize("mount", [PlainFile, Renamed, Kubernetes])
def test_a_changed_secret_restarts_the_worker_in_place_and_loses_nothing(
    engine: Engine, tmp_path: Path, mount: Callable[[Path, str], PlainFile | Kubernetes]
) -> None:
    """Under load: same process, drained, the new token instead of the old one, every record done once."""
    engine.make_effect_table()
    engine.enqueue(({"n": number, "ms": 3} for number in range(1500)), chunk_size=100)
    secret = mount(tmp_path, "first-token-of-the-intake")
    worker = engine.start(
        "EFFECTS", reload_interval=0.2, claim_records=100, health_port=free_port(), **secret.settings()
    )
    until(lambda: engine.done() > 50, 20, "some to be done", engine.describe)
    pid = worker.process.pid
    assert _accepts(worker, "first-token-of-the-intake")
    for life, token in enumerate(("second-token-of-the-intake", "third-token-of-the-intake"), start=2):
        secret.set(token)
        until(lambda: _lives(worker) == life, 20, "the next life", worker.process.log_text)  # noqa: B023 - called here
        until(lambda: _accepts(worker, token), 20, "the new token", worker.process.log_text)  # noqa: B023
    assert not _accepts(worker, "first-token-of-the-intake")
    assert engine.settle(40)["done"] >= 1500
    assert set(engine.effects().values()) == {1}
    assert (worker.process.running, worker.process.pid) == (True, pid)
    assert "third-token-of-the-intake" not in worker.process.log_text()
    worker.process.terminate()
    assert worker.process.wait(20) == 0


@pytest.mark.requirement("R1.5", "R1.3")
def test_an_invalid_change_is_refused_and_the_old_settings_stay(engine: Engine, tmp_path: Path) -> None:
    """Named in the log, once; work goes on in the same life; a valid change after it is taken."""
    tries = tmp_path / "tries"
    tries.write_text("3")
    worker = engine.start(reload_interval=0.1, max_tries_file=tries)
    worker.wait_started()
    tries.write_text("many")
    worker.process.wait_for_log("the changed configuration is refused, the old one stays", 20)
    assert "CONTAINER_MAX_TRIES" in worker.process.log_text()
    engine.enqueue([{"n": 1}])
    assert engine.settle() == {"done": 1}
    assert (_lives(worker), worker.process.log_text().count("config.refused")) == (1, 1)
    tries.write_text("4")
    until(lambda: _lives(worker) == 2, 20, "the next life", worker.process.log_text)
    worker.process.terminate()
    assert worker.process.wait(20) == 0


@pytest.mark.requirement("R1.5", "R1.3")
def test_settings_that_only_the_start_refuses_give_way_to_the_old_ones(engine: Engine, tmp_path: Path) -> None:
    """The new life cannot begin: the old settings live again, nobody is told that the worker ends, and it works."""
    mood = tmp_path / "mood"
    mood.write_text("good")
    worker = engine.start("PICKY", reload_interval=0.1, mood_file=mood)
    worker.wait_started()
    mood.write_text("bad")
    until(lambda: _lives(worker) == 2, 20, "the old settings to live again", worker.process.log_text)
    log = worker.process.log_text()
    assert "CONTAINER_MOOD  is bad" in log
    assert "changed settings are refused, the ones before stay" in log
    assert "ends with exit code" not in log
    engine.enqueue([{"n": 1}])
    assert engine.settle() == {"done": 1}
    mood.write_text("splendid")
    until(lambda: _lives(worker) == 3, 20, "the newest settings", worker.process.log_text)
    worker.process.terminate()
    assert worker.process.wait(20) == 0


@pytest.mark.requirement("R1.5")
def test_a_touched_or_restored_file_changes_nothing(engine: Engine, tmp_path: Path) -> None:
    """What counts is what is in it."""
    tries = tmp_path / "tries"
    tries.write_text("3")
    worker = engine.start(reload_interval=0.1, max_tries_file=tries)
    worker.wait_started()
    tries.write_text("no number")
    worker.process.wait_for_log("config.refused", 20)
    tries.write_text("3\n")  # the same value: the newline is not part of it, but the file is another one
    until(lambda: _lives(worker) == 2, 20, "the next life", worker.process.log_text)
    tries.touch()
    engine.enqueue([{"n": number} for number in range(200)])
    assert engine.settle() == {"done": 200}
    assert _lives(worker) == 2


@pytest.mark.requirement("R1.5", "R5.5")
def test_sigterm_during_a_reload_ends_the_process(engine: Engine, tmp_path: Path) -> None:
    """The drain for the reload is under way: the process ends after it, and no further life begins."""
    tries = tmp_path / "tries"
    tries.write_text("3")
    engine.enqueue([{"n": 0, "ms": 1500}])
    worker = engine.start(reload_interval=0.1, max_tries_file=tries)
    until(lambda: engine.seen(), 20, "the handler to run", worker.process.log_text)
    tries.write_text("4")
    worker.process.wait_for_log("config.changed", 20)
    worker.process.terminate()
    assert worker.process.wait(20) == 0
    assert _lives(worker) == 1
    assert engine.places() == {"done": 1}


@pytest.mark.requirement("R5.5")
def test_a_worker_ends_when_nothing_is_left_if_it_is_asked_to(engine: Engine) -> None:
    """`--until-empty`: retries that wait are waited for; then exit code 0."""
    engine.enqueue([{"n": number, "do": "once" if number % 7 == 0 else None} for number in range(100)])
    worker = engine.run_command("ACT", "--until-empty")
    assert worker.process.wait(40) == 0
    assert engine.places() == {"done": 100}
    assert "nothing left to do" in worker.process.log_text()
