"""Settings of rpa2."""

from __future__ import annotations

from rpa_flows.codebook.settings import CodebookSettings


class Rpa2Settings(CodebookSettings):
    """Only the codebook: the same one rpa1 validates by."""
