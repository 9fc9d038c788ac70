"""Watches the real Alertmanager: an alert that has ended is forgotten there, so that one has to look all the time."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Mapping
from typing import Any

from rpa_testkit.history.entries import Kind
from rpa_testkit.history.writer import HistoryWriter

EVERY_S = 0.5
_ASK_S = 5.0


class AlertWatch:
    """Runs in a thread of its own until `stop`, and writes down what begins and what ends."""

    def __init__(self, base_url: str, history: HistoryWriter) -> None:
        self._url = f"{base_url}/api/v2/alerts"
        self._history = history
        self._open: dict[str, Mapping[str, Any]] = {}
        self._looks = self._failed = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="alerts", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look once more, and write down what is open."""
        self._stop.set()
        self._thread.join()
        read = self._look()
        value = {"looks": self._looks, "failed": self._failed, "read": read, "open": sorted(self._open)}
        self._history.add("observer", Kind.OBSERVE, "alerts", None, value)

    def _run(self) -> None:
        while not self._stop.wait(EVERY_S):
            self._look()

    def _look(self) -> bool:
        self._looks += 1
        try:
            with urllib.request.urlopen(self._url, timeout=_ASK_S) as answer:  # noqa: S310 - a loopback URL of ours
                there = {alert["fingerprint"]: alert for alert in json.load(answer)}
        except (OSError, ValueError, KeyError, TypeError):
            self._failed += 1
            return False
        for key in there.keys() - self._open.keys():
            labels = there[key]["labels"]
            value = {"name": labels.get("alertname"), "labels": labels, "ends_at": there[key].get("endsAt")}
            self._history.add("observer", Kind.OBSERVE, "alert", key, value)
        for key in self._open.keys() - there.keys():
            self._history.add(
                "observer", Kind.OBSERVE, "alert-over", key, {"name": self._open[key]["labels"].get("alertname")}
            )
        self._open = there
        return True
