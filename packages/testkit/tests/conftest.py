"""Runs pytest within pytest, to test the plugin."""

from __future__ import annotations

pytest_plugins = ["pytester"]
