"""The one setting that every flow with a codebook has."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class CodebookSettings(BaseSettings):
    """Variables `CONTAINER_...` of a flow that reads a codebook."""

    model_config = SettingsConfigDict(env_prefix="CONTAINER_", extra="ignore")

    codebook: str = Field(
        default="anes96", min_length=1, description="Codebook of the survey: the path of a TOML file, or a shipped name"
    )
