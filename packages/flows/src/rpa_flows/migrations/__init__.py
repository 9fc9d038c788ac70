"""The schema of survey_hub, as numbered plain SQL files."""

from __future__ import annotations


def migrate_survey_hub(dsn: str) -> list[str]:
    """Bring survey_hub up to date; returns the names of what was applied. Safe to run at any time."""
    from rpa_core.store.migrate import migrate_package

    return migrate_package(dsn, package="rpa_flows.migrations", namespace="rpa_flows")
