"""The version, in one place the import of which costs nothing."""

from __future__ import annotations

VERSION = "0.1.0"
