"""What the workspace's tools raise when a person has to do something."""

from __future__ import annotations


class ToolError(Exception):
    """The message says what is wrong and what to do; tasks print it and exit 1."""
