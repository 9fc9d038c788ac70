"""Settings of rpa1."""

from __future__ import annotations

from rpa_flows.codebook.settings import CodebookSettings


class Rpa1Settings(CodebookSettings):
    """Only the codebook; the database is `CONTAINER_DATABASE_SURVEY_HUB_URL`."""
