"""Settings of rpa3; the address is checked here, before any record is claimed."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Rpa3Settings(BaseSettings):
    """Variables `CONTAINER_DELIVERY_...`."""

    model_config = SettingsConfigDict(env_prefix="CONTAINER_", extra="ignore")

    delivery_allow_http: bool = Field(default=False, description="Allow http to other machines: nothing is encrypted")
    delivery_url: SecretStr = Field(
        description="Where each scored response is POSTed; https, or http to this machine. Its path may be a credential"
    )
    delivery_token: SecretStr | None = Field(default=None, description="Bearer token for the receiver")
    delivery_proxy_url: SecretStr | None = Field(
        default=None, description="Proxy for deliveries, http://host:port; HTTP_PROXY and the like are not read"
    )
    delivery_timeout_s: float = Field(default=10.0, gt=0, le=300, description="Seconds for one request in all")
    delivery_concurrency: int = Field(default=16, ge=1, le=64, description="Requests under way at once")

    @field_validator("delivery_url")
    @classmethod
    def _address(cls, url: SecretStr, info: ValidationInfo) -> SecretStr:
        problem = _problem(url.get_secret_value(), allow_http=bool(info.data.get("delivery_allow_http")))
        if problem:
            raise ValueError(problem)
        return url

    @field_validator("delivery_proxy_url")
    @classmethod
    def _proxy(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            try:
                parts = urlsplit(url.get_secret_value())
                sound = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
            except ValueError:
                sound = False
            if not sound:
                raise ValueError("not a proxy's address; write http://host:port or http://user:password@host:port")
        return url


def _problem(url: str, *, allow_http: bool) -> str | None:
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
    except ValueError as error:
        return f"not a URL ({error}); write https://HOST/PATH"
    if parts.scheme not in ("http", "https") or not host:
        return "not a web address; write https://HOST/PATH"
    if parts.username is not None or parts.password is not None:
        return "carries a user or password, which would show in logs; use CONTAINER_DELIVERY_TOKEN_FILE"
    if parts.scheme == "http" and not allow_http and not _is_loopback(host):
        return "http is not encrypted; use https, or accept it with CONTAINER_DELIVERY_ALLOW_HTTP=true"
    return None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
